//! Real containers: an unprivileged busybox system, started, entered, limited, frozen and stopped.
//!
//! The test program answers the hidden subcommand itself, as the daemon does. Without root, liblxc, busybox
//! or mapped ids the tests are skipped and say why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test program of its own"
)]

#[path = "containers/disks.rs"]
mod disks;

use larder_base::Cancel;
use larder_runtime::container::{StartWarning, Watch};
use larder_runtime::liblxc::Liblxc;
use larder_runtime::{
    ContainerSpec, Containers, CpuLimit, Exec, ExecSession, ExecStreams, HELPER_COMMAND, HelperProgram,
    IdMap, Limits, RuntimeError, Started, Status, Stdio, check_reach, helper_main,
};
use libtest_mimic::{Arguments, Trial};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/bin/busybox";
/// How long something that becomes so may take in a guest that shares its processor.
const PATIENCE: Duration = Duration::from_secs(60);
/// Outside of what `/etc/subuid` gives: the runtime does not depend on it.
const FIRST_ID: u32 = 1_300_000_000;
/// Makes a test program start one container, tell its init and end.
const START_AND_END: &str = "start-and-end";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(HELPER_COMMAND) => return helper_main(),
        Some(START_AND_END) => {
            let lab = Lab { folder: PathBuf::from(&arguments[2]), name: arguments[3].clone() };
            lab.start();
            // Dropping it would stop the container.
            std::mem::forget(lab);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // As in a daemon that a shell put into its background.
    // SAFETY: no handler is set, and no other thread runs yet.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let tests: &[(&str, fn())] = &[
        ("a_container_runs_with_mapped_ids_and_stops", a_container_runs_with_mapped_ids_and_stops),
        ("commands_run_with_pipes_and_their_exit_codes_come_back", commands_with_pipes),
        ("commands_run_on_a_terminal_of_the_container", commands_on_a_terminal),
        ("limits_hold_from_the_start_and_change_live", limits),
        ("a_container_is_confined_by_a_profile_of_its_own_or_the_start_says_that_it_is_not", confinement),
        ("a_frozen_container_is_found_frozen_and_goes_on", freeze),
        ("a_container_outlives_the_process_that_started_it", outlives_its_starter),
        ("a_container_that_powers_off_is_noticed", powers_off),
        ("a_running_container_keeps_no_other_mount_busy_and_reboots", keeps_nothing_busy),
        ("disks_appear_inside_with_the_containers_own_ids", disks::of_start),
        ("disks_come_and_go_while_it_runs", disks::come_and_go),
        ("a_disk_of_a_hostile_container_stays_what_it_is", disks::hostile),
        ("an_interrupted_change_of_disks_is_finished", disks::interrupted),
        ("a_reboot_of_its_own_brings_no_removed_disk_back", disks::after_reboot),
        ("a_start_that_fails_says_why_and_leaves_nothing", failing_start),
        ("a_start_that_fails_does_not_wait_for_the_groups_of_others", failing_start_beside_another),
        ("a_shutdown_that_is_ignored_runs_out_of_time", ignored_shutdown),
        ("a_root_with_host_ids_works_too", shifted_root),
        ("a_privileged_container_is_kept_from_the_machine", privileged),
        ("the_console_can_be_taken", console),
    ];
    let trials = tests.iter().map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::test(name, move || {
            match missing() {
                Some(reason) => eprintln!("skipped: {name}: {reason}"),
                None => test(),
            }
            Ok(())
        })
    });
    // One at a time: each starts a whole system.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Err(error) = Liblxc::load() {
        return Some(error.to_string());
    }
    if !Path::new(BUSYBOX).is_file() {
        return Some("needs busybox-static".to_owned());
    }
    let folder = tempfile::tempdir().ok()?;
    let containers = Containers::new(program(), folder.path());
    match containers.can_map_ids(folder.path()) {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(format!("no mapped ids on {}: {reason}", folder.path().display())),
        Err(error) => Some(error.to_string()),
    }
}

fn program() -> HelperProgram {
    HelperProgram { program: std::env::current_exe().unwrap(), ..HelperProgram::this() }
}

/// A busybox system and the runtime that starts it. The folder above the root is closed to everybody but
/// root.
struct Lab {
    folder: PathBuf,
    name: String,
}

