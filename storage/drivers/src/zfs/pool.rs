//! The pool itself: a zpool of our own on a file or device, a zpool or dataset that was there, or a dataset made in one.

use super::command::{self, Property};
use super::parse::{self, Refusal};
use super::run::{run, run_if_there};
use super::{Zfs, keys};
use crate::PoolSetup;
use crate::filesystem::{Mounted, Unmount, mounts};
use crate::source::{self, Source};
use crate::spelling;
use larder_base::host::FsAct;
use larder_storage_driver::{Config, Cx, ErrorKind, PoolUsage, Result, StorageError, VolumeKind, is_true};
use std::path::{Path, PathBuf};

/// Remembers on the pool's root what was made for it, and so what goes with it.
const MADE: &str = "larder:made";
/// Remembers on which file or device our own zpool is.
const SOURCE: &str = "larder:source";

/// What was made for a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The whole zpool.
    Zpool,
    /// The dataset.
    Dataset,
    /// Only what is in it.
    Contents,
}

impl Made {
    fn as_str(self) -> &'static str {
        match self {
            Self::Zpool => "zpool",
            Self::Dataset => "dataset",
            Self::Contents => "contents",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Zpool, Self::Dataset, Self::Contents].into_iter().find(|made| made.as_str() == text)
    }
}

fn invalid<T>(problem: String) -> Result<T> {
    Err(StorageError::new(ErrorKind::Invalid, problem))
}

/// The zpool or dataset that the keys name.
pub(super) fn dataset_of(setup: &PoolSetup, source: &Source) -> Result<String> {
    let named = setup.config.get("zfs.pool_name").filter(|name| !name.is_empty());
    let (key, dataset) = match (source, named) {
        (Source::Existing(source), named) if !source.starts_with('/') => match named {
            Some(name) if name != source => {
                return invalid(format!(
                    "zfs.pool_name is {name:?} and source {source:?}: give one, or the same twice"
                ));
            }
            _ => ("source", source.clone()),
        },
        (_, Some(name)) => ("zfs.pool_name", name.clone()),
        (_, None) => ("zfs.pool_name", setup.name.to_string()),
    };
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
    Ok(dataset)
}

/// What the pool's root has, and all below it.
fn root_properties(made: Made) -> Vec<Property> {
    let fixed = [("mountpoint", "legacy"), ("acltype", "posixacl"), ("xattr", "sa"), ("relatime", "on")];
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    fixed.chain([(MADE, made.as_str().to_owned())]).collect()
}

