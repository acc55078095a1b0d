//! What `radosgw-admin` and the gateway say, as types. Pure: text in, types out.

use larder_base::host::HostError;
use larder_storage_driver::{ErrorKind, Result, StorageError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A user. No `Debug`: it has secrets.
#[derive(Deserialize)]
pub(super) struct User {
    suspended: i64,
    max_buckets: i64,
    subusers: Vec<Subuser>,
    pub(super) keys: Vec<Key>,
    bucket_quota: BucketQuota,
}

#[derive(Deserialize)]
pub(super) struct Subuser {
    pub(super) id: String,
    permissions: String,
}

/// A key pair, and which user or subuser has it.
#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) user: String,
    pub(super) access_key: String,
    pub(super) secret_key: String,
}

#[derive(Deserialize)]
struct BucketQuota {
    enabled: bool,
    max_size: i64,
}

impl User {
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended != 0
    }

    /// Whether it may make a bucket.
    pub(super) fn may_make_buckets(&self) -> bool {
        self.max_buckets >= 0
    }

    pub(super) fn subusers(&self) -> impl Iterator<Item = &str> {
        self.subusers.iter().map(|subuser| subuser.id.as_str())
    }

    /// Whether a subuser may do everything, or only read; `None` when it is not there. What is neither is told as the other
    /// than `wanted`, so that it is put right.
    pub(super) fn may_write(&self, subuser: &str, wanted: bool) -> Option<bool> {
        let found = self.subusers.iter().find(|one| one.id == subuser)?;
        Some(match found.permissions.as_str() {
            "full-control" => true,
            "read" => false,
            _ => !wanted,
        })
    }

    /// The bytes that each of its buckets may hold.
    pub(super) fn quota(&self) -> Option<u64> {
        let bytes = u64::try_from(self.bucket_quota.max_size).ok();
        bytes.filter(|_| self.bucket_quota.enabled)
    }
}

#[derive(Deserialize)]
struct Stats {
    owner: String,
    #[serde(default)]
    usage: BTreeMap<String, Category>,
}

#[derive(Deserialize)]
struct Category {
    #[serde(default)]
    size: u64,
}

/// Reads `radosgw-admin user list` and `radosgw-admin bucket list --uid=U`: names.
pub(super) fn read_names(text: &str) -> Result<Vec<String>> {
    read("radosgw-admin list", text)
}

/// Reads `radosgw-admin user info --uid=U`.
pub(super) fn read_user(text: &str) -> Result<User> {
    read("radosgw-admin user info", text)
}

/// Reads `radosgw-admin bucket stats --bucket=B`: whose it is, and its bytes.
pub(super) fn read_stats(text: &str) -> Result<(String, u64)> {
    let stats: Stats = read("radosgw-admin bucket stats", text)?;
    Ok((stats.owner, stats.usage.values().map(|category| category.size).sum()))
}

fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    // No excerpt goes into the error: there are secrets in it.
    serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        StorageError::new(
            ErrorKind::Unexpected,
            format!("the output of {what} can't be understood at {place}"),
        )
    })
}

/// Why `radosgw-admin` refused, where a caller can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user, subuser, key or bucket is not there.
    Missing,
    /// The user is there already.
    Exists,
    /// Somebody has the access key.
    KeyIsTaken,
    /// The cluster does not answer, or lets us not in.
    Unreachable,
}

/// What a failed command tells: `radosgw-admin` has few exit codes for many things, so its words count first.
pub(super) fn refusal(error: &HostError) -> Option<Refusal> {
    let (code, stderr) = match error {
        HostError::TimedOut { .. } => return Some(Refusal::Unreachable),
        HostError::Failed { code, stderr, .. } => (*code, stderr),
        _ => return None,
    };
    let says = |words: &[&str]| words.iter().any(|words| stderr.contains(words));
    if says(&["existing S3 key in RGW system"]) {
        Some(Refusal::KeyIsTaken)
    } else if says(&["could not create user"]) && says(&[" exists"]) {
        Some(Refusal::Exists)
    } else if says(&[
        "no user info saved",
        "could not find user",
        "user does not exist",
        "user not found",
        "subuser not found",
        "unable to find access key",
        "(2002) Unknown error 2002",
        "could not get bucket info for bucket",
    ]) {
        Some(Refusal::Missing)
    } else if says(&[
        "failed to fetch mon config",
        "couldn't init storage provider",
        "Connection timed out",
        "timed out",
    ]) || code == Some(110)
    {
        Some(Refusal::Unreachable)
    } else {
        None
    }
}

/// What the gateway answered to the making of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// It is there, and its user's.
    Ours,
    /// Somebody else has one of that name.
    Taken,
    /// Something else: the status and the code.
    Refused(String),
}

/// Reads what [`make_bucket`](super::keys::Settings::make_bucket) prints: the body, and the status on a line of its own.
pub(super) fn read_made(text: &str) -> Made {
    let (body, status) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim()));
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map_or("", |(code, _)| code);
    match (status, code) {
        ("200", _) | (_, "BucketAlreadyOwnedByYou") => Made::Ours,
        (_, "BucketAlreadyExists") => Made::Taken,
        (status, code) => Made::Refused(format!("{status} {}", &code.chars().take(80).collect::<String>())),
    }
}

/// Whether curl could not talk to the gateway at all, by its exit code: no address, no connection, no answer in time, no TLS.
pub(super) fn is_out_of_reach(error: &HostError) -> bool {
    match error {
        HostError::TimedOut { .. } => true,
        HostError::Failed { code, .. } => {
            code.is_some_and(|code| matches!(code, 5..=7 | 28 | 35 | 52 | 55 | 56 | 60 | 77))
        }
        _ => false,
    }
}

/// Whether curl was told this status.
pub(super) fn is_status(error: &HostError, status: &str) -> bool {
    matches!(error, HostError::Failed { code: Some(22), stderr, .. } if stderr.ends_with(&format!("error: {status}")))
}
