//! What volumes on btrfs do that others don't: quotas, read-only snapshots, subvolumes in them, compression.

use super::btrfs::{cx, make_subvolume, run};
use super::machine::{Machine, Own, config, inode, make, refused, same, volume};
use larder_base::{ByteSize, SnapshotName};
use larder_storage_conformance::Outcome;
use larder_storage_driver::{Attached, Content, ErrorKind, Mode, Place, Result, VolumeId, VolumeSpec};
use larder_storage_pool::{CopyPlan, CopySource, EmptyFill};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use uuid::Uuid;

pub(crate) const TRIALS: &[Own] = &[
    ("a_size_is_enforced_and_told", a_size_is_enforced_and_told),
    ("a_snapshot_is_read_only", a_snapshot_is_read_only),
    ("inner_subvolumes_go_where_their_volume_goes", inner_subvolumes_go_where_their_volume_goes),
    ("disks_are_written_in_place_and_files_compressed", disks_are_written_in_place_and_files_compressed),
];

/// Writes bytes that don't compress and are on disk afterwards.
fn write(path: &Path, bytes: u64) -> std::io::Result<()> {
    let file = fs::File::create(path)?;
    let mut block = vec![0_u8; 1 << 20];
    for at in (0..bytes).step_by(1 << 20) {
        let random = Uuid::new_v4();
        block.chunks_mut(16).for_each(|chunk| chunk.copy_from_slice(&random.as_bytes()[..chunk.len()]));
        file.write_all_at(&block, at)?;
    }
    file.sync_all()
}

fn a_size_is_enforced_and_told() -> Outcome {
    let machine = Machine::new()?;
    let (pool, _) = machine.create(&[("size", "256MiB")])?;
    let mib = ByteSize::from_mebibytes;
    let id = volume(Content::Filesystem, "v1")?;
    let tree = make(&pool, &VolumeSpec::new(id.clone()).with_size(mib(16)))?;
    write(&tree.join("first"), 10 << 20)?;
    let over = write(&tree.join("second"), 10 << 20).err().ok_or("the quota was not enforced")?;
    same(&over.kind(), &std::io::ErrorKind::QuotaExceeded, "the error")?;
    fs::remove_file(tree.join("second"))?;
    run("sync", &["--file-system".as_ref(), tree.as_os_str()])?;
    let usage = pool.volume_usage(&cx(), &id)?;
    same(&usage.total_bytes, &Some(16 << 20), "the limit")?;
    let used = usage.used_bytes.unwrap_or_default();
    same(&(10 << 20..12 << 20).contains(&used), &true, &format!("{used} bytes used"))?;
    // A snapshot counts for nobody's limit, and what the volume shares with it counts for the volume.
    pool.snapshot(&cx(), &id, &"s0".parse()?)?;
    write(&tree.join("third"), 10 << 20).err().ok_or("a snapshot lifted the limit")?;
    fs::remove_file(tree.join("third"))?;
    pool.resize(&cx(), &id, Some(mib(16)), Some(mib(32)))?;
    write(&tree.join("third"), 10 << 20)?;
    pool.resize(&cx(), &id, Some(mib(32)), None)?;
    write(&tree.join("fourth"), 20 << 20)?;
    same(&pool.volume_usage(&cx(), &id)?.total_bytes, &None, "the lifted limit")?;
    // A copy has the limit it is given, a restored volume the one it had.
    let copy = VolumeSpec::new(volume(Content::Filesystem, "copy")?).with_size(mib(16));
    let name: SnapshotName = "s0".parse()?;
    let source = CopySource { pool: &pool, volume: &id, snapshot: Some(&name) };
    pool.copy_volume(&cx(), source, &CopyPlan { spec: &copy, snapshots: &[] })?;
    same(&pool.volume_usage(&cx(), &copy.id)?.total_bytes, &Some(16 << 20), "the copy's limit")?;
    pool.restore(&cx(), &VolumeSpec::new(id.clone()).with_size(mib(32)), &name, true)?;
    same(&pool.volume_usage(&cx(), &id)?.total_bytes, &Some(32 << 20), "the restored volume's limit")?;
    Ok(pool.destroy_pool(&cx())?)
}

fn a_snapshot_is_read_only() -> Outcome {
    let machine = Machine::new()?;
    let (pool, _) = machine.create(&[("size", "128MiB")])?;
    let id = volume(Content::Filesystem, "v1")?;
    let tree = make(&pool, &VolumeSpec::new(id.clone()))?;
    for inner in [false, true] {
        let name: SnapshotName = format!("inner-{inner}").parse()?;
        if inner {
            make_subvolume(&tree, b"inner")?;
        }
        pool.snapshot(&cx(), &id, &name)?;
        let attached = pool.attach_snapshot(&cx(), &id, &name)?;
        let written = fs::write(attached.directory()?.join("file"), "");
        pool.detach_snapshot(&cx(), &id, &name)?;
        same(
            &written.err().map(|error| error.kind()),
            &Some(std::io::ErrorKind::ReadOnlyFilesystem),
            "writing",
        )?;
    }
    Ok(pool.destroy_pool(&cx())?)
}

