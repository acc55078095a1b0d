//! What exists, in the words of the use-cases: the only part of the daemon that speaks to the catalog. Each change is
//! one transaction that writes documents, the keys that name and refer to them, intents and the cause together.

mod accounts;
mod buckets;
mod images;
pub(super) mod instances;
mod pools;
mod profiles;
mod projects;
mod snapshots;
mod volumes;

pub(super) use profiles::ProfileStep;
pub(super) use volumes::TakeOver;

use super::{Result, ServiceError, Task};
use larder_base::{Clock, ProjectName, Ticket};
use larder_catalog::documents::{Backup, Intent, ServerConfig, Volume, VolumeState, Warning};
use larder_catalog::{Catalog, CatalogError, Cause, Document, Revision, Stored, Transaction, keys};
use larder_storage_driver::{Config, VolumeId, VolumeKind};
use parking_lot::{RwLock, RwLockWriteGuard};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// A volume's document with the revision it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeRecord {
    /// What the catalog says.
    pub volume: Volume,
    /// When it was committed: a change made from this record fails if it has changed since.
    pub revision: larder_catalog::Revision,
    /// What it was before a change that is under way.
    pub before: Volume,
}

impl VolumeRecord {
    fn new(stored: Stored<Volume>) -> Self {
        Self { before: stored.document.clone(), volume: stored.document, revision: stored.revision }
    }

    /// Whether it holds a bucket.
    pub fn is_bucket(&self) -> bool {
        self.volume.kind == VolumeKind::Bucket.as_str()
    }

    /// Whether it is on its way out and nobody can have it any more: another volume took its place, or it was to take another's.
    pub fn is_sentenced(&self) -> bool {
        self.volume.state == VolumeState::Deleting && !self.is_bucket()
    }

    /// Whether it is there for those who ask: lists have it.
    pub fn is_listed(&self) -> bool {
        !matches!(self.volume.state, VolumeState::Creating | VolumeState::Deleting)
    }

