//! Volumes in the catalog.

use super::{Store, VolumeRecord};
use crate::service::work::Plan;
use crate::service::{Kind, Result, ServiceError};
use larder_base::Ticket;
use larder_catalog::documents::{Backup, Pool, PoolStatus, Snapshot, Volume, VolumeState};
use larder_catalog::{CatalogError, Cause, Key, Transaction, VolumeId, keys};

/// How many documents one transaction writes at most, well below the catalog's limit.
pub(super) const BATCH: usize = 30;

pub(super) fn name_key(volume: &Volume) -> Key {
    keys::volume_name(volume.pool, &volume.project, &volume.kind, &volume.name)
}

impl Store {
    /// A volume by name. One that is still being created is not there yet, and one that was moved away no more.
    pub fn volume(
        &self,
        pool: &Pool,
        project: &larder_base::ProjectName,
        kind: &str,
        name: &str,
    ) -> Result<Option<VolumeRecord>> {
        let Some(entry) = self.catalog.get(&keys::volume_name(pool.id, project, kind, name))? else {
            return Ok(None);
        };
        let record = self.volume_by_id(super::pointer(&entry.value)?)?;
        // While a rename is under way both names point to the volume; it answers to the one it has.
        let is_there = |record: &VolumeRecord| match record.volume.state {
            VolumeState::Creating => false,
            VolumeState::Deleting => record.is_bucket(),
            _ => true,
        };
        Ok(record.filter(|record| is_there(record) && record.volume.name == name))
    }

    /// A volume by id.
    pub fn volume_by_id(&self, id: VolumeId) -> Result<Option<VolumeRecord>> {
        let stored = larder_catalog::get_document::<Volume>(self.catalog.as_ref(), &keys::volume(id))?;
        Ok(stored.map(VolumeRecord::new))
    }

    /// Refuses a name that is taken, before anything is done for it.
    pub(in crate::service) fn must_be_free(&self, volume: &Volume) -> Result<()> {
        match self.catalog.get(&name_key(volume))? {
            Some(_) => Err(self.taken(volume)),
            None => Ok(()),
        }
    }

    /// What is said of a name that is taken: by one that is listed, or by one that is on its way out.
    fn taken(&self, volume: &Volume) -> ServiceError {
        let what = format!("the {} volume {:?}", volume.kind, volume.name);
        let owner = self.catalog.get(&name_key(volume)).ok().flatten();
        let owner = owner.and_then(|entry| super::pointer(&entry.value).ok());
        let owner = owner.and_then(|id| self.volume_by_id(id).ok().flatten());
        match owner.is_some_and(|owner| owner.volume.state == VolumeState::Deleting) {
            true => ServiceError {
                kind: Kind::Unavailable,
                message: format!("{what} of before is still being removed: try again in a minute"),
            },
            false => ServiceError::taken(what),
        }
    }

    pub(in crate::service) fn begin_volume(&self, pool: &Pool, volume: &Volume) -> Result<()> {
        self.begin_volume_with(pool, volume, Transaction::new())
    }

    /// Records a volume that stands whole in staging, and writes down that it is to be published.
    pub(in crate::service) fn begin_planned_volume(
        &self,
        ticket: &Ticket,
        pool: &Pool,
        volume: &Volume,
        plan: &Plan,
    ) -> Result<()> {
        let intent = self.intent_of(ticket, volume, plan)?;
        self.begin_volume_with(pool, volume, Transaction::new().put_document(&intent)?)
    }

    /// The end of [`Store::begin_planned_volume`]. A power cut may take it back: the next start finds the same out again.
    pub(in crate::service) fn planned_volume_is_ready(
        &self,
        ticket: &Ticket,
        volume: &Volume,
        cause: Cause,
    ) -> Result<()> {
        let ready = Volume { state: VolumeState::Ready, ..volume.clone() };
        let transaction = Transaction::new().put_document(&ready)?.delete(keys::intent(ticket)).relaxed();
        self.commit(transaction, Some(cause))
    }

    /// Takes back [`Store::begin_planned_volume`].
    pub(in crate::service) fn forget_planned_volume(&self, ticket: &Ticket, volume: &Volume) -> Result<()> {
        let transaction = Transaction::new().delete(name_key(volume)).delete_document(volume);
        self.commit(transaction.delete(keys::intent(ticket)), None)
    }

