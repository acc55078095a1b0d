//! What earlier runs of a suite found good, so that a run that was cut off goes on where it was.
//!
//! `LARDER_JOURNAL` names a folder for runs of the same sources on the same kernel; who names it sees to that
//! (`tests/lab/proof-key`). Each run writes a file of its own in it, a line for each trial and each fault once it went well.
//! `LARDER_PART` makes a run one of several at the same time: in `1/2` the first of two, which leaves half of the trials and
//! faults to the other.

use crate::share;
use larder_base::host::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is tried at once: a trial, or one fault of a story.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tried {
    trial: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<TriedFault>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct TriedFault {
    step: usize,
    /// How many steps the story has.
    of: usize,
    mode: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    tried: Tried,
    milliseconds: u64,
}

impl Tried {
    pub(crate) fn trial(name: &str) -> Self {
        Self { trial: name.to_owned(), fault: None }
    }

    /// A fault of a story with so many steps.
    pub(crate) fn fault(story: &str, fault: Fault, of: usize) -> Self {
        let fault = TriedFault { step: fault.step, of, mode: format!("{:?}", fault.mode) };
        Self { trial: story.to_owned(), fault: Some(fault) }
    }
}

/// What went well so far, this run included.
#[derive(Debug, Default)]
pub struct Journal {
    folder: Option<PathBuf>,
    part: Part,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    good: BTreeMap<Tried, Duration>,
    /// How many runs wrote something.
    runs: usize,
    file: Option<File>,
}

/// One of several runs at the same time.
#[derive(Debug, Clone, Copy)]
struct Part {
    number: u64,
    of: u64,
}

impl Default for Part {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let part = Self { number: number.parse().ok()?, of: of.parse().ok()? };
        (1..=part.of).contains(&part.number).then_some(part)
    }

    fn has(self, tried: &Tried) -> bool {
        share::mixed(&format!("{tried:?}")) % self.of == self.number - 1
    }
}

impl Journal {
    /// As the environment says: without a folder nothing is known and nothing is noted.
    pub fn of_this_run(lab: &str) -> io::Result<Self> {
        let part = match std::env::var("LARDER_PART") {
            Err(_) => Part::default(),
            Ok(text) => Part::parse(&text).ok_or_else(|| {
                io::Error::other(format!("invalid LARDER_PART {text:?}: give the first of two as 1/2"))
            })?,
        };
        let folder = std::env::var_os("LARDER_JOURNAL").map(|folder| PathBuf::from(folder).join(lab));
        Self::new(folder, part)
    }

    fn new(folder: Option<PathBuf>, part: Part) -> io::Result<Self> {
        let mut state = State::default();
        if let Some(folder) = &folder {
            fs::create_dir_all(folder)?;
            for entry in fs::read_dir(folder)? {
                state.read(&entry?.path())?;
            }
        }
        Ok(Self { folder, part, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is for this run to try.
    pub(crate) fn is_ours(&self, tried: &Tried) -> bool {
        self.part.has(tried)
    }

    /// Does what went well in no run so far, and notes it when it goes well in this one.
    pub(crate) fn once<E: From<io::Error>>(
        &self,
        tried: Tried,
        run: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if self.state().good.contains_key(&tried) {
            return Ok(());
        }
        let began = Instant::now();
        run()?;
        Ok(self.note(tried, began.elapsed())?)
    }

    fn note(&self, tried: Tried, took: Duration) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let line = serde_json::to_string(&Line { tried: tried.clone(), milliseconds })?;
        let mut state = self.state();
        if state.file.is_none() {
            state.file = Some(File::create_new(folder.join(uuid::Uuid::new_v4().to_string()))?);
            state.runs += 1;
        }
        if let Some(file) = &mut state.file {
            file.write_all(format!("{line}\n").as_bytes())?;
            // The guest that this runs in may be ended at any time.
            file.sync_data()?;
        }
        state.good.insert(tried, took);
        Ok(())
    }

    /// With how many steps a story was told when its faults went well.
    pub(crate) fn lengths(&self, story: &str) -> Vec<usize> {
        let state = self.state();
        let faults = state.good.keys().filter(|tried| tried.trial == story);
        let mut lengths: Vec<usize> =
            faults.filter_map(|tried| tried.fault.as_ref().map(|fault| fault.of)).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    /// Whether all of it went well.
    pub(crate) fn has_all<'a>(&self, mut tried: impl Iterator<Item = &'a Tried>) -> bool {
        let state = self.state();
        tried.all(|tried| state.good.contains_key(tried))
    }

    /// How many runs had a part in it, and how long their trials took together; nothing when nothing is noted.
    pub(crate) fn sum(&self) -> Option<(usize, Duration)> {
        let state = self.state();
        self.folder.as_ref().map(|_| (state.runs, state.good.values().sum()))
    }
}

impl State {
    /// Takes in what another run wrote. A run that was cut off may have left half a line.
    fn read(&mut self, file: &Path) -> io::Result<()> {
        let text = fs::read_to_string(file)?;
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for line in whole {
            let line: Line = serde_json::from_str(line)
                .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
            self.good.insert(line.tried, Duration::from_millis(line.milliseconds));
        }
        self.runs += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_base::host::FaultMode;
    use std::cell::Cell;

    fn fault(step: usize, of: usize) -> Tried {
        Tried::fault("lab::story", Fault { step, mode: FaultMode::Refuse }, of)
    }

    #[test]
    fn what_went_well_is_not_done_again_and_what_failed_is() {
        let folder = tempfile::tempdir().unwrap();
        let journal = || Journal::new(Some(folder.path().to_owned()), Part::default()).unwrap();
        let runs = Cell::new(0);
        let run = |journal: &Journal, tried: Tried, is_good: bool| {
            journal.once(tried, || {
                runs.set(runs.get() + 1);
                if is_good { Ok(()) } else { Err(io::Error::other("bad")) }
            })
        };
        let first = journal();
        run(&first, Tried::trial("lab::trial"), true).unwrap();
        run(&first, fault(0, 2), true).unwrap();
        run(&first, fault(1, 2), false).unwrap_err();
        let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let cut_off = fs::read_to_string(&file).unwrap() + r#"{"trial":"lab::other","#;
        fs::write(&file, cut_off).unwrap();
        let second = journal();
        assert_eq!(second.lengths("lab::story"), [2]);
        assert_eq!(runs.take(), 3);
        run(&second, Tried::trial("lab::trial"), true).unwrap();
        run(&second, fault(0, 2), true).unwrap();
        assert_eq!(runs.take(), 0);
        // Another number of steps is another story.
        for tried in [fault(1, 2), fault(0, 3), Tried::trial("lab::other")] {
            assert!(!second.has_all([&tried].into_iter()));
            run(&second, tried, true).unwrap();
        }
        assert_eq!(runs.take(), 3);
        assert_eq!(journal().sum().unwrap().0, 2);
    }

    #[test]
    fn each_thing_is_for_one_part() {
        let parts: Vec<Part> = (1..=3).map(|number| Part { number, of: 3 }).collect();
        for step in 0..100 {
            assert_eq!(parts.iter().filter(|part| part.has(&fault(step, 100))).count(), 1);
        }
        for wrong in ["", "1", "0/2", "3/2", "a/b"] {
            assert!(Part::parse(wrong).is_none(), "{wrong}");
        }
    }
}
