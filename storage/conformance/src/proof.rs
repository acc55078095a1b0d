//! What a run of a suite found, as a file that people and CI read.

use crate::Journal;
use crate::share::{self, Tally};
use libtest_mimic::Conclusion;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a run of one lab's suite found.
#[derive(Debug)]
pub struct Proof {
    lab: String,
    tools: Vec<String>,
    trials: usize,
    run: u64,
    failed: u64,
    skipped: Vec<String>,
    faults: Tally,
    parts: usize,
    seconds: u64,
}

impl Proof {
    /// A suite of `trials` trials that was run, in one go or in as many as the journal tells.
    pub fn of_run(
        lab: &str,
        tools: Vec<String>,
        trials: usize,
        conclusion: &Conclusion,
        took: Duration,
        journal: &Journal,
    ) -> Self {
        let (parts, took) = journal.sum().unwrap_or((1, took));
        Self {
            lab: lab.to_owned(),
            tools,
            trials,
            run: conclusion.num_passed + conclusion.num_failed,
            failed: conclusion.num_failed,
            skipped: Vec::new(),
            faults: share::tally(lab),
            parts,
            seconds: took.as_secs(),
        }
    }

    /// A suite that can't be run here, with the reason.
    pub fn skipped(lab: &str, reason: &str) -> Self {
        Self {
            lab: lab.to_owned(),
            tools: Vec::new(),
            trials: 0,
            run: 0,
            failed: 0,
            skipped: vec![reason.to_owned()],
            faults: Tally::default(),
            parts: 0,
            seconds: 0,
        }
    }

    /// Which lab it is about.
    pub fn lab(&self) -> &str {
        &self.lab
    }

    /// Whether any trial was run.
    pub fn has_run(&self) -> bool {
        self.run > 0
    }

    /// Writes it as `<lab>.json` into the folder that `LARDER_PROOFS` names; nowhere when that is not set.
    pub fn write(&self) -> io::Result<()> {
        let Some(folder) = std::env::var_os("LARDER_PROOFS").map(PathBuf::from) else { return Ok(()) };
        std::fs::create_dir_all(&folder)?;
        std::fs::write(self.path(&folder), self.json())
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.lab))
    }

    fn json(&self) -> String {
        let machine = rustix::system::uname();
        let kernel =
            format!("{} {}", machine.sysname().to_string_lossy(), machine.release().to_string_lossy());
        let object = serde_json::json!({
            "driver": self.lab,
            "kernel": kernel,
            "tools": self.tools,
            "trials": self.trials,
            "run": self.run,
            "failed": self.failed,
            "skipped": self.skipped,
            "fault_share_percent": share::percent(),
            "steps_broken": self.faults.injected,
            "left_out": self.faults.left_out,
            "parts": self.parts,
            "sources": std::env::var("LARDER_SOURCES").ok(),
            "seconds": self.seconds,
        });
        format!("{object:#}\n")
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.skipped.first() {
            Some(reason) => write!(formatter, "skipped: {}: {reason}", self.lab),
            None => {
                write!(
                    formatter,
                    "{}: {} of {} trials run, {} failed, {} steps broken, {} s",
                    self.lab, self.run, self.trials, self.failed, self.faults.injected, self.seconds
                )?;
                match self.faults.left_out {
                    0 => Ok(()),
                    left_out => write!(formatter, "; skipped: {left_out} faults, for want of time"),
                }
            }
        }
    }
}
