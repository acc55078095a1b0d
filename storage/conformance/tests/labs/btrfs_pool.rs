//! Where a btrfs pool comes from, how it grows, and what is left of it.

use super::btrfs::{cx, cx_over, make_subvolume, run};
use super::machine::{Machine, Own, config, inode, make, refused, same, volume};
use larder_base::host::{Fault, FaultHost, FaultMode, SystemHost};
use larder_storage_conformance::Outcome;
use larder_storage_driver::{Config, Content, ErrorKind, Need, Place, VolumeSpec};
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub(crate) const TRIALS: &[Own] = &[
    ("a_pool_is_made_whole_or_not_at_all", a_pool_is_made_whole_or_not_at_all),
    ("a_file_is_made_grown_and_removed", a_file_is_made_grown_and_removed),
    ("a_device_that_holds_something_is_refused_unless_wiped", a_device_that_holds_something_is_refused),
    ("a_device_in_use_is_refused_even_to_be_wiped", a_device_in_use_is_refused_even_to_be_wiped),
    ("a_pool_is_recovered_and_what_is_none_is_left_alone", a_pool_is_recovered),
    ("another_filesystem_is_not_taken_for_the_pool", another_filesystem_is_not_taken_for_the_pool),
    ("a_subvolume_that_exists_is_a_source_and_stays", a_subvolume_that_exists_is_a_source_and_stays),
    ("wrong_sources_are_refused_before_any_change", wrong_sources_are_refused_before_any_change),
    ("the_mount_has_its_options_and_lets_no_device_in", the_mount_has_its_options),
];

/// Every changing step of making a pool fails in three ways; afterwards there is nothing, or a second try makes it.
fn a_pool_is_made_whole_or_not_at_all() -> Outcome {
    let given = config(&[("size", "128MiB")]);
    let machine = Machine::new()?;
    let counting = FaultHost::counting(Arc::new(SystemHost));
    let (made, _) = machine.attempt(&counting, &given)?;
    made?.destroy_pool(&cx())?;
    let steps = counting.changing_steps();
    for (step, words) in steps.iter().enumerate() {
        for mode in [FaultMode::Refuse, FaultMode::ActThenFail, FaultMode::StopDead] {
            let machine = Machine::new()?;
            let host = FaultHost::with_fault(Arc::new(SystemHost), Fault { step, mode });
            let (made, known) = machine.attempt(&host, &given)?;
            let what = format!("{words}, {mode:?}");
            same(&made.is_err(), &true, &what)?;
            if mode != FaultMode::StopDead {
                machine.has_no_loop(&what)?;
                same(&machine.mounts()?, &String::new(), &what)?;
                same(&machine.path("disks/p1.img").exists(), &false, &what)?;
            }
            // After a crash the daemon goes on with what it had written down, else somebody asks anew.
            let next = if mode == FaultMode::StopDead { &known } else { &given };
            let (again, _) = machine.attempt(&SystemHost, next)?;
            again.map_err(|error| format!("{what}, again: {}", error.chain()))?.destroy_pool(&cx())?;
            machine.has_no_loop(&what)?;
        }
    }
    Ok(())
}

fn a_file_is_made_grown_and_removed() -> Outcome {
    let machine = Machine::new()?;
    let (pool, recorded) = machine.create(&[("size", "200MiB"), ("source.wipe", "true")])?;
    let file = machine.path("disks/p1.img");
    same(&recorded.get("source"), &Some(&file.display().to_string()), "the source")?;
    same(&recorded.get("source.wipe"), &None, "what only creation needs")?;
    same(&pool.usage(&cx())?.total_bytes, &(200 << 20), "the size")?;
    let tree = make(&pool, &VolumeSpec::new(volume(Content::Filesystem, "v1")?))?;
    fs::write(tree.join("file"), "text")?;
    let larger = Config::from([("size".to_owned(), "300MiB".to_owned())]);
    let new: Config = recorded.clone().into_iter().chain(larger).collect();
    pool.change(&cx(), &recorded, &new)?;
    pool.change(&cx(), &recorded, &new)?;
    same(&pool.usage(&cx())?.total_bytes, &(300 << 20), "the new size")?;
    refused(pool.change(&cx(), &new, &recorded), ErrorKind::Unsupported(Need::Shrink), "200MiB")?;
    pool.close(&cx())?;
    machine.has_no_loop("the loop devices of a closed pool")?;
    let pool = machine.open(&new)?;
    same(&fs::read_to_string(tree.join("file"))?, &"text".to_owned(), "the content")?;
    // Another run finds the mount and the loop device that are there.
    let before = machine.loops()?;
    let again = machine.open(&new)?;
    same(&machine.loops()?, &before, "the loop devices")?;
    drop(pool);
    again.destroy_pool(&cx())?;
    again.destroy_pool(&cx())?;
    machine.has_no_loop("the loop devices of no pool")?;
    same(&(machine.mounts()?, file.exists()), &Default::default(), "what is left")
}

