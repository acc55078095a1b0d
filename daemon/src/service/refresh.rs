//! Bringing an existing copy of a volume up to date with its source.

use super::copies::companions_of;
use super::crash::{Point, point};
use super::pools::OpenPool;
use super::store::{VolumeRecord, cause_of};
use super::work::{Plan, Then};
use super::{Result, Service, ServiceError, Task, VolumeSource};
use larder_catalog::documents::{Snapshot, Volume, VolumeState};
use larder_storage_driver::VolumeSpec;
use larder_storage_pool::{CopySource, Intent, RefreshPlan, RefreshedSnapshot};

/// What a copy has to get and to lose.
#[derive(Debug)]
struct Differences {
    /// The snapshots it shall have, oldest first; each with whether it comes over.
    wanted: Vec<(Snapshot, bool)>,
    /// What it has beyond them.
    gone: Vec<Snapshot>,
}

impl Differences {
    /// A snapshot is the same when its name and the time it was made are. `excludes_older`: what is older than the newest
    /// of the copy stays behind.
    fn between(source: Vec<Snapshot>, target: Vec<Snapshot>, excludes_older: bool) -> Self {
        let is_same = |one: &Snapshot, other: &Snapshot| {
            one.name == other.name && one.created_at.as_second() == other.created_at.as_second()
        };
        let newest = target.iter().map(|snapshot| snapshot.created_at).max();
        let (staying, gone): (Vec<_>, Vec<_>) =
            target.into_iter().partition(|own| source.iter().any(|other| is_same(own, other)));
        let is_left_out =
            |snapshot: &Snapshot| excludes_older && newest.is_some_and(|newest| snapshot.created_at < newest);
        let new: Vec<_> = source
            .into_iter()
            .filter(|other| !staying.iter().any(|own| is_same(own, other)) && !is_left_out(other))
            .collect();
        let mut wanted: Vec<_> = staying.into_iter().map(|snapshot| (snapshot, false)).collect();
        wanted.extend(new.into_iter().map(|snapshot| (snapshot, true)));
        wanted.sort_by(|(one, _), (other, _)| {
            (one.created_at, &one.name).cmp(&(other.created_at, &other.name))
        });
        Self { wanted, gone }
    }

    fn snapshots(&self) -> Result<Vec<RefreshedSnapshot>> {
        let snapshot = |(snapshot, is_new): &(Snapshot, bool)| {
            Ok(RefreshedSnapshot { name: snapshot.name.parse()?, is_new: *is_new })
        };
        self.wanted.iter().map(snapshot).collect()
    }

    /// The documents of what comes over, for the copy. One that replaces another of its name takes its place.
    fn new_documents(&self, copy: &Volume) -> Vec<Snapshot> {
        let new: Vec<_> =
            self.wanted.iter().filter(|(_, is_new)| *is_new).map(|(snapshot, _)| snapshot.clone()).collect();
        let mut documents = companions_of(copy, &new);
        for document in &mut documents {
            if let Some(old) = self.gone.iter().find(|old| old.name == document.name) {
                document.id = old.id;
            }
        }
        documents
    }

    /// The documents of what goes without a successor.
    fn old_documents(&self, new: &[Snapshot]) -> Vec<Snapshot> {
        self.gone.iter().filter(|old| new.iter().all(|new| new.id != old.id)).cloned().collect()
    }
}

impl Service {
    /// Brings a volume up to date with another: its content, and its snapshots where the source's come along. All or
    /// nothing. `excludes_older` leaves out snapshots that are older than the newest of the copy.
    pub fn refresh_volume(
        &self,
        task: &Task,
        target: &OpenPool,
        record: &VolumeRecord,
        source: &VolumeSource,
        excludes_older: bool,
    ) -> Result<()> {
        let (_claim, record) = &self.alone_with(task, record)?;
        check(record, source)?;
        let differences = self.differences(record, source, excludes_older)?;
        let (from, id) = (source.record.storage_id()?, record.storage_id()?);
        let mut config = record.volume.config.clone();
        let theirs = super::volumes::size_of(&source.record.volume.config)?;
        let mut size = super::volumes::size_of(&config)?;
        if id.has_disk() && theirs > size {
            size = theirs;
            config.extend(size.map(|size| ("size".to_owned(), size.to_string())));
        }
        let spec = VolumeSpec { id, size, config: config.clone() };
        let snapshots = differences.snapshots()?;
        let plan = RefreshPlan { spec: &spec, snapshots: &snapshots };
        let exchange = self.with_cx(task, |cx| target.pool.plan_refresh(cx, &plan));
        let new = differences.new_documents(&record.volume);
        let gone = differences.old_documents(&new);
        let intent = Plan {
            storage: Intent::Refresh(exchange.clone()),
            then: Then::VolumeIsRefreshed {
                size: size.map(|size| size.to_string()),
                new: new.clone(),
                gone: gone.clone(),
            },
        };
        let marked = Volume { state: VolumeState::Restoring, ..record.volume.clone() };
        let marked = self.store.begin_change(&self.ticket(task), record, &marked, &intent)?;
        point(Point::Intent);
        let outcome = self.with_cx(task, |cx| {
            let source = CopySource { pool: &source.pool.pool, volume: &from, snapshot: None };
            target.pool.refresh_volume(cx, source, &plan, &exchange)
        });
        point(Point::Act);
        let ready = Volume { state: VolumeState::Ready, ..record.volume.clone() };
        if let Err(error) = outcome {
            if error.undo_failures().is_empty() {
                self.store.end_change(&self.ticket(task), &marked, &ready, None)?;
            }
            return Err(error.into());
        }
        let ready = Volume { config, ..ready };
        let url = self.volume_url(&target.document.name, &ready);
        let mut cause = cause_of(task, "storage-volume-updated", &url, &ready.project);
        cause.context = serde_json::json!({ "refreshed_from": source.record.volume.name });
        self.store.volume_is_refreshed(&self.ticket(task), &ready, &new, &gone, Some(cause))?;
        point(Point::Commit);
        Ok(self.with_cx(task, |cx| target.pool.destroy(cx, &exchange.old()))?)
    }

