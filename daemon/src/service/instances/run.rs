//! What a running instance does: stop, freeze, use, execute.

use super::{Described, runtime_name};
use crate::service::{Result, Service, ServiceError, Task};
use larder_catalog::documents::Instance;
use larder_runtime::container::Console;
use larder_runtime::{ContainerState, Containers, Exec, ExecSession, Status, Usage};
use std::collections::BTreeMap;
use std::time::Duration;

/// How an instance shall stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At once.
    Forced,
    /// By itself, within a time; without one however long it takes.
    Cleanly(Option<Duration>),
}

/// What an instance uses.
#[derive(Debug, Clone, Default)]
pub struct InstanceUsage {
    /// What it does.
    pub state: ContainerState,
    /// What it uses; nothing when it does not run.
    pub usage: Option<Usage>,
    /// Bytes of its root in use, and in all, where the pool tells.
    pub disk: Option<(u64, u64)>,
}

impl Service {
    /// Stops an instance. One that does not run is refused.
    pub fn stop_instance(&self, task: &Task, instance: &Instance, how: Stop) -> Result<()> {
        let name = runtime_name(instance);
        let containers = &self.instances.containers;
        if containers.state(&name)?.status == Status::Stopped {
            return Err(ServiceError::bad(format!("the instance {:?} is stopped already", instance.name)));
        }
        match how {
            Stop::Forced => containers.stop(&name)?,
            Stop::Cleanly(timeout) => containers.shutdown(&name, timeout, &task.cancel)?,
        }
        // The one who watches does this too; here it is done when the answer comes.
        self.note_stopped(task, instance).map(drop)
    }

    /// Freezes an instance, or lets it go on.
    pub fn freeze_instance(&self, task: &Task, known: &Instance, freeze: bool) -> Result<()> {
        let (_claim, instance) = &self.alone_with_instance(task, known)?;
        let name = runtime_name(instance);
        let containers = &self.instances.containers;
        let (wanted, action) =
            if freeze { (Status::Running, "instance-paused") } else { (Status::Frozen, "instance-resumed") };
        let status = containers.state(&name)?.status;
        if status != wanted {
            return Err(ServiceError::bad(format!(
                "the instance {:?} is not {}",
                instance.name,
                if freeze { "running" } else { "frozen" }
            )));
        }
        if freeze {
            containers.freeze(&name)?;
        } else {
            containers.unfreeze(&name)?;
        }
        self.note_quietly(instance, task, action, |_| ()).map(drop)
    }

    /// What an instance does.
    pub fn instance_status(&self, instance: &Instance) -> Result<Status> {
        Ok(self.instances.containers.state(&runtime_name(instance))?.status)
    }

    /// What an instance does and uses.
    pub fn instance_usage(&self, task: &Task, instance: &Instance) -> Result<InstanceUsage> {
        let state = self.instances.containers.state(&runtime_name(instance))?;
        let disk = self.disks_of(task, &[instance])?.pop().flatten();
        Ok(InstanceUsage { usage: Containers::usage_of(&state), state, disk })
    }

    /// What instances use whose states are known already, in their order.
    pub fn usages_of(&self, task: &Task, instances: &[Described]) -> Result<Vec<InstanceUsage>> {
        let disks = self.disks_of(task, &instances.iter().map(|one| &one.instance).collect::<Vec<_>>())?;
        let usage_of = |(one, disk): (&Described, _)| InstanceUsage {
            usage: Containers::usage_of(&one.state),
            state: one.state.clone(),
            disk,
        };
        Ok(instances.iter().zip(disks).map(usage_of).collect())
    }

    /// Bytes of the instances' roots in use, and in all. Each pool is asked once; where one is not there, or does not tell,
    /// nothing is known.
    fn disks_of(&self, task: &Task, instances: &[&Instance]) -> Result<Vec<Option<(u64, u64)>>> {
        let mut roots: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, instance) in instances.iter().enumerate() {
            if let Some(root) = self.store.root_of(instance)? {
                roots.entry(root.volume.pool).or_default().push((number, root.storage_id()?));
            }
        }
        let mut disks = vec![None; instances.len()];
        for (pool, roots) in roots {
            let Ok(open) = self.open_pool(&self.store.pool_by_id(pool)?.name) else { continue };
            let (numbers, ids): (Vec<_>, Vec<_>) = roots.into_iter().unzip();
            let Ok(usages) = self.with_cx(task, |cx| open.pool.volume_usages(cx, &ids)) else { continue };
            for (number, usage) in numbers.into_iter().zip(usages) {
                disks[number] =
                    usage.and_then(|usage| Some((usage.used_bytes?, usage.total_bytes.unwrap_or(0))));
            }
        }
        Ok(disks)
    }

    /// Refuses what needs an instance that is up. A frozen one is told of when it is entered.
    pub fn must_be_up(&self, instance: &Instance) -> Result<()> {
        match self.instances.containers.may_run(&runtime_name(instance))? {
            true => Ok(()),
            false => Err(ServiceError::bad(format!(
                "the instance {:?} is not running: start it first",
                instance.name
            ))),
        }
    }

    /// Runs a command in a running instance, with the variables of its configuration.
    pub fn exec_in(&self, instance: &Instance, mut exec: Exec) -> Result<ExecSession> {
        let name = runtime_name(instance);
        let expanded = self.expanded(instance)?;
        let mut environment = larder_runtime::keys::environment(&expanded.config);
        environment.insert("container".to_owned(), "lxc".to_owned());
        environment.extend(exec.environment);
        exec.environment = environment;
        Ok(self.instances.containers.exec(&name, &exec)?)
    }

    /// Takes the console of a running instance.
    pub fn console_of(&self, instance: &Instance) -> Result<Console> {
        Ok(self.instances.containers.console(&runtime_name(instance))?)
    }

    /// What the console of an instance has shown.
    pub fn console_log(&self, instance: &Instance) -> Result<Vec<u8>> {
        match std::fs::read(self.log_folder(instance).join("console.log")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => Ok(other?),
        }
    }
}
