//! A server as a preseed that makes another one like it.

use crate::client::{ApiPath, Client};
use crate::fields::{Fields, writable};
use anyhow::Result;
use serde_json::{Value, json};

/// The server as a preseed.
pub(crate) async fn dump(client: &Client) -> Result<Value> {
    let mut server = client.get(&ApiPath::root()).await?.metadata;
    let pools = list(client, ApiPath::of(["storage-pools"])).await?;
    let projects = list(client, ApiPath::of(["projects"])).await?;
    let (mut volumes, mut profiles) = (Vec::new(), Vec::new());
    for project in &projects {
        let name = project.text("name");
        let has = |feature: &str| name == "default" || project.config(feature) == "true";
        if has("features.storage.volumes") {
            for pool in pools.iter().map(|pool| pool.text("name")) {
                let path = ApiPath::of(["storage-pools", pool, "volumes", "custom"]).query("project", name);
                volumes.extend(
                    list(client, path).await?.iter().filter_map(|volume| dumped_volume(volume, pool, name)),
                );
            }
        }
        if has("features.profiles") {
            let found = list(client, ApiPath::of(["profiles"]).query("project", name)).await?;
            profiles.extend(
                found
                    .iter()
                    .map(|profile| dumped(profile, &["config", "description", "devices", "name"], name)),
            );
        }
    }
    let all = |objects: &[Value], fields: &[&str]| {
        objects.iter().map(|object| dumped(object, fields, "default")).collect::<Vec<_>>()
    };
    Ok(json!({
        "config": server["config"].take(),
        "storage_pools": all(&pools, &["config", "description", "name", "driver"]),
        "storage_volumes": volumes,
        "profiles": profiles,
        "projects": all(&projects, &["config", "description", "name"]),
    }))
}

/// The objects of a list; none where the server has no such list.
async fn list(client: &Client, path: ApiPath) -> Result<Vec<Value>> {
    match client.get(&path.query("recursion", "1")).await {
        Ok(read) => Ok(read.metadata.as_array().cloned().unwrap_or_default()),
        Err(error) if error.is_not_found() || error.is_not_built() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The fields of an object that describe it, without what the server keeps there for itself.
fn dumped(object: &Value, fields: &[&str], project: &str) -> Value {
    let mut item = writable(object, fields);
    if let Some(config) = item.get_mut("config").and_then(Value::as_object_mut) {
        config.retain(|key, _| !key.starts_with("volatile."));
    }
    if project != "default" {
        item["project"] = json!(project);
    }
    item
}

fn dumped_volume(volume: &Value, pool: &str, project: &str) -> Option<Value> {
    // Lists have the snapshots of volumes too, as volume/snapshot.
    let is_volume = !volume.text("name").contains('/');
    let mut item = dumped(volume, &["config", "description", "name", "content_type"], project);
    item["pool"] = json!(pool);
    is_volume.then_some(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_leaves_out_what_is_the_servers_own() {
        let config = json!({"volatile.initial_source": "/x", "size": "1GiB"});
        let pool = json!({"name": "p", "driver": "dir", "used_by": [], "config": config});
        assert_eq!(
            dumped(&pool, &["config", "name"], "default"),
            json!({"name": "p", "config": {"size": "1GiB"}})
        );
        assert_eq!(dumped_volume(&json!({"name": "v/s"}), "p", "default"), None);
        let volume = dumped_volume(&json!({"name": "v", "content_type": "block"}), "p", "web").unwrap();
        assert_eq!(volume, json!({"name": "v", "content_type": "block", "pool": "p", "project": "web"}));
    }
}
