//! What every storage driver must do under [`Pool`](larder_storage_pool::Pool), as a library: behaviour trials, chosen by
//! what the driver says it can, and stories repeated with a fault at every changing step.
//!
//! A technology joins by a [`Lab`]; [`suite`] gives the trials of one.

mod behaviour;
mod content;
mod faults;
mod files;
mod journal;
mod lab;
mod objects;
mod proof;
mod reach;
mod seen;
mod share;
mod steps;
mod stories;
mod world;

pub use files::make as make_every_kind_of_file;
pub use journal::Journal;
pub use lab::{Bench, Lab, OwnTrial, Spares};
pub use objects::{ObjectLab, object_suite};
pub use proof::Proof;
pub use world::World;

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;

/// How a trial ends.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A behaviour: its name, a sentence, and the trial of it.
type Behaviour = (&'static str, fn(&dyn Lab) -> Outcome);

/// Trials of disks, or of volumes that have one: they are of no use to a driver that keeps none.
const OF_DISKS: &[&str] = &[
    "every_content_can_be_made_filled_and_read_back",
    "a_cancelled_creation_leaves_nothing",
    "a_taken_name_is_refused_and_nothing_changes",
    "rename_keeps_content_and_snapshots_across_projects",
    "snapshots_keep_the_past",
    "a_taken_snapshot_name_keeps_the_first",
    "restore_brings_the_past_back",
    "a_trashed_name_is_free_at_once",
    "a_copy_survives_its_source",
    "a_copy_holds_a_disk_that_is_larger_than_recorded",
    "a_disk_grows_and_keeps_its_content",
    "a_grown_disk_stays_as_large_when_it_is_restored",
    "many_volumes_are_measured_as_each_is",
    "closing_and_opening_shows_the_same",
    "wrong_keys_and_sizes_are_refused_before_any_change",
    "random_verbs_do_what_a_plain_map_does",
    "a_shrinking_disk_is_refused_before_any_change",
    "a_disk_that_is_larger_than_recorded_is_not_cut",
    "create_block",
    "create_agreed_machine",
    "create_machine_with_snapshots",
    "create_machine",
    "snapshot_of_a_machine",
    "rename_a_machine",
    "restore_a_machine",
    "delete_a_machine",
    "grow_a_disk",
    "copy_a_machine",
    "copy_a_machine_across_pools",
    "refresh_a_machine",
    "refresh_a_machine_across_pools",
    "refresh_a_disk_across_pools",
];

/// All trials of one lab that are this run's, named `lab::trial`. What went well in an earlier run of the journal passes at once.
pub fn suite(lab: &Arc<dyn Lab>, journal: &Arc<Journal>) -> Vec<Trial> {
    let has_disks = lab.capabilities().contents.contains(&larder_storage_driver::Content::Block);
    let is_of_use = |name: &str| has_disks || !OF_DISKS.contains(&name);
    let behaviours = behaviour::trials(lab.as_ref()).into_iter().chain(reach::trials());
    let behaviours = behaviours.filter(|(name, _)| is_of_use(name)).map(|(name, run)| {
        let lab = Arc::clone(lab);
        OwnTrial::new(format!("{}::{name}", lab.name()), move || failed(run(lab.as_ref())))
    });
    share::begin();
    let stories = stories::all(lab.as_ref()).into_iter().filter(|story| is_of_use(story.name));
    let stories = in_order(stories.collect()).into_iter().map(|story| {
        let (lab, journal) = (Arc::clone(lab), Arc::clone(journal));
        let name = format!("{}::every_fault_leaves_all_or_nothing::{}", lab.name(), story.name);
        Trial::test(name.clone(), move || {
            failed(faults::every_fault_leaves_all_or_nothing(lab.as_ref(), &story, &name, &journal))
        })
    });
    let whole = behaviours.chain(lab.own_trials()).filter_map(|trial| trial.once(journal));
    whole.chain(stories).collect()
}

/// The stories in the order in which this run tells them.
fn in_order(mut stories: Vec<stories::Story>) -> Vec<stories::Story> {
    // A share that can't be read fails each story.
    if let Ok(share) = share::Share::of_this_run() {
        let first = share.first_of(stories.len());
        stories.rotate_left(first);
    }
    stories
}

fn failed(outcome: Outcome) -> Result<(), Failed> {
    outcome.map_err(|error| Failed::from(chain(error.as_ref())))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

/// Fails with `what` unless it holds.
pub(crate) fn ensure(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into().into()) }
}
