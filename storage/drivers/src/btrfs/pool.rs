//! The pool itself: a filesystem of ours on a file or a device, or a place in one that is there already.

use super::keys::DEFAULT_MOUNT_OPTIONS;
use super::{ioctl, subvolume, superblock};
use crate::PoolSetup;
use crate::folders::{Layout, OURS, is_empty_directory, is_same, is_there};
use crate::source::{Claim, Source, claim, new_size, wipe};
use larder_base::host::{Act, Cmd, FsAct, HostError, Tool};
use larder_base::{ByteSize, Cancel};
use larder_storage_driver::{Config, Cx, ErrorKind, Result, StorageError, VolumeKind, is_true};
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// Makes the filesystem of a pool.
pub(crate) const MKFS: Tool = Tool { name: "mkfs.btrfs", package: "btrfs-progs" };
/// Formatting a large disk may discard all of it first.
const MKFS_LIMIT: Duration = Duration::from_secs(1800);
/// Which filesystem is the pool's: written down so that no other is taken for it.
const IDENTIFIER: &str = "volatile.uuid";
/// Smaller than this `mkfs.btrfs` makes none.
const SMALLEST: ByteSize = ByteSize::from_mebibytes(128);
/// Containers' root users pass through to their own roots; all below is private.
const PASSABLE: u32 = 0o711;

/// What a pool is kept on.
#[derive(Debug)]
pub(super) struct Home {
    setup: PoolSetup,
    source: Source,
    /// The filesystem's identifier, where the filesystem is ours alone. None when there should be one and is not.
    identifier: Option<Uuid>,
}

impl Home {
    /// Reads the keys, and of what is to be taken over which filesystem it is.
    pub(super) fn of(setup: PoolSetup) -> Result<Self> {
        let source = Source::of(&setup)?;
        let wrong = |message: String| StorageError::new(ErrorKind::Invalid, message);
        if let Source::Existing(name) = &source
            && !name.starts_with('/')
        {
            return Err(wrong(format!("invalid source {name:?}: give an absolute path")));
        }
        let recorded = setup.config.get(IDENTIFIER).and_then(|text| Uuid::try_parse(text).ok());
        let identifier = match (&source, recorded, is_taken_over(&setup)) {
            (Source::Existing(_), ..) => None,
            (_, Some(recorded), _) => Some(recorded),
            (Source::File { path, .. } | Source::Device(path), None, true) => {
                superblock::identifier(path).unwrap_or_default()
            }
            (_, None, false) => Some(Uuid::new_v4()),
        };
        Ok(Self { setup, source, identifier })
    }

    pub(super) fn root(&self) -> &Path {
        &self.setup.root
    }

    pub(super) fn recorded_config(&self) -> Config {
        let mut config = self.setup.config.clone();
        self.source.record(&mut config);
        if let Some(identifier) = self.identifier {
            config.insert(IDENTIFIER.to_owned(), identifier.to_string());
        }
        config
    }

    /// Makes what is missing of the pool.
    pub(super) fn create(&self, cx: &Cx<'_>) -> Result<()> {
        let refuse = |message: String| Err(StorageError::new(ErrorKind::Invalid, message));
        let root = self.root();
        if !self.is_open()? && is_there(root) && !is_empty_directory(root) {
            return refuse(format!("{} is not empty: remove what is in it", root.display()));
        }
        match &self.source {
            Source::Existing(path) => self.create_in(cx, Path::new(path)),
            Source::File { size, .. } if *size < SMALLEST => {
                refuse(format!("a btrfs pool can't be as small as {size}: give it {SMALLEST} at least"))
            }
            Source::File { path, .. } | Source::Device(path) => self.create_on(cx, path),
        }
    }

