//! Running a command line of zfs.

use super::parse::Refusal;
use crate::refusal::{self, Outcome};
use larder_base::host::Cmd;
use larder_storage_driver::{Cx, Result};

/// A command that failed.
pub(super) type Failure = refusal::Failure<Refusal>;

/// Runs a command; gives its standard output.
pub(super) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure> {
    refusal::run(cx, cmd)
}

/// Runs a command that says nothing.
pub(super) fn change(cx: &Cx<'_>, cmd: &Cmd) -> Result<(), Failure> {
    run(cx, cmd).map(drop)
}

/// Runs a command whose subject may be gone: tells whether it was there.
pub(super) fn run_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<bool> {
    Ok(run(cx, cmd).unless(&[Refusal::Missing])?.is_some())
}
