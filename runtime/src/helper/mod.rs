//! The process that calls liblxc: one for each call.
//!
//! The daemon starts itself again under [`HELPER_COMMAND`] and hands the rest to [`helper_main`], before it
//! makes any thread. The library keeps file locks per process, forks, and moves through namespaces: nothing a
//! daemon with threads may do.

mod control;
mod disk;
mod exec;
mod inside;
pub(crate) mod message;
mod namespace;
mod probe;
mod stage;
mod start;
mod target;

use crate::liblxc::{Container, Liblxc, LiblxcError};
use message::{Channel, Reply, Request, Target};
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

/// The hidden subcommand under which a program must call [`helper_main`].
pub const HELPER_COMMAND: &str = "internal-container";

/// Answers one request and ends. The numbers of the request's and the answers' descriptors are the program's
/// last two arguments. Call it first thing in `main`, while there is one thread.
pub fn helper_main() -> ExitCode {
    match inherited().and_then(|(request, channel)| serve(&request, &channel)) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens any more, or nobody ever did: there is no place for words.
        Err(_) => ExitCode::FAILURE,
    }
}

fn inherited() -> io::Result<(Request, Channel)> {
    let arguments: Vec<String> = std::env::args().collect();
    let refuse = || io::Error::new(io::ErrorKind::InvalidInput, "this command is for the daemon's own use");
    let [.., request, replies] = arguments.as_slice() else { return Err(refuse()) };
    let request: RawFd = request.parse().map_err(|_| refuse())?;
    let replies: RawFd = replies.parse().map_err(|_| refuse())?;
    if request < 3 || replies < 3 || request == replies {
        return Err(refuse());
    }
    // SAFETY: the starting process opened both for us and nobody else in this process knows them.
    let (request, replies) = unsafe { (OwnedFd::from_raw_fd(request), OwnedFd::from_raw_fd(replies)) };
    // Whatever the daemon inherited in its turn must not reach a command in a container either.
    // SAFETY: it only marks descriptors, none is closed here.
    if unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    let request = serde_json::from_reader(File::from(request))?;
    Ok((request, Channel::from(replies)))
}

/// What is started in a container must not inherit an ignored signal. The runtime ignores one, and a daemon that a shell put into
/// its background two more, the interrupt key's among them.
fn heed_all_signals() {
    for number in 1..libc::SIGRTMIN() {
        // SAFETY: no handler is set by anybody, and the default action is nobody's code. What can't be set is refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

fn serve(request: &Request, channel: &Channel) -> io::Result<()> {
    heed_all_signals();
    // SAFETY: there is one thread. What is started in a container must not inherit our mask.
    unsafe { libc::umask(0o022) };
    if let Request::ProbeIdMap(path) = request {
        let answer = probe::id_map(path).map_err(|error| error.to_string());
        return channel.send(&Reply::IdMap(answer), &[]);
    }
    let library = match Liblxc::load() {
        Ok(library) => library,
        Err(error) => return channel.send(&refusal(&error), &[]),
    };
    let answer = match request {
        Request::Exec(target, command) => return exec::serve(&library, target, command, channel),
        Request::Console(target) => return control::console(&library, target, channel),
        Request::Start { target, log, stage } => start::start(&library, target, log, stage),
        Request::Stop(target) => control::stop(&library, target),
        Request::Shutdown(target, seconds) => control::shutdown(&library, target, *seconds),
        Request::Freeze(target) => control::freeze(&library, target, true),
        Request::Unfreeze(target) => control::freeze(&library, target, false),
        Request::States(targets) => control::states(&library, targets),
        Request::Mount(target, new) => disk::mount(&library, target, new),
        Request::Unmount(target, old) => disk::unmount(&library, target, old),
        Request::ProbeIdMap(_) => return Ok(()),
    };
    channel.send(&answer.unwrap_or_else(|error| refusal(&error)), &[])
}

fn refusal(error: &LiblxcError) -> Reply {
    match error {
        LiblxcError::Missing => Reply::LibraryMissing,
        LiblxcError::Unusable(message) => Reply::LibraryUnusable(message.clone()),
        LiblxcError::Call { call, detail } if !detail.is_empty() => {
            Reply::Failed(format!("{call}: {detail}"))
        }
        other => Reply::Failed(other.to_string()),
    }
}

/// The container with its configuration read, when it has one.
fn open<'library>(library: &'library Liblxc, target: &Target) -> Result<Container<'library>, LiblxcError> {
    let container = library.container(&target.name, &target.lxc_path)?;
    if target.config.is_file() {
        container.load_config(&target.config)?;
    }
    Ok(container)
}