fn a_device_that_holds_something_is_refused() -> Outcome {
    let machine = Machine::new()?;
    let device = machine.device("disk")?;
    run("mkfs.ext4", &["-q".as_ref(), device.0.as_ref()])?;
    refused(machine.create(&[("source", &device.0)]), ErrorKind::Invalid, "ext4")?;
    run("blkid", &["--probe".as_ref(), device.0.as_ref()]).map_err(|_| "the filesystem is gone")?;
    let (pool, recorded) = machine.create(&[("source", &device.0), ("source.wipe", "true")])?;
    same(&recorded.get("size"), &None, "the size")?;
    make(&pool, &VolumeSpec::new(volume(Content::Filesystem, "v1")?))?;
    refused(pool.change(&cx(), &recorded, &config(&[("size", "1GiB")])), ErrorKind::Invalid, "size")?;
    pool.close(&cx())?;
    machine.open(&recorded)?.destroy_pool(&cx())?;
    // Nothing is in its way afterwards.
    let (pool, _) = machine.create(&[("source", &device.0)])?;
    Ok(pool.destroy_pool(&cx())?)
}

fn a_device_in_use_is_refused_even_to_be_wiped() -> Outcome {
    let machine = Machine::new()?;
    let device = machine.device("disk")?;
    run("mkfs.ext4", &["-q".as_ref(), device.0.as_ref()])?;
    let at = machine.path("mounted");
    fs::create_dir(&at)?;
    run("mount", &[device.0.as_ref(), at.as_os_str()])?;
    let outcome = refused(
        machine.create(&[("source", &device.0), ("source.wipe", "true")]),
        ErrorKind::InUse,
        &device.0,
    );
    run("umount", &[at.as_os_str()])?;
    outcome
}

fn a_pool_is_recovered() -> Outcome {
    let machine = Machine::new()?;
    let device = machine.device("disk")?;
    let (pool, _) = machine.create(&[("source", &device.0)])?;
    let spec = VolumeSpec::new(volume(Content::Filesystem, "v1")?);
    fs::write(make(&pool, &spec)?.join("file"), "text")?;
    pool.close(&cx())?;
    refused(machine.create(&[("source", &device.0)]), ErrorKind::Invalid, "source.wipe")?;
    let (pool, recorded) = machine.adopt(&device.0)?;
    let pool = pool?;
    same(&pool.places(&cx())?, &vec![Place::live(&spec.id)], "what is there")?;
    pool.close(&cx())?;
    let pool = machine.open(&recorded)?;
    same(
        &fs::read_to_string(machine.path("pool/custom/default_v1/file"))?,
        &"text".to_owned(),
        "the content",
    )?;
    pool.close(&cx())?;
    // A filesystem without a pool, and a device without a filesystem, are left as they are.
    for make in ["mkfs.btrfs", "mkfs.ext4"] {
        let other = machine.device("other")?;
        run(make, &["-q".as_ref(), other.0.as_ref()])?;
        let (adopted, _) = machine.adopt(&other.0)?;
        refused(adopted, ErrorKind::Invalid, "source.recover")?;
        same(&machine.mounts()?, &String::new(), "the mounts")?;
        run("blkid", &["--probe".as_ref(), other.0.as_ref()])?;
    }
    Ok(machine.open(&recorded)?.destroy_pool(&cx())?)
}

fn another_filesystem_is_not_taken_for_the_pool() -> Outcome {
    let machine = Machine::new()?;
    let (device, other) = (machine.device("disk")?, machine.device("other")?);
    let (pool, mut recorded) = machine.create(&[("source", &device.0)])?;
    pool.close(&cx())?;
    run("mkfs.btrfs", &["-q".as_ref(), other.0.as_ref()])?;
    // As when devices change their names from one boot to the next.
    recorded.insert("source".to_owned(), other.0.clone());
    refused(machine.open(&recorded).map(drop), ErrorKind::NotFound, &other.0)?;
    same(&machine.mounts()?, &String::new(), "the mounts")?;
    recorded.insert("source".to_owned(), device.0.clone());
    Ok(machine.open(&recorded)?.destroy_pool(&cx())?)
}

