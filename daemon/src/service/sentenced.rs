//! Sentenced volumes: another volume took their place, or they were to take another's and do not. Nobody can have one any more, and
//! it is nobody's reason to stay. It goes when its pool can let it go, or with its pool.

use super::pools::OpenPool;
use super::store::VolumeRecord;
use super::{Result, Service, ServiceError, Task, work};
use larder_catalog::Cause;
use larder_catalog::VolumeId as VolumeRecordId;
use larder_catalog::documents::Pool as PoolDocument;

impl Service {
    /// Removes the volumes that were moved away and could not be removed then. Returns how many went.
    pub(super) fn bury_sentenced(&self) -> Result<usize> {
        let mut buried = 0;
        for known in self.store.volumes()?.iter().filter(|record| record.is_sentenced()) {
            let document = self.store.pool_by_id(known.volume.pool)?;
            let Ok(pool) = self.open_pool(&document.name) else { continue };
            if let Err(error) = self.bury_one(&pool, known.volume.id) {
                tracing::warn!(volume = known.volume.name, %error, "a volume that was moved away is not removed");
            }
            buried += usize::from(self.store.volume_by_id(known.volume.id)?.is_none());
        }
        Ok(buried)
    }

    /// Removes a sentenced volume, unless somebody else does.
    fn bury_one(&self, pool: &OpenPool, id: VolumeRecordId) -> Result<()> {
        let Some(_claim) = self.volume_claims.try_take(id) else { return Ok(()) };
        let record = self.store.volume_by_id(id)?.filter(VolumeRecord::is_sentenced);
        let Some(record) = record else { return Ok(()) };
        let buried = self.bury(&Task::quiet(work::Requestor::default()), pool, &record);
        if self.store.volume_by_id(id)?.is_none() {
            let intents = self.store.intents_in(&pool.document)?;
            let mut own = intents.iter().filter(|intent| intent.volume == id);
            own.try_for_each(|intent| self.store.drop_intent(&intent.ticket))?;
        }
        buried
    }

    /// Removes those that are left on a pool that goes. Where it is not open nothing is done: they are forgotten with it.
    pub(super) fn bury_left_on(&self, document: &PoolDocument, sentenced: &[VolumeRecord]) -> Result<()> {
        let Some(pool) = self.pools.read().get(&document.name).cloned() else { return Ok(()) };
        let open = OpenPool { document: document.clone(), pool };
        for record in sentenced {
            self.bury_one(&open, record.volume.id)?;
            if self.store.volume_by_id(record.volume.id)?.is_some() {
                let (name, kind) = (&record.volume.name, &record.volume.kind);
                let message =
                    format!("the {kind} volume {name:?} of before is still being removed: try again");
                return Err(ServiceError { kind: super::Kind::Unavailable, message });
            }
        }
        Ok(())
    }

