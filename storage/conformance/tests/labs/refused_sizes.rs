//! A size that is refused as often as it is tried: nothing has changed, for good.

use larder_base::ByteSize;
use larder_base::host::SystemHost;
use larder_storage_conformance::{Lab, OwnTrial, World};
use larder_storage_driver::{Content, VolumeId};
use larder_storage_pool::{Intent, Pool, Standing};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The trial for a lab whose disks are files.
pub(crate) fn trials(lab: impl Lab + 'static) -> Vec<OwnTrial> {
    let name = format!("{}::a_size_that_is_refused_leaves_the_pool_as_it_was", lab.name());
    let run = move || Ok(a_size_that_is_refused_leaves_the_pool_as_it_was(&lab).map_err(|e| e.to_string())?);
    vec![OwnTrial::new(name, run)]
}

const OLD: ByteSize = ByteSize::from_mebibytes(4);
/// More than a file can have.
const ABSURD: ByteSize = ByteSize::from_bytes(1 << 63);

fn a_size_that_is_refused_leaves_the_pool_as_it_was(lab: &dyn Lab) -> Outcome {
    let mut world = World::fresh(lab, 1)?;
    let disk = VolumeId::custom(Content::Block, "default".parse()?, "v1".parse()?);
    world.make(&disk, "text")?;
    let intent = Intent::Resize { volume: disk.clone(), size: Some(ABSURD) };
    let resize =
        |pool: &Pool, world: &World, size| pool.resize(&world.cx(&SystemHost), &disk, Some(OLD), Some(size));
    let Err(error) = world.intending(&intent, || resize(world.pool(), &world, ABSURD)) else {
        return Err("a disk of 8EiB was made".into());
    };
    assert!(error.undo_failures().is_empty(), "{}", error.chain());
    assert_eq!(world.pool().standing(), Standing::Good);
    // Killed before that was said: the next start finds it refused, too, and the pool takes changes.
    world.will_die();
    assert!(world.intending(&intent, || resize(world.pool(), &world, ABSURD)).is_err());
    let (world, _) = world.start_again()?;
    assert_eq!(world.pool().standing(), Standing::Good);
    let size = || world.pool().volume_usage(&world.cx(&SystemHost), &disk);
    assert_eq!(size()?.total_bytes, Some(OLD.as_bytes()));
    assert_eq!(world.read(&disk)?, "text");
    resize(world.pool(), &world, ByteSize::from_mebibytes(8))?;
    assert_eq!(size()?.total_bytes, Some(8 << 20));
    Ok(())
}
