//! What differs by family and age of the clients, in one place.

use std::collections::BTreeMap;

/// The resources of an operation that makes a backup. `lxc` 5.0 cuts `/1.0/backups/` off and takes the rest as the
/// backup's name; newer clients of both families take the last part of the path. The true URL is in `entity_url`.
pub(super) fn backup_resources(name: &str) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("backups".to_owned(), vec![format!("/1.0/backups/{}", urlencoding::encode(name))])])
}

/// A path inside an instance. `lxc` 5.0 leaves the slash in front out when it fetches a file.
pub(super) fn file_path(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}