impl Lab {
    fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("larder-").tempdir().unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
        let lab = Self { folder, name: format!("test_{name}_{}", std::process::id()) };
        fs::DirBuilder::new().mode(0o700).create(lab.folder.join("closed")).unwrap();
        make_root(&lab.root());
        lab
    }

    fn root(&self) -> PathBuf {
        self.folder.join("closed/rootfs")
    }

    fn containers(&self) -> Containers {
        Containers::new(program(), self.folder.join("run"))
    }

    fn spec(&self) -> ContainerSpec {
        ContainerSpec {
            name: self.name.clone(),
            root: self.root(),
            idmap: Some(IdMap::simple(FIRST_ID, 65_536)),
            idmapped_root: true,
            disks: Vec::new(),
            environment: BTreeMap::from([("FROM_CONTAINER".to_owned(), "yes".to_owned())]),
            limits: Limits::default(),
            log_dir: self.folder.join("logs"),
            hostname: "busy".to_owned(),
            privileged: false,
            nesting: false,
        }
    }

    fn start(&self) -> Started {
        self.start_as(&self.spec())
    }

    fn start_as(&self, spec: &ContainerSpec) -> Started {
        let started = self.containers().start(spec, &Cancel::never());
        started.unwrap_or_else(|error| {
            let log = fs::read_to_string(self.folder.join("logs/lxc.log")).unwrap_or_default();
            panic!("{error}\n{log}")
        })
    }

    fn exec(&self, command: &[&str], stdio: Stdio) -> ExecSession {
        self.containers().exec(&self.name, &exec(command, stdio)).unwrap()
    }

    /// Runs a command and returns its exit code, standard output and standard error.
    fn output(&self, command: &[&str]) -> (i32, String, String) {
        let session = self.exec(command, Stdio::Pipes);
        let ExecStreams::Pipes { stdin, stdout, stderr } = session.streams else { panic!("no pipes") };
        drop(stdin);
        let stderr = std::thread::spawn(move || text(File::from(stderr)));
        let stdout = text(File::from(stdout));
        (session.ended.wait().unwrap(), stdout, stderr.join().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match self.containers().stop(&self.name) {
            Ok(()) | Err(RuntimeError::NotRunning(_)) => {}
            Err(error) => eprintln!("container {} is left over: {error}", self.name),
        }
        if std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        } else {
            fs::remove_dir_all(&self.folder).unwrap();
            assert!(leftovers(&self.name).is_empty(), "{:?}", leftovers(&self.name));
        }
    }
}

/// Cgroups and mounts that bear the container's name.
fn leftovers(name: &str) -> Vec<String> {
    fn walk(folder: &Path, name: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path().display().to_string());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    found
}

