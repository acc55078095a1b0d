//! A real Ceph object gateway with a cluster of its own, which `scripts/radosgw` starts where it is installed.

use crate::images::{MISSING, script};
use crate::s3::{Pair, S3};
use crate::server::{Larderd, skip};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A gateway. Stopped, and its folder removed, with the last of its users.
#[derive(Debug)]
pub struct Gateway {
    folder: tempfile::TempDir,
    told: HashMap<String, String>,
}

fn run(words: &[&str], environment: &[(&str, &str)]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the test runs the script as a person would")]
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{words:?} did not start: {error}"))
}

impl Gateway {
    /// The gateway of this test program, started by the first test that asks while no other has it. Where it can't be had, says
    /// that `test` is skipped.
    ///
    /// # Panics
    /// When it does not start.
    pub fn shared(test: &str) -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Gateway>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start(test)?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// One of its own.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(test, "needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("larder-radosgw-").tempdir_in("/var/tmp");
        let folder = folder.unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        let home = folder.path().join("cluster");
        let output =
            run(&[&script("radosgw").display().to_string(), "start", &home.display().to_string()], &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(MISSING) {
            skip(test, error.trim());
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "radosgw did not start: {text}{error}");
        let told = text.lines().filter_map(|line| line.split_once('='));
        Some(Self { told: told.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), folder })
    }

    /// What the script said of it: `RADOSGW`, `RADOSGW_TLS`, `RADOSGW_CERT`, `RADOSGW_KEYS`, `CEPH_CONF`.
    ///
    /// # Panics
    /// When it said nothing of the kind.
    pub fn told(&self, name: &str) -> &str {
        self.told.get(name).unwrap_or_else(|| panic!("the script does not tell {name}"))
    }

    /// What a daemon needs in its environment to find the cluster.
    pub fn environment(&self) -> [(&str, &str); 1] {
        [("CEPH_CONF", self.told("CEPH_CONF"))]
    }

    /// Where the gateway is, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.told("RADOSGW"))
    }

    /// What `radosgw-admin` answers, as a person asks it.
    ///
    /// # Panics
    /// When it fails.
    pub fn admin(&self, words: &[&str]) -> Value {
        let output = run(&[&["radosgw-admin"], words].concat(), &self.environment());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "radosgw-admin {words:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The names that a list of `radosgw-admin` has, those with `part` in them.
    ///
    /// # Panics
    /// When it fails.
    pub fn names(&self, words: &[&str], part: &str) -> Vec<String> {
        let listed = self.admin(words);
        let names = listed.as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut names: Vec<_> = names.filter(|name| name.contains(part)).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Makes a daemon of the cluster, by its name, answer nobody; or lets it go on. That of the gateway is `client.rgw`.
    ///
    /// # Panics
    /// When it is not there.
    pub fn hold(&self, name: &str, is_held: bool) {
        let file = self.folder.path().join(format!("cluster/run/{name}.pid"));
        let pid = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap_or_else(|| panic!("no {name}"));
        let signal = if is_held { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        rustix::process::kill_process(pid, signal).unwrap_or_else(|error| panic!("no {name}: {error}"));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let home = self.folder.path().join("cluster").display().to_string();
        run(&[&script("radosgw").display().to_string(), "stop", &home], &[]);
    }
}

/// The buckets of a [`GatewayWorld`].
pub const REMOTE_BUCKETS: &str = "/1.0/storage-pools/remote/buckets";

/// A daemon with a pool at the gateway whose buckets' names begin with `prefix`, so that tests don't meet.
#[derive(Debug)]
pub struct GatewayWorld {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The daemon.
    pub daemon: Larderd,
    /// What the names of its buckets begin with at the gateway.
    pub prefix: &'static str,
}

impl GatewayWorld {
    /// One at the gateway that the tests share; says that `test` is skipped where there is none.
    ///
    /// # Panics
    /// When gateway or daemon don't start.
    pub fn new(test: &str, prefix: &'static str) -> Option<Self> {
        Some(Self::at(Gateway::shared(test)?, prefix))
    }

    /// One at a gateway that no other test uses.
    ///
    /// # Panics
    /// When gateway or daemon don't start.
    pub fn of_its_own(test: &str, prefix: &'static str) -> Option<Self> {
        Some(Self::at(Arc::new(Gateway::start(test)?), prefix))
    }

    fn at(gateway: Arc<Gateway>, prefix: &'static str) -> Self {
        let daemon = Larderd::start_with(&gateway.environment());
        let world = Self { gateway, daemon, prefix };
        world.make_pool("remote");
        world
    }

    /// Makes another pool there.
    ///
    /// # Panics
    /// When that is refused.
    pub fn make_pool(&self, name: &str) {
        let config = json!({
            "cephobject.radosgw.endpoint": self.gateway.url(), "cephobject.bucket.name_prefix": self.prefix,
        });
        let pool = json!({ "name": name, "driver": "cephobject", "config": config });
        self.daemon.change("POST", "/1.0/storage-pools", &pool);
    }

    /// Makes a bucket; its admin key.
    ///
    /// # Panics
    /// When that is refused.
    pub fn bucket(&self, name: &str, size: &str) -> Pair {
        let body = json!({ "name": name, "config": { "size": size } });
        Pair::of(&self.daemon.change("POST", REMOTE_BUCKETS, &body))
    }

    /// Somebody with a key, at the gateway.
    pub fn s3(&self, pair: &Pair) -> S3 {
        S3::at(&self.gateway.url(), pair.clone())
    }

    /// Where an object is at the gateway; the key is encoded.
    pub fn object(&self, bucket: &str, key: &str) -> String {
        format!("{}{bucket}/{key}", self.prefix)
    }

    /// What the gateway has of this world: users and buckets.
    ///
    /// # Panics
    /// When that can't be told.
    pub fn at_the_gateway(&self) -> (Vec<String>, Vec<String>) {
        let pool = self.daemon.read("/1.0/storage-pools/remote");
        let identity = pool["config"]["volatile.pool.identity"].as_str().unwrap_or_default().to_owned();
        (
            self.gateway.names(&["user", "list"], &identity),
            self.gateway.names(&["bucket", "list"], self.prefix),
        )
    }
}
