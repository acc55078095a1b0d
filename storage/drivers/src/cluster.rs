//! What every command says to a Ceph cluster: which cluster, who asks, and how long one request may stay unanswered.

use larder_base::host::Cmd;

/// How long the monitors and the OSDs may leave one request unanswered (seconds).
pub(crate) const PATIENCE: &str =
    "--client_mount_timeout=20 --rados_mon_op_timeout=30 --rados_osd_op_timeout=60";

/// The same command for a cluster, as a user of it.
pub(crate) fn asked_of(cmd: Cmd, cluster: &str, user: &str) -> Cmd {
    cmd.args(["--cluster", cluster, "--id", user]).env("CEPH_ARGS", PATIENCE)
}
