//! New instances: from an image here or on a server, from another instance or one of its snapshots.

use super::image_volume::ROOTFS;
use super::root_keys::RootKeys;
use super::{checked_name, instance_url, is_own_key, root_device, root_disk};
use crate::service::copies::leave_behind;
use crate::service::crash::{Point, point};
use crate::service::store::cause_of;
use crate::service::volumes::size_of;
use crate::service::{NewImage, OpenPool, RemoteImage, Result, Service, ServiceError, Task, VolumeRecord};
use larder_base::{ProjectName, SnapshotName};
use larder_catalog::documents::{
    Image, Instance, InstanceSnapshot, InstanceState, Snapshot, Volume, VolumeState,
};
use larder_images::{
    ImageFiles, ImageMetadata, InstanceFacts, TemplateRun, TemplateValues, Trigger, local_architecture,
};
use larder_runtime::{Config, Devices};
use larder_storage_driver::{Content, ErrorKind, Mode, Need, StorageError, VolumeId, VolumeKind, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource};
use std::path::Path;

/// What an instance is made of.
#[derive(Debug, Clone)]
pub enum InstanceSource {
    /// An image that is here, by alias or fingerprint.
    Image(String),
    /// An image on a server, which is cached here.
    Remote(RemoteImage),
    /// Another instance, or one of its snapshots.
    Copy {
        /// The project it is in.
        project: String,
        /// Its name.
        name: String,
        /// One of its snapshots.
        snapshot: Option<String>,
        /// Whether its snapshots stay behind.
        instance_only: bool,
        /// Whether an instance of the new name, if there is one, is brought up to date instead.
        refresh: bool,
        /// Whether snapshots older than the newest of that one stay behind.
        excludes_older: bool,
    },
    /// Nothing: an empty root.
    Nothing,
}

/// What a new instance shall be.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Its project.
    pub project: String,
    /// Its name; made up when empty.
    pub name: String,
    /// For people.
    pub description: String,
    /// Its own keys.
    pub config: Config,
    /// Its own devices.
    pub devices: Devices,
    /// Its profiles, in order; the image's or `default` when nothing is said.
    pub profiles: Option<Vec<String>>,
    /// Whether it goes when it stops.
    pub ephemeral: bool,
}

/// What a new root comes with.
#[derive(Debug)]
pub(in crate::service) struct NewRoot<'a> {
    /// Its keys, its size among them.
    pub config: Config,
    /// On which occasion the image's templates are rendered into it, if they are.
    pub trigger: Option<Trigger>,
    /// The snapshots that come along, oldest first.
    pub companions: &'a [Snapshot],
}

/// What the root is filled from.
enum Origin {
    /// An image: its files, and its volume where the root is a copy of that.
    Image { files: ImageFiles, volume: Option<VolumeRecord> },
    /// Another root, or a snapshot of it.
    Root { pool: OpenPool, record: VolumeRecord, snapshot: Option<SnapshotName> },
}

