//! The kernel's RBD devices, read from `/sys/bus/rbd`.
//!
//! Source: `Documentation/ABI/testing/sysfs-bus-rbd`.

use super::layout::Spelled;
use crate::bounded::{Bounded, patiently};
use larder_base::Cancel;
use larder_base::host::Act;
use larder_storage_driver::{Cx, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const BUS: &str = "/sys/bus/rbd";
/// How long the kernel may take to give a device up.
const LIMIT: Duration = Duration::from_secs(120);
/// How long somebody who only looks (udev does, at each new device) keeps a device.
const LOOKERS: Duration = Duration::from_secs(5);

/// An image or snapshot that has a device on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapped {
    number: u32,
    pub(super) of: Spelled,
    /// Whether nothing can be written to it.
    pub(super) read_only: bool,
}

impl Mapped {
    /// The device.
    pub(super) fn path(&self) -> PathBuf {
        format!("/dev/rbd{}", self.number).into()
    }
}

/// The devices of a pool's images. `cluster` is the identifier of its cluster.
pub(super) fn mapped(cluster: &str, pool: &str, namespace: &str) -> Result<Vec<Mapped>> {
    let devices = Path::new(BUS).join("devices");
    let entries = match fs::read_dir(&devices) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that is being made or goes just now is not there: the bus has it before its disk is, and after.
        let says = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let is_ours = says("cluster_fsid").trim_end() == cluster
            && says("pool").trim_end() == pool
            && says("pool_ns").trim_end() == namespace;
        if is_ours && let Ok(flag) = fs::read_to_string(format!("/sys/block/rbd{number}/ro")) {
            let of = spelled(&says("name"), &says("current_snap"));
            found.push(Mapped { number, of, read_only: flag.trim_end() == "1" });
        }
    }
    Ok(found)
}

/// Reads `name` and `current_snap`: a dash stands for no snapshot.
fn spelled(name: &str, snapshot: &str) -> Spelled {
    let image = Spelled::image(name.trim_end_matches('\n'));
    match snapshot.trim_end_matches('\n') {
        "-" | "" => image,
        snapshot => image.at(snapshot),
    }
}

/// The device that `rbd map` printed.
pub(super) fn printed(text: &str) -> PathBuf {
    text.lines().next().unwrap_or_default().trim_end().into()
}

/// The identifier of the image that has a device.
pub(super) fn image_of(device: &Path) -> io::Result<String> {
    let number = device.to_string_lossy().replace("/dev/rbd", "");
    let id = fs::read_to_string(Path::new(BUS).join("devices").join(number).join("image_id"))?;
    Ok(id.trim_end().to_owned())
}

/// Takes a device away.
pub(super) fn unmap(cx: &Cx<'_>, device: &Mapped) -> Result<()> {
    cx.act(&Bounded { act: Unmap { number: device.number }, limit: LIMIT })
}

#[derive(Debug, Clone, Copy)]
struct Unmap {
    number: u32,
}

impl Act for Unmap {
    fn describe(&self) -> String {
        format!("unmap /dev/rbd{}", self.number)
    }

    fn apply(&self, _: &Cancel) -> io::Result<()> {
        let path = Path::new(BUS).join("remove_single_major");
        let unmap = || {
            let mut file = fs::OpenOptions::new().write(true).open(&path)?;
            file.write_all(self.number.to_string().as_bytes())
        };
        let is = |outcome: &io::Result<()>, kind| outcome.as_ref().is_err_and(|error| error.kind() == kind);
        let outcome = patiently(LOOKERS, unmap, |outcome| is(outcome, io::ErrorKind::ResourceBusy));
        // It may be gone already.
        if is(&outcome, io::ErrorKind::NotFound) { Ok(()) } else { outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_tell_what_they_are_of() {
        assert_eq!(spelled("custom_default_v1\n", "-\n"), Spelled::image("custom_default_v1"));
        let snapshot = Spelled::image("custom_default_v1").at("snapshot_s0");
        assert_eq!(spelled("custom_default_v1\n", "snapshot_s0\n"), snapshot);
        assert_eq!(printed("/dev/rbd0\n"), Path::new("/dev/rbd0"));
    }
}
