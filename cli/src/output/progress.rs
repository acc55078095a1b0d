//! Progress, on standard error and only when that is a terminal.

use crate::terminal;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::time::Duration;

/// One line of progress that vanishes at the end.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A line that says what is being done; `quiet` or without a terminal it is not there.
    pub(crate) fn doing(what: &str, quiet: bool) -> Self {
        let bar = if quiet || !terminal::stderr_is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        Self { bar }
    }

    /// Whether somebody can see it.
    pub(crate) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Says how far it is, in words.
    pub(crate) fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        self.bar.tick();
    }

    /// Turns into a bar over a number of bytes.
    pub(crate) fn measure(&self, total_bytes: u64) {
        let template = "{prefix}: {bytes} of {total_bytes} ({binary_bytes_per_sec}) [{bar:30}] {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_length(total_bytes);
    }

    /// Turns into a count of bytes whose end isn't known.
    pub(crate) fn count(&self) {
        if let Ok(style) = ProgressStyle::with_template("{prefix}: {bytes} ({binary_bytes_per_sec})") {
            self.bar.set_style(style);
        }
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// How to tell the number of bytes done, from anywhere.
    pub(crate) fn meter(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let bar = self.bar.clone();
        move |done| bar.set_position(done)
    }

    /// Writes a line that stays, above the progress.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| terminal::notice(text));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What the metadata of an operation says about its progress.
pub(crate) fn progress_text(metadata: &Value) -> Option<String> {
    let object = metadata.as_object()?;
    let said = object.iter().find_map(|(key, value)| {
        let text = value.as_str()?;
        (key.ends_with("_progress") && !text.is_empty()).then(|| text.to_owned())
    });
    said.or_else(|| structured(object.get("progress")?))
}

fn structured(progress: &Value) -> Option<String> {
    let part = |name: &str| match &progress[name] {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let number = |name: &str| part(name)?.parse::<u64>().ok().filter(|number| *number > 0);
    let mut text = part("stage").unwrap_or_default().replace('_', " ");
    if let Some(percent) = number("percent") {
        text.push_str(&format!(" {percent}%"));
    } else if let Some(processed) = number("processed") {
        text.push_str(&format!(" {}", super::human::bytes(processed)));
    }
    if let Some(speed) = number("speed") {
        text.push_str(&format!(" ({}/s)", super::human::bytes(speed)));
    }
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_is_read_in_both_of_its_forms() {
        let text = |metadata: Value| progress_text(&metadata);
        assert_eq!(
            text(json!({"download_progress": "rootfs: 10% (5.00MB/s)"})).unwrap(),
            "rootfs: 10% (5.00MB/s)"
        );
        assert_eq!(text(json!({"fs_progress": "c1: 1.2GB"})).unwrap(), "c1: 1.2GB");
        let nested =
            json!({"progress": {"stage": "create_image_unpack", "percent": "40", "speed": "1048576"}});
        assert_eq!(text(nested).unwrap(), "create image unpack 40% (1.00MiB/s)");
        let counted = json!({"progress": {"stage": "download", "processed": 2048}});
        assert_eq!(text(counted).unwrap(), "download 2.00KiB");
        assert_eq!(text(json!({"download_progress": ""})), None);
        assert_eq!(text(json!(null)), None);
    }
}
