//! Names that were checked at the door: once parsed they are safe in paths, URLs and on disk.
//!
//! The rules follow what both peers accept for new objects (LXD refuses empty names, `..`, `/`,
//! backslash and white space; Incus allows at most 64 characters, a letter or digit at both ends and none
//! of `$ ? & + " ' \` * /`), and refuse what neither can use safely.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} name {name:?}: {problem}")]
pub struct NameError {
    /// What was to be named.
    pub kind: &'static str,
    /// The refused text.
    pub name: String,
    /// What is wrong with it, and what would be right.
    pub problem: &'static str,
}

const MAX_CHARACTERS: usize = 64;
/// A file name of at most 255 bytes must hold `project_volume`.
const MAX_BYTES: usize = 128;
const FORBIDDEN: &[char] = &['$', '?', '&', '+', '"', '\'', '`', '*', '/', '\\', '%', '#'];

fn common(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a name can't be empty");
    }
    if name.chars().count() > MAX_CHARACTERS || name.len() > MAX_BYTES {
        return Err("at most 64 characters (and 128 bytes) are allowed");
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("white space and control characters are not allowed");
    }
    if name.contains(FORBIDDEN) {
        return Err("none of $ ? & + \" ' ` * / \\ % # is allowed");
    }
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !alphanumeric(name.chars().next()) || !alphanumeric(name.chars().next_back()) {
        return Err("it must start and end with a letter or a digit (a-z, A-Z, 0-9)");
    }
    if name.contains("..") {
        return Err("two dots in a row are not allowed");
    }
    Ok(())
}

fn project(name: &str) -> Result<(), &'static str> {
    common(name)?;
    if name.contains('_') {
        // On disk a volume is `project_name`: an underscore in the project would make that ambiguous.
        return Err("an underscore is not allowed in a project name");
    }
    if name.len() > 63 {
        return Err("at most 63 bytes are allowed");
    }
    Ok(())
}

fn hostname(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 63 {
        return Err("an instance name is 1 to 63 characters long");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err("only letters, digits and dashes are allowed (it becomes the host name)");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("it can't start or end with a dash");
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Err("it can't be only digits");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                match $check(&name) {
                    Ok(()) => Ok(Self(name)),
                    Err(problem) => Err(NameError { kind: $kind, name, problem }),
                }
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of a storage pool.
    PoolName, "storage pool", common
);
name_type!(
    /// The name of a project; never holds an underscore.
    ProjectName, "project", project
);
name_type!(
    /// The name of a volume within its pool, project and kind.
    ///
    /// ```
    /// use larder_base::VolumeName;
    /// assert!("data-1".parse::<VolumeName>().is_ok());
    /// for bad in ["", "..", "a/b", "a b", "-a", "a\\b"] {
    ///     assert!(bad.parse::<VolumeName>().is_err(), "{bad}");
    /// }
    /// ```
    VolumeName, "volume", common
);
name_type!(
    /// The name of a snapshot within its volume.
    SnapshotName, "snapshot", common
);
name_type!(
    /// The name of an instance: a host name.
    InstanceName, "instance", hostname
);

impl ProjectName {
    /// The project that always exists.
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }

    /// Whether this is the project that always exists.
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }
}

impl From<InstanceName> for VolumeName {
    /// A root volume bears its instance's name; host names are a subset of volume names.
    fn from(name: InstanceName) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_name_the_thing_and_the_rule() {
        let error = "a/b".parse::<VolumeName>().unwrap_err().to_string();
        assert!(error.contains("volume") && error.contains("a/b") && error.contains("allowed"), "{error}");
        assert!("a_b".parse::<ProjectName>().is_err());
        assert!("a_b".parse::<VolumeName>().is_ok());
        assert!("a.b".parse::<InstanceName>().is_err());
        assert!("12".parse::<InstanceName>().is_err());
        assert!("1a".parse::<InstanceName>().is_ok());
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_safe_path_component(text in "\\PC{0,70}") {
            if let Ok(name) = text.parse::<VolumeName>() {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn every_instance_name_is_a_volume_name(text in "[a-zA-Z0-9-]{1,63}") {
            if let Ok(name) = text.parse::<InstanceName>() {
                prop_assert!(name.as_str().parse::<VolumeName>().is_ok());
            }
        }
    }
}
