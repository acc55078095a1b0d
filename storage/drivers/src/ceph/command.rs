//! Command lines as data: `rbd(8)`, `rados(8)`, `ceph(8)`.
//!
//! A cluster that does not answer is given up by every command after [`PATIENCE`](crate::cluster::PATIENCE), however long the command may work.

use super::layout::Spelled;
use crate::cluster::asked_of;
use larder_base::host::{Cmd, Input, Tool};
use std::time::Duration;

pub(crate) const RBD: Tool = Tool { name: "rbd", package: "ceph-common" };
const RADOS: Tool = Tool { name: "rados", package: "ceph-common" };
const CEPH: Tool = Tool { name: "ceph", package: "ceph-common" };
/// What only looks.
const QUICK: Duration = Duration::from_secs(90);
/// What touches every object of an image: removing, rolling back, copying.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// The object that marks an OSD pool or namespace as a pool of ours.
const MARK: &str = "larder.pool";
/// Clones that need no protection: a snapshot that was cloned can go, and is kept out of sight until its last clone goes.
const CLONE_FORMAT: &str = "--rbd-default-clone-format=2";

/// Writes the command lines of one pool.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    pub(super) cluster: String,
    pub(super) user: String,
    /// The OSD pool.
    pub(super) pool: String,
    /// The namespace in it, when the pool is one.
    pub(super) namespace: Option<String>,
    /// Where the data of new images goes when not into the OSD pool.
    pub(super) data_pool: Option<String>,
    /// Of new images.
    pub(super) features: String,
}

impl Commands {
    fn ready(&self, cmd: Cmd) -> Cmd {
        asked_of(cmd, &self.cluster, &self.user)
    }

    fn reads(&self, tool: Tool, words: &[&str]) -> Cmd {
        self.ready(Cmd::reads(tool)).args(words).limit(QUICK)
    }

    fn changes(&self, tool: Tool, words: &[&str]) -> Cmd {
        self.ready(Cmd::changes(tool)).args(words)
    }

