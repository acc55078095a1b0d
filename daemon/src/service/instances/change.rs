//! Changing, renaming and deleting instances.

use super::root_keys::must_be_kept;
use super::{instance_url, root_device, runtime_name};
use crate::service::store::cause_of;
use crate::service::store::instances::Use;
use crate::service::{Result, Service, ServiceError, Task, VolumeRecord};
use larder_catalog::documents::{Instance, InstanceState};
use larder_runtime::{Config, Devices, Expanded};

/// The new settings of an instance, all of them.
#[derive(Debug, Clone)]
pub struct InstanceChange {
    /// For people.
    pub description: String,
    /// Its own keys.
    pub config: Config,
    /// Its own devices.
    pub devices: Devices,
    /// Its profiles, in order.
    pub profiles: Vec<String>,
    /// Whether it goes when it stops.
    pub ephemeral: bool,
}

/// A change of an instance of which all is checked.
pub(super) struct Planned {
    changed: Instance,
    before: Expanded,
    after: Expanded,
    uses: Vec<Use>,
}

impl Service {
    /// What an instance uses.
    pub(super) fn uses_of(&self, instance: &Instance) -> Result<Vec<Use>> {
        let expanded = self.expanded(instance)?;
        self.uses(instance, &expanded)
    }

    /// Changes an instance's settings. Disks and limits reach a running container at once, the rest at its next start.
    pub fn update_instance(&self, task: &Task, known: &Instance, change: InstanceChange) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        if !has_same_settings(instance, known) {
            return Err(ServiceError::overtaken());
        }
        let planned = self.planned_change(instance, change);
        let planned = planned.and_then(|planned| Ok((planned, self.uses_of(instance)?)));
        let (Planned { changed, before, after, uses }, old) = match planned {
            // A profile that is not found may have got another name since: the instance has it already.
            Err(_) if self.store.instance_by_id(instance.id)?.as_ref() != Some(instance) => {
                return Err(ServiceError::overtaken());
            }
            planned => planned?,
        };
        let url = instance_url(instance);
        let commit = || {
            // It may be refused. What is interrupted between the two is put right by the next start.
            self.resize_root(task, instance, (&before, &after))?;
            let cause = cause_of(task, "instance-updated", &url, &instance.project);
            self.store.change_instance(instance, &changed, &old, &uses, &url, Some(cause))
        };
        match self.runs(instance)? {
            true => self.change_running(task, &changed, (&before, &after), commit),
            false => commit(),
        }
    }

    /// Checks a change whole.
    pub(super) fn planned_change(&self, instance: &Instance, change: InstanceChange) -> Result<Planned> {
        let mut config = change.config;
        config.retain(|_, value| !value.is_empty());
        for (key, value) in instance.config.iter().filter(|(key, _)| key.starts_with("volatile.")) {
            config.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let holder = self.profile_project(instance.project.as_str())?;
        for name in &change.profiles {
            self.profile(&holder, name)?;
        }
        let changed = Instance {
            description: change.description,
            config,
            devices: change.devices,
            profiles: change.profiles,
            ephemeral: change.ephemeral,
            ..instance.clone()
        };
        let (before, after) = (self.expanded(instance)?, self.expanded(&changed)?);
        let uses = self.check_settings(&changed, &after)?;
        for (name, device) in &changed.devices {
            must_be_kept(name, before.devices.get(name), device)?;
        }
        if root_device(&before)?.0 != root_device(&after)?.0 {
            return Err(ServiceError::bad(
                "the pool of the root disk can't be changed: move the instance to the other pool",
            ));
        }
        Ok(Planned { changed, before, after, uses })
    }

    pub(in crate::service) fn must_be_stopped(&self, instance: &Instance, what: &str) -> Result<()> {
        match self.runs(instance)? {
            false => Ok(()),
            true => Err(ServiceError::bad(format!(
                "the instance {:?} is running: stop it before it is {what}",
                instance.name
            ))),
        }
    }

    /// Deletes a stopped instance with its snapshots.
    pub fn delete_instance(&self, task: &Task, known: &Instance) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        self.must_be_stopped(instance, "deleted")?;
        self.detach_all(task, instance);
        let leaving = Instance { state: InstanceState::Deleting, ..instance.clone() };
        let (url, uses) = (instance_url(instance), self.uses_of(instance).unwrap_or_default());
        self.store.change_instance(instance, &leaving, &uses, &uses, &url, None)?;
        let removed = self.remove_root(task, &leaving);
        if removed.is_err()
            && let Some(root) = self.store.root_of(&leaving)?
        {
            // What could not be undone either is settled by the next start; else nothing happened.
            if !self.is_under_way(task, &root)? {
                let is_back = |now: &mut Instance| now.state = instance.state;
                self.store.note_in_instance(instance.id, is_back, None)?;
            }
            return removed;
        }
        let cause = cause_of(task, "instance-deleted", &url, &instance.project);
        self.store.forget_instance(&leaving, &uses, Some(cause))?;
        self.forget_traces(&leaving)?;
        removed
    }

    /// Whether what this task began with a volume is neither done nor undone.
    fn is_under_way(&self, task: &Task, record: &VolumeRecord) -> Result<bool> {
        let intents = self.store.intents_in(&self.store.pool_by_id(record.volume.pool)?)?;
        let ticket = self.ticket(task);
        Ok(intents.iter().any(|intent| intent.ticket == ticket && intent.volume == record.volume.id))
    }

    /// A deletion that the end of a run interrupted.
    pub(super) fn finish_deletion(&self, instance: &Instance) -> Result<()> {
        let uses = self.uses_of(instance).unwrap_or_default();
        self.remove_root(&Task::quiet(crate::service::Requestor::default()), instance)?;
        self.store.forget_instance(instance, &uses, None)?;
        self.forget_traces(instance)
    }

    fn remove_root(&self, task: &Task, instance: &Instance) -> Result<()> {
        let Some(root) = self.store.root_of(instance)? else { return Ok(()) };
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        self.delete_volume(task, &pool, &root)
    }

    pub(super) fn forget_traces(&self, instance: &Instance) -> Result<()> {
        self.instances.containers.forget(&runtime_name(instance))?;
        match std::fs::remove_dir_all(self.log_folder(instance)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Whether nothing but what the daemon notes has changed.
fn has_same_settings(one: &Instance, other: &Instance) -> bool {
    let own = |instance: &Instance| -> Config {
        let keys = instance.config.iter().filter(|(key, _)| !key.starts_with("volatile."));
        keys.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let rest =
        |instance: &Instance| Instance { config: own(instance), last_used_at: None, ..instance.clone() };
    rest(one) == rest(other)
}
