//! `backup/index.yaml`: what a backup says of itself. Written in the peers' first form; both of their forms are read.

use crate::service::{Result, ServiceError};
use jiff::Timestamp;
use larder_catalog::documents::{Pool, Snapshot, Volume};
use larder_storage_driver::{Config, Content};
use serde::{Deserialize, Serialize};

/// What is read of a volume or a snapshot; unknown fields are passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) description: String,
    #[serde(deserialize_with = "texts")]
    pub(super) config: Config,
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub(super) kind: String,
    pub(super) content_type: String,
    pub(super) created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    /// Only in the second form.
    #[serde(skip_serializing)]
    pub(super) snapshots: Option<Vec<Described>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Parts {
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Described>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_snapshots: Option<Vec<Described>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<Described>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    name: String,
    backend: String,
    pool: String,
    #[serde(rename = "type")]
    kind: String,
    optimized: Option<bool>,
    optimized_header: Option<bool>,
    snapshots: Option<Vec<String>>,
    config: Option<Parts>,
}

/// A backup of a custom volume, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    pub(super) volume: Described,
    pub(super) content: Content,
    /// The driver of the pool it was made on.
    pub(super) backend: String,
    /// Oldest first, as they stand in the backup.
    pub(super) snapshots: Vec<Described>,
}

/// Values that are numbers or booleans in YAML are texts for us.
pub(super) fn texts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        Boolean(bool),
        Integer(i64),
    }
    let values =
        Option::<std::collections::BTreeMap<String, Value>>::deserialize(deserializer)?.unwrap_or_default();
    let text = |value| match value {
        Value::Text(text) => text,
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
    };
    Ok(values.into_iter().map(|(key, value)| (key, text(value))).collect())
}

/// The manifest of a volume with its snapshots.
pub(super) fn write(pool: &Pool, volume: &Volume, snapshots: &[Snapshot]) -> Result<String> {
    let described = |snapshot: &Snapshot| Described {
        name: snapshot.name.clone(),
        description: snapshot.description.clone(),
        config: snapshot.config.clone(),
        content_type: volume.content.clone(),
        created_at: Some(snapshot.created_at),
        // LXD 5.0 falls over a snapshot without one.
        expires_at: Some(larder_api::or_zero_time(snapshot.expires_at)),
        ..Described::default()
    };
    let own = Described {
        name: volume.name.clone(),
        description: volume.description.clone(),
        config: volume.config.clone(),
        kind: volume.kind.clone(),
        content_type: volume.content.clone(),
        created_at: Some(volume.created_at),
        ..Described::default()
    };
    let index = Index {
        name: volume.name.clone(),
        backend: pool.driver.clone(),
        pool: pool.name.clone(),
        kind: "custom".to_owned(),
        optimized: Some(false),
        optimized_header: Some(false),
        snapshots: Some(snapshots.iter().map(|snapshot| snapshot.name.clone()).collect()),
        config: Some(Parts {
            volume: Some(own),
            volume_snapshots: Some(snapshots.iter().map(described).collect()),
            volumes: None,
        }),
    };
    serde_saphyr::to_string(&index)
        .map_err(|error| ServiceError::internal(format!("the manifest can't be written: {error}")))
}

