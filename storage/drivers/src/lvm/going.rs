//! What goes with a pool, and what of its volume group is somebody else's and stays.
//!
//! Ours is what bears the tag of a place, as all that was made here does, and lies where the pool's volumes do. Of what is live that
//! goes only along with a volume group that was made for the pool and in which nobody else has anything.

use super::Lvm;
use super::names::is_place_tag;
use super::pool::{has_other_pool, is_made};
use super::report::{Lv, Vg};
use larder_storage_driver::{Cx, Result};
use std::collections::HashSet;

/// What goes with a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Going {
    /// The volume group with all that is in it.
    Group,
    /// These logical volumes.
    Volumes(Vec<String>),
}

impl Lvm {
    pub(super) fn going(&self, cx: &Cx<'_>, group: &Vg) -> Result<Going> {
        Ok(self.going_of(group, &self.volumes(cx)?))
    }

    fn going_of(&self, group: &Vg, volumes: &[Lv]) -> Going {
        let names: HashSet<String> = volumes.iter().map(|lv| lv.name.clone()).collect();
        let place = |lv: &Lv| self.names.read_one(lv.clone(), &names).filter(|_| self.is_ours(lv));
        let has_other_pool = has_other_pool(&group.tags, &self.mark());
        if is_made(&group.tags)
            && !has_other_pool
            && volumes.iter().all(|lv| self.is_thin_pool(lv) || place(lv).is_some())
        {
            return Going::Group;
        }
        // Two thick pools in one group can't be told apart.
        let is_certain = self.is_thin() || !has_other_pool;
        let is_going = |lv: &&Lv| is_certain && place(lv).is_some_and(|found| !found.place.is_live());
        let mut going: Vec<String> = volumes.iter().filter(is_going).map(|lv| lv.name.clone()).collect();
        let stays = |lv: &Lv| self.is_in_pool(lv) && !going.contains(&lv.name);
        let is_empty = !self.is_thin() || !volumes.iter().any(stays);
        let made = volumes.iter().find(|lv| is_empty && self.is_thin_pool(lv) && is_made(&lv.tags));
        going.extend(made.map(|lv| lv.name.clone()));
        Going::Volumes(going)
    }

    pub(super) fn is_thin_pool(&self, lv: &Lv) -> bool {
        lv.is_thin_pool && self.settings.thin_pool.as_ref() == Some(&lv.name)
    }

    /// Whether a logical volume is where the pool's are: in its thin pool, or in none.
    fn is_in_pool(&self, lv: &Lv) -> bool {
        lv.pool == self.settings.thin_pool.as_deref().unwrap_or_default()
    }

    /// Whether a logical volume was made for a place of the pool.
    fn is_ours(&self, lv: &Lv) -> bool {
        self.is_in_pool(lv) && lv.tags.iter().any(|tag| is_place_tag(tag))
    }

    /// Whether a logical volume that is spelled as a place is deactivated with the pool. In a group that is not shared, one that a
    /// peer made was taken over.
    pub(super) fn may_close(&self, lv: &Lv) -> bool {
        self.is_ours(lv) || (self.is_in_pool(lv) && !self.settings.may_share)
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::tag;
    use super::super::pool::{MADE_MARK, POOL_MARK};
    use super::super::report::tests::lv;
    use super::*;
    use crate::PoolSetup;
    use larder_base::Ticket;
    use larder_storage_driver::{Content, Place, VolumeId};

    const POOL: &str = "IncusThinPool";

    fn thin_pool(tags: &[&str]) -> Lv {
        Lv { is_thin_pool: true, ..lv(POOL, tags, "") }
    }

    fn driver(keys: &[(&str, &str)]) -> Lvm {
        Lvm::new(PoolSetup::with_keys(keys)).unwrap()
    }

    fn group(driver: &Lvm, tags: &[&str]) -> Vg {
        let mut all = vec![driver.mark()];
        all.extend(tags.iter().map(|tag| (*tag).to_owned()));
        Vg { name: "p1".to_owned(), tags: all, size: 1 << 30, free: 0 }
    }

    /// A live volume, and one in the trash.
    fn ours(driver: &Lvm, pool: &str) -> [Lv; 2] {
        let id = VolumeId::custom(Content::Filesystem, "default".parse().unwrap(), "v1".parse().unwrap());
        let live = Place::live(&id);
        let ticket = Ticket::new("none", uuid::Uuid::nil(), uuid::Uuid::nil());
        [live.staged(&ticket), live.trashed(&ticket)]
            .map(|at| {
                (
                    tag(&at),
                    if matches!(at.area, larder_storage_driver::Area::Staging(_)) {
                        live.clone()
                    } else {
                        at
                    },
                )
            })
            .map(|(tag, at)| lv(&driver.names.lv(&at, super::super::names::Part::Main), &[&tag], pool))
    }

    fn volumes(names: &[&str]) -> Going {
        Going::Volumes(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_group_that_was_made_goes_unless_somebody_else_has_something_in_it() {
        let driver = driver(&[]);
        let made = group(&driver, &[MADE_MARK]);
        let [live, trashed] = ours(&driver, POOL);
        let whole = vec![thin_pool(&[MADE_MARK]), live, trashed.clone()];
        assert_eq!(driver.going_of(&made, &whole), Going::Group);
        assert_eq!(driver.going_of(&made, &[]), Going::Group);
        // Beside the thin pool, in it, and with a name as the peers give.
        for foreign in [lv("root", &[], ""), lv("data", &[], POOL), lv("custom_default_v2", &[], POOL)] {
            let beside = [thin_pool(&[MADE_MARK]), trashed.clone(), foreign.clone()];
            let expected = if foreign.pool.is_empty() {
                volumes(&[&trashed.name, POOL])
            } else {
                volumes(&[&trashed.name])
            };
            assert_eq!(driver.going_of(&made, &beside), expected, "{}", foreign.name);
        }
        let shared = group(&driver, &[MADE_MARK, &format!("{POOL_MARK}0")]);
        assert_eq!(driver.going_of(&shared, &whole), volumes(&[&trashed.name]));
    }

    #[test]
    fn of_a_group_that_was_there_only_what_was_made_and_is_not_live_goes() {
        let driver = driver(&[("source", "p1")]);
        let found = group(&driver, &[]);
        let [live, trashed] = ours(&driver, POOL);
        let made = thin_pool(&[MADE_MARK]);
        assert_eq!(
            driver.going_of(&found, &[made.clone(), trashed.clone()]),
            volumes(&[&trashed.name, POOL])
        );
        assert_eq!(driver.going_of(&found, &[thin_pool(&[]), trashed.clone()]), volumes(&[&trashed.name]));
        assert_eq!(driver.going_of(&found, &[made, live, trashed.clone()]), volumes(&[&trashed.name]));
        // In somebody else's thin pool.
        let [_, elsewhere] = ours(&driver, "other");
        assert_eq!(driver.going_of(&found, &[elsewhere]), volumes(&[]));
    }

    #[test]
    fn what_is_staged_in_a_group_of_two_thick_pools_is_left_to_the_other() {
        let driver = driver(&[("source", "p1"), ("lvm.use_thinpool", "false")]);
        let [_, trashed] = ours(&driver, "");
        let alone = group(&driver, &[]);
        assert_eq!(driver.going_of(&alone, std::slice::from_ref(&trashed)), volumes(&[&trashed.name]));
        let shared = group(&driver, &[&format!("{POOL_MARK}0")]);
        assert_eq!(driver.going_of(&shared, &[trashed]), volumes(&[]));
    }
}
