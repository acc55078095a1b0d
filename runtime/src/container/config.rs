//! The configuration liblxc reads: a pure function of what a container shall be.

use super::machine::Machine;
use super::spec::{ContainerSpec, DiskMount, Limits};
use crate::error::RuntimeError;
use crate::idmap::IdRange;
use std::fmt::Write as _;
use std::path::Path;

/// System calls that no container has a use for, in the form liblxc reads.
pub(super) const SECCOMP_POLICY: &str = "\
2
denylist
reject_force_umount
[all]
kexec_load errno 38
open_by_handle_at errno 38
init_module errno 38
finit_module errno 38
delete_module errno 38
";

/// Capabilities over the machine itself, which no container gets.
const DROPPED_CAPABILITIES: &str = "mac_admin mac_override sys_time sys_module sys_rawio";

/// Every device may be made (a name alone does nothing); only these may be opened.
const ALLOWED_DEVICES: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
    "c 10:229 rwm",
];

/// What of the host every container sees where it is there: harmless, and init systems ask for it.
const COMMON_MOUNTS: &[&str] = &[
    "mqueue dev/mqueue mqueue rw,relatime,create=dir,optional 0 0",
    "/dev/fuse dev/fuse none bind,create=file,optional 0 0",
    "/dev/net/tun dev/net/tun none bind,create=file,optional 0 0",
    "/proc/sys/fs/binfmt_misc proc/sys/fs/binfmt_misc none rbind,optional 0 0",
    "/sys/fs/fuse/connections sys/fs/fuse/connections none rbind,optional 0 0",
    "/sys/fs/pstore sys/fs/pstore none rbind,optional 0 0",
    "/sys/kernel/config sys/kernel/config none rbind,optional 0 0",
    "/sys/kernel/debug sys/kernel/debug none rbind,optional 0 0",
    "/sys/kernel/security sys/kernel/security none rbind,optional 0 0",
    "/sys/kernel/tracing sys/kernel/tracing none rbind,optional 0 0",
];

const LXCFS_FILES: &[&str] = &[
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "sys/devices/system/cpu",
];

/// Where a container's files are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// The seccomp policy.
    pub(super) seccomp: &'a Path,
    /// An empty folder that the root is mounted on, in the container's own namespace.
    pub(super) mount_point: &'a Path,
    /// Where the start brings the root and the disks: `root`, and the disks' numbers from 0.
    pub(super) stage: &'a Path,
}

/// The text of the configuration.
pub(super) fn config(
    spec: &ContainerSpec,
    machine: &Machine,
    places: Places<'_>,
) -> Result<String, RuntimeError> {
    let mut text = Text { container: &spec.name, text: String::new() };
    text.path("lxc.log.file", &spec.log_dir.join("lxc.log"))?;
    text.line("lxc.log.level", "warn");
    text.path("lxc.console.logfile", &spec.log_dir.join("console.log"))?;
    for (key, value) in [("buffer.size", "auto"), ("size", "auto"), ("rotate", "1")] {
        text.line(&format!("lxc.console.{key}"), value);
    }
    text.line("lxc.tty.max", "0");
    text.line("lxc.pty.max", "1024");
    text.value("lxc.uts.name", "host name", &spec.hostname)?;
    for (name, value) in &spec.environment {
        if name.is_empty() || name.contains('=') {
            return Err(text.refuse("environment variable", name, "a name must not be empty nor contain ="));
        }
        text.value("lxc.environment", "environment variable", &format!("{name}={value}"))?;
    }
    confinement(&mut text, spec, machine, places.seccomp)?;
    root(&mut text, spec, places)?;
    text.line("lxc.net.0.type", "empty");
    mounts(&mut text, spec, machine, places.stage)?;
    text.line(&format!("{}.devices.deny", cgroup_prefix(machine)), "a");
    for device in ALLOWED_DEVICES {
        text.line(&format!("{}.devices.allow", cgroup_prefix(machine)), device);
    }
    for (file, value) in limits(&spec.limits, machine, &spec.name) {
        text.line(&format!("{}.{file}", cgroup_prefix(machine)), &value);
    }
    Ok(text.text)
}

fn cgroup_prefix(machine: &Machine) -> &'static str {
    if machine.unified_cgroups { "lxc.cgroup2" } else { "lxc.cgroup" }
}

fn confinement(
    text: &mut Text<'_>,
    spec: &ContainerSpec,
    machine: &Machine,
    seccomp: &Path,
) -> Result<(), RuntimeError> {
    text.line("lxc.cap.drop", DROPPED_CAPABILITIES);
    text.path("lxc.seccomp.profile", seccomp)?;
    if spec.nesting {
        text.line("lxc.seccomp.allow_nesting", "1");
    }
    if machine.apparmor {
        text.line("lxc.apparmor.profile", "generated");
        text.line("lxc.apparmor.allow_nesting", if spec.nesting { "1" } else { "0" });
    }
    // In a user namespace the kernel itself guards what belongs to the machine; a privileged root would get
    // at it.
    let automatic =
        if spec.privileged { "proc:mixed sys:mixed cgroup:mixed" } else { "proc:rw sys:rw cgroup:mixed" };
    text.line("lxc.mount.auto", automatic);
    let Some(map) = &spec.idmap else {
        return if spec.privileged { Ok(()) } else { Err(text.refuse("id map", "", UNMAPPED)) };
    };
    if spec.privileged {
        return Err(text.refuse("id map", "security.privileged", "a privileged container has no id map"));
    }
    for (kind, ranges) in [("u", &map.users), ("g", &map.groups)] {
        for IdRange { container, host, size } in ranges {
            text.line("lxc.idmap", &format!("{kind} {container} {host} {size}"));
        }
    }
    Ok(())
}

