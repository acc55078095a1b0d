//! Verbs at random beside a plain map.

use super::snapshot_name;
use crate::content::{custom, machine, same};
use crate::{Behaviour, Lab, Outcome, World, ensure};
use larder_base::host::SystemHost;
use larder_storage_driver::{Content, Place, VolumeId};

pub(super) const TRIALS: &[Behaviour] = trials![random_verbs_do_what_a_plain_map_does,];

/// A small generator with a seed, so that a failure can be told again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a plain map says is there: text now, and of each snapshot.
type Model = std::collections::BTreeMap<VolumeId, (String, std::collections::BTreeMap<String, String>)>;

fn random_verbs_do_what_a_plain_map_does(lab: &dyn Lab) -> Outcome {
    // In CI the seed is the commit's.
    let of_the_commit = || {
        let seed = std::env::var("LARDER_FAULT_SEED").ok()?;
        Some(seed.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())))
    };
    let given = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.or_else(of_the_commit).unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |now| u64::from(now.subsec_nanos()))
    });
    let mut chance = Chance(seed);
    let world = World::fresh(lab, 1)?;
    let mut model = Model::new();
    for step in 0..60 {
        one_verb(&world, &mut model, &mut chance, step)
            .map_err(|error| format!("LARDER_SEED={seed}, step {step}: {error}"))?;
    }
    for (volume, (text, snapshots)) in &model {
        same(&world.read(volume)?, text, &format!("LARDER_SEED={seed}: {volume}"))?;
        for (name, text) in snapshots {
            same(
                &world.read_snapshot(volume, &snapshot_name(name)?)?,
                text,
                &format!("LARDER_SEED={seed}: {volume}/{name}"),
            )?;
        }
    }
    let places = model.values().map(|(_, snapshots)| 1 + snapshots.len()).sum::<usize>();
    same(
        &world.pool().places(&world.cx(&SystemHost))?.len(),
        &places,
        &format!("LARDER_SEED={seed}: the number of places"),
    )
}

fn one_verb(world: &World, model: &mut Model, chance: &mut Chance, step: u32) -> Outcome {
    let cx = world.cx(&SystemHost);
    let volume = match chance.below(4) {
        3 => machine("m1")?,
        number => custom(Content::Filesystem, &format!("v{number}"))?,
    };
    let snapshot = format!("s{}", chance.below(3));
    let text = format!("text {step}");
    let is_there = model.contains_key(&volume);
    let has_snapshot = model.get(&volume).is_some_and(|(_, snapshots)| snapshots.contains_key(&snapshot));
    let name = snapshot_name(&snapshot)?;
    match chance.below(7) {
        0 => {
            let made = world.make(&volume, &text);
            ensure(made.is_ok() != is_there, format!("create: {made:?}"))?;
            model.entry(volume).or_insert((text, Default::default()));
        }
        1 if is_there => {
            world.write(&volume, &text)?;
            model.entry(volume).and_modify(|(now, _)| *now = text);
        }
        2 => {
            let made = world.snapshot(&cx, &volume, &name);
            ensure(made.is_ok() == (is_there && !has_snapshot), format!("snapshot: {made:?}"))?;
            if let Some((now, snapshots)) = model.get_mut(&volume) {
                snapshots.entry(snapshot).or_insert_with(|| now.clone());
            }
        }
        3 if has_snapshot => {
            let newest = model.get(&volume).is_some_and(|(_, snapshots)| snapshots.len() == 1);
            if newest {
                world.restore(&cx, &volume, &name, true)?;
                model.entry(volume).and_modify(|(now, snapshots)| now.clone_from(&snapshots[&snapshot]));
            }
        }
        4 if is_there => {
            world.delete(&cx, &Place::live(&volume))?;
            model.remove(&volume);
        }
        5 if has_snapshot => {
            world.delete(&cx, &Place::live(&volume).at_snapshot(&name))?;
            model.entry(volume).and_modify(|(_, snapshots)| drop(snapshots.remove(&snapshot)));
        }
        6 if is_there && volume.content == Content::Filesystem => {
            let to = custom(Content::Filesystem, &format!("v{}", chance.below(3)))?;
            let renamed = world.rename(&cx, &volume, &to);
            ensure(renamed.is_ok() != model.contains_key(&to), format!("rename: {renamed:?}"))?;
            if renamed.is_ok()
                && let Some(state) = model.remove(&volume)
            {
                model.insert(to, state);
            }
        }
        _ => {}
    }
    Ok(())
}
