//! What the S3 endpoint did for each bucket in this run, counted in memory.

use super::access_log::AccessLog;
use larder_s3::{Answered, Watcher};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// The methods that are counted by themselves; the last stands for all others.
pub(in crate::service) const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "other"];
/// The upper ends of the ranges that latencies are counted in.
pub(in crate::service) const LATENCIES: [Duration; 8] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// The requests of one bucket.
#[derive(Debug, Clone, Default)]
pub(in crate::service) struct Tally {
    /// By method.
    pub(in crate::service) requests: [u64; METHODS.len()],
    /// Answered with 4xx.
    pub(in crate::service) client_errors: u64,
    /// Answered with 5xx.
    pub(in crate::service) server_errors: u64,
    /// Whose answer did not get through whole.
    pub(in crate::service) broken: u64,
    /// Bytes of requests' bodies.
    pub(in crate::service) received: u64,
    /// Bytes of answers' bodies.
    pub(in crate::service) sent: u64,
    /// By the range they are in; those beyond the last are only in the sum.
    pub(in crate::service) latencies: [u64; LATENCIES.len()],
    /// All of them together.
    pub(in crate::service) took: Duration,
}

impl Tally {
    fn count(&mut self, answered: &Answered) {
        let method = METHODS.iter().position(|known| *known == answered.method.as_str());
        self.requests[method.unwrap_or(METHODS.len() - 1)] += 1;
        self.client_errors += u64::from(answered.status.is_client_error());
        self.server_errors += u64::from(answered.status.is_server_error());
        self.broken += u64::from(!answered.is_whole);
        self.received += answered.received;
        self.sent += answered.sent;
        self.took += answered.took;
        if let Some(range) = LATENCIES.iter().position(|end| answered.took <= *end) {
            self.latencies[range] += 1;
        }
    }

    /// How many requests there were.
    pub(in crate::service) fn all(&self) -> u64 {
        self.requests.iter().sum()
    }
}

/// Counts requests, and hands them to the access log.
#[derive(Debug)]
pub struct Traffic {
    /// By bucket. What names no bucket that was ever found is under no name: anybody can make names up.
    tallies: Mutex<HashMap<String, Tally>>,
    pub(in crate::service) log: AccessLog,
}

impl Traffic {
    pub(in crate::service) fn new(log: AccessLog) -> Self {
        Self { tallies: Mutex::default(), log }
    }

    /// What was counted for these buckets, and, under no name, for none of them. Other buckets are forgotten.
    pub(in crate::service) fn of<'n>(
        &self,
        buckets: impl Iterator<Item = &'n str>,
    ) -> HashMap<String, Tally> {
        let mut tallies = self.tallies.lock();
        let mut kept: HashMap<String, Tally> =
            buckets.map(|name| (name.to_owned(), tallies.remove(name).unwrap_or_default())).collect();
        kept.insert(String::new(), tallies.remove("").unwrap_or_default());
        tallies.clone_from(&kept);
        kept
    }
}

impl Watcher for Traffic {
    fn answered(&self, answered: Answered) {
        let mut tallies = self.tallies.lock();
        let name = answered.bucket.as_deref().unwrap_or_default();
        match tallies.get_mut(name) {
            Some(tally) => tally.count(&answered),
            None => {
                let known = if answered.status.as_u16() < 400 { name } else { "" };
                tallies.entry(known.to_owned()).or_default().count(&answered);
            }
        }
        drop(tallies);
        self.log.write(&answered);
    }
}
