//! What a backup of an instance says of itself: the same file as a volume's, and once more in the volume's folder as
//! `backup.yaml`, where the peers look for it. Only `index.yaml` is ever read here.

use super::manifest::texts;
use crate::service::{Result, ServiceError};
use jiff::Timestamp;
use larder_api::or_zero_time;
use larder_catalog::documents::{Instance, InstanceSnapshot, Pool, Profile, Snapshot, Volume};
use larder_runtime::{Config, Devices, Expanded};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is read of an instance or of one of its snapshots; unknown fields are passed over.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct DescribedInstance {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) description: String,
    #[serde(deserialize_with = "texts")]
    pub(super) config: Config,
    #[serde(deserialize_with = "devices")]
    pub(super) devices: Devices,
    pub(super) profiles: Option<Vec<String>>,
    pub(super) ephemeral: bool,
    pub(super) created_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
}

/// What is read of its root volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DescribedRoot {
    #[serde(deserialize_with = "texts")]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parts {
    /// In the peers' first form.
    container: Option<DescribedInstance>,
    /// In their second.
    instance: Option<DescribedInstance>,
    snapshots: Option<Vec<DescribedInstance>>,
    volume: Option<DescribedRoot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Index {
    name: String,
    backend: String,
    pool: String,
    #[serde(rename = "type")]
    kind: String,
    optimized: Option<bool>,
    snapshots: Option<Vec<String>>,
    config: Option<Parts>,
}

/// A backup of a container, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InstanceManifest {
    pub(super) instance: DescribedInstance,
    /// The pool it was on.
    pub(super) pool: String,
    /// The keys of its root volume.
    pub(super) root: Config,
    /// Oldest first, as they stand in the backup.
    pub(super) snapshots: Vec<DescribedInstance>,
}

fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Devices, D::Error> {
    #[derive(Deserialize)]
    struct Device(#[serde(deserialize_with = "texts")] Config);
    let devices = Option::<BTreeMap<String, Device>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(devices.into_iter().map(|(name, device)| (name, device.0)).collect())
}

/// Reads a manifest. Fails with what is wrong in it and what would be right.
pub(super) fn read(text: &str) -> Result<InstanceManifest> {
    let refuse = |problem: String| ServiceError::bad(format!("the backup's index.yaml: {problem}"));
    let index: Index = serde_saphyr::from_str(text).map_err(|error| refuse(error.to_string()))?;
    match index.kind.as_str() {
        // The peers' oldest backups say nothing.
        "" | "container" => {}
        "virtual-machine" => {
            return Err(ServiceError::not_implemented("importing the backup of a virtual machine"));
        }
        other => {
            return Err(refuse(format!(
                "this is a backup of type {other:?}; only backups of containers become instances"
            )));
        }
    }
    if index.optimized == Some(true) {
        return Err(refuse(format!(
            "it is in the form of the {} driver alone: export it again without --optimized-storage",
            index.backend
        )));
    }
    let parts = index.config.unwrap_or_default();
    let missing = || refuse("it does not describe the instance (config.container)".to_owned());
    let mut instance = parts.container.or(parts.instance).ok_or_else(missing)?;
    if instance.name.is_empty() {
        instance.name = index.name;
    }
    let described = parts.snapshots.unwrap_or_default();
    let mut snapshots = Vec::new();
    for name in index.snapshots.unwrap_or_default() {
        let known = described.iter().find(|one| one.name.rsplit('/').next() == Some(&name)).cloned();
        // One that is not described has the instance's settings.
        snapshots.push(DescribedInstance { name, ..known.unwrap_or_else(|| instance.clone()) });
    }
    for one in std::iter::once(&mut instance).chain(&mut snapshots) {
        let is_wanted = |key: &str| !key.starts_with("volatile.") || key == "volatile.base_image";
        one.config.retain(|key, value| is_wanted(key) && !value.is_empty());
    }
    let root = parts.volume.unwrap_or_default().config;
    Ok(InstanceManifest { instance, pool: index.pool, root, snapshots })
}

/// All that a manifest tells.
pub(super) struct Told<'a> {
    pub(super) pool: &'a Pool,
    pub(super) root: &'a Volume,
    pub(super) instance: &'a Instance,
    pub(super) expanded: &'a Expanded,
    pub(super) profiles: &'a [Profile],
    /// The instance's snapshots with the root volume's, oldest first.
    pub(super) snapshots: &'a [(InstanceSnapshot, Snapshot)],
}

