//! Pools that are out of reach for a while: told of in a warning, left alone, and taken up again by themselves.

use super::warnings::WarningType;
use super::{Result, Service, Task};
use larder_catalog::PoolId;
use larder_catalog::documents::{Instance, Pool as PoolDocument, PoolStatus};
use larder_storage_pool::{Pool, Standing};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What came back.
#[derive(Debug, Default)]
pub struct Back {
    /// How many pools.
    pub pools: usize,
    /// The instances on those that could not be opened until now, as they were then.
    pub instances: Vec<Instance>,
}

impl Service {
    /// Asks every pool whether it answers, and opens those that could not be opened before. Tells what came back. A pool that
    /// stays away is asked again the next time.
    pub fn look_after_pools(&self) -> Result<Back> {
        let (mut back, mut opened) = (0, BTreeSet::new());
        // Those of before: what is made on a pool from the moment it is open is whoever's who makes it, and a root may go then.
        let mut instances = self.instances_out_of_reach()?;
        for document in self.store.pools()? {
            if document.status != PoolStatus::Created {
                continue;
            }
            let open = self.pools.read().get(&document.name).cloned();
            let has_come_back = match open {
                Some(pool) => self.ask(&document, &pool)?,
                None => self.try_again(&document)? && opened.insert(document.id),
            };
            back += usize::from(has_come_back);
        }
        instances.retain(|(_, pool)| opened.contains(pool));
        Ok(Back { pools: back, instances: instances.into_iter().map(|(instance, _)| instance).collect() })
    }

    /// The instances whose roots are on pools that are not open, each with that pool.
    fn instances_out_of_reach(&self) -> Result<Vec<(Instance, PoolId)>> {
        let closed: BTreeSet<PoolId> = {
            let open = self.pools.read();
            let known = self.store.pools()?.into_iter();
            known.filter(|document| !open.contains_key(&document.name)).map(|document| document.id).collect()
        };
        if closed.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for instance in self.store.all_instances()? {
            let root = self.store.root_of(&instance)?;
            found.extend(
                root.filter(|root| closed.contains(&root.volume.pool))
                    .map(|root| (instance, root.volume.pool)),
            );
        }
        Ok(found)
    }

    /// Whether an open pool answers again that did not before.
    fn ask(&self, document: &PoolDocument, pool: &Arc<Pool>) -> Result<bool> {
        let task = Task::quiet(super::work::Requestor::default());
        let answer = self.with_cx(&task, |cx| pool.driver().must_answer(cx));
        let url = format!("/1.0/storage-pools/{}", document.name);
        match answer {
            Ok(()) => {
                let was_away = self.unreachable.write().remove(&document.name);
                if was_away {
                    self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                }
                // What was cut off by its absence is finished now.
                Ok(self.is_healed(document, pool) || was_away)
            }
            Err(error) => {
                if self.unreachable.write().insert(document.name.clone()) {
                    tracing::error!(pool = document.name, error = %error.chain(), "a storage pool does not answer");
                    self.warnings().note(WarningType::PoolUnavailable, "default", &url, &error.chain())?;
                }
                Ok(false)
            }
        }
    }

    /// Whether a pool that refused changes takes them again.
    fn is_healed(&self, document: &PoolDocument, pool: &Pool) -> bool {
        if pool.standing() == Standing::Good {
            self.tidy(pool).unwrap_or_else(|error| {
                tracing::warn!(pool = document.name, %error, "what was deleted still takes up room");
            });
            return false;
        }
        self.heal(document, pool).unwrap_or_else(|error| {
            tracing::warn!(pool = document.name, %error, "a storage pool still refuses changes");
            false
        })
    }

