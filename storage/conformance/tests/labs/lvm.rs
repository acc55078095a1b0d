//! LVM, thin and thick, on files of its own.

use super::{fast_folder, scratch};
use larder_storage_conformance::{Bench, Lab, OwnTrial, Spares};
use larder_storage_driver::{Capabilities, Driver, Result};
use larder_storage_drivers::PoolSetup;
use larder_storage_drivers::lvm::Lvm;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// How volumes have their blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From a thin pool.
    Thin,
    /// Extents of their own.
    Thick,
}

/// LVM on this machine's kernel.
#[derive(Debug)]
pub(crate) struct LvmLab {
    name: &'static str,
    kind: Kind,
    spares: Arc<Spares>,
}

impl LvmLab {
    /// Fails with the reason where there is no LVM.
    pub(crate) fn new(name: &'static str, kind: Kind) -> std::result::Result<Self, String> {
        // The kernel loads what it has.
        let _ = output("modprobe", &["-a", "dm-mod", "dm-thin-pool"]);
        if let Some(reason) = larder_storage_drivers::lvm::unavailable() {
            return Err(reason);
        }
        Ok(Self { name, kind, spares: Arc::default() })
    }

    fn new_bench(&self) -> std::io::Result<LvmBench> {
        Ok(LvmBench { folder: scratch(fast_folder())?, kind: self.kind })
    }
}

/// Runs a program as a person would, and gives what it prints.
pub(crate) fn output(program: &str, arguments: &[&str]) -> std::io::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the test looks at the machine as a person would")]
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Lab for LvmLab {
    fn name(&self) -> &str {
        self.name
    }

    fn bench(&self) -> std::io::Result<Box<dyn Bench>> {
        Ok(Box::new(self.new_bench()?))
    }

    fn capabilities(&self) -> Capabilities {
        let bench = self.new_bench().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        bench.lvm().unwrap_or_else(|error| panic!("{}", error.chain())).capabilities()
    }

    fn tools(&self) -> Vec<String> {
        let text = output("lvm", &["version"]).unwrap_or_default();
        let words = text.lines().filter_map(|line| line.split_once(':'));
        let told = words.filter(|(what, _)| what.trim() == "LVM version" || what.trim() == "Driver version");
        told.map(|(what, version)| format!("{} {}", what.trim(), version.trim())).collect()
    }

    fn own_trials(&self) -> Vec<OwnTrial> {
        match self.kind {
            Kind::Thin => super::lvm_trials::all(),
            Kind::Thick => Vec::new(),
        }
    }

    fn spares(&self) -> Option<&Arc<Spares>> {
        Some(&self.spares)
    }
}

/// A pool on a sparse file.
#[derive(Debug)]
struct LvmBench {
    folder: tempfile::TempDir,
    kind: Kind,
}

impl LvmBench {
    fn lvm(&self) -> Result<Lvm> {
        let folder = self.folder.path();
        // Volume groups are known to the whole machine.
        let unique =
            folder.file_name().map(|name| name.to_string_lossy().replace('.', "")).unwrap_or_default();
        let thin = if self.kind == Kind::Thin { "true" } else { "false" };
        let config = [
            ("size", "6GiB"),
            ("lvm.vg_name", unique.as_str()),
            ("lvm.use_thinpool", thin),
            ("volume.size", "32MiB"),
        ];
        let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let (root, disks) = (folder.join("pool"), folder.join("disks"));
        Lvm::new(PoolSetup { name: "pool0".parse()?, root, disks, ceph_conf: None, config })
    }
}

impl Bench for LvmBench {
    fn driver(&self) -> Result<Box<dyn Driver>> {
        Ok(Box::new(self.lvm()?))
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for LvmBench {
    fn drop(&mut self) {
        let cancel = larder_base::Cancel::never();
        let ticket = larder_base::Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let progress = larder_base::Progress::silent();
        let cx = larder_storage_driver::Cx::new(&larder_base::host::SystemHost, progress, cancel, ticket);
        if let Ok(driver) = self.lvm() {
            let _ = driver.destroy_pool(&cx);
        }
    }
}