    fn begin_volume_with(&self, pool: &Pool, volume: &Volume, transaction: Transaction) -> Result<()> {
        let stored = larder_catalog::get_document::<Pool>(self.catalog.as_ref(), &keys::pool(pool.id))?;
        let missing = || ServiceError::not_found(format!("storage pool {:?}", pool.name));
        let pool =
            stored.filter(|stored| stored.document.status == PoolStatus::Created).ok_or_else(missing)?;
        let name = name_key(volume);
        let transaction = transaction
            .guard_at(keys::pool(pool.document.id), pool.revision)
            .guard_absent(name.clone())
            .put(name.clone(), super::pointer_to(&volume.id)?)
            .put_document(volume)?;
        match self.commit_into(&volume.project, transaction)? {
            Err(CatalogError::Conflict { key }) if key == name => Err(self.taken(volume)),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Of one without snapshots a power cut may take it back: the next start finds the same out again.
    pub(in crate::service) fn volume_is_ready(
        &self,
        volume: &Volume,
        snapshots: &[Snapshot],
        cause: Option<Cause>,
    ) -> Result<()> {
        let ready = Volume { state: VolumeState::Ready, ..volume.clone() };
        for batch in snapshots.chunks(BATCH) {
            let mut transaction = Transaction::new();
            for snapshot in batch {
                transaction = super::snapshots::put_snapshot(transaction, snapshot)?;
            }
            self.commit(transaction, None)?;
        }
        let transaction = Transaction::new().put_document(&ready)?;
        self.commit(if snapshots.is_empty() { transaction.relaxed() } else { transaction }, cause)
    }

    pub(in crate::service) fn forget_volume(&self, id: VolumeId) -> Result<()> {
        let Some(record) = self.volume_by_id(id)? else { return Ok(()) };
        self.forget_snapshots(&record.volume)?;
        let transaction = Transaction::new().delete(name_key(&record.volume)).delete_document(&record.volume);
        self.commit(self.forget_bucket(&record.volume, transaction)?, None)
    }

    fn forget_snapshots(&self, volume: &Volume) -> Result<()> {
        for batch in self.all_snapshots_of(volume)?.chunks(BATCH) {
            let forget = |transaction, snapshot| super::snapshots::delete_snapshot(transaction, snapshot);
            self.commit(batch.iter().fold(Transaction::new(), forget), None)?;
        }
        Ok(())
    }

    pub(in crate::service) fn change_volume(
        &self,
        record: &VolumeRecord,
        volume: &Volume,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction =
            Transaction::new().guard_at(keys::volume(volume.id), record.revision).put_document(volume)?;
        self.commit(transaction, cause)
    }

    /// A volume that was to be deleted stays as it was.
    pub(in crate::service) fn volume_is_back(&self, volume: &Volume) -> Result<()> {
        let transaction = Transaction::new().guard_present(keys::volume(volume.id)).put_document(volume)?;
        self.commit(transaction, None)
    }

    /// Marks a volume and writes down how to go on. Returns the record to end the change with.
    pub(in crate::service) fn begin_change(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        marked: &Volume,
        plan: &Plan,
    ) -> Result<VolumeRecord> {
        let transaction = Transaction::new()
            .guard_at(keys::volume(marked.id), record.revision)
            .put_document(marked)?
            .put_document(&self.intent_of(ticket, marked, plan)?)?;
        let revision = self.catalog.transact(transaction)?;
        Ok(VolumeRecord { volume: marked.clone(), revision, before: record.volume.clone() })
    }

    pub(in crate::service) fn end_change(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        volume: &Volume,
        cause: Option<Cause>,
    ) -> Result<()> {
        self.end_change_with(Transaction::new(), ticket, record, volume, cause)
    }

    /// The same, with what else is so at that moment.
    pub(in crate::service) fn end_change_with(
        &self,
        besides: Transaction,
        ticket: &Ticket,
        record: &VolumeRecord,
        volume: &Volume,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = besides
            .guard_at(keys::volume(volume.id), record.revision)
            .put_document(volume)?
            .delete(keys::intent(ticket));
        self.commit(transaction, cause)
    }

    /// The volume was refreshed: it is ready, with these snapshots more and less. The intent goes last.
    pub(in crate::service) fn volume_is_refreshed(
        &self,
        ticket: &Ticket,
        volume: &Volume,
        new: &[Snapshot],
        gone: &[Snapshot],
        cause: Option<Cause>,
    ) -> Result<()> {
        let mut transaction = Transaction::new();
        let changes = gone.iter().map(|snapshot| (snapshot, false)).chain(new.iter().map(|one| (one, true)));
        for (number, (snapshot, is_new)) in changes.enumerate() {
            if number > 0 && number % BATCH == 0 {
                self.commit(std::mem::replace(&mut transaction, Transaction::new()), None)?;
            }
            transaction = match is_new {
                true => super::snapshots::put_snapshot(transaction, snapshot)?,
                false => super::snapshots::delete_snapshot(transaction, snapshot),
            };
        }
        let ready = Volume { state: VolumeState::Ready, ..volume.clone() };
        self.commit(transaction.put_document(&ready)?.delete(keys::intent(ticket)), cause)
    }

    pub(in crate::service) fn begin_intent(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        plan: &Plan,
    ) -> Result<()> {
        let transaction = Transaction::new()
            .guard_at(keys::volume(record.volume.id), record.revision)
            .put_document(&self.intent_of(ticket, &record.volume, plan)?)?;
        self.commit(transaction, None)
    }

    /// Takes the new name, beside the old one.
    pub(in crate::service) fn begin_rename(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        renamed: &Volume,
        plan: &Plan,
    ) -> Result<()> {
        let name = name_key(renamed);
        let transaction = Transaction::new()
            .guard_at(keys::volume(renamed.id), record.revision)
            .guard_absent(name.clone())
            .put(name.clone(), super::pointer_to(&renamed.id)?)
            .put_document(&self.intent_of(ticket, renamed, plan)?)?;
        match self.commit_into(&renamed.project, transaction)? {
            Err(CatalogError::Conflict { key }) if key == name => Err(self.taken(renamed)),
            other => Ok(other.map(|_| ())?),
        }
    }

    pub(in crate::service) fn end_rename(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        renamed: &Volume,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = Transaction::new()
            .put(name_key(renamed), super::pointer_to(&renamed.id)?)
            .delete(name_key(&record.volume))
            .put_document(renamed)?
            .delete(keys::intent(ticket));
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn drop_rename(
        &self,
        ticket: &Ticket,
        record: &VolumeRecord,
        renamed: &Volume,
    ) -> Result<()> {
        let new = name_key(renamed);
        if new == name_key(&record.volume) {
            return self.drop_intent(ticket);
        }
        self.commit(Transaction::new().delete(new).delete(keys::intent(ticket)), None)
    }

    /// Forgets a volume whose place lies in the trash, with its snapshots and the intent.
    pub(in crate::service) fn volume_is_gone(
        &self,
        ticket: &Ticket,
        id: VolumeId,
        cause: Option<Cause>,
    ) -> Result<()> {
        let Some(record) = self.volume_by_id(id)? else { return self.drop_intent(ticket) };
        let volume = &record.volume;
        self.forget_what_belongs_to(volume)?;
        let transaction = Transaction::new().delete_document(volume).delete(keys::intent(ticket));
        let transaction = self.without_name_of(volume, transaction)?;
        self.commit(self.forget_bucket(volume, transaction)?, cause)
    }

    /// Forgets the snapshots and backups of a volume that goes.
    pub(super) fn forget_what_belongs_to(&self, volume: &Volume) -> Result<()> {
        self.forget_snapshots(volume)?;
        self.backups_of(volume)?.iter().try_for_each(|backup| self.remove_backup(backup, None))
    }

    /// Frees the name of a volume that goes. One that was moved may have given it to the one that took over.
    pub(super) fn without_name_of(&self, volume: &Volume, transaction: Transaction) -> Result<Transaction> {
        let owner = self.catalog.get(&name_key(volume))?;
        let owner = owner.map(|entry| super::pointer::<VolumeId>(&entry.value)).transpose()?;
        Ok(if owner == Some(volume.id) { transaction.delete(name_key(volume)) } else { transaction })
    }

    /// Sentences a copy that was to take over and does not: it goes, and nobody gets its name before that.
    pub(in crate::service) fn sentence(&self, record: &VolumeRecord) -> Result<()> {
        let sentenced = Volume { state: VolumeState::Deleting, takes_over: None, ..record.volume.clone() };
        let transaction = Transaction::new()
            .guard_at(keys::volume(sentenced.id), record.revision)
            .put_document(&sentenced)?;
        self.commit(transaction, None)
    }

    /// One volume takes the place of another: the new one is ready, the old one sentenced and without a name.
    pub(in crate::service) fn volume_takes_over(
        &self,
        ticket: &Ticket,
        change: &TakeOver<'_>,
        plan: &Plan,
        cause: Option<Cause>,
    ) -> Result<()> {
        for batch in change.snapshots.chunks(BATCH) {
            let mut transaction = Transaction::new();
            for snapshot in batch {
                transaction = super::snapshots::put_snapshot(transaction, snapshot)?;
            }
            self.commit(transaction, None)?;
        }
        let sentenced = Volume { state: VolumeState::Deleting, ..change.old.volume.clone() };
        let mut transaction = Transaction::new()
            .guard_at(keys::volume(sentenced.id), change.old.revision)
            .put_document(change.new)?
            .put_document(&sentenced)?
            .put_document(&self.intent_of(ticket, &sentenced, plan)?)?;
        for backup in change.backups {
            let own = Backup { volume: change.new.id, ..backup.clone() };
            transaction = transaction
                .guard_present(keys::backup(backup.volume, backup.id))
                .delete(keys::backup_name(backup.volume, &backup.name))
                .delete_document(backup)
                .put(keys::backup_name(own.volume, &own.name), super::pointer_to(&own.id)?)
                .put_document(&own)?;
        }
        if let Some(instance) = &change.instance {
            transaction = instance.add_to(transaction, self)?;
        }
        self.commit(transaction, cause)
    }
}

/// What changes when one volume takes the place of another.
#[derive(Debug)]
pub(in crate::service) struct TakeOver<'a> {
    /// The volume that takes over, ready.
    pub(in crate::service) new: &'a Volume,
    /// Its snapshots.
    pub(in crate::service) snapshots: &'a [Snapshot],
    /// The backups of the volume that goes, which become the other's.
    pub(in crate::service) backups: &'a [Backup],
    /// The volume that goes.
    pub(in crate::service) old: &'a VolumeRecord,
    /// The instance whose root they are.
    pub(in crate::service) instance: Option<super::instances::ChangedInstance>,
}
