//! YAML, out and in.

use anyhow::{Context, Result};
use serde_json::Value;

/// An object or list as YAML. Texts are quoted where YAML would read something else; long ones are not folded,
/// for they are to be edited.
pub(crate) fn write(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1_000_000 };
    let mut text =
        serde_saphyr::to_string_with_options(value, options).context("can't write the object as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// The value in a YAML text.
pub(crate) fn read(text: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        let value = json!({
            "config": {"limits.cpu": "2", "on": "true", "off": "no", "empty": "", "tilde": "~", "null": "null",
                       "version": "1.35", "octal": "0o644", "date": "2026-01-01", "colon": "a: b", "hash": "a #b",
                       "user.user-data": "#cloud-config\npackages:\n  - x\n", "no-end": "a\n\nb", "lead": "  x\ny",
                       "long": "word ".repeat(50), "dash": "- x", "star": "*x", "percent": "%x", "tab": "a\tb"},
            "devices": {}, "profiles": ["default"], "list": [], "flag": true, "number": 5, "nothing": null,
            "nested": [{"a": 1, "b": [1, 2]}, {"a": 2}],
        });
        let text = write(&value).unwrap();
        assert_eq!(read(&text).unwrap(), value, "{text}");
        insta::assert_snapshot!(text);
    }
}
