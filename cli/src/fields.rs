//! Reading and changing JSON objects the way the API means them.
//!
//! The client shows and edits objects of servers that may be newer than itself, so it keeps them as JSON:
//! a field it doesn't know survives an edit.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// Reading fields that may be missing or null.
pub(crate) trait Fields {
    /// A text; empty when missing.
    fn text(&self, name: &str) -> &str;
    /// A list; empty when missing.
    fn items(&self, name: &str) -> &[Value];
    /// How many entries a list has.
    fn count(&self, name: &str) -> usize {
        self.items(name).len()
    }
    /// The names and texts of an object, in order.
    fn entries(&self, name: &str) -> Vec<(&str, &str)>;
    /// The value of one configuration key; empty when missing.
    fn config(&self, key: &str) -> &str;
    /// Whether a field is true.
    fn is(&self, name: &str) -> bool;
    /// A number; 0 when missing or negative.
    fn number(&self, name: &str) -> u64;
}

impl Fields for Value {
    fn text(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_default()
    }

    fn items(&self, name: &str) -> &[Value] {
        self[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn entries(&self, name: &str) -> Vec<(&str, &str)> {
        let object = self[name].as_object();
        object
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
            .collect()
    }

    fn config(&self, key: &str) -> &str {
        self["config"][key].as_str().unwrap_or_default()
    }

    fn is(&self, name: &str) -> bool {
        self[name].as_bool().unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self[name].as_u64().unwrap_or_default()
    }
}

/// The object in a field, made when it is missing.
pub(crate) fn object_mut<'a>(value: &'a mut Value, name: &str) -> Result<&'a mut Map<String, Value>> {
    if !value.is_object() {
        bail!("expected an object");
    }
    let field = &mut value[name];
    if field.is_null() {
        *field = Value::Object(Map::new());
    }
    match field {
        Value::Object(object) => Ok(object),
        _ => bail!("{name:?} is not an object"),
    }
}

/// Splits `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("{text:?} is not of the form key=value"),
    }
}

/// Splits many `key=value`.
pub(crate) fn pairs(texts: &[String]) -> Result<Vec<(String, String)>> {
    texts.iter().map(|text| pair(text)).collect()
}

/// What `set` got: `key=value...`, or the older `key value`.
pub(crate) fn settings(texts: &[String]) -> Result<Vec<(String, String)>> {
    Ok(match texts {
        [] => bail!("no key to set: give key=value"),
        [key, value] if !key.contains('=') => vec![(key.clone(), value.clone())],
        _ => pairs(texts)?,
    })
}

/// A JSON object of texts.
pub(crate) fn texts(pairs: impl IntoIterator<Item = (String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect())
}

/// Configuration values are texts on the wire; in YAML people write `2` and `true`.
pub(crate) fn settle_config(value: &mut Value) {
    for field in ["config", "properties"] {
        if let Some(object) = value.get_mut(field).and_then(Value::as_object_mut) {
            object.values_mut().for_each(settle);
        }
    }
    if let Some(devices) = value.get_mut("devices").and_then(Value::as_object_mut) {
        for device in devices.values_mut().filter_map(Value::as_object_mut) {
            device.values_mut().for_each(settle);
        }
    }
}

fn settle(value: &mut Value) {
    match value {
        Value::Bool(_) | Value::Number(_) => *value = Value::String(value.to_string()),
        Value::Null => *value = Value::String(String::new()),
        _ => {}
    }
}

/// The fields of an object a PUT takes; the rest is the server's.
pub(crate) fn writable(value: &Value, fields: &[&str]) -> Value {
    let present = fields.iter().filter_map(|field| Some(((*field).to_owned(), value.get(*field)?.clone())));
    Value::Object(present.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn set_takes_pairs_and_the_older_two_words() {
        let set = |texts: &[&str]| settings(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(set(&["size", "10GiB"]).unwrap(), [("size".to_owned(), "10GiB".to_owned())]);
        assert_eq!(set(&["a=1", "b=x=y"]).unwrap()[1], ("b".to_owned(), "x=y".to_owned()));
        for bad in [&[][..], &["size"], &["=x"], &["a=1", "b"]] {
            assert!(set(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_and_booleans_in_config_become_texts() {
        let mut value =
            json!({"config": {"a": 2, "b": true, "c": null}, "devices": {"d": {"size": 5}}, "n": 3});
        settle_config(&mut value);
        let wanted =
            json!({"config": {"a": "2", "b": "true", "c": ""}, "devices": {"d": {"size": "5"}}, "n": 3});
        assert_eq!(value, wanted);
    }
}
