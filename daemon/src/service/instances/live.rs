//! What changes while an instance runs: disks come and go, limits hold at once.
//!
//! The container is changed first and the catalog then, so that what can't be done is refused whole. A run that ends in
//! between leaves a container that differs from its document; the next start brings it back to that.

use super::start::Attachment;
use super::{instance_url, root_device, runtime_name};
use crate::service::crash::{Point, point};
use crate::service::{Requestor, Result, Service, ServiceError, Task, VolumeRecord};
use larder_catalog::documents::Instance;
use larder_runtime::{DiskFailure, DiskMount, Expanded, Status, keys};

/// Keys that a running container takes at once.
const LIVE_KEYS: &[&str] = &["limits.memory", "limits.cpu", "limits.processes"];

impl Service {
    /// Whether an instance runs.
    pub(super) fn runs(&self, instance: &Instance) -> Result<bool> {
        Ok(self.instances.containers.state(&runtime_name(instance))?.status != Status::Stopped)
    }

    /// Refuses what would change a volume beneath an instance that runs.
    pub(in crate::service) fn must_not_run_with(&self, record: &VolumeRecord) -> Result<()> {
        let (used, id) = (self.store.used_by_each()?, record.volume.id.to_string());
        for instance in self.store.all_instances()? {
            let has_it = used.get(&instance.id.to_string()).is_some_and(|used| used.contains(&id));
            if has_it && self.runs(&instance)? {
                return Err(ServiceError::bad(format!(
                    "the volume {} is in use by {}, which runs: stop it first",
                    record.volume.name,
                    instance_url(&instance)
                )));
            }
        }
        Ok(())
    }

    /// Brings a running container from what applied to it to what shall apply, with `commit` in the middle. All or nothing;
    /// whoever calls holds the claim on the instance.
    pub(super) fn change_running(
        &self,
        task: &Task,
        instance: &Instance,
        (before, after): (&Expanded, &Expanded),
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let wrong = |error: larder_runtime::KeyError| ServiceError::bad(error.to_string());
        let memory = super::start::memory_of_machine();
        let limits = keys::limits(&after.config, memory).map_err(wrong)?;
        let change_the_rest = || {
            if before.devices == after.devices {
                return commit();
            }
            root_stays(instance, before, after)?;
            self.change_disks(task, instance, after, commit)
        };
        if LIVE_KEYS.iter().all(|key| before.config.get(*key) == after.config.get(*key)) {
            return change_the_rest();
        }
        // What the kernel refuses, or what fails then, leaves the old limits.
        let (name, containers) = (runtime_name(instance), &self.instances.containers);
        let applied = containers.apply_limits(&name, &limits).map_err(ServiceError::from);
        applied.and_then(|()| change_the_rest()).inspect_err(|_| {
            let old = keys::limits(&before.config, memory).map_err(wrong);
            let taken_back = old.and_then(|old| Ok(containers.apply_limits(&name, &old)?));
            if let Err(error) = taken_back {
                tracing::error!(container = name, %error, "the limits of a container are not as they were");
            }
        })
    }

    fn change_disks(
        &self,
        task: &Task,
        instance: &Instance,
        after: &Expanded,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let name = runtime_name(instance);
        let mut attachments = Vec::new();
        // All volumes of the new disks are attached before one of the old is detached: what stays is never let go.
        let is_privileged = self.runs_privileged(instance)?;
        let wanted = self.disks(task, instance, after, is_privileged, &mut attachments);
        let changed = wanted.and_then(|wanted| {
            let before = self.instances.containers.disks(&name)?;
            point(Point::Intent);
            let settled = self.bring_disks_to(&name, &wanted).and_then(|()| {
                point(Point::Act);
                commit()
            });
            settled.inspect_err(|_| self.take_back(&name, &before))
        });
        if let Err(error) = changed {
            self.detach_each(task, instance, attachments);
            return Err(error);
        }
        point(Point::Commit);
        let mut attached = self.instances.attached.lock();
        let all = attached.remove(&instance.id).unwrap_or_default();
        let (mut kept, old): (Vec<_>, Vec<_>) = all.into_iter().partition(Attachment::is_of_root);
        kept.append(&mut attachments);
        attached.insert(instance.id, kept);
        drop(attached);
        self.detach_each(task, instance, old);
        Ok(())
    }

    /// Brings a running container's disks to these; the first that can't be is the error.
    fn bring_disks_to(&self, name: &str, wanted: &[DiskMount]) -> Result<()> {
        match self.instances.containers.settle_disks(name, wanted)?.into_iter().next() {
            None => Ok(()),
            Some(DiskFailure { device, error }) => {
                let ServiceError { kind, message } = ServiceError::from(error);
                Err(ServiceError { kind, message: format!("device {device:?}: {message}") })
            }
        }
    }

    fn take_back(&self, name: &str, before: &[DiskMount]) {
        if let Err(error) = self.bring_disks_to(name, before) {
            tracing::error!(container = name, %error, "the disks of a container are not as they were");
        }
    }

    /// Brings the disks of a container that a daemon before this one had started, or that has rebooted by itself, to what
    /// its document says. What can't be done is logged: the container runs on.
    pub(super) fn settle_again(&self, instance: &Instance, wanted: &[DiskMount]) -> Result<()> {
        for failure in self.instances.containers.settle_disks(&runtime_name(instance), wanted)? {
            tracing::warn!(instance = instance.name, %failure, "a disk of a running instance is not as it shall be");
        }
        Ok(())
    }

    /// A container has rebooted by itself: it has the disks of its start.
    pub(super) fn has_rebooted(&self, instance: &Instance) -> Result<()> {
        let task = Task::quiet(Requestor::default());
        let _claim = self.claim_instance(&task, instance.id)?;
        let Some(current) = self.store.instance_by_id(instance.id)? else { return Ok(()) };
        if !self.runs(&current)? {
            return Ok(());
        }
        let mut again = Vec::new();
        let is_privileged = self.runs_privileged(&current)?;
        let wanted = self
            .expanded(&current)
            .and_then(|now| self.disks(&task, &current, &now, is_privileged, &mut again));
        let settled = wanted.and_then(|wanted| self.settle_again(&current, &wanted));
        // They are attached already.
        self.detach_each(&task, &current, again);
        settled
    }

    /// Brings an instance from what applied to it before to what its profiles say now.
    pub(in crate::service) fn follow_profile(
        &self,
        task: &Task,
        instance: &Instance,
        before: &Expanded,
    ) -> Result<()> {
        let _claim = self.claim_instance(task, instance.id)?;
        let Some(current) = self.store.instance_by_id(instance.id)? else { return Ok(()) };
        let after = self.expanded(&current)?;
        let (old, new) = (self.uses(&current, before).unwrap_or_default(), self.uses(&current, &after)?);
        let follow = || {
            self.store.change_uses(&current, &old, &new, &instance_url(&current))?;
            self.resize_root(task, &current, (before, &after))
        };
        match self.runs(&current)? {
            true => self.change_running(task, &current, (before, &after), follow),
            false => follow(),
        }
    }
}

/// Refuses another root disk: what runs on it can't move. It may get another size.
fn root_stays(instance: &Instance, before: &Expanded, after: &Expanded) -> Result<()> {
    if root_device(before)?.0 == root_device(after)?.0 {
        return Ok(());
    }
    Err(ServiceError::bad(format!(
        "the root disk of {:?} can't be changed while it runs: stop it first",
        instance.name
    )))
}
