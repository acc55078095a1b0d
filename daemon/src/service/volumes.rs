//! Volumes: made, changed, renamed, deleted.

use super::claim::Claim;
use super::crash::{Point, point};
use super::pools::OpenPool;
use super::schedule::Schedule;
use super::store::{VolumeRecord, cause_of};
use super::work::{Plan, Then};
use super::{Result, Service, ServiceError, Task};
use larder_base::{ByteSize, ProjectName, VolumeName};
use larder_catalog::Cause;
use larder_catalog::documents::{Snapshot, Volume, VolumeState};
use larder_storage_driver::{
    Config, Content, KeyScope, Place, StorageError, VolumeId, VolumeKind, VolumeSpec, check_config,
};
use larder_storage_pool::{EmptyFill, Fill, Intent};
use std::cell::Cell;

/// What a new custom volume shall be.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Its project (already the one that holds the volumes of the project asked for).
    pub project: ProjectName,
    /// Its name.
    pub name: VolumeName,
    /// What it holds.
    pub content: Content,
    /// For people.
    pub description: String,
    /// Its keys, without the pool's defaults.
    pub config: Config,
}

/// What a change of a volume changes.
#[derive(Debug, Clone)]
pub struct VolumeChange {
    /// The whole new configuration.
    pub config: Config,
    /// The new description.
    pub description: String,
}

impl Service {
    /// Makes an empty custom volume.
    pub fn create_volume(&self, task: &Task, pool: &OpenPool, new: NewVolume) -> Result<()> {
        let (volume, spec) = self.plan_volume(pool, new)?;
        let _claim = self.claim_volume(task, &volume)?;
        self.store.must_be_free(&volume)?;
        let plan = Plan {
            storage: Intent::Publish { staged: Place::live(&spec.id).staged(&self.ticket(task)) },
            then: Then::VolumeIsMade,
        };
        // One durable commit, once the volume is whole in staging: from there on it is finished forward.
        let agreed = Cell::new(false);
        let refusal = Cell::new(None);
        let agree =
            || match self.store.begin_planned_volume(&self.ticket(task), &pool.document, &volume, &plan) {
                Ok(()) => {
                    agreed.set(true);
                    point(Point::Intent);
                    Ok(())
                }
                Err(error) => {
                    refusal.set(Some(error.clone()));
                    Err(error.into())
                }
            };
        if let Err(error) = self.with_cx(task, |cx| pool.pool.create_agreed(cx, &spec, &EmptyFill, &agree)) {
            if agreed.get() && error.undo_failures().is_empty() {
                self.store.forget_planned_volume(&self.ticket(task), &volume)?;
            }
            return Err(refusal.take().unwrap_or_else(|| error.into()));
        }
        point(Point::Act);
        let cause = self.created_cause(task, pool, &volume);
        self.store.planned_volume_is_ready(&self.ticket(task), &volume, cause)?;
        point(Point::Commit);
        self.warn_about_size(pool, &volume)
    }

    /// Makes a custom volume with content. All or nothing.
    pub fn create_filled(&self, task: &Task, pool: &OpenPool, new: NewVolume, fill: &dyn Fill) -> Result<()> {
        let (volume, spec) = self.plan_volume(pool, new)?;
        self.creating(task, pool, &volume, &[], |cx| pool.pool.create_volume(cx, &spec, fill))
    }

    /// Checks a new volume and fills in what nobody said: the pool's defaults and a disk's size.
    pub(super) fn plan_volume(&self, pool: &OpenPool, new: NewVolume) -> Result<(Volume, VolumeSpec)> {
        let driver = pool.pool.driver();
        let id = VolumeId::custom(new.content, new.project.clone(), new.name.clone());
        let mut config = new.config;
        config.retain(|_, value| !value.is_empty());
        check_config(&config, KeyScope::Volume, driver.config_keys(), driver.name())?;
        Schedule::of_volume(&config)?;
        for (key, value) in &pool.document.config {
            if let Some(bare) = key.strip_prefix("volume.") {
                config.entry(bare.to_owned()).or_insert_with(|| value.clone());
            }
        }
        let mut spec = VolumeSpec { id, size: size_of(&config)?, config };
        if spec.id.has_disk() && new.content == Content::Block {
            let size = spec.disk_size();
            spec.size = Some(size);
            spec.config.entry("size".to_owned()).or_insert_with(|| size.to_string());
        }
        let volume = Volume {
            id: larder_catalog::VolumeId::random(),
            pool: pool.document.id,
            project: new.project,
            kind: VolumeKind::Custom.as_str().to_owned(),
            content: new.content.as_str().to_owned(),
            name: new.name.into(),
            description: new.description,
            config: spec.config.clone(),
            state: VolumeState::Creating,
            created_at: self.clock.now(),
            takes_over: None,
        };
        Ok((volume, spec))
    }

