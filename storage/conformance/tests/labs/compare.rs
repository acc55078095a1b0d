//! Whether two volumes are the same, told by programs that are not ours.

use larder_storage_conformance::Outcome;
use std::path::Path;
use std::process::Command;

/// Whether the programs are there: which is missing, if one is.
pub(crate) fn missing() -> Option<String> {
    let is_there = |name: &&str| larder_base::host::SystemHost::find(name).is_some();
    let missing = ["rsync", "cmp"].into_iter().find(|name| !is_there(name));
    missing.map(|name| format!("install {name}"))
}

/// What rsync would have to do to make `copy` what `tree` is, contents, times to the nanosecond, owners, modes, links, devices,
/// attributes and access lists included; nothing when they are the same.
pub(crate) fn differences(tree: &Path, copy: &Path) -> std::io::Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test looks at the copy with a program that is not ours"
    )]
    let output = Command::new("rsync")
        .args(["-aHAX", "--numeric-ids", "--checksum", "--modify-window=-1", "--delete", "--dry-run"])
        .args(["--itemize-changes", "--exclude=/lost+found"])
        // xfs tells its access lists, which are compared as such, as attributes once more.
        .arg("--filter=-x trusted.SGI_ACL_*")
        .arg(tree.join(""))
        .arg(copy.join(""))
        .output()?;
    let told = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&told).into_owned())
}

/// Fails with what differs between two trees.
pub(crate) fn same_tree(tree: &Path, copy: &Path, what: &str) -> Outcome {
    match differences(tree, copy)? {
        none if none.is_empty() => Ok(()),
        told => Err(format!("{what}: the trees differ:\n{told}").into()),
    }
}

/// Fails when the first `size` bytes of two disks differ.
pub(crate) fn same_disk(disk: &Path, copy: &Path, size: u64, what: &str) -> Outcome {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test looks at the copy with a program that is not ours"
    )]
    let output = Command::new("cmp").arg(format!("--bytes={size}")).arg(disk).arg(copy).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let told = [output.stdout, output.stderr].concat();
            Err(format!("{what}: the disks differ: {}", String::from_utf8_lossy(&told).trim()).into())
        }
    }
}