    fn differences(
        &self,
        record: &VolumeRecord,
        source: &VolumeSource,
        excludes_older: bool,
    ) -> Result<Differences> {
        let own = self.store.snapshots_of(&record.volume)?;
        if !source.with_snapshots {
            return Ok(Differences {
                wanted: own.into_iter().map(|snapshot| (snapshot, false)).collect(),
                gone: Vec::new(),
            });
        }
        let theirs = self.store.snapshots_of(&source.record.volume)?;
        Ok(Differences::between(theirs, own, excludes_older))
    }
}

fn check(record: &VolumeRecord, source: &VolumeSource) -> Result<()> {
    record.must_be_whole()?;
    source.record.must_be_whole()?;
    let name = &record.volume.name;
    if let Some(snapshot) = &source.snapshot {
        return Err(ServiceError::bad(format!(
            "{name:?} can't be refreshed from the snapshot {snapshot}: give the volume itself as the source"
        )));
    }
    if record.volume.id == source.record.volume.id {
        return Err(ServiceError::bad(format!("{name:?} can't be refreshed from itself")));
    }
    let (ours, theirs) = (&record.volume.content, &source.record.volume.content);
    if ours != theirs {
        return Err(ServiceError::bad(format!(
            "{name:?} is a {ours} volume and can't be refreshed from a {theirs} volume"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, second: i64) -> Snapshot {
        Snapshot {
            id: larder_catalog::SnapshotId::random(),
            volume: larder_catalog::VolumeId::random(),
            name: name.to_owned(),
            description: String::new(),
            config: larder_storage_driver::Config::new(),
            created_at: jiff::Timestamp::from_second(second).unwrap(),
            expires_at: None,
            is_ready: true,
        }
    }

    fn told(differences: &Differences) -> (Vec<(&str, bool)>, Vec<&str>) {
        let wanted = differences.wanted.iter().map(|(one, is_new)| (one.name.as_str(), *is_new)).collect();
        (wanted, differences.gone.iter().map(|one| one.name.as_str()).collect())
    }

    #[test]
    fn what_is_missing_comes_and_what_the_source_lost_goes() {
        let source = || vec![snapshot("a", 1), snapshot("b", 20), snapshot("c", 30)];
        let target = || vec![snapshot("a", 1), snapshot("b", 2), snapshot("own", 15)];
        let all = Differences::between(source(), target(), false);
        assert_eq!(told(&all), (vec![("a", false), ("b", true), ("c", true)], vec!["b", "own"]));
        let newer = Differences::between(source(), vec![snapshot("b", 20)], true);
        assert_eq!(told(&newer), (vec![("b", false), ("c", true)], vec![]));
    }

    #[test]
    fn a_successor_of_the_same_name_takes_the_document_over() {
        let copy = snapshot("b", 2);
        let id = copy.id;
        let differences = Differences::between(vec![snapshot("b", 20)], vec![copy], false);
        let volume: Volume = serde_json::from_value(serde_json::json!({
            "id": larder_catalog::VolumeId::random(), "pool": larder_catalog::PoolId::random(), "project": "default",
            "kind": "custom", "content": "block", "name": "v", "description": "", "config": {}, "state": "ready",
            "created_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let new = differences.new_documents(&volume);
        assert_eq!((new.len(), new[0].id, new[0].volume), (1, id, volume.id));
        assert!(differences.old_documents(&new).is_empty());
    }
}
