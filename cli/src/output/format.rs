//! The formats of lists.

use super::{Column, table, yaml};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// A table with borders, as wide as the terminal at most.
    #[default]
    Table,
    /// A table without borders.
    Compact,
    /// Comma-separated values without a heading.
    Csv,
    /// The whole objects as JSON.
    Json,
    /// The whole objects as YAML.
    Yaml,
}

/// The text of a list. `width` is the terminal's, when there is one.
pub(super) fn render(
    format: Format,
    columns: &[Column],
    items: &[Value],
    width: Option<u16>,
) -> Result<String> {
    let headings = || columns.iter().map(|column| column.heading.clone()).collect::<Vec<_>>();
    let rows = || items.iter().map(|item| columns.iter().map(|column| column.cell(item)).collect()).collect();
    match format {
        Format::Table => Ok(table::bordered(headings(), rows(), width)),
        Format::Compact => Ok(table::compact(&headings(), &rows())),
        Format::Csv => Ok(csv(&rows())),
        Format::Json => {
            let json = serde_json::to_string(items).context("can't write the list as JSON")?;
            Ok(format!("{json}\n"))
        }
        Format::Yaml => yaml::write(&Value::Array(items.to_vec())),
    }
}

fn csv(rows: &[Vec<String>]) -> String {
    let field = |text: &String| {
        let special = text.contains([',', '"', '\n', '\r']) || text.starts_with(' ');
        if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
    };
    rows.iter().map(|row| format!("{}\n", row.iter().map(field).collect::<Vec<_>>().join(","))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pools(format: Format, width: Option<u16>) -> String {
        let column = |letter, heading: &str, field: &'static str| {
            Column::new(letter, heading, move |item: &Value| {
                item[field].as_str().unwrap_or_default().to_owned()
            })
        };
        let columns = [
            column('n', "NAME", "name"),
            column('d', "DRIVER", "driver"),
            column('D', "DESCRIPTION", "text"),
        ];
        let items = [
            json!({"name": "fast", "driver": "zfs", "text": "the quick one, with \"quotes\" and more words than fit"}),
            json!({"name": "big", "driver": "dir", "text": "two\nlines"}),
        ];
        render(format, &columns, &items, width).unwrap()
    }

    #[test]
    fn a_table_has_a_line_between_all_rows() {
        insta::assert_snapshot!(pools(Format::Table, None));
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let table = pools(Format::Table, Some(40));
        assert!(table.lines().all(|line| line.chars().count() <= 40), "{table}");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn compact_csv_json_and_yaml() {
        let all: Vec<String> = [Format::Compact, Format::Csv, Format::Json, Format::Yaml]
            .into_iter()
            .map(|format| format!("{format:?}\n{}", pools(format, None)))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn an_empty_list_is_still_a_list() {
        assert_eq!(render(Format::Json, &[], &[], None).unwrap(), "[]\n");
        assert_eq!(render(Format::Csv, &[], &[], None).unwrap(), "");
        let column = [Column::new('n', "NAME", |_: &Value| String::new())];
        let table = render(Format::Table, &column, &[], None).unwrap();
        assert_eq!(table, "+------+\n| NAME |\n+------+\n");
    }
}
