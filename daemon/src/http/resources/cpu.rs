//! Processors: where each thread sits is told by its topology folder, who made it by `/proc/cpuinfo`.

use super::tree::{Tree, count};
use larder_api::{ResourcesCpu, ResourcesCpuCore, ResourcesCpuSocket, ResourcesCpuThread};
use std::collections::{BTreeMap, BTreeSet};

const FOLDER: &str = "sys/devices/system/cpu";

/// What `/proc/cpuinfo` says of each thread, by its number.
type Told<'a> = BTreeMap<i64, BTreeMap<&'a str, &'a str>>;

/// The threads of one socket, by die and core.
type Cores = BTreeMap<(u64, u64), Vec<Found>>;

/// A thread with its present speed in MHz.
struct Found {
    thread: ResourcesCpuThread,
    frequency: u64,
}

pub(super) fn cpu(machine: &Tree, architecture: String) -> ResourcesCpu {
    let info = machine.text("proc/cpuinfo");
    let told = told(&info);
    let isolated = ids(&machine.text(format!("{FOLDER}/isolated")));
    let mut threads: BTreeSet<i64> = told.keys().copied().collect();
    threads.extend(
        machine.names(FOLDER).iter().filter_map(|name| name.strip_prefix("cpu")?.parse::<i64>().ok()),
    );
    let mut sockets: BTreeMap<u64, Cores> = BTreeMap::new();
    for id in threads {
        let Some((socket, die, core)) = place(machine, &told, id) else { continue };
        let is_online = machine.text(format!("{FOLDER}/cpu{id}/online")) != "0";
        let thread = ResourcesCpuThread {
            id,
            numa_node: numa_node(machine, id),
            online: is_online,
            isolated: isolated.contains(&id),
            ..ResourcesCpuThread::default()
        };
        let found = Found { thread, frequency: frequency(machine, &told, id) };
        sockets.entry(socket).or_default().entry((die, core)).or_default().push(found);
    }
    let total = count(sockets.values().flat_map(BTreeMap::values).flatten());
    let sockets = sockets.into_iter().map(|(number, cores)| socket(&told, number, cores)).collect();
    ResourcesCpu { architecture, sockets, total }
}

/// Reads `/proc/cpuinfo`: a paragraph for each thread.
fn told(info: &str) -> Told<'_> {
    let mut told = Told::new();
    for paragraph in info.split("\n\n") {
        let lines = paragraph.lines().filter_map(|line| line.split_once(':'));
        let words: BTreeMap<_, _> = lines.map(|(name, value)| (name.trim(), value.trim())).collect();
        if let Some(id) = words.get("processor").and_then(|id| id.parse().ok()) {
            told.insert(id, words);
        }
    }
    told
}

/// Socket, die and core; nothing for a thread that is switched off and so has no place. Where nobody tells of cores, each
/// thread is one.
fn place(machine: &Tree, told: &Told<'_>, id: i64) -> Option<(u64, u64, u64)> {
    let topology = format!("{FOLDER}/cpu{id}/topology");
    if machine.has(&topology) {
        let number = |name: &str| machine.number(format!("{topology}/{name}")).unwrap_or(0);
        return Some((number("physical_package_id"), number("die_id"), number("core_id")));
    }
    let words = told.get(&id)?;
    let number = |name: &str| words.get(name).and_then(|text| text.parse().ok());
    Some((number("physical id").unwrap_or(0), 0, number("core id").or(id.try_into().ok())?))
}

fn numa_node(machine: &Tree, id: i64) -> u64 {
    let names = machine.names(format!("{FOLDER}/cpu{id}"));
    names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok()).unwrap_or(0)
}

/// MHz; 0 when unknown.
fn frequency(machine: &Tree, told: &Told<'_>, id: i64) -> u64 {
    let kilohertz: Option<u64> = machine.number(format!("{FOLDER}/cpu{id}/cpufreq/scaling_cur_freq"));
    let megahertz = || told.get(&id)?.get("cpu MHz")?.split('.').next()?.parse().ok();
    kilohertz.map(|kilohertz| kilohertz / 1000).or_else(megahertz).unwrap_or(0)
}