    fn create_on(&self, cx: &Cx<'_>, path: &Path) -> Result<()> {
        cx.run(&Cmd::reads(MKFS).arg("--version"))?;
        let identifier = self.identifier.map(|identifier| identifier.to_string()).unwrap_or_default();
        let may_wipe = self.setup.config.get("source.wipe").is_some_and(|value| is_true(value));
        if let Source::Device(_) = self.source {
            self.source.make(cx)?;
        }
        let claimed = match path.exists() {
            true => claim(cx, path, Some(&identifier), may_wipe)?,
            false => Claim::Free,
        };
        self.source.make(cx)?;
        let device = self.source.attach(cx)?;
        if claimed == Claim::Ours {
            return Ok(());
        }
        let options = self.setup.config.get("btrfs.create_options").map(String::as_str).unwrap_or_default();
        let cmd = Cmd::changes(MKFS)
            .args(options.split_whitespace())
            .args(["--quiet", "--label", self.setup.name.as_str(), "--uuid", &identifier, "--"])
            .arg(device)
            .limit(MKFS_LIMIT);
        cx.run(&cmd).map(|_| ())
    }

    fn create_in(&self, cx: &Cx<'_>, path: &Path) -> Result<()> {
        let refuse = |problem: &str| {
            let message = format!(
                "the source {} {problem}: give an empty or new directory on btrfs, or a device",
                path.display()
            );
            Err(StorageError::new(ErrorKind::Invalid, message))
        };
        let looked_at = if is_there(path) { path } else { path.parent().unwrap_or(path) };
        match File::open(looked_at) {
            Ok(open) if open.metadata()?.is_dir() && ioctl::filesystem_of(&open).is_some() => {}
            Ok(_) => return refuse("is not on btrfs"),
            Err(_) => return refuse("is not there"),
        }
        if !is_there(path) {
            return cx.act(&subvolume::Create { path: path.to_owned() });
        }
        let layout = Layout::with_snapshots_that_stay(path.to_owned());
        match is_empty_directory(path) || layout.is_left()? {
            true => Ok(()),
            false => refuse("is not empty"),
        }
    }

    /// Whether the pool's root leads to what the pool is kept on.
    fn is_open(&self) -> Result<bool> {
        let root = self.root();
        match (&self.source, File::open(root)) {
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            (_, Err(error)) => Err(error.into()),
            (Source::Existing(path), _) if !Path::new(path).is_dir() => Ok(false),
            (Source::Existing(path), _) => is_same(Path::new(path), root),
            (_, Ok(open)) => Ok(self.identifier.is_some() && ioctl::filesystem_of(&open) == self.identifier),
        }
    }

