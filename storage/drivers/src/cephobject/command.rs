//! Command lines of `radosgw-admin(8)` as data. Secrets are never arguments, which every user of the machine can read, but go
//! through the environment.

use super::keys::Settings;
use crate::cluster::{PATIENCE, asked_of};
use larder_base::host::{Cmd, Tool};
use larder_storage_driver::ObjectKey;
use std::time::Duration;

pub(crate) const RADOSGW_ADMIN: Tool = Tool { name: "radosgw-admin", package: "radosgw" };
/// How long a start, for which others wait, may be held up by a cluster that does not answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// What looks at, or changes, a user.
pub(super) const QUICK: Duration = Duration::from_secs(90);
/// What touches every object of a bucket.
pub(super) const LONG: Duration = Duration::from_secs(24 * 3600);
/// So many buckets may a user make: one before its bucket is there, none after.
const ONE_BUCKET: &str = "--max-buckets=1";
const NO_MORE_BUCKETS: &str = "--max-buckets=-1";

impl Settings {
    fn asked(&self, cmd: Cmd, words: &[&str]) -> Cmd {
        let cmd = asked_of(cmd, &self.cluster, &self.user).args(words).limit(QUICK);
        match &self.configuration {
            Some(file) => cmd.env("CEPH_CONF", file),
            None => cmd,
        }
    }

    fn reads(&self, words: &[&str]) -> Cmd {
        self.asked(Cmd::reads(RADOSGW_ADMIN), words)
    }

    fn changes(&self, words: &[&str], user: &str) -> Cmd {
        self.asked(Cmd::changes(RADOSGW_ADMIN), words).arg(format!("--uid={user}"))
    }

    fn with_secret(cmd: Cmd, secret: &str) -> Cmd {
        // The last word of a variable counts.
        cmd.env("CEPH_ARGS", format!("{PATIENCE} --secret-key={secret}"))
    }

    /// The smallest thing that the cluster must answer.
    pub(super) fn zone(&self) -> Cmd {
        self.reads(&["zone", "get"]).limit(SIGN_OF_LIFE)
    }

    /// The names of all users.
    pub(super) fn users(&self) -> Cmd {
        self.reads(&["user", "list"])
    }

    /// A user with its keys.
    pub(super) fn user(&self, user: &str) -> Cmd {
        self.reads(&["user", "info"]).arg(format!("--uid={user}"))
    }

    /// The names of a user's buckets.
    pub(super) fn buckets(&self, user: &str) -> Cmd {
        self.reads(&["bucket", "list"]).arg(format!("--uid={user}"))
    }

    /// What a bucket holds.
    pub(super) fn bucket(&self, name: &str) -> Cmd {
        self.reads(&["bucket", "stats"]).arg(format!("--bucket={name}"))
    }

    /// A new user, which may make one bucket. The gateway gives it a key of its own.
    pub(super) fn create_user(&self, user: &str, shown: &str) -> Cmd {
        self.changes(&["user", "create", ONE_BUCKET], user).arg(format!("--display-name={shown}"))
    }

    /// A user makes no further bucket.
    pub(super) fn no_more_buckets(&self, user: &str) -> Cmd {
        self.changes(&["user", "modify", NO_MORE_BUCKETS], user)
    }

    /// A user that can do nothing, or can again.
    pub(super) fn suspend(&self, user: &str, is_suspended: bool) -> Cmd {
        self.changes(&["user", if is_suspended { "suspend" } else { "enable" }], user)
    }

    /// Removes a user without buckets, with its keys.
    pub(super) fn remove_user(&self, user: &str) -> Cmd {
        self.changes(&["user", "rm"], user)
    }

    /// A new subuser with its key.
    pub(super) fn create_subuser(&self, user: &str, subuser: &str, key: &ObjectKey) -> Cmd {
        let access =
            ["--key-type=s3".to_owned(), permission(key), format!("--access-key={}", key.access_key)];
        let cmd = self.changes(&["subuser", "create", "--subuser", subuser], user).args(access);
        Self::with_secret(cmd, &key.secret_key)
    }

    /// Another permission for a subuser.
    pub(super) fn change_subuser(&self, user: &str, subuser: &str, key: &ObjectKey) -> Cmd {
        self.changes(&["subuser", "modify", "--subuser", subuser], user).arg(permission(key))
    }

    /// Removes a subuser with its keys.
    pub(super) fn remove_subuser(&self, user: &str, subuser: &str) -> Cmd {
        self.changes(&["subuser", "rm", "--purge-keys", "--subuser", subuser], user)
    }

    /// A new key of a subuser, or another secret for one that it has.
    pub(super) fn set_key(&self, user: &str, subuser: &str, key: &ObjectKey) -> Cmd {
        let words = ["key", "create", "--key-type=s3", "--subuser", subuser];
        let cmd = self.changes(&words, user).arg(format!("--access-key={}", key.access_key));
        Self::with_secret(cmd, &key.secret_key)
    }

    /// Removes one key.
    pub(super) fn remove_key(&self, user: &str, access_key: &str) -> Cmd {
        self.changes(&["key", "rm", "--key-type=s3"], user).arg(format!("--access-key={access_key}"))
    }

    /// How many bytes each of a user's buckets may hold.
    pub(super) fn set_quota(&self, user: &str, bytes: u64) -> Cmd {
        self.changes(&["quota", "set", "--quota-scope=bucket"], user).arg(format!("--max-size={bytes}"))
    }

    /// Whether that counts.
    pub(super) fn enforce_quota(&self, user: &str, is_enforced: bool) -> Cmd {
        self.changes(&["quota", if is_enforced { "enable" } else { "disable" }, "--quota-scope=bucket"], user)
    }

    /// Removes a bucket with all that is in it.
    pub(super) fn remove_bucket(&self, user: &str, name: &str) -> Cmd {
        let cmd = self.changes(&["bucket", "rm", "--purge-objects"], user);
        cmd.arg(format!("--bucket={name}")).limit(LONG)
    }
}

fn permission(key: &ObjectKey) -> String {
    format!("--access={}", if key.may_write { "full" } else { "read" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolSetup;

    fn settings() -> Settings {
        let keys = [
            ("cephobject.radosgw.endpoint", "https://gate:8443/rgw/"),
            ("cephobject.bucket.name_prefix", "l-"),
        ];
        Settings::of(&PoolSetup::with_keys(&keys)).unwrap()
    }

    #[test]
    fn a_command_line_tells_no_secret() {
        let secret = "secret\"\\x";
        let key = ObjectKey {
            name: "k".to_owned(),
            may_write: true,
            access_key: "ACCESS".to_owned(),
            secret_key: secret.to_owned(),
        };
        let settings = settings();
        for cmd in [settings.create_subuser("u", "u:k", &key), settings.set_key("u", "u:k", &key)] {
            assert!(!cmd.to_string().contains("secret\""), "{cmd}");
        }
        assert_eq!(
            settings.create_subuser("u", "u:k", &key).to_string(),
            "radosgw-admin --cluster ceph --id admin subuser create --subuser u:k --uid=u --key-type=s3 --access=full \
             --access-key=ACCESS"
        );
    }
}
