//! Instances: containers with a root volume, made from images or other instances.
//!
//! An instance and its root volume bear one name and are recorded together. What a crash leaves between the two is
//! settled from the volume's side at the next start: the volume's name, its snapshots and its absence count.

mod change;
mod create;
mod files;
mod image_volume;
mod live;
mod relocate;
mod root_keys;
mod root_size;
mod run;
mod shifted;
mod snapshots;
mod start;

pub use change::InstanceChange;
pub(super) use create::NewRoot;
pub use create::{InstanceSource, NewInstance};
pub use files::FilesInUse;
pub(super) use image_volume::{ROOTFS, TEMPLATES, check_root};
pub use relocate::InstanceTarget;
pub(super) use root_keys::RootKeys;
pub use run::{InstanceUsage, Stop};

use super::claim::{Claim, Claims};
use super::store::instances::Use;
use super::{Result, Service, ServiceError, Task, url};
use larder_base::{Fingerprint, InstanceName, ProjectName};
use larder_catalog::documents::{Instance, InstanceSnapshot, InstanceState, Profile};
use larder_catalog::{InstanceId, PoolId, VolumeId};
use larder_runtime::{
    Config, ContainerState, Containers, Devices, Expanded, HelperProgram, IdMap, ProfileLayer, RuntimeError,
    expand,
};
use larder_storage_driver::{StorageError, VolumeKind};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// What the use-cases of instances need.
#[derive(Debug)]
pub(super) struct Instances {
    containers: Containers,
    /// What each running instance has attached, to be detached when it stops.
    attached: Mutex<HashMap<InstanceId, Vec<start::Attachment>>>,
    /// How many sessions have the files of a root volume open.
    browsed: Mutex<HashMap<VolumeId, usize>>,
    /// Whether the filesystem of a pool can be mounted with mapped ids, where it is known.
    mappable: Mutex<HashMap<PoolId, bool>>,
    /// One change at a time of each.
    claims: Claims<InstanceId>,
    /// Held while one stops to start again, so that an ephemeral one is not taken for ended.
    restarting: Claims<InstanceId>,
    /// Held while an image is unpacked into a pool, so that it is unpacked once.
    unpacking: Claims<(PoolId, Fingerprint)>,
}

impl Instances {
    pub(super) fn new(run: &Path) -> Self {
        Self {
            containers: Containers::new(HelperProgram::this(), run.join("containers")),
            attached: Mutex::default(),
            browsed: Mutex::default(),
            mappable: Mutex::default(),
            claims: Claims::default(),
            restarting: Claims::default(),
            unpacking: Claims::default(),
        }
    }
}

/// An instance with all that applies to it.
#[derive(Debug, Clone)]
pub struct Described {
    /// What the catalog says.
    pub instance: Instance,
    /// Its own settings over its profiles'.
    pub expanded: Expanded,
    /// What it does.
    pub state: ContainerState,
}

/// An instance's URL.
pub fn instance_url(instance: &Instance) -> String {
    url(&["instances", &instance.name], &instance.project)
}

/// What an instance is called among all containers of this host.
fn runtime_name(instance: &Instance) -> String {
    match instance.project.is_default() {
        true => instance.name.clone(),
        false => format!("{}_{}", instance.project, instance.name),
    }
}

impl Service {
    /// An instance by name.
    pub fn instance(&self, project: &str, name: &str) -> Result<Instance> {
        let project = self.project(project)?.name;
        let found = self.store.instance(&project, name)?;
        found.ok_or_else(|| ServiceError::not_found(format!("instance {name:?}")))
    }

