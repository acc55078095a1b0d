//! The command lines of `zfs` and `zpool`, as data. None may run for ever, and what is busy only for a moment (udev looks
//! at every new disk) is tried again.

use larder_base::host::{Cmd, Tool};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

/// The program that manages datasets.
pub(crate) const ZFS: Tool = Tool { name: "zfs", package: "zfsutils-linux" };
const ZPOOL: Tool = Tool { name: "zpool", package: "zfsutils-linux" };

/// What [`destroy`] and others say while somebody looks.
const BUSY: &str = "is busy";
/// A stream of a large volume, or freeing one.
const LONG: Duration = Duration::from_secs(24 * 3600);

fn reads(verb: &str) -> Cmd {
    Cmd::reads(ZFS).arg(verb)
}

fn changes(verb: &str) -> Cmd {
    Cmd::changes(ZFS).arg(verb).again_while(BUSY)
}

/// A property and its value.
pub(super) type Property = (&'static str, String);

fn options(properties: &[Property]) -> impl Iterator<Item = String> {
    properties.iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
}

/// Columns of one dataset, or of a dataset and all below it, tab-separated and without a header.
pub(super) fn list(columns: &str, datasets: &[&str]) -> Cmd {
    reads("list").args(["-Hp", "-t", "all", "-o", columns]).args(datasets)
}

/// What a dataset itself says, not what it has from those above: a line, or nothing.
pub(super) fn own(property: &str, dataset: &str) -> Cmd {
    reads("get").args(["-Hp", "-s", "local", "-o", "value", property, dataset])
}

/// The same of everything below a dataset.
pub(super) fn list_below(columns: &str, dataset: &str) -> Cmd {
    reads("list").args(["-Hp", "-r", "-t", "filesystem,volume,snapshot", "-o", columns, dataset])
}

/// The same without the snapshots.
pub(super) fn list_volumes_below(columns: &str, dataset: &str) -> Cmd {
    reads("list").args(["-Hp", "-r", "-t", "filesystem,volume", "-o", columns, dataset])
}

/// A dataset's snapshots, in the order of their making.
pub(super) fn list_snapshots(columns: &str, datasets: &[String]) -> Cmd {
    reads("list").args(["-Hp", "-d", "1", "-t", "snapshot", "-s", "createtxg", "-o", columns]).args(datasets)
}

/// A new filesystem.
pub(super) fn create_filesystem(dataset: &str, properties: &[Property]) -> Cmd {
    changes("create").args(options(properties)).arg(dataset)
}

/// A new disk of `bytes`; `sparse` reserves nothing.
pub(super) fn create_disk(dataset: &str, bytes: u64, sparse: bool, properties: &[Property]) -> Cmd {
    let sparse = sparse.then_some("-s");
    changes("create").args(sparse).arg("-V").arg(bytes.to_string()).args(options(properties)).arg(dataset)
}

/// Snapshots of several datasets, all at the same instant or none.
pub(super) fn snapshot(snapshots: &[String]) -> Cmd {
    changes("snapshot").args(snapshots)
}

/// A dataset that shares blocks with a snapshot.
pub(super) fn clone(snapshot: &str, dataset: &str, properties: &[Property]) -> Cmd {
    changes("clone").args(options(properties)).args([snapshot, dataset])
}

/// Another name for a dataset, with its snapshots, or for a snapshot.
pub(super) fn rename(from: &str, to: &str) -> Cmd {
    changes("rename").args([from, to])
}

/// Removes one dataset or snapshot that nothing hangs on, or with [`BELOW`], [`CLONES`] or [`DEFERRED`] more. `dataset@%` are all
/// snapshots of a dataset.
pub(super) fn destroy(flags: &[&str], name: &str) -> Cmd {
    changes("destroy").args(flags).arg(name).limit(LONG)
}

/// With its snapshots and what was delegated below it; refused when something was cloned from it. Of snapshots: also those inside.
pub(super) const BELOW: &str = "-r";
/// With all that is below it and all that was cloned from that.
pub(super) const CLONES: &str = "-R";
/// Snapshots: now, or by themselves once their last clone goes.
pub(super) const DEFERRED: &str = "-d";

/// Takes a property from the parent again.
pub(super) fn inherit(property: &str, dataset: &str) -> Cmd {
    changes("inherit").args([property, dataset])
}

/// Back to a snapshot. Removes the newer ones; fails when one of these has clones.
pub(super) fn rollback(snapshot: &str) -> Cmd {
    changes("rollback").args(["-r", snapshot]).limit(LONG)
}

/// Sets properties, all at once.
pub(super) fn set(dataset: &str, properties: &[Property]) -> Cmd {
    changes("set").args(properties.iter().map(|(name, value)| format!("{name}={value}"))).arg(dataset)
}

/// Lets a user namespace see and manage a dataset.
pub(super) fn zone(namespace: &Path, dataset: &str) -> Cmd {
    changes("zone").arg(namespace).arg(dataset)
}

/// Writes a snapshot to standard output, in the blocks that it has; `base` leaves out what that snapshot has.
pub(super) fn send(base: Option<&str>, snapshot: &str) -> Cmd {
    let base = base.into_iter().flat_map(|base| ["-i", base]);
    reads("send").args(["-L", "-e", "-c"]).args(base).arg(snapshot).limit(LONG).ends_with_us()
}

/// Makes a dataset or a snapshot of one from what [`send`] wrote, without mounting it. What is sent on top of a snapshot of
/// another dataset becomes a clone of it, `origin`. Never again after it failed: what it read is gone.
pub(super) fn receive(to: &str, origin: Option<&str>, properties: &[Property]) -> Cmd {
    let origin = origin.into_iter().flat_map(|origin| ["-o".to_owned(), format!("origin={origin}")]);
    let cmd = Cmd::changes(ZFS).args(["receive", "-u"]).args(origin).args(options(properties));
    cmd.arg(to).limit(LONG).ends_with_us()
}

/// Lets a clone and what it was cloned from change places: the snapshots up to that clone's origin become the clone's.
pub(super) fn promote(dataset: &str) -> Cmd {
    changes("promote").arg(dataset)
}

/// A new zpool on a file or device, with properties of its root.
pub(super) fn create_zpool(name: &str, device: &Path, properties: &[Property]) -> Cmd {
    let properties = properties.iter().flat_map(|(key, value)| ["-O".to_owned(), format!("{key}={value}")]);
    Cmd::changes(ZPOOL).arg("create").args(properties).arg(name).arg(device)
}

/// Opens a zpool whose devices are in `folder`; one that another system had last only when it `is_ours`.
pub(super) fn import_zpool(name: &str, folder: &Path, is_ours: bool) -> Cmd {
    Cmd::changes(ZPOOL).args(["import", "-N"]).args(is_ours.then_some("-f")).arg("-d").arg(folder).arg(name)
}

/// Closes a zpool, so that its devices can be taken away.
pub(super) fn export_zpool(name: &str) -> Cmd {
    Cmd::changes(ZPOOL).args(["export", name]).again_while(BUSY)
}

/// Ends a zpool.
pub(super) fn destroy_zpool(name: &str) -> Cmd {
    Cmd::changes(ZPOOL).args(["destroy", name]).again_while(BUSY)
}

/// Makes a zpool use all of a device that has grown.
pub(super) fn expand_zpool(name: &str, device: impl AsRef<OsStr>) -> Cmd {
    Cmd::changes(ZPOOL).args(["online", "-e", name]).arg(device)
}

/// Columns of a zpool.
pub(super) fn list_zpool(columns: &str, name: &str) -> Cmd {
    Cmd::reads(ZPOOL).args(["list", "-Hp", "-o", columns, name])
}

/// A zpool with the full paths of all its devices, tab-separated and each on a line.
pub(super) fn list_devices(name: &str) -> Cmd {
    Cmd::reads(ZPOOL).args(["list", "-vHP", name])
}
