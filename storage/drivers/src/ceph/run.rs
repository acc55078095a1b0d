//! Running a command line of ceph.

use super::parse::Refusal;
use crate::refusal;
use larder_base::host::Cmd;
use larder_storage_driver::{Cx, Result};

/// A command that failed.
pub(super) type Failure = refusal::Failure<Refusal>;

/// Runs a command; gives its standard output.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure> {
    refusal::run(cx, cmd)
}

/// Runs a command whose subject may be gone; `None` when it is.
pub(super) fn run_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<Option<String>> {
    refusal::run_unless(cx, cmd, &[Refusal::Missing])
}

/// Runs a command that may have been done already, or can't be done yet: neither is a failure. Tells whether it was done now.
pub(super) fn run_unless(cx: &Cx<'_>, cmd: &Cmd, refusals: &[Refusal]) -> Result<bool> {
    Ok(refusal::run_unless(cx, cmd, refusals)?.is_some())
}