const UNMAPPED: &str = "an unprivileged container needs one";

fn root(text: &mut Text<'_>, spec: &ContainerSpec, places: Places<'_>) -> Result<(), RuntimeError> {
    text.checked_path("root directory", &spec.root)?;
    let root = text.checked_path("runtime folder", &places.stage.join("root"))?;
    text.line("lxc.rootfs.path", &format!("dir:{root}"));
    text.path("lxc.rootfs.mount", places.mount_point)?;
    // A device file in a root must not open a device of the host.
    let options = if spec.idmapped_root && spec.idmap.is_some() { "nodev,idmap=container" } else { "nodev" };
    text.line("lxc.rootfs.options", options);
    Ok(())
}

fn mounts(
    text: &mut Text<'_>,
    spec: &ContainerSpec,
    machine: &Machine,
    stage: &Path,
) -> Result<(), RuntimeError> {
    for entry in COMMON_MOUNTS {
        text.line("lxc.mount.entry", entry);
    }
    for file in LXCFS_FILES.iter().filter(|_| machine.lxcfs) {
        text.line("lxc.mount.entry", &format!("/var/lib/lxcfs/{file} {file} none bind,optional 0 0"));
    }
    if spec.nesting {
        text.line("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0");
        text.line("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0");
    }
    for (number, disk) in spec.disks.iter().enumerate() {
        let entry = mount_entry(text, disk, &stage.join(number.to_string()))?;
        text.line("lxc.mount.entry", &entry);
    }
    Ok(())
}

fn mount_entry(text: &Text<'_>, disk: &DiskMount, staged: &Path) -> Result<String, RuntimeError> {
    text.checked_path("source of a disk", &disk.source)?;
    let source = text.checked_path("runtime folder", staged)?;
    let target = text.checked_path("path of a disk", &disk.path)?;
    let below = target.trim_matches('/');
    if below.is_empty() || Path::new(below).components().any(|part| part.as_os_str() == "..") {
        return Err(text.refuse("path of a disk", &target, "it must lie below the root"));
    }
    // Mapped ids, read-only and the rest are set where it is staged, and stay so.
    let bind = if disk.recursive { "rbind" } else { "bind" };
    let create = if disk.file { "create=file" } else { "create=dir" };
    Ok(format!("{} {} none {bind},{create} 0 0", escaped(&source), escaped(below)))
}

/// The cgroup files that hold the limits, with what to write.
pub(super) fn limits(limits: &Limits, machine: &Machine, name: &str) -> Vec<(&'static str, String)> {
    let unified = machine.unified_cgroups;
    let mut files = Vec::new();
    if let Some(bytes) = limits.memory {
        files.push((if unified { "memory.max" } else { "memory.limit_in_bytes" }, bytes.to_string()));
    }
    if let Some(cpu) = &limits.cpu {
        let chosen = cpu.choose(&machine.online_cpus, name);
        let list: Vec<String> = chosen.iter().map(u32::to_string).collect();
        files.push(("cpuset.cpus", list.join(",")));
    }
    if let Some(processes) = limits.processes {
        files.push(("pids.max", processes.to_string()));
    }
    files
}

/// As in a line of fstab.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('#', "\\043")
}

struct Text<'a> {
    container: &'a str,
    text: String,
}

impl Text<'_> {
    fn line(&mut self, key: &str, value: &str) {
        // Writing to a text can't fail.
        let _ = writeln!(self.text, "{key} = {value}");
    }

    /// A value from outside: one that would end its line could add any other.
    fn value(&mut self, key: &str, what: &str, value: &str) -> Result<(), RuntimeError> {
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(self.refuse(what, value, "it must not be empty nor contain control characters"));
        }
        self.line(key, value);
        Ok(())
    }

    fn path(&mut self, key: &str, path: &Path) -> Result<(), RuntimeError> {
        let path = self.checked_path(key, path)?;
        self.line(key, &path);
        Ok(())
    }

    fn checked_path(&self, what: &str, path: &Path) -> Result<String, RuntimeError> {
        let shown = path.to_string_lossy();
        let reason = match path.to_str() {
            None => "it is not UTF-8",
            Some(text) if !text.starts_with('/') => "it is not absolute",
            Some(text) if text.chars().any(char::is_control) => "it contains control characters",
            Some(text) if text.trim_end() != text => "it ends with a space",
            Some(text) => return Ok(text.to_owned()),
        };
        Err(self.refuse(what, &shown, reason))
    }

    fn refuse(&self, what: &str, value: &str, reason: &'static str) -> RuntimeError {
        RuntimeError::InvalidValue {
            container: self.container.to_owned(),
            what: what.to_owned(),
            value: value.to_owned(),
            reason,
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
