//! Work that finds more work, done by a few threads: a tree of folders, each of which tells of further ones.

use parking_lot::{Condvar, Mutex};
use std::io;

/// What waits to be done, and how many are at it. The newest goes first, so that of a tree little waits at a time.
#[derive(Debug)]
pub struct Crew<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: Vec<T>,
    busy: usize,
    failure: Option<io::Error>,
}

impl<T: Send> Crew<T> {
    /// Does `first` and all that is [added](Crew::add) while it is done, by up to `threads` threads; the caller's is one of
    /// them, and the only one until there is work for two. The first failure ends it: what waits then is dropped.
    pub fn run(threads: usize, first: T, work: impl Fn(&Self, T) -> io::Result<()> + Sync) -> io::Result<()> {
        let state = State { waiting: vec![first], busy: 0, failure: None };
        let crew = Self { state: Mutex::new(state), changed: Condvar::new() };
        while crew.waiting() == 1 {
            crew.do_next(&work);
        }
        let helpers = if crew.waiting() > 1 { threads.saturating_sub(1) } else { 0 };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| while crew.do_next(&work) {});
            }
            while crew.do_next(&work) {}
        });
        match crew.state.into_inner().failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Adds work, for whoever is free.
    pub fn add(&self, item: T) {
        self.state.lock().waiting.push(item);
        self.changed.notify_one();
    }

    /// Whether some of the work has failed: the rest is of no use.
    pub fn has_failed(&self) -> bool {
        self.state.lock().failure.is_some()
    }

    /// How much there is to begin with now.
    fn waiting(&self) -> usize {
        let state = self.state.lock();
        if state.failure.is_some() { 0 } else { state.waiting.len() }
    }

    /// Does the next piece of work, waiting for it while others may still find some. Whether there was any.
    fn do_next(&self, work: &impl Fn(&Self, T) -> io::Result<()>) -> bool {
        let Some(item) = self.next() else { return false };
        let mut turn = Turn { crew: self, outcome: Err(io::Error::other("a thread at it panicked")) };
        turn.outcome = work(self, item);
        true
    }

    fn next(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(item) = state.waiting.pop() {
                state.busy += 1;
                return Some(item);
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

/// One piece of work under way. That it ends is told whatever comes, a panic too: others wait for it.
struct Turn<'a, T> {
    crew: &'a Crew<T>,
    outcome: io::Result<()>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.crew.state.lock();
        state.busy -= 1;
        if let Err(error) = std::mem::replace(&mut self.outcome, Ok(())) {
            state.failure.get_or_insert(error);
        }
        drop(state);
        self.crew.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Each number adds its two halves.
    fn halve(crew: &Crew<u32>, number: u32) {
        if number > 1 {
            crew.add(number / 2);
            crew.add(number - number / 2);
        }
    }

    #[test]
    fn all_that_is_found_is_done_once() {
        for threads in [1, 2, 8] {
            let ones = AtomicUsize::new(0);
            let done = Crew::run(threads, 1000, |crew, number| {
                halve(crew, number);
                ones.fetch_add(usize::from(number == 1), Ordering::Relaxed);
                Ok(())
            });
            done.unwrap();
            assert_eq!(ones.into_inner(), 1000);
        }
    }

    #[test]
    fn work_for_two_is_done_by_two_at_once() {
        let (meeting, threads) = (Barrier::new(2), Mutex::new(BTreeSet::new()));
        let done = Crew::run(2, 2, |crew, number| {
            halve(crew, number);
            if number == 1 {
                meeting.wait();
            }
            threads.lock().insert(format!("{:?}", std::thread::current().id()));
            Ok(())
        });
        done.unwrap();
        assert_eq!(threads.into_inner().len(), 2);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let done = AtomicUsize::new(0);
        let failed = Crew::run(4, 1 << 20, |crew, number| {
            halve(crew, number);
            let before = done.fetch_add(1, Ordering::Relaxed);
            if before == 100 {
                return Err(io::Error::other("the hundredth"));
            }
            // Who is after it ends no sooner than it.
            while before > 100 && crew.state.lock().failure.is_none() {
                std::thread::yield_now();
            }
            Ok(())
        });
        assert_eq!(failed.unwrap_err().to_string(), "the hundredth");
        assert!(done.into_inner() <= 101 + 3, "the rest was done all the same");
    }

    #[test]
    fn a_panic_reaches_the_caller_and_nobody_waits_for_ever() {
        let run = || {
            Crew::run(4, 64, |crew, number| {
                halve(crew, number);
                assert!(number > 1, "one");
                Ok(())
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}
