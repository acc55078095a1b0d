//! What every command says to a Ceph cluster: which cluster, who asks, and how long one request may stay unanswered.

use larder_base::host::Cmd;
use std::ffi::OsString;

/// How long the monitors and the OSDs may leave one request unanswered (seconds).
pub(crate) const PATIENCE: &str =
    "--client_mount_timeout=20 --rados_mon_op_timeout=30 --rados_osd_op_timeout=60";
/// The configuration that commands read instead of `/etc/ceph/NAME.conf`, where the daemon was given one.
const CONFIGURATION: &str = "CEPH_CONF";

/// The same command for a cluster, as a user of it.
pub(crate) fn asked_of(cmd: Cmd, cluster: &str, user: &str) -> Cmd {
    let cmd = cmd.args(["--cluster", cluster, "--id", user]).env("CEPH_ARGS", PATIENCE);
    match configuration() {
        Some(file) => cmd.env(CONFIGURATION, file),
        None => cmd,
    }
}

fn configuration() -> Option<OsString> {
    std::env::var_os(CONFIGURATION).filter(|file| !file.is_empty())
}
