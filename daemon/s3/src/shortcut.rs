//! Short looks into the index from where connections are served. A step to a thread that may block, and back, costs more
//! than a look that finds its pages in memory, as nearly all do. One that has to wait for a disk holds up its thread: so only
//! as many take the shortcut at once as leave a thread for everybody else. The others wait a moment for their turn, and take
//! the step when it does not come.

use crate::blocking::{Panicked, in_turn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a turn is waited for: a look takes some ten microseconds, unless it waits for a disk.
const MOMENT: Duration = Duration::from_millis(2);

/// How many threads that serve connections are in such work.
static HERE: AtomicUsize = AtomicUsize::new(0);
/// Told when one of them leaves it.
static LEFT: Notify = Notify::const_new();

/// One of them, until it is dropped.
struct Slot;

impl Slot {
    /// One of so many, if there is one left.
    fn take(most: usize) -> Option<Self> {
        let taken =
            HERE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |here| (here < most).then_some(here + 1));
        taken.ok().map(|_| Self)
    }

    /// The same, waiting for one.
    async fn wait(most: usize) -> Self {
        loop {
            if let Some(slot) = Self::take(most) {
                return slot;
            }
            LEFT.notified().await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        HERE.fetch_sub(1, Ordering::AcqRel);
        LEFT.notify_one();
    }
}

/// Does work that blocks shortly, if at all.
pub(crate) async fn shortly<T, W>(work: W) -> Result<T, Panicked>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let most = Handle::current().metrics().num_workers().saturating_sub(1);
    let slot = match Slot::take(most) {
        None if most > 0 => timeout(MOMENT, Slot::wait(most)).await.ok(),
        taken => taken,
    };
    match slot {
        Some(_slot) => Ok(work()),
        None => in_turn(work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn work_that_hangs_leaves_a_thread_to_serve_and_the_rest_takes_the_step() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (go_on, until) = channel::<()>();
        let (begun, has_begun) = channel();
        let hanging = runtime.spawn(shortly(move || {
            let _ = begun.send(std::thread::current().name().map(str::to_owned));
            until.recv()
        }));
        let first = has_begun.recv_timeout(Duration::from_secs(10)).expect("it runs");
        let other = runtime.spawn(shortly(|| std::thread::current().id()));
        let seen = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), other).await });
        assert!(seen.is_ok_and(|joined| joined.is_ok()), "beside {first:?} nothing else ran");
        drop(go_on);
        let hung = runtime.block_on(hanging).expect("it ends").expect("it does not panic");
        assert!(hung.is_err(), "nobody said anything");
        assert_eq!(HERE.load(Ordering::Acquire), 0);
    }
}