impl Zfs {
    /// The file or device of our own zpool.
    fn device(&self) -> Option<&Path> {
        match &self.source {
            Source::File { path, .. } | Source::Device(path) => Some(path),
            Source::Existing(_) => None,
        }
    }

    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        match (&self.source, self.device()) {
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
        match run(cx, &command::list(SOURCE, &[zpool])) {
            Ok(text) if text.trim_end() == device_name => return self.must_hold_no_volume(cx),
            Ok(_) => {
                return invalid(format!(
                    "there is a zpool {zpool} already: give another zfs.pool_name, or source={zpool} to use it"
                ));
            }
            Err(failure) if failure.is(Refusal::Missing) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.source.make(cx)?;
        source::claim(cx, device, None, keys::is_on(&self.config.lock(), "source.wipe"))?;
        let mut properties = root_properties(Made::Zpool);
        properties.extend([(SOURCE, device_name.into_owned()), ("compression", "on".to_owned())]);
        Ok(run(cx, &command::create_zpool(zpool, device, &properties)).map(drop)?)
    }

    /// What a call that was cut off has made is gone on with; what has volumes is somebody's.
    fn must_hold_no_volume(&self, cx: &Cx<'_>) -> Result<()> {
        let text = run(cx, &command::list_below(parse::ROW, self.layout.dataset()))?;
        if self.layout.places(&parse::rows(&text)).is_empty() {
            return Ok(());
        }
        invalid(format!("{} has volumes already: source.recover=true takes them over", self.layout.dataset()))
    }

    /// What is there, if it is empty, or a new dataset in a zpool.
    fn use_dataset(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        match run(cx, &command::list_below(&format!("name,{MADE}"), dataset)) {
            Ok(text) if text.lines().next().is_some_and(|line| !line.ends_with("\t-")) => {
                self.must_hold_no_volume(cx)
            }
            Ok(text) if text.lines().count() > 1 => invalid(format!(
                "{dataset} is not empty: give an empty zpool or dataset (zfs list -r {dataset} shows what is in it)"
            )),
            Ok(_) => Ok(run(cx, &command::set(dataset, &root_properties(Made::Contents))).map(drop)?),
            Err(failure) if failure.is(Refusal::Missing) && dataset.contains('/') => {
                let made = run(cx, &command::create_filesystem(dataset, &root_properties(Made::Dataset)));
                made.map(drop).map_err(|failure| match failure.refusal {
                    Some(Refusal::MissingParent | Refusal::Missing) => {
                        let message =
                            format!("{dataset} can't be made: its zpool or parent dataset is not there");
                        StorageError::new(ErrorKind::Invalid, message)
                    }
                    _ => failure.into(),
                })
            }
            Err(failure) if failure.is(Refusal::Missing) => {
                invalid(format!("there is no zpool {dataset}: give one that is there, or a device"))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn make_ours(&self, cx: &Cx<'_>) -> Result<()> {
        let properties = [("mountpoint", "legacy".to_owned())];
        match run(cx, &command::create_filesystem(&self.layout.ours(), &properties)) {
            Err(failure) if !failure.is(Refusal::Exists) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        if !run_if_there(cx, &command::list("name", &[&self.layout.ours()]))? {
            self.import(cx)?;
            // A peer's pool that is taken over has none.
            self.make_ours(cx)?;
        }
        spelling::make_folders(cx, self.layout.root())?;
        self.tidy(cx)
    }

    /// Opens the zpool if it is closed.
    fn import(&self, cx: &Cx<'_>) -> Result<()> {
        let zpool = self.layout.zpool();
        if run_if_there(cx, &command::list_zpool("name", zpool))? {
            return self.must_be_there(cx);
        }
        let file = match &self.source {
            Source::File { path, .. } => Some(path.as_path()),
            Source::Existing(path) if path.starts_with('/') => Some(Path::new(path)),
            Source::Device(_) | Source::Existing(_) => None,
        };
        let folder = file.and_then(Path::parent).unwrap_or(Path::new("/dev"));
        run(cx, &command::import_zpool(zpool, folder)).map_err(|failure| match failure.refusal {
            Some(Refusal::Missing) => {
                StorageError::not_found(format!("the zpool {zpool} (looked for in {})", folder.display()))
            }
            _ => failure.into(),
        })?;
        self.must_be_there(cx)
    }

    fn must_be_there(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        match run_if_there(cx, &command::list("name", &[dataset]))? {
            true => Ok(()),
            false => Err(StorageError::not_found(format!("the dataset {dataset}"))),
        }
    }

    /// Grows the pool's file, and takes over what else changed.
    pub(super) fn change(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        if let Some(size) = source::new_size(old, new)? {
            self.source.grow(cx, size)?;
            if let Some(device) = self.device() {
                run(cx, &command::expand_zpool(self.layout.zpool(), device))?;
            }
        }
        self.config.lock().clone_from(new);
        Ok(())
    }

    pub(super) fn close(&self, cx: &Cx<'_>) -> Result<()> {
        let keeps_open = self.config.lock().get("zfs.export").is_some_and(|value| !is_true(value));
        // What an instance has mounted goes on without the daemon, and so does its zpool.
        let is_in_use = !self.mount_points()?.is_empty();
        if keeps_open || is_in_use || self.layout.dataset().contains('/') {
            return Ok(());
        }
        run_if_there(cx, &command::export_zpool(self.layout.zpool())).map(drop)
    }

    /// Where volumes of the pool are mounted.
    fn mount_points(&self) -> Result<Vec<PathBuf>> {
        let below = format!("{}/", self.layout.dataset());
        let is_ours = |mounted: &Mounted| {
            mounted.source.starts_with(&below) || mounted.target.starts_with(self.layout.root())
        };
        let ours = mounts()?.into_iter().filter(is_ours);
        Ok(ours.map(|mounted| mounted.target).collect())
    }

    fn unmount_everything(&self, cx: &Cx<'_>) -> Result<()> {
        let targets = self.mount_points()?;
        if targets.is_empty() { Ok(()) } else { cx.act(&Unmount { targets }) }
    }

    pub(super) fn destroy_all(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        self.unmount_everything(cx)?;
        match run(cx, &command::list(MADE, &[dataset])) {
            Ok(text) => match Made::read(text.trim_end()) {
                Some(Made::Zpool) => self.destroy_zpool(cx)?,
                Some(Made::Dataset) => drop(run_if_there(cx, &command::destroy_with_clones(dataset))?),
                Some(Made::Contents) => self.destroy_contents(cx)?,
                // Nothing of it was made by us.
                None => {}
            },
            Err(failure) if failure.is(Refusal::Missing) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.source.destroy(cx)?;
        for folder in self.layout.folders() {
            cx.act(&FsAct::remove_tree(folder))?;
        }
        cx.act(&FsAct::RemoveEmptyDirectory { path: self.layout.root().to_owned() })
    }

    /// Ends our own zpool; its device counts as empty from then on.
    fn destroy_zpool(&self, cx: &Cx<'_>) -> Result<()> {
        run_if_there(cx, &command::destroy_zpool(self.layout.zpool()))?;
        match &self.source {
            Source::Device(device) => source::wipe(cx, device),
            Source::File { .. } | Source::Existing(_) => Ok(()),
        }
    }

    /// Removes our datasets from a dataset that was there before; the mark goes last.
    fn destroy_contents(&self, cx: &Cx<'_>) -> Result<()> {
        let kinds = VolumeKind::ALL.into_iter().map(|kind| self.layout.parent(kind));
        for dataset in kinds.chain([self.layout.ours()]) {
            run_if_there(cx, &command::destroy_with_clones(&dataset))?;
        }
        Ok(run(cx, &command::inherit(MADE, self.layout.dataset())).map(drop)?)
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

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (keys, wanted) in [
            (&[("source", "tank"), ("zfs.pool_name", "other")][..], "the same twice"),
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
