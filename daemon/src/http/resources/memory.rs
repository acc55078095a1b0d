//! Memory, of the whole machine and of each NUMA node.

use super::tree::Tree;
use larder_api::ResourcesMemory;
use serde_json::json;

const NODES: &str = "sys/devices/system/node";

pub(super) fn memory(machine: &Tree) -> ResourcesMemory {
    let info = machine.text("proc/meminfo");
    let whole = Counted::of(&info);
    let page = number(&info, "Hugepagesize") << 10;
    let node = |name: &String| {
        let id: u64 = name.strip_prefix("node")?.parse().ok()?;
        let counted = Counted::of(&machine.text(format!("{NODES}/{name}/meminfo")));
        Some(json!({
            "numa_node": id,
            "hugepages_used": counted.hugepages_used * page,
            "hugepages_total": counted.hugepages_total * page,
            "used": counted.used,
            "total": counted.total,
        }))
    };
    ResourcesMemory {
        nodes: machine.names(NODES).iter().filter_map(node).collect(),
        hugepages_total: whole.hugepages_total * page,
        hugepages_used: whole.hugepages_used * page,
        hugepages_size: page,
        used: whole.used,
        total: whole.total,
    }
}

/// Bytes of memory, and numbers of huge pages.
struct Counted {
    used: u64,
    total: u64,
    hugepages_used: u64,
    hugepages_total: u64,
}

impl Counted {
    fn of(info: &str) -> Self {
        let total = number(info, "MemTotal");
        // A node does not say what it could still give: what is free, and what is only cached.
        let cached = || {
            (number(info, "FilePages") + number(info, "SReclaimable")).saturating_sub(number(info, "Shmem"))
        };
        let available = match number(info, "MemAvailable") {
            0 => number(info, "MemFree") + cached(),
            available => available,
        };
        let hugepages_total = number(info, "HugePages_Total");
        Self {
            used: total.saturating_sub(available) << 10,
            total: total << 10,
            hugepages_used: hugepages_total.saturating_sub(number(info, "HugePages_Free")),
            hugepages_total,
        }
    }
}

/// A number of `meminfo`: `MemTotal: 12 kB`, or `Node 0 MemTotal: 12 kB`.
fn number(info: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let (before, value) = line.split_once(':')?;
        (before.split_whitespace().next_back()? == name)
            .then(|| value.split_whitespace().next()?.parse().ok())?
    };
    info.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tree::made;
    use super::*;

    #[test]
    fn what_could_be_given_is_not_in_use() {
        let whole = "MemTotal:       1024 kB\nMemFree: 1 kB\nMemAvailable:    256 kB\nHugePages_Total:   4\n\
                     HugePages_Free:    1\nHugepagesize:       2048 kB\n";
        let node = "Node 0 MemTotal:       512 kB\nNode 0 MemFree:    64 kB\nNode 0 FilePages: 70 kB\n\
                    Node 0 Shmem: 10 kB\nNode 0 SReclaimable: 4 kB\nNode 0 HugePages_Total:     2\n\
                    Node 0 HugePages_Free:      2\n";
        let (_folder, machine) = made(&[
            ("proc/meminfo", whole),
            ("sys/devices/system/node/node0/meminfo", node),
            ("sys/devices/system/node/online", "0\n"),
        ]);
        let memory = memory(&machine);
        assert_eq!((memory.total, memory.used, memory.hugepages_size), (1 << 20, 768 << 10, 2 << 20));
        assert_eq!((memory.hugepages_total, memory.hugepages_used), (8 << 20, 6 << 20));
        assert_eq!(
            memory.nodes,
            [
                json!({ "numa_node": 0, "hugepages_used": 0, "hugepages_total": 4 << 20, "used": 384 << 10, "total": 512 << 10 })
            ]
        );
    }
}
