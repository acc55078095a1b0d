//! The helper's own side: builds the jail, puts the tool in it and waits.
//!
//! Two processes: the outer one leaves the machine's namespaces and watches, the inner one is the first of a
//! new process namespace, gives its powers away and becomes the tool. When the outer one dies, so does the
//! inner, and with it everything in the jail.

use super::confine;
use super::job::{Job, TARGET, exit};
use super::root::{self, Sources};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
const ENVIRONMENT: [&std::ffi::CStr; 3] =
    [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"LC_ALL=C.UTF-8", c"TZ=UTC"];
/// What a tool may write beside the files it unpacks (and an eighth of those): its list of names.
const LISTING_SLACK: u64 = 16 << 20;
const SHORTEST_POLL: Duration = Duration::from_millis(1);
const LONGEST_POLL: Duration = Duration::from_millis(8);

/// The main function of a program started with [`JAIL_ARGUMENT`](super::JAIL_ARGUMENT). It must be called
/// before any thread is started. Only [`JailLauncher`](super::JailLauncher) starts it, and knows its arguments.
pub fn jail_main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            // Standard error is the pipe to the one who started us.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::from(exit::NOT_BUILT)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<u8, String> {
    let [job, parent, target] = arguments else {
        return Err("this is an internal command: it is started by the daemon alone".to_owned());
    };
    let job: Job =
        serde_json::from_slice(job.as_bytes()).map_err(|error| format!("read the job: {error}"))?;
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    die_with_parent().map_err(step("tie the helper to the daemon"))?;
    let is_orphan = std::os::unix::process::parent_id().to_string().as_bytes() != parent.as_bytes();
    if is_orphan {
        return Err("the daemon is gone".to_owned());
    }
    // Opened now: the new root, which the outer process gets as well, has no /proc.
    let processes = File::open("/proc").map_err(step("open /proc"))?;
    // Fails here, before anything is written, on a kernel that does not count.
    written_by(&processes, "self").map_err(step("count what is written (task I/O accounting)"))?;
    let sources = Sources::take(job.bind_archive).map_err(step("take the archive"))?;
    // SAFETY: a single thread runs, and nothing here has the old namespaces open that must not.
    unsafe {
        let flags = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        if libc::unshare(flags | libc::CLONE_NEWUTS) == -1 {
            return Err(step("leave the machine's namespaces (needs root with CAP_SYS_ADMIN)")(
                io::Error::last_os_error(),
            ));
        }
        match libc::fork() {
            -1 => Err(step("start the first process of the jail")(io::Error::last_os_error())),
            0 => Ok(inner(&job, Path::new(target), sources)),
            child => watch(child, &job, &processes).map_err(step("wait for the jail")),
        }
    }
}

fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Becomes the tool; comes back only when that fails, with the exit code to use.
fn inner(job: &Job, target: &Path, sources: Sources) -> u8 {
    let message = match become_tool(job, target, sources) {
        Ok(never) => match never {},
        Err(message) => message,
    };
    let _ = writeln!(io::stderr(), "{message}");
    exit::NOT_BUILT
}

fn become_tool(job: &Job, target: &Path, sources: Sources) -> Result<std::convert::Infallible, String> {
    let step = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    die_with_parent().map_err(step("tie the jail to its helper"))?;
    root::enter(target, sources).map_err(|failure| format!("{}: {}", failure.what, failure.source))?;
    debug_assert_eq!(std::env::current_dir().ok().as_deref(), Some(Path::new(TARGET)));
    let program = find(&job.program).ok_or_else(|| format!("find {}: it is not installed", job.program))?;
    let arguments = std::iter::once(&job.program).chain(&job.arguments);
    let arguments: Vec<CString> = arguments
        .map(|argument| CString::new(argument.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|_| "an argument holds a NUL byte".to_owned())?;
    confine::limit(job.bytes).map_err(step("set limits"))?;
    close_everything_else().map_err(step("close files"))?;
    confine::drop_powers().map_err(step("drop powers"))?;
    let pointers = |texts: &[&std::ffi::CStr]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let argv = pointers(&arguments.iter().map(CString::as_c_str).collect::<Vec<_>>());
    let environment = pointers(&ENVIRONMENT);
    // Rust ignores SIGPIPE, which would be inherited; a tool expects the default.
    // SAFETY: both lists end in a null pointer, and their strings outlive the call.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::umask(0);
        libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    Err(step("start the tool")(io::Error::last_os_error()))
}

fn find(program: &str) -> Option<CString> {
    let paths = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    paths
        .into_iter()
        .find(|path| path.is_file())
        .and_then(|path| CString::new(path.as_os_str().as_bytes()).ok())
}

fn close_everything_else() -> io::Result<()> {
    // SAFETY: nothing in this process uses a descriptor above 2 any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for the inner process. A bound archive has no stream the daemon could measure, so here what the tool
/// has written is watched instead, and looked at once more when it has ended.
fn watch(child: libc::pid_t, job: &Job, processes: &File) -> io::Result<u8> {
    let pid = Pid::from_raw(child).ok_or_else(|| io::Error::other("no process id"))?;
    let mut poll = SHORTEST_POLL;
    let most = job.bytes.saturating_add(job.bytes / 8).saturating_add(LISTING_SLACK);
    loop {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_ended = rustix::process::waitid(WaitId::Pid(pid), look)?.is_some();
        let is_over = job.bind_archive && written_by(processes, &child.to_string())? > most;
        if is_over {
            rustix::process::kill_process(pid, Signal::KILL)?;
        }
        if has_ended || is_over {
            let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())?.map(|(_, status)| status);
            let signal = |status: WaitStatus| status.terminating_signal().map(|signal| 128 + signal);
            let code = status.and_then(|status| status.exit_status().or_else(|| signal(status)));
            let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::NOT_BUILT);
            return Ok(if is_over { exit::TOO_MANY_BYTES } else { code });
        }
        std::thread::sleep(poll);
        poll = (poll * 2).min(LONGEST_POLL);
    }
}

/// How many bytes a process has handed to `write`.
fn written_by(processes: &File, process: &str) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(processes, format!("{process}/io"), flags, Mode::empty())?;
    let text = io::read_to_string(File::from(file))?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|count| count.parse().ok()).ok_or_else(|| io::Error::other("/proc/*/io has no wchar"))
}
