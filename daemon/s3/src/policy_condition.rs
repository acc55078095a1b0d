//! The conditions of bucket policies.

use crate::policy::{PolicyError, has_no_variable, refuse, strings};
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;

/// How long what has a `?` may be between two `*` (bytes).
const MAX_PIECE: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Condition {
    operator: Operator,
    /// Whether the condition holds when the key is absent.
    pub(crate) if_exists: bool,
    set: Set,
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    One,
    All,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    NotEquals,
    EqualsIgnoreCase,
    NotEqualsIgnoreCase,
    Like,
    NotLike,
    IpAddress,
    NotIpAddress,
    Bool,
    Number(std::cmp::Ordering, bool),
    NumberEquals,
    NumberNotEquals,
    Null,
}

pub(crate) fn conditions(value: Option<&Value>) -> Result<Vec<Condition>, PolicyError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let map = value.as_object().ok_or_else(|| PolicyError("Condition is a JSON object".to_owned()))?;
    let mut conditions = Vec::new();
    for (operator, keys) in map {
        let keys = keys.as_object().ok_or_else(|| PolicyError(format!("{operator} is a JSON object")))?;
        let (set, rest) = match operator.split_once(':') {
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(_) => return refuse(format!("{operator} is not supported")),
            None => (Set::One, operator.as_str()),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let operator = Operator::parse(name)?;
        for (key, values) in keys {
            let values = strings(values, key)?;
            let key = known_key(key)?;
            values.iter().try_for_each(|value| operator.check(value))?;
            conditions.push(Condition { operator, if_exists, set, key, values });
        }
    }
    Ok(conditions)
}

/// Keys that are understood; the name of a tag keeps its case.
fn known_key(key: &str) -> Result<String, PolicyError> {
    const KNOWN: &[&str] = &[
        "aws:sourceip",
        "aws:securetransport",
        "aws:referer",
        "aws:useragent",
        "s3:prefix",
        "s3:delimiter",
        "s3:max-keys",
        "s3:versionid",
        "s3:x-amz-acl",
        "s3:x-amz-copy-source",
        "s3:x-amz-metadata-directive",
        "s3:x-amz-server-side-encryption",
        "s3:x-amz-content-sha256",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-storage-class",
        "s3:x-amz-grant-read",
        "s3:x-amz-server-side-encryption-customer-algorithm",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write-acp",
        "s3:x-amz-grant-full-control",
        "s3:requestobjecttagkeys",
        "s3:object-lock-mode",
        "s3:object-lock-retain-until-date",
        "s3:object-lock-legal-hold",
        "s3:if-match",
        "s3:if-none-match",
    ];
    let lower = key.to_ascii_lowercase();
    for tags in ["s3:existingobjecttag/", "s3:requestobjecttag/"] {
        if lower.starts_with(tags) {
            return Ok(format!("{tags}{}", &key[tags.len()..]));
        }
    }
    match KNOWN.contains(&lower.as_str()) {
        true => Ok(lower),
        false => refuse(format!("the condition key {key} is not supported")),
    }
}

impl Operator {
    fn parse(name: &str) -> Result<Self, PolicyError> {
        use std::cmp::Ordering::{Greater, Less};
        Ok(match name {
            "StringEquals" | "ArnEquals" | "DateEquals" => Self::Equals,
            "StringNotEquals" | "ArnNotEquals" | "DateNotEquals" => Self::NotEquals,
            "StringEqualsIgnoreCase" => Self::EqualsIgnoreCase,
            "StringNotEqualsIgnoreCase" => Self::NotEqualsIgnoreCase,
            "StringLike" | "ArnLike" => Self::Like,
            "StringNotLike" | "ArnNotLike" => Self::NotLike,
            "IpAddress" => Self::IpAddress,
            "NotIpAddress" => Self::NotIpAddress,
            "Bool" => Self::Bool,
            "Null" => Self::Null,
            "NumericEquals" => Self::NumberEquals,
            "NumericNotEquals" => Self::NumberNotEquals,
            "NumericLessThan" => Self::Number(Less, false),
            "NumericLessThanEquals" => Self::Number(Less, true),
            "NumericGreaterThan" => Self::Number(Greater, false),
            "NumericGreaterThanEquals" => Self::Number(Greater, true),
            other => return refuse(format!("the condition operator {other} is not supported")),
        })
    }

    /// Refuses a value that can't be compared, and so would hold never or always.
    fn check(self, value: &str) -> Result<(), PolicyError> {
        let (is_one, what) = match self {
            Self::IpAddress | Self::NotIpAddress => {
                (is_network(value), "an address or a network, such as 192.0.2.0/24")
            }
            Self::NumberEquals | Self::NumberNotEquals | Self::Number(..) => {
                (value.trim().parse::<f64>().is_ok(), "a number")
            }
            Self::Bool | Self::Null => {
                (["true", "false"].contains(&value.to_ascii_lowercase().as_str()), "true or false")
            }
            _ => (true, ""),
        };
        match is_one {
            true => has_no_variable(value).and_then(|()| check_pattern(value)),
            false => refuse(format!("{value} is not {what}")),
        }
    }