/// Reads a manifest. Fails with what is wrong in it and what would be right.
pub(super) fn read(text: &str) -> Result<Manifest> {
    let refuse = |problem: String| ServiceError::bad(format!("the backup's index.yaml: {problem}"));
    let index: Index = serde_saphyr::from_str(text).map_err(|error| refuse(error.to_string()))?;
    if index.kind != "custom" {
        return Err(refuse(format!(
            "this is a backup of type {:?}; only backups of custom volumes can be imported here",
            index.kind
        )));
    }
    if index.optimized == Some(true) {
        return Err(refuse(format!(
            "it is in the form of the {} driver alone: export it again without --optimized-storage",
            index.backend
        )));
    }
    let parts = index.config.unwrap_or_default();
    let from_second_form = || parts.volumes.clone().and_then(|volumes| volumes.into_iter().next());
    let mut volume = parts.volume.clone().or_else(from_second_form).unwrap_or_default();
    let described = parts.volume_snapshots.or_else(|| volume.snapshots.take()).unwrap_or_default();
    if volume.name.is_empty() {
        volume.name = index.name;
    }
    let content = match volume.content_type.as_str() {
        "" => Content::Filesystem,
        text => text.parse().map_err(refuse)?,
    };
    let mut snapshots = Vec::new();
    for name in index.snapshots.unwrap_or_default() {
        let known =
            described.iter().find(|snapshot| snapshot.name.rsplit('/').next() == Some(&name)).cloned();
        snapshots.push(Described { name, ..known.unwrap_or_default() });
    }
    for one in std::iter::once(&mut volume).chain(&mut snapshots) {
        one.config.retain(|key, value| !key.starts_with("volatile.") && !value.is_empty());
    }
    Ok(Manifest { volume, content, backend: index.backend, snapshots })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_the_peers_are_read() {
        let first = "name: v1\nbackend: dir\npool: p\ntype: custom\noptimized: false\nsnapshots: [s0]\nconfig:\n  volume:\n    \
                     name: v1\n    config: {size: 1GiB, volatile.uuid: x, snapshots.expiry: 1d, user.n: 3}\n    content_type: block\n  \
                     volume_snapshots:\n  - name: s0\n    description: old\n    expires_at: 2030-01-01T00:00:00Z\n";
        let read_first = read(first).unwrap();
        assert_eq!((read_first.volume.name.as_str(), read_first.content), ("v1", Content::Block));
        let keys: Vec<_> =
            read_first.volume.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(keys, ["size=1GiB", "snapshots.expiry=1d", "user.n=3"]);
        assert_eq!((read_first.snapshots.len(), read_first.snapshots[0].description.as_str()), (1, "old"));
        let second = "name: v1\ntype: custom\nversion: 2\nsnapshots: [s0]\nconfig:\n  version: 2\n  volumes:\n  - name: v1\n    \
                      content_type: filesystem\n    snapshots:\n    - {name: s0, description: old}\n";
        assert_eq!(read(second).unwrap().snapshots[0].description, "old");
    }

    #[test]
    fn what_can_not_be_imported_is_named() {
        for (text, word) in [
            ("type: container\nname: c1\n", "container"),
            ("type: custom\noptimized: true\nbackend: zfs\n", "zfs"),
            ("type: custom\nconfig: {volume: {content_type: tape}}\n", "tape"),
            ("[", "index.yaml"),
            ("type: [custom]\n", "index.yaml"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let config = Config::from([("user.odd".to_owned(), "yes: [no, 'quotes\"]\n#".to_owned())]);
        let pool: Pool = serde_json::from_value(json!({
            "id": larder_catalog::PoolId::random(), "name": "p1", "driver": "dir", "description": "",
            "config": {}, "status": "created", "created_at": now,
        }))
        .unwrap();
        let volume: Volume = serde_json::from_value(json!({
            "id": larder_catalog::VolumeId::random(), "pool": pool.id, "project": "default", "kind": "custom",
            "content": "block", "name": "12", "description": "null", "config": config, "state": "ready",
            "created_at": now,
        }))
        .unwrap();
        let snapshot = |name: &str, expires_at| Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: volume.id,
            name: name.to_owned(),
            description: format!("of {name}"),
            config: config.clone(),
            created_at: now,
            expires_at,
            is_ready: true,
        };
        let text = write(&pool, &volume, &[snapshot("s0", None), snapshot("true", Some(now))]).unwrap();
        let back = read(&text).unwrap();
        assert_eq!((back.backend.as_str(), back.content), ("dir", Content::Block), "{text}");
        assert_eq!((back.volume.name.as_str(), back.volume.description.as_str()), ("12", "null"), "{text}");
        assert_eq!((&back.volume.config, back.volume.created_at), (&config, Some(now)), "{text}");
        let snapshots: Vec<_> =
            back.snapshots.iter().map(|one| (one.name.as_str(), one.expires_at, &one.config)).collect();
        assert_eq!(
            snapshots,
            [("s0", Some(larder_api::ZERO_TIME), &config), ("true", Some(now), &config)],
            "{text}"
        );
    }

    #[test]
    fn a_manifest_that_grows_without_bounds_is_refused() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (one, other) in "abcdefghijk".chars().zip("bcdefghijkl".chars()) {
            bomb.push_str(&format!(
                "{other}: &{other} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
            ));
        }
        bomb.push_str("type: custom\nname: v1\nsnapshots: *l\n");
        assert!(read(&bomb).is_err());
        let deep = format!("type: custom\nconfig: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&deep).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,80}") {
            let _ = read(&text);
        }
    }
}