    /// Records a volume as being created, does the work, records the outcome.
    pub(super) fn creating(
        &self,
        task: &Task,
        pool: &OpenPool,
        volume: &Volume,
        snapshots: &[Snapshot],
        work: impl FnOnce(&larder_storage_driver::Cx<'_>) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        let _claim = self.claim_volume(task, volume)?;
        self.store.begin_volume(&pool.document, volume)?;
        point(Point::Intent);
        self.make_begun(task, pool, volume, snapshots, work)
    }

    /// The same from where the volume is recorded as being created.
    pub(super) fn make_begun(
        &self,
        task: &Task,
        pool: &OpenPool,
        volume: &Volume,
        snapshots: &[Snapshot],
        work: impl FnOnce(&larder_storage_driver::Cx<'_>) -> larder_storage_driver::Result<()>,
    ) -> Result<()> {
        if let Err(error) = self.with_cx(task, work) {
            // What could not be undone either is settled once the pool takes changes again, or by the next start.
            if error.undo_failures().is_empty() {
                self.store.forget_volume(volume.id)?;
            }
            return Err(error.into());
        }
        self.is_made(task, pool, volume, snapshots)
    }

    /// Records that a volume that was being created is there.
    pub(super) fn is_made(
        &self,
        task: &Task,
        pool: &OpenPool,
        volume: &Volume,
        snapshots: &[Snapshot],
    ) -> Result<()> {
        point(Point::Act);
        let cause = self.created_cause(task, pool, volume);
        self.store.volume_is_ready(volume, snapshots, Some(cause))?;
        point(Point::Commit);
        self.warn_about_size(pool, volume)
    }

    fn created_cause(&self, task: &Task, pool: &OpenPool, volume: &Volume) -> Cause {
        let url = self.volume_url(&pool.document.name, volume);
        cause_of(task, &action(volume, "created"), &url, &volume.project)
    }

    /// Changes keys and description. A new size is applied first.
    pub fn update_volume(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        change: VolumeChange,
    ) -> Result<()> {
        let _claim = self.claim_volume(task, &record.volume)?;
        let driver = pool.pool.driver();
        let mut config = change.config;
        config.retain(|_, value| !value.is_empty());
        keep_fixed(driver.config_keys(), &record.volume.config, &mut config);
        check_config(&config, KeyScope::Volume, driver.config_keys(), driver.name())?;
        Schedule::of_volume(&config)?;
        check_immutable(driver.config_keys(), KeyScope::Volume, &record.volume.config, &config)?;
        let (old, new) = (
            storage_size(&record.volume)?,
            storage_size(&Volume { config: config.clone(), ..record.volume.clone() })?,
        );
        let id = record.storage_id()?;
        let mut volume = Volume { config, description: change.description, ..record.volume.clone() };
        let cause = cause_of(
            task,
            &action(&volume, "updated"),
            &self.volume_url(&pool.document.name, &volume),
            &volume.project,
        );
        if old == new {
            return self.store.change_volume(record, &volume, Some(cause));
        }
        let plan =
            Plan { storage: Intent::Resize { volume: id.clone(), size: new }, then: Then::VolumeIsReady };
        volume.state = VolumeState::Resizing;
        let record = self.store.begin_change(&self.ticket(task), record, &volume, &plan)?;
        point(Point::Intent);
        let outcome = self.with_cx(task, |cx| pool.pool.resize(cx, &id, old, new));
        point(Point::Act);
        volume.state = VolumeState::Ready;
        match outcome {
            Ok(()) => self.store.end_change(&self.ticket(task), &record, &volume, Some(cause)),
            Err(error) if error.undo_failures().is_empty() => {
                let before = Volume { state: VolumeState::Ready, ..record.before.clone() };
                self.store.end_change(&self.ticket(task), &record, &before, None)?;
                Err(error.into())
            }
            // The intent stays: the next start goes on.
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a custom volume another name in its pool.
    pub fn rename_volume(
        &self,
        task: &Task,
        pool: &OpenPool,
        record: &VolumeRecord,
        project: &ProjectName,
        name: &VolumeName,
    ) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        self.must_be_unused(record)?;
        let from = record.storage_id()?;
        let to = VolumeId { project: project.clone(), name: name.clone(), ..from.clone() };
        let plan = Plan {
            storage: Intent::Move { from: Place::live(&from), to: Place::live(&to) },
            then: Then::VolumeIsNamed { project: project.to_string(), name: name.to_string() },
        };
        let volume = Volume { project: project.clone(), name: name.to_string(), ..record.volume.clone() };
        self.store.begin_rename(&self.ticket(task), record, &volume, &plan)?;
        point(Point::Intent);
        let outcome = self.with_cx(task, |cx| pool.pool.rename_volume(cx, &from, &to));
        point(Point::Act);
        match outcome {
            Ok(()) => {
                let url = self.volume_url(&pool.document.name, &volume);
                let mut cause = cause_of(task, "storage-volume-renamed", &url, project);
                cause.context = serde_json::json!({ "old_name": record.volume.name });
                self.store.end_rename(&self.ticket(task), record, &volume, Some(cause))
            }
            Err(error) => {
                if error.undo_failures().is_empty() {
                    self.store.drop_rename(&self.ticket(task), record, &volume)?;
                }
                Err(error.into())
            }
        }
    }

    /// Deletes a volume with its snapshots. Its name is free as soon as it lies in the trash.
    pub fn delete_volume(&self, task: &Task, pool: &OpenPool, record: &VolumeRecord) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        self.must_be_unused(record)?;
        let live = Place::live(&record.storage_id()?);
        let trash = live.trashed(&self.ticket(task));
        let plan = Plan { storage: Intent::Move { from: live.clone(), to: trash }, then: Then::VolumeIsGone };
        self.store.begin_intent(&self.ticket(task), record, &plan)?;
        point(Point::Intent);
        let trashed = match self.with_cx(task, |cx| pool.pool.trash(cx, &live)) {
            Ok(trashed) => Some(trashed),
            // What the pool has lost can still be forgotten.
            Err(error) if error.kind() == larder_storage_driver::ErrorKind::NotFound => None,
            Err(error) => {
                if error.undo_failures().is_empty() {
                    self.store.drop_intent(&self.ticket(task))?;
                }
                return Err(error.into());
            }
        };
        point(Point::Act);
        let url = self.volume_url(&pool.document.name, &record.volume);
        let cause = cause_of(task, &action(&record.volume, "deleted"), &url, &record.volume.project);
        let backups = self.store.backups_of(&record.volume)?;
        self.store.volume_is_gone(&self.ticket(task), record.volume.id, Some(cause))?;
        point(Point::Commit);
        self.forget_backup_files(&backups);
        if let Some(trashed) = trashed {
            self.with_cx(task, |cx| pool.pool.destroy(cx, &trashed))?;
        }
        Ok(())
    }

    /// Waits until nobody else changes a volume, and reads it anew: with the claim it stays what it is. Fails when it went
    /// or got another name meanwhile.
    pub(super) fn alone_with(
        &self,
        task: &Task,
        known: &VolumeRecord,
    ) -> Result<(Claim<'_, larder_catalog::VolumeId>, VolumeRecord)> {
        let claim = self.claim_volume(task, &known.volume)?;
        let was = &known.volume;
        let record = self.store.volume_by_id(was.id)?;
        let record = record
            .ok_or_else(|| ServiceError::not_found(format!("the {} volume {:?}", was.kind, was.name)))?;
        let now = &record.volume;
        match (&now.project, &now.name, now.state) == (&was.project, &was.name, was.state) {
            true => Ok((claim, record)),
            false => Err(ServiceError::overtaken()),
        }
    }

    /// Waits until nobody else changes a volume. Whoever makes one has its claim from before it is recorded on, or that of the one
    /// that it takes over: one that is being created and that nobody has was given up.
    pub(super) fn claim_volume(
        &self,
        task: &Task,
        volume: &Volume,
    ) -> Result<Claim<'_, larder_catalog::VolumeId>> {
        let claim = self.volume_claims.take_unless(volume.id, &task.cancel);
        Ok(claim.map_err(StorageError::from)?)
    }

    /// Refuses what would pull a volume away from under those who have it, or from a profile, which would name nothing then.
    pub fn must_be_unused(&self, record: &VolumeRecord) -> Result<()> {
        let (volume, pool) = (&record.volume, self.store.pool_by_id(record.volume.pool)?);
        match self.volume_users(&pool.name, volume)?.as_slice() {
            [] => Ok(()),
            users => Err(ServiceError::bad(format!(
                "the volume {} is in use by {}",
                volume.name,
                users.join(", ")
            ))),
        }
    }

    /// URLs of what has a volume of the pool called `pool`, and of the profiles that name it.
    pub fn volume_users(&self, pool: &str, volume: &Volume) -> Result<Vec<String>> {
        let mut users = self.store.used_by(&volume.id.to_string())?;
        if volume.kind == VolumeKind::Custom.as_str() {
            users.extend_from_slice(self.volumes_of_profiles()?.naming(pool, volume));
        }
        Ok(users)
    }

    /// Notes a size that nothing enforces.
    fn warn_about_size(&self, pool: &OpenPool, volume: &Volume) -> Result<()> {
        let unenforced = pool.pool.capabilities().quota == larder_storage_driver::Quota::None;
        // A bucket's size is enforced where its objects come in.
        let is_bucket = volume.kind == VolumeKind::Bucket.as_str();
        if unenforced && !is_bucket && volume.content == "filesystem" && volume.config.contains_key("size") {
            self.warnings().note_unenforced_size(&pool.document, volume)?;
        }
        Ok(())
    }
}

/// The lifecycle event of what happened to a volume.
pub(super) fn action(volume: &Volume, what: &str) -> String {
    let kind = if volume.kind == VolumeKind::Bucket.as_str() { "bucket" } else { "volume" };
    format!("storage-{kind}-{what}")
}

/// How large the pool makes a volume: what `size` says, and for a bucket's room beside it.
pub(super) fn storage_size(volume: &Volume) -> Result<Option<ByteSize>> {
    match volume.kind == VolumeKind::Bucket.as_str() {
        true => Ok(super::buckets::quota_of(&volume.config)?.map(super::buckets::volume_size)),
        false => size_of(&volume.config),
    }
}

/// The `size` key as a size. Like the peers, 0 is none.
pub(super) fn size_of(config: &Config) -> Result<Option<ByteSize>> {
    let Some(text) = config.get("size").filter(|text| !text.is_empty()) else { return Ok(None) };
    let parsed: std::result::Result<ByteSize, larder_base::size::SizeError> = text.parse();
    let size = parsed.map_err(|error| ServiceError::bad(error.to_string()))?;
    Ok(Some(size).filter(|size| size.as_bytes() > 0))
}

/// Puts back the keys of a volume that stay as they were made: leaving one out is no change.
fn keep_fixed(keys: &[larder_storage_driver::ConfigKey], old: &Config, new: &mut Config) {
    for key in keys.iter().filter(|key| key.scope == KeyScope::Volume && !key.mutable) {
        if let Some(value) = old.get(key.name) {
            new.entry(key.name.to_owned()).or_insert_with(|| value.clone());
        }
    }
}

/// Refuses the change of a key that stays as it was made.
pub(super) fn check_immutable(
    keys: &[larder_storage_driver::ConfigKey],
    scope: KeyScope,
    old: &Config,
    new: &Config,
) -> Result<()> {
    for key in keys.iter().filter(|key| key.scope == scope && !key.mutable) {
        if old.get(key.name) != new.get(key.name) {
            return Err(ServiceError::bad(format!("the key {:?} can't be changed after creation", key.name)));
        }
    }
    Ok(())
}
