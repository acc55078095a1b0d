//! What people and scripts read. Only here is standard output written.

mod columns;
mod format;
pub(crate) mod human;
mod progress;
mod table;
pub(crate) mod yaml;

pub(crate) use columns::{Column, choose, choose_extended};
pub(crate) use format::Format;
pub(crate) use progress::{Bar, progress_text};

use anyhow::Result;
use serde_json::Value;
use std::io::Write;

/// Writes text as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    bytes(text.as_bytes())
}

/// Writes bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Writes one line.
pub(crate) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Writes an object as YAML.
pub(crate) fn show(value: &Value) -> Result<()> {
    text(&yaml::write(value)?)
}

/// Writes a list: the chosen columns for people and spreadsheets, the whole objects for programs.
pub(crate) fn list(format: Format, columns: &[Column], items: &[Value]) -> Result<()> {
    let width = crate::terminal::size().map(|(columns, _)| columns);
    text(&format::render(format, columns, items, width)?)
}

/// The text of a list where there is no terminal.
#[cfg(test)]
pub(crate) fn rendered(format: Format, columns: &[Column], items: &[Value]) -> Result<String> {
    format::render(format, columns, items, None)
}
