//! The commands of LVM, and what their failures mean.

use larder_base::host::{Cmd, HostError, Output, Tool};
use larder_storage_driver::{Cx, ErrorKind, Result, StorageError};
use std::time::Duration;

const PACKAGE: &str = "lvm2";
/// Removing a large volume discards all of it.
const LIMIT: Duration = Duration::from_secs(600);

const fn tool(name: &'static str) -> Tool {
    Tool { name, package: PACKAGE }
}

pub(super) const LVS: Tool = tool("lvs");
pub(super) const VGS: Tool = tool("vgs");
pub(crate) const LVCREATE: Tool = tool("lvcreate");
pub(super) const LVCHANGE: Tool = tool("lvchange");
pub(super) const LVRENAME: Tool = tool("lvrename");
pub(super) const LVREMOVE: Tool = tool("lvremove");
pub(super) const LVEXTEND: Tool = tool("lvextend");
pub(super) const LVREDUCE: Tool = tool("lvreduce");
pub(super) const VGCREATE: Tool = tool("vgcreate");
pub(super) const VGCHANGE: Tool = tool("vgchange");
pub(super) const VGREMOVE: Tool = tool("vgremove");
pub(super) const PVREMOVE: Tool = tool("pvremove");
pub(super) const PVS: Tool = tool("pvs");
pub(super) const PVRESIZE: Tool = tool("pvresize");

/// A command that tells `columns` of `tool`, as JSON and in bytes.
pub(super) fn report(tool: Tool, columns: &str) -> Cmd {
    Cmd::reads(tool).args(["--reportformat", "json", "--units", "b", "--nosuffix", "--options", columns])
}

/// A command that changes something and asks nothing.
pub(super) fn change(tool: Tool) -> Cmd {
    Cmd::changes(tool).args(["--quiet", "--yes"]).limit(LIMIT)
}

/// Runs a command; a lack of extents is a lack of space, and a device that somebody has open is in use.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<Output> {
    cx.host().run(cmd, cx.cancel()).map_err(meaning)
}

fn meaning(error: HostError) -> StorageError {
    let HostError::Failed { stderr, .. } = &error else { return error.into() };
    let text = stderr.to_ascii_lowercase();
    if text.contains("insufficient") || text.contains("no free extents") || text.contains("free space in") {
        return StorageError::new(ErrorKind::NoSpace, "the volume group is full").because(error);
    }
    if text.contains("in use") || text.contains("used by another device") {
        return StorageError::new(ErrorKind::InUse, "a logical volume is in use").because(error);
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart_by_what_lvm_prints() {
        let kind = |stderr: &str| {
            let (command, exit) = (String::new(), String::new());
            meaning(HostError::Failed { command, exit, code: Some(5), stderr: stderr.to_owned() }).kind()
        };
        let full = "  Volume group \"pool1\" has insufficient free space (496 extents): 25600 required.";
        assert_eq!(kind(full), ErrorKind::NoSpace);
        let used = "  Logical volume pool1/custom_default_v1 contains a filesystem in use.";
        assert_eq!(kind(used), ErrorKind::InUse);
        assert_eq!(kind("  Failed to find logical volume \"pool1/nope\""), ErrorKind::Unexpected);
    }
}
