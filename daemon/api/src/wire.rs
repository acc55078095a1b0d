//! How values go over the wire: `null` and absence are the same, and configuration values are texts.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Configuration: keys with texts.
pub type Config = BTreeMap<String, String>;

/// Devices: names with the keys of each.
pub type Devices = BTreeMap<String, Config>;

/// A free JSON object.
pub type Metadata = Map<String, Value>;

/// What the wire says for "no time": midnight of the first day of the year 1.
pub const ZERO_TIME: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// A time for the wire.
///
/// ```
/// assert_eq!(larder_api::or_zero_time(None).to_string(), "0001-01-01T00:00:00Z");
/// ```
pub fn or_zero_time(time: Option<Timestamp>) -> Timestamp {
    time.unwrap_or(ZERO_TIME)
}

/// A time from the wire; both the year 1 and the first second of 1970 stand for "none".
pub fn given_time(time: Timestamp) -> Option<Timestamp> {
    (time != ZERO_TIME && time != Timestamp::UNIX_EPOCH).then_some(time)
}

/// A value with something to stand in when the sender leaves it out.
pub(crate) trait Wire: Sized {
    /// What an absent or `null` value means.
    fn absent() -> Self;

    /// Reads a value that is there.
    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// What stands in for an absent field.
pub(crate) fn absent<T: Wire>() -> T {
    T::absent()
}

/// Reads a field that may be `null`.
pub(crate) fn read<'de, T: Wire, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let value = Option::<Present<T>>::deserialize(deserializer)?;
    Ok(value.map_or_else(T::absent, |present| present.0))
}

struct Present<T>(T);

impl<'de, T: Wire> Deserialize<'de> for Present<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::present(deserializer).map(Self)
    }
}

macro_rules! plain {
    ($($type:ty = $absent:expr),* $(,)?) => {$(
        impl Wire for $type {
            fn absent() -> Self {
                $absent
            }

            fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize(deserializer)
            }
        }
    )*};
}

plain! {
    String = String::new(),
    bool = false,
    u16 = 0,
    u32 = 0,
    u64 = 0,
    i64 = 0,
    f64 = 0.0,
    Timestamp = ZERO_TIME,
    Value = Value::Null,
    Metadata = Map::new(),
}

impl<T: Wire> Wire for Option<T> {
    fn absent() -> Self {
        None
    }

    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::present(deserializer).map(Some)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn absent() -> Self {
        Self::new()
    }

    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<Option<Present<T>>>::deserialize(deserializer)?;
        Ok(items.into_iter().map(|item| item.map_or_else(T::absent, |present| present.0)).collect())
    }
}

/// What is in a map: mostly what stands in a field, but the texts of a configuration may come as numbers or booleans.
pub(crate) trait MapValue: Sized {
    /// What `null` means.
    fn null() -> Self;

    /// Reads a value that is there.
    fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl MapValue for String {
    fn null() -> Self {
        Self::new()
    }

    fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(text),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null => Ok(Self::null()),
            Value::Array(_) => {
                Err(D::Error::custom("a configuration value is a text, a number or a boolean, not a list"))
            }
            Value::Object(_) => {
                Err(D::Error::custom("a configuration value is a text, a number or a boolean, not an object"))
            }
        }
    }
}

macro_rules! map_value {
    ($($type:ty),* $(,)?) => {$(
        impl MapValue for $type {
            fn null() -> Self {
                <$type as Wire>::absent()
            }

            fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$type as Wire>::present(deserializer)
            }
        }
    )*};
}

map_value!(Config, Value, Vec<String>);

struct InMap<T>(T);

impl<'de, T: MapValue> Deserialize<'de> for InMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::value(deserializer).map(Self)
    }
}

impl<T: MapValue> Wire for BTreeMap<String, T> {
    fn absent() -> Self {
        Self::new()
    }

    fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<String, Option<InMap<T>>>::deserialize(deserializer)?;
        Ok(entries
            .into_iter()
            .map(|(key, value)| (key, value.map_or_else(T::null, |value| value.0)))
            .collect())
    }
}

/// Writes nothing for a value that says nothing, where the peers leave it out too.
pub(crate) fn is_absent<T: Wire + PartialEq>(value: &T) -> bool {
    *value == T::absent()
}

/// Declares objects of the wire: every field may be absent or `null`.
macro_rules! wire {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(default = "crate::wire::absent", deserialize_with = "crate::wire::read")]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: crate::wire::absent(),)* }
            }
        }

        impl crate::wire::Wire for $name {
            fn absent() -> Self {
                Self::default()
            }

            fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde::Deserialize::deserialize(deserializer)
            }
        }

        impl crate::wire::MapValue for $name {
            fn null() -> Self {
                Self::default()
            }

            fn value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde::Deserialize::deserialize(deserializer)
            }
        }
    )*};
}