    fn try_again(&self, document: &PoolDocument) -> Result<bool> {
        match self.open_and_settle(document) {
            Ok(()) => {
                let url = format!("/1.0/storage-pools/{}", document.name);
                self.warnings().resolve(WarningType::PoolUnavailable, &url)?;
                tracing::info!(pool = document.name, "a storage pool is available again");
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(pool = document.name, %error, "a storage pool is still not available");
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::instances::{InstanceTarget, NewInstance, NewRoot};
    use crate::service::trial::{World, new_volume, task, volumes_in};
    use crate::service::{Kind, NewSnapshot, OpenPool};
    use larder_base::Cancel;
    use larder_base::host::{Act, Cmd, Host, HostError, Output, SystemHost};
    use larder_catalog::documents::{VolumeState, WarningStatus};
    use larder_runtime::Devices;
    use larder_storage_driver::{Attached, Config, Cx, Place, VolumeSpec};
    use larder_storage_pool::{EmptyFill, Fill, Standing};
    use std::sync::atomic::{AtomicUsize, Ordering};

    impl World {
        fn take_away(&self) {
            let pool = self.pool("p1");
            std::fs::rename(&pool, pool.with_extension("away")).unwrap();
        }

        fn bring_back(&self) {
            let pool = self.pool("p1");
            std::fs::rename(pool.with_extension("away"), pool).unwrap();
        }
    }

    /// Storage that goes away after so many steps.
    #[derive(Debug)]
    struct Silent(Arc<AtomicUsize>);

    impl Host for Silent {
        fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
            SystemHost.run(cmd, cancel)
        }

        fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError> {
            match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => SystemHost.act(act, cancel),
                Err(_) => {
                    let source = std::io::ErrorKind::TimedOut.into();
                    Err(HostError::Act { act: act.describe(), source })
                }
            }
        }
    }

    fn warnings(service: &Service) -> Vec<(WarningStatus, u64)> {
        let all = service.store.warnings().unwrap();
        let of_pools = all.iter().filter(|warning| warning.kind == WarningType::PoolUnavailable.as_str());
        of_pools.map(|warning| (warning.status, warning.count)).collect()
    }

    #[test]
    fn an_open_pool_that_does_not_answer_is_refused_and_comes_back() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        assert_eq!(service.look_after_pools().unwrap().pools, 0);
        world.take_away();
        for _ in 0..2 {
            assert_eq!(service.look_after_pools().unwrap().pools, 0);
            assert_eq!(service.open_pool("p1").unwrap_err().kind, Kind::Unavailable);
            assert!(!service.pool_is_open("p1"));
            assert_eq!(warnings(&service), [(WarningStatus::New, 1)]);
        }
        world.bring_back();
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
        service.open_pool("p1").unwrap();
        assert_eq!(warnings(&service), [(WarningStatus::Resolved, 1)]);
    }

