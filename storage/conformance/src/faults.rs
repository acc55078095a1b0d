//! A fault at every changing step, in three modes.

use crate::share::{self, Share};
use crate::stories::Story;
use crate::{Lab, Outcome, World, ensure};
use larder_base::host::{Fault, FaultHost, FaultMode, Host, SystemHost};
use larder_storage_driver::{Area, Place};
use std::sync::Arc;

/// Tells a story once to count its changing steps; then once for each step and mode (of the run's share) in a fresh world. Afterwards all that
/// was live is as before, or as the story wanted it; nothing is staged or trashed; what is kept is kept.
pub(crate) fn every_fault_leaves_all_or_nothing(lab: &dyn Lab, story: &Story) -> Outcome {
    let told = Told::without_fault(lab, story)?;
    ensure(told.steps > 0, "the story changes nothing")?;
    let share = Share::of_this_run()?;
    for step in 0..told.steps {
        for mode in [FaultMode::Refuse, FaultMode::ActThenFail, FaultMode::StopDead] {
            if !share.has(story.name, step, mode) {
                continue;
            }
            share::count(lab.name());
            one_fault(lab, story, &told, Fault { step, mode }).map_err(|error| {
                format!("step {step} of {} ({}), {mode:?}: {error}", told.steps, told.words[step])
            })?;
        }
    }
    Ok(())
}

/// The story as it goes when nothing fails.
struct Told {
    before: Seen,
    goal: Seen,
    steps: usize,
    words: Vec<String>,
}

/// What is live, and what is kept.
#[derive(Debug, PartialEq)]
struct Seen {
    live: Vec<crate::world::Seen>,
    kept: Vec<Place>,
}

fn seen(world: &World) -> Result<Seen, Box<dyn std::error::Error>> {
    let places = world.pool().places(&world.cx(&SystemHost))?;
    let mut kept: Vec<Place> =
        places.into_iter().filter(|place| matches!(place.area, Area::Kept(_))).collect();
    kept.sort();
    Ok(Seen { live: world.seen()?, kept })
}

impl Told {
    fn without_fault(lab: &dyn Lab, story: &Story) -> Result<Self, Box<dyn std::error::Error>> {
        let world = World::fresh(lab, story.pools)?;
        (story.prepare)(&world)?;
        let before = seen(&world)?;
        let host = FaultHost::counting(Arc::new(SystemHost));
        (story.act)(&world, &world.cx(&host)).map_err(|error| error.chain())?;
        let goal = seen(&world)?;
        ensure(before != goal, "the story has no effect")?;
        ensure(world.leftovers()?.is_empty(), "the story leaves something behind without any fault")?;
        let words = host.changing_steps();
        Ok(Self { before, goal, steps: words.len(), words })
    }
}

fn one_fault(lab: &dyn Lab, story: &Story, told: &Told, fault: Fault) -> Outcome {
    let mut world = World::fresh(lab, story.pools)?;
    (story.prepare)(&world)?;
    if fault.mode == FaultMode::StopDead {
        world.will_die();
    }
    let host = Arc::new(FaultHost::with_fault(Arc::new(SystemHost), fault));
    let cx = world.cx(host.as_ref() as &dyn Host);
    let outcome = (story.act)(&world, &cx);
    ensure(host.was_hit(), "the fault was not hit")?;
    if fault.mode != FaultMode::StopDead {
        let left = world.leftovers()?;
        ensure(left.is_empty(), format!("undo alone left {left:?}"))?;
        if let Err(error) = &outcome {
            ensure(error.undo_failures().is_empty(), format!("an undo failed: {}", error.chain()))?;
        }
        let found = seen(&world)?;
        let is_told =
            if outcome.is_ok() { found == told.goal } else { found == told.before || found == told.goal };
        ensure(
            is_told,
            format!(
                "at once, after {:?}:\n{}",
                outcome.map_err(|error| error.chain()),
                difference(&found, told)
            ),
        )?;
    }
    let (world, _) = world.start_again()?;
    let left = world.leftovers()?;
    ensure(left.is_empty(), format!("recovery left {left:?}"))?;
    let found = seen(&world)?;
    ensure(
        found == told.before || found == told.goal,
        format!("after recovery:\n{}", difference(&found, told)),
    )
}

fn difference(found: &Seen, told: &Told) -> String {
    format!("found {found:#?}\nbefore {:#?}\ngoal {:#?}", told.before, told.goal)
}
