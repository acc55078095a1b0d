//! A fault at every changing step, in three modes.

use crate::journal::{Journal, Tried};
use crate::seen::Seen;
use crate::share::{self, Share};
use crate::stories::Story;
use crate::{Lab, Outcome, World, ensure};
use larder_base::host::{Fault, FaultHost, FaultMode, Host, SystemHost};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Tells a story once to count its changing steps; then once for each step and mode (of the run's share). Afterwards all that
/// was live is as before, or as the story wanted it; nothing is staged or trashed; what is kept is kept. Faults that went well in
/// an earlier run of the journal are not repeated; those that the run has no time for are left out.
pub(crate) fn every_fault_leaves_all_or_nothing(
    lab: &dyn Lab,
    story: &Story,
    trial: &str,
    journal: &Journal,
) -> Outcome {
    let share = Share::of_this_run()?;
    let faults = |steps| -> Vec<(Fault, Tried)> {
        let faults = every_fault(steps).filter(|fault| share.has(story.name, fault));
        let faults = faults.map(|fault| (fault, Tried::fault(trial, fault, steps)));
        faults.filter(|(_, tried)| journal.is_ours(tried)).collect()
    };
    let known = journal.lengths(trial).into_iter().map(faults);
    if let Some(faults) =
        known.into_iter().find(|faults| journal.has_all(faults.iter().map(|(_, tried)| tried)))
    {
        share::injected(lab.name(), faults.len());
        return Ok(());
    }
    let told = Told::without_fault(lab, story)?;
    let steps = told.words.len();
    let mut used = None;
    for (fault, tried) in faults(steps) {
        if !share.has_time() && !journal.has_all([&tried].into_iter()) {
            share::left_out(lab.name(), 1);
            continue;
        }
        share::injected(lab.name(), 1);
        journal.once(tried, || -> Outcome {
            used = one_fault(lab, story, &told, fault, used.take())
                .map_err(|error| format!("{} of {steps}: {error}", told.in_words(fault)))?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Every step in every mode.
fn every_fault(steps: usize) -> impl Iterator<Item = Fault> {
    let modes = [FaultMode::Refuse, FaultMode::ActThenFail, FaultMode::StopDead];
    (0..steps).flat_map(move |step| modes.map(|mode| Fault { step, mode }))
}

/// The story as it goes when nothing fails.
struct Told {
    before: Seen,
    goal: Seen,
    /// The changing steps, as they read in every world.
    words: Vec<String>,
}

impl Told {
    fn without_fault(lab: &dyn Lab, story: &Story) -> Result<Self> {
        let world = prepared(lab, story)?;
        let before = world.look()?;
        let host = FaultHost::counting(Arc::new(SystemHost));
        (story.act)(&world, &world.cx(&host)).map_err(|error| error.chain())?;
        let words = host.changing_steps();
        let words: Vec<String> = words.iter().map(|words| world.plain(words)).collect();
        ensure(!words.is_empty(), "the story changes nothing")?;
        let goal = world.look()?;
        ensure(before != goal, "the story has no effect")?;
        ensure(goal.leftovers().is_empty(), "the story leaves something behind without any fault")?;
        Ok(Self { before, goal, words })
    }

    fn in_words(&self, fault: Fault) -> String {
        format!("{:?} at step {} ({})", fault.mode, fault.step, self.words[fault.step])
    }

    fn difference(&self, found: &Seen) -> String {
        format!("found {found:#?}\nbefore {:#?}\ngoal {:#?}", self.before, self.goal)
    }
}

fn prepared(lab: &dyn Lab, story: &Story) -> Result<World> {
    let world = World::fresh(lab, story.pools)?;
    (story.prepare)(&world)?;
    Ok(world)
}

/// Tells the story with a fault, in the world that the one before left as it was, else in a fresh one. Gives the world when this
/// one left it as it was, too: to make one takes longer than all else.
fn one_fault(
    lab: &dyn Lab,
    story: &Story,
    told: &Told,
    fault: Fault,
    used: Option<World>,
) -> Result<Option<World>> {
    if let Some(world) = used {
        let broken = Broken::tell(world, story, fault);
        // Where a step less is taken than in a fresh world, another one would have failed.
        if broken.is_told(told, fault) {
            return broken
                .check(told)
                .map_err(|error| format!("in a world that faults before left as it was: {error}").into());
        }
    }
    let broken = Broken::tell(prepared(lab, story)?, story, fault);
    ensure(broken.host.was_hit(), "the fault was not hit")?;
    broken.check(told)
}

/// A world in which a story was told with a fault.
struct Broken {
    world: World,
    host: Arc<FaultHost>,
    mode: FaultMode,
    outcome: larder_storage_driver::Result<()>,
}

impl Broken {
    fn tell(mut world: World, story: &Story, fault: Fault) -> Self {
        if fault.mode == FaultMode::StopDead {
            world.will_die();
        }
        let host = Arc::new(FaultHost::with_fault(Arc::new(SystemHost), fault));
        let outcome = (story.act)(&world, &world.cx(host.as_ref() as &dyn Host));
        Self { world, host, mode: fault.mode, outcome }
    }

    /// Whether the fault fell on the step that it was meant for.
    fn is_told(&self, told: &Told, fault: Fault) -> bool {
        let steps = self.host.changing_steps();
        steps.get(fault.step).is_some_and(|words| self.world.plain(words) == told.words[fault.step])
    }

    /// Looks at once, unless all stopped dead; and again after a recovery. One that changes nothing leaves what was seen: then
    /// the names tell enough.
    fn check(self, told: &Told) -> Result<Option<World>> {
        let at_once = match self.mode {
            FaultMode::StopDead => None,
            FaultMode::Refuse | FaultMode::ActThenFail => Some(self.check_at_once(told)?),
        };
        let host = FaultHost::counting(Arc::new(SystemHost));
        let (world, _) = self.world.start_again_over(&host)?;
        let found = match at_once {
            Some(seen) if host.changing_steps().is_empty() => Seen { places: world.places()?, ..seen },
            _ => world.look()?,
        };
        let left = found.leftovers();
        ensure(left.is_empty(), format!("recovery left {left:?}"))?;
        let is_as_before = found == told.before;
        ensure(is_as_before || found == told.goal, format!("after recovery:\n{}", told.difference(&found)))?;
        Ok(is_as_before.then_some(world))
    }

    /// The undo alone suffices.
    fn check_at_once(&self, told: &Told) -> Result<Seen> {
        let found = self.world.look()?;
        let left = found.leftovers();
        ensure(left.is_empty(), format!("undo alone left {left:?}"))?;
        if let Err(error) = &self.outcome {
            ensure(error.undo_failures().is_empty(), format!("an undo failed: {}", error.chain()))?;
        }
        let is_told = found == told.goal || self.outcome.is_err() && found == told.before;
        let outcome = self.outcome.as_ref().map_err(larder_storage_driver::StorageError::chain);
        ensure(is_told, format!("at once, after {outcome:?}:\n{}", told.difference(&found)))?;
        Ok(found)
    }
}
