//! What the machine has: `/1.0/resources`. The part of the peers' answer that storage and instances need; what is not
//! looked at is an empty list, never a guess.

use serde_json::Value;

wire! {
    /// What the machine has.
    pub struct Resources {
        /// Processors.
        pub cpu: ResourcesCpu,
        /// Memory.
        pub memory: ResourcesMemory,
        /// Graphics cards.
        pub gpu: ResourcesCards,
        /// Network cards.
        pub network: ResourcesCards,
        /// Disks.
        pub storage: ResourcesStorage,
        /// USB devices.
        pub usb: ResourcesDevices,
        /// PCI devices.
        pub pci: ResourcesDevices,
        /// The machine as a whole.
        pub system: ResourcesSystem,
        /// How busy it is.
        pub load: ResourcesLoad,
    }

    /// Processors.
    pub struct ResourcesCpu {
        /// The kernel's name of the architecture.
        pub architecture: String,
        /// The sockets.
        pub sockets: Vec<ResourcesCpuSocket>,
        /// How many threads there are in all.
        pub total: u64,
    }

    /// A processor.
    pub struct ResourcesCpuSocket {
        /// Its model.
        pub name: String,
        /// Its maker.
        pub vendor: String,
        /// Its number.
        pub socket: u64,
        /// Its cores.
        pub cores: Vec<ResourcesCpuCore>,
        /// Present speed in MHz; left out when unknown.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub frequency: u64,
    }

    /// A core.
    pub struct ResourcesCpuCore {
        /// Its number in its processor.
        pub core: u64,
        /// The die it is on.
        pub die: u64,
        /// Its threads.
        pub threads: Vec<ResourcesCpuThread>,
        /// Present speed in MHz; left out when unknown.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub frequency: u64,
    }

    /// A thread.
    pub struct ResourcesCpuThread {
        /// The kernel's number of it.
        pub id: i64,
        /// Its NUMA node.
        pub numa_node: u64,
        /// Its number in its core.
        pub thread: u64,
        /// Whether it is in use.
        pub online: bool,
        /// Whether the scheduler leaves it alone.
        pub isolated: bool,
    }

    /// Memory, in bytes.
    pub struct ResourcesMemory {
        /// Memory of each NUMA node.
        pub nodes: Vec<Value>,
        /// Huge pages there are.
        pub hugepages_total: u64,
        /// Huge pages in use.
        pub hugepages_used: u64,
        /// Size of a huge page.
        pub hugepages_size: u64,
        /// In use.
        pub used: u64,
        /// All there is.
        pub total: u64,
    }

    /// Cards of one sort.
    pub struct ResourcesCards {
        /// The cards.
        pub cards: Vec<Value>,
        /// How many.
        pub total: u64,
    }

    /// Devices of one sort.
    pub struct ResourcesDevices {
        /// The devices.
        pub devices: Vec<Value>,
        /// How many.
        pub total: u64,
    }

    /// Disks.
    pub struct ResourcesStorage {
        /// The disks.
        pub disks: Vec<ResourcesDisk>,
        /// How many disks and partitions.
        pub total: u64,
    }

    /// A disk.
    pub struct ResourcesDisk {
        /// The kernel's name of it.
        pub id: String,
        /// `major:minor`.
        pub device: String,
        /// Its maker's name of it; left out when unknown.
        #[serde(skip_serializing_if = "crate::wire::is_absent")]
        pub model: String,
        /// How it is attached.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether it can't be written.
        pub read_only: bool,
        /// Size in bytes.
        pub size: u64,
        /// Whether it can be taken out.
        pub removable: bool,
        /// The NUMA node it is near to.
        pub numa_node: u64,
        /// Size of a block.
        pub block_size: u64,
        /// Turns a minute; 0 for one that does not turn.
        pub rpm: u64,
        /// The stable name under `/dev/disk/by-id`.
        pub device_id: String,
        /// Its parts.
        pub partitions: Vec<ResourcesDisk>,
    }

    /// The machine as a whole.
    pub struct ResourcesSystem {
        /// Its UUID.
        pub uuid: String,
        /// Its maker.
        pub vendor: String,
        /// Its model.
        pub product: String,
        /// Its family.
        pub family: String,
        /// Its version.
        pub version: String,
        /// Its order number.
        pub sku: String,
        /// Its serial number.
        pub serial: String,
        /// `physical`, `virtual-machine`, `container` or `unknown`.
        #[serde(rename = "type")]
        pub kind: String,
        /// The firmware; `null` when unknown.
        pub firmware: Option<Value>,
        /// The case; `null` when unknown.
        pub chassis: Option<Value>,
        /// The board; `null` when unknown.
        pub motherboard: Option<Value>,
    }

    /// How busy the machine is. Its fields are written with capitals.
    pub struct ResourcesLoad {
        /// Average over one minute.
        #[serde(rename = "Average1Min")]
        pub average_1_min: f64,
        /// Average over five minutes.
        #[serde(rename = "Average5Min")]
        pub average_5_min: f64,
        /// Average over the longest time the kernel keeps.
        #[serde(rename = "Average10Min")]
        pub average_10_min: f64,
        /// Processes there are.
        #[serde(rename = "Processes")]
        pub processes: u64,
    }
}
