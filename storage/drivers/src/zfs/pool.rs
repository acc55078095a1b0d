//! The pool itself: a zpool of our own on a file or device, a zpool or dataset that was there, or a dataset made in one.

use super::Zfs;
use super::command::{self, CLONES, Property};
use super::parse::{self, Refusal};
use super::run::{change, run, run_if_there};
use super::volume::is_there;
use crate::PoolSetup;
use crate::filesystem::{Mounted, mounts, unmount_where};
use crate::keys::{is_on, named, value};
use crate::refusal::Outcome;
use crate::source::{self, Source};
use larder_storage_driver::{Config, Cx, Driver, PoolUsage, Result, StorageError, VolumeKind, is_true};
use std::path::Path;

/// Remembers on the pool's root what was made for it, and so what goes with it.
const MADE: &str = "larder:made";
/// Remembers on which file or device our own zpool is.
const SOURCE: &str = "larder:source";

/// What was made for a pool: the whole zpool, the dataset, or only what is in it.
const ZPOOL: &str = "zpool";
const DATASET: &str = "dataset";
const CONTENTS: &str = "contents";

fn invalid<T>(problem: String) -> Result<T> {
    Err(StorageError::invalid(problem))
}

/// The zpool or dataset that the keys name.
pub(super) fn dataset_of(setup: &PoolSetup, source: &Source) -> Result<String> {
    let existing = match source {
        Source::Existing(name) if !name.starts_with('/') => Some(name.as_str()),
        _ => None,
    };
    let (key, dataset) = named(&setup.config, "zfs.pool_name", existing, setup.name.as_str())?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_good = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(is_plain);
    if !dataset.starts_with(|c: char| c.is_ascii_alphabetic()) || !dataset.split('/').all(is_good) {
        return invalid(format!(
            "{key} can't be {dataset:?}: a name of a zpool or dataset begins with a letter and has only letters, digits and - _ . :"
        ));
    }
    if dataset.contains('/') && !matches!(source, Source::Existing(_)) {
        return invalid(format!("{dataset:?} can't be made on a file or device: name a zpool, without /"));
    }
    Ok(dataset.to_owned())
}

/// What the pool's root has, and all below it.
fn root_properties(made: &str) -> Vec<Property> {
    let fixed = [("mountpoint", "legacy"), ("acltype", "posixacl"), ("xattr", "sa"), ("relatime", "on")];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    fixed.chain([(MADE, made.to_owned())]).collect()
}

