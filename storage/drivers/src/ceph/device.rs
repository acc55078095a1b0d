//! The kernel's RBD devices, read from `/sys/bus/rbd`, and what is mounted of them.
//!
//! Sources: `Documentation/ABI/testing/sysfs-bus-rbd`, `proc_pid_mountinfo(5)`.

use super::layout::Spelled;
use crate::bounded::Bounded;
use crate::filesystem::mounts;
use larder_base::Cancel;
use larder_base::host::Act;
use larder_storage_driver::{Cx, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BUS: &str = "/sys/bus/rbd";
/// How long the kernel may take to unmount or give a device up.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// How long somebody who only looks (udev does, at each new device) keeps a device.
const LOOKERS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

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

/// Where a device is mounted, as this process sees it.
pub(super) fn mount_points(device: &Path) -> Result<Vec<PathBuf>> {
    let of_it = mounts()?.into_iter().filter(|mounted| Path::new(&mounted.source) == device);
    Ok(of_it.map(|mounted| mounted.target).collect())
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
        let since = Instant::now();
        loop {
            let file = fs::OpenOptions::new().write(true).open(Path::new(BUS).join("remove_single_major"));
            match file.and_then(|mut file| file.write_all(self.number.to_string().as_bytes())) {
                // Gone already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && since.elapsed() < LOOKERS => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
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
