//! Snapshots in the catalog. A snapshot's key holds its volume's id, so that a volume's snapshots are one scan; the name
//! is a key of its own, so that it is taken once.

use super::{Store, VolumeRecord};
use crate::service::work::Plan;
use crate::service::{Result, ServiceError};
use jiff::Timestamp;
use larder_base::Ticket;
use larder_catalog::documents::{Agreement, Bucket, InstanceSnapshot, Snapshot, Volume, VolumeState};
use larder_catalog::{CatalogError, Cause, Transaction, keys};
use std::collections::HashMap;
use uuid::Uuid;

pub(super) fn put_snapshot(transaction: Transaction, snapshot: &Snapshot) -> Result<Transaction> {
    let name = keys::snapshot_name(snapshot.volume, &snapshot.name);
    Ok(transaction.put(name, super::pointer_to(&snapshot.id)?).put_document(snapshot)?)
}

pub(super) fn delete_snapshot(transaction: Transaction, snapshot: &Snapshot) -> Transaction {
    transaction.delete(keys::snapshot_name(snapshot.volume, &snapshot.name)).delete_document(snapshot)
}

fn gone(name: &str) -> ServiceError {
    ServiceError::not_found(format!("the snapshot {name:?}"))
}

fn taken(name: &str) -> ServiceError {
    ServiceError::taken(format!("the snapshot {name:?}"))
}

impl Store {
    /// The snapshots of a volume that are there, oldest first.
    pub fn snapshots_of(&self, volume: &Volume) -> Result<Vec<Snapshot>> {
        let mut snapshots = self.all_snapshots_of(volume)?;
        snapshots.retain(|snapshot| snapshot.is_ready);
        snapshots.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
        Ok(snapshots)
    }