fn a_subvolume_that_exists_is_a_source_and_stays() -> Outcome {
    let machine = Machine::new()?;
    let device = machine.device("disk")?;
    run("mkfs.btrfs", &["-q".as_ref(), device.0.as_ref()])?;
    let at = machine.path("mounted");
    fs::create_dir(&at)?;
    run("mount", &[device.0.as_ref(), at.as_os_str()])?;
    let outcome = in_a_filesystem_of_somebody_elses(&machine, &at);
    run("umount", &[at.as_os_str()])?;
    outcome
}

fn in_a_filesystem_of_somebody_elses(machine: &Machine, at: &Path) -> Outcome {
    make_subvolume(at, b"full")?;
    fs::write(at.join("full/file"), "theirs")?;
    let full = at.join("full").display().to_string();
    refused(machine.create(&[("source", &full)]), ErrorKind::Invalid, "not empty")?;
    make_subvolume(at, b"empty")?;
    for name in ["empty", "new"] {
        let source = at.join(name).display().to_string();
        let (pool, recorded) = machine.create(&[("source", &source)])?;
        let spec = VolumeSpec::new(volume(Content::Filesystem, "v1")?);
        let tree = make(&pool, &spec)?;
        make_subvolume(&tree, b"inner")?;
        pool.snapshot(&cx(), &spec.id, &"s0".parse()?)?;
        pool.close(&cx())?;
        same(&machine.mounts()?.contains("/pool "), &false, "the bind of a closed pool")?;
        let pool = machine.open(&recorded)?;
        same(&pool.places(&cx())?.len(), &2, "what is there")?;
        fs::write(at.join(name).join("theirs"), "theirs")?;
        pool.destroy_pool(&cx())?;
        same(&fs::read_dir(at.join(name))?.count(), &1, "what is left of the source")?;
        same(&inode(&at.join(name))?, &256, "the source is a subvolume still")?;
    }
    same(&fs::read_to_string(at.join("full/file"))?, &"theirs".to_owned(), "what is not ours")
}

fn wrong_sources_are_refused_before_any_change() -> Outcome {
    let machine = Machine::new()?;
    let file = machine.path("plain");
    fs::write(&file, "")?;
    let (file, folder) = (file.display().to_string(), machine.folder.path().display().to_string());
    let host = FaultHost::counting(Arc::new(SystemHost));
    let cx = cx_over(&host);
    for (keys, word) in [
        (vec![("size", "16MiB")], "128MiB"),
        (vec![("size", "large")], "large"),
        (vec![("source", "relative/path")], "relative/path"),
        (vec![("source", "/dev/null")], "/dev/null"),
        (vec![("source", &*file)], "not on btrfs"),
        (vec![("source", &*folder)], "not on btrfs"),
        (vec![("source", "/dev/sdz"), ("size", "1GiB")], "/dev/sdz"),
    ] {
        let outcome = machine.driver(&config(&keys)).and_then(|driver| driver.create_pool(&cx));
        refused(outcome, ErrorKind::Invalid, word)?;
    }
    let missing = machine.driver(&config(&[("source", "/dev/no-such-disk")]))?.create_pool(&cx);
    refused(missing, ErrorKind::NotFound, "no-such-disk")?;
    same(&host.changing_steps(), &Vec::new(), "the changing steps")
}

fn the_mount_has_its_options() -> Outcome {
    let machine = Machine::new()?;
    let (pool, recorded) = machine.create(&[("size", "128MiB")])?;
    let has = |words: &[&str]| -> Outcome {
        let mount = machine.mounts()?;
        words.iter().try_for_each(|word| same(&mount.contains(word), &true, &format!("{word} in {mount}")))
    };
    has(&["nosuid", "nodev", "user_subvol_rm_allowed"])?;
    let new: Config = recorded
        .clone()
        .into_iter()
        .chain(config(&[("btrfs.mount_options", "noatime,compress=zstd:1,suid,dev")]))
        .collect();
    pool.change(&cx(), &recorded, &new)?;
    has(&["nosuid", "nodev", "noatime", "compress=zstd:1"])?;
    pool.close(&cx())?;
    let pool = machine.open(&new)?;
    has(&["nosuid", "nodev", "noatime", "compress=zstd:1"])?;
    Ok(pool.destroy_pool(&cx())?)
}
