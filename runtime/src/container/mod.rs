//! Starting, stopping, entering and looking at containers.

mod cgroup;
mod config;
mod disks;
mod exec;
mod machine;
mod reach;
mod spec;
mod state;

pub use cgroup::Usage;
pub use disks::DiskFailure;
pub use exec::{Console, Ended, Exec, ExecControl, ExecSession, ExecStreams, Stdio};
pub use reach::{ReachError, check_reach};
pub use spec::{ContainerSpec, CpuLimit, DiskMount, Limits};
pub use state::{ContainerState, Status, Watch};

use crate::error::RuntimeError;
use crate::helper::message::{Disk, Reply, Request, Stage, StateReply, Target};
use crate::spawn::{Helper, HelperProgram};
use cgroup::Cgroups;
use disks::Note;
use larder_base::Cancel;
use larder_base::host::SystemHost;
use machine::Machine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long everything else may take that waits for nobody.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long the monitor gets to tidy up after its container.
const TIDY_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// How many containers one process is asked about, so that its answer fits one message.
const STATES_AT_ONCE: usize = 128;

/// The containers whose files lie in one folder.
///
/// Every call blocks and starts a process; none keeps anything in memory, so any number of these may look at
/// the same folder, one after another or at once.
#[derive(Debug, Clone)]
pub struct Containers {
    helper: HelperProgram,
    run_dir: PathBuf,
}

/// What a start found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The container's init as the host sees it.
    pub init: u32,
    /// What the administrator should know.
    pub warnings: Vec<StartWarning>,
}

/// Something about a started container that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartWarning {
    /// The kernel has no AppArmor.
    #[error("the kernel has no AppArmor: the container runs without a profile")]
    NoAppArmor,
}

impl Containers {
    /// The containers whose files lie in `run_dir`, a folder that is emptied at boot at the latest. Its path
    /// takes part in how a running container is found, so it must not change while one runs.
    pub fn new(helper: HelperProgram, run_dir: impl Into<PathBuf>) -> Self {
        Self { helper, run_dir: run_dir.into() }
    }

    /// Starts a container and returns when its init runs.
    pub fn start(&self, spec: &ContainerSpec, cancel: &Cancel) -> Result<Started, RuntimeError> {
        let machine = Machine::look();
        if machine.apparmor && SystemHost::find("apparmor_parser").is_none() {
            return Err(RuntimeError::AppArmorParserMissing(spec.name.clone()));
        }
        machine.can_hold(&spec.limits, &spec.name)?;
        let target = self.target(&spec.name)?;
        if self.state(&spec.name)?.status != Status::Stopped {
            return Err(RuntimeError::AlreadyRunning(spec.name.clone()));
        }
        self.write_files(spec, &machine)?;
        let note = Note::of_start(&spec.disks)?;
        self.write_note(&spec.name, &note)?;
        let stage = self.stage(spec)?;
        let request = Request::Start { target, log: spec.log_dir.join("lxc.log"), stage };
        let before = cgroup::groups_named(&spec.name);
        let answer = self.ask(&spec.name, "start", &request, Some(START_LIMIT), cancel);
        if matches!(answer, Err(RuntimeError::Cancelled | RuntimeError::TimedOut { .. })) {
            // The monitor may be on its way up.
            if let Err(error) = self.stop(&spec.name) {
                tracing::debug!(container = %spec.name, %error, "nothing to stop after a start that was given up");
            }
        }
        if matches!(answer, Err(RuntimeError::Failed { .. })) {
            cgroup::remove_empty(&spec.name, &before);
        }
        let (init, mounts) = match answer?.0 {
            Reply::Started(state, mounts) => (state.init, mounts),
            _ => (None, Vec::new()),
        };
        let init = init.ok_or_else(|| RuntimeError::Failed {
            container: spec.name.clone(),
            action: "start",
            message: "its init ended at once; see console.log".to_owned(),
        })?;
        self.write_note(&spec.name, &note.started(init, &mounts))?;
        let warnings = if machine.apparmor { Vec::new() } else { vec![StartWarning::NoAppArmor] };
        Ok(Started { init, warnings })
    }