    fn is_negative(self) -> bool {
        matches!(
            self,
            Self::NotEquals
                | Self::NotEqualsIgnoreCase
                | Self::NotLike
                | Self::NotIpAddress
                | Self::NumberNotEquals
        )
    }

    /// The comparison without its negation.
    fn matches(self, known: &str, value: &str) -> bool {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        match self {
            Self::Equals | Self::NotEquals => known == value,
            Self::EqualsIgnoreCase | Self::NotEqualsIgnoreCase | Self::Bool => {
                known.eq_ignore_ascii_case(value)
            }
            Self::Like | Self::NotLike => matches_pattern(known, value),
            Self::IpAddress | Self::NotIpAddress => is_in_network(known, value),
            Self::NumberEquals | Self::NumberNotEquals => number(known) == number(value),
            Self::Number(order, or_equal) => match (number(value), number(known)) {
                (Some(value), Some(known)) => {
                    value.partial_cmp(&known) == Some(order) || (or_equal && value == known)
                }
                _ => false,
            },
            Self::Null => false,
        }
    }
}

impl Condition {
    /// Whether it lets in only some that it names, or that ask from networks of its own.
    pub(crate) fn narrows(&self) -> bool {
        let is_narrow = |value: &String| match self.operator {
            Operator::Equals | Operator::EqualsIgnoreCase => true,
            Operator::Like => !value.contains(['*', '?']),
            Operator::IpAddress => is_small_network(value),
            _ => false,
        };
        self.key == "aws:sourceip"
            && !self.if_exists
            && self.set != Set::All
            && self.values.iter().all(is_narrow)
    }

    pub(crate) fn holds(&self, values: &HashMap<String, Vec<String>>) -> bool {
        let found = values.get(&self.key).filter(|found| !found.is_empty());
        if self.operator == Operator::Null {
            let wants_absent = self.values.iter().any(|value| value.eq_ignore_ascii_case("true"));
            return found.is_none() == wants_absent;
        }
        let Some(found) = found else {
            return self.if_exists || self.operator.is_negative() || self.set == Set::All;
        };
        let holds = |value: &String| {
            let matches = self.values.iter().any(|known| self.operator.matches(known, value));
            matches != self.operator.is_negative()
        };
        match self.set {
            Set::All => found.iter().all(holds),
            Set::One | Set::Any => found.iter().any(holds),
        }
    }
}

/// `*` stands for any run of characters, `?` for one. What stands between two stars is looked for once; with a `?` it is tried at every
/// place, which is why it is short ([`check_pattern`]).
pub(crate) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = after_beginning(pieces.next().unwrap_or_default(), text) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match after_first(piece, rest) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    let length = last.chars().count();
    let start = rest.char_indices().rev().nth(length.saturating_sub(1)).map(|(start, _)| start);
    length == 0 || start.is_some_and(|start| after_beginning(last, &rest[start..]) == Some(""))
}

/// What follows a piece without stars, which the text begins with.
fn after_beginning<'t>(piece: &str, text: &'t str) -> Option<&'t str> {
    let mut rest = text.chars();
    let is_there =
        piece.chars().all(|wanted| rest.next().is_some_and(|found| wanted == '?' || wanted == found));
    is_there.then_some(rest.as_str())
}

/// What follows a piece without stars where it is first in the text.
fn after_first<'t>(piece: &str, text: &'t str) -> Option<&'t str> {
    if !piece.contains('?') {
        return text.find(piece).map(|at| &text[at + piece.len()..]);
    }
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.into_iter().find_map(|start| after_beginning(piece, &text[start..]))
}

/// Refuses a pattern that takes long to look for: what has a `?` is tried at every place.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), PolicyError> {
    let is_long = |piece: &str| piece.contains('?') && piece.len() > MAX_PIECE;
    match pattern.split('*').any(is_long) {
        true => refuse(format!("between two * there are at most {MAX_PIECE} bytes with a ?: {pattern}")),
        false => Ok(()),
    }
}

/// Whether this is an address, or a network of them.
fn is_network(network: &str) -> bool {
    let (address, bits) = network.split_once('/').unwrap_or((network, "0"));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let is_number = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    is_number && bits.parse::<u32>().is_ok_and(|bits| bits <= width)
}

/// Whether a network is not of whole parts of the world, as AWS sees it.
fn is_small_network(network: &str) -> bool {
    let (address, bits) = network.split_once('/').unwrap_or((network, ""));
    let bits = if bits.is_empty() { Ok(u32::MAX) } else { bits.parse::<u32>() };
    let least = if address.contains(':') { 32 } else { 8 };
    bits.is_ok_and(|bits| bits >= least)
}

pub(crate) fn is_in_network(network: &str, address: &str) -> bool {
    let (network, bits) =
        network.split_once('/').map_or((network, None), |(net, bits)| (net, bits.parse::<u32>().ok()));
    let bits_of = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    match (network.parse::<IpAddr>(), address.parse::<IpAddr>()) {
        (Ok(network), Ok(address)) if network.is_ipv4() == address.is_ipv4() => {
            let ((network, width), (address, _)) = (bits_of(network), bits_of(address));
            let bits = bits.unwrap_or(width).min(width);
            bits == 0 || (network ^ address) >> (128 - bits) == 0
        }
        _ => false,
    }
}
