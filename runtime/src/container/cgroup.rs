//! What a container uses and may use, from its cgroups: one tree for all (v2), or one for each controller
//! (v1).

use super::config;
use super::machine::{CGROUPS, Machine};
use super::spec::Limits;
use crate::error::RuntimeError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the monitor of a start that failed may take to end.
const ENDING: Duration = Duration::from_secs(3);
/// How long nobody looks in between, at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// liblxc puts a container's processes into a group that is named so, with the container's name behind it.
const PAYLOAD: &str = "lxc.payload.";

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory in use.
    pub memory: u64,
    /// The most bytes that were in use; 0 where the kernel does not tell.
    pub memory_peak: u64,
    /// The most bytes there may be; none without a limit.
    pub memory_limit: Option<u64>,
    /// Bytes of swap in use.
    pub swap: u64,
    /// Processor time in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Processes.
    pub processes: u64,
}

/// A container's cgroups.
#[derive(Debug)]
pub(super) struct Cgroups {
    mounted_at: PathBuf,
    /// Lines of `number:controllers:path`.
    membership: String,
}

impl Cgroups {
    /// Those of the container that `init` belongs to; none when it is gone.
    pub(super) fn of(init: u32) -> Option<Self> {
        let membership = fs::read_to_string(format!("/proc/{init}/cgroup")).ok()?;
        Some(Self { mounted_at: PathBuf::from(CGROUPS), membership })
    }

    /// The group for a controller; with it whether it is in the one tree for all.
    fn group(&self, controller: &str) -> Option<(PathBuf, bool)> {
        let mut unified = None;
        for line in self.membership.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            // Controllers of the old kind come first; the one tree has what is left.
            if controllers.split(',').any(|one| one == controller) {
                return Some((self.mounted_at.join(controller).join(payload(path)), false));
            }
            if controllers.is_empty() {
                unified = Some((self.mounted_at.join(payload(path)), true));
            }
        }
        unified
    }

    fn number(&self, controller: &str, old: &str, new: &str) -> Option<u64> {
        let (group, unified) = self.group(controller)?;
        number(&group.join(if unified { new } else { old }))
    }

    pub(super) fn usage(&self) -> Usage {
        let memory = |old, new| self.number("memory", old, new);
        let used = memory("memory.usage_in_bytes", "memory.current").unwrap_or(0);
        // The old kind counts memory and swap together.
        let swap = match self.group("memory") {
            Some((group, true)) => number(&group.join("memory.swap.current")),
            Some((group, false)) => {
                number(&group.join("memory.memsw.usage_in_bytes")).map(|both| both.saturating_sub(used))
            }
            None => None,
        };
        Usage {
            memory: used,
            memory_peak: memory("memory.max_usage_in_bytes", "memory.peak").unwrap_or(0),
            // The old kind writes "no limit" as a number near the largest.
            memory_limit: memory("memory.limit_in_bytes", "memory.max").filter(|limit| *limit < 1 << 62),
            swap: swap.unwrap_or(0),
            cpu_nanoseconds: self.cpu_nanoseconds().unwrap_or(0),
            processes: self.number("pids", "pids.current", "pids.current").unwrap_or(0),
        }
    }

    fn cpu_nanoseconds(&self) -> Option<u64> {
        let (group, unified) = self.group("cpuacct")?;
        if !unified {
            return number(&group.join("cpuacct.usage"));
        }
        let statistics = fs::read_to_string(group.join("cpu.stat")).ok()?;
        let microseconds = statistics.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        microseconds.parse::<u64>().ok()?.checked_mul(1000)
    }

    /// Writes limits; what is absent is unlimited.
    pub(super) fn apply(&self, limits: &Limits, machine: &Machine, name: &str) -> Result<(), RuntimeError> {
        let all: Vec<String> = machine.online_cpus.iter().map(u32::to_string).collect();
        let unified = machine.unified_cgroups;
        let (memory, none) = match unified {
            true => ("memory.max", "max"),
            false => ("memory.limit_in_bytes", "-1"),
        };
        let unlimited = [
            (memory, none.to_owned()),
            ("cpuset.cpus", if unified { String::new() } else { all.join(",") }),
            ("pids.max", "max".to_owned()),
        ];
        let wanted = config::limits(limits, machine, name);
        for (file, otherwise) in unlimited {
            let set = wanted.iter().find(|(wanted, _)| *wanted == file).map(|(_, value)| value);
            let controller = file.split('.').next().unwrap_or_default();
            let Some((group, _)) = self.group(controller) else { continue };
            let path = group.join(file);
            // Where the kernel lacks the controller there is nothing to lift.
            if set.is_none() && !path.exists() {
                continue;
            }
            let value = set.unwrap_or(&otherwise);
            fs::write(&path, format!("{value}\n")).map_err(RuntimeError::io("set a limit in", &path))?;
        }
        Ok(())
    }
}

/// The groups that bear a container's name.
pub(super) fn groups_named(name: &str) -> Vec<PathBuf> {
    let Ok(membership) = fs::read_to_string("/proc/1/cgroup") else { return Vec::new() };
    membership.lines().flat_map(|line| leftovers(line, name)).filter(|group| group.exists()).collect()
}

