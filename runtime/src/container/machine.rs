//! What the machine offers that a container's configuration depends on.

use super::spec::{Limits, cpu_list};
use crate::error::RuntimeError;
use std::fs;
use std::path::Path;

/// Facts about the machine, looked up once per start so that the configuration itself is a pure function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Whether there is one tree of cgroups for everything (v2).
    pub(crate) unified_cgroups: bool,
    /// Whether cgroups can keep processes to some processors.
    pub(crate) cpusets: bool,
    /// Whether the kernel confines programs by AppArmor.
    pub(crate) apparmor: bool,
    /// Whether lxcfs shows containers their own share of `/proc`.
    pub(crate) lxcfs: bool,
    /// The processors that are switched on.
    pub(crate) online_cpus: Vec<u32>,
}

pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

impl Machine {
    pub(crate) fn look() -> Self {
        let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let controllers = fs::read_to_string(Path::new(CGROUPS).join("cgroup.controllers"));
        Self {
            unified_cgroups: controllers.is_ok(),
            cpusets: match &controllers {
                Ok(controllers) => controllers.split_whitespace().any(|one| one == "cpuset"),
                Err(_) => Path::new(CGROUPS).join("cpuset").exists(),
            },
            apparmor: Path::new("/sys/kernel/security/apparmor").exists(),
            lxcfs: Path::new("/var/lib/lxcfs/proc/meminfo").exists(),
            online_cpus: cpu_list(&online).unwrap_or_else(|| vec![0]),
        }
    }

    /// Refuses limits that nothing here would hold.
    pub(crate) fn can_hold(&self, limits: &Limits, container: &str) -> Result<(), RuntimeError> {
        match limits.cpu {
            Some(_) if !self.cpusets => Err(RuntimeError::ControllerMissing {
                container: container.to_owned(),
                key: "limits.cpu",
                controller: "cpuset",
            }),
            _ => Ok(()),
        }
    }
}
