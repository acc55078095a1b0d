//! The preseed: what a server shall be, in one YAML document.
//!
//! Applying creates what is missing and changes what is there, in the order the sections depend on each
//! other. It never takes anything away. When a step fails, what was done before is undone.

use super::Context;
use crate::client::{ApiPath, Client};
use crate::failure::Told;
use crate::fields::{Fields, object_mut, settle_config, writable};
use crate::output::yaml;
use crate::terminal;
use anyhow::{Context as _, Result, bail};
use http::Method;
use serde_json::{Map, Value};

/// The fields of each kind of thing a PUT takes.
const FIELDS: &[&str] = &["config", "description"];
const PROFILE_FIELDS: &[&str] = super::profile::PROFILE_FIELDS;
/// Sections of other servers that mean something we don't have yet.
const LATER: &[&str] = &["networks", "cluster", "certificates", "cluster_groups"];

/// A preseed that was read and checked.
#[derive(Debug, Default)]
pub(crate) struct Preseed {
    config: Map<String, Value>,
    pools: Vec<Value>,
    volumes: Vec<Value>,
    profiles: Vec<Value>,
    projects: Vec<Value>,
}

impl Preseed {
    /// Reads a YAML text; everything is checked before anything is applied.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::read(yaml::read(text).context("the preseed is not YAML we can use")?)
    }

    /// Reads a document.
    pub(crate) fn read(mut document: Value) -> Result<Self> {
        settle_config(&mut document);
        let Value::Object(sections) = document else {
            return Err(Told::new(
                "a preseed is sections such as storage_pools:",
                "see one with: larder admin init --dump",
            )
            .into());
        };
        let mut preseed = Self::default();
        for (name, section) in sections {
            match name.as_str() {
                "config" => match section {
                    Value::Object(config) => preseed.config = config,
                    Value::Null => {}
                    _ => bail!("the section config: of the preseed is not `key: value` lines"),
                },
                "storage_pools" => preseed.pools = items(&name, section, &["name", "driver"])?,
                "storage_volumes" => preseed.volumes = items(&name, section, &["name", "pool"])?,
                "profiles" => preseed.profiles = items(&name, section, &["name"])?,
                "projects" => preseed.projects = items(&name, section, &["name"])?,
                later if LATER.contains(&later) => {
                    if !is_empty(&section) {
                        let message = format!(
                            "the preseed has a section {later}:, which this version doesn't know yet"
                        );
                        return Err(Told::new(message, "take it out: everything else can be applied").into());
                    }
                }
                _ => bail!("a preseed has no section {name:?}"),
            }
        }
        Ok(preseed)
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        let lists = [&self.pools, &self.volumes, &self.profiles, &self.projects];
        self.config.is_empty() && lists.into_iter().all(Vec::is_empty)
    }

    /// Makes the server what the preseed says, or leaves it as it was.
    pub(crate) async fn apply(&self, context: &Context, client: &Client) -> Result<()> {
        let mut work = Work { context, client, undo: Vec::new() };
        let Err(error) = self.apply_all(&mut work).await else { return Ok(()) };
        let told =
            if work.roll_back().await { "nothing was changed" } else { "not everything could be undone" };
        Err(error.context(told))
    }

    async fn apply_all(&self, work: &mut Work<'_>) -> Result<()> {
        if !self.config.is_empty() {
            work.configure(&self.config).await.context("can't set the server's configuration")?;
        }
        for pool in &self.pools {
            work.put(&pool_thing(pool)).await?;
        }
        // What is in a project needs the project first.
        let of_default = |item: &&Value| is_of_default_project(item);
        self.apply_inside(work, of_default).await?;
        for project in &self.projects {
            work.put(&Thing::new("project", project, ApiPath::of(["projects"]), FIELDS)).await?;
        }
        self.apply_inside(work, |item| !of_default(item)).await
    }

    async fn apply_inside(&self, work: &mut Work<'_>, chosen: impl Fn(&&Value) -> bool) -> Result<()> {
        for volume in self.volumes.iter().filter(&chosen) {
            let path = ApiPath::of(["storage-pools", volume.text("pool"), "volumes", "custom"]);
            work.put(&Thing::new("storage volume", volume, path, FIELDS)).await?;
        }
        for profile in self.profiles.iter().filter(&chosen) {
            work.put(&Thing::new("profile", profile, ApiPath::of(["profiles"]), PROFILE_FIELDS)).await?;
        }
        Ok(())
    }
}