    /// The instances of a project, or of all, with what each does: asked for in one go.
    pub fn instances(&self, project: Option<&ProjectName>) -> Result<Vec<Described>> {
        let mut instances = self.store.all_instances()?;
        instances.retain(|instance| {
            instance.state != InstanceState::Creating
                && project.is_none_or(|project| instance.project == *project)
        });
        let names: Vec<String> = instances.iter().map(runtime_name).collect();
        let states =
            self.instances.containers.states(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let expanded = self.expanded_each(instances)?.into_iter();
        Ok(expanded
            .zip(states)
            .map(|((instance, expanded), state)| Described { instance, expanded, state })
            .collect())
    }

    /// Instances with what applies to them; the profiles of each project are read once.
    pub(in crate::service) fn expanded_each(
        &self,
        instances: Vec<Instance>,
    ) -> Result<Vec<(Instance, Expanded)>> {
        let (mut profiles, mut all) = (BTreeMap::new(), Vec::new());
        for instance in instances {
            if !profiles.contains_key(&instance.project) {
                let holder = self.profile_project(instance.project.as_str())?;
                profiles.insert(instance.project.clone(), self.profiles(&holder)?);
            }
            let expanded = expand_with(&instance, &profiles[&instance.project]);
            all.push((instance, expanded));
        }
        Ok(all)
    }

    /// One instance with all that applies to it.
    pub fn describe_instance(&self, instance: Instance) -> Result<Described> {
        let expanded = self.expanded(&instance)?;
        let state = self.instances.containers.state(&runtime_name(&instance))?;
        Ok(Described { instance, expanded, state })
    }

    /// An instance's own settings over its profiles'.
    pub(in crate::service) fn expanded(&self, instance: &Instance) -> Result<Expanded> {
        let holder = self.profile_project(instance.project.as_str())?;
        Ok(expand_with(instance, &self.profiles(&holder)?))
    }

    /// Waits until nobody else changes an instance, or the task is cancelled.
    fn claim_instance(&self, task: &Task, id: InstanceId) -> Result<Claim<'_, InstanceId>> {
        Ok(self.instances.claims.take_unless(id, &task.cancel).map_err(StorageError::from)?)
    }

