//! Disks and their partitions: what has a device behind it, not what the kernel makes up (loop, ram, device mapper).

use super::tree::{Tree, count};
use larder_api::{ResourcesDisk, ResourcesStorage};
use std::fs;

const FOLDER: &str = "sys/class/block";
/// The kernel counts in sectors of this size, whatever the disk's own are.
const SECTOR: u64 = 512;
/// A disk that turns at a speed that nobody knows.
const TURNS: u64 = 1;

pub(super) fn storage(machine: &Tree) -> ResourcesStorage {
    let is_disk = |name: &String| {
        let own = format!("{FOLDER}/{name}");
        machine.has(format!("{own}/device"))
            && !machine.has(format!("{own}/partition"))
            && machine.text(format!("{own}/hidden")) != "1"
    };
    let names = machine.names(FOLDER).into_iter().filter(is_disk);
    let disks: Vec<_> = names.map(|name| disk(machine, &name)).collect();
    let total = count(&disks) + count(disks.iter().flat_map(|disk| &disk.partitions));
    ResourcesStorage { disks, total }
}

fn disk(machine: &Tree, name: &str) -> ResourcesDisk {
    let own = format!("{FOLDER}/{name}");
    let node = |path: &str| machine.number(format!("{own}/{path}/numa_node"));
    let disk = ResourcesDisk {
        model: machine.text(format!("{own}/device/model")),
        kind: kind(machine, &own),
        removable: machine.text(format!("{own}/removable")) == "1",
        numa_node: node("device").or_else(|| node("device/device")).unwrap_or(0),
        block_size: machine.number(format!("{own}/queue/logical_block_size")).unwrap_or(0),
        ..block(machine, name, &own)
    };
    let partition = |part: &String| {
        let below = format!("{own}/{part}");
        let is_one = machine.has(format!("{below}/partition"));
        is_one.then(|| ResourcesDisk {
            kind: disk.kind.clone(),
            removable: disk.removable,
            numa_node: disk.numa_node,
            block_size: disk.block_size,
            ..block(machine, part, &below)
        })
    };
    let partitions = machine.names(&own).iter().filter_map(partition).collect();
    ResourcesDisk { rpm: rpm(machine, &own, &disk.device), partitions, ..disk }
}

/// What a disk and a partition tell in the same way.
fn block(machine: &Tree, name: &str, own: &str) -> ResourcesDisk {
    ResourcesDisk {
        id: name.to_owned(),
        device: machine.text(format!("{own}/dev")),
        read_only: machine.text(format!("{own}/ro")) == "1",
        size: machine.number::<u64>(format!("{own}/size")).unwrap_or(0).saturating_mul(SECTOR),
        device_id: device_id(machine, name),
        ..ResourcesDisk::default()
    }
}

/// How it is attached: `usb`, `sata`, or what the kernel calls the bus (`virtio`, `nvme`, `scsi`, `mmc`).
fn kind(machine: &Tree, own: &str) -> String {
    let path = fs::canonicalize(machine.path(own)).unwrap_or_default();
    let has = |prefix: &str| {
        let mut parts = path.iter().filter_map(|part| part.to_str()?.strip_prefix(prefix));
        parts.any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    match (has("usb"), has("ata")) {
        (true, _) => "usb".to_owned(),
        (false, true) => "sata".to_owned(),
        (false, false) => machine.link(format!("{own}/device/subsystem")).unwrap_or_default(),
    }
}

/// The first stable name that leads here.
fn device_id(machine: &Tree, name: &str) -> String {
    const LINKS: &str = "dev/disk/by-id";
    let leads_here = |link: &String| machine.link(format!("{LINKS}/{link}")).as_deref() == Some(name);
    machine.names(LINKS).into_iter().find(leads_here).unwrap_or_default()
}

fn rpm(machine: &Tree, own: &str, device: &str) -> u64 {
    if machine.text(format!("{own}/queue/rotational")) != "1" {
        return 0;
    }
    let known = machine.text(format!("run/udev/data/b{device}"));
    let rate = known.lines().find_map(|line| line.strip_prefix("E:ID_ATA_ROTATION_RATE_RPM=")?.parse().ok());
    rate.unwrap_or(TURNS)
}

#[cfg(test)]
mod tests {
    use super::super::tree::made;
    use super::*;

    #[test]
    fn disks_have_partitions_and_made_up_devices_are_none() {
        let (_folder, machine) = made(&[
            ("sys/class/block/sda", "-> ../../devices/pci0/ata3/block/sda"),
            ("sys/class/block/sda1", "-> ../../devices/pci0/ata3/block/sda/sda1"),
            ("sys/class/block/loop0/size", "8\n"),
            ("sys/class/block/vda/device/subsystem", "-> ../../../bus/virtio"),
            ("sys/class/block/vda/size", "2048\n"),
            ("sys/class/block/vda/ro", "1\n"),
            ("sys/devices/pci0/ata3/block/sda/dev", "8:0\n"),
            ("sys/devices/pci0/ata3/block/sda/size", "4096\n"),
            ("sys/devices/pci0/ata3/block/sda/removable", "0\n"),
            ("sys/devices/pci0/ata3/block/sda/device/model", "SPINNER   \n"),
            ("sys/devices/pci0/ata3/block/sda/queue/logical_block_size", "4096\n"),
            ("sys/devices/pci0/ata3/block/sda/queue/rotational", "1\n"),
            ("sys/devices/pci0/ata3/block/sda/sda1/partition", "1\n"),
            ("sys/devices/pci0/ata3/block/sda/sda1/size", "100\n"),
            ("run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_ATA_ROTATION_RATE_RPM=7200\n"),
            ("dev/disk/by-id/ata-SPINNER_1", "-> ../../sda"),
            ("dev/disk/by-id/ata-SPINNER_1-part1", "-> ../../sda1"),
        ]);
        let storage = storage(&machine);
        assert_eq!(storage.total, 3, "{storage:?}");
        let [sda, vda] = storage.disks.as_slice() else { panic!("{storage:?}") };
        assert_eq!((sda.id.as_str(), sda.kind.as_str(), sda.model.as_str()), ("sda", "sata", "SPINNER"));
        assert_eq!((sda.size, sda.block_size, sda.rpm, sda.read_only), (2 << 20, 4096, 7200, false));
        assert_eq!((sda.device.as_str(), sda.device_id.as_str()), ("8:0", "ata-SPINNER_1"));
        let [part] = sda.partitions.as_slice() else { panic!("{sda:?}") };
        assert_eq!(
            (part.id.as_str(), part.device_id.as_str(), part.size),
            ("sda1", "ata-SPINNER_1-part1", 51_200)
        );
        assert_eq!((vda.kind.as_str(), vda.rpm, vda.read_only, vda.size), ("virtio", 0, true, 1 << 20));
    }
}
