//! Tables in the look of the peers' clients.

use comfy_table::{Cell, Row};
use comfy_table::{CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};

const LINE: LineStyle = LineStyle::new('+', '-', '+', '+');
const BORDERS: ContentLineStyle = ContentLineStyle::new('|', '|', '|');
const LOOK: TableStyle = TableStyle::new()
    .top_border(LINE)
    .header_lines(BORDERS)
    .header_separator(LINE)
    .content_lines(BORDERS)
    .row_separator(LINE)
    .bottom_border(LINE);

/// A table with borders. With a width, long cells are broken into lines to fit it.
pub(super) fn bordered(headings: Vec<String>, rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    // Without rows the line below the headings is the bottom already.
    let look = if rows.is_empty() { LOOK.bottom_border(LineStyle::none()) } else { LOOK };
    table.load_style(look).force_no_tty();
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    let heading = |text| Cell::new_owned(text).set_alignment(CellAlignment::Center);
    table.set_header(Row::from(headings.into_iter().map(heading).collect::<Vec<_>>()));
    for row in rows {
        table.add_row(Row::from(row));
    }
    format!("{}\n", table.to_string().trim_end())
}

/// Columns two spaces apart, no borders.
pub(super) fn compact(headings: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(headings).chain(rows.iter().map(Vec::as_slice));
    let one_line = |cell: &str| cell.split('\n').collect::<Vec<_>>().join(" ");
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|cell| one_line(cell).chars().count()).max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("  {:width$}", one_line(cell)));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}