    #[test]
    fn a_pool_that_was_away_at_the_start_comes_back() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        drop(service);
        world.take_away();
        let service = world.start();
        assert_eq!(service.look_after_pools().unwrap().pools, 0);
        assert_eq!(service.open_pool("p1").unwrap_err().kind, Kind::Unavailable);
        world.bring_back();
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
        service.open_pool("p1").unwrap();
        assert_eq!(warnings(&service), [(WarningStatus::Resolved, 1)]);
    }

    /// A service on a pool that goes away after as many steps as are stored.
    fn on_silent(world: &World) -> (Service, OpenPool, Arc<AtomicUsize>) {
        drop(world.with_pools(&["p1"]));
        let steps = Arc::new(AtomicUsize::new(usize::MAX));
        let service = world.start_on(Arc::new(Silent(Arc::clone(&steps))));
        let pool = service.open_pool("p1").unwrap();
        (service, pool, steps)
    }

    fn must_be_degraded<T: std::fmt::Debug>(pool: &OpenPool, outcome: Result<T>) {
        let error = outcome.unwrap_err();
        assert!(matches!(pool.pool.standing(), Standing::Degraded(_)), "{error}");
    }

    fn must_be_whole(service: &Service, pool: &OpenPool) {
        assert_eq!(pool.pool.standing(), Standing::Good);
        assert!(service.store.intents_in(&pool.document).unwrap().is_empty());
        let places = service.with_cx(&task(), |cx| pool.pool.places(cx)).unwrap();
        assert!(places.iter().all(Place::is_live), "{places:?}");
    }

    #[test]
    fn a_change_that_an_absence_cut_off_is_finished_when_the_pool_is_back() {
        let world = World::new();
        let (service, pool, steps) = on_silent(&world);
        service.create_volume(&task(), &pool, new_volume("v1", &[])).unwrap();
        let record = || volumes_in(&service, &pool).pop().unwrap();
        let new = NewSnapshot { name: "s1".parse().unwrap(), description: String::new(), expires_at: None };
        service.create_snapshot(&task(), &pool, &record(), new).unwrap();
        let file = world.pool("p1").join("custom/default_v1/new");
        std::fs::write(&file, "new").unwrap();
        let restore = || service.restore_volume(&task(), &pool, &record(), "s1");
        // What it stages can't be taken away again.
        steps.store(1, Ordering::Relaxed);
        must_be_degraded(&pool, restore());
        assert_eq!(service.look_after_pools().unwrap().pools, 0);
        steps.store(usize::MAX, Ordering::Relaxed);
        assert!(file.exists() && restore().is_err(), "nobody has looked yet");
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
        assert!(!file.exists() && record().volume.state == VolumeState::Ready, "it was finished");
        must_be_whole(&service, &pool);
        restore().unwrap();
    }

    #[test]
    fn a_creation_that_an_absence_cut_off_is_given_up_and_one_under_way_is_left_alone() {
        let world = World::new();
        let (service, pool, steps) = on_silent(&world);
        let create =
            |name, fill: &dyn Fill| service.create_filled(&task(), &pool, new_volume(name, &[]), fill);
        let heal_meanwhile = |_: &Cx<'_>, _: &Attached| {
            steps.store(1, Ordering::Relaxed);
            must_be_degraded(&pool, create("v1", &EmptyFill));
            let names: Vec<_> = volumes_in(&service, &pool).iter().map(|of| of.volume.name.clone()).collect();
            assert_eq!(names.len(), 2, "{names:?}");
            steps.store(usize::MAX, Ordering::Relaxed);
            assert_eq!(service.look_after_pools().unwrap().pools, 1);
            Ok(())
        };
        create("v2", &heal_meanwhile).unwrap();
        let known: Vec<_> =
            volumes_in(&service, &pool).into_iter().map(|of| (of.volume.name, of.volume.state)).collect();
        assert_eq!(known, [("v2".to_owned(), VolumeState::Ready)]);
        must_be_whole(&service, &pool);
        create("v1", &EmptyFill).unwrap();
    }

    fn new_instance(service: &Service, pool: &OpenPool) -> Instance {
        let root = [("type", "disk"), ("path", "/"), ("pool", "p1")];
        let root: Config = root.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let new = NewInstance {
            project: "default".to_owned(),
            name: "c1".to_owned(),
            description: String::new(),
            config: Config::new(),
            devices: Devices::new(),
            profiles: None,
            ephemeral: false,
        };
        let devices = [("root".to_owned(), root)].into();
        let project = larder_base::ProjectName::default_project();
        let planned = service.planned(project, &new, Config::new(), devices, Vec::new()).unwrap();
        let fill =
            |spec: &VolumeSpec| service.with_cx(&task(), |cx| pool.pool.create_volume(cx, spec, &EmptyFill));
        let root = NewRoot { config: Config::new(), trigger: None, companions: &[] };
        service.create_root(&task(), pool, planned, root, fill).unwrap()
    }

    #[test]
    fn an_instance_follows_its_root_whose_rename_an_absence_cut_off() {
        let world = World::new();
        let (service, pool, steps) = on_silent(&world);
        let instance = new_instance(&service, &pool);
        service.snapshot_instance(&task(), &instance, &"s1".parse().unwrap(), None).unwrap();
        let target = InstanceTarget {
            project: "default".to_owned(),
            name: "c2".to_owned(),
            pool: None,
            config: None,
            devices: None,
            profiles: None,
        };
        steps.store(1, Ordering::Relaxed);
        must_be_degraded(&pool, service.move_instance(&task(), &instance, &target));
        let known = || service.store.instance_by_id(instance.id).unwrap().unwrap();
        assert_eq!(known().name, "c1");
        steps.store(usize::MAX, Ordering::Relaxed);
        assert_eq!(service.look_after_pools().unwrap().pools, 1);
        assert_eq!(known().name, "c2");
        assert_eq!(service.store.root_of(&known()).unwrap().unwrap().volume.name, "c2");
        must_be_whole(&service, &pool);
    }

    #[test]
    fn an_instance_whose_deletion_an_absence_cut_off_is_not_started() {
        let world = World::new();
        let (service, pool, steps) = on_silent(&world);
        let instance = new_instance(&service, &pool);
        service.snapshot_instance(&task(), &instance, &"s1".parse().unwrap(), None).unwrap();
        steps.store(1, Ordering::Relaxed);
        must_be_degraded(&pool, service.delete_instance(&task(), &instance));
        let service = Arc::new(service);
        let leaving = service.store.instance_by_id(instance.id).unwrap().unwrap();
        let refused = service.start_instance(&task(), &leaving).unwrap_err();
        assert_eq!(refused.kind, Kind::Unavailable);
        assert!(refused.message.contains("still being removed"), "{refused}");
    }

    #[test]
    fn what_an_absence_kept_in_the_trash_is_removed_when_the_pool_is_back() {
        let world = World::new();
        let (service, pool, steps) = on_silent(&world);
        let instance = new_instance(&service, &pool);
        steps.store(1, Ordering::Relaxed);
        service.delete_instance(&task(), &instance).unwrap_err();
        assert!(service.store.instance_by_id(instance.id).unwrap().is_none(), "it is gone");
        let in_trash = || {
            let places = service.with_cx(&task(), |cx| pool.pool.places(cx)).unwrap();
            places.iter().filter(|place| !place.is_live()).count()
        };
        service.look_after_pools().unwrap();
        assert_eq!(in_trash(), 1);
        steps.store(usize::MAX, Ordering::Relaxed);
        service.look_after_pools().unwrap();
        must_be_whole(&service, &pool);
        assert!(!pool.pool.is_littered());
    }
}
