//! The real `larderd` on a scratch folder.

use crate::http::{Reply, request};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long an operation may take in a guest, which is slow.
const OPERATION_LIMIT: Duration = Duration::from_secs(900);
/// The status of an operation that goes on.
const RUNNING: u64 = 103;

/// Where a program of this workspace was built.
///
/// # Panics
/// When it was not: `make test` builds it first.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.ancestors().nth(2).unwrap_or(Path::new("."));
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: run `make test`, or `cargo build --bins` first", path.display());
    path
}

/// Says that a test can't run here, and why: the test runner counts these lines.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Whether all `programs` are installed; says what is missing otherwise.
pub fn require(test: &str, programs: &[&str]) -> bool {
    let folders = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    let is_there = |name: &&str| folders.iter().any(|folder| Path::new(folder).join(name).exists());
    let missing: Vec<&str> = programs.iter().filter(|name| !is_there(name)).copied().collect();
    if !missing.is_empty() {
        skip(test, &format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// A running daemon. Stopped, and its scratch folder removed, when this is dropped.
#[derive(Debug)]
pub struct Larderd {
    folder: Folder,
    child: Option<Child>,
}

/// Where a daemon has all it keeps.
#[derive(Debug)]
enum Folder {
    /// Goes with the daemon.
    Scratch(tempfile::TempDir),
    /// Stays.
    Given(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Scratch(folder) => folder.path(),
            Self::Given(folder) => folder,
        }
    }
}

impl Larderd {
    /// Starts one on an empty folder, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one on an empty folder with environment variables, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("larder-test-").tempdir_in("/var/tmp");
        let folder = folder.unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        // Containers' roots must be able to pass through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        let _ = std::fs::set_permissions(folder.path(), open);
        let mut daemon = Self { folder: Folder::Scratch(folder), child: None };
        daemon.spawn(environment);
        daemon
    }

    /// Starts one on a folder that may have been another's before and that stays, and waits until it is ready.
    pub fn start_in(folder: &Path) -> Self {
        let mut daemon = Self { folder: Folder::Given(folder.to_owned()), child: None };
        daemon.spawn(&[]);
        daemon
    }

    /// Starts it (again) with environment variables, and waits until it is ready.
    pub fn spawn(&mut self, environment: &[(&str, &str)]) {
        self.launch(environment);
        self.wait_until_it_answers();
    }

    /// Starts it without waiting.
    pub fn launch(&mut self, environment: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("larderd.log"));
        let log = log.unwrap_or_else(|error| panic!("no log: {error}"));
        #[expect(clippy::disallowed_methods, reason = "the test starts the daemon as a person would")]
        let child = std::process::Command::new(program("larderd"))
            .env("LARDER_DIR", self.directory())
            .env("LARDER_LOG", "debug")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("larderd did not start: {error}")));
    }

    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while request(&self.socket(), "GET", "/internal/ready", &[], b"").is_err() {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("larderd ended ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "larderd did not answer within 30 s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its state folder.
    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A scratch folder beside its state.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory().join("unix.socket")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.folder.path().join("larderd.log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it has ended by itself. Returns whether it did within the time.
    pub fn wait_for_its_end(&mut self, limit: Duration) -> bool {
        let Some(child) = self.child.as_mut() else { return true };
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                self.child = None;
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Asks it to end and waits.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = child.wait();
        }
    }

    /// One request with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("Content-Type", "application/json")];
        request(&self.socket(), method, path, &headers, &body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()))
    }

    /// GET.
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null)
    }

    /// The metadata of a GET that must succeed.
    pub fn read(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.error());
        reply.metadata()
    }

    /// A change that must succeed; an asynchronous one is waited for. Returns the reply's or the operation's metadata.
    pub fn change(&self, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.send(method, path, body);
        self.finish(&reply).unwrap_or_else(|error| panic!("{method} {path} {body}: {error}\n{}", self.log()))
    }

    /// A change that must fail, at once or as an operation. Returns code and text.
    pub fn refuse(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let reply = self.send(method, path, body);
        if reply.status >= 400 {
            return (reply.status, reply.error());
        }
        match self.finish(&reply) {
            Err(error) => (reply.status, error),
            Ok(value) => panic!("{method} {path} {body} should have failed: {value}"),
        }
    }

    /// Waits for what a reply began.
    pub fn finish(&self, reply: &Reply) -> Result<Value, String> {
        match reply.status {
            200 | 201 => Ok(reply.metadata()),
            202 => {
                let operation = reply.json()["operation"].as_str().unwrap_or_default().to_owned();
                let deadline = Instant::now() + OPERATION_LIMIT;
                loop {
                    let seen = self.get(&format!("{operation}/wait?timeout=60")).metadata();
                    match seen["status_code"].as_u64() {
                        Some(200) => return Ok(seen["metadata"].clone()),
                        Some(RUNNING) if Instant::now() < deadline => {}
                        _ => return Err(seen["err"].as_str().unwrap_or("no error text").to_owned()),
                    }
                }
            }
            status => Err(format!("{status}: {}", reply.error())),
        }
    }

    /// Makes a dir pool.
    pub fn make_pool(&self, name: &str) {
        self.change("POST", "/1.0/storage-pools", &json!({ "name": name, "driver": "dir", "config": {} }));
    }
}

impl Larderd {
    /// Deletes what a test that failed has left running: containers outlive their daemon.
    fn delete_instances(&self) {
        let Ok(listed) = request(&self.socket(), "GET", "/1.0/instances?all-projects=true", &[], b"") else {
            return;
        };
        for url in listed.metadata().as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mark = if url.contains('?') { '&' } else { '?' };
            let Ok(reply) = request(&self.socket(), "DELETE", &format!("{url}{mark}force=1"), &[], b"")
            else {
                return;
            };
            if let Some(operation) = reply.json()["operation"].as_str() {
                let _ = request(&self.socket(), "GET", &format!("{operation}/wait?timeout=20"), &[], b"");
            }
        }
    }
}

impl Larderd {
    /// Where something is mounted below its folder, the innermost first.
    pub fn mounts(&self) -> Vec<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
        points.filter(|point| Path::new(point).starts_with(self.folder.path())).map(str::to_owned).collect()
    }

    /// Unmounts all that is mounted below its folder, as a restart of the machine would.
    pub fn unmount(&self) {
        for point in self.mounts() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }

    /// Unmounts what a daemon that was killed has left mounted below its folder, and frees its loop devices.
    fn release(&self) {
        self.unmount();
        for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if Path::new(file.trim()).starts_with(self.folder.path()) {
                let device = Path::new("/dev").join(entry.file_name());
                #[expect(clippy::disallowed_methods, reason = "the test cleans up as a person would")]
                let _ = std::process::Command::new("losetup").arg("--detach").arg(device).status();
            }
        }
    }
}

impl Drop for Larderd {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            self.delete_instances();
        }
        self.stop();
        self.release();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), tail.join("\n").as_bytes());
        }
    }
}
