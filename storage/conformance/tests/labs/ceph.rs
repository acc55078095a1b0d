//! ceph and cephfs for real: for each pool that a trial needs a namespace in the OSD pool that `LARDER_CEPH_POOL` names, or a
//! folder in the CephFS that `LARDER_CEPHFS` names. Nothing else of the cluster is touched.

use super::{fast_folder, scratch};
use larder_base::host::SystemHost;
use larder_base::{Cancel, Progress, Ticket};
use larder_storage_conformance::{Bench, Lab, OwnTrial, Spares};
use larder_storage_driver::{Capabilities, Config, Cx, Driver, Result};
use larder_storage_drivers::{PoolSetup, load};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

/// A driver, and where it works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Technology {
    /// The lab's name.
    pub(crate) name: &'static str,
    /// The driver's.
    driver: &'static str,
    /// The variable that names the place to work in.
    variable: &'static str,
    /// The key of a pool that names a place in it.
    key: &'static str,
    /// Other keys of every pool. Small volumes, since a lot of them is made.
    keys: &'static [(&'static str, &'static str)],
}

const CEPH: Technology = Technology {
    name: "ceph",
    driver: "ceph",
    variable: "LARDER_CEPH_POOL",
    key: "ceph.osd.pool_name",
    keys: &[("volume.size", "64MiB")],
};

/// The drivers: with the peers' defaults, and with what else the kernel can.
pub(crate) const TECHNOLOGIES: &[Technology] = &[
    CEPH,
    Technology {
        name: "ceph_xfs",
        keys: &[
            ("volume.block.filesystem", "xfs"),
            ("volume.size", "320MiB"),
            ("ceph.rbd.features", "layering,exclusive-lock,object-map,fast-diff"),
            ("ceph.rbd.clone_copy", "false"),
        ],
        ..CEPH
    },
    Technology { name: "cephfs", driver: "cephfs", variable: "LARDER_CEPHFS", key: "cephfs.path", keys: &[] },
];

/// The number of the next pool of this process.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The lab.
#[derive(Debug)]
pub(crate) struct CephLab {
    technology: Technology,
    home: String,
    folder: tempfile::TempDir,
    spares: Arc<Spares>,
}

/// A namespace or folder of its own, and a folder to mount in.
#[derive(Debug)]
struct CephBench {
    driver: &'static str,
    key: &'static str,
    config: Config,
    folder: tempfile::TempDir,
}

impl CephLab {
    /// The lab of a name.
    pub(super) fn named(name: &str) -> std::result::Result<Self, String> {
        let technology = TECHNOLOGIES.iter().find(|technology| technology.name == name).copied();
        let folder = scratch(fast_folder()).map_err(|error| error.to_string())?;
        Self::new(technology.ok_or("there is no such lab")?, folder)
    }

    /// A lab that mounts below `folder`. Fails with the reason why this machine can't have one.
    pub(crate) fn new(
        technology: Technology,
        folder: tempfile::TempDir,
    ) -> std::result::Result<Self, String> {
        let variable = technology.variable;
        let home =
            std::env::var(variable).map_err(|_| format!("{variable} does not name a place to work in"))?;
        Ok(Self { technology, home, folder, spares: Arc::default() })
    }

    fn fresh(&self) -> std::io::Result<CephBench> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("world-").tempdir_in(self.folder.path())?;
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(folder.path(), open)?;
        let Technology { name, driver, key, keys, .. } = self.technology;
        let home = format!("{}/{name}-{}-{number}", self.home, std::process::id());
        let keys = keys.iter().copied().chain([(key, home.as_str())]);
        let config = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut bench = CephBench { driver, key, config, folder };
        // Whose the pool is: chosen once.
        bench.config =
            bench.driver().map_err(|error| std::io::Error::other(error.chain()))?.recorded_config();
        Ok(bench)
    }
}

impl Lab for CephLab {
    fn name(&self) -> &str {
        self.technology.name
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        Ok(Box::new(self.fresh()?))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = self.fresh().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        bench.driver().unwrap_or_else(|error| panic!("{}", error.chain())).capabilities()
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        match self.technology.name {
            "ceph" => {
                super::ceph_trials::all(&self.home).into_iter().chain(super::ceph_streams::all()).collect()
            }
            "cephfs" => super::cephfs_trials::all(&self.home),
            _ => Vec::new(),
        }
    }

    fn spares(&self) -> Option<&Arc<Spares>> {
        Some(&self.spares)
    }

    fn tools(&self) -> Vec<String> {
        #[expect(clippy::disallowed_methods, reason = "the test asks as a person would")]
        let said = std::process::Command::new("rbd").arg("--version").output();
        let said =
            said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }
}

impl Bench for CephBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        let folder: &Path = self.folder.path();
        let (root, disks) = (folder.join("pool"), folder.join("disks"));
        let setup =
            PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config: self.config.clone() };
        load(self.driver, setup)
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn name(&self) -> Option<&str> {
        self.config.get(self.key).map(String::as_str)
    }
}

impl Drop for CephBench {
    fn drop(&mut self) {
        let ticket = Ticket::new("none", Uuid::new_v4(), Uuid::new_v4());
        let cx = Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket);
        let left = self.driver().and_then(|driver| driver.destroy_pool(&cx)).err();
        let said = left.map(|error| error.chain());
        assert!(said.is_none() || std::thread::panicking(), "a pool is left on the cluster: {said:?}");
    }
}
