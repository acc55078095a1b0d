//! How a failed command is told: one `Error:` line, then hints about what to do next.

use crate::client::ClientError;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

/// An error of our own that knows what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Told {
    message: String,
    hints: Vec<String>,
}

impl Told {
    /// An error with one hint.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hints: vec![hint.into()] }
    }
}

/// The command ended with this code on purpose; nothing is to be said.
#[derive(Debug, thiserror::Error)]
#[error("exit {0}")]
pub(crate) struct Exit(pub(crate) u8);

/// The exit code when the person pressed Ctrl-C, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether an operation was cancelled or left to itself: that is what Ctrl-C does while one is waited for.
fn is_interruption(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref())
        .any(|cause| matches!(cause, ClientError::Left { .. } | ClientError::Failed { cancelled: true, .. }))
}

/// Tells a failure on standard error and turns it into an exit code.
pub(crate) fn tell(error: &anyhow::Error) -> ExitCode {
    if let Some(Exit(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
            && cause.downcast_ref::<ClientError>().is_none()
    };
    if error.root_cause().is::<std::io::Error>()
        && error.chain().count() == 1
        && error.chain().any(is_broken_pipe)
    {
        // The reader of our output has gone, as in `larder list | head -1`.
        return ExitCode::SUCCESS;
    }
    let _ = std::io::stderr().write_all(text(error).as_bytes());
    if is_interruption(error) { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
}

/// The whole text, lines ended.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut text = format!("Error: {}\n", causes.join(": "));
    for hint in error.chain().flat_map(hints) {
        text.push_str(&format!("Hint: {hint}\n"));
    }
    text
}

fn hints(cause: &(dyn std::error::Error + 'static)) -> Vec<String> {
    if let Some(told) = cause.downcast_ref::<Told>() {
        return told.hints.clone();
    }
    let hint = match cause.downcast_ref::<ClientError>() {
        Some(ClientError::NotRunning { .. }) => {
            "start the server with larderd, or name the socket of one that runs in LARDER_SOCKET".to_owned()
        }
        Some(ClientError::NoPermission { socket, .. }) => permission_hint(socket),
        Some(ClientError::Refused { status, path, .. }) => {
            return refusal_hint(*status, path).into_iter().collect();
        }
        Some(ClientError::Left { id }) => format!("look at it with: larder operation show {id}"),
        _ => return Vec::new(),
    };
    vec![hint]
}

fn permission_hint(socket: &Path) -> String {
    let group = std::fs::metadata(socket).ok().and_then(|metadata| group_name(metadata.gid()));
    match group.filter(|group| group != "root") {
        Some(group) => format!(
            "members of the group {group} may (it equals root on this machine): sudo usermod --append --groups {group} \"$USER\", then log in again"
        ),
        None => "only root may: use sudo, or start larderd with a group that may use the socket".to_owned(),
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.get(2).is_some_and(|id| *id == gid.to_string()))?;
    Some((*found.first()?).to_owned())
}

fn refusal_hint(status: u16, path: &str) -> Option<String> {
    if status == 501 {
        return Some("this server has no such part: see what it has with: larder info".to_owned());
    }
    let parts: Vec<&str> = path.trim_start_matches("/1.0/").split('/').collect();
    let list = match parts.as_slice() {
        ["storage-pools", pool, "volumes", kind, volume, "snapshots", ..] if *kind == "custom" => {
            format!("larder storage volume snapshot list {pool} {volume}")
        }
        ["storage-pools", _, "volumes", ..] => "larder storage volume list".to_owned(),
        ["storage-pools", ..] => "larder storage list".to_owned(),
        ["instances", name, "snapshots", _, ..] => format!("larder snapshot list {name}"),
        ["instances", _, "files", ..] => return None,
        ["instances", ..] => "larder list".to_owned(),
        ["images", ..] => "larder image list".to_owned(),
        ["profiles", ..] => "larder profile list".to_owned(),
        ["projects", ..] => "larder project list".to_owned(),
        ["operations", ..] => "larder operation list".to_owned(),
        ["warnings", ..] => "larder warning list".to_owned(),
        _ => return None,
    };
    match status {
        404 if parts.len() > 1 => Some(format!("see what there is with: {list}")),
        412 => Some("somebody changed it in the meantime: look at it and try again".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_is_one_line_with_its_causes_and_then_hints() {
        let refused = ClientError::Refused {
            status: 404,
            message: "Storage volume not found".to_owned(),
            path: "/1.0/storage-pools/fast/volumes/custom/v1".to_owned(),
        };
        let error = Err::<(), _>(refused).context("can't show v1").unwrap_err();
        insta::assert_snapshot!(text(&error), @r"
        Error: can't show v1: Storage volume not found
        Hint: see what there is with: larder storage volume list
        ");
    }

    #[test]
    fn what_ctrl_c_ended_is_told_from_a_failure() {
        let failed = |cancelled| ClientError::Failed { message: "no".to_owned(), cancelled };
        assert!(is_interruption(&anyhow::Error::from(failed(true)).context("can't copy v1")));
        assert!(is_interruption(&ClientError::Left { id: "x".to_owned() }.into()));
        assert!(!is_interruption(&failed(false).into()));
    }

    #[test]
    fn a_server_that_is_not_running_is_told_with_the_remedy() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = anyhow::Error::from(ClientError::NotRunning { socket: "/run/x.socket".into(), source });
        insta::assert_snapshot!(text(&error), @r"
        Error: the server isn't running: nothing listens on /run/x.socket: entity not found
        Hint: start the server with larderd, or name the socket of one that runs in LARDER_SOCKET
        ");
    }
}
