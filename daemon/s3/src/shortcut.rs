//! Short looks into the index from where connections are served. A step to a thread that may block, and back, costs more
//! than a look that finds its pages in memory, as nearly all do. One that has to wait for a disk holds up its thread: so only
//! as many take the shortcut at once as leave a thread for everybody else, and the others take the step.

use crate::blocking::{Panicked, blocking};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;

/// How many threads that serve connections are in such work.
static HERE: AtomicUsize = AtomicUsize::new(0);

/// One of them, until it is dropped.
struct Slot;

impl Slot {
    fn take() -> Option<Self> {
        let most = Handle::current().metrics().num_workers().saturating_sub(1);
        let taken =
            HERE.fetch_update(Ordering::AcqRel, Ordering::Acquire, |here| (here < most).then_some(here + 1));
        taken.ok().map(|_| Self)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        HERE.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Does work that blocks shortly, if at all.
pub(crate) async fn shortly<T, W>(work: W) -> Result<T, Panicked>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    match Slot::take() {
        Some(_slot) => Ok(work()),
        None => blocking(work).await,
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