fn pool_thing(pool: &Value) -> Thing<'_> {
    Thing { same: &["driver"], ..Thing::new("storage pool", pool, ApiPath::of(["storage-pools"]), FIELDS) }
}

fn is_empty(section: &Value) -> bool {
    match section {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn is_of_default_project(item: &Value) -> bool {
    matches!(item.text("project"), "" | "default")
}

/// The items of a section, each with the fields it needs.
fn items(section: &str, value: Value, needed: &[&str]) -> Result<Vec<Value>> {
    let items = match value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        _ => bail!("the section {section}: of the preseed is not a list"),
    };
    items.into_iter().enumerate().map(|(number, item)| checked(section, number, item, needed)).collect()
}

fn checked(section: &str, number: usize, mut item: Value, needed: &[&str]) -> Result<Value> {
    for field in needed {
        if item.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            bail!("item {} of {section}: in the preseed has no {field}", number + 1);
        }
    }
    settle_config(&mut item);
    Ok(item)
}

/// One thing a preseed describes.
#[derive(Debug)]
struct Thing<'a> {
    kind: &'static str,
    item: &'a Value,
    /// Where things of its kind are created.
    collection: ApiPath,
    /// What can be changed when it exists.
    fields: &'static [&'static str],
    /// What must be the same when it exists.
    same: &'static [&'static str],
}

impl<'a> Thing<'a> {
    fn new(
        kind: &'static str,
        item: &'a Value,
        collection: ApiPath,
        fields: &'static [&'static str],
    ) -> Self {
        Self { kind, item, collection, fields, same: &[] }
    }

    fn name(&self) -> &str {
        self.item.text("name")
    }

    fn in_project(&self, path: ApiPath) -> ApiPath {
        path.query_if("project", self.item["project"].as_str().filter(|project| !project.is_empty()))
    }

    fn path(&self) -> ApiPath {
        self.in_project(self.collection.clone().at(self.name()))
    }

    /// The body that creates it: what says where it belongs is in the path.
    fn creation(&self) -> Value {
        let mut body = self.item.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.remove("project");
            fields.remove("pool");
        }
        body
    }

    /// What it shall be, when it exists as `current`.
    fn merged(&self, current: &Value) -> Result<Value> {
        for field in self.same {
            if self.item[*field] != current[*field] {
                let (kind, name) = (self.kind, self.name());
                bail!(
                    "the {kind} {name:?} exists with the {field} {}, not {}",
                    current[*field],
                    self.item[*field]
                );
            }
        }
        let mut merged = writable(current, self.fields);
        for field in self.fields {
            match &self.item[*field] {
                Value::Null => {}
                Value::Object(entries) => object_mut(&mut merged, field)?.extend(entries.clone()),
                other => merged[*field] = other.clone(),
            }
        }
        Ok(merged)
    }
}

/// The server's configuration as it was, with the keys that were new made empty: the peers' servers keep a
/// key that a PUT doesn't name.
fn emptied(mut before: Value, new: &Map<String, Value>) -> Result<Value> {
    let config = object_mut(&mut before, "config")?;
    for key in new.keys() {
        config.entry(key).or_insert_with(|| Value::String(String::new()));
    }
    Ok(before)
}

/// How a step is undone.
#[derive(Debug)]
enum Undo {
    Delete(ApiPath),
    Restore(ApiPath, Value),
}

/// The steps done so far.
struct Work<'a> {
    context: &'a Context,
    client: &'a Client,
    undo: Vec<Undo>,
}