    /// The claim on an instance, unless somebody changes it.
    pub(super) fn try_claim_instance(&self, id: InstanceId) -> Option<Claim<'_, InstanceId>> {
        self.instances.claims.try_take(id)
    }

    /// Waits until nobody else changes an instance, and reads it anew: with the claim it stays what it is. Fails when it went,
    /// moved, or got another name meanwhile.
    pub(super) fn alone_with_instance(
        &self,
        task: &Task,
        known: &Instance,
    ) -> Result<(Claim<'_, InstanceId>, Instance)> {
        let claim = self.claim_instance(task, known.id)?;
        let missing = || ServiceError::not_found(format!("instance {:?}", known.name));
        let now = self.store.instance_by_id(known.id)?.ok_or_else(missing)?;
        match (&now.project, &now.name, now.root, now.state)
            == (&known.project, &known.name, known.root, known.state)
        {
            true => Ok((claim, now)),
            false => Err(ServiceError::overtaken()),
        }
    }

    /// The profiles of an instance, in order.
    pub(super) fn profiles_of(&self, instance: &Instance) -> Result<Vec<larder_catalog::documents::Profile>> {
        let holder = self.profile_project(instance.project.as_str())?;
        instance.profiles.iter().map(|name| self.profile(&holder, name)).collect()
    }

    /// The custom volumes that devices name.
    fn volumes_used(&self, project: &ProjectName, devices: &Devices) -> Result<Vec<Use>> {
        let mut used = Vec::new();
        for (name, device) in devices {
            let get = |key: &str| device.get(key).map(String::as_str).filter(|value| !value.is_empty());
            let (Some(pool), Some(source)) = (get("pool"), get("source")) else { continue };
            let record = self.custom_volume(project, pool, source, name)?;
            used.push(Use::volume(record.volume.id));
        }
        Ok(used)
    }

    fn custom_volume(
        &self,
        project: &ProjectName,
        pool: &str,
        source: &str,
        device: &str,
    ) -> Result<super::VolumeRecord> {
        let pool = self.pool_document(pool)?;
        let holder = self.volume_project(project.as_str())?;
        let name = source.strip_prefix("custom/").unwrap_or(source);
        let found = self.store.volume(&pool, &holder, VolumeKind::Custom.as_str(), name)?;
        let missing = || {
            ServiceError::bad(format!(
                "device {device:?}: there is no custom volume {name:?} on the pool {:?}: create it first",
                pool.name
            ))
        };
        let record = found.ok_or_else(missing)?;
        if record.volume.content != "filesystem" {
            let message = format!(
                "device {device:?}: the volume {name:?} is a {} volume; only filesystem volumes go into a container",
                record.volume.content
            );
            return Err(ServiceError::bad(message));
        }
        Ok(record)
    }

    /// Checks settings with all that applies: keys, devices, a root disk, and that what devices name is there.
    /// Returns what the instance uses.
    pub(in crate::service) fn check_settings(
        &self,
        instance: &Instance,
        expanded: &Expanded,
    ) -> Result<Vec<Use>> {
        let own = (&instance.config, &instance.devices);
        larder_runtime::check_config(own.0).map_err(|error| ServiceError::bad(error.to_string()))?;
        larder_runtime::check_devices(own.1).map_err(|error| ServiceError::bad(error.to_string()))?;
        larder_runtime::check_devices(&expanded.devices)
            .map_err(|error| ServiceError::bad(error.to_string()))?;
        super::schedule::Schedule::of_instance(own.0)?;
        super::lifetime::check(own.0)?;
        root_device(expanded)?;
        self.uses(instance, expanded)
    }

    /// The profiles and custom volumes that an instance uses.
    fn uses(&self, instance: &Instance, expanded: &Expanded) -> Result<Vec<Use>> {
        let active: Devices =
            expanded.active_devices().map(|(name, device)| (name.to_owned(), device.clone())).collect();
        let mut uses = self.volumes_used(&instance.project, &active)?;
        let holder = self.profile_project(instance.project.as_str())?;
        for name in &instance.profiles {
            uses.push(Use::profile(&self.profile(&holder, name)?));
        }
        Ok(uses)
    }

    /// Settles what a crash left between instances and their volumes, and picks up what runs.
    pub(super) fn reconcile_instances(&self) -> Result<()> {
        self.settle_instances(&self.store.all_instances()?)
    }

    fn settle_instances(&self, instances: &[Instance]) -> Result<()> {
        let mut noted = self.store.used_by_each()?;
        for instance in instances {
            let uses = noted.remove(&instance.id.to_string()).unwrap_or_default();
            let outcome = self.settle_instance(instance).and_then(|()| self.settle_uses(instance, &uses));
            if let Err(error) = outcome {
                tracing::error!(instance = instance.name, %error, "an instance could not be settled");
            }
        }
        Ok(())
    }

    /// Settles those of some instances, which the caller has claimed, that `is_meant` picks as they are now.
    pub(super) fn settle_left(&self, instances: &[InstanceId], is_meant: impl Fn(&Instance) -> bool) {
        for id in instances {
            let settled = match self.store.instance_by_id(*id) {
                Ok(Some(instance)) if is_meant(&instance) => self.settle_one(instance),
                other => other.map(drop),
            };
            if let Err(error) = settled {
                tracing::error!(instance = %id, %error, "an instance could not be settled");
            }
        }
    }

    fn settle_one(&self, instance: Instance) -> Result<()> {
        match self.store.root_of(&instance)? {
            // It has what it needs already.
            Some(root) if self.runs(&instance)? => self.settle_instance_snapshots(&instance, &root),
            _ => self.settle_instances(&[instance]),
        }
    }

    /// What an instance uses is what applies to it: a profile may have changed when the run ended.
    fn settle_uses(&self, instance: &Instance, noted: &BTreeSet<String>) -> Result<()> {
        match self.store.instance_by_id(instance.id)? {
            Some(current) if current.state == InstanceState::Ready => {
                let uses = self.uses_of(&current)?;
                self.store.settle_uses(&current, &uses, noted, &instance_url(&current))
            }
            _ => Ok(()),
        }
    }

    /// An instance's own settings over its profiles', one of which is replaced.
    pub(in crate::service) fn expanded_with(
        &self,
        instance: &Instance,
        profile: &Profile,
    ) -> Result<Expanded> {
        let holder = self.profile_project(instance.project.as_str())?;
        let mut profiles = self.profiles(&holder)?;
        for known in profiles.iter_mut().filter(|known| known.id == profile.id) {
            known.clone_from(profile);
        }
        Ok(expand_with(instance, &profiles))
    }

    fn settle_instance(&self, instance: &Instance) -> Result<()> {
        let root = self.store.root_of(instance)?;
        match (instance.state, root) {
            (InstanceState::Creating, None) => self.store.forget_instance(instance, &[], None),
            (InstanceState::Deleting, None) => {
                let uses = self.uses_of(instance).unwrap_or_default();
                self.store.forget_instance(instance, &uses, None)?;
                self.forget_traces(instance)
            }
            (InstanceState::Creating, Some(root)) => self.finish_creation(instance, &root),
            (InstanceState::Deleting, Some(_)) => self.finish_deletion(instance),
            (InstanceState::Ready, None) => {
                let message = format!("the root volume of instance {} is gone", instance.name);
                self.warnings().note(
                    super::WarningType::Missing,
                    instance.project.as_str(),
                    &instance_url(instance),
                    &message,
                )
            }
            (InstanceState::Ready, Some(root)) => {
                let mut instance = instance.clone();
                if (&root.volume.name, &root.volume.project) != (&instance.name, &instance.project) {
                    let task = Task::quiet(super::Requestor::default());
                    let pool = self.store.pool_by_id(root.volume.pool)?.name;
                    let moved = self.follow_root(&task, &instance, &pool)?;
                    self.move_logs(&instance, &moved);
                    instance = moved;
                }
                self.settle_instance_snapshots(&instance, &root)?;
                self.pick_up(&instance)
            }
        }
    }
}