fn socket(told: &Told<'_>, socket: u64, cores: Cores) -> ResourcesCpuSocket {
    let first = cores.values().flatten().find_map(|found| told.get(&found.thread.id));
    let word = |name: &str| {
        first.and_then(|words| words.get(name)).map(|word| (*word).to_owned()).unwrap_or_default()
    };
    let cores: Vec<_> = cores.into_iter().map(core).collect();
    let frequency = cores.iter().map(|core| core.frequency).sum::<u64>().checked_div(count(&cores));
    ResourcesCpuSocket {
        name: word("model name"),
        vendor: word("vendor_id"),
        socket,
        frequency: frequency.unwrap_or(0),
        cores,
    }
}

fn core(((die, core), found): ((u64, u64), Vec<Found>)) -> ResourcesCpuCore {
    let frequency = found.first().map_or(0, |found| found.frequency);
    let threads = (0..).zip(found).map(|(thread, found)| ResourcesCpuThread { thread, ..found.thread });
    ResourcesCpuCore { core, die, threads: threads.collect(), frequency }
}

/// Reads the kernel's list of numbers: `0-2,5`.
fn ids(list: &str) -> BTreeSet<i64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<i64>().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::made;
    use super::*;

    const INFO: &str = "processor\t: 0\nvendor_id\t: Maker\nmodel name\t: Fast One\ncpu MHz\t\t: 2599.998\n\n\
                        processor\t: 1\nvendor_id\t: Maker\nmodel name\t: Fast One\ncpu MHz\t\t: 1200.000\n";

    #[test]
    fn lists_of_numbers() {
        for (list, wanted) in [("", vec![]), ("3", vec![3]), ("0-2,5", vec![0, 1, 2, 5]), ("x,1-", vec![])] {
            assert_eq!(ids(list).into_iter().collect::<Vec<_>>(), wanted, "{list:?}");
        }
    }

    #[test]
    fn threads_are_sorted_into_cores_and_sockets() {
        let (_folder, machine) = made(&[
            ("proc/cpuinfo", INFO),
            ("sys/devices/system/cpu/isolated", "2\n"),
            ("sys/devices/system/cpu/cpufreq/policy0", ""),
            ("sys/devices/system/cpu/cpu0/topology/core_id", "0\n"),
            ("sys/devices/system/cpu/cpu0/topology/die_id", "-1\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3100500\n"),
            ("sys/devices/system/cpu/cpu1/topology/core_id", "1\n"),
            ("sys/devices/system/cpu/cpu1/node1/x", ""),
            ("sys/devices/system/cpu/cpu2/topology/core_id", "0\n"),
            ("sys/devices/system/cpu/cpu10/topology/physical_package_id", "1\n"),
            ("sys/devices/system/cpu/cpu11/online", "0\n"),
        ]);
        let cpu = cpu(&machine, "x86_64".to_owned());
        assert_eq!((cpu.total, cpu.sockets.len()), (4, 2), "{cpu:?}");
        let socket = &cpu.sockets[0];
        assert_eq!(
            (socket.name.as_str(), socket.vendor.as_str(), socket.frequency),
            ("Fast One", "Maker", 2150)
        );
        let threads = |core: usize| {
            let all = socket.cores[core].threads.iter();
            all.map(|thread| (thread.id, thread.thread, thread.numa_node, thread.isolated))
                .collect::<Vec<_>>()
        };
        assert_eq!(threads(0), [(0, 0, 0, false), (2, 1, 0, true)]);
        assert_eq!(threads(1), [(1, 0, 1, false)]);
        assert_eq!((socket.cores[0].frequency, socket.cores[1].frequency), (3100, 1200));
        assert_eq!(cpu.sockets[1].cores[0].threads[0].id, 10);
    }

    #[test]
    fn without_topology_cpuinfo_tells() {
        let (_folder, machine) = made(&[(
            "proc/cpuinfo",
            "processor\t: 0\nBogoMIPS : 50\n\nprocessor\t: 1\nphysical id\t: 1\ncore id\t: 7\n",
        )]);
        let cpu = cpu(&machine, "aarch64".to_owned());
        let places: Vec<_> = cpu.sockets.iter().map(|socket| (socket.socket, socket.cores[0].core)).collect();
        assert_eq!((cpu.total, places), (2, vec![(0, 0), (1, 7)]));
        assert!(cpu.sockets[0].cores[0].threads[0].online);
    }
}
