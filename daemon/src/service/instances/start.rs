//! Starting and stopping: what a container needs is attached before, and detached after, whoever stopped it.

use super::image_volume::ROOTFS;
use super::{Stop, instance_url, runtime_name};
use crate::service::{Kind, Result, Service, ServiceError, Task, WarningType};
use larder_catalog::documents::{Instance, InstanceState};
use larder_images::Trigger;
use larder_runtime::{Config, ContainerSpec, DiskMount, Expanded, Started, Status, Watch, keys};
use larder_storage_driver::{Mode, Place, StorageError, VolumeId, VolumeKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long after the end of its init a container is looked at again.
const BETWEEN_INITS: Duration = Duration::from_millis(300);

/// A volume that a running instance has attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct Attachment {
    pool: String,
    pub(super) volume: VolumeId,
}

impl Attachment {
    /// Whether it is the instance's own root, not a disk's volume.
    pub(super) fn is_of_root(&self) -> bool {
        self.volume.kind == VolumeKind::Container
    }
}

impl Service {
    /// Starts an instance.
    pub fn start_instance(self: &Arc<Self>, task: &Task, known: &Instance) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        must_be_ready(instance)?;
        let name = runtime_name(instance);
        if self.instances.containers.state(&name)?.status != Status::Stopped {
            return Err(ServiceError::bad(format!("the instance {:?} is running already", instance.name)));
        }
        // Left by a container that ended while nobody looked.
        self.detach_all(task, instance);
        self.make_snapshot_at_start(task, instance, &self.expanded(instance)?.config);
        let mut attachments = Vec::new();
        let started = self.prepared(task, instance, &mut attachments).and_then(|spec| {
            let started = self.instances.containers.start(&spec, &task.cancel)?;
            Ok((started, super::shifted::told(spec.idmap.as_ref(), spec.idmapped_root)))
        });
        self.instances.attached.lock().insert(instance.id, attachments);
        match started {
            Ok((started, idmap)) => {
                if let Err(error) = self.delegate_root(task, instance, started.init) {
                    tracing::warn!(instance = instance.name, %error, "the root volume can't be delegated");
                }
                self.note_started(task, instance, &started, &idmap)
            }
            Err(error) => {
                self.detach_all(task, instance);
                Err(error)
            }
        }
    }

    /// Stops an instance and starts it again. An ephemeral one is not taken for ended meanwhile, also when it does not start.
    pub fn restart_instance(self: &Arc<Self>, task: &Task, instance: &Instance, how: Stop) -> Result<()> {
        let claim = self.instances.restarting.take_unless(instance.id, &task.cancel);
        let _claim = claim.map_err(StorageError::from)?;
        self.stop_instance(task, instance, how)?;
        self.start_instance(task, instance)
    }

    /// Lets a container that has a user namespace of its own manage its root volume, if the volume's keys say so.
    fn delegate_root(&self, task: &Task, instance: &Instance, init: u32) -> Result<()> {
        let namespace = PathBuf::from(format!("/proc/{init}/ns/user"));
        if std::fs::read_link(&namespace)? == std::fs::read_link("/proc/self/ns/user")? {
            return Ok(());
        }
        let (root, open) = self.root_and_pool(instance)?;
        let live = Place::live(&root.storage_id()?);
        let driver = open.pool.driver();
        Ok(self.with_cx(task, |cx| driver.delegate(cx, &live, &root.volume.config, &namespace))?)
    }

    /// Attaches all that the container needs, and says what it shall be.
    fn prepared(
        &self,
        task: &Task,
        instance: &Instance,
        attachments: &mut Vec<Attachment>,
    ) -> Result<ContainerSpec> {
        let expanded = self.expanded(instance)?;
        self.root_volume(instance)?.must_be_whole()?;
        self.fit_root(task, instance, &expanded);
        let root = self.root_volume(instance)?;
        let pool = self.store.pool_by_id(root.volume.pool)?.name;
        let folder = self.attach_for(task, &pool, &root.storage_id()?, attachments)?;
        let rootfs = folder.join(ROOTFS);
        let is_privileged = keys::is_true(&expanded.config, "security.privileged");
        let ids = self.prepare_root(task, instance, (root.volume.pool, &rootfs), is_privileged)?;
        self.render_templates(instance, &folder, Trigger::Start)?;
        let memory = memory_of_machine();
        let bad = |error: larder_runtime::KeyError| ServiceError::bad(error.to_string());
        Ok(ContainerSpec {
            name: runtime_name(instance),
            root: rootfs,
            idmap: ids.map,
            idmapped_root: ids.is_mapped,
            disks: self.disks(task, instance, &expanded, is_privileged, attachments)?,
            environment: keys::environment(&expanded.config),
            limits: keys::limits(&expanded.config, memory).map_err(bad)?,
            log_dir: self.log_folder(instance),
            hostname: instance.name.clone(),
            privileged: is_privileged,
            nesting: keys::is_true(&expanded.config, "security.nesting"),
        })
    }

    /// The disks that an instance shall have beside its root, outer ones before those below them; their volumes are attached.
    pub(super) fn disks(
        &self,
        task: &Task,
        instance: &Instance,
        expanded: &Expanded,
        is_privileged: bool,
        attachments: &mut Vec<Attachment>,
    ) -> Result<Vec<DiskMount>> {
        let mut disks = Vec::new();
        for (name, device) in expanded.active_devices() {
            let get = |key: &str| device.get(key).map(String::as_str).filter(|value| !value.is_empty());
            let (Some(path), Some(source)) = (get("path").filter(|path| *path != "/"), get("source")) else {
                continue;
            };
            let (source, idmapped) = match get("pool") {
                Some(pool) => {
                    let record = self.custom_volume(&instance.project, pool, source, name)?;
                    record.must_be_whole()?;
                    let folder = self.attach_for(task, pool, &record.storage_id()?, attachments)?;
                    let place = (record.volume.pool, folder.as_path());
                    let used = attachments.last().map(|used| (name, used));
                    let is_mapped = match used {
                        Some(used) => self.prepare_volume(task, place, used, is_privileged)?,
                        None => false,
                    };
                    (folder, is_mapped)
                }
                None => (host_path(name, source)?, false),
            };
            disks.push(DiskMount {
                device: name.to_owned(),
                file: source.is_file(),
                source,
                path: PathBuf::from(path),
                read_only: keys::is_true(device, "readonly"),
                recursive: keys::is_true(device, "recursive"),
                idmapped,
            });
        }
        disks.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(disks)
    }

    fn attach_for(
        &self,
        task: &Task,
        pool: &str,
        volume: &VolumeId,
        attachments: &mut Vec<Attachment>,
    ) -> Result<PathBuf> {
        let open = self.open_pool(pool)?;
        let attached = self.with_cx(task, |cx| open.pool.attach(cx, volume, Mode::ReadWrite))?;
        attachments.push(Attachment { pool: pool.to_owned(), volume: volume.clone() });
        Ok(attached.directory()?.to_owned())
    }

    /// Detaches what an instance had attached. What can't be detached is logged: the next start begins anew.
    pub(super) fn detach_all(&self, task: &Task, instance: &Instance) {
        let attachments = self.instances.attached.lock().remove(&instance.id).unwrap_or_default();
        self.detach_each(task, instance, attachments);
    }

    pub(super) fn detach_each(&self, task: &Task, instance: &Instance, attachments: Vec<Attachment>) {
        for Attachment { pool, volume } in attachments {
            let detached = self.open_pool(&pool).and_then(|open| {
                Ok(self.with_cx(task, |cx| open.pool.detach(&cx.uncancellable(), &volume))?)
            });
            if let Err(error) = detached {
                tracing::warn!(instance = instance.name, %volume, %error, "a volume stays attached");
            }
        }
    }

    fn note_started(
        self: &Arc<Self>,
        task: &Task,
        instance: &Instance,
        started: &Started,
        idmap: &str,
    ) -> Result<()> {
        for warning in &started.warnings {
            self.warnings().note(WarningType::AppArmorNotAvailable, "default", "", &warning.to_string())?;
        }
        let now = self.clock.now();
        let running = self.note_quietly(instance, task, "instance-started", |running| {
            running.last_used_at = Some(now);
            running.config.insert("volatile.last_state.power".to_owned(), "RUNNING".to_owned());
            running.config.insert("volatile.last_state.idmap".to_owned(), idmap.to_owned());
        })?;
        self.watch_instance(running.unwrap_or_else(|| instance.clone()), Some(started.init))
    }

    /// Looks on until the container is gone, whoever ends it, and tidies up then. `settled` is the init that is known to have
    /// its disks.
    fn watch_instance(self: &Arc<Self>, instance: Instance, settled: Option<u32>) -> Result<()> {
        let name = runtime_name(&instance);
        let watch = self.instances.containers.watch(&name)?;
        let service = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("watch {name}"));
        thread.spawn(move || {
            if let Some(watch) = watch
                && let Err(error) = service.watch_until_gone(&instance, &watch, settled)
            {
                tracing::warn!(instance = instance.name, %error, "the container can't be watched");
                return;
            }
            service.has_stopped(&instance);
        })?;
        Ok(())
    }

    /// Looks on until the monitor is gone. A container whose init alone ends reboots, and gets its disks again.
    fn watch_until_gone(&self, instance: &Instance, monitor: &Watch, mut settled: Option<u32>) -> Result<()> {
        let name = runtime_name(instance);
        let never = larder_base::Cancel::never();
        while !monitor.wait(Some(Duration::ZERO), &never)? {
            if let Some((init, watch)) = self.instances.containers.watch_init(&name)? {
                // Another one than was seen last, be it that a reboot came before the first look.
                if settled != Some(init) {
                    match self.has_rebooted(instance) {
                        // It ended meanwhile: the next one is looked at.
                        Err(_) if watch.wait(Some(Duration::ZERO), &never)? => {}
                        outcome => {
                            settled = Some(init);
                            if let Err(error) = outcome {
                                tracing::warn!(instance = instance.name, %error, "its disks are not all there again");
                            }
                        }
                    }
                }
                watch.wait(None, &never)?;
            }
            monitor.wait(Some(BETWEEN_INITS), &never)?;
        }
        Ok(())
    }

    fn has_stopped(&self, instance: &Instance) {
        let task = Task::quiet(crate::service::Requestor::default());
        let noted = self.tidy_after(&task, instance);
        if let Err(error) = noted {
            tracing::warn!(instance = instance.name, %error, "the end of a container could not be noted");
        }
    }

    fn tidy_after(&self, task: &Task, instance: &Instance) -> Result<()> {
        // Asked first: the restart may have failed by the time that this has noted the end.
        let is_restarted = self.instances.restarting.is_taken(&instance.id);
        match self.note_stopped(task, instance)? {
            Some(stopped) if stopped.ephemeral && !is_restarted => {
                match self.instances.restarting.try_take(stopped.id) {
                    Some(_claim) => self.delete_instance(task, &stopped),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Detaches what a container had and notes its end, once, unless it runs again already. Returns the instance that is
    /// stopped.
    pub(super) fn note_stopped(&self, task: &Task, instance: &Instance) -> Result<Option<Instance>> {
        self.detach_if_stopped(task, instance)?;
        let _claim = self.claim_instance(task, instance.id)?;
        let Some(current) = self.store.instance_by_id(instance.id)? else { return Ok(None) };
        if self.runs(&current)? {
            return Ok(None);
        }
        if current.config.get("volatile.last_state.power").is_some_and(|power| power == "STOPPED") {
            return Ok(Some(current));
        }
        self.note_quietly(&current, task, "instance-stopped", |stopped| {
            stopped.config.insert("volatile.last_state.power".to_owned(), "STOPPED".to_owned());
        })
    }

    /// Detaches what a container had, unless it runs again already.
    pub(super) fn detach_if_stopped(&self, task: &Task, instance: &Instance) -> Result<()> {
        let _claim = self.claim_instance(task, instance.id)?;
        if self.instances.containers.state(&runtime_name(instance))?.status == Status::Stopped {
            self.detach_all(task, instance);
        }
        Ok(())
    }

    /// Finds again what a daemon before this one had started.
    pub(super) fn pick_up(&self, instance: &Instance) -> Result<()> {
        if !self.runs(instance)? {
            return Ok(());
        }
        let task = Task::quiet(crate::service::Requestor::default());
        let mut attachments = Vec::new();
        let prepared = self.prepared_again(&task, instance, &mut attachments);
        self.instances.attached.lock().insert(instance.id, attachments);
        prepared
    }

    fn prepared_again(
        &self,
        task: &Task,
        instance: &Instance,
        attachments: &mut Vec<Attachment>,
    ) -> Result<()> {
        let root = self.root_volume(instance)?;
        let pool = self.store.pool_by_id(root.volume.pool)?.name;
        self.attach_for(task, &pool, &root.storage_id()?, attachments)?;
        let expanded = self.expanded(instance)?;
        let is_privileged = self.runs_privileged(instance)?;
        let wanted = self.disks(task, instance, &expanded, is_privileged, attachments)?;
        self.settle_again(instance, &wanted)
    }

    /// Watches what runs already, and starts what shall run from the beginning.
    pub fn start_instances(self: &Arc<Self>) {
        let mut waiting = Vec::new();
        for instance in self.store.all_instances().unwrap_or_default() {
            let state = self.instances.containers.state(&runtime_name(&instance));
            if state.is_ok_and(|state| state.status != Status::Stopped) {
                if let Err(error) = self.watch_instance(instance.clone(), None) {
                    tracing::warn!(instance = instance.name, %error, "a running container is not watched");
                }
            } else {
                waiting.push(instance);
            }
        }
        self.start_due(waiting);
    }

    /// Takes up instances whose pool was away when the run began: settles them, and starts what should have started then.
    pub(in crate::service) fn take_up_instances(self: &Arc<Self>, instances: Vec<Instance>) {
        let now = |instance: Instance| self.store.instance_by_id(instance.id).ok()?;
        let instances: Vec<_> = instances.into_iter().filter_map(now).collect();
        if instances.is_empty() {
            return;
        }
        if let Err(error) = self.settle_instances(&instances) {
            tracing::error!(%error, "the instances of a pool that is back could not be settled");
        }
        let service = Arc::clone(self);
        let start = move || {
            let known =
                instances.iter().filter_map(|instance| service.store.instance_by_id(instance.id).ok()?);
            let stopped = known.filter(|instance| service.runs(instance).is_ok_and(|runs| !runs));
            service.start_due(stopped.collect());
        };
        if let Err(error) = std::thread::Builder::new().name("autostart".to_owned()).spawn(start) {
            tracing::error!(%error, "the instances of a pool that is back are not started");
        }
    }

    /// Starts those of these that shall run from the beginning, one after the other.
    fn start_due(self: &Arc<Self>, waiting: Vec<Instance>) {
        let order = |config: &Config| {
            let number = |key: &str| config.get(key).and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
            (-number("boot.autostart.priority"), number("boot.autostart.delay"))
        };
        let mut due: Vec<(Instance, Expanded)> = Vec::new();
        for instance in waiting {
            match self.expanded(&instance) {
                Ok(expanded) if shall_start(&expanded.config) => due.push((instance, expanded)),
                Ok(_) => {}
                Err(error) => tracing::warn!(instance = instance.name, %error, "an instance is left alone"),
            }
        }
        due.sort_by_key(|(instance, expanded)| (order(&expanded.config).0, instance.name.clone()));
        for (instance, expanded) in due {
            let task = Task::quiet(crate::service::Requestor::default());
            if let Err(error) = self.start_instance(&task, &instance) {
                tracing::error!(instance = instance.name, %error, "an instance did not start by itself");
            }
            let seconds = u64::try_from(order(&expanded.config).1).unwrap_or(0);
            std::thread::sleep(std::time::Duration::from_secs(seconds));
        }
    }

    pub(super) fn log_folder(&self, instance: &Instance) -> PathBuf {
        self.directories.logs().join(runtime_name(instance))
    }

    /// Notes something in an instance's document alone. Returns it as it is then, if it is there.
    pub(super) fn note_quietly(
        &self,
        instance: &Instance,
        task: &Task,
        action: &str,
        note: impl Fn(&mut Instance),
    ) -> Result<Option<Instance>> {
        let url = instance_url(instance);
        let cause = crate::service::store::cause_of(task, action, &url, &instance.project);
        self.store.note_in_instance(instance.id, note, Some(&cause))
    }
}

/// Refuses one whose root is not there yet, or may be gone in a moment.
fn must_be_ready(instance: &Instance) -> Result<()> {
    let what = match instance.state {
        InstanceState::Ready => return Ok(()),
        InstanceState::Creating => "being made",
        InstanceState::Deleting => "being removed",
    };
    let message = format!("the instance {:?} is still {what}: try again in a minute", instance.name);
    Err(ServiceError { kind: Kind::Unavailable, message })
}

/// Whether an instance starts with the daemon: because it says so, or because it ran when the machine went down.
fn shall_start(config: &Config) -> bool {
    match config.get("boot.autostart").filter(|value| !value.is_empty()) {
        Some(_) => keys::is_true(config, "boot.autostart"),
        None => config.get("volatile.last_state.power").is_some_and(|power| power == "RUNNING"),
    }
}

fn host_path(device: &str, source: &str) -> Result<PathBuf> {
    let path = Path::new(source);
    match path.is_absolute() && path.exists() {
        true => Ok(path.to_owned()),
        false => Err(ServiceError::bad(format!(
            "device {device:?}: there is nothing at {source:?} on this machine"
        ))),
    }
}

pub(super) fn memory_of_machine() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}