    /// The OSD pool, with the namespace when the pool is one.
    pub(super) fn home(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/{namespace}", self.pool),
            None => self.pool.clone(),
        }
    }

    fn spec(&self, at: &Spelled) -> String {
        let snapshot = at.snapshot.as_ref().map(|name| format!("@{name}")).unwrap_or_default();
        format!("{}/{}{snapshot}", self.home(), at.image)
    }

    /// All images and their snapshots.
    pub(super) fn list(&self) -> Cmd {
        self.reads(RBD, &["ls", "--long", "--format", "json", &self.home()])
    }

    /// The names of all images.
    pub(super) fn names(&self) -> Cmd {
        self.reads(RBD, &["ls", "--format", "json", &self.home()])
    }

    /// The namespaces in the OSD pool.
    pub(super) fn namespaces(&self) -> Cmd {
        self.reads(RBD, &["namespace", "ls", "--format", "json", &self.pool])
    }

    /// One image.
    pub(super) fn info(&self, image: &Spelled) -> Cmd {
        self.reads(RBD, &["info", "--format", "json", &self.spec(image)])
    }

    /// The snapshots of an image.
    pub(super) fn snapshots(&self, image: &Spelled) -> Cmd {
        self.reads(RBD, &["snap", "ls", "--all", "--format", "json", &self.spec(image)])
    }

    /// What an image or snapshot occupies.
    pub(super) fn usage(&self, at: &Spelled) -> Cmd {
        self.reads(RBD, &["du", "--format", "json", &self.spec(at)]).limit(LONG)
    }

    /// What every image and snapshot occupies.
    pub(super) fn usage_of_all(&self) -> Cmd {
        let namespace = self.namespace.iter().flat_map(|namespace| ["--namespace", namespace]);
        self.reads(RBD, &["du", "--format", "json", "--pool", &self.pool]).args(namespace).limit(LONG)
    }

    fn shape(&self, cmd: Cmd) -> Cmd {
        let cmd = cmd.args(["--image-feature", &self.features]);
        match &self.data_pool {
            Some(pool) => cmd.args(["--data-pool", pool]),
            None => cmd,
        }
    }

    /// A new image of `bytes`.
    pub(super) fn create(&self, image: &Spelled, bytes: u64) -> Cmd {
        let size = format!("{bytes}B");
        self.shape(self.changes(RBD, &["create", "--size", &size])).arg(self.spec(image))
    }

    /// A new image that shares blocks with a snapshot.
    pub(super) fn clone(&self, snapshot: &Spelled, image: &Spelled) -> Cmd {
        let specs = [self.spec(snapshot), self.spec(image)];
        self.shape(self.changes(RBD, &["clone", CLONE_FORMAT])).args(specs)
    }

    /// A new image that shares nothing with a snapshot.
    pub(super) fn copy(&self, snapshot: &Spelled, image: &Spelled) -> Cmd {
        let specs = [self.spec(snapshot), self.spec(image)];
        self.shape(self.changes(RBD, &["cp", "--no-progress"])).args(specs).limit(LONG)
    }

    /// Writes what a snapshot holds to standard output; with `base`, an older one of the image, only what differs.
    pub(super) fn export(&self, base: Option<&Spelled>, snapshot: &Spelled) -> Cmd {
        let base = base.and_then(|base| base.snapshot.as_deref()).into_iter();
        let base = base.flat_map(|base| ["--from-snap", base]);
        let cmd = self.reads(RBD, &["export-diff", "--no-progress"]).args(base);
        cmd.args([&self.spec(snapshot), "-"]).limit(LONG).ends_with_us()
    }

    /// Makes of an image what [`Commands::export`] wrote, with a snapshot of the same name. It ends with its input: when it is
    /// killed instead, the cluster takes the image for open for half a minute.
    pub(super) fn import(&self, image: &Spelled) -> Cmd {
        self.changes(RBD, &["import-diff", "--no-progress", "-", &self.spec(image)]).limit(LONG)
    }

    /// What was noted with an image.
    pub(super) fn read_note(&self, image: &Spelled, key: &str) -> Cmd {
        self.reads(RBD, &["image-meta", "get", &self.spec(image), key])
    }

    /// Notes something with an image.
    pub(super) fn write_note(&self, image: &Spelled, key: &str, value: &str) -> Cmd {
        self.changes(RBD, &["image-meta", "set", &self.spec(image), key, value])
    }

    /// Another name for an image, with its snapshots.
    pub(super) fn rename(&self, from: &Spelled, to: &Spelled) -> Cmd {
        self.changes(RBD, &["rename", &self.spec(from), &self.spec(to)])
    }

    /// Another size.
    pub(super) fn resize(&self, image: &Spelled, bytes: u64) -> Cmd {
        let size = format!("{bytes}B");
        self.changes(RBD, &["resize", "--no-progress", "--allow-shrink", "--size", &size, &self.spec(image)])
            .limit(LONG)
    }

    /// Removes an image that has no snapshots.
    pub(super) fn remove(&self, image: &Spelled) -> Cmd {
        self.changes(RBD, &["rm", "--no-progress", &self.spec(image)]).limit(LONG)
    }

    /// A new snapshot.
    pub(super) fn snapshot(&self, snapshot: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "create", "--no-progress", &self.spec(snapshot)])
    }

    /// Another name for a snapshot.
    pub(super) fn rename_snapshot(&self, from: &Spelled, to: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "rename", &self.spec(from), &self.spec(to)])
    }

    /// Removes a snapshot that is not protected.
    pub(super) fn remove_snapshot(&self, snapshot: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "rm", "--no-progress", &self.spec(snapshot)]).limit(LONG)
    }

    /// Removes all snapshots of an image that are not protected.
    pub(super) fn remove_snapshots(&self, image: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "purge", "--no-progress", &self.spec(image)]).limit(LONG)
    }

    /// Lets a snapshot go that a peer protected. Refused while it has clones.
    pub(super) fn unprotect(&self, snapshot: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "unprotect", &self.spec(snapshot)])
    }

    /// Back to a snapshot; the size too.
    pub(super) fn roll_back(&self, snapshot: &Spelled) -> Cmd {
        self.changes(RBD, &["snap", "rollback", "--no-progress", &self.spec(snapshot)]).limit(LONG)
    }

    /// Gives an image or snapshot a device on this machine; prints its path.
    pub(super) fn map(&self, at: &Spelled, read_only: bool) -> Cmd {
        let options: &[&str] = if read_only { &["--read-only"] } else { &[] };
        self.changes(RBD, &["map"]).args(options).arg(self.spec(at))
    }

    /// The identifier of the cluster.
    pub(super) fn cluster_id(&self) -> Cmd {
        self.reads(CEPH, &["fsid"])
    }

    /// Space of all OSD pools.
    pub(super) fn space(&self) -> Cmd {
        self.reads(CEPH, &["df", "--format", "json"])
    }

    /// A new OSD pool.
    pub(super) fn create_pool(&self, placement_groups: &str) -> Cmd {
        self.changes(CEPH, &["osd", "pool", "create", &self.pool, placement_groups])
    }

    /// How many copies the OSD pool keeps.
    pub(super) fn set_copies(&self, copies: &str) -> Cmd {
        let cmd = self.changes(CEPH, &["osd", "pool", "set", &self.pool, "size", copies]);
        // One copy is asked for twice.
        if copies == "1" { cmd.arg("--yes-i-really-mean-it") } else { cmd }
    }

    /// Makes a new OSD pool ready for images.
    pub(super) fn prepare_pool(&self) -> Cmd {
        self.changes(RBD, &["pool", "init", &self.pool])
    }

    /// Removes the OSD pool with all that is in it.
    pub(super) fn remove_pool(&self) -> Cmd {
        let sure = "--yes-i-really-really-mean-it";
        self.changes(CEPH, &["osd", "pool", "delete", &self.pool, &self.pool, sure])
    }

    /// A new namespace in the OSD pool.
    pub(super) fn create_namespace(&self) -> Cmd {
        self.changes(RBD, &["namespace", "create", &self.home()])
    }

    /// Removes an empty namespace.
    pub(super) fn remove_namespace(&self) -> Cmd {
        self.changes(RBD, &["namespace", "remove", &self.home()])
    }

    /// Takes away a name by which an image is found, whether or not it is listed by it.
    pub(super) fn forget_name(&self, image: &Spelled) -> Cmd {
        self.object(Cmd::changes(RADOS)).args(["rm", &format!("rbd_id.{}", image.image)])
    }

    fn object(&self, cmd: Cmd) -> Cmd {
        let cmd = self.ready(cmd).args(["--pool", &self.pool]);
        match &self.namespace {
            Some(namespace) => cmd.args(["--namespace", namespace]),
            None => cmd,
        }
    }

    /// Prints what marks the pool as ours.
    pub(super) fn read_mark(&self) -> Cmd {
        self.object(Cmd::reads(RADOS)).args(["get", MARK, "-"]).limit(QUICK)
    }

    /// Marks the pool as ours.
    pub(super) fn write_mark(&self, text: &str) -> Cmd {
        self.object(Cmd::changes(RADOS)).args(["put", MARK, "-"]).input(Input::Bytes(text.into()))
    }

    /// Removes the mark.
    pub(super) fn remove_mark(&self) -> Cmd {
        self.object(Cmd::changes(RADOS)).args(["rm", MARK])
    }
}
