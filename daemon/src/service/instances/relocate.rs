//! Moving an instance: to another name, project or pool, or its copy's content to where the source is now.
//!
//! The root volume goes first, the instance follows it: in the same transaction when the pool changes, in the next one
//! otherwise.

use super::change::InstanceChange;
use super::{checked_name, instance_url, root_device, root_disk, runtime_name};
use crate::service::store::cause_of;
use crate::service::store::instances::ChangedInstance;
use crate::service::volumes::size_of;
use crate::service::{OpenPool, Result, Service, ServiceError, Task, VolumeRecord, VolumeSource};
use larder_base::{InstanceName, ProjectName};
use larder_catalog::documents::{Instance, Volume, VolumeState};
use larder_images::Trigger;
use larder_runtime::{Config, Devices, Expanded};
use larder_storage_driver::{VolumeId, VolumeSpec};

/// Where an instance goes.
#[derive(Debug, Clone)]
pub struct InstanceTarget {
    /// Its project.
    pub project: String,
    /// Its name there.
    pub name: String,
    /// Its pool; the same when nothing is said.
    pub pool: Option<String>,
    /// Keys it has then; what is not named stays.
    pub config: Option<Config>,
    /// Devices it has then; what is not named stays.
    pub devices: Option<Devices>,
    /// Its profiles then, in order.
    pub profiles: Option<Vec<String>>,
}

/// A move of which all is checked.
struct Checked {
    name: InstanceName,
    project: ProjectName,
    root: VolumeRecord,
    from: OpenPool,
    to: OpenPool,
}

impl Service {
    /// Moves a stopped instance with its snapshots to another name, project or pool. All or nothing; keys, devices and
    /// profiles are changed after that.
    pub fn move_instance(&self, task: &Task, instance: &Instance, target: &InstanceTarget) -> Result<()> {
        let moved = self.relocate(task, instance, target)?;
        match self.change_on_the_way(&moved, target)? {
            Some(change) => self.update_instance(task, &moved, change),
            None => Ok(()),
        }
    }

    /// The settings that an instance gets with its move; none when it keeps its own.
    fn change_on_the_way(&self, moved: &Instance, target: &InstanceTarget) -> Result<Option<InstanceChange>> {
        let InstanceTarget { config, devices, profiles, .. } = target;
        if config.is_none() && devices.is_none() && profiles.is_none() {
            return Ok(None);
        }
        let mut change = InstanceChange {
            description: moved.description.clone(),
            config: moved.config.clone(),
            devices: moved.devices.clone(),
            profiles: profiles.clone().unwrap_or_else(|| moved.profiles.clone()),
            ephemeral: moved.ephemeral,
        };
        change.config.extend(config.clone().unwrap_or_default());
        let expanded = self.expanded(moved)?;
        let (pool, _) = root_device(&expanded)?;
        for (name, device) in devices.iter().flatten() {
            let mut device = device.clone();
            // The root's pool is the one it was moved to, whatever the client remembers.
            if device.get("path").is_some_and(|path| path == "/") {
                device.insert("pool".to_owned(), pool.to_owned());
            }
            change.devices.insert(name.clone(), device);
        }
        Ok(Some(change))
    }

