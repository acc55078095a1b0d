//! Volumes and snapshots: made, renamed, resized, measured.

use super::command::{self, Property};
use super::parse::{self, Refusal};
use super::run::{run, run_if_there};
use super::{Zfs, block_mode, keys};
use crate::filesystem::PrepareRoot;
use crate::spelling::{self, Part};
use larder_base::ByteSize;
use larder_storage_driver::{
    Content, Cx, ErrorKind, Need, Place, Result, StorageError, VolumeSpec, VolumeUsage,
};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::Path;

/// Marks what a dataset holds, as the peers do with theirs.
const CONTENT: &str = "larder:content_type";
/// Remembers `zfs.use_refquota` and `zfs.reserve_space` where a later change of the size needs them.
const USE_REFQUOTA: &str = "larder:use_refquota";
const RESERVE_SPACE: &str = "larder:reserve_space";
/// The columns that tell how full a volume is.
const USAGE: &str = "used,referenced,quota,refquota,volsize";
/// The block size of a zvol that nobody gave one.
const BLOCK_BYTES: u64 = 16 << 10;

/// How a filesystem's size is enforced.
#[derive(Debug, Clone, Copy)]
struct Limits {
    use_refquota: bool,
    reserve_space: bool,
}

impl Limits {
    fn of(spec: &VolumeSpec) -> Self {
        Self {
            use_refquota: keys::is_on(&spec.config, "zfs.use_refquota"),
            reserve_space: keys::is_on(&spec.config, "zfs.reserve_space"),
        }
    }

    /// The properties that limit a filesystem to `size`.
    fn properties(self, size: Option<ByteSize>) -> Vec<Property> {
        let value = size.map_or_else(|| "none".to_owned(), |size| size.as_bytes().to_string());
        let (quota, reservation) = match self.use_refquota {
            true => ("refquota", "refreservation"),
            false => ("quota", "reservation"),
        };
        let mut properties = vec![(quota, value.clone())];
        properties.extend(self.reserve_space.then_some((reservation, value)));
        properties
    }

    fn marks(self) -> impl Iterator<Item = Property> {
        let mark = |is_on: bool, name| is_on.then(|| (name, "true".to_owned()));
        mark(self.use_refquota, USE_REFQUOTA).into_iter().chain(mark(self.reserve_space, RESERVE_SPACE))
    }
}

/// The properties of a part: what every dataset of a volume has (it is never mounted or shown but by us), and what `spec`
/// asks for, which is nothing for the small filesystem of a machine.
pub(super) fn properties(at: &Place, part: Part, spec: &VolumeSpec) -> Result<Vec<Property>> {
    let mut properties = vec![(CONTENT, at.volume.content.as_str().to_owned())];
    if part == Part::Disk || block_mode::is_wanted(spec) {
        properties.push(("volmode", "none".to_owned()));
    } else {
        properties.extend([("mountpoint", "legacy".to_owned()), ("canmount", "noauto".to_owned())]);
    }
    if at.volume.has_disk() {
        return Ok(properties);
    }
    if block_mode::is_wanted(spec) {
        properties.extend(block_mode::marks(spec));
        return Ok(properties);
    }
    let limits = Limits::of(spec);
    properties.extend(limits.marks());
    if spec.size.is_some() {
        properties.extend(limits.properties(spec.size));
    }
    properties.extend(keys::block_size(spec)?.map(|bytes| ("recordsize", bytes.to_string())));
    Ok(properties)
}

impl Zfs {
    pub(super) fn create_volume(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        keys::block_size(spec)?;
        for part in Part::of(&at.volume) {
            match part {
                Part::Filesystem if block_mode::is_wanted(spec) => {
                    self.create_zvol(cx, at, *part, block_mode::size(spec), spec)?;
                    self.format(cx, at, spec)?;
                }
                Part::Filesystem => {
                    let properties = properties(at, *part, spec)?;
                    let dataset = self.layout.part(at, *part);
                    run(cx, &command::create_filesystem(&dataset, &properties))?;
                    let scratch = self.layout.mount_point(at);
                    cx.act(&PrepareRoot::new(dataset.into(), "zfs", scratch, &spec.config))?;
                }
                Part::Disk => {
                    let size = match at.volume.content {
                        Content::Iso => spec.size.unwrap_or_default(),
                        Content::Filesystem | Content::Block => spec.disk_size(),
                    };
                    self.create_zvol(cx, at, *part, size, spec)?;
                }
            }
        }
        Ok(())
    }

