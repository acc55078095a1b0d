//! Steps with a deadline, for storage that is not on this machine: the kernel waits for it as long as it takes.

use larder_base::Cancel;
use larder_base::host::Act;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Does a step in a thread of its own and goes on without it when it takes longer than `limit`: what the kernel waits for
/// can't be stopped, only left behind. It may still happen later.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<A> {
    /// The step.
    pub(crate) act: A,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl<A: Act + Clone + 'static> Act for Bounded<A> {
    fn describe(&self) -> String {
        self.act.describe()
    }

    fn apply(&self, cancel: &Cancel) -> io::Result<()> {
        let (act, cancel) = (self.act.clone(), cancel.clone());
        within(self.limit, move || act.apply(&cancel))
    }
}

/// Does `work` in a thread of its own and waits for it at most `limit`; fails with `TimedOut` after that.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("bounded".to_owned()).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(work());
    })?;
    receiver.recv_timeout(limit).unwrap_or_else(|error| match error {
        mpsc::RecvTimeoutError::Timeout => {
            let message = format!("no answer within {} s", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
        mpsc::RecvTimeoutError::Disconnected => Err(io::Error::other("the step panicked")),
    })
}

/// Tries `work` again for at most `limit` as long as what comes of it is `too_early`; gives what came last.
pub(crate) fn patiently<T>(
    limit: Duration,
    mut work: impl FnMut() -> T,
    too_early: impl Fn(&T) -> bool,
) -> T {
    let (since, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let outcome = work();
        if since.elapsed() >= limit || !too_early(&outcome) {
            return outcome;
        }
        std::thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::FsAct;

    #[test]
    fn what_takes_too_long_is_left_behind() {
        let (release, held) = mpsc::channel::<()>();
        let stuck = within(Duration::from_millis(20), move || Ok(held.recv().is_ok()));
        assert_eq!(stuck.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(release);
        assert_eq!(within(Duration::from_secs(60), || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn what_is_too_early_is_tried_again_until_it_is_too_late() {
        let mut tries = 0;
        let mut work = || {
            tries += 1;
            tries
        };
        assert_eq!(patiently(Duration::from_secs(60), &mut work, |tried| *tried < 3), 3);
        assert_eq!(patiently(Duration::ZERO, &mut work, |_| true), 4);
    }

    #[test]
    fn a_step_says_what_it_is_and_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let act = FsAct::NewDirectory { path: path.clone(), mode: 0o700 };
        let bounded = Bounded { act: act.clone(), limit: Duration::from_secs(60) };
        assert_eq!(bounded.describe(), act.describe());
        bounded.apply(&Cancel::never()).unwrap();
        assert!(path.is_dir());
        assert_eq!(bounded.apply(&Cancel::never()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