    /// The same with those that are being made or deleted.
    pub(in crate::service) fn all_snapshots_of(&self, volume: &Volume) -> Result<Vec<Snapshot>> {
        let stored = larder_catalog::list_documents::<Snapshot>(
            self.catalog.as_ref(),
            &keys::snapshots_of(volume.id),
        )?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// All snapshots that are there, in one scan, by volume.
    pub fn snapshots_by_volume(&self) -> Result<HashMap<larder_catalog::VolumeId, Vec<Snapshot>>> {
        let stored = larder_catalog::list_documents::<Snapshot>(self.catalog.as_ref(), &keys::snapshots())?;
        let mut by_volume: HashMap<_, Vec<Snapshot>> = HashMap::new();
        for stored in stored {
            if stored.document.is_ready {
                by_volume.entry(stored.document.volume).or_default().push(stored.document);
            }
        }
        for snapshots in by_volume.values_mut() {
            snapshots.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
        }
        Ok(by_volume)
    }

    /// A snapshot by name.
    pub fn snapshot(&self, volume: &Volume, name: &str) -> Result<Option<Snapshot>> {
        Ok(self.snapshots_of(volume)?.into_iter().find(|snapshot| snapshot.name == name))
    }

    pub(in crate::service) fn snapshot_by_id(&self, volume: &Volume, id: Uuid) -> Result<Option<Snapshot>> {
        Ok(self.all_snapshots_of(volume)?.into_iter().find(|snapshot| snapshot.id.as_uuid() == id))
    }

    pub(in crate::service) fn snapshots_expired_at(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(VolumeRecord, Snapshot)>> {
        let mut expired = Vec::new();
        for snapshot in self.snapshots_by_volume()?.into_values().flatten() {
            if snapshot.expires_at.is_some_and(|at| at <= now)
                && let Some(record) = self.volume_by_id(snapshot.volume)?
                && record.volume.state == VolumeState::Ready
            {
                expired.push((record, snapshot));
            }
        }
        Ok(expired)
    }

    pub(in crate::service) fn begin_snapshot(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        snapshot: &Snapshot,
        plan: &Plan,
    ) -> Result<()> {
        let name = keys::snapshot_name(snapshot.volume, &snapshot.name);
        let transaction = put_snapshot(Transaction::new(), snapshot)?
            .guard_present(keys::volume(snapshot.volume))
            .guard_absent(name.clone())
            .put_document(&self.intent_of(ticket, &record.volume, plan)?)?;
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key }) if key == name => Err(taken(&snapshot.name)),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Writes down, with no intent beside it, that a snapshot is being made of a bucket that is kept elsewhere, and that the bucket
    /// is being changed for it. A snapshot that is not ready is one that goes, whether it was never made or is being deleted.
    pub(in crate::service) fn begin_capture(&self, record: &VolumeRecord, snapshot: &Snapshot) -> Result<()> {
        let name = keys::snapshot_name(snapshot.volume, &snapshot.name);
        let bucket = self.bucket(&record.volume)?.ok_or_else(|| ServiceError::not_found("the bucket"))?;
        let told = Bucket { elsewhere: Some(Agreement::Changing), ..bucket };
        let transaction = put_snapshot(Transaction::new(), snapshot)?
            .guard_at(keys::volume(snapshot.volume), record.revision)
            .guard_absent(name.clone())
            .put_document(&told)?;
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key }) if key == name => Err(taken(&snapshot.name)),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// A snapshot is there, and with it that of the instance whose root it is of. A power cut may take it back: the next start
    /// finds the same out again.
    pub(in crate::service) fn snapshot_is_made(
        &self,
        ticket: &Ticket,
        snapshot: &Snapshot,
        of_instance: Option<&InstanceSnapshot>,
        cause: Option<Cause>,
    ) -> Result<()> {
        let ready = Snapshot { is_ready: true, ..snapshot.clone() };
        let mut transaction = Transaction::new().put_document(&ready)?.delete(keys::intent(ticket)).relaxed();
        if let Some(of_instance) = of_instance {
            transaction = super::instances::put_instance_snapshot(transaction, of_instance)?;
        }
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn snapshot_is_gone(
        &self,
        ticket: Option<&Ticket>,
        snapshot: &Snapshot,
        cause: Option<Cause>,
    ) -> Result<()> {
        let mut transaction = delete_snapshot(Transaction::new(), snapshot);
        if let Some(ticket) = ticket {
            transaction = transaction.delete(keys::intent(ticket));
        }
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn begin_snapshot_rename(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        snapshot: &Snapshot,
        name: &str,
        plan: &Plan,
    ) -> Result<()> {
        let key = keys::snapshot_name(snapshot.volume, name);
        let transaction = Transaction::new()
            .guard_absent(key.clone())
            .put(key.clone(), super::pointer_to(&snapshot.id)?)
            .put_document(&self.intent_of(ticket, &record.volume, plan)?)?;
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key: conflicting }) if conflicting == key => Err(taken(name)),
            other => Ok(other.map(|_| ())?),
        }
    }

    pub(in crate::service) fn end_snapshot_rename(
        &self,
        ticket: &Ticket,
        snapshot: &Snapshot,
        name: &str,
        cause: Option<&Cause>,
    ) -> Result<()> {
        self.name_snapshot(snapshot, name, cause, |transaction| transaction.delete(keys::intent(ticket)))
    }

    /// Gives a snapshot another name that nothing but the catalog has.
    pub(in crate::service) fn rename_snapshot_at_once(
        &self,
        snapshot: &Snapshot,
        name: &str,
        cause: &Cause,
    ) -> Result<()> {
        let key = keys::snapshot_name(snapshot.volume, name);
        self.name_snapshot(snapshot, name, Some(cause), |transaction| transaction.guard_absent(key.clone()))
    }

    /// What is said of a snapshot may be changed at any time: the name alone is new.
    fn name_snapshot(
        &self,
        snapshot: &Snapshot,
        name: &str,
        cause: Option<&Cause>,
        more: impl Fn(Transaction) -> Transaction,
    ) -> Result<()> {
        let (key, name_key) =
            (keys::snapshot(snapshot.volume, snapshot.id), keys::snapshot_name(snapshot.volume, name));
        loop {
            let Some(now) = larder_catalog::get_document::<Snapshot>(self.catalog.as_ref(), &key)? else {
                return Err(gone(&snapshot.name));
            };
            let renamed = Snapshot { name: name.to_owned(), ..now.document };
            let transaction = Transaction::new()
                .guard_at(key.clone(), now.revision)
                .delete(keys::snapshot_name(snapshot.volume, &snapshot.name))
                .put(name_key.clone(), super::pointer_to(&snapshot.id)?)
                .put_document(&renamed)?;
            let transaction = cause.into_iter().cloned().fold(more(transaction), Transaction::because);
            match self.catalog.transact(transaction) {
                Err(CatalogError::Conflict { key }) if key == name_key => return Err(taken(name)),
                Err(CatalogError::Conflict { .. }) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    pub(in crate::service) fn drop_snapshot_rename(
        &self,
        ticket: &Ticket,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<()> {
        if snapshot.name == name {
            return self.drop_intent(ticket);
        }
        let transaction = Transaction::new()
            .delete(keys::snapshot_name(snapshot.volume, name))
            .delete(keys::intent(ticket));
        self.commit(transaction, None)
    }

    /// Changes what is said of a snapshot that is as it was known.
    pub(in crate::service) fn change_snapshot(
        &self,
        known: &Snapshot,
        changed: &Snapshot,
        cause: Option<Cause>,
    ) -> Result<()> {
        let key = keys::snapshot(known.volume, known.id);
        let now = larder_catalog::get_document::<Snapshot>(self.catalog.as_ref(), &key)?;
        let now = now.ok_or_else(|| gone(&known.name))?;
        if now.document != *known {
            return Err(ServiceError::overtaken());
        }
        self.commit(Transaction::new().guard_at(key, now.revision).put_document(changed)?, cause)
    }
}
