//! Where the daemon keeps its files.

use larder_base::PoolName;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The layout of `LARDER_DIR` (default `/var/lib/larder`).
#[derive(Debug, Clone)]
pub struct Directories {
    root: PathBuf,
    ceph_conf: Option<PathBuf>,
}

impl Directories {
    /// The layout below `root`, an absolute path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ceph_conf: None }
    }

    /// The same with the configuration of a Ceph cluster that is not in `/etc/ceph`.
    #[must_use]
    pub fn with_ceph_conf(self, file: Option<PathBuf>) -> Self {
        Self { ceph_conf: file, ..self }
    }

    /// The configuration of the Ceph cluster, where it is not that in `/etc/ceph`.
    pub fn ceph_conf(&self) -> Option<&Path> {
        self.ceph_conf.as_deref()
    }

    /// Makes what is missing. The root is 0711, so that a container's root user can pass through to its own root; all
    /// that lies beside is 0700.
    pub fn prepare(&self) -> io::Result<()> {
        for (folder, mode) in [
            (self.root.clone(), 0o711),
            (self.storage_pools(), 0o711),
            (self.root.join("catalog"), 0o700),
            (self.disks(), 0o700),
            (self.images(), 0o700),
            (self.backups(), 0o700),
            (self.logs(), 0o700),
            (self.run(), 0o711),
        ] {
            fs::DirBuilder::new().recursive(true).mode(mode).create(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// The state folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("unix.socket")
    }

    /// The catalog's file.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog").join("larder.db")
    }

    /// The key that secrets are sealed with.
    pub fn secret_key(&self) -> PathBuf {
        self.root.join("secret.key")
    }

    /// Certificate and private key of the endpoints that speak TLS.
    pub fn server_certificate(&self) -> (PathBuf, PathBuf) {
        (self.root.join("server.crt"), self.root.join("server.key"))
    }

    /// Mount points of the pools.
    pub fn storage_pools(&self) -> PathBuf {
        self.root.join("storage-pools")
    }

    /// The mount point of one pool.
    pub fn pool(&self, name: &PoolName) -> PathBuf {
        self.storage_pools().join(name.as_str())
    }

    /// Files of pools that have no device of their own.
    pub fn disks(&self) -> PathBuf {
        self.root.join("disks")
    }

    /// Image files.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Stored backups, and uploads on their way in.
    pub fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// Logs of instances.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Run-time state of instances.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
}
