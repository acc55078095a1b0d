//! How far long work has come. The library reports numbers; only the edges turn them into text.

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a progress count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, volumes, snapshots.
    Items,
}

/// One report: how much of a named stage is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressReport {
    /// What is being done, a key such as `download` or `fs`.
    pub stage: &'static str,
    /// What it is done to, for people; may be empty.
    pub subject: String,
    /// How much is done.
    pub done: u64,
    /// How much there is, when that is known.
    pub total: Option<u64>,
    /// Average speed since the stage began, in units a second.
    pub per_second: u64,
    /// What is counted.
    pub unit: Unit,
}

type Sink = Arc<dyn Fn(ProgressReport) + Send + Sync>;

/// Where long work reports to; cloning shares it. At most about five reports a second get through, and
/// always the last of a stage.
#[derive(Clone, Default)]
pub struct Progress {
    sink: Option<Sink>,
    state: Arc<Mutex<Option<Stage>>>,
}

struct Stage {
    name: &'static str,
    began: Instant,
    reported: Instant,
}

const INTERVAL: Duration = Duration::from_millis(200);

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Progress").field("listened_to", &self.sink.is_some()).finish()
    }
}

impl Progress {
    /// Progress nobody listens to.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Progress handed to `sink`, which must be quick and must not block.
    pub fn to(sink: impl Fn(ProgressReport) + Send + Sync + 'static) -> Self {
        Self { sink: Some(Arc::new(sink)), state: Arc::default() }
    }

    /// Reports `done` of `total` in `stage`; drops reports that come too soon after the one before.
    pub fn report(&self, stage: &'static str, subject: &str, done: u64, total: Option<u64>, unit: Unit) {
        let Some(sink) = &self.sink else { return };
        let now = Instant::now();
        let began = {
            let mut state = self.state.lock();
            let current = state.get_or_insert(Stage { name: "", began: now, reported: now });
            let is_new = current.name != stage;
            if is_new {
                *current = Stage { name: stage, began: now, reported: now };
            }
            let is_last = total.is_some_and(|total| done >= total);
            if !is_new && !is_last && now.duration_since(current.reported) < INTERVAL {
                return;
            }
            current.reported = now;
            current.began
        };
        let millis = now.duration_since(began).as_millis().max(1);
        let per_second = u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX);
        sink(ProgressReport { stage, subject: subject.to_owned(), done, total, per_second, unit });
    }
}
