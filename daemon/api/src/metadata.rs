//! The keys that exist: `/1.0/metadata/configuration`.

use std::collections::BTreeMap;

wire! {
    /// All keys, by what they are of (such as `storage-dir`) and then by group (such as `volume-conf`).
    pub struct MetadataConfiguration {
        /// The keys.
        pub configs: BTreeMap<String, BTreeMap<String, ConfigurationGroup>>,
    }

    /// Keys that belong together.
    pub struct ConfigurationGroup {
        /// Each is a map of one entry: the key's name and what is to say of it.
        pub keys: Vec<BTreeMap<String, ConfigurationKey>>,
    }

    /// What is to say of a key.
    pub struct ConfigurationKey {
        /// Its type, such as `string`, `bool` or `integer`.
        #[serde(rename = "type")]
        pub kind: String,
        /// One line.
        pub shortdesc: String,
        /// More.
        pub longdesc: String,
        /// What holds when it is not set.
        #[serde(rename = "defaultdesc", skip_serializing_if = "crate::wire::is_absent")]
        pub default: String,
        /// Where it holds: `global` or `local`.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub scope: String,
        /// When it holds.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub condition: String,
        /// Whether a change takes effect at once: `yes`, `no` or a condition.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub liveupdate: String,
    }
}

impl crate::wire::MapValue for BTreeMap<String, ConfigurationGroup> {
    fn null() -> Self {
        Self::new()
    }

    fn value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::wire::Wire::present(deserializer)
    }
}