fn inner_subvolumes_go_where_their_volume_goes() -> Outcome {
    let machine = Machine::new()?;
    let (pool, _) = machine.create(&[("size", "128MiB")])?;
    let id = volume(Content::Filesystem, "v1")?;
    let spec = VolumeSpec::new(id.clone());
    let tree = make(&pool, &spec)?;
    make_subvolume(&tree, b"outer")?;
    make_subvolume(&tree.join("outer"), b"inner")?;
    fs::write(tree.join("outer/inner/file"), "past")?;
    let read_only = |path: &Path, word: &str| {
        let arguments = ["property", "set", "-t", "subvol"].map(AsRef::as_ref);
        run("btrfs", &[&arguments[..], &[path.as_os_str(), "ro".as_ref(), word.as_ref()]].concat())
    };
    // As a container's own snapshots are.
    read_only(&tree.join("outer/inner"), "true")?;
    read_only(&tree.join("outer"), "true")?;
    let name: SnapshotName = "s0".parse()?;
    pool.snapshot(&cx(), &id, &name)?;
    read_only(&tree.join("outer"), "false")?;
    read_only(&tree.join("outer/inner"), "false")?;
    fs::write(tree.join("outer/inner/file"), "now")?;
    let look = |tree: &Path, text: &str, what: &str| -> Outcome {
        same(&inode(&tree.join("outer"))?, &256, what)?;
        same(&inode(&tree.join("outer/inner"))?, &256, what)?;
        same(&fs::read_to_string(tree.join("outer/inner/file"))?, &text.to_owned(), what)
    };
    let copy = VolumeSpec::new(volume(Content::Filesystem, "copy")?);
    let source = CopySource { pool: &pool, volume: &id, snapshot: None };
    pool.copy_volume(&cx(), source, &CopyPlan { spec: &copy, snapshots: std::slice::from_ref(&name) })?;
    let at = |volume: &VolumeId| -> Result<Attached> {
        let attached = pool.attach(&cx(), volume, Mode::ReadOnly)?;
        pool.detach(&cx(), volume)?;
        Ok(attached)
    };
    look(at(&copy.id)?.directory()?, "now", "the copy")?;
    let snapshot = pool.attach_snapshot(&cx(), &copy.id, &name)?;
    pool.detach_snapshot(&cx(), &copy.id, &name)?;
    look(snapshot.directory()?, "past", "the copy's snapshot")?;
    pool.restore(&cx(), &spec, &name, true)?;
    look(at(&id)?.directory()?, "past", "the restored volume")?;
    let written = fs::write(tree.join("outer/inner/file"), "");
    same(&written.is_err(), &true, "what was read-only is so after a restore")?;
    // A volume whose user made its root read-only can still be moved and deleted.
    read_only(&tree, "true")?;
    for volume in [&id, &copy.id] {
        let trashed = pool.trash(&cx(), &Place::live(volume))?;
        pool.destroy(&cx(), &trashed)?;
    }
    same(&pool.places(&cx())?, &Vec::new(), "what is left")?;
    let left = run("btrfs", &["subvolume".as_ref(), "list".as_ref(), machine.path("pool").as_os_str()])?;
    same(&left, &String::new(), "the subvolumes that are left")?;
    Ok(pool.destroy_pool(&cx())?)
}

fn disks_are_written_in_place_and_files_compressed() -> Outcome {
    let machine = Machine::new()?;
    let (pool, _) = machine.create(&[("size", "128MiB")])?;
    let flags = |path: &Path| -> std::io::Result<String> {
        let told = run("lsattr", &["-d".as_ref(), path.as_os_str()])?;
        Ok(told.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let spec = |content, name: &str| -> Result<VolumeSpec> {
        Ok(VolumeSpec::new(volume(content, name)?).with_size(ByteSize::from_mebibytes(8)))
    };
    let disk = make(&pool, &spec(Content::Block, "disk")?)?;
    same(&flags(&disk)?.contains('C'), &true, "a disk is written in place")?;
    let iso = make(&pool, &spec(Content::Iso, "cd")?)?;
    same(&iso, &machine.path("pool/custom/default_cd.iso/root.img"), "the place of an iso")?;
    same(
        &pool.places(&cx())?.contains(&Place::live(&volume(Content::Iso, "cd")?)),
        &true,
        "the iso is told",
    )?;
    let mut packed = spec(Content::Filesystem, "packed")?;
    packed.config = config(&[("btrfs.compression", "zstd")]);
    let tree = make(&pool, &packed)?;
    fs::write(tree.join("file"), vec![0_u8; 4 << 20])?;
    let told = run("btrfs", &["property".as_ref(), "get".as_ref(), tree.join("file").as_os_str()])?;
    same(&told.contains("compression=zstd"), &true, &told)?;
    packed.config = config(&[("btrfs.compression", "bzip2")]);
    refused(pool.create_volume(&cx(), &packed, &EmptyFill), ErrorKind::Invalid, "btrfs.compression")?;
    Ok(pool.destroy_pool(&cx())?)
}
