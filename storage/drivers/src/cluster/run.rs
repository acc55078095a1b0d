//! Running a command line of a Ceph cluster's programs.

use super::Refusal;
use crate::json;
use crate::refusal::{self, Outcome};
use larder_base::host::Cmd;
use larder_storage_driver::{Cx, Result};
use serde::de::DeserializeOwned;

/// A command that failed.
pub(crate) type Failure = refusal::Failure<Refusal>;

/// Runs a command; gives its standard output.
pub(crate) fn run(cx: &Cx<'_>, cmd: &Cmd) -> Result<String, Failure> {
    refusal::run(cx, cmd)
}

/// Runs a command that says nothing.
pub(crate) fn change(cx: &Cx<'_>, cmd: &Cmd) -> Result<(), Failure> {
    run(cx, cmd).map(drop)
}

/// Runs a command that answers in JSON.
pub(crate) fn ask<T: DeserializeOwned>(cx: &Cx<'_>, cmd: &Cmd) -> Result<T, Failure> {
    Ok(json::read(format!("`{cmd}`"), &run(cx, cmd)?)?)
}

/// The same; `None` when what was asked for is not there.
pub(crate) fn ask_if_there<T: DeserializeOwned>(cx: &Cx<'_>, cmd: &Cmd) -> Result<Option<T>> {
    Ok(ask(cx, cmd).unless(&[Refusal::Missing])?)
}

/// Runs a command whose subject may be gone; tells whether it was there.
pub(crate) fn change_if_there(cx: &Cx<'_>, cmd: &Cmd) -> Result<bool> {
    Ok(change(cx, cmd).unless(&[Refusal::Missing])?.is_some())
}
