//! The whole text for one container of each kind, and what never gets into it.

use super::*;
use crate::container::CpuLimit;
use crate::idmap::IdMap;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn machine() -> Machine {
    Machine {
        unified_cgroups: true,
        cpusets: true,
        apparmor: true,
        lxcfs: false,
        online_cpus: vec![0, 1, 2, 3],
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        name: "default_c1".to_owned(),
        root: PathBuf::from("/pool/containers/c1/rootfs"),
        idmap: Some(IdMap::simple(100_000, 65_536)),
        idmapped_root: true,
        disks: vec![DiskMount {
            device: "data".to_owned(),
            source: PathBuf::from("/pool/custom/my data"),
            path: PathBuf::from("/srv/my data"),
            file: false,
            read_only: true,
            recursive: false,
            idmapped: true,
        }],
        environment: BTreeMap::from([("LANG".to_owned(), "de_DE.UTF-8".to_owned())]),
        limits: Limits { memory: Some(64 << 20), cpu: Some(CpuLimit::Set(vec![0, 2])), processes: Some(100) },
        log_dir: PathBuf::from("/logs/c1"),
        hostname: "c1".to_owned(),
        privileged: false,
        nesting: false,
    }
}

fn text(spec: &ContainerSpec, machine: &Machine) -> Result<String, RuntimeError> {
    let places = Places {
        seccomp: Path::new("/run/l/c1/seccomp"),
        mount_point: Path::new("/run/l/c1/root"),
        stage: Path::new("/run/l/c 1/stage"),
    };
    config(spec, machine, places)
}

const COMMON: &str = "\
lxc.mount.entry = mqueue dev/mqueue mqueue rw,relatime,create=dir,optional 0 0
lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0
lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file,optional 0 0
lxc.mount.entry = /proc/sys/fs/binfmt_misc proc/sys/fs/binfmt_misc none rbind,optional 0 0
lxc.mount.entry = /sys/fs/fuse/connections sys/fs/fuse/connections none rbind,optional 0 0
lxc.mount.entry = /sys/fs/pstore sys/fs/pstore none rbind,optional 0 0
lxc.mount.entry = /sys/kernel/config sys/kernel/config none rbind,optional 0 0
lxc.mount.entry = /sys/kernel/debug sys/kernel/debug none rbind,optional 0 0
lxc.mount.entry = /sys/kernel/security sys/kernel/security none rbind,optional 0 0
lxc.mount.entry = /sys/kernel/tracing sys/kernel/tracing none rbind,optional 0 0
";

#[test]
fn an_unprivileged_container_on_one_tree_of_cgroups() {
    let expected = format!(
        "\
lxc.log.file = /logs/c1/lxc.log
lxc.log.level = warn
lxc.console.logfile = /logs/c1/console.log
lxc.console.buffer.size = auto
lxc.console.size = auto
lxc.console.rotate = 1
lxc.tty.max = 0
lxc.pty.max = 1024
lxc.uts.name = c1
lxc.environment = LANG=de_DE.UTF-8
lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio
lxc.seccomp.profile = /run/l/c1/seccomp
lxc.apparmor.profile = generated
lxc.apparmor.allow_nesting = 0
lxc.mount.auto = proc:rw sys:rw cgroup:mixed
lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536
lxc.rootfs.path = dir:/run/l/c 1/stage/root
lxc.rootfs.mount = /run/l/c1/root
lxc.rootfs.options = nodev,idmap=container
lxc.net.0.type = empty
{COMMON}lxc.mount.entry = /run/l/c\\0401/stage/0 srv/my\\040data none bind,create=dir 0 0
lxc.cgroup2.devices.deny = a
lxc.cgroup2.devices.allow = c *:* m
lxc.cgroup2.devices.allow = b *:* m
lxc.cgroup2.devices.allow = c 1:3 rwm
lxc.cgroup2.devices.allow = c 1:5 rwm
lxc.cgroup2.devices.allow = c 1:7 rwm
lxc.cgroup2.devices.allow = c 1:8 rwm
lxc.cgroup2.devices.allow = c 1:9 rwm
lxc.cgroup2.devices.allow = c 5:0 rwm
lxc.cgroup2.devices.allow = c 5:1 rwm
lxc.cgroup2.devices.allow = c 5:2 rwm
lxc.cgroup2.devices.allow = c 136:* rwm
lxc.cgroup2.devices.allow = c 10:200 rwm
lxc.cgroup2.devices.allow = c 10:229 rwm
lxc.cgroup2.memory.max = 67108864
lxc.cgroup2.cpuset.cpus = 0,2
lxc.cgroup2.pids.max = 100
"
    );
    assert_eq!(text(&spec(), &machine()).unwrap(), expected);
}

#[test]
fn a_privileged_nesting_container_on_separate_cgroups() {
    let spec = ContainerSpec { privileged: true, nesting: true, idmap: None, disks: vec![], ..spec() };
    let machine = Machine { unified_cgroups: false, apparmor: false, lxcfs: true, ..machine() };
    let text = text(&spec, &machine).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed",
        "lxc.rootfs.options = nodev",
        "lxc.seccomp.allow_nesting = 1",
        "lxc.cgroup.devices.deny = a",
        "lxc.cgroup.memory.limit_in_bytes = 67108864",
        "lxc.mount.entry = /var/lib/lxcfs/proc/meminfo proc/meminfo none bind,optional 0 0",
        "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0",
    ] {
        assert!(lines.contains(&line), "{line} is missing in\n{text}");
    }
    for absent in ["lxc.idmap", "lxc.apparmor", "lxc.cgroup2"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn no_value_can_add_a_line_of_its_own() {
    let evil = "x\nlxc.hook.pre-start = /bin/sh".to_owned();
    let variable = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let disk = |source: &str, path: &str| {
        vec![DiskMount { source: source.into(), path: path.into(), ..spec().disks[0].clone() }]
    };
    for bad in [
        ContainerSpec { hostname: evil.clone(), ..spec() },
        ContainerSpec { root: PathBuf::from(format!("/{evil}")), ..spec() },
        ContainerSpec { root: PathBuf::from("relative"), ..spec() },
        ContainerSpec { log_dir: PathBuf::from(format!("/{evil}")), ..spec() },
        ContainerSpec { environment: variable("A", &evil), ..spec() },
        ContainerSpec { environment: variable("A\n", "1"), ..spec() },
        ContainerSpec { environment: variable("A=B", "1"), ..spec() },
        ContainerSpec { disks: disk(&format!("/{evil}"), "/a"), ..spec() },
        ContainerSpec { disks: disk("/a", "/../../etc"), ..spec() },
        ContainerSpec { disks: disk("/a", "/"), ..spec() },
        ContainerSpec { idmap: None, ..spec() },
        ContainerSpec { privileged: true, ..spec() },
    ] {
        assert!(matches!(text(&bad, &machine()), Err(RuntimeError::InvalidValue { .. })), "{bad:?}");
    }
}