    fn relocate(&self, task: &Task, known: &Instance, target: &InstanceTarget) -> Result<Instance> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        let checked = self.check_move(instance, target)?;
        self.detach_all(task, instance);
        let Checked { name, project, root, from, to } = &checked;
        if from.document.id == to.document.id {
            self.rename_volume(task, from, root, project, &name.as_str().parse()?)?;
            let moved = self.follow_root(task, instance, &to.document.name)?;
            return self.after_move(task, instance, moved, to);
        }
        let old = &root.volume;
        let config = self.keys_of_copy(to, old, root_disk(&self.expanded(instance)?)?.1)?;
        let volume = Volume {
            id: larder_catalog::VolumeId::random(),
            pool: to.document.id,
            project: project.clone(),
            name: name.to_string(),
            state: VolumeState::Creating,
            takes_over: Some(old.id),
            config: config.clone(),
            ..old.clone()
        };
        let id = VolumeId { project: project.clone(), name: name.as_str().parse()?, ..root.storage_id()? };
        let spec = VolumeSpec { id, size: size_of(&config)?, config };
        let source =
            VolumeSource { pool: from.clone(), record: root.clone(), snapshot: None, with_snapshots: true };
        self.move_to(task, to, &source, &volume, &spec)?;
        let moved = self.store.instance_by_id(instance.id)?;
        let moved = moved
            .ok_or_else(|| ServiceError::internal(format!("the instance {:?} went away", instance.name)))?;
        self.after_move(task, instance, moved, to)
    }

    fn check_move(&self, instance: &Instance, target: &InstanceTarget) -> Result<Checked> {
        let name = checked_name(&target.name)?;
        let project = self.project(&target.project)?.name;
        let is_renamed = name.as_str() != instance.name || project != instance.project;
        if is_renamed && self.store.instance(&project, name.as_str())?.is_some() {
            return Err(ServiceError::taken(format!("the instance {:?}", name.as_str())));
        }
        self.must_be_stopped(instance, "moved")?;
        let root = self.root_volume(instance)?;
        let from = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        let to = target.pool.as_deref().map_or_else(|| Ok(from.clone()), |pool| self.open_pool(pool))?;
        if !is_renamed && from.document.id == to.document.id {
            return Err(ServiceError::bad(format!(
                "the instance {:?} is there already: give another name, pool or project",
                instance.name
            )));
        }
        let volume = Volume { name: name.to_string(), project: project.clone(), ..root.volume.clone() };
        let planned = self.instance_on(instance, &volume, &to.document.name)?;
        let expanded = self.expanded(&planned)?;
        self.check_settings(&planned, &expanded)?;
        if let Some(change) = self.change_on_the_way(&planned, target)? {
            self.planned_change(&planned, change)?;
        }
        Ok(Checked { name, project, root, from, to })
    }

    /// The instance whose root volume this is or becomes: named after it, in its project, on its pool.
    pub(in crate::service) fn instance_on(
        &self,
        instance: &Instance,
        root: &Volume,
        pool: &str,
    ) -> Result<Instance> {
        let moved = Instance {
            name: root.name.clone(),
            project: root.project.clone(),
            root: Some(root.id),
            ..instance.clone()
        };
        let before = self.expanded(instance)?;
        self.rooted_on(moved, &before, pool)
    }

    /// The same instance with its root on a pool: by a device of its own, unless that is so already. `before` says what
    /// its root disk was.
    pub(in crate::service) fn rooted_on(
        &self,
        mut instance: Instance,
        before: &Expanded,
        pool: &str,
    ) -> Result<Instance> {
        let there = self.expanded(&instance)?;
        if root_device(&there).is_ok_and(|(known, _)| known == pool) {
            return Ok(instance);
        }
        let is_root = |device: &Config| device.get("path").is_some_and(|path| path == "/");
        let device = before.active_devices().find(|(_, device)| is_root(device));
        let (name, mut device) = device.map_or_else(
            || ("root".to_owned(), Config::from([("type".to_owned(), "disk".to_owned())])),
            |(name, device)| (name.to_owned(), device.clone()),
        );
        device.insert("path".to_owned(), "/".to_owned());
        device.insert("pool".to_owned(), pool.to_owned());
        instance.devices.insert(name, device);
        Ok(instance)
    }

    /// An instance before and after a change, with what it uses.
    pub(in crate::service) fn changed_instance(
        &self,
        old: &Instance,
        new: Instance,
    ) -> Result<ChangedInstance> {
        // Where it was may be gone; nothing is used there then.
        let old_uses = self.uses_of(old).unwrap_or_default();
        let (uses, url) = (self.uses_of(&new)?, instance_url(&new));
        Ok(ChangedInstance { old: old.clone(), new, old_uses, uses, url })
    }

    /// Gives an instance the name and project that its root volume has.
    pub(super) fn follow_root(&self, task: &Task, instance: &Instance, pool: &str) -> Result<Instance> {
        let root = self.root_volume(instance)?;
        // One of its profiles may get another name meanwhile: the instance follows its root all the same.
        loop {
            let now = self.store.instance_by_id(instance.id)?;
            let now = now.ok_or_else(ServiceError::overtaken)?;
            let moved = self.instance_on(&now, &root.volume, pool)?;
            let mut cause = cause_of(task, "instance-renamed", &instance_url(&moved), &moved.project);
            cause.context = serde_json::json!({ "old_name": now.name });
            match self.store.rename_instance(&self.changed_instance(&now, moved.clone())?, Some(cause)) {
                Err(error) if error == ServiceError::overtaken() => {}
                other => return other.map(|()| moved),
            }
        }
    }

    fn after_move(&self, task: &Task, old: &Instance, moved: Instance, pool: &OpenPool) -> Result<Instance> {
        if runtime_name(old) != runtime_name(&moved) {
            self.instances.containers.forget(&runtime_name(old))?;
            self.move_logs(old, &moved);
        }
        if old.name != moved.name {
            let id = self.root_volume(&moved)?.storage_id()?;
            self.render_root(task, pool, &moved, &id, Trigger::Rename)?;
        }
        Ok(moved)
    }

    /// Lets an instance keep its logs under another name.
    pub(super) fn move_logs(&self, old: &Instance, moved: &Instance) {
        match std::fs::rename(self.log_folder(old), self.log_folder(moved)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(instance = moved.name, %error, "its logs stay under the name it had");
            }
            _ => {}
        }
    }

    /// Brings a stopped instance up to date with another: its root, and its snapshots unless they stay behind. Its
    /// settings stay.
    pub fn refresh_instance(
        &self,
        task: &Task,
        known: &Instance,
        other: &Instance,
        instance_only: bool,
        excludes_older: bool,
    ) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        self.must_be_stopped(instance, "refreshed")?;
        self.detach_all(task, instance);
        let pool_of = |root: &VolumeRecord| self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name);
        let (root, record) = (self.root_volume(instance)?, self.root_volume(other)?);
        let pool = pool_of(&root)?;
        let source =
            VolumeSource { pool: pool_of(&record)?, record, snapshot: None, with_snapshots: !instance_only };
        self.refresh_volume(task, &pool, &root, &source, excludes_older)?;
        self.adopt_new_snapshots(instance, other)?;
        self.render_root(task, &pool, instance, &root.storage_id()?, Trigger::Copy)?;
        self.note_quietly(instance, task, "instance-updated", |_| ()).map(drop)
    }

    /// The snapshots that came over from another instance become this one's, and those whose volume's went are forgotten.
    fn adopt_new_snapshots(&self, instance: &Instance, other: &Instance) -> Result<()> {
        let root = self.root_volume(instance)?;
        let on_volume = self.store.snapshots_of(&root.volume)?;
        let known = self.store.instance_snapshots_of(instance)?;
        for theirs in self.store.instance_snapshots_of(other)? {
            let ours = known.iter().find(|ours| ours.name == theirs.name);
            let is_there = on_volume.iter().any(|snapshot| snapshot.name == theirs.name);
            if !is_there || ours.is_some_and(|ours| ours.created_at == theirs.created_at) {
                continue;
            }
            if let Some(ours) = ours {
                self.store.forget_instance_snapshot(ours, None)?;
            }
            self.adopt_instance_snapshot(instance, &theirs)?;
        }
        self.settle_instance_snapshots(instance, &root)
    }
}
