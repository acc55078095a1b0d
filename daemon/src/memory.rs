//! Memory: few arenas, and what is only held to be quick is given back once nobody asks for anything.

use crate::service::Service;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long nobody must have asked for anything.
const QUIET: Duration = Duration::from_millis(500);

/// Sets the allocator up for so many threads that serve connections: each has an arena to itself, since waiting for each other
/// costs more than what they do, and the rest shares one. Every arena keeps what its threads once needed, so there are no more.
/// Before the first thread is started; they get their arenas in the order of their first needs.
pub(crate) fn prepare(workers: usize) {
    let arenas = i32::try_from(workers + 1).unwrap_or(i32::MAX);
    // SAFETY: mallopt changes the allocator's own parameters only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
        // Each thread keeps some small pieces at hand anyway. More of them are joined when they are freed, and not all at
        // once, again and again, whenever a large piece is.
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Gives memory back each time requests came and then none for a while.
pub(crate) async fn give_back_when_quiet(service: Arc<Service>, asked: Arc<Notify>) {
    loop {
        while tokio::time::timeout(QUIET, asked.notified()).await.is_ok() {}
        let service = Arc::clone(&service);
        if let Err(error) = tokio::task::spawn_blocking(move || give_back(&service)).await {
            tracing::error!(%error, "giving memory back panicked");
        }
        asked.notified().await;
    }
}

fn give_back(service: &Service) {
    service.rest();
    // SAFETY: malloc_trim takes the allocator's own locks.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::malloc_trim(0) };
}