fn make_root(root: &Path) {
    for folder in ["bin", "sbin", "etc", "proc", "sys", "dev", "root", "tmp", "var", "home"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
    let applets = [
        "sh", "id", "sleep", "cat", "echo", "kill", "tty", "stty", "test", "pwd", "env", "poweroff",
        "reboot", "ls", "stat",
    ];
    for applet in applets {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    symlink("../bin/busybox", root.join("sbin/init")).unwrap();
    fs::write(root.join("etc/inittab"), "::sysinit:/bin/echo booted\n::respawn:/bin/sleep 1000\n").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/plain"), "not a program").unwrap();
}

fn exec(command: &[&str], stdio: Stdio) -> Exec {
    Exec {
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        environment: BTreeMap::new(),
        user: 0,
        group: 0,
        directory: None,
        stdio,
    }
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // The master side of a terminal ends with an error.
    while let Ok(count @ 1..) = file.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(bytes).unwrap()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn owner(process: u32) -> u32 {
    fs::metadata(format!("/proc/{process}")).unwrap().uid()
}

fn a_container_runs_with_mapped_ids_and_stops() {
    let lab = Lab::new("plain");
    let containers = lab.containers();
    assert_eq!(containers.state(&lab.name).unwrap().status, Status::Stopped);
    let started = lab.start();
    // liblxc tells of the start before the last exec, until which the kernel gives a process that changed its user to root.
    eventually("its root is an ordinary user of the host", || owner(started.init) == FIRST_ID);
    let state = containers.state(&lab.name).unwrap();
    assert_eq!((state.status, state.init), (Status::Running, Some(started.init)));
    assert!(state.monitor.is_some());
    assert!(matches!(
        containers.start(&lab.spec(), &Cancel::never()),
        Err(RuntimeError::AlreadyRunning(name)) if name == lab.name
    ));
    let usage = || containers.usage(&lab.name).unwrap().unwrap();
    eventually("what it uses is counted", || {
        let usage = usage();
        usage.memory > 0 && usage.processes >= 1 && usage.cpu_nanoseconds > 0
    });
    assert_eq!(usage().memory_limit, None);
    eventually("the console's log", || {
        fs::read_to_string(lab.folder.join("logs/console.log")).is_ok_and(|log| log.contains("booted"))
    });
    containers.stop(&lab.name).unwrap();
    assert_eq!(containers.state(&lab.name).unwrap().status, Status::Stopped);
    assert!(containers.usage(&lab.name).unwrap().is_none());
    assert!(matches!(containers.stop(&lab.name), Err(RuntimeError::NotRunning(_))));
    containers.forget(&lab.name).unwrap();
    containers.forget(&lab.name).unwrap();
}

fn commands_with_pipes() {
    let lab = Lab::new("pipes");
    lab.start();
    assert_eq!(lab.output(&["id", "-u"]), (0, "0\n".to_owned(), String::new()));
    assert_eq!(
        lab.output(&["sh", "-c", "echo out; echo err >&2; exit 3"]),
        (3, "out\n".into(), "err\n".into())
    );
    assert_eq!(lab.output(&["/etc/plain"]).0, 126);
    assert_eq!(lab.output(&["no-such-program"]).0, 127);
    assert_eq!(lab.output(&["sh", "-c", "kill -9 $$"]).0, 137);
    assert_eq!(lab.output(&["pwd"]).1, "/root\n");
    let (_, environment, _) = lab.output(&["env"]);
    for line in ["FROM_CONTAINER=yes", "HOME=/root", "USER=root", "container=lxc"] {
        assert!(environment.lines().any(|found| found == line), "{line} in {environment}");
    }
    assert!(!environment.contains("CARGO"), "nothing of our own environment gets in: {environment}");
    assert_eq!(
        lab.output(&["ls", "/proc/self/fd"]).1,
        "0\n1\n2\n3\n",
        "its streams, and the folder it reads"
    );
    let (_, environment, _) = lab.output(&["cat", "/proc/1/environ"]);
    assert!(!environment.contains("LC_ALL"), "nor does it reach the init: {environment:?}");
    let (_, mounts, _) = lab.output(&["cat", "/proc/self/mountinfo"]);
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains("nodev") && root.contains("idmapped"), "{root}");
    let (_, status, _) = lab.output(&["cat", "/proc/self/status"]);
    assert!(status.contains("Seccomp:\t2"), "{status}");

    let mut input = exec(&["sh", "-c", "cat; id -u; id -g; pwd"], Stdio::Pipes);
    (input.user, input.group, input.directory) = (1000, 50, Some("/tmp".to_owned()));
    let session = lab.containers().exec(&lab.name, &input).unwrap();
    let ExecStreams::Pipes { stdin, stdout, stderr } = session.streams else { panic!("no pipes") };
    let mut stdin = File::from(stdin);
    stdin.write_all(b"in\n").unwrap();
    drop((stdin, stderr));
    assert_eq!(text(File::from(stdout)), "in\n1000\n50\n/tmp\n");
    assert_eq!(session.ended.wait().unwrap(), 0);

    let session = lab.exec(&["sleep", "1000"], Stdio::Pipes);
    session.control.signal(15).unwrap();
    assert!(session.control.signal(1000).is_err());
    let control = session.control.clone();
    assert_eq!(session.ended.wait().unwrap(), 143);
    assert!(control.signal(9).is_err(), "it is gone");
    assert!(matches!(
        lab.containers().exec("nobody", &exec(&["true"], Stdio::Pipes)),
        Err(RuntimeError::NotRunning(_))
    ));
}

fn commands_on_a_terminal() {
    let lab = Lab::new("terminal");
    lab.start();
    let session = lab.exec(&["sh", "-c", "tty; stty size"], Stdio::Pty { width: 90, height: 30 });
    let ExecStreams::Pty(master) = session.streams else { panic!("no terminal") };
    let said = text(File::from(master));
    assert_eq!(session.ended.wait().unwrap(), 0);
    assert!(said.starts_with("/dev/pts/") && said.ends_with("\r\n30 90\r\n"), "{said:?}");

    let session = lab.exec(&["sh"], Stdio::Pty { width: 80, height: 24 });
    let ExecStreams::Pty(master) = session.streams else { panic!("no terminal") };
    session.control.resize(123, 45).unwrap();
    let mut terminal = Talk { file: File::from(master), seen: String::new() };
    terminal.until("# ");
    terminal.say("stty size; echo and; cat");
    terminal.until("45 123\r\nand\r\n");
    terminal.say("through");
    terminal.until("through\r\nthrough\r\n");
    // The interrupt key reaches the foreground job: the terminal controls the session.
    terminal.press_until(b"\x03", "# ");
    terminal.say("exit 7");
    assert_eq!(session.ended.wait().unwrap(), 7);
}

/// A conversation on a terminal.
struct Talk {
    file: File,
    seen: String,
}

impl Talk {
    fn say(&mut self, line: &str) {
        self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until `text` has come, and forgets what came up to there.
    fn until(&mut self, text: &str) {
        self.press_until(b"", text);
    }

    /// The same, and presses a key now and every few seconds: busybox's shell loses one that comes between two of its jobs.
    fn press_until(&mut self, key: &[u8], text: &str) {
        let (began, mut pressed) = (Instant::now(), None::<Instant>);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            if pressed.is_none_or(|pressed| pressed.elapsed() > Duration::from_secs(3)) {
                self.file.write_all(key).unwrap();
                pressed = Some(Instant::now());
            }
            assert!(began.elapsed() < Duration::from_secs(20), "no {text:?} in {:?}", self.seen);
            let wait = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let ready = rustix::event::PollFlags::IN;
            let mut polled = [rustix::event::PollFd::new(&self.file, ready)];
            if rustix::event::poll(&mut polled, Some(&wait)).unwrap() > 0 {
                let mut buffer = [0; 256];
                let count = self.file.read(&mut buffer).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }
}

fn has_controller(name: &str) -> bool {
    let folder = Path::new("/sys/fs/cgroup");
    match fs::read_to_string(folder.join("cgroup.controllers")) {
        Ok(controllers) => controllers.split_whitespace().any(|one| one == name),
        Err(_) => folder.join(name).exists(),
    }
}

fn confinement() {
    let lab = Lab::new("confined");
    let started = lab.containers().start(&lab.spec(), &Cancel::never()).unwrap();
    if Path::new("/sys/kernel/security/apparmor").exists() {
        assert_eq!(started.warnings, Vec::new());
        // Read from outside: inside, a container with a namespace of profiles sees itself as unconfined there.
        let label = || fs::read_to_string(format!("/proc/{}/attr/current", started.init)).unwrap();
        // From the last exec on, which may be after the start was told of.
        eventually("its own profile", || label().starts_with("lxc-"));
        assert!(label().trim_end().ends_with("(enforce)"), "{:?}", label());
    } else {
        assert_eq!(started.warnings, vec![StartWarning::NoAppArmor]);
    }
}

fn limits() {
    let lab = Lab::new("limits");
    let mut limits = Limits { memory: Some(64 << 20), cpu: Some(CpuLimit::Count(1)), processes: Some(50) };
    let has_cpusets = has_controller("cpuset");
    if !has_cpusets {
        let spec = ContainerSpec { limits: limits.clone(), ..lab.spec() };
        let refused = lab.containers().start(&spec, &Cancel::never());
        assert!(matches!(refused, Err(RuntimeError::ControllerMissing { .. })), "{refused:?}");
        limits.cpu = None;
    }
    lab.start_as(&ContainerSpec { limits, ..lab.spec() });
    let containers = lab.containers();
    let usage = || containers.usage(&lab.name).unwrap().unwrap();
    assert_eq!(usage().memory_limit, Some(64 << 20));
    let allowed = || {
        let (_, status, _) = lab.output(&["cat", "/proc/self/status"]);
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap().trim().to_owned()
    };
    if has_cpusets {
        assert!(allowed().parse::<u32>().is_ok(), "one processor: {}", allowed());
    }
    containers.apply_limits(&lab.name, &Limits { memory: Some(32 << 20), ..Limits::default() }).unwrap();
    assert_eq!(usage().memory_limit, Some(32 << 20));
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    assert_eq!(allowed(), online.trim());
    containers.apply_limits(&lab.name, &Limits::default()).unwrap();
    assert_eq!(usage().memory_limit, None);
}

fn freeze() {
    let lab = Lab::new("frozen");
    lab.start();
    let containers = lab.containers();
    containers.freeze(&lab.name).unwrap();
    assert_eq!(containers.state(&lab.name).unwrap().status, Status::Frozen);
    let refused = containers.exec(&lab.name, &exec(&["id"], Stdio::Pipes));
    assert!(matches!(refused, Err(RuntimeError::Failed { .. })), "{refused:?}");
    containers.unfreeze(&lab.name).unwrap();
    assert_eq!(containers.state(&lab.name).unwrap().status, Status::Running);
    assert_eq!(lab.output(&["id", "-u"]).0, 0);
    containers.freeze(&lab.name).unwrap();
    containers.stop(&lab.name).unwrap();
    assert_eq!(containers.state(&lab.name).unwrap().status, Status::Stopped);
}

fn outlives_its_starter() {
    let lab = Lab::new("outlives");
    #[expect(clippy::disallowed_methods, reason = "the test needs a second program to end")]
    let mut starter = std::process::Command::new(std::env::current_exe().unwrap())
        .args([START_AND_END, lab.folder.to_str().unwrap(), &lab.name])
        .spawn()
        .unwrap();
    let group = starter.id();
    assert!(starter.wait().unwrap().success());
    let state = lab.containers().state(&lab.name).unwrap();
    assert_eq!(state.status, Status::Running);
    let monitor = state.monitor.unwrap();
    let status = fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap();
    let session = status.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
    assert_eq!(session, monitor.to_string(), "a session of its own, not {group}'s");
    let open: Vec<_> = fs::read_dir(format!("/proc/{monitor}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("memfd:request"))
        .collect();
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(lab.output(&["id", "-u"]).1, "0\n");
}

fn powers_off() {
    let lab = Lab::new("poweroff");
    lab.start();
    let watch: Watch = lab.containers().watch(&lab.name).unwrap().unwrap();
    assert!(!watch.wait(Some(Duration::ZERO), &Cancel::never()).unwrap());
    lab.output(&["poweroff", "-f"]);
    assert!(watch.wait(Some(PATIENCE), &Cancel::never()).unwrap());
    assert_eq!(lab.containers().state(&lab.name).unwrap().status, Status::Stopped);
    assert!(lab.containers().watch(&lab.name).unwrap().is_none());
    // And again, from the same files.
    lab.start();
    lab.containers().shutdown(&lab.name, Some(PATIENCE), &Cancel::never()).unwrap();
    assert_eq!(lab.containers().state(&lab.name).unwrap().status, Status::Stopped);
}

/// The mount points of a process.
fn mounts_of(process: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

fn keeps_nothing_busy() {
    let lab = Lab::new("busy");
    // The root on a filesystem of its own, and one beside it that has nothing to do with the container.
    let (pool, beside) = (lab.folder.join("closed"), lab.folder.join("beside"));
    fs::create_dir(&beside).unwrap();
    let none = rustix::mount::MountFlags::empty();
    for target in [&pool, &beside] {
        rustix::mount::mount("pool", target, "tmpfs", none, c"mode=0700").unwrap();
    }
    make_root(&lab.root());
    lab.start();
    let state = lab.containers().state(&lab.name).unwrap();
    let (init, monitor) = (state.init.unwrap(), state.monitor.unwrap());
    let mounts = mounts_of(monitor);
    let here = lab.folder.to_str().unwrap();
    assert!(
        mounts.iter().any(|point| point.starts_with(here) && point.ends_with("/stage/root")),
        "{mounts:?}"
    );
    for other in [&pool, &beside] {
        assert!(!mounts.iter().any(|point| Path::new(point) == other.as_path()), "{mounts:?}");
    }
    assert!(!mounts_of(init).iter().any(|point| point.contains(here)), "{:?}", mounts_of(init));
    // A reboot of its own works without what was unmounted.
    lab.output(&["reboot", "-f"]);
    eventually("another init", || {
        let now = lab.containers().state(&lab.name).unwrap();
        assert_eq!(now.monitor.unwrap_or(monitor), monitor);
        now.status == Status::Running && now.init.is_some_and(|now| now != init)
    });
    assert_eq!(lab.output(&["id", "-u"]).1, "0\n");
    lab.containers().stop(&lab.name).unwrap();
    for target in [&pool, &beside] {
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

fn failing_start() {
    let lab = Lab::new("failing");
    fs::remove_file(lab.root().join("sbin/init")).unwrap();
    match lab.containers().start(&lab.spec(), &Cancel::never()) {
        Err(error @ RuntimeError::Failed { .. }) => {
            assert!(error.to_string().contains("/sbin/init"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let absent = ContainerSpec { root: lab.folder.join("absent"), ..lab.spec() };
    match lab.containers().start(&absent, &Cancel::never()) {
        Err(error @ RuntimeError::Failed { .. }) => assert!(error.to_string().contains("absent"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(lab.containers().state(&lab.name).unwrap().status, Status::Stopped);
}

/// The group of that name may be somebody else's, for as long as it likes.
fn failing_start_beside_another() {
    let lab = Lab::new("beside");
    fs::remove_file(lab.root().join("sbin/init")).unwrap();
    let top = Path::new("/sys/fs/cgroup");
    let tree =
        [top.to_owned(), top.join("unified")].into_iter().find(|tree| tree.join("cgroup.procs").exists());
    let other = tree.unwrap_or_else(|| top.join("systemd")).join(format!("lxc.payload.{}", lab.name));
    fs::create_dir_all(other.join("kept")).unwrap();
    let began = Instant::now();
    let answer = lab.containers().start(&lab.spec(), &Cancel::never());
    let took = began.elapsed();
    assert!(matches!(answer, Err(RuntimeError::Failed { .. })), "{answer:?}");
    assert!(other.join("kept").exists());
    fs::remove_dir(other.join("kept")).unwrap();
    // What liblxc named otherwise beside them, too.
    for left in leftovers(&lab.name) {
        fs::remove_dir(left).unwrap();
    }
    assert!(took < Duration::from_millis(2500), "it waited for what is not its own: {took:?}");
}

fn ignored_shutdown() {
    let lab = Lab::new("deaf");
    fs::remove_file(lab.root().join("sbin/init")).unwrap();
    let deaf = "#!/bin/sh\ntrap '' PWR\nwhile true; do sleep 1; done\n";
    fs::write(lab.root().join("sbin/init"), deaf).unwrap();
    fs::set_permissions(lab.root().join("sbin/init"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.start();
    let answer = lab.containers().shutdown(&lab.name, Some(Duration::from_secs(1)), &Cancel::never());
    assert!(matches!(answer, Err(RuntimeError::ShutdownTimedOut { .. })), "{answer:?}");
    let cancel = Cancel::new();
    cancel.cancel();
    let answer = lab.containers().shutdown(&lab.name, None, &cancel);
    assert!(matches!(answer, Err(RuntimeError::Cancelled)), "{answer:?}");
    assert_eq!(lab.containers().state(&lab.name).unwrap().status, Status::Running);
}

fn shifted_root() {
    let lab = Lab::new("shifted");
    let map = IdMap::simple(FIRST_ID, 65_536);
    let spec = ContainerSpec { idmapped_root: false, ..lab.spec() };
    assert!(check_reach(&lab.root(), &map).is_err(), "it works all the same");
    larder_runtime::shift::shift_tree(&lab.root(), Some(&map), &Cancel::never()).unwrap();
    lab.start_as(&spec);
    assert_eq!(lab.output(&["stat", "-c", "%u", "/etc/plain"]).1, "0\n");
    assert_eq!(lab.output(&["sh", "-c", "echo x > /etc/new"]).0, 0);
    assert_eq!(fs::metadata(lab.root().join("etc/new")).unwrap().uid(), FIRST_ID);
}

fn privileged() {
    let lab = Lab::new("privileged");
    let spec =
        ContainerSpec { privileged: true, nesting: true, idmap: None, idmapped_root: false, ..lab.spec() };
    let started = lab.start_as(&spec);
    assert_eq!(owner(started.init), 0);
    assert_eq!(lab.output(&["id", "-u"]).1, "0\n");
    let (_, status, _) = lab.output(&["cat", "/proc/1/status"]);
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    for (name, number) in [("sys_module", 16), ("sys_rawio", 17), ("sys_time", 25), ("mac_override", 32)] {
        assert_eq!(bounding & (1 << number), 0, "{name} is dropped");
    }
    // A device of the host can be made in the container's own /dev, but not opened.
    let (code, _, refused) =
        lab.output(&["sh", "-c", "busybox mknod /dev/kmem c 1 1 && busybox cat /dev/kmem"]);
    assert_ne!(code, 0);
    assert!(refused.contains("not permitted"), "{refused}");
}

fn console() {
    let lab = Lab::new("console");
    fs::write(lab.root().join("etc/inittab"), "::respawn:/bin/cat\n").unwrap();
    lab.start();
    let (master, _keeper) = lab.containers().console(&lab.name).unwrap().into_parts();
    let mut terminal = Talk { file: File::from(master), seen: String::new() };
    terminal.say("hello");
    terminal.until("hello");
    terminal.until("hello");
}
