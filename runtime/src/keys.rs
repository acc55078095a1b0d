//! The keys of instances and devices that are implemented, and what may stand in them.
//!
//! A key that is not in the table is refused by name: nothing is accepted that would have no effect.

use crate::container::{CpuLimit, Limits};
use crate::profiles::{Config, Devices};
use larder_base::ByteSize;

/// A key or its value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no such key.
    #[error("unknown configuration key {0:?}")]
    Unknown(String),
    /// The key is there, its value is not possible.
    #[error("invalid value {value:?} for {key}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is possible.
        reason: String,
    },
    /// A device is refused.
    #[error("device {device:?}: {reason}")]
    Device {
        /// The device's name.
        device: String,
        /// What is wrong.
        reason: String,
    },
}

impl KeyError {
    pub(crate) fn value(key: &str, value: &str, reason: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), value: value.to_owned(), reason: reason.into() }
    }

    fn device(device: &str, reason: impl Into<String>) -> Self {
        Self::Device { device: device.to_owned(), reason: reason.into() }
    }
}

/// What may stand in a key. An empty value always means "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// `true` or `false`, also `1 on yes` and `0 off no`.
    Boolean,
    /// A whole number in a range.
    Integer {
        /// The smallest.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A size such as `512MiB`, or a share of the machine's memory such as `50%`.
    Memory,
    /// A number of processors, or a list of them.
    Cpu,
    /// Any text.
    Text,
    /// A text without line breaks: it goes into the container's environment.
    Line,
}

/// A key of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDefinition {
    /// Its name; one that ends with a dot stands for all keys that begin so.
    pub name: &'static str,
    /// What may stand in it.
    pub kind: KeyKind,
    /// Whether a change reaches a running container.
    pub live: bool,
    /// What it does.
    pub description: &'static str,
}

const fn key(name: &'static str, kind: KeyKind, live: bool, description: &'static str) -> KeyDefinition {
    KeyDefinition { name, kind, live, description }
}

const COUNT: KeyKind = KeyKind::Integer { least: 0, most: i64::MAX };
const SECONDS: KeyKind = KeyKind::Integer { least: 0, most: i32::MAX as i64 };
const ANY_INTEGER: KeyKind = KeyKind::Integer { least: i64::MIN, most: i64::MAX };

/// Every key that is implemented.
pub const KEYS: &[KeyDefinition] = &[
    key("boot.autostart", KeyKind::Boolean, true, "start it with the daemon; as it was before when not set"),
    key("boot.autostart.delay", SECONDS, true, "seconds to wait before the next one is started"),
    key("boot.autostart.priority", ANY_INTEGER, true, "higher ones are started first"),
    key(
        "boot.host_shutdown_timeout",
        SECONDS,
        true,
        "seconds to wait for it when the host goes down; 30 when not set",
    ),
    key("environment.", KeyKind::Line, false, "a variable of its init and of every command run in it"),
    key("image.", KeyKind::Text, true, "what its image said of itself"),
    key("limits.cpu", KeyKind::Cpu, true, "a number of processors, or a list such as 0-3,5"),
    key("limits.memory", KeyKind::Memory, true, "a size, or a share of the machine's memory such as 50%"),
    key("limits.processes", COUNT, true, "how many processes there may be"),
    key("security.nesting", KeyKind::Boolean, false, "allow containers in it"),
    key("security.privileged", KeyKind::Boolean, false, "its root is the host's root"),
    key("snapshots.expiry", KeyKind::Text, true, "how long a snapshot is kept"),
    key("snapshots.expiry.manual", KeyKind::Text, true, "how long a snapshot is kept that a person made"),
    key("snapshots.pattern", KeyKind::Text, true, "how a snapshot is named"),
    key("snapshots.schedule", KeyKind::Text, true, "when a snapshot is made"),
    key("snapshots.schedule.stopped", KeyKind::Boolean, true, "make them of a stopped one too"),
    key("user.", KeyKind::Text, true, "anything the user wants to note"),
    key("volatile.", KeyKind::Text, true, "what the daemon notes"),
];

