//! The keys of pools and volumes, as data: checked from it, documented from it, served from it.

use crate::{ErrorKind, Result, StorageError, check_mkfs_words};
use larder_base::ByteSize;
use std::collections::BTreeMap;

/// Keys and values as clients give them.
pub type Config = BTreeMap<String, String>;

/// More than any technology keeps in one volume: what is beyond is refused before anything is done for it.
const MOST_BYTES: ByteSize = ByteSize::from_bytes(1 << 60);

/// What a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// A pool.
    Pool,
    /// A volume; the pool gives a default under `volume.<key>`.
    Volume,
}

/// What a key's value must look like. An empty value always means "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// Any text.
    Text,
    /// `true` or `false` (also `1`, `0`, `yes`, `no`, `on`, `off`).
    Boolean,
    /// A whole number.
    Integer,
    /// A whole number from 1.
    Count,
    /// The number of a user or group.
    Owner,
    /// A size such as `10GiB`.
    Size,
    /// A size that is a power of two, from the first of these bytes to the last.
    PowerOfTwo(ByteSize, ByteSize),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// An octal mode such as `0711`.
    OctalMode,
    /// When a snapshot goes, such as `1d 6H`: numbers with one of the units M H d w m y.
    Lifetime,
    /// When snapshots are made: `@hourly`, `@daily`, …, or a cron line.
    Schedule,
    /// Words for the `mkfs` of one of these filesystems.
    MkfsWords(&'static [&'static str]),
}

/// One key that a driver, or every driver, has.
#[derive(Debug, Clone, Copy)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// What it belongs to.
    pub scope: KeyScope,
    /// What its value looks like.
    pub kind: KeyType,
    /// The value when it is not set, in words; empty when there is none.
    pub default: &'static str,
    /// Whether it may change after creation.
    pub mutable: bool,
    /// What it does, for people.
    pub description: &'static str,
}

impl KeyType {
    /// The type's name in `/1.0/metadata/configuration`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "bool",
            Self::Integer | Self::Count | Self::Owner => "integer",
            Self::Text
            | Self::Size
            | Self::PowerOfTwo(..)
            | Self::OneOf(_)
            | Self::Path
            | Self::OctalMode
            | Self::Lifetime
            | Self::Schedule
            | Self::MkfsWords(_) => "string",
        }
    }

    /// Says what would be right when `value` is not.
    pub fn check(self, value: &str) -> std::result::Result<(), String> {
        let good = |is_good: bool, wanted: &str| if is_good { Ok(()) } else { Err(wanted.to_owned()) };
        match self {
            _ if value.is_empty() => Ok(()),
            Self::Text => good(!value.contains('\0'), "text without NUL characters"),
            Self::Boolean => good(parse_boolean(value).is_some(), "true or false"),
            Self::Integer => good(value.parse::<i64>().is_ok(), "a whole number"),
            Self::Count => good(value.parse::<u32>().is_ok_and(|number| number > 0), "a whole number from 1"),
            // The last number means "nobody is named".
            Self::Owner => good(
                value.parse::<u32>().is_ok_and(|number| number != u32::MAX),
                "a whole number from 0 to 4294967294",
            ),
            Self::Size => good(
                value.parse().is_ok_and(|size: ByteSize| size <= MOST_BYTES),
                &format!("a size such as 10GiB, {MOST_BYTES} at most"),
            ),
            Self::PowerOfTwo(least, most) => good(
                value.parse().is_ok_and(|size: ByteSize| {
                    size.as_bytes().is_power_of_two() && (least..=most).contains(&size)
                }),
                &format!("a power of two from {least} to {most}"),
            ),
            Self::OneOf(words) => good(words.contains(&value), &format!("one of {}", words.join(", "))),
            Self::Path => good(value.starts_with('/') && !value.contains('\0'), "an absolute path"),
            Self::OctalMode => good(
                u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
                "an octal mode such as 0711",
            ),
            Self::MkfsWords(filesystems) => check_words(filesystems, value),
            Self::Lifetime => good(is_lifetime(value), "numbers with a unit, such as 1d 6H (M H d w m y)"),
            Self::Schedule => good(
                is_schedule(value),
                "@hourly, @daily, @midnight, @weekly, @monthly, @annually, @yearly or a cron line of five fields",
            ),
        }
    }
}

/// Words that are right for one of the filesystems: which of them it is may be the pool's to say. The word that is told is the one
/// of whom understood most.
fn check_words(filesystems: &[&str], words: &str) -> std::result::Result<(), String> {
    let refused: Vec<&str> =
        filesystems.iter().filter_map(|filesystem| check_mkfs_words(filesystem, words).err()).collect();
    let word = refused.iter().max_by_key(|word| word.as_ptr().addr());
    match word.filter(|_| refused.len() == filesystems.len()) {
        None => Ok(()),
        Some(word) => Err(format!(
            "switches of one of mkfs.{} with numbers or names, which {word:?} is not",
            filesystems.join(", mkfs.")
        )),
    }
}

/// Whether the value of a boolean key says yes. What is not set, or no boolean, does not.
pub fn is_true(value: &str) -> bool {
    parse_boolean(value) == Some(true)
}