    /// Kills a container and returns when it is gone with its monitor.
    pub fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        let watch = self.watch(name)?;
        self.ask(name, "stop", &Request::Stop(self.target(name)?), Some(CALL_LIMIT), &Cancel::never())?;
        self.gone(name, watch)
    }

    /// Asks a container to power off and waits; without a timeout, until it does or `cancel` is raised.
    pub fn shutdown(
        &self,
        name: &str,
        timeout: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<(), RuntimeError> {
        let watch = self.watch(name)?;
        let seconds = timeout.map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
        let request = Request::Shutdown(self.target(name)?, seconds);
        let limit = timeout.map(|timeout| timeout.saturating_add(CALL_LIMIT));
        match self.ask(name, "shutdown", &request, limit, cancel)?.0 {
            Reply::StillRunning => Err(RuntimeError::ShutdownTimedOut {
                container: name.to_owned(),
                timeout: timeout.unwrap_or_default(),
            }),
            _ => self.gone(name, watch),
        }
    }

    /// Stops all processes of a container until [`unfreeze`](Self::unfreeze).
    pub fn freeze(&self, name: &str) -> Result<(), RuntimeError> {
        let request = Request::Freeze(self.target(name)?);
        self.ask(name, "freeze", &request, Some(CALL_LIMIT), &Cancel::never()).map(drop)
    }

    /// Lets a frozen container go on.
    pub fn unfreeze(&self, name: &str) -> Result<(), RuntimeError> {
        let request = Request::Unfreeze(self.target(name)?);
        self.ask(name, "unfreeze", &request, Some(CALL_LIMIT), &Cancel::never()).map(drop)
    }

    /// What a container does now; one that was never heard of is stopped.
    pub fn state(&self, name: &str) -> Result<ContainerState, RuntimeError> {
        Ok(self.states(&[name])?.pop().unwrap_or_default())
    }

    /// Whether a container may run, told without asking it: no process is started. One with a very long name may be
    /// said to run when it does not.
    pub fn may_run(&self, name: &str) -> Result<bool, RuntimeError> {
        let sockets =
            fs::read_to_string("/proc/net/unix").map_err(RuntimeError::io("read", "/proc/net/unix"))?;
        Ok(state::may_run(&self.target(name)?, &sockets))
    }

    /// What containers do now, in the order asked. Those that don't run cost nothing; the others are asked
    /// about in one go.
    pub fn states(&self, names: &[&str]) -> Result<Vec<ContainerState>, RuntimeError> {
        let targets = names.iter().map(|name| self.target(name)).collect::<Result<Vec<_>, _>>()?;
        let sockets =
            fs::read_to_string("/proc/net/unix").map_err(RuntimeError::io("read", "/proc/net/unix"))?;
        let running: Vec<usize> =
            (0..targets.len()).filter(|index| state::may_run(&targets[*index], &sockets)).collect();
        let mut states = vec![ContainerState::default(); targets.len()];
        for indices in running.chunks(STATES_AT_ONCE) {
            let asked: Vec<Target> = indices.iter().map(|index| targets[*index].clone()).collect();
            let first = asked.first().map_or("", |target| target.name.as_str()).to_owned();
            let request = Request::States(asked);
            if let (Reply::States(found), _) =
                self.ask(&first, "state", &request, Some(CALL_LIMIT), &Cancel::never())?
            {
                for (index, found) in indices.iter().zip(&found) {
                    states[*index] = ContainerState::from(found);
                }
            }
        }
        Ok(states)
    }

    /// A handle that tells when a container is gone with its monitor, through reboots of its own; none when
    /// it does not run.
    pub fn watch(&self, name: &str) -> Result<Option<Watch>, RuntimeError> {
        let Some(monitor) = self.state(name)?.monitor else { return Ok(None) };
        Watch::of(monitor).map_err(self.process(name, "watch its monitor"))
    }

    /// The init of a container and a handle that tells when it ends, be it for a reboot of its own; none when it does not
    /// run.
    pub fn watch_init(&self, name: &str) -> Result<Option<(u32, Watch)>, RuntimeError> {
        let Some(init) = self.state(name)?.init else { return Ok(None) };
        let watch = Watch::of(init).map_err(self.process(name, "watch its init"))?;
        Ok(watch.map(|watch| (init, watch)))
    }

    /// Whether the ids in a running container are the host's own.
    pub fn has_host_ids(&self, name: &str) -> Result<bool, RuntimeError> {
        let not_running = || RuntimeError::NotRunning(name.to_owned());
        let init = self.state(name)?.init.ok_or_else(not_running)?;
        let map = PathBuf::from(format!("/proc/{init}/uid_map"));
        let text = fs::read_to_string(&map).map_err(RuntimeError::io("read", map))?;
        Ok(text.split_whitespace().eq(["0", "0", "4294967295"]))
    }

    /// What a container uses now; none when it does not run.
    pub fn usage(&self, name: &str) -> Result<Option<Usage>, RuntimeError> {
        Ok(Self::usage_of(&self.state(name)?))
    }

    /// What a container whose state is known uses; no process is started.
    pub fn usage_of(state: &ContainerState) -> Option<Usage> {
        state.init.and_then(Cgroups::of).map(|cgroups| cgroups.usage())
    }

    /// Changes the limits of a running container; what is `None` is unlimited from now on.
    pub fn apply_limits(&self, name: &str, limits: &Limits) -> Result<(), RuntimeError> {
        let not_running = || RuntimeError::NotRunning(name.to_owned());
        let init = self.state(name)?.init.ok_or_else(not_running)?;
        let cgroups = Cgroups::of(init).ok_or_else(not_running)?;
        let machine = Machine::look();
        machine.can_hold(limits, name)?;
        cgroups.apply(limits, &machine, name)
    }

    /// Runs a command in a running container.
    pub fn exec(&self, name: &str, exec: &Exec) -> Result<ExecSession, RuntimeError> {
        exec::start(&self.helper, self.target(name)?, exec)
    }

    /// Takes a running container's console.
    pub fn console(&self, name: &str) -> Result<Console, RuntimeError> {
        let request = Request::Console(self.target(name)?);
        let (_, descriptors) = self.ask(name, "console", &request, Some(CALL_LIMIT), &Cancel::never())?;
        Console::from_descriptors(descriptors).ok_or_else(|| RuntimeError::Failed {
            container: name.to_owned(),
            action: "console",
            message: "no terminal was handed over".to_owned(),
        })
    }

    /// Whether the filesystem that `path` is on can be mounted with mapped ids; the text says why not.
    pub fn can_map_ids(&self, path: &Path) -> Result<Result<(), String>, RuntimeError> {
        let request = Request::ProbeIdMap(path.to_owned());
        match self.ask("none", "probe of mapped ids", &request, Some(CALL_LIMIT), &Cancel::never())?.0 {
            Reply::IdMap(answer) => Ok(answer),
            _ => Ok(Err("no answer".to_owned())),
        }
    }

    /// Removes the files of a stopped container from the runtime's folder; fine when there are none.
    pub fn forget(&self, name: &str) -> Result<(), RuntimeError> {
        let folder = self.folder(&self.target(name)?);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::io("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }

    fn folder(&self, target: &Target) -> PathBuf {
        self.run_dir.join(&target.name)
    }

    fn target(&self, name: &str) -> Result<Target, RuntimeError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(RuntimeError::InvalidValue {
                container: name.to_owned(),
                what: "name".to_owned(),
                value: name.to_owned(),
                reason: "only letters, digits, `_`, `-` and `.` are possible, at most 200, and no `.` in front",
            });
        }
        let config = self.run_dir.join(name).join("lxc.conf");
        Ok(Target { name: name.to_owned(), lxc_path: self.run_dir.clone(), config })
    }

    fn write_files(&self, spec: &ContainerSpec, machine: &Machine) -> Result<(), RuntimeError> {
        let target = self.target(&spec.name)?;
        let folder = self.folder(&target);
        let (seccomp, mount_point) = (folder.join("seccomp"), folder.join("root"));
        let stage = folder.join("stage");
        let places = config::Places { seccomp: &seccomp, mount_point: &mount_point, stage: &stage };
        let text = config::config(spec, machine, places)?;
        // The mapped root passes through, and sees nothing.
        make_folder(&self.run_dir, 0o711)?;
        make_folder(&folder, 0o711)?;
        make_folder(&mount_point, 0o711)?;
        make_folder(&stage, 0o711)?;
        if let Some(map) = &spec.idmap {
            check_reach(&stage, map)?;
        }
        make_folder(&spec.log_dir, 0o700)?;
        write(&seccomp, config::SECCOMP_POLICY)?;
        write(&target.config, &text)?;
        let log = spec.log_dir.join("lxc.log");
        match fs::rename(&log, spec.log_dir.join("lxc.log.old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RuntimeError::io("rename", log)(error))
            }
            _ => Ok(()),
        }
    }

    fn stage(&self, spec: &ContainerSpec) -> Result<Stage, RuntimeError> {
        let folder = self.folder(&self.target(&spec.name)?);
        let folder = fs::canonicalize(&folder).map_err(RuntimeError::io("look at", &folder))?;
        let log_dir = fs::canonicalize(&spec.log_dir).map_err(RuntimeError::io("look at", &spec.log_dir))?;
        Ok(Stage {
            folder: folder.join("stage"),
            root: spec.root.clone(),
            disks: spec.disks.iter().map(Disk::from).collect(),
            idmap: spec.idmap.clone(),
            kept: vec![log_dir, folder],
        })
    }

    /// Waits until the monitor has let go of everything, the root above all.
    fn gone(&self, name: &str, watch: Option<Watch>) -> Result<(), RuntimeError> {
        let Some(watch) = watch else { return Ok(()) };
        match watch.wait(Some(TIDY_LIMIT), &Cancel::never()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(RuntimeError::TimedOut {
                container: name.to_owned(),
                action: "the end of its monitor",
                limit: TIDY_LIMIT,
            }),
            Err(error) => Err(self.process(name, "wait for its monitor")(error)),
        }
    }

    fn process(&self, name: &str, action: &'static str) -> impl FnOnce(io::Error) -> RuntimeError {
        let container = name.to_owned();
        move |source| RuntimeError::Process { container, action, source }
    }

    /// Asks one process one thing.
    fn ask(
        &self,
        name: &str,
        action: &'static str,
        request: &Request,
        limit: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<(Reply, Vec<OwnedFd>), RuntimeError> {
        cancel.checkpoint().map_err(|_| RuntimeError::Cancelled)?;
        let began = Instant::now();
        let mut helper =
            Helper::start(&self.helper, request, None).map_err(self.process(name, "start a process"))?;
        loop {
            if answered(helper.channel(), POLL).map_err(self.process(name, "wait for an answer"))? {
                break;
            }
            if cancel.is_cancelled() {
                helper.kill();
                return Err(RuntimeError::Cancelled);
            }
            if let Some(limit) = limit.filter(|limit| began.elapsed() > *limit) {
                helper.kill();
                return Err(RuntimeError::TimedOut { container: name.to_owned(), action, limit });
            }
        }
        let reply = helper.reply().map_err(self.process(name, "read an answer"))?;
        let exit = helper.wait().map_err(self.process(name, "wait for a process"))?;
        tracing::debug!(container = name, action, millis = began.elapsed().as_millis(), "asked liblxc");
        let (reply, descriptors) =
            reply.ok_or_else(|| RuntimeError::NoAnswer { container: name.to_owned(), action, exit })?;
        Ok((accepted(name, action, reply)?, descriptors))
    }
}

/// Whether there is something to read, or the end.
fn answered(channel: &impl std::os::fd::AsFd, wait: Duration) -> io::Result<bool> {
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Turns refusals into errors.
fn accepted(name: &str, action: &'static str, reply: Reply) -> Result<Reply, RuntimeError> {
    let container = name.to_owned();
    match reply {
        Reply::NotRunning => Err(RuntimeError::NotRunning(container)),
        Reply::AlreadyRunning => Err(RuntimeError::AlreadyRunning(container)),
        Reply::LibraryMissing => Err(RuntimeError::LibraryMissing),
        Reply::LibraryUnusable(message) => Err(RuntimeError::LibraryUnusable(message)),
        Reply::Refused(reason) => Err(RuntimeError::Refused { container, action, reason }),
        Reply::Failed(message) => Err(RuntimeError::Failed { container, action, message }),
        other => Ok(other),
    }
}

impl From<&StateReply> for ContainerState {
    fn from(reply: &StateReply) -> Self {
        Self { status: Status::from_liblxc(&reply.state), init: reply.init, monitor: reply.monitor }
    }
}

/// Makes a folder with this mode, whatever the umask; one that is there stays as it is.
fn make_folder(path: &Path, mode: u32) -> Result<(), RuntimeError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(RuntimeError::io("make the folder", path))
}

fn write(path: &Path, text: &str) -> Result<(), RuntimeError> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = open.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(RuntimeError::io("write", path))
}
