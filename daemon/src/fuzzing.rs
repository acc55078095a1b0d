//! Doors to the readers of foreign texts, for the fuzz targets in `fuzz/`. No part of the interface.

use serde_json::json;

/// Selects from a list as the `filter` of a request does. Returns whether the filter was understood.
pub fn filter(text: &str) -> bool {
    let item = json!({
        "name": "web1", "size": 10, "cached": true, "profiles": ["default"],
        "config": { "user.role": "front", "size": "1GiB" }, "properties": { "OS": "Debian" },
    });
    crate::http::select(text, vec![item]).is_ok()
}

/// Reads the manifest of a backup. Returns whether it was understood.
pub fn backup_manifest(text: &str) -> bool {
    crate::service::check_manifest(text).is_ok()
}

/// Reads a message of an SFTP client, given without its length. Returns whether it was understood.
pub fn sftp_message(message: &[u8]) -> bool {
    crate::http::is_sftp_request(message)
}
