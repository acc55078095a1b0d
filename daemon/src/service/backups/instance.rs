//! Backups of instances: what they hold beside the root volume, and instances from uploaded ones.

use super::import::{MemberFill, UNPACK_SECONDS};
use super::instance_manifest::{self, DescribedInstance, Told};
use super::survey::{self, Wanted};
use super::{Layout, manifest};
use crate::service::instances::{NewRoot, RootKeys, root_disk};
use crate::service::{NewInstance, OpenPool, Result, Service, ServiceError, Task, VolumeRecord};
use larder_api::given_time;
use larder_base::SnapshotName;
use larder_catalog::documents::{Instance, InstanceSnapshot, Snapshot};
use larder_catalog::{InstanceSnapshotId, SnapshotId};
use larder_images::Limits;
use larder_runtime::{Config, Devices};
use larder_storage_driver::{Content, VolumeSpec};
use larder_storage_pool::Fill;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An uploaded backup that shall become an instance.
#[derive(Debug, Clone)]
pub struct InstanceImport {
    /// The file on this machine.
    pub file: PathBuf,
    /// The project of the new instance.
    pub project: String,
    /// Its name; the backup's when nothing is said.
    pub name: Option<String>,
    /// The pool of its root; the backup's when nothing is said and it is there.
    pub pool: Option<String>,
    /// Keys over those of the backup.
    pub config: Config,
    /// Keys of devices over those of the backup's devices, and new devices.
    pub devices: Devices,
}

/// An import of which all is checked that can be known without reading the whole file.
#[derive(Debug, Clone)]
pub struct CheckedInstanceImport {
    file: PathBuf,
    pool: OpenPool,
    instance: Instance,
    /// The keys of its root volume.
    root: Config,
    /// Oldest first.
    snapshots: Vec<(SnapshotName, DescribedInstance)>,
}

impl CheckedInstanceImport {
    /// The new instance's name.
    pub fn name(&self) -> &str {
        &self.instance.name
    }
}

impl Service {
    /// The manifest of a root volume's backup, and the `backup.yaml` for an instance's.
    pub(super) fn manifests(
        &self,
        pool: &OpenPool,
        record: &VolumeRecord,
        snapshots: &[Snapshot],
    ) -> Result<(String, Option<String>)> {
        let Some(instance) = self.store.instance_by_root(record.volume.id)? else {
            return Ok((manifest::write(&pool.document, &record.volume, snapshots)?, None));
        };
        let known = self.store.instance_snapshots_of(&instance)?;
        let pairs = snapshots.iter().filter_map(|on_volume| {
            let own = known.iter().find(|one| one.root == Some(on_volume.id))?;
            Some((own.clone(), on_volume.clone()))
        });
        let profiles = self.profiles_of(&instance)?;
        let told = Told {
            pool: &pool.document,
            root: &record.volume,
            instance: &instance,
            expanded: &self.expanded(&instance)?,
            profiles: &profiles,
            snapshots: &pairs.collect::<Vec<_>>(),
        };
        let (index, own) = instance_manifest::write(&told)?;
        Ok((index, Some(own)))
    }

