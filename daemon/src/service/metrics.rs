//! What the daemon can tell in numbers: itself, and the S3 traffic of each bucket.

use super::s3::{LATENCIES, METHODS, Tally};
use super::{Result, Service};
use larder_catalog::documents::{Volume, WarningStatus};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;

/// What kind of numbers a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// What is so now.
    Gauge,
    /// What only grows.
    Counter,
    /// Counts of values by range.
    Histogram,
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What follows the family's name.
    pub suffix: &'static str,
    /// Names and values of labels.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// Numbers of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// The numbers.
    pub samples: Vec<Sample>,
}

impl Family {
    /// One without numbers yet.
    pub fn new(name: &'static str, help: &'static str, kind: MetricKind) -> Self {
        Self { name, help, kind, samples: Vec::new() }
    }

    /// Adds a number.
    pub fn add(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let suffix = if self.kind == MetricKind::Counter { "_total" } else { "" };
        self.add_as(suffix, labels, value);
    }

    fn add_as(&mut self, suffix: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push(Sample { suffix, labels, value });
    }

    /// The same with one number.
    #[must_use]
    pub fn with(mut self, value: f64) -> Self {
        self.add(&[], value);
        self
    }
}

/// The largest integers lose their last digits: a number in a metric is a float.
fn number(value: u64) -> f64 {
    value as f64
}

/// Labels, and one more.
fn and<'l>(
    labels: &[(&'static str, &'l str)],
    name: &'static str,
    value: &'l str,
) -> Vec<(&'static str, &'l str)> {
    [labels, &[(name, value)]].concat()
}

/// The families that have a number for each bucket.
struct OfBuckets {
    requests: Family,
    errors: Family,
    broken: Family,
    received: Family,
    sent: Family,
    latency: Family,
    objects: Family,
    used: Family,
    size: Family,
}

impl OfBuckets {
    fn new() -> Self {
        use MetricKind::{Counter, Gauge, Histogram};
        let of = Family::new;
        Self {
            requests: of("larder_bucket_requests", "S3 requests by method.", Counter),
            errors: of(
                "larder_bucket_errors",
                "S3 requests answered with an error, by whose it is.",
                Counter,
            ),
            broken: of(
                "larder_bucket_broken_answers",
                "S3 answers that did not reach the client whole.",
                Counter,
            ),
            received: of("larder_bucket_received_bytes", "Bytes of S3 requests' bodies.", Counter),
            sent: of("larder_bucket_sent_bytes", "Bytes of S3 answers' bodies.", Counter),
            latency: of(
                "larder_bucket_request_duration_seconds",
                "From an S3 request's first line to its answer's last byte.",
                Histogram,
            ),
            objects: of(
                "larder_bucket_objects",
                "Objects, with their versions, without delete markers.",
                Gauge,
            ),
            used: of("larder_bucket_used_bytes", "Bytes of objects, versions and unfinished uploads.", Gauge),
            size: of("larder_bucket_size_bytes", "Bytes the bucket may hold, where that is limited.", Gauge),
        }
    }

    fn add_traffic(&mut self, labels: &[(&'static str, &str); 3], tally: &Tally) {
        for (method, count) in METHODS.iter().zip(tally.requests) {
            self.requests.add(&and(labels, "method", method), number(count));
        }
        self.errors.add(&and(labels, "side", "client"), number(tally.client_errors));
        self.errors.add(&and(labels, "side", "server"), number(tally.server_errors));
        self.broken.add(labels, number(tally.broken));
        self.received.add(labels, number(tally.received));
        self.sent.add(labels, number(tally.sent));
        let mut so_far = 0;
        for (end, count) in LATENCIES.iter().zip(tally.latencies) {
            so_far += count;
            let end = end.as_secs_f64().to_string();
            self.latency.add_as("_bucket", &and(labels, "le", &end), number(so_far));
        }
        self.latency.add_as("_bucket", &and(labels, "le", "+Inf"), number(tally.all()));
        self.latency.add_as("_sum", labels, tally.took.as_secs_f64());
        self.latency.add_as("_count", labels, number(tally.all()));
    }

    fn into_families(self) -> Vec<Family> {
        let Self { requests, errors, broken, received, sent, latency, objects, used, size } = self;
        vec![requests, errors, broken, received, sent, latency, objects, used, size]
    }
}

impl Service {
    /// All numbers but those of operations, which are not the service's.
    pub fn metrics(&self) -> Result<Vec<Family>> {
        let mut families = self.own_metrics()?;
        families.extend(self.bucket_metrics()?);
        Ok(families)
    }

    fn own_metrics(&self) -> Result<Vec<Family>> {
        use MetricKind::{Counter, Gauge};
        let of = Family::new;
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let spent = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
        let mut warnings = of("larder_warnings", "Warnings that are not resolved, by severity.", Gauge);
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for warning in self.store().warnings()? {
            *counts.entry(warning.severity).or_default() +=
                u64::from(warning.status != WarningStatus::Resolved);
        }
        for (severity, count) in counts {
            warnings.add(&[("severity", &severity)], number(count));
        }
        let mut memory = of("larder_memory_resident_bytes", "Memory of the daemon.", Gauge);
        if let Some(resident) = resident() {
            memory.add(&[], number(resident));
        }
        Ok(vec![
            of("larder_uptime_seconds", "Since the daemon was started.", Gauge)
                .with(self.started.elapsed().as_secs_f64()),
            of("larder_cpu_seconds", "User and system time of the daemon.", Counter).with(spent),
            memory,
            warnings,
            of("larder_access_log_lost_lines", "Lines the S3 access log could not take in time.", Counter)
                .with(number(self.traffic.log.lost())),
        ])
    }

    /// A bucket that nobody has used in this run isn't opened for being counted: its objects are told of later.
    fn bucket_metrics(&self) -> Result<Vec<Family>> {
        let mut known = self.store().buckets()?;
        known.retain(|_, bucket| bucket.elsewhere.is_none());
        let volumes = self.store().volumes()?.into_iter().map(|record| record.volume);
        let buckets: Vec<Volume> = volumes.filter(|volume| known.contains_key(&volume.id)).collect();
        let pools: BTreeMap<_, _> =
            self.store().pools()?.into_iter().map(|pool| (pool.id, pool.name)).collect();
        let mut tallies = self.traffic.of(buckets.iter().map(|bucket| bucket.name.as_str()));
        let mut families = OfBuckets::new();
        for bucket in &buckets {
            let pool = pools.get(&bucket.pool).map_or("", String::as_str);
            let labels = [("project", bucket.project.as_str()), ("pool", pool), ("bucket", &bucket.name)];
            families.add_traffic(&labels, &tallies.remove(&bucket.name).unwrap_or_default());
            if let Some(size) = super::buckets::quota_of(&bucket.config)? {
                families.size.add(&labels, number(size.as_bytes()));
            }
            if let Some(open) = self.buckets.opened(bucket.id) {
                match open.usage() {
                    Ok(usage) => {
                        families.objects.add(&labels, number(usage.objects));
                        families.used.add(&labels, number(usage.bytes));
                    }
                    // One broken bucket hides no other, and least of all the daemon's own numbers.
                    Err(error) => tracing::warn!(bucket = bucket.name, %error, "a bucket can't be counted"),
                }
            }
        }
        families.add_traffic(
            &[("project", ""), ("pool", ""), ("bucket", "")],
            &tallies.remove("").unwrap_or_default(),
        );
        Ok(families.into_families())
    }
}

/// Bytes of memory this process has, as the kernel counts them, where it says so.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes << 10)
}
