//! What `ceph` says of filesystems. Pure: text in, types out.

use crate::json;
use larder_storage_driver::Result;
use serde::Deserialize;

#[derive(Deserialize)]
struct Filesystem {
    name: String,
}

/// Reads `ceph fs ls --format json`: their names.
pub(super) fn read_filesystems(text: &str) -> Result<Vec<String>> {
    let filesystems: Vec<Filesystem> = json::read("ceph fs ls", text)?;
    Ok(filesystems.into_iter().map(|filesystem| filesystem.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_are_read() {
        let text = include_str!("../../../../fixtures/ceph/18.2.7/fs-ls.json");
        let (command, output) = text.split_once('\n').unwrap();
        assert_eq!(command, "$ ceph fs ls --format json");
        assert_eq!(read_filesystems(output).unwrap(), ["lab"]);
        assert!(read_filesystems("none").unwrap_err().to_string().contains("none"));
    }
}
