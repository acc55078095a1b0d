//! Starting the helper and keeping an eye on it. This file starts a program without `base/host`, because the
//! program is our own, at a path and not in a system folder, and is fed by a stream.

use super::job::{JAIL_ARGUMENT, Job};
use super::listing::Listing;
use larder_base::Cancel;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(10);
const KEPT_STDERR: usize = 16 << 10;
const PIPE_BYTES: usize = 256 << 10;

/// What goes into the helper.
pub(super) enum Feed {
    /// A stream, written to its standard input to the end.
    Stream(Box<dyn Read + Send>),
    /// An open file.
    File(std::fs::File),
}

/// How the helper is watched.
pub(super) struct Watch<'a> {
    /// The most files and directories.
    pub(super) inodes: u64,
    /// Whether directories that are only implied count too (tar lists them with a slash at the end).
    pub(super) implied: bool,
    /// When it is killed.
    pub(super) seconds: u64,
    /// Asked all the time.
    pub(super) cancel: &'a Cancel,
    /// Called all the time.
    pub(super) tick: &'a (dyn Fn() + Sync),
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// By itself, with its status, the end of its standard error, and what the stream came to.
    Exited { status: ExitStatus, stderr: String, fed: io::Result<()> },
    /// Killed: too many files.
    TooManyFiles,
    /// Killed at its deadline.
    TooSlow,
    /// Killed because the work was cancelled.
    Cancelled,
}

/// Runs `program` as the helper. Whatever happens, no process of it is left when this returns.
pub(super) fn run(
    program: &Path,
    job: &Job,
    into: &Path,
    feed: Feed,
    watch: &Watch<'_>,
) -> io::Result<Ending> {
    let mut child = Guard(start(program, job, into, &feed)?);
    let (input, output, errors) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let feeding = scope.spawn(move || match (feed, input) {
            (Feed::Stream(stream), Some(input)) => pump(stream, input),
            _ => Ok(()),
        });
        let counting = scope.spawn(|| count(output, watch, &is_over));
        let reading = scope.spawn(|| tail(errors));
        let ending = wait(&mut child.0, watch, &is_over);
        // The pipes' other ends close with the last process, and the threads end with them.
        child.kill();
        let fed = feeding.join().unwrap_or_else(|_| Err(io::Error::other("the feeder panicked")));
        let counted = counting.join().unwrap_or_else(|_| Err(io::Error::other("the counter panicked")));
        let stderr = reading.join().unwrap_or_default();
        counted?;
        // The tool may be done before all it listed was read.
        if is_over.load(Ordering::SeqCst) {
            return Ok(Ending::TooManyFiles);
        }
        Ok(match ending? {
            Ended::By(status) => Ending::Exited { status, stderr, fed },
            Ended::TooSlow => Ending::TooSlow,
            Ended::Cancelled => Ending::Cancelled,
            Ended::TooManyFiles => Ending::TooManyFiles,
        })
    })
}

enum Ended {
    By(ExitStatus),
    TooSlow,
    Cancelled,
    TooManyFiles,
}

struct Guard(Child);

impl Guard {
    /// Kills the helper's process group and takes the helper's exit; the jail dies with its helper.
    fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // The helper is not waited for yet, or the group's other member is about to die with it: the number
            // can't belong to somebody else.
            if matches!(self.0.try_wait(), Ok(None)) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
        }
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "our own program at a path, fed by a stream: no `Cmd` says that"
)]
fn start(program: &Path, job: &Job, into: &Path, feed: &Feed) -> io::Result<Child> {
    let input = match feed {
        Feed::Stream(_) => Stdio::piped(),
        Feed::File(file) => Stdio::from(file.try_clone()?),
    };
    std::process::Command::new(program)
        .arg(JAIL_ARGUMENT)
        .arg(serde_json::to_string(job)?)
        .arg(std::process::id().to_string())
        .arg(into)
        .env_clear()
        .current_dir("/")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

fn wait(child: &mut Child, watch: &Watch<'_>, is_over: &AtomicBool) -> io::Result<Ended> {
    let deadline = Instant::now() + Duration::from_secs(watch.seconds);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::By(status));
        }
        if watch.cancel.is_cancelled() {
            return Ok(Ended::Cancelled);
        }
        if is_over.load(Ordering::SeqCst) {
            return Ok(Ended::TooManyFiles);
        }
        if Instant::now() >= deadline {
            return Ok(Ended::TooSlow);
        }
        (watch.tick)();
        std::thread::sleep(POLL);
    }
}

fn pump(mut stream: impl Read, mut input: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match input.write_all(&buffer[..read]) {
            Ok(()) => {}
            // The tool stopped reading: its exit tells why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads the names the tool lists until their end, whatever their number, so that it never blocks.
fn count(output: Option<impl Read>, watch: &Watch<'_>, is_over: &AtomicBool) -> io::Result<()> {
    let Some(output) = output else { return Ok(()) };
    let mut reader = BufReader::with_capacity(64 << 10, output);
    let (mut listing, mut plain, mut line) = (Listing::default(), 0_u64, Vec::new());
    loop {
        line.clear();
        // No name is longer than this; a longer line is counted in pieces.
        if reader.by_ref().take(64 << 10).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let name = line.strip_suffix(b"\n").unwrap_or(&line);
        plain += 1;
        let made = if is_over.load(Ordering::Relaxed) {
            continue;
        } else if watch.implied {
            listing.add(name)
        } else {
            plain
        };
        if made > watch.inodes {
            is_over.store(true, Ordering::SeqCst);
        }
    }
}

fn tail(errors: Option<impl Read>) -> String {
    let Some(mut errors) = errors else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read) = errors.read(&mut buffer) {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(KEPT_STDERR);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