fn parse_boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn is_lifetime(value: &str) -> bool {
    value.split_whitespace().all(|part| {
        let Some(unit) = part.chars().next_back() else { return false };
        let number = &part[..part.len() - unit.len_utf8()];
        "SMHdwmy".contains(unit) && number.parse::<u32>().is_ok()
    })
}

fn is_schedule(value: &str) -> bool {
    const ALIASES: &[&str] = &[
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "@annually",
        "@yearly",
        "@startup",
        "@never",
    ];
    let is_field = |field: &str| field.chars().all(|c| c.is_ascii_alphanumeric() || "*/-,".contains(c));
    let is_alias = |part: &str| ALIASES.contains(&part.trim());
    let fields: Vec<&str> = value.split_whitespace().collect();
    value.split(',').all(is_alias) || (fields.len() == 5 && fields.into_iter().all(is_field))
}

/// Checks every key of `config` against the keys a thing of `scope` may have; `user.*` is always allowed, and
/// for pools every volume key as `volume.<key>`. Fails with [`ErrorKind::Invalid`] naming the key.
pub fn check_config(config: &Config, scope: KeyScope, keys: &[ConfigKey], driver: &str) -> Result<()> {
    for (name, value) in config {
        if name.starts_with("user.") || name.starts_with("volatile.") {
            continue;
        }
        let refuse = |problem: String| Err(StorageError::new(ErrorKind::Invalid, problem));
        let default_for = name.strip_prefix("volume.").filter(|_| scope == KeyScope::Pool);
        let (scope, bare) = match default_for {
            Some(bare) if bare.starts_with("user.") => continue,
            Some(bare) => (KeyScope::Volume, bare),
            None => (scope, name.as_str()),
        };
        match keys.iter().find(|key| key.name == bare && key.scope == scope) {
            None => return refuse(format!("unknown key {name:?} for the {driver} driver")),
            Some(key) => {
                if let Err(wanted) = key.kind.check(value) {
                    return refuse(format!("invalid value {value:?} of key {name:?}: it must be {wanted}"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[ConfigKey] = &[ConfigKey {
        name: "size",
        scope: KeyScope::Volume,
        kind: KeyType::Size,
        default: "",
        mutable: true,
        description: "",
    }];

    fn check(name: &str, value: &str, scope: KeyScope) -> Result<()> {
        check_config(&Config::from([(name.to_owned(), value.to_owned())]), scope, KEYS, "dir")
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        let unknown = check("sise", "1GiB", KeyScope::Volume).unwrap_err();
        assert!(unknown.to_string().contains("\"sise\""), "{unknown}");
        let wrong = check("size", "big", KeyScope::Volume).unwrap_err();
        assert!(wrong.to_string().contains("10GiB"), "{wrong}");
        check("size", "", KeyScope::Volume).unwrap();
        check("user.any", "thing", KeyScope::Volume).unwrap();
        check("volume.size", "1GiB", KeyScope::Pool).unwrap();
        check("size", "1GiB", KeyScope::Pool).unwrap_err();
        check("volume.size", "1GiB", KeyScope::Volume).unwrap_err();
    }

    #[test]
    fn numbers_keep_within_their_bounds() {
        let power = KeyType::PowerOfTwo(ByteSize::from_bytes(512), ByteSize::from_mebibytes(16));
        for (kind, good, bad) in [
            (KeyType::Count, &["1", "4294967295"][..], &["0", "-1", "1.5", "many"][..]),
            (KeyType::Owner, &["0", "4294967294"], &["-1", "4294967295", "root"]),
            (power, &["512", "64KiB", "16MiB"], &["256", "3KiB", "32MiB", "much"]),
        ] {
            assert!(good.iter().all(|value| kind.check(value).is_ok()), "{kind:?}");
            assert!(bad.iter().all(|value| kind.check(value).is_err()), "{kind:?}");
        }
        assert_eq!(power.check("1").unwrap_err(), "a power of two from 512B to 16MiB");
    }

    #[test]
    fn words_for_mkfs_are_switches_of_one_filesystem() {
        let kind = KeyType::MkfsWords(&["ext4", "xfs", "btrfs"]);
        for good in ["-O ^metadata_csum -m 0", "-d agcount=4", "-d single"] {
            kind.check(good).unwrap();
        }
        for (bad, word) in
            [("-f /dev/sdb", "/dev/sdb"), ("-d /root", "/root"), ("-q -J device=sdb", "device=sdb")]
        {
            let refused = kind.check(bad).unwrap_err();
            assert!(refused.contains(&format!("{word:?}")), "{refused}");
        }
    }

    #[test]
    fn schedules_and_lifetimes() {
        for good in ["@daily", "@hourly, @daily", "0 6 * * *", "*/5 1-3 * jan mon"] {
            assert!(is_schedule(good), "{good}");
        }
        for bad in ["daily", "* * * *", "; rm * * *"] {
            assert!(!is_schedule(bad), "{bad}");
        }
        assert!(is_lifetime("1M 2H 3d 4w 5m 6y") && !is_lifetime("1x") && !is_lifetime("d"));
    }
}