impl Service {
    /// A name that no instance of the project has.
    pub fn free_instance_name(&self, project: &ProjectName) -> Result<String> {
        loop {
            let name = format!("instance-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
            if self.store.instance(project, &name)?.is_none() {
                return Ok(name);
            }
        }
    }

    /// Makes an instance. All or nothing.
    pub fn create_instance(
        &self,
        task: &Task,
        new: &NewInstance,
        source: &InstanceSource,
    ) -> Result<Instance> {
        let project = self.project(&new.project)?.name;
        checked_name(&new.name)?;
        if let Some(known) = self.store.instance(&project, &new.name)? {
            return self.refresh_known(task, known, source);
        }
        match source {
            InstanceSource::Image(name) => {
                let image = self.image_by_name(&self.image_project(&new.project)?, name)?;
                self.create_from_image(task, project, new, &image)
            }
            InstanceSource::Remote(remote) => {
                let image = self.cached_image(task, &new.project, remote)?;
                self.create_from_image(task, project, new, &image)
            }
            InstanceSource::Copy { project: from, name, snapshot, instance_only, .. } => {
                let other = self.instance(from, name)?;
                self.create_from_instance(task, project, new, &other, snapshot.as_deref(), *instance_only)
            }
            InstanceSource::Nothing => {
                Err(ServiceError::not_implemented("making an instance without an image"))
            }
        }
    }

    /// An instance of the new name is there: it is brought up to date where that was asked for.
    fn refresh_known(&self, task: &Task, known: Instance, source: &InstanceSource) -> Result<Instance> {
        let InstanceSource::Copy { project, name, snapshot, instance_only, refresh: true, excludes_older } =
            source
        else {
            return Err(ServiceError::taken(format!("the instance {:?}", known.name)));
        };
        if let Some(snapshot) = snapshot {
            return Err(ServiceError::bad(format!(
                "{:?} can't be refreshed from the snapshot {snapshot}: give the instance itself as the source",
                known.name
            )));
        }
        let other = self.instance(project, name)?;
        self.refresh_instance(task, &known, &other, *instance_only, *excludes_older)?;
        Ok(known)
    }

    /// The image a server offers, from the cache where it is known.
    fn cached_image(&self, task: &Task, project: &str, remote: &RemoteImage) -> Result<Image> {
        let new = NewImage {
            project: self.image_project(project)?,
            filename: String::new(),
            public: false,
            auto_update: self.updates_cached_images()?,
            cached: true,
            properties: Config::new(),
            expires_at: None,
            profiles: None,
            aliases: Vec::new(),
            update_source: None,
        };
        Ok(self.fetch_image(task, remote, &new)?.0)
    }

    fn create_from_image(
        &self,
        task: &Task,
        project: ProjectName,
        new: &NewInstance,
        image: &Image,
    ) -> Result<Instance> {
        if image.architecture != local_architecture() {
            let message = format!(
                "the image {} is for {}, and this machine is {}",
                image.fingerprint.short(),
                image.architecture,
                local_architecture()
            );
            return Err(ServiceError::bad(message));
        }
        let mut config: Config =
            image.properties.iter().map(|(key, value)| (format!("image.{key}"), value.clone())).collect();
        config.insert("volatile.base_image".to_owned(), image.fingerprint.to_string());
        config.extend(new.config.clone());
        let profiles = new
            .profiles
            .clone()
            .or_else(|| image.profiles.clone())
            .unwrap_or_else(|| vec!["default".to_owned()]);
        let instance = self.planned(project, new, config, new.devices.clone(), profiles)?;
        let expanded = self.expanded(&instance)?;
        self.check_settings(&instance, &expanded)?;
        let pool = self.open_pool(root_device(&expanded)?.0)?;
        let keys = RootKeys::on(&pool);
        let config = keys.of_new(root_disk(&expanded)?.1)?;
        size_of(&config)?;
        if image.kind != "container" {
            return Err(ServiceError::not_implemented("instances from virtual machine images"));
        }
        // One that is made in another way than the pool's others is unpacked for itself.
        let volume = match keys.can_become(&keys.of_image(), &config) {
            true => Some(self.image_volume(task, &pool, image)?),
            false => None,
        };
        let origin = Origin::Image { files: self.image_paths(image)?, volume };
        self.image_is_used(image)?;
        let root = NewRoot { config, trigger: Some(Trigger::Create), companions: &[] };
        self.create_root(task, &pool, instance, root, |spec| self.fill_root(task, &pool, spec, &[], &origin))
    }

    fn create_from_instance(
        &self,
        task: &Task,
        project: ProjectName,
        new: &NewInstance,
        other: &Instance,
        snapshot: Option<&str>,
        instance_only: bool,
    ) -> Result<Instance> {
        let then = match snapshot {
            None => other.clone(),
            Some(name) => self.instance_snapshot(other, name)?.then,
        };
        let mut config: Config = then
            .config
            .iter()
            .filter(|(key, _)| !is_own_key(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        config.extend(new.config.clone());
        let mut devices = then.devices.clone();
        devices.extend(new.devices.clone());
        let profiles = new.profiles.clone().unwrap_or_else(|| then.profiles.clone());
        let instance = self.planned(project, new, config, devices, profiles)?;
        let expanded = self.expanded(&instance)?;
        self.check_settings(&instance, &expanded)?;
        let pool = self.open_pool(root_device(&expanded)?.0)?;
        let record = self.root_volume(other)?;
        record.must_be_whole()?;
        let source_pool = self.open_pool(&self.store.pool_by_id(record.volume.pool)?.name)?;
        let snapshot = snapshot.map(str::parse::<SnapshotName>).transpose()?;
        let companions = if instance_only || snapshot.is_some() {
            Vec::new()
        } else {
            self.store.snapshots_of(&record.volume)?
        };
        let all_known = self.store.instance_snapshots_of(other)?;
        let config = self.keys_of_copy(&pool, &record.volume, root_disk(&expanded)?.1)?;
        let origin = Origin::Root { pool: source_pool, record, snapshot };
        let root = NewRoot { config, trigger: Some(Trigger::Copy), companions: &companions };
        let made = self.create_root(task, &pool, instance, root, |spec| {
            self.fill_root(task, &pool, spec, &companions, &origin)
        })?;
        // Those that came along, by the names they have there: more may have been made since, and some renamed.
        for companion in &companions {
            if let Some(known) = all_known.iter().find(|known| known.root == Some(companion.id)) {
                let known = InstanceSnapshot { name: companion.name.clone(), ..known.clone() };
                self.adopt_instance_snapshot(&made, &known)?;
            }
        }
        Ok(made)
    }

    /// The document of a new instance.
    pub(in crate::service) fn planned(
        &self,
        project: ProjectName,
        new: &NewInstance,
        mut config: Config,
        devices: Devices,
        profiles: Vec<String>,
    ) -> Result<Instance> {
        config.retain(|_, value| !value.is_empty());
        config.insert("volatile.uuid".to_owned(), uuid::Uuid::new_v4().to_string());
        let holder = self.profile_project(project.as_str())?;
        for name in &profiles {
            self.profile(&holder, name)?;
        }
        Ok(Instance {
            id: larder_catalog::InstanceId::random(),
            project,
            name: new.name.clone(),
            kind: "container".to_owned(),
            architecture: local_architecture().to_owned(),
            description: new.description.clone(),
            config,
            devices,
            profiles,
            ephemeral: new.ephemeral,
            stateful: false,
            root: None,
            state: InstanceState::Creating,
            created_at: self.clock.now(),
            last_used_at: None,
        })
    }

    /// The keys of a root on a pool that is a copy of another.
    pub(super) fn keys_of_copy(&self, pool: &OpenPool, source: &Volume, disk: &Config) -> Result<Config> {
        let mut config = source.config.clone();
        leave_behind(&mut config, source, pool);
        let is_clone = source.pool == pool.document.id;
        RootKeys::on(pool).of_copy(&config, disk, is_clone)
    }

    /// Records the instance with its volume, lets `fill` publish the volume, renders the image's templates, and makes both ready.
    pub(in crate::service) fn create_root(
        &self,
        task: &Task,
        pool: &OpenPool,
        instance: Instance,
        root: NewRoot<'_>,
        fill: impl FnOnce(&VolumeSpec) -> larder_storage_driver::Result<()>,
    ) -> Result<Instance> {
        let NewRoot { config, trigger, companions } = root;
        let size = size_of(&config)?;
        let id = VolumeId {
            kind: VolumeKind::Container,
            content: Content::Filesystem,
            project: instance.project.clone(),
            name: instance.name.parse()?,
        };
        let volume = Volume {
            id: larder_catalog::VolumeId::random(),
            pool: pool.document.id,
            project: instance.project.clone(),
            kind: VolumeKind::Container.as_str().to_owned(),
            content: Content::Filesystem.as_str().to_owned(),
            name: instance.name.clone(),
            description: String::new(),
            config: config.clone(),
            state: VolumeState::Creating,
            created_at: instance.created_at,
            takes_over: None,
        };
        let instance = Instance { root: Some(volume.id), ..instance };
        let _claim = self.claim_volume(task, &volume)?;
        self.store.begin_instance(&pool.document, &instance, &volume)?;
        point(Point::Intent);
        let spec = VolumeSpec { id, size, config };
        if let Err(error) = fill(&spec) {
            // What could not be undone either is settled once the pool takes changes again, or by the next start.
            if error.undo_failures().is_empty() {
                self.store.forget_volume(volume.id)?;
                self.store.forget_instance(&instance, &[], None)?;
            }
            return Err(error.into());
        }
        point(Point::Act);
        let finished = self.finish_root(task, pool, &instance, &volume, trigger, companions);
        if finished.is_err() {
            self.give_up(task, pool, &instance, &spec.id)?;
        }
        finished
    }

    fn fill_root(
        &self,
        task: &Task,
        pool: &OpenPool,
        spec: &VolumeSpec,
        companions: &[Snapshot],
        origin: &Origin,
    ) -> larder_storage_driver::Result<()> {
        let names = companions.iter().map(|snapshot| snapshot.name.parse());
        let names: Vec<SnapshotName> = names.collect::<std::result::Result<_, _>>()?;
        let copy = |from: &OpenPool, record: &VolumeRecord, snapshot: Option<&SnapshotName>| {
            let volume = record.storage_id()?;
            let source = CopySource { pool: &from.pool, volume: &volume, snapshot };
            self.with_cx(task, |cx| pool.pool.copy_volume(cx, source, &CopyPlan { spec, snapshots: &names }))
        };
        let unpack = |files| self.with_cx(task, |cx| self.unpack_to(cx, pool, spec, files));
        match origin {
            Origin::Image { files, volume: Some(volume) } => match copy(pool, volume, None) {
                Err(error) if is_no_source(&error) => unpack(files),
                other => other,
            },
            Origin::Image { files, volume: None } => unpack(files),
            Origin::Root { pool, record, snapshot } => copy(pool, record, snapshot.as_ref()),
        }
    }

    fn finish_root(
        &self,
        task: &Task,
        pool: &OpenPool,
        instance: &Instance,
        volume: &Volume,
        trigger: Option<Trigger>,
        companions: &[Snapshot],
    ) -> Result<Instance> {
        let id = crate::service::storage_id(volume)?;
        if let Some(trigger) = trigger {
            self.render_root(task, pool, instance, &id, trigger)?;
        }
        let expanded = self.expanded(instance)?;
        let uses = self.check_settings(instance, &expanded)?;
        let snapshots = super::super::copies::companions_of(volume, companions);
        self.store.volume_is_ready(volume, &snapshots, None)?;
        let url = instance_url(instance);
        let cause = cause_of(task, "instance-created", &url, &instance.project);
        self.store.instance_is_ready(instance, volume, &uses, &url, Some(cause))?;
        point(Point::Commit);
        Ok(Instance { state: InstanceState::Ready, ..instance.clone() })
    }

    /// Takes a published root away again: nobody was told of the instance.
    fn give_up(&self, task: &Task, pool: &OpenPool, instance: &Instance, id: &VolumeId) -> Result<()> {
        let live = larder_storage_driver::Place::live(id);
        let trashed = self.with_cx(task, |cx| pool.pool.trash(&cx.uncancellable(), &live))?;
        if let Some(root) = instance.root {
            self.store.forget_volume(root)?;
        }
        self.store.forget_instance(instance, &[], None)?;
        Ok(self.with_cx(task, |cx| pool.pool.destroy(&cx.uncancellable(), &trashed))?)
    }

    /// An instance that was being made when the run ended, and whose root is complete.
    pub(super) fn finish_creation(&self, instance: &Instance, root: &VolumeRecord) -> Result<()> {
        let task = Task::quiet(crate::service::Requestor::default());
        let pool = self.open_pool(&self.store.pool_by_id(root.volume.pool)?.name)?;
        self.finish_root(&task, &pool, instance, &root.volume, Some(Trigger::Create), &[])?;
        tracing::info!(instance = instance.name, "finished making an instance that was under way");
        self.settle_instance_snapshots(instance, root)
    }

    /// Renders the templates of the image into the root, for one occasion.
    pub(super) fn render_templates(
        &self,
        instance: &Instance,
        volume: &Path,
        trigger: Trigger,
    ) -> Result<()> {
        let text = match std::fs::read_to_string(volume.join(larder_images::metadata::METADATA_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let metadata = ImageMetadata::parse(&text).map_err(|error| ServiceError::bad(error.to_string()))?;
        let expanded = self.expanded(instance)?;
        let values = TemplateValues {
            instance: InstanceFacts {
                name: instance.name.clone(),
                kind: instance.kind.clone(),
                architecture: instance.architecture.clone(),
                privileged: larder_runtime::keys::is_true(&expanded.config, "security.privileged"),
                ephemeral: instance.ephemeral,
            },
            config: expanded.config,
            devices: expanded.devices,
        };
        let (rootfs, templates) = (volume.join(ROOTFS), volume.join("templates"));
        let run = TemplateRun {
            rootfs: &rootfs,
            templates: &templates,
            entries: &metadata.templates,
            trigger,
            values: &values,
            first_ids: super::shifted::first_ids(&rootfs)?,
        };
        run.apply().map_err(|error| ServiceError::bad(crate::service::store::chain(&error)))?;
        Ok(())
    }

    /// The same for a root that nobody has attached.
    pub(super) fn render_root(
        &self,
        task: &Task,
        pool: &OpenPool,
        instance: &Instance,
        root: &VolumeId,
        trigger: Trigger,
    ) -> Result<()> {
        let attached = self.with_cx(task, |cx| pool.pool.attach(cx, root, Mode::ReadWrite))?;
        let rendered = attached
            .directory()
            .map_err(ServiceError::from)
            .and_then(|directory| self.render_templates(instance, directory, trigger));
        self.with_cx(task, |cx| pool.pool.detach(&cx.uncancellable(), root))?;
        rendered
    }

    pub(super) fn root_volume(&self, instance: &Instance) -> Result<VolumeRecord> {
        self.store.root_of(instance)?.ok_or_else(|| {
            ServiceError::internal(format!("the root volume of instance {} is gone", instance.name))
        })
    }
}

/// Whether an image's volume is nothing to copy from: the copy is to be smaller than it can be made, or it has gone meanwhile, as
/// one is made anew when the pool says otherwise how.
fn is_no_source(error: &StorageError) -> bool {
    let kinds = [ErrorKind::Unsupported(Need::Shrink), ErrorKind::NotFound];
    kinds.contains(&error.kind()) && error.undo_failures().is_empty()
}
