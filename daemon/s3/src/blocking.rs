//! Work that may block, beside the threads that serve connections.

use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

/// How much work of the endpoint is on such threads at once: three quarters of what the runtime has, which is more than one key may ask
/// for; so buckets that stand still, or clients that go away and leave their work behind, take no thread from all else.
static TURNS: Semaphore = Semaphore::const_new(384);

/// The work ended without an outcome. What it said is in the daemon's log.
#[derive(Debug, Error)]
#[error("the work panicked")]
pub struct Panicked;

/// Does work on a thread that may block. It is done to its end, also when nobody waits for it any more.
///
/// The runtime makes some kilobytes of code for each type of task, which is why all work here is of one type.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    let (told, outcome) = oneshot::channel();
    begin(Box::new(move || drop(told.send(work()))));
    outcome.await.map_err(|_| Panicked)
}

/// The same for the endpoint's own work, of which so much is done at once.
pub(crate) async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let turn = TURNS.acquire().await.map_err(|_| Panicked)?;
    blocking(move || {
        let _turn = turn;
        work()
    })
    .await
}

/// Begins work on a thread that may block, and does not wait for it.
pub fn begin(work: Box<dyn FnOnce() + Send>) {
    drop(tokio::task::spawn_blocking(work));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_told_of() {
        assert_eq!(blocking(|| 1).await.ok(), Some(1));
        assert!(blocking(|| panic!("on purpose")).await.is_err());
    }
}
