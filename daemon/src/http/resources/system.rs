//! The machine as a whole, as its firmware tells (SMBIOS).

use super::tree::Tree;
use larder_api::ResourcesSystem;
use serde_json::{Map, Value};

const FOLDER: &str = "sys/class/dmi/id";

/// The cases that SMBIOS knows, by number from 1.
const CASES: [&str; 36] = [
    "Other",
    "Unknown",
    "Desktop",
    "Low Profile Desktop",
    "Pizza Box",
    "Mini Tower",
    "Tower",
    "Portable",
    "Laptop",
    "Notebook",
    "Hand Held",
    "Docking Station",
    "All in One",
    "Sub Notebook",
    "Space-saving",
    "Lunch Box",
    "Main Server Chassis",
    "Expansion Chassis",
    "SubChassis",
    "Bus Expansion Chassis",
    "Peripheral Chassis",
    "RAID Chassis",
    "Rack Mount Chassis",
    "Sealed-case PC",
    "Multi-system chassis",
    "Compact PCI",
    "Advanced TCA",
    "Blade",
    "Blade Enclosure",
    "Tablet",
    "Convertible",
    "Detachable",
    "IoT Gateway",
    "Embedded PC",
    "Mini PC",
    "Stick PC",
];

pub(super) fn system(machine: &Tree) -> ResourcesSystem {
    let of = |name: &str| machine.text(format!("{FOLDER}/{name}"));
    let case = of("chassis_type").parse::<usize>().ok().and_then(|number| CASES.get(number.checked_sub(1)?));
    ResourcesSystem {
        uuid: of("product_uuid"),
        vendor: of("sys_vendor"),
        product: of("product_name"),
        family: of("product_family"),
        version: of("product_version"),
        sku: of("product_sku"),
        serial: of("product_serial"),
        kind: kind(machine).to_owned(),
        firmware: part([
            ("vendor", of("bios_vendor")),
            ("date", of("bios_date")),
            ("version", of("bios_version")),
        ]),
        chassis: part([
            ("vendor", of("chassis_vendor")),
            ("type", case.map(|case| (*case).to_owned()).unwrap_or_default()),
            ("serial", of("chassis_serial")),
            ("version", of("chassis_version")),
        ]),
        motherboard: part([
            ("vendor", of("board_vendor")),
            ("product", of("board_name")),
            ("serial", of("board_serial")),
            ("version", of("board_version")),
        ]),
    }
}

/// Nothing when all of it is unknown.
fn part<const N: usize>(words: [(&str, String); N]) -> Option<Value> {
    let is_known = words.iter().any(|(_, word)| !word.is_empty());
    let object: Map<_, _> =
        words.into_iter().map(|(name, word)| (name.to_owned(), Value::String(word))).collect();
    is_known.then_some(Value::Object(object))
}

/// What the first process was told, then what the processor and the firmware tell. Silence of a processor that would tell
/// means a real machine.
fn kind(machine: &Tree) -> &'static str {
    let environment = machine.text("proc/1/environ");
    if machine.has("run/systemd/container")
        || environment.split('\0').any(|pair| pair.starts_with("container="))
    {
        return "container";
    }
    let info = machine.text("proc/cpuinfo");
    let flags = info.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == "flags"));
    let has_hypervisor = flags.map(|(_, flags)| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let tells_hypervisor =
        machine.has("proc/device-tree/hypervisor") || machine.text(format!("{FOLDER}/sys_vendor")) == "QEMU";
    match has_hypervisor {
        Some(true) => "virtual-machine",
        _ if tells_hypervisor => "virtual-machine",
        Some(false) => "physical",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::made;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_kind_is_told_by_what_there_is() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "unknown"),
            (&[("proc/cpuinfo", "processor : 0\nflags : fpu vme\n")], "physical"),
            (&[("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n")], "virtual-machine"),
            (&[("sys/class/dmi/id/sys_vendor", "QEMU\n")], "virtual-machine"),
            (&[("proc/1/environ", "PATH=/bin\0container=lxc\0")], "container"),
            (&[("run/systemd/container", "lxc"), ("proc/cpuinfo", "flags : hypervisor\n")], "container"),
        ];
        for (files, wanted) in cases {
            let (_folder, machine) = made(files);
            assert_eq!(system(&machine).kind, wanted, "{files:?}");
        }
    }

    #[test]
    fn parts_are_told_when_something_is_known_of_them() {
        let (_folder, machine) = made(&[
            ("sys/class/dmi/id/product_name", "Box\n"),
            ("sys/class/dmi/id/chassis_type", "10\n"),
            ("sys/class/dmi/id/bios_vendor", "Firm\n"),
        ]);
        let system = system(&machine);
        assert_eq!(system.product, "Box");
        assert_eq!(
            system.chassis,
            Some(json!({ "vendor": "", "type": "Notebook", "serial": "", "version": "" }))
        );
        assert_eq!(system.firmware, Some(json!({ "vendor": "Firm", "date": "", "version": "" })));
        assert_eq!(system.motherboard, None);
    }
}
