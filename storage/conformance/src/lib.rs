//! What every storage driver must do under [`Pool`](larder_storage_pool::Pool), as a library: behaviour trials, chosen by
//! what the driver says it can, and stories repeated with a fault at every changing step.
//!
//! A technology joins by a [`Lab`]; [`suite`] gives the trials of one.

mod behaviour;
mod faults;
mod files;
mod proof;
mod reach;
mod share;
mod stories;
mod world;

pub use proof::Proof;
pub use world::{Bench, Lab, Spares, World};

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;

/// How a trial ends.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A behaviour: its name, a sentence, and the trial of it.
type Behaviour = (&'static str, fn(&dyn Lab) -> Outcome);

/// All trials of one lab, named `lab::trial`.
pub fn suite(lab: &Arc<dyn Lab>) -> Vec<Trial> {
    let behaviours = behaviour::trials(lab.as_ref()).into_iter().chain(reach::trials());
    let behaviours = behaviours.map(|(name, run)| trial(lab, name, move |lab| run(lab)));
    let stories = stories::all(lab.as_ref()).into_iter();
    let stories = stories.map(|story| {
        let name = format!("every_fault_leaves_all_or_nothing::{}", story.name);
        trial(lab, &name, move |lab| faults::every_fault_leaves_all_or_nothing(lab, &story))
    });
    behaviours.chain(stories).collect()
}

fn trial(lab: &Arc<dyn Lab>, name: &str, run: impl Fn(&dyn Lab) -> Outcome + Send + 'static) -> Trial {
    let lab = Arc::clone(lab);
    Trial::test(format!("{}::{name}", lab.name()), move || {
        run(lab.as_ref()).map_err(|error| Failed::from(error.to_string()))
    })
}

/// Fails with `what` unless it holds.
pub(crate) fn ensure(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into().into()) }
}
