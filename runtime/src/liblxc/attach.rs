//! Running a command in a container.

use super::layout::{ATTACH_CLEAR_ENVIRONMENT, ATTACH_DEFAULT, ATTACH_DETECT_PERSONALITY, AttachOptions};
use super::{Container, LiblxcError, c_string, call};
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// A command can't be entered.
pub type AttachError = LiblxcError;

const NOT_EXECUTABLE: c_int = 126;
const NOT_FOUND: c_int = 127;

/// A command and how to run it.
#[derive(Debug)]
pub struct Attach<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// The whole environment, as `NAME=value`.
    pub environment: &'a [String],
    /// User id inside.
    pub user: u32,
    /// Group id inside.
    pub group: u32,
    /// Where to run it; `/` when that is not there.
    pub directory: &'a str,
    /// Standard input, output and error.
    pub streams: [BorrowedFd<'a>; 3],
    /// Whether standard input becomes the controlling terminal.
    pub terminal: bool,
}

/// What the new process needs between fork and exec: nothing is allocated there.
struct Payload {
    arguments: Vec<*const c_char>,
    terminal: bool,
}

impl Container<'_> {
    /// Starts a command in the running container and returns its process as the host sees it; the caller
    /// waits for it. Exit codes 126 and 127 say that the program can't be run or is not there.
    pub fn attach(&self, attach: &Attach<'_>) -> Result<u32, LiblxcError> {
        let arguments = c_strings(attach.command)?;
        let environment = c_strings(attach.environment)?;
        let directory = c_string(attach.directory)?;
        let environment = pointers(&environment);
        let mut payload = Payload { arguments: pointers(&arguments), terminal: attach.terminal };
        let mut options = AttachOptions {
            flags: ATTACH_DEFAULT,
            namespaces: -1,
            personality: ATTACH_DETECT_PERSONALITY,
            initial_cwd: directory.as_ptr(),
            uid: attach.user,
            gid: attach.group,
            environment_policy: ATTACH_CLEAR_ENVIRONMENT,
            extra_environment: environment.as_ptr(),
            extra_kept_environment: ptr::null(),
            stdin: attach.streams[0].as_raw_fd(),
            stdout: attach.streams[1].as_raw_fd(),
            stderr: attach.streams[2].as_raw_fd(),
            log: -libc::EBADF,
            lsm_label: ptr::null(),
            group_count: 0,
            group_list: ptr::null(),
        };
        let mut process: libc::pid_t = -1;
        let status = call!(
            self,
            attach,
            run,
            (&raw mut payload).cast::<c_void>(),
            &raw mut options,
            &raw mut process
        )?;
        match u32::try_from(process) {
            Ok(process) if status == 0 && process > 0 => Ok(process),
            _ => Err(self.failure("attach")),
        }
    }
}

/// Runs in the new process, inside the container.
unsafe extern "C" fn run(payload: *mut c_void) -> c_int {
    // SAFETY: `attach` passes a live `Payload`; the calls below are async-signal-safe, but for `execvp`,
    // which is fine in the single-threaded process that this is.
    unsafe {
        let payload = &*payload.cast::<Payload>();
        libc::setsid();
        if payload.terminal {
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let arguments = payload.arguments.as_ptr();
        libc::execvp(*arguments, arguments);
        if *libc::__errno_location() == libc::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE }
    }
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, LiblxcError> {
    texts.iter().map(|text| c_string(text)).collect()
}

/// A null-terminated array that borrows from `texts`.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}