/// The definition of a key, if it is implemented.
pub fn definition(name: &str) -> Option<&'static KeyDefinition> {
    KEYS.iter().find(|key| match key.name.strip_suffix('.') {
        Some(_) => name.len() > key.name.len() && name.starts_with(key.name),
        None => name == key.name,
    })
}

/// Checks an instance's or a profile's keys.
pub fn check_config(config: &Config) -> Result<(), KeyError> {
    for (name, value) in config {
        let definition = definition(name).ok_or_else(|| KeyError::Unknown(name.clone()))?;
        if !value.is_empty() {
            check_value(definition.kind, name, value)?;
        }
        if let Some(variable) = name.strip_prefix("environment.")
            && variable.contains(|c: char| c == '=' || c.is_control())
        {
            return Err(KeyError::value(name, value, "the variable's name has a `=` or a control character"));
        }
    }
    Ok(())
}

fn check_value(kind: KeyKind, name: &str, value: &str) -> Result<(), KeyError> {
    let refuse = |reason: String| Err(KeyError::value(name, value, reason));
    match kind {
        KeyKind::Boolean if boolean(value).is_none() => refuse("expected true or false".to_owned()),
        KeyKind::Integer { least, most } => match value.parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => refuse(format!("expected a number from {least} to {most}")),
            Err(_) => refuse("expected a whole number".to_owned()),
        },
        KeyKind::Memory => memory(value, u64::MAX).map(drop),
        KeyKind::Cpu => value.parse::<CpuLimit>().map(drop),
        KeyKind::Line if value.chars().any(char::is_control) => {
            refuse("control characters, line breaks among them, are not possible here".to_owned())
        }
        KeyKind::Text if value.contains('\0') => refuse("it has a zero byte".to_owned()),
        KeyKind::Boolean | KeyKind::Line | KeyKind::Text => Ok(()),
    }
}

/// Reads a boolean as the peers do.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// Whether a boolean key is set to true.
pub fn is_true(config: &Config, key: &str) -> bool {
    config.get(key).and_then(|value| boolean(value)).unwrap_or(false)
}

/// The limits that the keys set, on a machine with so many bytes of memory.
pub fn limits(config: &Config, memory_of_machine: u64) -> Result<Limits, KeyError> {
    let set = |key: &str| config.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let processes = set("limits.processes").map(|value| {
        value.parse().map_err(|_| KeyError::value("limits.processes", value, "expected a whole number"))
    });
    Ok(Limits {
        memory: set("limits.memory").map(|value| memory(value, memory_of_machine)).transpose()?,
        cpu: set("limits.cpu").map(str::parse).transpose()?,
        processes: processes.transpose()?,
    })
}

