//! ceph for real: a namespace for each pool that a trial needs, in the OSD pool that `LARDER_CEPH_POOL` names. Nothing else
//! of the cluster is touched.

use larder_base::host::SystemHost;
use larder_base::{Cancel, Progress, Ticket};
use larder_storage_conformance::{Bench, Lab, Spares};
use larder_storage_driver::{Capabilities, Config, Cx, Driver, Result};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::ceph::Ceph;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

/// The lab.
#[derive(Debug)]
pub(crate) struct CephLab {
    name: &'static str,
    /// Keys of every pool.
    keys: &'static [(&'static str, &'static str)],
    osd_pool: String,
    folder: tempfile::TempDir,
    next: AtomicUsize,
    spares: Arc<Spares>,
}

/// A namespace of its own, and a folder to mount in.
#[derive(Debug)]
struct CephBench {
    config: Config,
    folder: tempfile::TempDir,
}

impl CephLab {
    /// A lab that mounts below `folder`. Fails with the reason why this machine can't have one.
    pub(crate) fn new(
        name: &'static str,
        keys: &'static [(&'static str, &'static str)],
        folder: tempfile::TempDir,
    ) -> std::result::Result<Self, String> {
        let osd_pool = std::env::var("LARDER_CEPH_POOL")
            .map_err(|_| "LARDER_CEPH_POOL does not name an OSD pool to work in".to_owned())?;
        Ok(Self { name, keys, osd_pool, folder, next: AtomicUsize::new(0), spares: Arc::default() })
    }

    fn fresh(&self) -> std::io::Result<CephBench> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::Builder::new().prefix("world-").tempdir_in(self.folder.path())?;
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(folder.path(), open)?;
        let home = format!("{}/{}-{}-{number}", self.osd_pool, self.name, std::process::id());
        // Small, since a lot of them is made.
        let keys = [("ceph.osd.pool_name", home.as_str()), ("volume.size", "64MiB")];
        let keys = keys.into_iter().chain(self.keys.iter().copied());
        let config = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut bench = CephBench { config, folder };
        // Whose the pool is: chosen once.
        bench.config =
            bench.driver().map_err(|error| std::io::Error::other(error.chain()))?.recorded_config();
        Ok(bench)
    }
}

impl Lab for CephLab {
    fn name(&self) -> &str {
        self.name
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        Ok(Box::new(self.fresh()?))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = self.fresh().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        bench.driver().unwrap_or_else(|error| panic!("{}", error.chain())).capabilities()
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
        let setup = PoolSetup { name: "pool0".parse()?, root, disks, config: self.config.clone() };
        Ok(Box::new(Ceph::new(setup)?))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for CephBench {
    fn drop(&mut self) {
        let ticket = Ticket::new("none", Uuid::new_v4(), Uuid::new_v4());
        let cx = Cx::new(&SystemHost, Progress::silent(), Cancel::never(), ticket);
        if let Err(error) = self.driver().and_then(|driver| driver.destroy_pool(&cx)) {
            eprintln!("a pool is left on the cluster: {}", error.chain());
        }
    }
}