/// The manifest, and the `backup.yaml` that goes with it.
pub(super) fn write(told: &Told<'_>) -> Result<(String, String)> {
    let config = config_of(told);
    let names: Vec<&str> = told.snapshots.iter().map(|(snapshot, _)| snapshot.name.as_str()).collect();
    let index = json!({
        "name": told.instance.name,
        "backend": told.pool.driver,
        "pool": told.pool.name,
        "snapshots": names,
        "optimized": false,
        "optimized_header": false,
        "type": told.instance.kind,
        "config": config,
    });
    let text = |value: &Value| {
        serde_saphyr::to_string(value)
            .map_err(|error| ServiceError::internal(format!("the manifest can't be written: {error}")))
    };
    Ok((text(&index)?, text(&config)?))
}

fn config_of(told: &Told<'_>) -> Value {
    let Told { pool, root, instance, expanded, .. } = told;
    let mut container = settings(instance);
    let more = json!({
        "name": instance.name,
        "status": "Stopped",
        "status_code": 102,
        "last_used_at": or_zero_time(instance.last_used_at),
        "location": "none",
        "type": instance.kind,
        "project": instance.project,
        "expanded_config": expanded.config,
        "expanded_devices": expanded.devices,
    });
    extend(&mut container, more);
    let snapshots = told.snapshots.iter().map(|(snapshot, _)| {
        let mut described = settings(&snapshot.then);
        let more = json!({
            "name": snapshot.name,
            "created_at": snapshot.created_at,
            "expires_at": or_zero_time(snapshot.expires_at),
            "last_used_at": or_zero_time(snapshot.then.last_used_at),
            "size": -1,
            "expanded_config": snapshot.then.config,
            "expanded_devices": snapshot.then.devices,
        });
        extend(&mut described, more);
        described
    });
    let volume_snapshots = told.snapshots.iter().map(|(_, snapshot)| {
        json!({
            "name": snapshot.name, "description": snapshot.description, "config": snapshot.config,
            "content_type": root.content, "created_at": snapshot.created_at,
            "expires_at": or_zero_time(snapshot.expires_at),
        })
    });
    let profiles = told.profiles.iter().map(|profile| {
        json!({
            "name": profile.name, "description": profile.description, "config": profile.config,
            "devices": profile.devices, "used_by": [],
        })
    });
    json!({
        "container": container,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "pool": {
            "name": pool.name, "driver": pool.driver, "description": pool.description, "config": pool.config,
            "status": "Created", "locations": ["none"], "used_by": [],
        },
        "profiles": profiles.collect::<Vec<_>>(),
        "volume": {
            "name": root.name, "type": root.kind, "content_type": root.content, "description": root.description,
            "config": root.config, "created_at": root.created_at, "location": "none", "project": root.project,
            "used_by": [],
        },
        "volume_snapshots": volume_snapshots.collect::<Vec<_>>(),
    })
}

fn settings(instance: &Instance) -> Value {
    json!({
        "architecture": instance.architecture,
        "description": instance.description,
        "config": instance.config,
        "devices": instance.devices,
        "profiles": instance.profiles,
        "ephemeral": instance.ephemeral,
        "stateful": false,
        "created_at": instance.created_at,
    })
}

fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(all), Value::Object(more)) = (value, more) {
        all.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_the_peers_are_read() {
        let first = "name: c1\nbackend: zfs\npool: tank\nsnapshots: [s0, s1]\ntype: container\nconfig:\n  container:\n    \
                     name: c1\n    architecture: x86_64\n    config: {limits.cpu: 2, security.nesting: true, volatile.uuid: x, \
                     volatile.base_image: abc}\n    devices: {root: {type: disk, path: /, pool: tank, size: 5GiB}}\n    \
                     profiles: [default]\n  snapshots:\n  - {name: s0, config: {user.n: one}, profiles: []}\n";
        let read_first = read(first).unwrap();
        let keys: Vec<_> =
            read_first.instance.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(keys, ["limits.cpu=2", "security.nesting=true", "volatile.base_image=abc"]);
        assert_eq!(read_first.instance.devices["root"]["pool"], "tank");
        assert_eq!(
            (read_first.pool.as_str(), read_first.snapshots[0].config["user.n"].as_str()),
            ("tank", "one")
        );
        assert_eq!(read_first.snapshots[1].config, read_first.instance.config);
        let second = "name: c1\ntype: container\nconfig: {version: 2, instance: {name: c2, profiles: []}}\n";
        assert_eq!(read(second).unwrap().instance.name, "c2");
    }

    #[test]
    fn what_can_not_be_imported_is_named() {
        for (text, word) in [
            ("type: custom\nname: v1\n", "custom"),
            ("type: virtual-machine\nname: v1\n", "virtual machine"),
            ("type: container\nname: c1\n", "config.container"),
            ("type: container\noptimized: true\nbackend: zfs\n", "zfs"),
            ("[", "index.yaml"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,80}") {
            let _ = read(&text);
        }
    }
}
