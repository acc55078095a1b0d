//! A host that lets one chosen changing step fail.

use super::{Act, Cmd, Effect, Host, HostError, Output};
use crate::Cancel;
use parking_lot::Mutex;
use std::sync::Arc;

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultMode {
    /// The step is refused before anything happened.
    Refuse,
    /// The step happens, then reports failure.
    ActThenFail,
    /// The step happens, and then nothing works any more: no later step, no undo. What follows is what a
    /// `kill -9` leaves; the caller drops everything, opens it again over a fresh host and recovers.
    StopDead,
}

/// Which changing step fails (counted from 0), and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the changing step.
    pub step: usize,
    /// How it fails.
    pub mode: FaultMode,
}

/// Passes everything to another host, counts the changing steps, and lets at most one of them fail.
#[derive(Debug)]
pub struct FaultHost {
    inner: Arc<dyn Host>,
    fault: Option<Fault>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    steps: Vec<String>,
    hit: bool,
    dead: bool,
}

enum Plan {
    Pass,
    Hit(FaultMode),
}

impl FaultHost {
    /// Only counts.
    pub fn counting(inner: Arc<dyn Host>) -> Self {
        Self { inner, fault: None, state: Mutex::default() }
    }

    /// Lets `fault` happen.
    pub fn with_fault(inner: Arc<dyn Host>, fault: Fault) -> Self {
        Self { inner, fault: Some(fault), state: Mutex::default() }
    }

    /// The changing steps so far, in words.
    pub fn changing_steps(&self) -> Vec<String> {
        self.state.lock().steps.clone()
    }

    /// Whether the fault happened.
    pub fn was_hit(&self) -> bool {
        self.state.lock().hit
    }

    fn step(&self, words: String) -> Result<Plan, HostError> {
        let mut state = self.state.lock();
        if state.dead {
            return Err(HostError::StoppedDead);
        }
        let number = state.steps.len();
        state.steps.push(words);
        match self.fault {
            Some(fault) if fault.step == number => {
                state.hit = true;
                state.dead = fault.mode == FaultMode::StopDead;
                Ok(Plan::Hit(fault.mode))
            }
            _ => Ok(Plan::Pass),
        }
    }

    fn changing<T>(&self, words: String, apply: impl Fn() -> Result<T, HostError>) -> Result<T, HostError> {
        match self.step(words.clone())? {
            Plan::Pass => apply(),
            Plan::Hit(FaultMode::Refuse) => Err(HostError::Injected(words)),
            Plan::Hit(FaultMode::ActThenFail) => apply().and(Err(HostError::Injected(words))),
            Plan::Hit(FaultMode::StopDead) => apply().and(Err(HostError::StoppedDead)),
        }
    }
}

impl Host for FaultHost {
    fn run(&self, cmd: &Cmd, cancel: &Cancel) -> Result<Output, HostError> {
        match cmd.effect() {
            Effect::Reads if self.state.lock().dead => Err(HostError::StoppedDead),
            Effect::Reads => self.inner.run(cmd, cancel),
            Effect::Changes => self.changing(cmd.to_string(), || self.inner.run(cmd, cancel)),
        }
    }

    fn act(&self, act: &dyn Act, cancel: &Cancel) -> Result<(), HostError> {
        self.changing(act.describe(), || self.inner.act(act, cancel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FsAct, SystemHost};

    fn make(host: &FaultHost, path: std::path::PathBuf) -> Result<(), HostError> {
        host.act(&FsAct::NewDirectory { path, mode: 0o700 }, &Cancel::never())
    }

    #[test]
    fn the_three_modes_do_what_they_say() {
        for (mode, first_is_there, third_works) in [
            (FaultMode::Refuse, false, true),
            (FaultMode::ActThenFail, true, true),
            (FaultMode::StopDead, true, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let host = FaultHost::with_fault(Arc::new(SystemHost), Fault { step: 1, mode });
            make(&host, dir.path().join("zero")).unwrap();
            assert!(make(&host, dir.path().join("one")).is_err());
            assert_eq!(dir.path().join("one").exists(), first_is_there, "{mode:?}");
            assert_eq!(make(&host, dir.path().join("two")).is_ok(), third_works, "{mode:?}");
            assert!(host.was_hit());
        }
    }
}
