//! The filter language of lists: `[not] field eq|ne value`, joined by `and` and `or`, read from left to right.
//!
//! Fields are dotted JSON names. For texts the value is a case-insensitive regular expression over the whole text, taken
//! literally when it has a comma or does not compile; numbers and booleans are compared as such, lists with a JSON list.
//! (The peers' documented behaviour.)

use crate::service::{Result, ServiceError};
use regex::RegexBuilder;
use serde::Serialize;
use serde_json::Value;

/// How long a filter may be.
const LIMIT: usize = 4096;
const REGEX_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    join: Join,
    negated: bool,
    field: String,
    is_equal: bool,
    value: String,
}

/// Keeps the items that a filter selects; an empty filter selects all.
pub(crate) fn select<T: Serialize>(filter: &str, items: Vec<T>) -> Result<Vec<T>> {
    if filter.trim().is_empty() {
        return Ok(items);
    }
    let clauses = parse(filter)?;
    let mut selected = Vec::new();
    for item in items {
        let value = serde_json::to_value(&item).map_err(|error| ServiceError::internal(error.to_string()))?;
        if matches(&clauses, &value)? {
            selected.push(item);
        }
    }
    Ok(selected)
}

fn refuse(problem: impl std::fmt::Display) -> ServiceError {
    ServiceError::bad(format!(
        "invalid filter: {problem}; write clauses such as: name eq v1 and config.size ne 1GiB"
    ))
}

fn parse(filter: &str) -> Result<Vec<Clause>> {
    if filter.len() > LIMIT {
        return Err(refuse(format_args!("it is longer than {LIMIT} bytes")));
    }
    let words = words(filter)?;
    let mut words = words.into_iter().peekable();
    let mut clauses = Vec::new();
    let mut join = Join::And;
    loop {
        let mut next =
            |what: &str| words.next().ok_or_else(|| refuse(format_args!("{what} is missing at the end")));
        let mut field = next("a field")?;
        let negated = field == "not";
        if negated {
            field = next("a field")?;
        }
        let operator = next("eq or ne")?;
        let is_equal = match operator.as_str() {
            "eq" => true,
            "ne" => false,
            other => return Err(refuse(format_args!("{other:?} is no operator: use eq or ne"))),
        };
        let value = next("a value")?;
        clauses.push(Clause { join, negated, field, is_equal, value });
        join = match words.next().as_deref() {
            None => return Ok(clauses),
            Some("and") => Join::And,
            Some("or") => Join::Or,
            Some(other) => {
                return Err(refuse(format_args!("{other:?} stands where and, or or the end should be")));
            }
        };
    }
}

/// Words parted by blanks. A word that begins with `"` goes to the next one, `\"` being one of its letters; quotes further
/// on, as in a JSON list, hold their blanks and stay.
fn words(filter: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut characters = filter.chars().peekable();
    while let Some(first) = characters.next() {
        if first.is_whitespace() {
            continue;
        }
        let is_whole = first == '"';
        let mut word = if is_whole { String::new() } else { first.to_string() };
        let mut is_quoted = is_whole;
        loop {
            match characters.next() {
                None if is_quoted => return Err(refuse("a quote is not closed")),
                None => break,
                Some('\\') if is_whole && characters.peek() == Some(&'"') => word.extend(characters.next()),
                Some('"') if is_whole => break,
                Some('"') => {
                    is_quoted = !is_quoted;
                    word.push('"');
                }
                Some(blank) if blank.is_whitespace() && !is_quoted => break,
                Some(other) => word.push(other),
            }
        }
        words.push(word);
    }
    Ok(words)
}

fn matches(clauses: &[Clause], item: &Value) -> Result<bool> {
    let mut outcome = true;
    for clause in clauses {
        let holds = (is_equal(item, clause)? == clause.is_equal) != clause.negated;
        outcome = match clause.join {
            Join::And => outcome && holds,
            Join::Or => outcome || holds,
        };
    }
    Ok(outcome)
}

fn is_equal(item: &Value, clause: &Clause) -> Result<bool> {
    let wanted = clause.value.as_str();
    let wrong = |kind: &str| refuse(format_args!("{} is {kind}, which {wanted:?} is not", clause.field));
    match field(item, &clause.field) {
        None | Some(Value::Null) => Ok(wanted.is_empty()),
        Some(Value::Bool(value)) => {
            wanted.parse().map(|wanted: bool| *value == wanted).map_err(|_| wrong("true or false"))
        }
        Some(Value::Number(value)) => {
            let wanted: f64 = wanted.parse().map_err(|_| wrong("a number"))?;
            Ok(value.as_f64().is_some_and(|value| value.total_cmp(&wanted).is_eq()))
        }
        Some(Value::String(value)) => Ok(text_matches(value, wanted)),
        Some(list @ Value::Array(_)) => {
            let wanted: Value = serde_json::from_str(wanted).map_err(|_| wrong("a list"))?;
            Ok(*list == wanted)
        }
        Some(Value::Object(_)) => Err(refuse(format_args!("{} has parts: name one of them", clause.field))),
    }
}

/// Walks a dotted name. Keys of a configuration have dots themselves, so the longest key that fits is taken; the keys of
/// image properties are compared without regard to case.
fn field<'a>(item: &'a Value, name: &str) -> Option<&'a Value> {
    let object = item.as_object()?;
    let exact = object
        .get(name)
        .or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    if exact.is_some() {
        return exact;
    }
    let dots = name.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| at);
    dots.rev().find_map(|at| field(object.get(&name[..at])?, &name[at + 1..]))
}

fn text_matches(value: &str, wanted: &str) -> bool {
    let literally = || value.eq_ignore_ascii_case(wanted);
    if wanted.contains(',') {
        return literally();
    }
    let pattern = if wanted.contains(['^', '$']) { wanted.to_owned() } else { format!("^(?:{wanted})$") };
    match RegexBuilder::new(&pattern).case_insensitive(true).size_limit(REGEX_BYTES).build() {
        Ok(regex) => regex.is_match(value),
        Err(_) => literally(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn selects(filter: &str) -> bool {
        let item = json!({
            "name": "web1", "size": 10, "cached": true, "profiles": ["default"],
            "config": { "user.role": "front", "size": "1GiB" }, "properties": { "OS": "Debian" },
        });
        !select(filter, vec![item]).unwrap().is_empty()
    }

    #[test]
    fn clauses_are_read_from_left_to_right() {
        for yes in [
            "name eq web1",
            "name eq web.*",
            "name eq WEB1",
            "name eq ^we",
            "not name eq db",
            "name ne db",
            "size eq 10",
            "cached eq true",
            "config.user.role eq front",
            "config.size eq \"1GiB\"",
            "properties.os eq debian",
            "profiles eq [\"default\"]",
            "name eq db or name eq web1 and cached eq true",
            "config.none eq \"\"",
        ] {
            assert!(selects(yes), "{yes}");
        }
        for no in
            ["name eq web", "size eq 11", "name eq web1 and cached eq false", "name eq [", "name eq a,b"]
        {
            assert!(!selects(no), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for bad in [
            "name",
            "name is x",
            "name eq",
            "name eq x y",
            "size eq big",
            "config eq x",
            "name eq \"x",
            "and",
        ] {
            let error = select(bad, vec![json!({ "name": "x", "size": 1, "config": {} })]).unwrap_err();
            assert!(error.message.contains("name eq v1"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(filter in "\\PC{0,60}") {
            let _ = select(&filter, vec![json!({ "name": "x" })]);
        }
    }
}