    /// Refuses a volume that is being put back or resized, or waits for its pool to finish that: what is written to it
    /// now would go then.
    pub fn must_be_whole(&self) -> Result<()> {
        match self.volume.state {
            VolumeState::Restoring | VolumeState::Resizing => Err(ServiceError {
                kind: super::Kind::Unavailable,
                message: format!(
                    "the volume {:?} is being changed by another operation, or waits for its pool to finish one",
                    self.volume.name
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The volume as storage knows it.
    pub fn storage_id(&self) -> Result<VolumeId> {
        storage_id(&self.volume)
    }
}

/// A volume as storage knows it.
pub(super) fn storage_id(volume: &Volume) -> Result<VolumeId> {
    let wrong = |error: String| ServiceError::internal(format!("volume {}: {error}", volume.name));
    let kind: VolumeKind = volume.kind.parse().map_err(wrong)?;
    let content = volume.content.parse().map_err(wrong)?;
    Ok(VolumeId { kind, content, project: volume.project.clone(), name: volume.name.parse()? })
}

/// Why a transaction is made, for the lifecycle event.
pub(super) fn cause_of(task: &Task, action: &str, source: &str, project: &impl Display) -> Cause {
    Cause {
        action: action.to_owned(),
        source: source.to_owned(),
        project: project.to_string(),
        requestor: serde_json::json!({
            "username": task.requestor.username,
            "protocol": task.requestor.protocol,
            "address": task.requestor.address,
        }),
        context: serde_json::Value::Null,
    }
}

/// The catalog in the words of the use-cases.
#[derive(Debug, Clone)]
pub struct Store {
    catalog: Arc<dyn Catalog>,
    clock: Arc<dyn Clock>,
    /// Held by all who bring something into a project, and alone by who finds a project empty and changes it then.
    filling: Arc<RwLock<()>>,
}

impl Store {
    pub(super) fn new(catalog: Arc<dyn Catalog>, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, clock, filling: Arc::default() }
    }

    /// The committed log, for events.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    /// URLs of what uses a thing.
    pub fn used_by(&self, target: &str) -> Result<Vec<String>> {
        let entries = self.catalog.list(&keys::used_by_prefix(target))?;
        Ok(entries.into_iter().filter_map(|entry| serde_json::from_str(&entry.value).ok()).collect())
    }

    /// URLs of what uses things, in one scan, by the thing's id.
    pub fn all_users(&self) -> Result<HashMap<String, Vec<String>>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for entry in self.catalog.list(&keys::all_used_by())? {
            if let (Some(target), Ok(url)) = (entry.key.part(1), serde_json::from_str(&entry.value)) {
                users.entry(target).or_default().push(url);
            }
        }
        Ok(users)
    }

    pub(super) fn server_config(&self) -> Result<Config> {
        let stored =
            larder_catalog::get_document::<ServerConfig>(self.catalog.as_ref(), &keys::server_config())?;
        Ok(stored.map(|stored| stored.document.config).unwrap_or_default())
    }

    /// Replaces the server's configuration, which is as it was known.
    pub(super) fn change_server_config(
        &self,
        known: &Config,
        config: &Config,
        cause: Option<Cause>,
    ) -> Result<()> {
        let key = keys::server_config();
        let now = larder_catalog::get_document::<ServerConfig>(self.catalog.as_ref(), &key)?;
        let transaction = match now {
            None if known.is_empty() => Transaction::new().guard_absent(key),
            Some(now) if now.document.config == *known => Transaction::new().guard_at(key, now.revision),
            _ => return Err(ServiceError::overtaken()),
        };
        self.commit(transaction.put_document(&ServerConfig { config: config.clone() })?, cause)
    }

    pub(super) fn warnings(&self) -> Result<Vec<Warning>> {
        let stored = larder_catalog::list_documents::<Warning>(self.catalog.as_ref(), &keys::warnings())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    pub(super) fn put_warning(&self, warning: &Warning) -> Result<()> {
        self.commit(Transaction::new().put_document(warning)?, None)
    }

    pub(super) fn remove_warning(&self, warning: &Warning) -> Result<()> {
        self.commit(Transaction::new().delete_document(warning), None)
    }

    pub(super) fn drop_intent(&self, ticket: &Ticket) -> Result<()> {
        self.commit(Transaction::new().delete(keys::intent(ticket)), None)
    }

    /// Backups of a volume, by name.
    pub fn backups_of(&self, volume: &Volume) -> Result<Vec<Backup>> {
        let stored =
            larder_catalog::list_documents::<Backup>(self.catalog.as_ref(), &keys::backups_of(volume.id))?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// All backups, in one scan, by volume.
    pub fn backups_by_volume(&self) -> Result<HashMap<larder_catalog::VolumeId, Vec<Backup>>> {
        let stored = larder_catalog::list_documents::<Backup>(self.catalog.as_ref(), &keys::backups())?;
        let mut by_volume: HashMap<_, Vec<Backup>> = HashMap::new();
        for stored in stored {
            by_volume.entry(stored.document.volume).or_default().push(stored.document);
        }
        Ok(by_volume)
    }

    pub(super) fn all_backups(&self) -> Result<Vec<Backup>> {
        let stored = larder_catalog::list_documents::<Backup>(self.catalog.as_ref(), &keys::backups())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    pub(super) fn add_backup(&self, backup: &Backup, cause: Option<Cause>) -> Result<()> {
        let name = keys::backup_name(backup.volume, &backup.name);
        let transaction = Transaction::new()
            .guard_absent(name.clone())
            .guard_present(keys::volume(backup.volume))
            .put(name, pointer_to(&backup.id)?)
            .put_document(backup)?;
        self.commit_backup(transaction, &backup.name, cause)
    }

    pub(super) fn rename_backup(&self, old: &Backup, new: &Backup, cause: Option<Cause>) -> Result<()> {
        let name = keys::backup_name(new.volume, &new.name);
        let transaction = Transaction::new()
            .guard_absent(name.clone())
            .guard_present(keys::backup(old.volume, old.id))
            .delete(keys::backup_name(old.volume, &old.name))
            .put(name, pointer_to(&new.id)?)
            .put_document(new)?;
        self.commit_backup(transaction, &new.name, cause)
    }

    fn commit_backup(&self, transaction: Transaction, name: &str, cause: Option<Cause>) -> Result<()> {
        match self.commit(transaction, cause) {
            Err(error) if error.kind == super::Kind::Conflict => {
                Err(ServiceError::taken(format!("the backup {name:?}")))
            }
            other => other,
        }
    }

    pub(super) fn remove_backup(&self, backup: &Backup, cause: Option<Cause>) -> Result<()> {
        let transaction = Transaction::new().delete(keys::backup_name(backup.volume, &backup.name));
        self.commit(transaction.delete_document(backup), cause)
    }

    pub(super) fn backup(&self, path: &Path) -> Result<()> {
        Ok(self.catalog.backup(path)?)
    }

    /// The intent document of a plan for a volume.
    fn intent_of(&self, ticket: &Ticket, volume: &Volume, plan: &super::work::Plan) -> Result<Intent> {
        let unwritable = |error| ServiceError::internal(format!("an intent can't be written: {error}"));
        let work = serde_json::to_value(plan).map_err(unwritable)?;
        Ok(Intent {
            ticket: ticket.clone(),
            pool: volume.pool,
            volume: volume.id,
            work,
            begun_at: self.clock.now(),
        })
    }

    /// Nothing comes into a project until this is dropped.
    pub(super) fn nothing_comes(&self) -> RwLockWriteGuard<'_, ()> {
        self.filling.write()
    }

    /// Commits what brings something into a project, which is there: a project that is found empty stays so until it is gone.
    fn commit_into(
        &self,
        project: &ProjectName,
        transaction: Transaction,
    ) -> Result<std::result::Result<Revision, CatalogError>> {
        let _filling = self.filling.read();
        let key = keys::project(project);
        match self.catalog.transact(transaction.guard_present(key.clone())) {
            Err(CatalogError::Conflict { key: missing }) if missing == key => {
                Err(ServiceError::not_found(format!("project {:?}", project.as_str())))
            }
            other => Ok(other),
        }
    }

    /// A transaction that fails unless a document is, and stays until then, as it was known.
    fn unless_changed<D: Document + PartialEq>(&self, known: &D) -> Result<Transaction> {
        Ok(Transaction::new().guard_at(known.key(), self.revision_of(known)?))
    }

    /// When a document was committed that is as it was known; fails if it is not.
    pub(super) fn revision_of<D: Document + PartialEq>(&self, known: &D) -> Result<Revision> {
        match larder_catalog::get_document::<D>(self.catalog.as_ref(), &known.key())? {
            Some(now) if now.document == *known => Ok(now.revision),
            _ => Err(ServiceError::overtaken()),
        }
    }

    fn commit(&self, transaction: Transaction, cause: Option<Cause>) -> Result<()> {
        let transaction = match cause {
            Some(cause) => transaction.because(cause),
            None => transaction,
        };
        self.catalog.transact(transaction)?;
        Ok(())
    }
}

impl From<CatalogError> for ServiceError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Conflict { .. } => Self::overtaken(),
            other => Self::internal(chain(&other)),
        }
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// An id as a name's key holds it.
fn pointer_to<I: Serialize>(id: &I) -> Result<String> {
    serde_json::to_string(id)
        .map_err(|error| ServiceError::internal(format!("an id can't be written: {error}")))
}

/// The id that a name's key holds.
fn pointer<I: DeserializeOwned>(value: &str) -> Result<I> {
    serde_json::from_str(value)
        .map_err(|error| ServiceError::internal(format!("an id can't be read: {error}")))
}