/// The variables that the keys set.
pub fn environment(config: &Config) -> Config {
    let variables = config.iter().filter_map(|(key, value)| Some((key.strip_prefix("environment.")?, value)));
    variables.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

fn memory(value: &str, memory_of_machine: u64) -> Result<u64, KeyError> {
    let refuse = |reason: &str| KeyError::value("limits.memory", value, reason);
    let bytes = match value.strip_suffix('%') {
        Some(share) => {
            let share = share.trim().parse::<u64>().ok().filter(|share| (1..=100).contains(share));
            let share = share.ok_or_else(|| refuse("expected a share from 1% to 100%"))?;
            memory_of_machine / 100 * share
        }
        None => value.parse::<ByteSize>().map_err(|error| refuse(&error.to_string()))?.as_bytes(),
    };
    // Less than this and not even a shell starts; a typing error rather than a wish.
    const LEAST: u64 = 1 << 20;
    if bytes < LEAST { Err(refuse("at least 1MiB is needed")) } else { Ok(bytes) }
}

/// Checks an instance's or a profile's devices, each and together.
pub fn check_devices(devices: &Devices) -> Result<(), KeyError> {
    let mut paths: Vec<(&str, &str)> = Vec::new();
    for (name, device) in devices {
        check_device(name, device)?;
        let Some(path) = device.get("path") else { continue };
        let path = if path == "/" { "/" } else { path.trim_end_matches('/') };
        if let Some((other, _)) = paths.iter().find(|(_, taken)| *taken == path) {
            return Err(KeyError::device(name, format!("device {other:?} has the path {path} already")));
        }
        paths.push((name, path));
    }
    Ok(())
}

/// Checks one device.
pub fn check_device(name: &str, device: &Config) -> Result<(), KeyError> {
    if name.is_empty() || name.len() > 64 || name.contains('/') || name.chars().any(char::is_control) {
        return Err(KeyError::device(name, "a name has 1 to 64 characters and no `/`"));
    }
    match device.get("type").map(String::as_str) {
        None | Some("") => Err(KeyError::device(name, "it has no type")),
        Some("none") => match device.keys().find(|key| *key != "type") {
            Some(key) => Err(KeyError::device(name, format!("a device of type none has no key {key:?}"))),
            None => Ok(()),
        },
        Some("disk") => check_disk(name, device),
        Some(kind) => Err(KeyError::device(
            name,
            format!("devices of type {kind:?} are not implemented, only disk and none"),
        )),
    }
}

const DISK_KEYS: &[&str] = &["type", "path", "pool", "source", "readonly", "recursive", "size"];

fn check_disk(name: &str, device: &Config) -> Result<(), KeyError> {
    let refuse = |reason: String| Err(KeyError::device(name, reason));
    let set = |key: &str| device.get(key).map(String::as_str).filter(|value| !value.is_empty());
    // What the root's volume is made with: the pool's driver knows which keys there are.
    let is_initial = |key: &str| key.strip_prefix("initial.").is_some_and(|key| !key.is_empty());
    if let Some(key) = device.keys().find(|key| !DISK_KEYS.contains(&key.as_str()) && !is_initial(key)) {
        return refuse(format!("disks have no key {key:?}"));
    }
    for key in ["readonly", "recursive"] {
        if let Some(value) = set(key).filter(|value| boolean(value).is_none()) {
            return refuse(format!("{key} is {value:?}, expected true or false"));
        }
    }
    if is_true(device, "readonly") && is_true(device, "recursive") {
        return refuse(
            "what is mounted below a folder can't be made read-only with it: drop one of both".to_owned(),
        );
    }
    if let Some(size) = set("size")
        && let Err(error) = size.parse::<ByteSize>()
    {
        return refuse(error.to_string());
    }
    let Some(path) = set("path") else { return refuse("a disk needs a path".to_owned()) };
    if !path.starts_with('/')
        || path.split('/').any(|part| part == "..")
        || path.chars().any(char::is_control)
    {
        return refuse(format!("the path {path:?} must be absolute and without `..`"));
    }
    if path == "/" {
        return match (set("pool"), set("source")) {
            (None, _) => refuse("the root disk needs a pool".to_owned()),
            (_, Some(_)) => refuse("the root disk has no source".to_owned()),
            (Some(_), None) => Ok(()),
        };
    }
    if let Some(key) = device.keys().find(|key| is_initial(key)) {
        return refuse(format!("only the root disk has the key {key:?}: other volumes are there already"));
    }
    if set("size").is_some() {
        return refuse("only the root disk has a size; a volume's size is set on the volume".to_owned());
    }
    match (set("pool"), set("source")) {
        (_, None) => refuse("a disk needs a source: a volume of its pool, or a path of the host".to_owned()),
        (None, Some(source)) if !source.starts_with('/') => refuse(format!(
            "the source {source:?} must be an absolute path, or a volume of a pool that is named too"
        )),
        (Some(_), Some(source)) if source.starts_with('/') => {
            refuse(format!("the source {source:?} must be a volume's name when a pool is named"))
        }
        (Some(_), Some(_)) if is_true(device, "recursive") => {
            refuse("recursive is for paths of the host".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_table_is_sorted_and_prefixes_need_more() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        assert!(definition("user.x").is_some());
        for unknown in ["user.", "user", "limits.memory.x", "boot", ""] {
            assert!(definition(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn good_values_are_taken_and_bad_ones_are_named() {
        let good = [
            ("limits.memory", "64MiB"),
            ("limits.memory", "50%"),
            ("limits.cpu", "0-1"),
            ("limits.cpu", ""),
            ("limits.processes", "10"),
            ("boot.autostart", "yes"),
            ("boot.autostart.priority", "-3"),
            ("environment.A", "b c"),
            ("user.data", "#cloud-config\nx"),
            ("volatile.base_image", "abc"),
        ];
        for (key, value) in good {
            check_config(&keys(&[(key, value)])).unwrap_or_else(|error| panic!("{error}"));
        }
        let bad = [
            ("limits.memory", "lots"),
            ("limits.memory", "101%"),
            ("limits.memory", "5"),
            ("limits.cpu", "0"),
            ("limits.processes", "-1"),
            ("security.privileged", "maybe"),
            ("boot.autostart.delay", "1.5"),
            ("environment.A", "b\nlxc.hook.pre-start = x"),
            ("environment.A=B", "c"),
        ];
        for (key, value) in bad {
            let error = check_config(&keys(&[(key, value)])).unwrap_err();
            assert!(
                matches!(error, KeyError::Value { .. })
                    && error.to_string().contains(key.trim_end_matches("=B")),
                "{error}"
            );
        }
        let unknown = check_config(&keys(&[("raw.lxc", "x")])).unwrap_err();
        assert_eq!(unknown, KeyError::Unknown("raw.lxc".to_owned()));
    }

    #[test]
    fn limits_and_variables_are_read_from_the_keys() {
        let config = keys(&[("limits.memory", "50%"), ("limits.processes", "7"), ("environment.A", "1")]);
        let read = limits(&config, 8 << 30).unwrap();
        assert_eq!((read.memory, read.cpu, read.processes), (Some((8 << 30) / 100 * 50), None, Some(7)));
        assert_eq!(environment(&config), keys(&[("A", "1")]));
    }

    #[test]
    fn devices_are_checked_each_and_together() {
        let root = keys(&[("type", "disk"), ("path", "/"), ("pool", "p"), ("size", "1GiB")]);
        let data = keys(&[("type", "disk"), ("path", "/data"), ("pool", "p"), ("source", "v")]);
        let made = keys(&[("type", "disk"), ("path", "/"), ("pool", "p"), ("initial.zfs.blocksize", "8KiB")]);
        check_device("root", &made).unwrap();
        let host = keys(&[("type", "disk"), ("path", "/host"), ("source", "/srv"), ("recursive", "true")]);
        let all = |list: &[(&str, &Config)]| -> Devices {
            list.iter().map(|(name, device)| ((*name).to_owned(), (*device).clone())).collect()
        };
        check_devices(&all(&[("root", &root), ("data", &data), ("host", &host)])).unwrap();
        check_device("gone", &keys(&[("type", "none")])).unwrap();
        assert!(check_devices(&all(&[("root", &root), ("other", &root)])).is_err(), "two roots");
        let bad: &[&[(&str, &str)]] = &[
            &[],
            &[("type", "nic")],
            &[("type", "none"), ("path", "/")],
            &[("type", "disk")],
            &[("type", "disk"), ("path", "/")],
            &[("type", "disk"), ("path", "/"), ("pool", "p"), ("source", "v")],
            &[("type", "disk"), ("path", "/a")],
            &[("type", "disk"), ("path", "/a"), ("source", "v")],
            &[("type", "disk"), ("path", "/a"), ("pool", "p"), ("source", "/v")],
            &[("type", "disk"), ("path", "/a/../b"), ("pool", "p"), ("source", "v")],
            &[("type", "disk"), ("path", "/a"), ("pool", "p"), ("source", "v"), ("size", "1GiB")],
            &[("type", "disk"), ("path", "/a"), ("pool", "p"), ("source", "v"), ("io.bus", "nvme")],
            &[("type", "disk"), ("path", "/a"), ("pool", "p"), ("source", "v"), ("initial.uid", "1")],
            &[("type", "disk"), ("path", "/"), ("pool", "p"), ("initial.", "1")],
            &[("type", "disk"), ("path", "/a"), ("pool", "p"), ("source", "v"), ("readonly", "perhaps")],
            &[("type", "disk"), ("path", "/a"), ("source", "/v"), ("recursive", "1"), ("readonly", "1")],
        ];
        for pairs in bad {
            assert!(matches!(check_device("d", &keys(pairs)), Err(KeyError::Device { .. })), "{pairs:?}");
        }
    }
}
