//! Columns of lists, chosen by letters as the peers' clients have it.

use anyhow::{Result, bail};
use serde_json::Value;

type Content = Box<dyn Fn(&Value) -> String>;

/// One column: its heading, and what it shows of an object.
pub(crate) struct Column {
    letter: char,
    /// The heading, in capitals.
    pub(crate) heading: String,
    content: Content,
    maximum: Option<usize>,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Column").field("heading", &self.heading).finish_non_exhaustive()
    }
}

impl Column {
    /// A column that is chosen by `letter`.
    pub(crate) fn new(letter: char, heading: &str, content: impl Fn(&Value) -> String + 'static) -> Self {
        Self { letter, heading: heading.to_owned(), content: Box::new(content), maximum: None }
    }

    /// What it shows of an object.
    pub(crate) fn cell(&self, item: &Value) -> String {
        let cell = (self.content)(item);
        match self.maximum {
            Some(maximum) if cell.chars().count() > maximum => cell.chars().take(maximum).collect(),
            _ => cell,
        }
    }
}

/// The columns whose letters are in `chosen`, in that order.
pub(crate) fn choose(known: Vec<Column>, chosen: &str) -> Result<Vec<Column>> {
    let mut known: Vec<Option<Column>> = known.into_iter().map(Some).collect();
    let mut columns = Vec::new();
    for letter in chosen.chars().filter(|letter| *letter != ',' && !letter.is_whitespace()) {
        columns.push(take(&mut known, letter)?);
    }
    if columns.is_empty() {
        bail!("no column was chosen: give letters to --columns");
    }
    Ok(columns)
}

/// The same, and between commas also `[config:|devices:]key[:HEADING[:WIDTH]]`.
pub(crate) fn choose_extended(known: Vec<Column>, chosen: &str) -> Result<Vec<Column>> {
    let mut known: Vec<Option<Column>> = known.into_iter().map(Some).collect();
    let mut columns = Vec::new();
    for part in chosen.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if part.contains(['.', ':']) {
            columns.push(custom(part)?);
            continue;
        }
        for letter in part.chars() {
            columns.push(take(&mut known, letter)?);
        }
    }
    if columns.is_empty() {
        bail!("no column was chosen: give letters or keys to --columns");
    }
    Ok(columns)
}

fn take(known: &mut [Option<Column>], letter: char) -> Result<Column> {
    let wanted = |column: &&mut Option<Column>| column.as_ref().is_some_and(|column| column.letter == letter);
    let letters: String = known.iter().flatten().map(|column| column.letter).collect();
    match known.iter_mut().find(wanted).and_then(Option::take) {
        Some(column) => Ok(column),
        None => bail!("there is no further column {letter:?}: choose each once, out of {letters:?}"),
    }
}

fn custom(text: &str) -> Result<Column> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind @ ("config" | "devices"), rest)) => (kind, rest),
        _ => ("config", text),
    };
    let mut parts = rest.split(':');
    let key = parts.next().unwrap_or_default().to_owned();
    let heading = parts.next().filter(|heading| !heading.is_empty()).unwrap_or(&key).to_uppercase();
    let maximum = match parts.next() {
        None | Some("-1" | "") => None,
        Some("0") => Some(heading.chars().count()),
        Some(number) => match number.parse() {
            Ok(number) => Some(number),
            Err(_) => bail!("{number:?} is not a column width"),
        },
    };
    if key.is_empty() || parts.next().is_some() {
        bail!("{text:?} is not a column: write [config:|devices:]key[:HEADING[:WIDTH]]");
    }
    let content: Content = if kind == "config" {
        Box::new(move |item| {
            let value = |field: &str| item[field][&key].as_str().map(str::to_owned);
            value("expanded_config").or_else(|| value("config")).unwrap_or_default()
        })
    } else {
        let Some((device, key)) =
            key.split_once('.').map(|(device, key)| (device.to_owned(), key.to_owned()))
        else {
            bail!("{text:?} is not a column: a device column is devices:DEVICE.KEY");
        };
        Box::new(move |item| {
            let value = |field: &str| item[field][&device][&key].as_str().map(str::to_owned);
            value("expanded_devices").or_else(|| value("devices")).unwrap_or_default()
        })
    };
    Ok(Column { letter: '\0', heading, content, maximum })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known() -> Vec<Column> {
        vec![
            Column::new('n', "NAME", |item| item["name"].as_str().unwrap_or_default().to_owned()),
            Column::new('s', "STATE", |item| item["status"].as_str().unwrap_or_default().to_owned()),
        ]
    }

    #[test]
    fn letters_choose_and_order_the_columns() {
        let columns = choose(known(), "s,n").unwrap();
        assert_eq!(
            columns.iter().map(|column| column.heading.as_str()).collect::<Vec<_>>(),
            ["STATE", "NAME"]
        );
        for bad in ["", "x", "nn"] {
            assert!(choose(known(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_of_config_and_devices_are_columns_too() {
        let item = json!({
            "name": "c1",
            "expanded_config": {"image.os": "busybox"},
            "devices": {"root": {"pool": "fast"}},
        });
        let columns = choose_extended(known(), "n,image.os:OS:4,devices:root.pool:POOL").unwrap();
        let cells: Vec<_> = columns.iter().map(|column| column.cell(&item)).collect();
        assert_eq!(cells, ["c1", "busy", "fast"]);
        assert_eq!(columns[1].heading, "OS");
        assert!(choose_extended(known(), "image.os:OS:wide").is_err());
    }
}
