//! larderd keeps storage pools, volumes and images, and answers the REST API on `$LARDER_DIR/unix.socket`.

use larder_daemon::{Options, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const DIRECTORY: &str = "/var/lib/larder";
const HELP: &str = "\
larderd keeps storage pools, volumes and images, and answers the REST API on a unix socket.

Usage: larderd [--version | --help]

Environment:
  LARDER_DIR  its state folder [default: /var/lib/larder]; the socket is unix.socket in it
  LARDER_LOG  what is logged to standard error: error, warn, info, debug, trace [default: info]
  CEPH_CONF   the configuration of the cluster of cephobject pools [default: /etc/ceph/CLUSTER.conf]
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|argument| argument.to_str()) {
        None => start(),
        // The helper that unpacks archives: this program again, in a jail of its own.
        Some(larder_images::JAIL_ARGUMENT) => larder_images::jail_main(),
        // The helper that calls liblxc: this program again, a fresh process for each call.
        Some(larder_runtime::HELPER_COMMAND) => larder_runtime::helper_main(),
        Some("--version") => say(&format!("larderd {}\n", env!("CARGO_PKG_VERSION"))),
        Some("--help") => say(HELP),
        Some(other) => fail(&format!("unknown argument {other:?}\n\n{HELP}"), 2),
    }
}

fn start() -> ExitCode {
    let directory = std::env::var_os("LARDER_DIR").map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from);
    let options = match (std::path::absolute(directory), std::env::current_exe()) {
        (Ok(directory), Ok(program)) => {
            let log = std::env::var("LARDER_LOG").unwrap_or_else(|_| "info".to_owned());
            let ceph_conf = std::env::var_os("CEPH_CONF").filter(|file| !file.is_empty()).map(PathBuf::from);
            Options { directory, log, program, ceph_conf }
        }
        (Err(error), _) | (_, Err(error)) => return fail(&format!("larderd: {error}\n"), 1),
    };
    open_as_many_files_as_allowed();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("larderd: {error:#}\n"), 1),
    }
}

/// Raises the soft limit of open files, which is a thousand on many systems, to the hard one: each client has one open, and each
/// bucket several.
fn open_as_many_files_as_allowed() {
    let limit = getrlimit(Resource::Nofile);
    // It stays as it is where that is not allowed.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn say(text: &str) -> ExitCode {
    write(std::io::stdout(), text);
    ExitCode::SUCCESS
}

fn fail(text: &str, code: u8) -> ExitCode {
    write(std::io::stderr(), text);
    ExitCode::from(code)
}

fn write(mut to: impl std::io::Write, text: &str) {
    // Nobody reads it: there is nobody to tell.
    let _ = to.write_all(text.as_bytes());
}