/// Removes the empty groups that liblxc leaves behind when a start fails: its monitor can't remove its own, which is empty
/// when the monitor has ended. A group with a process in it, whoever's, can't be removed. Those that were there `before` are
/// not of this start, for which liblxc takes other names then: nobody waits for them.
pub(super) fn remove_empty(name: &str, before: &[PathBuf]) {
    let remove = |groups: Vec<PathBuf>| -> Vec<PathBuf> {
        groups.into_iter().filter(|group| group.exists() && fs::remove_dir(group).is_err()).collect()
    };
    let mut left = remove(groups_named(name));
    left.retain(|group| !before.contains(group));
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    while !left.is_empty() {
        if began.elapsed() > ENDING {
            tracing::warn!(container = name, "the cgroups of a start that failed are still there");
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        left = remove(left);
    }
}

/// Where a container's groups are in the tree that a line of `number:controllers:path` of process 1 is about.
fn leftovers(line: &str, name: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let base = path.strip_suffix("/init.scope").unwrap_or(path).trim_matches('/');
    let trees: Vec<&str> = match controllers {
        // The one tree lies at the top, or beside the others.
        "" => vec!["", "unified"],
        _ => controllers.split(',').map(|one| one.strip_prefix("name=").unwrap_or(one)).collect(),
    };
    let groups = ["lxc.monitor.", PAYLOAD].map(|kind| format!("{kind}{name}"));
    let in_tree =
        |tree: &str| groups.clone().map(|group| Path::new(CGROUPS).join(tree).join(base).join(group));
    trees.into_iter().flat_map(in_tree).collect()
}

/// The container's own group: its init may have moved deeper.
fn payload(path: &str) -> PathBuf {
    let mut group = PathBuf::new();
    for part in path.trim_matches('/').split('/') {
        group.push(part);
        if part.starts_with(PAYLOAD) {
            break;
        }
    }
    group
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::CpuLimit;

    fn written(root: &Path, files: &[(&str, &str)]) {
        for (file, content) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn machine(unified_cgroups: bool) -> Machine {
        Machine { unified_cgroups, cpusets: true, apparmor: false, lxcfs: false, online_cpus: vec![0, 1] }
    }

    #[test]
    fn one_tree_is_read_from_the_containers_own_group() {
        let dir = tempfile::tempdir().unwrap();
        let group = "lxc.payload.c1";
        written(
            dir.path(),
            &[
                (&format!("{group}/memory.current"), "100\n"),
                (&format!("{group}/memory.peak"), "200\n"),
                (&format!("{group}/memory.max"), "max\n"),
                (&format!("{group}/memory.swap.current"), "7\n"),
                (&format!("{group}/cpu.stat"), "usage_usec 5\nuser_usec 3\n"),
                (&format!("{group}/pids.current"), "4\n"),
            ],
        );
        let membership = "0::/lxc.payload.c1/init.scope\n".to_owned();
        let cgroups = Cgroups { mounted_at: dir.path().to_owned(), membership };
        let expected = Usage {
            memory: 100,
            memory_peak: 200,
            memory_limit: None,
            swap: 7,
            cpu_nanoseconds: 5000,
            processes: 4,
        };
        assert_eq!(cgroups.usage(), expected);
        cgroups.apply(&Limits { memory: Some(4096), ..Limits::default() }, &machine(true), "c1").unwrap();
        assert_eq!(cgroups.usage().memory_limit, Some(4096));
    }

    #[test]
    fn separate_trees_are_read_and_limits_are_lifted_again() {
        let dir = tempfile::tempdir().unwrap();
        written(
            dir.path(),
            &[
                ("memory/a/lxc.payload.c1/memory.usage_in_bytes", "100"),
                ("memory/a/lxc.payload.c1/memory.memsw.usage_in_bytes", "130"),
                ("memory/a/lxc.payload.c1/memory.limit_in_bytes", "9223372036854771712"),
                ("cpuacct/lxc.payload.c1/cpuacct.usage", "77"),
                ("cpuset/lxc.payload.c1/cpuset.cpus", "0-1"),
                ("pids/lxc.payload.c1/pids.current", "3"),
                ("pids/lxc.payload.c1/pids.max", "max"),
            ],
        );
        let membership =
            "9:cpu,cpuacct:/lxc.payload.c1\n4:memory:/a/lxc.payload.c1\n3:cpuset:/lxc.payload.c1\n\
                          2:pids:/lxc.payload.c1/deeper\n0::/\n"
                .to_owned();
        let cgroups = Cgroups { mounted_at: dir.path().to_owned(), membership };
        let usage = cgroups.usage();
        assert_eq!((usage.memory, usage.swap, usage.memory_limit), (100, 30, None));
        assert_eq!((usage.cpu_nanoseconds, usage.processes), (77, 3));
        let limits = Limits { memory: Some(4096), cpu: Some(CpuLimit::Set(vec![1])), processes: Some(9) };
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap().trim().to_owned();
        cgroups.apply(&limits, &machine(false), "c1").unwrap();
        assert_eq!(usage_of(&cgroups).memory_limit, Some(4096));
        assert_eq!(read("cpuset/lxc.payload.c1/cpuset.cpus"), "1");
        assert_eq!(read("pids/lxc.payload.c1/pids.max"), "9");
        cgroups.apply(&Limits::default(), &machine(false), "c1").unwrap();
        assert_eq!(read("cpuset/lxc.payload.c1/cpuset.cpus"), "0,1");
        assert_eq!(read("pids/lxc.payload.c1/pids.max"), "max");
        assert_eq!(read("memory/a/lxc.payload.c1/memory.limit_in_bytes"), "-1");
    }

    fn usage_of(cgroups: &Cgroups) -> Usage {
        cgroups.usage()
    }
}