    /// Looks at the beginning of an uploaded backup: which instance it would become, and whether that can be.
    pub fn check_instance_import(&self, import: InstanceImport) -> Result<CheckedInstanceImport> {
        let told = instance_manifest::read(&survey::read_manifest(&import.file)?)?;
        let DescribedInstance { name, architecture, description, mut config, devices, .. } = told.instance;
        let local = larder_images::local_architecture();
        if !architecture.is_empty() && architecture != local {
            return Err(ServiceError::bad(format!(
                "the backup is of an instance for {architecture}, and this machine is {local}"
            )));
        }
        let project = self.project(&import.project)?.name;
        let name = import.name.unwrap_or(name);
        self.instance_name_must_be_free(&project, &name)?;
        config.extend(import.config);
        let new = NewInstance {
            project: import.project,
            name,
            description,
            config: Config::new(),
            devices: Devices::new(),
            profiles: None,
            ephemeral: told.instance.ephemeral,
        };
        let profiles = told.instance.profiles.unwrap_or_default();
        let planned = self.planned(project, &new, config, devices, profiles)?;
        let planned = Instance {
            created_at: told.instance.created_at.and_then(given_time).unwrap_or(planned.created_at),
            ..planned
        };
        let (planned, wanted_pool) = self.with_devices(planned, import.devices)?;
        let expanded = self.expanded(&planned)?;
        let pool = match import.pool.or(wanted_pool) {
            Some(pool) => self.open_pool(&pool)?,
            None => self.pool_for_import(&told.pool, &planned)?,
        };
        let instance = self.rooted_on(planned, &expanded, &pool.document.name)?;
        let expanded = self.expanded(&instance)?;
        self.check_settings(&instance, &expanded)?;
        let root = RootKeys::on(&pool).of_backup(&told.root, root_disk(&expanded)?.1)?;
        let mut snapshots = Vec::new();
        let mut names = BTreeSet::new();
        for snapshot in told.snapshots {
            if !names.insert(snapshot.name.clone()) {
                return Err(ServiceError::bad(format!(
                    "the backup lists the snapshot {:?} twice",
                    snapshot.name
                )));
            }
            check_settings_of(&snapshot)?;
            snapshots.push((snapshot.name.parse()?, snapshot));
        }
        Ok(CheckedInstanceImport { file: import.file, pool, instance, root, snapshots })
    }

    /// Changes keys of devices, of profiles' too. Tells the pool, if the root disk is given one.
    fn with_devices(&self, mut instance: Instance, changes: Devices) -> Result<(Instance, Option<String>)> {
        let before = self.expanded(&instance)?;
        let mut pool = None;
        for (name, keys) in changes {
            let inherited = before.devices.get(&name).cloned().unwrap_or_default();
            let device = instance.devices.entry(name).or_insert(inherited);
            let given = keys.get("pool").cloned();
            device.extend(keys);
            if device.get("path").is_some_and(|path| path == "/") {
                pool = pool.or(given);
            }
        }
        Ok((instance, pool))
    }

    /// Refuses a name that an instance of the project has, or that can't be one's.
    pub fn instance_name_must_be_free(&self, project: &larder_base::ProjectName, name: &str) -> Result<()> {
        name.parse::<larder_base::InstanceName>()?;
        match self.store.instance(project, name)? {
            Some(_) => Err(ServiceError::taken(format!("the instance {name:?}"))),
            None => Ok(()),
        }
    }

    /// The pool of a backup, if there is one of that name; else the one that the default profile's root disk names.
    fn pool_for_import(&self, told: &str, planned: &Instance) -> Result<OpenPool> {
        if self.store.pool(told)?.is_some() {
            return self.open_pool(told);
        }
        let bare =
            Instance { profiles: vec!["default".to_owned()], devices: Devices::new(), ..planned.clone() };
        let pool = crate::service::instances::root_pool(&self.expanded(&bare)?).map_err(|_| {
            ServiceError::bad(format!(
                "there is no pool {told:?}, as the backup has it: name one with --storage"
            ))
        })?;
        self.open_pool(&pool)
    }

    /// Makes an instance of an uploaded backup. All or nothing; the backup is read whole before the first change.
    pub fn import_instance(&self, task: &Task, import: &CheckedInstanceImport) -> Result<Instance> {
        let CheckedInstanceImport { file, pool, instance, root, snapshots } = import;
        let layout = Layout::of("container");
        let folders: Vec<String> = snapshots
            .iter()
            .map(|(name, _)| format!("{}/{name}", layout.snapshots))
            .chain([layout.volume.to_owned()])
            .collect();
        let room = self.room(task, pool)?;
        let found = survey::survey(file, &Wanted::Folders(folders.clone()), room, task)?;
        let limits = Limits {
            bytes: found.bytes.saturating_add(room),
            inodes: Limits::default().inodes.max(found.members.saturating_mul(2)),
            seconds: UNPACK_SECONDS,
        };
        let fills: Vec<_> = folders.into_iter().map(|member| self.root_fill(file, limits, member)).collect();
        let companions: Vec<Snapshot> =
            snapshots.iter().map(|(name, described)| self.companion(instance, name, described)).collect();
        let root = NewRoot { config: root.clone(), trigger: None, companions: &companions };
        let made = self.create_root(task, pool, instance.clone(), root, |spec| {
            self.fill_from_backup(task, pool, spec, snapshots, &fills)
        })?;
        for (name, described) in snapshots {
            self.note_imported_snapshot(&made, name, described)?;
        }
        Ok(made)
    }

