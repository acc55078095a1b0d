//! How whoever serves learns that the daemon stops.

use std::time::Duration;
use tokio::sync::watch;

/// How long answers under way are waited for.
pub(crate) const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Pends until the daemon stops.
pub(crate) async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
    // An error means that the daemon's own end of it is gone: it stops.
    drop(stopping.wait_for(|stopping| *stopping).await);
}