impl Work<'_> {
    async fn configure(&mut self, config: &Map<String, Value>) -> Result<()> {
        let path = ApiPath::root();
        let read = self.client.get(&path).await?;
        let before = writable(&read.metadata, &["config"]);
        let mut body = before.clone();
        object_mut(&mut body, "config")?.extend(config.clone());
        if body != before {
            self.context.replace(self.client, "Configuring the server", &path, &body, &read).await?;
            self.undo.push(Undo::Restore(path, emptied(before, config)?));
        }
        Ok(())
    }

    async fn put(&mut self, thing: &Thing<'_>) -> Result<()> {
        let told = || format!("can't apply the {} {:?} of the preseed", thing.kind, thing.name());
        self.create_or_change(thing).await.with_context(told)
    }

    async fn create_or_change(&mut self, thing: &Thing<'_>) -> Result<()> {
        let (context, client, path) = (self.context, self.client, thing.path());
        let doing = format!("Applying {}", thing.name());
        match client.get(&path).await {
            Ok(read) => {
                let before = writable(&read.metadata, thing.fields);
                let body = thing.merged(&read.metadata)?;
                if body != before {
                    context.replace(client, &doing, &path, &body, &read).await?;
                    self.undo.push(Undo::Restore(path, before));
                }
            }
            Err(error) if error.is_not_found() => {
                let collection = thing.in_project(thing.collection.clone());
                context.change(client, &doing, Method::POST, &collection, Some(thing.creation())).await?;
                self.undo.push(Undo::Delete(path));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Undoes the steps, the last one first; what can't be undone is told and left. Returns whether all was
    /// undone.
    async fn roll_back(&mut self) -> bool {
        let mut is_whole = true;
        for undo in self.undo.drain(..).rev() {
            let (method, path, body) = match undo {
                Undo::Delete(path) => (Method::DELETE, path, None),
                Undo::Restore(path, before) => (Method::PUT, path, Some(before)),
            };
            if let Err(error) = self.context.change(self.client, "Undoing", method, &path, body).await {
                let path = path.path();
                terminal::notice(&format!("Warning: {path} can't be brought back to what it was: {error:#}"));
                is_whole = false;
            }
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(text: &str) -> String {
        format!("{:#}", Preseed::parse(text).unwrap_err())
    }

    #[test]
    fn a_preseed_of_a_peer_is_read() {
        let text = "config:\n  images.remote_cache_expiry: 5\nnetworks: []\ncluster: null\n\
                    storage_pools:\n- name: fast\n  driver: dir\n  config: {rsync.compression: false}\n\
                    profiles:\n- name: default\n  devices:\n    \
                    root: {type: disk, path: /, pool: fast, size: 10}\n";
        let preseed = Preseed::parse(text).unwrap();
        assert_eq!(preseed.config["images.remote_cache_expiry"], "5");
        assert_eq!(preseed.pools[0].config("rsync.compression"), "false");
        assert_eq!(preseed.profiles[0]["devices"]["root"]["size"], "10");
        assert!(!preseed.is_empty());
        assert!(Preseed::parse("storage_pools:\nconfig: {}\n").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_applied_is_refused_before_anything_is() {
        assert!(refused("networks:\n- name: br0\n").contains("networks:"));
        assert!(
            refused("storage_pools:\n- name: a\n")
                .contains("item 1 of storage_pools: in the preseed has no driver")
        );
        assert!(refused("storage_volumes:\n- name: a\n  pool: ''\n").contains("no pool"));
        assert!(refused("storage_pools: yes\n").contains("not a list"));
        assert!(refused("pools: []\n").contains("\"pools\""));
        assert!(refused("just text").contains("sections"));
    }

    #[test]
    fn what_exists_keeps_what_the_preseed_does_not_name() {
        let item = json!({"name": "fast", "driver": "dir", "config": {"rsync.bwlimit": "5"}});
        let current = json!({"name": "fast", "driver": "dir", "description": "old", "status": "Created",
            "config": {"source": "/srv", "rsync.bwlimit": "1"}});
        let thing = pool_thing(&item);
        let expected = json!({"description": "old", "config": {"source": "/srv", "rsync.bwlimit": "5"}});
        assert_eq!(thing.merged(&current).unwrap(), expected);
        let other = json!({"driver": "btrfs"});
        let error = thing.merged(&other).unwrap_err().to_string();
        assert!(error.contains("\"btrfs\"") && error.contains("\"dir\""), "{error}");
    }

    #[test]
    fn undoing_empties_the_keys_that_were_new() {
        let Value::Object(new) = json!({"user.a": "2", "user.b": "1"}) else { unreachable!() };
        let undone = emptied(json!({"config": {"user.a": "1", "user.c": "3"}}), &new).unwrap();
        assert_eq!(undone, json!({"config": {"user.a": "1", "user.b": "", "user.c": "3"}}));
    }

    #[test]
    fn where_a_thing_belongs_is_in_its_path_and_not_in_its_body() {
        let item = json!({"name": "v 1", "pool": "fast", "project": "web", "config": {}});
        let path = ApiPath::of(["storage-pools", "fast", "volumes", "custom"]);
        let thing = Thing::new("storage volume", &item, path, FIELDS);
        assert_eq!(thing.path().render(None), "/1.0/storage-pools/fast/volumes/custom/v%201?project=web");
        assert_eq!(thing.creation(), json!({"name": "v 1", "config": {}}));
    }
}