    /// Mounts.
    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        let root = self.root();
        if !root.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: root.to_owned(), mode: PASSABLE })?;
        }
        if !self.is_open()? {
            self.mount(cx)?;
        }
        if is_taken_over(&self.setup) && !holds_a_pool(root) {
            let message = "the source holds no pool: leave source.recover out to make a new one";
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        if fs::metadata(root)?.permissions().mode() & 0o7777 != PASSABLE {
            cx.act(&FsAct::SetMode { path: root.to_owned(), mode: PASSABLE })?;
        }
        Ok(())
    }

    fn mount(&self, cx: &Cx<'_>) -> Result<()> {
        let target = self.root().to_owned();
        if let Source::Existing(path) = &self.source {
            if !Path::new(path).is_dir() {
                return Err(StorageError::not_found(format!("the pool's source {path}")));
            }
            return cx.act(&FsAct::Bind { source: path.into(), target, read_only: false });
        }
        let options = mount_options(&self.setup.config);
        let mount = FsAct::Mount {
            source: self.device(cx)?,
            target,
            kind: "btrfs".to_owned(),
            options: options.to_owned(),
            read_only: false,
        };
        cx.act(&mount)
    }

    /// The device with the pool's filesystem, under whatever name it has today.
    fn device(&self, cx: &Cx<'_>) -> Result<PathBuf> {
        let given = self.source.attach(cx);
        let Some(wanted) = self.identifier else {
            let message = "the source holds no btrfs: leave source.recover out to make a new pool";
            return given.and(Err(StorageError::new(ErrorKind::Invalid, message)));
        };
        if let Ok(device) = &given
            && superblock::identifier(device)? == Some(wanted)
        {
            return given;
        }
        let by_identifier = Path::new("/dev/disk/by-uuid").join(wanted.to_string());
        match by_identifier.exists() {
            true => Ok(by_identifier),
            false => {
                let device = given?;
                let lost = format!("the pool's filesystem {wanted} (it is not on {})", device.display());
                Err(StorageError::not_found(lost))
            }
        }
    }

    /// Unmounts.
    pub(super) fn close(&self, cx: &Cx<'_>) -> Result<()> {
        if self.is_open()? && !self.is_its_own_source() {
            cx.act(&FsAct::Unmount { target: self.root().to_owned() })?;
        }
        self.source.detach(cx)
    }

    /// Whether the source is the very folder that pools of this name are found in.
    fn is_its_own_source(&self) -> bool {
        matches!(&self.source, Source::Existing(path) if Path::new(path) == self.root())
    }

    /// Removes what [`Home::create`] made. Of a source that was there before goes what is ours, and nothing else.
    pub(super) fn destroy(&self, cx: &Cx<'_>) -> Result<()> {
        if let Source::Existing(path) = &self.source {
            self.empty(cx, Path::new(path))?;
        }
        self.close(cx)?;
        if let (Source::Device(path), Some(ours)) = (&self.source, self.identifier)
            && path.exists()
            && superblock::identifier(path)? == Some(ours)
        {
            wipe(cx, path)?;
        }
        self.source.destroy_own(cx, self.identifier.map(|identifier| identifier.to_string()).as_deref())?;
        match is_there(self.root()) && !self.is_its_own_source() {
            true => cx.act(&FsAct::RemoveEmptyDirectory { path: self.root().to_owned() }),
            false => Ok(()),
        }
    }

    /// Removes the pool's folders from a source with all that is in them, ours last, so that a repeated call knows them.
    fn empty(&self, cx: &Cx<'_>, source: &Path) -> Result<()> {
        if !source.join(OURS).is_dir() {
            return Ok(());
        }
        let layout = Layout::with_snapshots_that_stay(source.to_owned());
        for place in layout.list()? {
            subvolume::destroy_all(cx, &layout.path(&place))?;
        }
        for folder in layout.folders() {
            cx.act(&FsAct::remove_tree(folder))?;
        }
        Ok(())
    }

    /// Mounts anew when the options are others, and grows the pool's file.
    pub(super) fn change(&self, cx: &Cx<'_>, old: &Config, new: &Config) -> Result<()> {
        let root = self.root().to_owned();
        let size = new_size(old, new)?;
        if let Some(size) = size {
            self.source.may_grow(size)?;
        }
        let options = mount_options(new);
        if options != mount_options(old) && !matches!(self.source, Source::Existing(_)) {
            let remount = FsAct::Remount { target: root.clone(), options: options.to_owned() };
            cx.act(&remount).map_err(|error| refused_options(error, options))?;
        }
        match size {
            Some(size) => {
                self.source.grow(cx, size)?;
                cx.act(&GrowToDevice { root })
            }
            None => Ok(()),
        }
    }
}

/// What the kernel says to options it does not know.
fn refused_options(error: StorageError, options: &str) -> StorageError {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<HostError>());
    match cause.and_then(HostError::io_kind) {
        Some(io::ErrorKind::InvalidInput) => {
            let message = format!("the kernel refuses the mount options {options:?}: its log says which");
            StorageError::new(ErrorKind::Invalid, message).because(error)
        }
        _ => error,
    }
}

fn is_taken_over(setup: &PoolSetup) -> bool {
    setup.config.get("source.recover").is_some_and(|value| is_true(value))
}

fn mount_options(config: &Config) -> &str {
    let given = config.get("btrfs.mount_options").map(String::as_str).unwrap_or_default();
    if given.is_empty() { DEFAULT_MOUNT_OPTIONS } else { given }
}

/// Whether ours or a peer's pool is at `root`.
fn holds_a_pool(root: &Path) -> bool {
    let layout = Layout::new(root.to_owned());
    let has_folder = |kind: VolumeKind| layout.kind(kind).is_dir();
    root.join(OURS).is_dir() || VolumeKind::ALL.into_iter().any(has_folder)
}

/// Lets the pool's filesystem take all of a device that has grown.
#[derive(Debug, Clone)]
struct GrowToDevice {
    root: PathBuf,
}

impl Act for GrowToDevice {
    fn describe(&self) -> String {
        format!("grow {} to its device", self.root.display())
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        ioctl::grow_to_device(&File::open(&self.root)?)
    }
}
