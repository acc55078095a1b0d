//! Room in the thin pool: it grows before it is full, as far as the volume group has extents that nobody has.
//!
//! LVM can do that itself, at any moment, where `lvm.conf` says so and its monitor runs; by default it does not.
//! Source: `lvmthin(7)`.

use super::command::{LVEXTEND, change, run};
use super::pool::is_made;
use super::report::Lv;
use super::{Look, Lvm};
use larder_storage_driver::Cx;

/// When more than this is written, it grows.
const FULL_PERCENT: f64 = 80.0;
/// Most that metadata grows by at once.
const METADATA_STEP: u64 = 1 << 30;

impl Lvm {
    /// Lets the thin pool grow if it is filling. What can't grow is not full yet, and LVM refuses what is too much.
    pub(super) fn make_room(&self, cx: &Cx<'_>, look: &Look) {
        if look.thin_pool.as_ref().is_none_or(|pool| growth(pool).is_empty()) {
            return;
        }
        let _growing = self.growing.lock();
        // Somebody else may have let it grow since.
        let Some(pool) = self.look(cx).ok().and_then(|look| look.thin_pool) else { return };
        for [what, by] in growth(&pool) {
            if let Err(error) = run(cx, &change(LVEXTEND).args([what, by]).arg(self.full(&pool.name))) {
                tracing::warn!(pool = pool.name, error = %error.chain(), "a thin pool that is filling can't grow");
            }
        }
    }
}

/// What of a thin pool grows by how much, as arguments for lvextend. One that was there before has the size that somebody chose:
/// only its metadata grows.
fn growth(pool: &Lv) -> Vec<[String; 2]> {
    let is_filling = |percent: Option<f64>| percent.is_some_and(|percent| percent > FULL_PERCENT);
    let whole = |bytes: u64| bytes / pool.extent * pool.extent;
    let (mut free, mut wanted) = (pool.vg_free, Vec::new());
    if is_filling(pool.metadata_percent) {
        // As much as LVM gives a new one, in blocks of 64 KiB. The spare that repairs it grows along.
        let metadata = whole((pool.size >> 10).min(METADATA_STEP).max(pool.extent).min(free / 4));
        wanted.push(("--poolmetadatasize", metadata));
        free -= 2 * metadata;
    }
    if is_made(&pool.tags) && is_filling(pool.data_percent) {
        // What a new pool leaves for its metadata stays.
        wanted.push(("--size", whole((pool.size / 5).min(free.saturating_sub(pool.size / 16)))));
    }
    let grows = wanted.into_iter().filter(|(_, bytes)| *bytes > 0);
    grows.map(|(what, bytes)| [what.to_owned(), format!("+{bytes}b")]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::pool::MADE_MARK;
    use super::super::report::tests::lv;
    use super::*;

    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;

    /// What grows of a thin pool of a size, so full in data and metadata, with so much beside it.
    fn grown(size: u64, [data, metadata]: [f64; 2], free: u64, tags: &[&str]) -> Vec<String> {
        let pool = Lv {
            size,
            is_thin_pool: true,
            is_active: true,
            data_percent: Some(data),
            metadata_percent: Some(metadata),
            vg_free: free,
            ..lv("thin", tags, "")
        };
        growth(&pool).into_iter().map(|words| words.join(" ")).collect()
    }

    fn by(what: &str, mebibytes: u64) -> String {
        format!("{what} +{}b", mebibytes * MIB)
    }

    #[test]
    fn data_grows_by_a_fifth_and_leaves_what_metadata_needs() {
        let made = [MADE_MARK];
        assert_eq!(grown(1000 * MIB, [80.5, 10.0], 4096 * MIB, &made), [by("--size", 200)]);
        assert!(grown(1000 * MIB, [80.0, 10.0], 4096 * MIB, &made).is_empty());
        assert_eq!(grown(1600 * MIB, [99.0, 10.0], 140 * MIB, &made), [by("--size", 40)]);
        // As it was made: 95 % of the volume group.
        assert!(grown(968 * MIB, [99.0, 10.0], 44 * MIB, &made).is_empty());
        // Somebody else's choice.
        assert!(grown(1000 * MIB, [99.0, 10.0], 4096 * MIB, &[]).is_empty());
    }

    #[test]
    fn metadata_grows_by_what_a_new_one_has_and_not_by_a_share_of_the_group() {
        assert_eq!(grown(1000 * MIB, [10.0, 81.0], TIB, &[]), [by("--poolmetadatasize", 4)]);
        assert_eq!(grown(TIB / 10, [10.0, 81.0], 10 * TIB, &[]), [by("--poolmetadatasize", 100)]);
        assert_eq!(grown(50 * TIB, [10.0, 81.0], 10 * TIB, &[]), [by("--poolmetadatasize", 1024)]);
        assert_eq!(grown(TIB / 10, [10.0, 81.0], 40 * MIB, &[]), [by("--poolmetadatasize", 8)]);
        assert!(grown(TIB / 10, [10.0, 81.0], 12 * MIB, &[]).is_empty());
    }

    #[test]
    fn metadata_grows_before_data() {
        let both = [by("--poolmetadatasize", 4), by("--size", 28)];
        assert_eq!(grown(1600 * MIB, [90.0, 90.0], 136 * MIB, &[MADE_MARK]), both);
    }
}