impl Zfs {
    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        match (&self.source, self.source.path()) {
            (Source::Existing(path), _) if path.starts_with('/') => {
                return invalid(format!(
                    "the source {path:?} is no block device: give a device, a zpool or dataset, or no source for a file of ours"
                ));
            }
            (_, Some(device)) => self.make_zpool(cx, device)?,
            (_, None) => self.use_dataset(cx)?,
        }
        self.make_ours(cx)
    }

    /// A zpool of our own on a device or file.
    fn make_zpool(&self, cx: &Cx<'_>, device: &Path) -> Result<()> {
        let (zpool, device_name) = (self.layout.zpool(), device.to_string_lossy());
        match run(cx, &command::list(SOURCE, &[zpool])).unless(&[Refusal::Missing])? {
            Some(text) if text.trim_end() == device_name => return self.must_hold_no_volume(cx),
            Some(_) => {
                return invalid(format!(
                    "there is a zpool {zpool} already: give another zfs.pool_name, or source={zpool} to use it"
                ));
            }
            None => {}
        }
        self.source.make(cx)?;
        source::claim(cx, device, None, is_on(&self.config.lock(), "source.wipe"))?;
        let mut properties = root_properties(ZPOOL);
        properties.extend([(SOURCE, device_name.into_owned()), ("compression", "on".to_owned())]);
        Ok(change(cx, &command::create_zpool(zpool, device, &properties))?)
    }

    /// What a call that was cut off has made is gone on with; what has volumes is somebody's.
    fn must_hold_no_volume(&self, cx: &Cx<'_>) -> Result<()> {
        if self.list(cx)?.is_empty() {
            return Ok(());
        }
        invalid(format!("{} has volumes already: source.recover=true takes them over", self.layout.dataset()))
    }

    /// What is there, if it is empty, or a new dataset in a zpool.
    fn use_dataset(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        let made = run(cx, &command::own(MADE, dataset)).unless(&[Refusal::Missing])?;
        let text = run(cx, &command::list_below("name", dataset));
        match text.unless(&[Refusal::Missing])? {
            Some(_) if made.is_some_and(|made| !made.trim_end().is_empty()) => self.must_hold_no_volume(cx),
            Some(text) if text.lines().count() > 1 => invalid(format!(
                "{dataset} is not empty: give an empty zpool or dataset (zfs list -r {dataset} shows what is in it)"
            )),
            Some(_) => Ok(change(cx, &command::set(dataset, &root_properties(CONTENTS)))?),
            None if dataset.contains('/') => {
                let made = change(cx, &command::create_filesystem(dataset, &root_properties(DATASET)));
                let problem = format!("{dataset} can't be made: its zpool or parent dataset is not there");
                let made = made.unless(&[Refusal::MissingParent, Refusal::Missing])?;
                made.ok_or_else(|| StorageError::invalid(problem))
            }
            None => invalid(format!("there is no zpool {dataset}: give one that is there, or a device")),
        }
    }

    fn make_ours(&self, cx: &Cx<'_>) -> Result<()> {
        let properties = [("mountpoint", "legacy".to_owned())];
        let made = change(cx, &command::create_filesystem(&self.layout.ours(), &properties));
        Ok(made.unless(&[Refusal::Exists]).map(drop)?)
    }

    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        if !is_there(cx, &self.layout.ours())? {
            self.import(cx)?;
            // A peer's pool that is taken over has none.
            self.make_ours(cx)?;
        }
        self.mount_points.make(cx)?;
        // What can't go now is tried the next time.
        if let Err(error) = self.tidy(cx) {
            tracing::warn!(dataset = self.layout.dataset(), error = %error.chain(), "what a run has left stays");
        }
        Ok(())
    }

    /// Opens the zpool if it is closed.
    fn import(&self, cx: &Cx<'_>) -> Result<()> {
        let zpool = self.layout.zpool();
        if !run_if_there(cx, &command::list_zpool("name", zpool))? {
            let folder = self.folder();
            let what = format!("the zpool {zpool} (looked for in {})", folder.display());
            // Our own file came here with its folder, or the machine has another name. A device may be in use elsewhere.
            let is_ours = matches!(self.source, Source::File { .. });
            change(cx, &command::import_zpool(zpool, folder, is_ours)).of(what)?;
        }
        let dataset = self.layout.dataset();
        run(cx, &command::list("name", &[dataset])).of(format!("the dataset {dataset}")).map(drop)
    }

    /// The folder of what the zpool is on.
    fn folder(&self) -> &Path {
        let file = match &self.source {
            Source::File { path, .. } => Some(path.as_path()),
            Source::Existing(path) if path.starts_with('/') => Some(Path::new(path)),
            Source::Device(_) | Source::Existing(_) => None,
        };
        file.and_then(Path::parent).unwrap_or(Path::new("/dev"))
    }

    /// Grows the pool's file, and takes over what else changed.
    pub(super) fn change(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        if let Some(size) = source::new_size(old, new)? {
            self.source.grow(cx, size)?;
            if let Some(device) = self.source.path() {
                change(cx, &command::expand_zpool(self.layout.zpool(), device))?;
            }
        }
        self.config.lock().clone_from(new);
        Ok(())
    }

    pub(super) fn close(&self, cx: &Cx<'_>) -> Result<()> {
        let keeps_open = value(&self.config.lock(), "zfs.export").is_some_and(|value| !is_true(value));
        // What an instance has mounted goes on without the daemon, and so does its zpool.
        let is_in_use = mounts()?.iter().any(|mounted| self.is_ours(mounted));
        if keeps_open || is_in_use || self.layout.dataset().contains('/') {
            return Ok(());
        }
        run_if_there(cx, &command::export_zpool(self.layout.zpool())).map(drop)
    }

    /// Whether what is mounted is a volume of the pool.
    fn is_ours(&self, mounted: &Mounted) -> bool {
        let below = mounted.source.strip_prefix(self.layout.dataset());
        below.is_some_and(|rest| rest.starts_with('/'))
            || mounted.target.starts_with(self.mount_points.root())
    }

    pub(super) fn destroy_all(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        unmount_where(cx, |mounted| self.is_ours(mounted))?;
        let text = run(cx, &command::own(MADE, dataset)).unless(&[Refusal::Missing])?;
        match text.as_deref().map(str::trim_end) {
            Some(ZPOOL) => self.destroy_zpool(cx)?,
            Some(DATASET) => drop(run_if_there(cx, &command::destroy(&[CLONES], dataset))?),
            Some(CONTENTS) => self.destroy_contents(cx)?,
            // Nothing of it was made by us.
            _ => {}
        }
        self.source.destroy(cx)?;
        self.mount_points.remove(cx)
    }

    /// Ends our own zpool; its device counts as empty from then on. What has the device's name may be another one since the machine
    /// was started: only what the zpool says that it is on is wiped.
    fn destroy_zpool(&self, cx: &Cx<'_>) -> Result<()> {
        let zpool = self.layout.zpool();
        let listed = run(cx, &command::list_devices(zpool)).unless(&[Refusal::Missing])?.unwrap_or_default();
        run_if_there(cx, &command::destroy_zpool(zpool))?;
        let mut devices = listed.split_whitespace().filter(|word| word.starts_with('/'));
        match &self.source {
            Source::Device(device) if devices.any(|found| source::is_on(Path::new(found), device)) => {
                source::wipe(cx, device)
            }
            _ => Ok(()),
        }
    }

    /// Removes our datasets from a dataset that was there before; the mark goes last.
    fn destroy_contents(&self, cx: &Cx<'_>) -> Result<()> {
        let kinds = VolumeKind::ALL.into_iter().map(|kind| self.layout.parent(kind));
        for dataset in kinds.chain([self.layout.ours()]) {
            run_if_there(cx, &command::destroy(&[CLONES], &dataset))?;
        }
        Ok(change(cx, &command::inherit(MADE, self.layout.dataset()))?)
    }

    pub(super) fn space(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        const COLUMNS: &str = "used,available";
        let text = run(cx, &command::list(COLUMNS, &[self.layout.dataset()]))?;
        let values = parse::values(COLUMNS, &text);
        let used = values.number("used")?;
        let total = used + values.number("available")?;
        Ok(PoolUsage { used_bytes: used, total_bytes: total, ..PoolUsage::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::ScriptedHost;
    use larder_base::{Cancel, Progress, Ticket};
    use larder_storage_driver::ErrorKind;

    fn dataset(keys: &[(&str, &str)]) -> Result<String> {
        let setup = PoolSetup::with_keys(keys);
        dataset_of(&setup, &Source::of(&setup)?)
    }

    #[test]
    fn the_keys_name_a_zpool_or_dataset() {
        assert_eq!(dataset(&[]).unwrap(), "p1");
        assert_eq!(dataset(&[("zfs.pool_name", "mine")]).unwrap(), "mine");
        assert_eq!(dataset(&[("source", "/dev/sdz"), ("zfs.pool_name", "mine")]).unwrap(), "mine");
        assert_eq!(dataset(&[("source", "tank/larder")]).unwrap(), "tank/larder");
        assert_eq!(dataset(&[("source", "tank"), ("zfs.pool_name", "tank")]).unwrap(), "tank");
    }

    /// What is done to end the zpool on `/dev/null`, which says that it is on `device`.
    fn ended(device: &str) -> Vec<String> {
        let setup = PoolSetup::with_keys(&[("source", "/dev/null")]);
        let driver = Zfs::new(setup).unwrap();
        let listed = format!("p1\t960M\t100K\t960M\n\t{device}\t960M\t100K\t960M\tONLINE\n");
        let host = ScriptedHost::new()
            .answers("zpool list -vHP p1", &listed)
            .answers("zpool destroy p1", "")
            .answers("wipefs --all --quiet -- /dev/null", "");
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&host, Progress::silent(), Cancel::never(), ticket);
        driver.destroy_zpool(&cx).unwrap();
        host.transcript()
    }

    #[test]
    fn a_device_is_wiped_that_the_zpool_was_on_and_no_other() {
        assert_eq!(ended("/dev/null").len(), 3);
        for other in ["/dev/zero", "/dev/no-such-device1", "mirror-0"] {
            assert_eq!(ended(other), ["zpool list -vHP p1", "zpool destroy p1"], "{other}");
        }
    }

    /// How a closed zpool is opened.
    fn opened(keys: &[(&str, &str)], folder: &str) -> String {
        let driver = Zfs::new(PoolSetup::with_keys(keys)).unwrap();
        let force = if keys.is_empty() { "-f " } else { "" };
        let host = ScriptedHost::new()
            .fails("zpool list -Hp -o name p1", "cannot open 'p1': no such pool")
            .answers(&format!("zpool import -N {force}-d {folder} p1"), "")
            .answers("zfs list -Hp -t all -o name p1", "p1\n");
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(&host, Progress::silent(), Cancel::never(), ticket);
        driver.import(&cx).unwrap();
        host.transcript().swap_remove(1)
    }

    #[test]
    fn only_a_zpool_in_a_file_of_ours_is_taken_from_another_system() {
        assert!(opened(&[], "/disks").contains(" -f "));
        assert!(!opened(&[("source", "/dev/null")], "/dev").contains(" -f "));
        assert!(!opened(&[("source", "p1")], "/dev").contains(" -f "));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (keys, wanted) in [
            (&[("source", "tank"), ("zfs.pool_name", "other")][..], "or left out"),
            (&[("source", "1tank")], "begins with a letter"),
            (&[("source", "tank//x")], "begins with a letter"),
            (&[("source", "tank/../x")], "begins with a letter"),
            (&[("source", "/dev/sdz"), ("zfs.pool_name", "a/b")], "without /"),
        ] {
            let error = dataset(keys).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