    fn fill_from_backup(
        &self,
        task: &Task,
        pool: &OpenPool,
        spec: &VolumeSpec,
        snapshots: &[(SnapshotName, DescribedInstance)],
        fills: &[RootFill<'_>],
    ) -> larder_storage_driver::Result<()> {
        let Some((own, fills)) = fills.split_last() else { return Ok(()) };
        let snapshots: Vec<(SnapshotName, &dyn Fill)> =
            snapshots.iter().zip(fills).map(|((name, _), fill)| (name.clone(), fill as &dyn Fill)).collect();
        self.with_cx(task, |cx| pool.pool.create_with_snapshots(cx, spec, &snapshots, own))
    }

    fn root_fill<'a>(&'a self, file: &'a Path, limits: Limits, member: String) -> RootFill<'a> {
        RootFill(MemberFill { service: self, file, content: Content::Filesystem, limits, member })
    }

    fn companion(&self, instance: &Instance, name: &SnapshotName, described: &DescribedInstance) -> Snapshot {
        Snapshot {
            id: SnapshotId::random(),
            volume: instance.root.unwrap_or_else(larder_catalog::VolumeId::random),
            name: name.to_string(),
            description: String::new(),
            config: Config::new(),
            created_at: described.created_at.and_then(given_time).unwrap_or_else(|| self.clock.now()),
            expires_at: None,
            is_ready: true,
        }
    }

    fn note_imported_snapshot(
        &self,
        instance: &Instance,
        name: &SnapshotName,
        described: &DescribedInstance,
    ) -> Result<()> {
        let root = self.store.root_of(instance)?;
        let on_volume =
            root.map(|root| self.store.snapshot(&root.volume, name.as_str())).transpose()?.flatten();
        let then = Instance {
            description: described.description.clone(),
            config: described.config.clone(),
            devices: described.devices.clone(),
            profiles: described.profiles.clone().unwrap_or_default(),
            ephemeral: described.ephemeral,
            ..instance.clone()
        };
        let snapshot = InstanceSnapshot {
            id: InstanceSnapshotId::random(),
            instance: instance.id,
            name: name.to_string(),
            then,
            stateful: false,
            created_at: on_volume.as_ref().map_or_else(|| self.clock.now(), |found| found.created_at),
            root: on_volume.map(|found| found.id),
            expires_at: described.expires_at.and_then(given_time),
        };
        self.store.put_instance_snapshot(&snapshot, None)
    }
}

/// What a snapshot would bring back must be as good as what an instance is made with.
fn check_settings_of(snapshot: &DescribedInstance) -> Result<()> {
    let refuse = |error: larder_runtime::KeyError| {
        ServiceError::bad(format!("the backup's snapshot {:?}: {error}", snapshot.name))
    };
    larder_runtime::check_config(&snapshot.config).map_err(refuse)?;
    larder_runtime::check_devices(&snapshot.devices).map_err(refuse)
}

/// Fills a root volume or one of its snapshots, and looks whether it is one.
struct RootFill<'a>(MemberFill<'a>);

impl Fill for RootFill<'_> {
    fn fill(
        &self,
        cx: &larder_storage_driver::Cx<'_>,
        into: &larder_storage_driver::Attached,
    ) -> larder_storage_driver::Result<()> {
        self.0.fill(cx, into)?;
        let folder = into.directory()?;
        crate::service::instances::check_root(folder)?;
        // What the peers note there tells the same once more; nobody reads it here, so nobody shall find an older one.
        match std::fs::remove_file(folder.join(super::PEERS_NOTE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