    /// Forgets a pool, and with it what is sentenced there and could not be removed.
    pub(super) fn forget_pool(&self, pool: &PoolDocument, cause: Cause) -> Result<()> {
        let mut left = self.store.volumes_in(pool)?;
        left.retain(VolumeRecord::is_sentenced);
        let mut backups = Vec::new();
        for record in &left {
            backups.extend(self.store.backups_of(&record.volume)?);
        }
        self.store.forget_pool_with(pool, &left, cause)?;
        self.forget_backup_files(&backups);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{World, new_volume, task, volumes_in};
    use super::super::{NewSnapshot, NewVolume};
    use super::*;
    use larder_base::ProjectName;
    use larder_catalog::documents::{PoolStatus, Volume};
    use larder_storage_driver::Config;
    use larder_storage_pool::EmptyFill;

    /// A project `blue` whose volume was moved from `p1` to `p2`, deleted there, and is not removed from `p1` yet, which is away.
    fn with_one_on_a_dead_pool(world: &World) -> Service {
        let service = world.with_pools(&["p1", "p2"]);
        let blue: ProjectName = "blue".parse().unwrap();
        service.create_project(&task(), &blue, String::new(), Config::new()).unwrap();
        let (from, to) = (service.open_pool("p1").unwrap(), service.open_pool("p2").unwrap());
        let new = || NewVolume { project: blue.clone(), ..new_volume("v", &[]) };
        service.create_volume(&task(), &from, new()).unwrap();
        let old = volumes_in(&service, &from).remove(0);
        let snapshot =
            NewSnapshot { name: "s0".parse().unwrap(), description: String::new(), expires_at: None };
        service.create_snapshot(&task(), &from, &old, snapshot).unwrap();
        let old = volumes_in(&service, &from).remove(0);
        let (volume, spec) = service.plan_volume(&to, new()).unwrap();
        let copy = Volume { takes_over: Some(old.volume.id), ..volume };
        service.store.begin_volume(&to.document, &copy).unwrap();
        service.with_cx(&task(), |cx| to.pool.create_volume(cx, &spec, &EmptyFill)).unwrap();
        service.take_over(&task(), "p2", &copy, &old, &[]).unwrap();
        service.delete_volume(&task(), &to, &volumes_in(&service, &to).remove(0)).unwrap();
        drop(service);
        std::fs::rename(world.pool("p1"), world.pool("away")).unwrap();
        world.start()
    }

    #[test]
    fn one_on_a_dead_pool_is_nobodys_reason_to_stay() {
        let world = World::new();
        let service = with_one_on_a_dead_pool(&world);
        let (blue, pool) = (service.project("blue").unwrap(), service.pool_document("p1").unwrap());
        assert_eq!(service.bury_sentenced().unwrap(), 0);
        assert_eq!(service.store.volumes_in(&pool).unwrap().len(), 1, "it stays sentenced");
        assert_eq!(service.pool_users(&pool).unwrap(), Vec::<String>::new());
        let users = service.project_users(&blue.name).unwrap();
        assert_eq!(users, ["/1.0/profiles/default?project=blue"]);
        service.delete_project(&task(), &blue).unwrap();
        // It goes when its pool is back, whoever's it was.
        std::fs::rename(world.pool("away"), world.pool("p1")).unwrap();
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
        service.bury_sentenced().unwrap();
        assert!(service.store.volumes_in(&pool).unwrap().is_empty());
        assert!(service.store.intents_in(&pool).unwrap().is_empty());
        let open = service.open_pool("p1").unwrap();
        assert_eq!(service.with_cx(&task(), |cx| open.pool.places(cx)).unwrap(), []);
        service.delete_pool(&task(), "p1").unwrap();
    }

    #[test]
    fn one_goes_with_its_dead_pool() {
        let world = World::new();
        let service = with_one_on_a_dead_pool(&world);
        let pool = service.pool_document("p1").unwrap();
        service.delete_pool(&task(), "p1").unwrap();
        assert!(
            service.store.volumes().unwrap().is_empty()
                && service.store.intents_in(&pool).unwrap().is_empty()
        );
        assert_eq!(service.store.pools().unwrap().len(), 1);
        drop(service);
        let service = world.start();
        assert_eq!(service.bury_sentenced().unwrap(), 0);
    }

    #[test]
    fn one_on_a_pool_that_is_there_is_removed_before_the_pool_is() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let pool = service.open_pool("p1").unwrap();
        service.create_volume(&task(), &pool, new_volume("v", &[])).unwrap();
        let record = volumes_in(&service, &pool).remove(0);
        service.store.sentence(&record).unwrap();
        let claim = service.volume_claims.try_take(record.volume.id).unwrap();
        let refused = service.delete_pool(&task(), "p1").unwrap_err();
        assert!(refused.message.contains("still being removed"), "{refused}");
        assert_eq!(service.pool_document("p1").unwrap().status, PoolStatus::Created);
        drop(claim);
        service.delete_pool(&task(), "p1").unwrap();
        assert!(service.store.volumes().unwrap().is_empty());
    }
}
