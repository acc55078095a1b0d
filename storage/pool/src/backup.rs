//! The portable backup: one tar in the peers' layout, written by GNU tar so that owners, modes, extended
//! attributes, ACLs, devices and hard links come along. Disks that are devices stand before it, after the manifest.

use crate::Pool;
use crate::device_member::{end, write_member};
use crate::locks::LockMode;
use larder_base::SnapshotName;
use larder_base::host::{Cmd, HostError, Tool};
use larder_storage_driver::{Attached, Cx, Mode, Place, Result, VolumeId};
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const TAR: Tool = Tool { name: "tar", package: "tar" };
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Where a volume's content stands in the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMember {
    /// The folder of its tree of files, such as `backup/volume`.
    pub directory: Option<String>,
    /// The name of its disk, such as `backup/volume.img`.
    pub disk: Option<String>,
}

/// What goes into a backup.
#[derive(Debug, Clone)]
pub struct ExportPlan<'a> {
    /// The live volume.
    pub volume: &'a VolumeId,
    /// Where it stands in the tar.
    pub member: BackupMember,
    /// Its snapshots that come along, oldest first, and where they stand.
    pub snapshots: Vec<(SnapshotName, BackupMember)>,
    /// The manifest's file on this machine, and its name in the tar (`backup/index.yaml`): it comes first.
    pub manifest: (&'a Path, &'a str),
    /// A file of this machine that stands in the volume's folder of the tar, though not in the volume, and its name in the
    /// tar: it comes last.
    pub companion: Option<(&'a Path, &'a str)>,
}

/// Parts of a volume or snapshot that become a tar of their own.
#[derive(Debug, Clone)]
pub struct PartsPlan<'a> {
    /// The live volume.
    pub volume: &'a VolumeId,
    /// One of its snapshots instead.
    pub snapshot: Option<&'a SnapshotName>,
    /// A file on this machine, and its name in the tar: it comes first.
    pub first: (&'a Path, &'a str),
    /// Folders of the volume, each under its own name in the tar. One that is not there is left out.
    pub folders: &'a [&'a str],
}

impl Pool {
    /// Writes an uncompressed tar of a volume and its snapshots to `output`, in the peers' order: manifest,
    /// snapshots, volume. The volume may be in use.
    pub fn export(&self, cx: &Cx<'_>, plan: &ExportPlan<'_>, output: &Arc<File>) -> Result<()> {
        let _lock = self.lock(cx, plan.volume, LockMode::Shared)?;
        let live = Place::live(plan.volume);
        let snapshots = plan.snapshots.iter().map(|(name, member)| (live.at_snapshot(name), member));
        let places: Vec<_> = snapshots.chain([(live.clone(), &plan.member)]).collect();
        let mut contents = Contents::new(plan.manifest);
        contents.last = plan.companion.map(|(path, name)| (below_root(path), name.to_owned()));
        self.with_all_attached(cx, &places, &mut contents, |contents| pack(cx, contents, output))
            .map_err(|error| error.while_doing(format!("exporting the {}", plan.volume)))
    }

    /// Writes an uncompressed tar of some of a volume's folders to `output`. The volume may be in use.
    pub fn export_parts(&self, cx: &Cx<'_>, plan: &PartsPlan<'_>, output: &Arc<File>) -> Result<()> {
        let _lock = self.lock(cx, plan.volume, LockMode::Shared)?;
        let live = Place::live(plan.volume);
        let at = plan.snapshot.map_or_else(|| live.clone(), |snapshot| live.at_snapshot(snapshot));
        self.with_attached(cx, &at, Mode::ReadOnly, |attached| {
            let mut contents = Contents::new(plan.first);
            for name in plan.folders {
                let folder = attached.directory()?.join(name);
                if std::fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
                    contents.push(below_root(&folder), name);
                }
            }
            pack(cx, &contents, output)
        })
        .map_err(|error| error.while_doing(format!("exporting parts of the {at}")))
    }

    fn with_all_attached(
        &self,
        cx: &Cx<'_>,
        places: &[(Place, &BackupMember)],
        contents: &mut Contents,
        work: impl FnOnce(&Contents) -> Result<()>,
    ) -> Result<()> {
        let Some(((place, member), rest)) = places.split_first() else { return work(contents) };
        self.with_attached(cx, place, Mode::ReadOnly, |attached| {
            contents.add(attached, member)?;
            self.with_all_attached(cx, rest, contents, work)
        })
    }
}

