//! What instances do.

use jiff::Timestamp;
use std::collections::BTreeMap;

wire! {
    /// What an instance does now.
    pub struct InstanceState {
        /// `Running`, `Stopped`, `Frozen` or `Error`.
        pub status: String,
        /// The same as a number.
        pub status_code: u16,
        /// Its disks, by device name.
        pub disk: BTreeMap<String, InstanceStateDisk>,
        /// Its memory.
        pub memory: InstanceStateMemory,
        /// Its network interfaces; `null` when it does not run.
        pub network: Option<BTreeMap<String, InstanceStateNetwork>>,
        /// Its first process; 0 when it does not run.
        pub pid: i64,
        /// How many processes it has; 0 when it does not run.
        pub processes: i64,
        /// Its processor time.
        pub cpu: InstanceStateCpu,
        /// When it was started; [`ZERO_TIME`](crate::ZERO_TIME) when it does not run.
        pub started_at: Timestamp,
    }

    /// Bytes of a disk.
    pub struct InstanceStateDisk {
        /// In use.
        pub usage: i64,
        /// The size it may have; 0 when it has no limit.
        pub total: i64,
    }

    /// Bytes of memory.
    pub struct InstanceStateMemory {
        /// In use.
        pub usage: i64,
        /// The most there was in use.
        pub usage_peak: i64,
        /// The most there may be.
        pub total: i64,
        /// Swap in use.
        pub swap_usage: i64,
        /// The most swap there was in use.
        pub swap_usage_peak: i64,
    }

    /// Processor time.
    pub struct InstanceStateCpu {
        /// Nanoseconds.
        pub usage: i64,
    }

    /// A network interface.
    pub struct InstanceStateNetwork {
        /// Its addresses.
        pub addresses: Vec<InstanceStateNetworkAddress>,
        /// What went through it.
        pub counters: InstanceStateNetworkCounters,
        /// Its hardware address.
        pub hwaddr: String,
        /// Its name on the host.
        pub host_name: String,
        /// Its largest packet.
        pub mtu: i64,
        /// `up` or `down`.
        pub state: String,
        /// Such as `broadcast` or `loopback`.
        #[serde(rename = "type")]
        pub kind: String,
    }

    /// An address of a network interface.
    pub struct InstanceStateNetworkAddress {
        /// `inet` or `inet6`.
        pub family: String,
        /// The address.
        pub address: String,
        /// The length of its prefix, as text.
        pub netmask: String,
        /// `local`, `link` or `global`.
        pub scope: String,
    }

    /// What went through a network interface.
    pub struct InstanceStateNetworkCounters {
        /// Bytes in.
        pub bytes_received: i64,
        /// Bytes out.
        pub bytes_sent: i64,
        /// Packets in.
        pub packets_received: i64,
        /// Packets out.
        pub packets_sent: i64,
        /// Errors in.
        pub errors_received: i64,
        /// Errors out.
        pub errors_sent: i64,
        /// Dropped on the way out.
        pub packets_dropped_outbound: i64,
        /// Dropped on the way in.
        pub packets_dropped_inbound: i64,
    }

    /// What an instance shall do.
    pub struct InstanceStatePut {
        /// `start`, `stop`, `restart`, `freeze` or `unfreeze`.
        pub action: String,
        /// Seconds to wait for it; -1 for ever.
        pub timeout: i64,
        /// Whether to use force.
        pub force: bool,
        /// Whether to save or restore its state.
        pub stateful: bool,
    }

    /// What all instances shall do.
    pub struct InstancesPut {
        /// What each shall do.
        pub state: Option<InstanceStatePut>,
    }
}
