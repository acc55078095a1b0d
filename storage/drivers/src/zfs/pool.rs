//! The pool itself: a zpool of our own on a file or device, a zpool or dataset that was there, or a dataset made in one.

use super::command::{self, Property};
use super::mount::{self, Unmount};
use super::parse::{self, Refusal};
use super::run::run;
use super::{Zfs, keys};
use crate::PoolSetup;
use larder_base::host::FsAct;
use larder_storage_driver::{Cx, ErrorKind, PoolUsage, Result, StorageError, VolumeKind};
use std::path::Path;

/// Remembers on the pool's root what was made for it, and so what goes with it.
const MADE: &str = "larder:made";

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

    fn read(text: Option<&str>) -> Option<Self> {
        [Self::Zpool, Self::Dataset, Self::Contents].into_iter().find(|made| Some(made.as_str()) == text)
    }
}

fn invalid<T>(problem: String) -> Result<T> {
    Err(StorageError::new(ErrorKind::Invalid, problem))
}

/// The zpool or dataset that the keys name.
pub(super) fn dataset_of(setup: &PoolSetup) -> Result<String> {
    let key = |name: &str| setup.config.get(name).filter(|value| !value.is_empty());
    let source = key("source").filter(|source| !source.starts_with('/'));
    let dataset = match (key("zfs.pool_name"), source) {
        (Some(name), Some(source)) if name != source => {
            return invalid(format!(
                "zfs.pool_name is {name:?} and source {source:?}: give one, or the same twice"
            ));
        }
        (Some(name), _) => name.clone(),
        (None, Some(source)) => source.clone(),
        (None, None) => setup.name.to_string(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let is_good = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && part.chars().all(is_plain);
    let begins_well = dataset.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins_well || !dataset.split('/').all(is_good) {
        return invalid(format!(
            "{dataset:?} can't be a zpool or dataset: it must begin with a letter and have only letters, digits and - _ . :"
        ));
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
    fn source(&self) -> Option<&Path> {
        self.config.get("source").map(Path::new).filter(|source| source.is_absolute())
    }

    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        match self.source() {
            Some(device) => self.make_zpool(cx, device)?,
            None => self.use_dataset(cx)?,
        }
        self.make_ours(cx)
    }

    /// A zpool of our own on a device or file.
    fn make_zpool(&self, cx: &Cx<'_>, device: &Path) -> Result<()> {
        let mut properties = root_properties(Made::Zpool);
        properties.retain(|(name, _)| *name != "mountpoint");
        properties.push(("compression", "on".to_owned()));
        let force = keys::is_on(&self.config, "source.wipe");
        let cmd = command::create_zpool(self.layout.zpool(), device, &properties, force);
        Ok(run(cx, &cmd).map(drop)?)
    }

    /// What is there, if it is empty, or a new dataset in a zpool.
    fn use_dataset(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        match run(cx, &command::list_below(&format!("name,{MADE}"), dataset)) {
            Ok(text) => {
                let is_ours = text.lines().next().is_some_and(|line| !line.ends_with("\t-"));
                let is_empty = text.lines().count() == 1;
                if is_ours || (!is_empty && !keys::is_on(&self.config, "source.recover")) {
                    return invalid(format!(
                        "{dataset} is not empty: give an empty zpool or dataset (zfs list -r {dataset} shows what is in it)"
                    ));
                }
                Ok(run(cx, &command::set(dataset, &root_properties(Made::Contents))).map(drop)?)
            }
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
        match run(
            cx,
            &command::create_filesystem(&self.layout.ours(), &[("mountpoint", "legacy".to_owned())]),
        ) {
            Err(failure) if !failure.is(Refusal::Exists) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        if let Err(failure) = run(cx, &command::list("name", &[&self.layout.ours()])) {
            if !failure.is(Refusal::Missing) {
                return Err(failure.into());
            }
            self.import(cx)?;
            self.make_ours(cx)?;
        }
        cx.act(&FsAct::MakeDirectory { path: self.layout.root().to_owned(), mode: 0o711 })?;
        for path in self.layout.folders() {
            if !path.is_dir() {
                cx.act(&FsAct::MakeDirectory { path, mode: 0o700 })?;
            }
        }
        self.tidy(cx)
    }

    /// Opens the zpool if it is closed.
    fn import(&self, cx: &Cx<'_>) -> Result<()> {
        let zpool = self.layout.zpool();
        if run(cx, &command::list_zpool("name", zpool)).is_ok() {
            return Ok(());
        }
        let folder = self.source().and_then(Path::parent).unwrap_or(Path::new("/dev"));
        let imported = run(cx, &command::import_zpool(zpool, folder));
        imported.map(drop).map_err(|failure| match failure.refusal {
            Some(Refusal::Missing) => {
                StorageError::not_found(format!("the zpool {zpool} (looked for in {})", folder.display()))
            }
            _ => failure.into(),
        })
    }

    pub(super) fn close(&self, cx: &Cx<'_>) -> Result<()> {
        self.unmount_everything(cx)?;
        let keeps_open = self.config.get("zfs.export").is_some_and(|value| value == "false");
        if keeps_open || self.layout.dataset().contains('/') {
            return Ok(());
        }
        gone_is_fine(run(cx, &command::export_zpool(self.layout.zpool())))
    }

    fn unmount_everything(&self, cx: &Cx<'_>) -> Result<()> {
        let below = format!("{}/", self.layout.dataset());
        let mounted = mount::mounts()?.into_iter().filter(|mounted| mounted.source.starts_with(&below));
        let targets: Vec<_> = mounted.map(|mounted| mounted.target).collect();
        if targets.is_empty() { Ok(()) } else { cx.act(&Unmount { targets }) }
    }

    pub(super) fn destroy_all(&self, cx: &Cx<'_>) -> Result<()> {
        let dataset = self.layout.dataset();
        self.unmount_everything(cx)?;
        match run(cx, &command::list(MADE, &[dataset])) {
            Ok(text) => match Made::read(Some(text.trim_end())) {
                Some(Made::Zpool) => gone_is_fine(run(cx, &command::destroy_zpool(self.layout.zpool())))?,
                Some(Made::Dataset) => gone_is_fine(run(cx, &command::destroy_with_clones(dataset)))?,
                Some(Made::Contents) => self.destroy_contents(cx)?,
                // Nothing of it was made by us.
                None => {}
            },
            Err(failure) if failure.is(Refusal::Missing) => {}
            Err(failure) => return Err(failure.into()),
        }
        for folder in self.layout.folders() {
            cx.act(&FsAct::remove_tree(folder))?;
        }
        cx.act(&FsAct::RemoveEmptyDirectory { path: self.layout.root().to_owned() })
    }

    /// Removes our datasets from a dataset that was there before; the mark goes last.
    fn destroy_contents(&self, cx: &Cx<'_>) -> Result<()> {
        let kinds = VolumeKind::ALL.into_iter().map(|kind| self.layout.parent(kind));
        for dataset in kinds.chain([self.layout.ours()]) {
            gone_is_fine(run(cx, &command::destroy_with_clones(&dataset)))?;
        }
        Ok(run(cx, &command::inherit(MADE, self.layout.dataset())).map(drop)?)
    }

    pub(super) fn space(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        const COLUMNS: &str = "used,available";
        let text = run(cx, &command::list(COLUMNS, &[self.layout.dataset()]))?;
        let values = parse::values(COLUMNS, &text);
        let used = values.number("used")?;
        Ok(PoolUsage {
            used_bytes: used,
            total_bytes: used + values.number("available")?,
            ..PoolUsage::default()
        })
    }
}

fn gone_is_fine(outcome: Result<String, super::run::Failure>) -> Result<()> {
    match outcome {
        Err(failure) if !failure.is(Refusal::Missing) => Err(failure.into()),
        _ => Ok(()),
    }
}