fn expand_with(instance: &Instance, profiles: &[larder_catalog::documents::Profile]) -> Expanded {
    let named =
        instance.profiles.iter().filter_map(|name| profiles.iter().find(|profile| profile.name == *name));
    let layers: Vec<_> =
        named.map(|profile| ProfileLayer { config: &profile.config, devices: &profile.devices }).collect();
    expand(&layers, ProfileLayer { config: &instance.config, devices: &instance.devices })
}

/// The root disk, with its name.
pub(super) fn root_disk(expanded: &Expanded) -> Result<(&str, &Config)> {
    let is_root = |device: &Config| {
        device.get("type").is_some_and(|kind| kind == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    };
    let root = expanded.active_devices().find(|(_, device)| is_root(device));
    root.ok_or_else(|| {
        ServiceError::bad(
            "the instance has no root disk: give it a device of type disk with path / and a pool, or the profile default",
        )
    })
}

/// The pool and size of the root disk.
fn root_device(expanded: &Expanded) -> Result<(&str, Option<&str>)> {
    let (name, device) = root_disk(expanded)?;
    let pool = device.get("pool").map(String::as_str).filter(|pool| !pool.is_empty());
    let pool = pool.ok_or_else(|| {
        ServiceError::bad(format!("the root disk {name:?} names no pool: set its key pool"))
    })?;
    Ok((pool, device.get("size").map(String::as_str)))
}

/// The pool of the root disk.
pub(super) fn root_pool(expanded: &Expanded) -> Result<String> {
    root_device(expanded).map(|(pool, _)| pool.to_owned())
}

/// What belongs to one instance and is never copied to another.
fn is_own_key(key: &str) -> bool {
    key.starts_with("volatile.") && key != "volatile.base_image"
}

fn checked_name(name: &str) -> Result<InstanceName> {
    Ok(name.parse::<InstanceName>()?)
}

fn id_map() -> Result<IdMap> {
    IdMap::of_this_machine().map_err(|error| ServiceError {
        kind: super::Kind::Unavailable,
        message: super::store::chain(&error),
    })
}

impl From<RuntimeError> for ServiceError {
    fn from(error: RuntimeError) -> Self {
        let kind = match &error {
            RuntimeError::LibraryMissing | RuntimeError::LibraryUnusable(_) => super::Kind::Unavailable,
            RuntimeError::InvalidValue { .. }
            | RuntimeError::AlreadyRunning(_)
            | RuntimeError::NotRunning(_)
            | RuntimeError::Refused { .. }
            | RuntimeError::ShutdownTimedOut { .. }
            | RuntimeError::Cancelled => super::Kind::BadRequest,
            _ => super::Kind::Internal,
        };
        Self { kind, message: super::store::chain(&error) }
    }
}

/// A snapshot of an instance with what applied to it then.
#[derive(Debug, Clone)]
pub struct DescribedSnapshot {
    /// What the catalog says.
    pub snapshot: InstanceSnapshot,
    /// The settings then, over the profiles' of today.
    pub expanded: Expanded,
}