/// What tar is told: paths below `/`, each with its new name, the manifest first.
#[derive(Debug, Clone)]
struct Contents {
    /// The manifest, and its name in the tar.
    manifest: (PathBuf, String),
    /// Disks that are devices, and their names in the tar.
    devices: Vec<(PathBuf, String)>,
    paths: Vec<PathBuf>,
    transforms: Vec<String>,
    left_out: Vec<PathBuf>,
    last: Option<(PathBuf, String)>,
}

impl Contents {
    fn new((manifest, name): (&Path, &str)) -> Self {
        Self {
            manifest: (manifest.to_owned(), name.to_owned()),
            devices: Vec::new(),
            paths: Vec::new(),
            transforms: Vec::new(),
            left_out: Vec::new(),
            last: None,
        }
    }

    fn add(&mut self, attached: &Attached, member: &BackupMember) -> Result<()> {
        if let Some(name) = &member.directory {
            let directory = attached.directory()?;
            self.left_out.extend(mounted_in(directory)?);
            self.push(below_root(directory), name);
        }
        if let Some(name) = &member.disk {
            let disk = attached.disk()?;
            if std::fs::metadata(disk)?.file_type().is_block_device() {
                self.devices.push((disk.to_owned(), name.clone()));
                return Ok(());
            }
            self.left_out.push(below_root(disk));
            let (folder, file) = (disk.parent().unwrap_or(disk), disk.file_name().unwrap_or_default());
            // The detour over `.` tells the disk as a member of its own from the same file met in its folder,
            // which is left out.
            self.push(below_root(folder).join(".").join(file), name);
        }
        Ok(())
    }

    /// All that is told, with what comes first and last.
    fn complete(&self) -> Self {
        let mut all = self.clone();
        if self.devices.is_empty() {
            let (path, name) = &self.manifest;
            all.push(below_root(path), name);
            all.paths.rotate_right(1);
        }
        if let Some((path, name)) = all.last.take() {
            all.push(path, &name);
        }
        all
    }

    fn push(&mut self, path: PathBuf, name: &str) {
        // `S`: a symbolic link's target stays as it is. The newest first: a disk's path begins with its folder's.
        let transform = format!("s,^{}\\(/\\|$\\),{name}\\1,S", escaped(&spelled(&path)));
        self.transforms.insert(0, transform);
        self.paths.push(path);
    }
}

/// Where something else is mounted in a tree, as tar sees it: that is somebody else's, while a subvolume in it, which tar
/// takes for another filesystem, is the volume's. Reads `/proc/self/mountinfo`, the fifth field of a line.
fn mounted_in(tree: &Path) -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| PathBuf::from(point.replace("\\040", " ").replace("\\134", "\\")));
    let inside = points.filter(|point| point.starts_with(tree) && point != tree);
    Ok(inside.map(|point| below_root(&point)).collect())
}

/// A path as tar sees it from `/`.
fn below_root(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// `Path` folds `a/./b`; its bytes keep it.
fn spelled(path: &Path) -> String {
    path.as_os_str().to_string_lossy().into_owned()
}

fn escaped(text: &str) -> String {
    let special = |c: char| matches!(c, '.' | '*' | '[' | ']' | '^' | '$' | '\\' | ',');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn pack(cx: &Cx<'_>, contents: &Contents, output: &Arc<File>) -> Result<()> {
    if !contents.devices.is_empty() {
        let (manifest, name) = &contents.manifest;
        let modified = u64::try_from(std::fs::metadata(manifest)?.mtime()).unwrap_or(0);
        let devices = contents.devices.iter().map(|(path, name)| (path, name));
        for (path, name) in std::iter::once((manifest, name)).chain(devices) {
            write_member(path, name, modified, output, cx.cancel())?;
        }
    }
    let contents = contents.complete();
    if contents.paths.is_empty() {
        return end(output);
    }
    let mut cmd = Cmd::reads(TAR)
        .args(["--create", "--file=-", "--format=posix", "--numeric-owner", "--acls", "--xattrs"])
        .args(["--xattrs-include=*", "--xattrs-exclude=btrfs.*", "--pax-option=delete=atime,delete=ctime"])
        .args(["--directory=/", "--anchored", "--no-wildcards"])
        .args(contents.left_out.iter().map(|path| format!("--exclude={}", spelled(path))))
        .args(contents.transforms.iter().map(|transform| format!("--transform={transform}")))
        .output_to(Arc::clone(output))
        .limit(LIMIT);
    cmd = cmd.arg("--").args(&contents.paths);
    match cx.host().run(&cmd, cx.cancel()) {
        // Exit 1: a file changed while it was read, as files of a volume in use do.
        Ok(_) | Err(HostError::Failed { code: Some(1), .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
