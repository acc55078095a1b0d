//! Why the programs of a Ceph cluster refuse: `rbd`, `rados`, `ceph`.

use crate::refusal;
use larder_base::host::HostError;
use larder_storage_driver::ErrorKind;

/// Why a command was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such pool, namespace, image, snapshot or object.
    Missing,
    /// The name is taken.
    Taken,
    /// Somebody has it open, or a protected snapshot has clones.
    Busy,
    /// The pool or its quota is full.
    Full,
    /// The image has snapshots.
    HasSnapshots,
    /// The user may not.
    Forbidden,
    /// The cluster does not answer.
    Unreachable,
}

impl refusal::Refusal for Refusal {
    fn of(error: &HostError) -> Option<Self> {
        match error {
            HostError::Failed { code, stderr, .. } => refusal(*code, stderr),
            HostError::TimedOut { .. } => Some(Self::Unreachable),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        if self == Self::Unreachable { "the ceph cluster does not answer" } else { "ceph refused" }
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Missing => ErrorKind::NotFound,
            Self::Taken => ErrorKind::AlreadyExists,
            Self::Busy => ErrorKind::InUse,
            Self::Full => ErrorKind::NoSpace,
            Self::HasSnapshots | Self::Forbidden => ErrorKind::Unexpected,
            Self::Unreachable => ErrorKind::Unavailable,
        }
    }
}

impl Refusal {
    fn of_errno(number: i32) -> Option<Self> {
        Some(match number {
            libc::ENOENT => Self::Missing,
            libc::EEXIST => Self::Taken,
            libc::EBUSY => Self::Busy,
            libc::ENOSPC | libc::EDQUOT => Self::Full,
            libc::ENOTEMPTY => Self::HasSnapshots,
            libc::EPERM | libc::EACCES => Self::Forbidden,
            libc::ETIMEDOUT | libc::ENOTCONN | libc::EHOSTUNREACH | libc::ECONNREFUSED => Self::Unreachable,
            _ => return None,
        })
    }
}

/// What no connection begins with, whatever number follows.
const NO_CONNECTION: &[&str] = &[
    "couldn't connect to the cluster",
    "couldn't connect to cluster",
    "error connecting to the cluster",
    "failed to fetch mon config",
    "cannot identify monitors",
];

/// Reads the exit code and standard error of a failed `rbd`, `rados` or `ceph`: `rbd` ends with an errno, the others with 1
/// and `(errno) words` on a line.
fn refusal(code: Option<i32>, stderr: &str) -> Option<Refusal> {
    if NO_CONNECTION.iter().any(|words| stderr.contains(words)) {
        return Some(Refusal::Unreachable);
    }
    match code {
        Some(code) if code > 1 => Refusal::of_errno(code),
        _ => stderr.lines().rev().find_map(errno_in).and_then(Refusal::of_errno),
    }
}

/// The number in parentheses in a line, or after `errno`. `ceph` ends with an errno too, of which one is 1.
fn errno_in(line: &str) -> Option<i32> {
    if line.starts_with("Error EPERM") {
        return Some(libc::EPERM);
    }
    let number = |text: &str, end: char| text.split(end).next().and_then(|number| number.trim().parse().ok());
    let in_brackets = line.split('(').skip(1).find_map(|rest| number(rest, ')'));
    in_brackets.or_else(|| line.split("[errno ").nth(1).and_then(|rest| number(rest, ']')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Standard error of `rbd`, `rados` and `ceph` 18.2.7 with the exit code, each as captured.
    #[test]
    fn refusals_are_understood() {
        for (code, stderr, expected) in [
            (2, "rbd: delete error: (2) No such file or directory", Refusal::Missing),
            (2, "rbd: error opening pool 'nopool': (2) No such file or directory", Refusal::Missing),
            (2, "rbd: namespace 'nons' does not exist.", Refusal::Missing),
            (1, "error getting rbd/larder.pool: (2) No such file or directory", Refusal::Missing),
            (1, "error opening pool nopool: (2) No such file or directory", Refusal::Missing),
            (2, "Error ENOENT: unrecognized pool 'nopool'", Refusal::Missing),
            (17, "rbd: create error: (17) File exists", Refusal::Taken),
            (16, "rbd: error: image still has watchers", Refusal::Busy),
            (16, "rbd: unprotecting snap failed: (16) Device or resource busy", Refusal::Busy),
            (39, "rbd: image has snapshots with linked clones", Refusal::HasSnapshots),
            (
                1,
                "Error EPERM: pool deletion is disabled; you must first set mon_allow_pool_delete",
                Refusal::Forbidden,
            ),
            (110, "rbd: couldn't connect to the cluster!", Refusal::Unreachable),
            (1, "failed to fetch mon config (--no-mon-config to skip)", Refusal::Unreachable),
            (1, "[errno 110] RADOS timed out (error connecting to the cluster)", Refusal::Unreachable),
            (
                2,
                "rbd: couldn't connect to the cluster!\nrbd: listing images failed: (2) No such file",
                Refusal::Unreachable,
            ),
            (1, "error getting rbd/larder.pool: (110) Connection timed out", Refusal::Unreachable),
            (110, "rbd: error asserting namespace: (110) Connection timed out", Refusal::Unreachable),
        ] {
            assert_eq!(refusal(Some(code), stderr), Some(expected), "{stderr}");
        }
        assert_eq!(refusal(Some(22), "rbd: new size is equal to original size"), None);
        assert_eq!(refusal(Some(1), "rbd: the argument ('x') for option '--size' is invalid"), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}", code in proptest::option::of(0..256)) {
            let _ = refusal(code, &text);
        }
    }
}