    fn create_zvol(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        part: Part,
        size: ByteSize,
        spec: &VolumeSpec,
    ) -> Result<()> {
        let block_bytes = keys::block_size(spec)?;
        let mut properties = properties(at, part, spec)?;
        properties.extend(block_bytes.map(|bytes| ("volblocksize", bytes.to_string())));
        let bytes = rounded(size, block_bytes.unwrap_or(BLOCK_BYTES))?;
        let sparse = !keys::is_on(&spec.config, "zfs.reserve_space");
        let cmd = command::create_disk(&self.layout.part(at, part), bytes, sparse, &properties);
        Ok(run(cx, &cmd).map(drop)?)
    }

    pub(super) fn snapshot_parts(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        self.write_back(cx, &at.main())?;
        let spelled: Vec<_> =
            Part::of(&at.volume).iter().map(|part| self.layout.spelled(at, *part)).collect();
        match run(cx, &command::snapshot(&spelled)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(Refusal::Exists) => Err(StorageError::already_exists(at)),
            Err(failure) if failure.is(Refusal::Missing) => Err(StorageError::not_found(at.main())),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) fn rename_parts(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.layout.must_be_spellable(to)?;
        if from.snapshot.is_some() && from.volume != to.volume {
            let message = format!("{from} can't become {to}: a snapshot stays with its volume");
            return Err(StorageError::new(ErrorKind::Invalid, message));
        }
        let found_any = spelling::move_parts(from, to, |part| self.rename_part(cx, from, to, part))?;
        if found_any || self.has_any_part(cx, to)? { Ok(()) } else { Err(StorageError::not_found(from)) }
    }

    /// Renames one part; tells whether it was there.
    fn rename_part(&self, cx: &Cx<'_>, from: &Place, to: &Place, part: Part) -> Result<bool> {
        let (old, new) = (self.layout.spelled(from, part), self.layout.spelled(to, part));
        self.unmount_all_of(cx, from, part)?;
        if let (Some((dataset, _)), Some((clone, _))) = (old.split_once('@'), new.split_once('@'))
            && dataset != clone
        {
            return self.hand_over(cx, [&old, &new], clone, to);
        }
        match run(cx, &command::rename(&old, &new)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(Refusal::Missing) => Ok(false),
            Err(failure) if failure.is(Refusal::Exists) => Err(StorageError::already_exists(to)),
            Err(failure) if failure.is(Refusal::Zoned) => {
                // Delegated to a namespace that is gone.
                run(cx, &command::set(&old, &[("zoned", "off".to_owned())]))?;
                run(cx, &command::rename(&old, &new))?;
                Ok(true)
            }
            Err(failure) if failure.is(Refusal::MissingParent) && to.is_live() => {
                self.make_parent(cx, to)?;
                run(cx, &command::rename(&old, &new))?;
                Ok(true)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Moves a snapshot to a clone of it, with all before it. Tells whether it was there.
    fn hand_over(&self, cx: &Cx<'_>, [old, new]: [&str; 2], clone: &str, to: &Place) -> Result<bool> {
        let is_there = |name| run_if_there(cx, &command::list("name", &[name]));
        match (is_there(old)?, is_there(new)?) {
            (true, true) => Err(StorageError::already_exists(to)),
            (true, false) => {
                run(cx, &command::promote(clone))?;
                is_there(new)
            }
            (false, is_done) => Ok(is_done),
        }
    }

    pub(super) fn delegate_volume(&self, cx: &Cx<'_>, at: &Place, namespace: &Path) -> Result<()> {
        let dataset = self.layout.part(at, Part::Filesystem);
        run(cx, &command::set(&dataset, &[("zoned", "on".to_owned())]))?;
        match run(cx, &command::zone(namespace, &dataset)) {
            Err(failure) if !failure.is(Refusal::Exists) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// Makes the dataset that holds the live volumes of a kind: the first volume of each kind needs it.
    fn make_parent(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        match run(cx, &command::create_filesystem(&self.layout.parent(at.volume.kind), &[])) {
            Err(failure) if !failure.is(Refusal::Exists) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    fn has_any_part(&self, cx: &Cx<'_>, at: &Place) -> Result<bool> {
        for part in Part::of(&at.volume) {
            if run_if_there(cx, &command::list("name", &[&self.layout.spelled(at, *part)]))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn set_size(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        const COLUMNS: &str = "volsize,volblocksize,larder:use_refquota,larder:reserve_space";
        let dataset = self.layout.part(at, Part::main(&at.volume));
        let text = self.look_at(cx, COLUMNS, &dataset, at)?;
        let values = parse::values(COLUMNS, &text);
        let (old, block_bytes) = (values.number("volsize")?, values.number("volblocksize")?);
        if old == 0 {
            let limits = Limits {
                use_refquota: values.is_on(USE_REFQUOTA),
                reserve_space: values.is_on(RESERVE_SPACE),
            };
            return self.limit(cx, at, &dataset, limits, size);
        }
        let Some(size) = size else {
            let message = format!("{at} needs a size: it is kept on a disk of its own");
            return Err(StorageError::new(ErrorKind::Invalid, message));
        };
        let new = rounded(size, block_bytes)?;
        if at.volume.content == Content::Filesystem {
            return self.resize_zvol(cx, at, old, new);
        }
        match new.cmp(&old) {
            Ordering::Equal => Ok(()),
            Ordering::Less => {
                Err(StorageError::unsupported(Need::Shrink, format!("{at} can't shrink: a disk only grows")))
            }
            Ordering::Greater => {
                Ok(run(cx, &command::set(&dataset, &[("volsize", new.to_string())])).map(drop)?)
            }
        }
    }

    fn limit(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        dataset: &str,
        limits: Limits,
        size: Option<ByteSize>,
    ) -> Result<()> {
        match run(cx, &command::set(dataset, &limits.properties(size))) {
            Err(failure) if failure.is(Refusal::TooSmall) => {
                let size = size.unwrap_or_default();
                let message = format!("{at} holds more than {size}: delete some of it first");
                Err(StorageError::new(ErrorKind::Invalid, message))
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) fn volume_usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        let dataset = self.layout.spelled(at, Part::main(&at.volume));
        usage_in(&self.look_at(cx, USAGE, &dataset, at)?)
    }

    pub(super) fn volume_usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        let text = run(cx, &command::list_volumes_below(&format!("name,{USAGE}"), self.layout.dataset()))?;
        let lines: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let dataset = |at: &Place| self.layout.spelled(at, Part::main(&at.volume));
        Ok(places.iter().map(|at| usage_in(lines.get(dataset(at).as_str())?).ok()).collect())
    }

    /// The columns of a place's dataset; `NotFound` when it is not there.
    pub(super) fn look_at(&self, cx: &Cx<'_>, columns: &str, dataset: &str, at: &Place) -> Result<String> {
        run(cx, &command::list(columns, &[dataset])).map_err(|failure| match failure.refusal {
            Some(Refusal::Missing) => StorageError::not_found(at),
            _ => failure.into(),
        })
    }
}

/// Reads the columns [`USAGE`].
fn usage_in(line: &str) -> Result<VolumeUsage> {
    let values = parse::values(USAGE, line);
    let (quota, refquota) = (values.number("quota")?, values.number("refquota")?);
    // A refquota counts what the volume itself refers to, and no snapshots.
    let used = values.number(if refquota > 0 { "referenced" } else { "used" })?;
    let total = values.number("volsize")?.max(quota).max(refquota);
    Ok(VolumeUsage { used_bytes: Some(used), total_bytes: (total > 0).then_some(total) })
}

/// A disk's size in whole blocks.
fn rounded(size: ByteSize, block_bytes: u64) -> Result<u64> {
    let rounded = size.round_up(block_bytes.max(BLOCK_BYTES)).map(ByteSize::as_bytes);
    rounded.ok_or_else(|| StorageError::new(ErrorKind::Invalid, format!("{size} is too large for a disk")))
}
