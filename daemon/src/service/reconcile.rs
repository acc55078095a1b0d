//! The start: pools are opened, what a crash interrupted is finished, and what catalog and pool disagree about is told.

use super::buckets::Closed;
use super::claim::Claim;
use super::store::VolumeRecord;
use super::volumes::size_of;
use super::warnings::WarningType;
use super::work::{Plan, Then};
use super::{Result, Service, Task};
use larder_base::{ByteSize, PoolName, SnapshotName, Ticket};
use larder_catalog::VolumeId as VolumeRecordId;
use larder_catalog::documents::{
    Instance, InstanceState, Intent as IntentDocument, Pool as PoolDocument, PoolStatus, Snapshot, Volume,
    VolumeState,
};
use larder_storage_driver::{Cx, Place, VolumeId, VolumeKind, VolumeSpec};
use larder_storage_pool::{Intent, Pool, Recovered, Settled, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Service {
    /// Opens every pool and settles it. A pool that can't be opened is told of in a warning and left alone; the daemon
    /// starts all the same.
    pub fn reconcile(&self) -> Result<()> {
        for document in self.store.pools()? {
            let url = format!("/1.0/storage-pools/{}", document.name);
            match self.open_and_settle(&document) {
                Ok(()) => self.warnings().resolve(WarningType::PoolUnavailable, &url)?,
                Err(error) => {
                    tracing::error!(pool = document.name, %error, "a storage pool is not available");
                    self.warnings().note(
                        WarningType::PoolUnavailable,
                        "default",
                        &url,
                        &error.to_string(),
                    )?;
                }
            }
        }
        self.finish_moves()?;
        // From now on the volumes are used again: what is copied of them is of the past.
        for record in self.store.volumes()?.iter().filter(|record| is_copy_to_take_over(record)) {
            self.store.sentence(record)?;
        }
        Ok(())
    }

    /// A volume that was moved to another pool when the run ended, and whose copy is complete, is moved. The copy is
    /// there for nobody before that.
    pub(super) fn finish_moves(&self) -> Result<()> {
        for known in self.store.volumes()? {
            let Some(old) = known.volume.takes_over else { continue };
            let Some(_claim) = self.volume_claims.try_take(old) else { continue };
            let now = (self.store.volume_by_id(known.volume.id)?, self.store.volume_by_id(old)?);
            let (Some(record), Some(old)) = now else { continue };
            if record.volume.takes_over != Some(old.volume.id) {
                continue;
            }
            let pool_of = |volume: &Volume| self.open_pool(&self.store.pool_by_id(volume.pool)?.name);
            let Ok(target) = pool_of(&record.volume) else { continue };
            let task = Task::quiet(super::work::Requestor::default());
            let companions = self.store.snapshots_of(&old.volume)?;
            let finished = self
                .must_be_free(&old)
                .and_then(|()| {
                    self.take_over(&task, &target.document.name, &record.volume, &old, &companions)
                })
                .and_then(|()| match pool_of(&old.volume) {
                    Ok(pool) => self.bury(&task, &pool, &old),
                    // It goes when its pool is back.
                    Err(_) => Ok(()),
                });
            if let Err(error) = finished {
                tracing::error!(volume = record.volume.name, %error, "an interrupted move is not finished");
            }
        }
        Ok(())
    }

    pub(super) fn open_and_settle(&self, document: &PoolDocument) -> Result<()> {
        let task = Task::quiet(super::work::Requestor::default());
        let name: PoolName = document.name.parse()?;
        let driver = self.load_driver(&name, &document.driver, &document.config)?;
        match document.status {
            PoolStatus::Creating => {
                // Nobody was told that it exists; making a pool is repeatable, so it is finished.
                let config = driver.recorded_config();
                let pool = self.make_pool(&task, document, driver)?;
                let made = PoolDocument { status: PoolStatus::Created, config, ..document.clone() };
                self.store.change_pool(&made, None)?;
                self.pools.write().insert(document.name.clone(), Arc::new(pool));
                return Ok(());
            }
            PoolStatus::Deleting => {
                self.store
                    .change_pool(&PoolDocument { status: PoolStatus::Created, ..document.clone() }, None)?;
            }
            PoolStatus::Created => {}
        }
        let pool = self.with_cx(&task, |cx| Pool::open(cx, name, driver, Arc::clone(&self.locks)))?;
        self.settle(&task, document, &pool)?;
        self.pools.write().insert(document.name.clone(), Arc::new(pool));
        Ok(())
    }

    fn settle(&self, task: &Task, document: &PoolDocument, pool: &Pool) -> Result<()> {
        if pool.objects().is_some() {
            let live = self.settle_elsewhere(task, document, pool)?;
            let found = Recovered { live, ..Recovered::default() };
            return self.report_differences(document, &self.store.volumes_in(document)?, &found);
        }
        let mut records = self.store.volumes_in(document)?;
        let documents = self.store.intents_in(document)?;
        let recovered =
            self.finish_intents(task, document, pool, &records, &documents, |cx, intents, sizes| {
                pool.recover(cx, intents, sizes, &|ticket| self.is_running(ticket))
            })?;
        // A clean stop leaves nothing to finish, and what was read stays true: reading it anew is most of a quick start.
        if !documents.is_empty() {
            records = self.store.volumes_in(document)?;
        }
        if self.finish_creations(&records, &recovered)? > 0 {
            records = self.store.volumes_in(document)?;
        }
        self.report_differences(document, &records, &recovered)
    }

    /// Lets an open pool take changes again whose rollback had failed, as while its cluster did not answer: finishes what nobody
    /// works on any more, gives up what nobody goes on making, and settles the instances concerned. While somebody works on one of
    /// these volumes or instances, or uses them, nothing is done. Tells whether it takes changes now.
    pub(super) fn heal(&self, document: &PoolDocument, pool: &Pool) -> Result<bool> {
        if pool.objects().is_some() {
            return Ok(false);
        }
        let intents = self.store.intents_in(document)?;
        let planned: BTreeSet<_> = intents.iter().map(|intent| intent.volume).collect();
        let claims: Option<Vec<_>> = planned.iter().map(|id| self.volume_claims.try_take(*id)).collect();
        let Some(mut claims) = claims else { return Ok(false) };
        let instances = self.store.all_instances()?;
        let abandoned = self.claim_abandoned(document, &instances, &planned, &mut claims)?;
        let concerned: BTreeSet<_> = planned.union(&abandoned).copied().collect();
        let is_concerned = |instance: &&Instance| instance.root.is_some_and(|root| concerned.contains(&root));
        let settled: Vec<_> = instances.iter().filter(is_concerned).map(|instance| instance.id).collect();
        let of_instances: Option<Vec<_>> = settled.iter().map(|id| self.try_claim_instance(*id)).collect();
        let Some(_of_instances) = of_instances else { return Ok(false) };
        let _closed = match self.close_planned_buckets(document) {
            Ok(closed) => closed,
            Err(error) => {
                tracing::info!(pool = document.name, %error, "a bucket that waits for its pool is in use");
                return Ok(false);
            }
        };
        self.finish_abandoned(document, pool, &planned, &concerned).inspect_err(|error| {
            if pool.standing() == Standing::Good {
                pool.degrade(format!("what was under way is not settled ({error})"));
            }
        })?;
        self.settle_left(&settled, |instance| instance.state != InstanceState::Deleting);
        // Who deletes a root claims it.
        drop(claims);
        self.settle_left(&settled, |instance| instance.state == InstanceState::Deleting);
        Ok(pool.standing() == Standing::Good)
    }

    /// Claims the volumes that are being created, and the roots of instances that are being made or deleted, as far as nobody has
    /// them: whoever makes one has it from before it is recorded. Returns which these are.
    fn claim_abandoned<'a>(
        &'a self,
        document: &PoolDocument,
        instances: &[Instance],
        planned: &BTreeSet<VolumeRecordId>,
        claims: &mut Vec<Claim<'a, VolumeRecordId>>,
    ) -> Result<BTreeSet<VolumeRecordId>> {
        let unfinished = instances.iter().filter(|instance| instance.state != InstanceState::Ready);
        let roots: BTreeSet<_> = unfinished.filter_map(|instance| instance.root).collect();
        let mut abandoned = BTreeSet::new();
        for record in self.store.volumes_in(document)? {
            let id = record.volume.id;
            let is_unfinished = record.volume.state == VolumeState::Creating || roots.contains(&id);
            if !is_unfinished || planned.contains(&id) {
                continue;
            }
            // Whoever moves one has the old one.
            let ids = [Some(id), record.volume.takes_over].into_iter().flatten();
            let ids = ids.filter(|id| !planned.contains(id));
            let taken: Option<Vec<_>> = ids.map(|id| self.volume_claims.try_take(id)).collect();
            if let Some(taken) = taken {
                claims.extend(taken);
                abandoned.insert(id);
            }
        }
        Ok(abandoned)
    }

    /// Closes the buckets that nobody may use while what is planned is done: their clients would keep it from being done.
    fn close_planned_buckets(&self, document: &PoolDocument) -> Result<Vec<Closed<'_>>> {
        let (task, pool) = (Task::quiet(super::work::Requestor::default()), self.open_pool(&document.name)?);
        let mut closed = Vec::new();
        for intent in self.store.intents_in(document)? {
            let record = self.store.volume_by_id(intent.volume)?.filter(VolumeRecord::is_bucket);
            if let Some(record) = record
                && plan_of(&intent)?.storage.wants_unused().is_some()
            {
                closed.push(self.close_bucket(&task, &pool, &record)?);
            }
        }
        Ok(closed)
    }

    /// Finishes the plans of volumes, and gives up those of the volumes concerned that were being created and are not there.
    fn finish_abandoned(
        &self,
        document: &PoolDocument,
        pool: &Pool,
        planned: &BTreeSet<VolumeRecordId>,
        concerned: &BTreeSet<VolumeRecordId>,
    ) -> Result<()> {
        let task = Task::quiet(super::work::Requestor::default());
        let mut documents = self.store.intents_in(document)?;
        documents.retain(|intent| planned.contains(&intent.volume));
        let is_over = |ticket: &Ticket| documents.iter().any(|intent| intent.ticket == *ticket);
        let records = self.store.volumes_in(document)?;
        let recovered =
            self.finish_intents(&task, document, pool, &records, &documents, |cx, intents, sizes| {
                let goes_on = |ticket: &Ticket| !is_over(ticket) && self.goes_on(ticket);
                pool.heal(cx, intents, sizes, &goes_on)
            })?;
        let mut records = self.store.volumes_in(document)?;
        records.retain(|record| concerned.contains(&record.volume.id));
        self.finish_creations(&records, &recovered)?;
        let copies = self.store.volumes_in(document)?;
        let is_meant =
            |record: &&VolumeRecord| concerned.contains(&record.volume.id) && is_copy_to_take_over(record);
        copies.iter().filter(is_meant).try_for_each(|record| self.store.sentence(record))
    }

    /// Removes what was to be removed and could not be then.
    pub(super) fn tidy(&self, pool: &Pool) -> Result<()> {
        if !pool.is_littered() {
            return Ok(());
        }
        let task = Task::quiet(super::work::Requestor::default());
        Ok(self.with_cx(&task, |cx| pool.tidy(cx, &|ticket| self.goes_on(ticket)))?)
    }

    /// Whether what is of a ticket is still of use: somebody works on, or a plan tells by it what was done.
    fn goes_on(&self, ticket: &Ticket) -> bool {
        // In this order: who is gone plans nothing more.
        self.is_running(ticket) || self.store.has_intent(ticket).unwrap_or(true)
    }

    fn finish_intents(
        &self,
        task: &Task,
        document: &PoolDocument,
        pool: &Pool,
        records: &[VolumeRecord],
        documents: &[IntentDocument],
        recover: impl FnOnce(
            &Cx<'_>,
            &[Intent],
            &BTreeMap<VolumeId, VolumeSpec>,
        ) -> larder_storage_driver::Result<Recovered>,
    ) -> Result<Recovered> {
        let plans: Vec<Plan> = documents.iter().map(plan_of).collect::<Result<_>>()?;
        let intents: Vec<_> = plans.iter().map(|plan| plan.storage.clone()).collect();
        let sizes = specs_of(records)?;
        let recovered = self.with_cx(task, |cx| recover(cx, &intents, &sizes))?;
        for place in &recovered.removed {
            tracing::info!(pool = document.name, %place, "removed what an interrupted run had left");
        }
        for ((intent, plan), outcome) in documents.iter().zip(&plans).zip(&recovered.intents) {
            match outcome {
                Ok(settled) => {
                    let size = self.disk_size_after(task, pool, plan);
                    self.conclude(intent, plan, *settled, &recovered, size)?;
                    if let Intent::Refresh(exchange) = &plan.storage
                        && let Err(error) = self.with_cx(task, |cx| pool.destroy(cx, &exchange.old()))
                    {
                        tracing::warn!(pool = document.name, error = %error.chain(), "what was replaced stays");
                    }
                }
                Err(error) => {
                    tracing::error!(pool = document.name, error = %error.chain(), "an interrupted change is not finished");
                }
            }
        }
        Ok(recovered)
    }

    /// How large a disk is that was to get another size: that may have been refused.
    fn disk_size_after(&self, task: &Task, pool: &Pool, plan: &Plan) -> Option<ByteSize> {
        let Intent::Resize { volume, .. } = &plan.storage else { return None };
        let usage = volume.has_disk().then(|| self.with_cx(task, |cx| pool.volume_usage(cx, volume)))?;
        usage.ok()?.total_bytes.map(ByteSize::from_bytes)
    }

    /// Says in the catalog what the pool has finished, and of a disk that is smaller than it was to be its `size`.
    fn conclude(
        &self,
        intent: &IntentDocument,
        plan: &Plan,
        settled: Settled,
        recovered: &Recovered,
        size: Option<ByteSize>,
    ) -> Result<()> {
        let ticket = &intent.ticket;
        let Some(record) = self.store.volume_by_id(intent.volume)? else {
            return self.store.drop_intent(ticket);
        };
        match &plan.then {
            Then::VolumeIsNamed { project, name } => {
                let volume =
                    Volume { project: project.parse()?, name: name.clone(), ..record.volume.clone() };
                let is_there = recovered.live.contains(&Place::live(
                    &VolumeRecord { volume: volume.clone(), ..record.clone() }.storage_id()?,
                ));
                if is_there {
                    self.store.end_rename(ticket, &record, &volume, None)
                } else {
                    self.store.drop_rename(ticket, &record, &volume)
                }
            }
            // Whether it is there is looked at for every volume that was being created.
            Then::VolumeIsMade => self.store.drop_intent(ticket),
            Then::VolumeIsGone => {
                let backups = self.store.backups_of(&record.volume)?;
                self.store.volume_is_gone(ticket, record.volume.id, None)?;
                self.forget_backup_files(&backups);
                Ok(())
            }
            Then::VolumeIsReady => {
                let mut ready = Volume { state: VolumeState::Ready, ..record.volume.clone() };
                if let Some(size) =
                    size.filter(|size| size_of(&ready.config).is_ok_and(|wanted| wanted > Some(*size)))
                {
                    ready.config.insert("size".to_owned(), size.to_string());
                }
                self.store.end_change(ticket, &record, &ready, None)
            }
            Then::InstanceIsRestored { instance, snapshot } => {
                let ready = Volume { state: VolumeState::Ready, ..record.volume.clone() };
                let restored = (*instance, *snapshot);
                if let Err(error) = self.end_instance_restore(ticket, &record, &ready, restored, None) {
                    tracing::error!(volume = ready.name, %error, "an instance keeps its settings, its root is restored");
                }
                Ok(())
            }
            Then::VolumeIsRefreshed { size, new, gone } => {
                let mut volume = record.volume.clone();
                if settled == Settled::Undone {
                    return self.store.volume_is_refreshed(ticket, &volume, &[], &[], None);
                }
                volume.config.extend(size.iter().map(|size| ("size".to_owned(), size.clone())));
                self.store.volume_is_refreshed(ticket, &volume, new, gone, None)
            }
            Then::SnapshotIsNamed { snapshot, name } => {
                let Some(snapshot) = self.store.snapshot_by_id(&record.volume, *snapshot)? else {
                    return self.store.drop_intent(ticket);
                };
                let place = Place::live(&record.storage_id()?).at_snapshot(&name.parse()?);
                if recovered.live.contains(&place) {
                    self.store.end_snapshot_rename(ticket, &snapshot, name, None)
                } else {
                    self.store.drop_snapshot_rename(ticket, &snapshot, name)
                }
            }
            Then::SnapshotIsGone { snapshot } => {
                match self.store.snapshot_by_id(&record.volume, *snapshot)? {
                    Some(snapshot) => self.store.snapshot_is_gone(Some(ticket), &snapshot, None),
                    None => self.store.drop_intent(ticket),
                }
            }
            Then::SnapshotIsMade { snapshot, of_instance } => {
                let Some(snapshot) = self.store.snapshot_by_id(&record.volume, *snapshot)? else {
                    return self.store.drop_intent(ticket);
                };
                let place = Place::live(&record.storage_id()?).at_snapshot(&snapshot.name.parse()?);
                if recovered.live.contains(&place) {
                    let mut of_instance = of_instance.as_deref();
                    if let Some(made) = of_instance
                        && self.store.instance_by_id(made.instance)?.is_none()
                    {
                        of_instance = None;
                    }
                    self.store.snapshot_is_made(ticket, &snapshot, of_instance, None)
                } else {
                    self.store.snapshot_is_gone(Some(ticket), &snapshot, None)
                }
            }
        }
    }

    /// A volume that was being created is there now, with the snapshots that came along, or it is not. Returns how many
    /// there were.
    fn finish_creations(&self, records: &[VolumeRecord], recovered: &Recovered) -> Result<usize> {
        let begun = || records.iter().filter(|record| record.volume.state == VolumeState::Creating);
        for record in begun() {
            let live = Place::live(&record.storage_id()?);
            if recovered.live.contains(&live) && record.volume.takes_over.is_some() {
                tracing::info!(volume = record.volume.name, "a copy is there of an interrupted move");
            } else if recovered.live.contains(&live) {
                let snapshots = snapshots_at(&recovered.live, &live.volume);
                let adopted: Vec<_> =
                    snapshots.iter().map(|name| self.adopted(&record.volume, name)).collect();
                self.store.volume_is_ready(&record.volume, &adopted, None)?;
            } else {
                self.store.forget_volume(record.volume.id)?;
            }
        }
        Ok(begun().count())
    }

    fn adopted(&self, volume: &Volume, name: &SnapshotName) -> Snapshot {
        Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: volume.id,
            name: name.to_string(),
            description: String::new(),
            config: volume.config.clone(),
            created_at: self.clock.now(),
            expires_at: None,
            is_ready: true,
        }
    }

    /// Tells of what only one of catalog and pool knows. Neither is ever destroyed.
    fn report_differences(
        &self,
        document: &PoolDocument,
        records: &[VolumeRecord],
        recovered: &Recovered,
    ) -> Result<()> {
        let mut known = BTreeSet::new();
        let mut snapshots = self.store.snapshots_by_volume()?;
        for record in records {
            let live = Place::live(&record.storage_id()?);
            for snapshot in snapshots.remove(&record.volume.id).unwrap_or_default() {
                known.insert(live.at_snapshot(&snapshot.name.parse()?));
            }
            let is_leaving = record.is_sentenced();
            if record.volume.takes_over.is_some() || is_leaving {
                known.extend(recovered.live.iter().filter(|place| place.volume == live.volume).cloned());
            }
            if !is_leaving {
                known.insert(live);
            }
        }
        let live: BTreeSet<Place> = recovered.live.iter().cloned().collect();
        let url = |place: &Place| {
            let VolumeId { kind, name, .. } = &place.volume;
            match kind {
                VolumeKind::Bucket => format!("/1.0/storage-pools/{}/buckets/{name}", document.name),
                _ => format!("/1.0/storage-pools/{}/volumes/{kind}/{name}", document.name),
            }
        };
        for place in live.difference(&known) {
            let message = format!("{place} is on the pool but not in the catalog; it is left alone");
            self.warnings().note(
                WarningType::Orphan,
                place.volume.project.as_str(),
                &url(place),
                &message,
            )?;
        }
        for place in known.difference(&live) {
            let message = format!("{place} is in the catalog but not on the pool");
            self.warnings().note(
                WarningType::Missing,
                place.volume.project.as_str(),
                &url(place),
                &message,
            )?;
        }
        Ok(())
    }
}

/// Whether it is a copy that was to take the place of a volume on another pool, and has not.
fn is_copy_to_take_over(record: &VolumeRecord) -> bool {
    record.volume.state == VolumeState::Creating && record.volume.takes_over.is_some()
}

/// What an intent document says.
pub(super) fn plan_of(intent: &IntentDocument) -> Result<Plan> {
    serde_json::from_value(intent.work.clone()).map_err(|error| {
        super::ServiceError::internal(format!("the intent {} can't be read: {error}", intent.ticket))
    })
}

fn specs_of(records: &[VolumeRecord]) -> Result<BTreeMap<VolumeId, VolumeSpec>> {
    let spec = |record: &VolumeRecord| {
        let id = record.storage_id()?;
        let size = super::volumes::storage_size(&record.volume)?;
        Ok((id.clone(), VolumeSpec { id, size, config: record.volume.config.clone() }))
    };
    records.iter().map(spec).collect()
}

fn snapshots_at(live: &[Place], volume: &VolumeId) -> Vec<SnapshotName> {
    live.iter().filter(|place| place.volume == *volume).filter_map(|place| place.snapshot.clone()).collect()
}
