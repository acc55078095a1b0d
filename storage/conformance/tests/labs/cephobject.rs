//! cephobject for real: an object gateway with a cluster of its own, which `scripts/radosgw` starts and ends.

use larder_storage_conformance::ObjectLab;
use larder_storage_driver::{Config, Driver, Result};
use larder_storage_drivers::{PoolSetup, load};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// The lab's name.
pub(crate) const NAME: &str = "cephobject";

/// What starts and ends a gateway: the script of these sources, or in the folder that `LARDER_SCRIPTS` names where they are not.
fn script() -> String {
    let folder = std::env::var("LARDER_SCRIPTS");
    let folder = folder.unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts").to_owned());
    format!("{folder}/radosgw")
}

/// The lab; the gateway ends with it.
#[derive(Debug)]
pub(crate) struct GatewayLab {
    folder: tempfile::TempDir,
    endpoint: String,
    access_key: String,
    configuration: String,
}

fn output(
    program: &str,
    words: &[&str],
    environment: &[(&str, &str)],
) -> std::result::Result<Output, String> {
    #[expect(clippy::disallowed_methods, reason = "the test asks as a person would")]
    let output = Command::new(program).args(words).envs(environment.iter().copied()).output();
    output.map_err(|error| format!("{program}: {error}"))
}

/// The programs, with their version.
pub(crate) fn tools() -> Vec<String> {
    let said = output("radosgw-admin", &["--version"], &[]).map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
}

impl GatewayLab {
    /// Starts a gateway. Fails with the reason why this machine can't have one.
    pub(crate) fn start() -> std::result::Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        let folder = tempfile::Builder::new().prefix("larder-radosgw-").tempdir_in("/var/tmp");
        let folder = folder.map_err(|error| error.to_string())?;
        let home = folder.path().join("cluster").display().to_string();
        let started = output(&script(), &["start", &home], &[])?;
        if !started.status.success() {
            return Err(String::from_utf8_lossy(&started.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&started.stdout).into_owned();
        let told = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).ok_or_else(|| format!("radosgw does not tell {name}"))
        };
        let access_key = told("RADOSGW_KEYS")?.split(':').next().unwrap_or_default().to_owned();
        let endpoint = format!("http://{}", told("RADOSGW")?);
        let configuration = told("CEPH_CONF")?;
        Ok(Self { folder, endpoint, access_key, configuration })
    }

    fn admin(&self, words: &[&str]) -> Value {
        let said = output("radosgw-admin", words, &[("CEPH_CONF", &self.configuration)]);
        let said = said.unwrap_or_else(|error| panic!("{error}"));
        let error = String::from_utf8_lossy(&said.stderr);
        serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("radosgw-admin {words:?}: {error}"))
    }

    fn names(&self, words: &[&str]) -> Vec<String> {
        let listed = self.admin(words);
        listed.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn load(&self, config: Config) -> Result<Box<dyn Driver>> {
        let root: &Path = self.folder.path();
        load(
            NAME,
            PoolSetup {
                name: "pool0".parse()?,
                root: root.join("pool"),
                disks: root.join("disks"),
                ceph_conf: Some(self.configuration.clone().into()),
                config,
            },
        )
    }
}

impl ObjectLab for GatewayLab {
    fn name(&self) -> &str {
        NAME
    }

    fn driver(&self) -> Result<Box<dyn Driver>> {
        self.load(Config::from([("cephobject.radosgw.endpoint".to_owned(), self.endpoint.clone())]))
    }

    fn again(&self, driver: &dyn Driver) -> Result<Box<dyn Driver>> {
        self.load(driver.recorded_config())
    }

    /// Each user with what it may and has; the marks of buckets are as the trials give them, so all worlds spell alike.
    fn seen(&self, driver: &dyn Driver) -> Vec<String> {
        let identity = driver.recorded_config()["volatile.pool.identity"].clone();
        let users = self.names(&["user", "list"]).into_iter().filter(|user| user.contains(&identity));
        let describe = |user: String| {
            let uid = format!("--uid={user}");
            let (info, buckets) =
                (self.admin(&["user", "info", &uid]), self.names(&["bucket", "list", &uid]));
            let sorted = |list: &Value| {
                let mut texts: Vec<_> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
                texts.sort();
                texts.join(" ")
            };
            let (keys, subusers) = (sorted(&info["keys"]), sorted(&info["subusers"]));
            let (quota, enabled) = (&info["bucket_quota"]["max_size"], &info["bucket_quota"]["enabled"]);
            let rest = (&info["suspended"], &info["max_buckets"]);
            let held =
                buckets.iter().map(|bucket| self.admin(&["bucket", "list", &format!("--bucket={bucket}")]));
            let name = |object: &Value| {
                Some(format!("{} {}", object["name"].as_str()?, object["meta"]["etag"].as_str()?))
            };
            let held: Vec<_> = held
                .flat_map(|list| list.as_array().into_iter().flatten().filter_map(name).collect::<Vec<_>>())
                .collect();
            format!("{user}: {keys} {subusers} {quota} {enabled} {rest:?} {buckets:?} {held:?}")
                .replace(&identity, "pool")
        };
        // The gateway has users in no order that would be the same for all worlds.
        let mut seen: Vec<_> = users.map(describe).collect();
        seen.sort();
        seen
    }

    fn taken_key(&self) -> String {
        self.access_key.clone()
    }
}

impl Drop for GatewayLab {
    fn drop(&mut self) {
        let home = self.folder.path().join("cluster").display().to_string();
        let _ = output(&script(), &["stop", &home], &[]);
    }
}
