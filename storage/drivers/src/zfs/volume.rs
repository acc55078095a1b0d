//! Volumes and snapshots: made, renamed, resized, measured.

use super::command::{self, Property};
use super::parse::{self, Refusal, Values};
use super::run::{change, run, run_if_there};
use super::{Zfs, block_mode, keys};
use crate::filesystem::PrepareRoot;
use crate::keys::is_on;
use crate::parts::{Part, must_grow};
use crate::refusal::Outcome;
use larder_base::ByteSize;
use larder_base::host::Cmd;
use larder_storage_driver::{Content, Cx, Place, Result, StorageError, VolumeSpec, VolumeUsage};
use std::collections::HashMap;

/// Marks what a dataset holds, as the peers do with theirs.
const CONTENT: &str = "larder:content_type";
/// Whether the size of a volume is set aside.
const RESERVE: &str = "zfs.reserve_space";
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
        let use_refquota = is_on(&spec.config, "zfs.use_refquota");
        Self { use_refquota, reserve_space: is_on(&spec.config, RESERVE) }
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
pub(super) fn properties(at: &Place, part: Part, spec: &VolumeSpec) -> Vec<Property> {
    let mut properties = vec![(CONTENT, at.volume.content.as_str().to_owned())];
    if part == Part::Disk || block_mode::is_wanted(spec) {
        properties.push(("volmode", "none".to_owned()));
    } else {
        properties.extend([("mountpoint", "legacy".to_owned()), ("canmount", "noauto".to_owned())]);
    }
    if block_mode::is_wanted(spec) {
        properties.push(block_mode::mark(spec));
    } else if !at.volume.has_disk() {
        let limits = Limits::of(spec);
        properties.extend(limits.marks());
        properties.extend(spec.size.map(|_| limits.properties(spec.size)).into_iter().flatten());
        properties.extend(keys::block_size(spec).map(|bytes| ("recordsize", bytes.to_string())));
    }
    properties
}

impl Zfs {
    pub(super) fn create_part(&self, cx: &Cx<'_>, at: &Place, part: Part, spec: &VolumeSpec) -> Result<()> {
        let dataset = self.layout.part(at, part);
        let mut properties = properties(at, part, spec);
        let size = if part == Part::Disk { Some(spec.disk_size()) } else { block_mode::size(spec) };
        let Some(size) = size else {
            change(cx, &command::create_filesystem(&dataset, &properties))?;
            let scratch = self.mount_points.of(at);
            return cx.act(&PrepareRoot::new(dataset.into(), "zfs", scratch, &spec.config));
        };
        let block_bytes = keys::block_size(spec);
        properties.extend(block_bytes.map(|bytes| ("volblocksize", bytes.to_string())));
        let bytes = rounded(size, block_bytes.unwrap_or(BLOCK_BYTES));
        let is_sparse = !is_on(&spec.config, RESERVE);
        change(cx, &command::create_disk(&dataset, bytes, is_sparse, &properties))?;
        if part == Part::Disk { Ok(()) } else { self.format(cx, at, spec) }
    }

    /// Sets aside for the disk of a copy what a new one has.
    pub(super) fn reserve(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        if !is_on(&spec.config, RESERVE) || !(at.volume.has_disk() || block_mode::is_wanted(spec)) {
            return Ok(());
        }
        let reserved = [("refreservation", "auto".to_owned())];
        Ok(change(cx, &command::set(&self.layout.part(at, Part::main(&at.volume)), &reserved))?)
    }

    pub(super) fn snapshot_parts(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        self.mount_points.write_back(cx, &at.main())?;
        let spelled: Vec<_> =
            Part::of(&at.volume).iter().map(|part| self.layout.spelled(at, *part)).collect();
        change(cx, &command::snapshot(&spelled)).map_err(|failure| match failure.refusal {
            Some(Refusal::Missing) => failure.of(at.main()),
            _ => failure.of(at),
        })
    }

    /// Renames one part; tells whether it was there.
    pub(super) fn rename_part(&self, cx: &Cx<'_>, from: &Place, to: &Place, part: Part) -> Result<bool> {
        let (old, new) = (self.layout.spelled(from, part), self.layout.spelled(to, part));
        self.unmount_all_of(cx, from, part)?;
        if let (Some((dataset, _)), Some((clone, _))) = (old.split_once('@'), new.split_once('@'))
            && dataset != clone
        {
            return self.hand_over(cx, [&old, &new], clone, to);
        }
        let rename = command::rename(&old, &new);
        match change(cx, &rename) {
            Err(failure) if failure.is(Refusal::Missing) => return Ok(false),
            // Delegated to a namespace that is gone.
            Err(failure) if failure.is(Refusal::Zoned) => {
                change(cx, &command::set(&old, &[("zoned", "off".to_owned())]))?;
            }
            // The first volume of its kind.
            Err(failure) if failure.is(Refusal::MissingParent) && to.is_live() => {
                let parent = command::create_filesystem(&self.layout.parent(to.volume.kind), &[]);
                change(cx, &parent).unless(&[Refusal::Exists])?;
            }
            other => return other.of(to).map(|()| true),
        }
        change(cx, &rename).of(to).map(|()| true)
    }

    /// Moves a snapshot to a clone of it, with all before it. Tells whether it was there.
    fn hand_over(&self, cx: &Cx<'_>, [old, new]: [&str; 2], clone: &str, to: &Place) -> Result<bool> {
        match (is_there(cx, old)?, is_there(cx, new)?) {
            (true, true) => Err(StorageError::already_exists(to)),
            (true, false) => {
                change(cx, &command::promote(clone))?;
                is_there(cx, new)
            }
            (false, is_done) => Ok(is_done),
        }
    }

    pub(super) fn set_size(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        const COLUMNS: &str = "volsize,volblocksize,larder:use_refquota,larder:reserve_space";
        let dataset = self.layout.part(at, Part::main(&at.volume));
        let values = self.look_at(cx, COLUMNS, &dataset, at)?;
        let (old, block_bytes) = (values.number("volsize")?, values.number("volblocksize")?);
        if old == 0 {
            let limits = Limits {
                use_refquota: values.is_on(USE_REFQUOTA),
                reserve_space: values.is_on(RESERVE_SPACE),
            };
            return limit(cx, at, &command::set(&dataset, &limits.properties(size)), size);
        }
        let without = || StorageError::invalid(format!("{at} needs a size: it is kept on a disk of its own"));
        let new = rounded(size.ok_or_else(without)?, block_bytes);
        if at.volume.content == Content::Filesystem {
            return self.resize_zvol(cx, at, old, new);
        }
        match must_grow(at, old, new)? {
            true => Ok(change(cx, &command::set(&dataset, &[("volsize", new.to_string())]))?),
            false => Ok(()),
        }
    }

    pub(super) fn volume_usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        let dataset = self.layout.spelled(at, Part::main(&at.volume));
        usage_in(&self.look_at(cx, USAGE, &dataset, at)?)
    }

    pub(super) fn volume_usages(&self, cx: &Cx<'_>, places: &[Place]) -> Result<Vec<Option<VolumeUsage>>> {
        let text = run(cx, &command::list_volumes_below(&format!("name,{USAGE}"), self.layout.dataset()))?;
        let lines: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let line = |at: &Place| lines.get(self.layout.spelled(at, Part::main(&at.volume)).as_str());
        Ok(places.iter().map(|at| usage_in(&parse::values(USAGE, line(at)?)).ok()).collect())
    }

    /// The columns of a place's dataset; `NotFound` when it is not there.
    pub(super) fn look_at(&self, cx: &Cx<'_>, columns: &str, dataset: &str, at: &Place) -> Result<Values> {
        run(cx, &command::list(columns, &[dataset])).of(at).map(|text| parse::values(columns, &text))
    }
}

/// Reads the columns [`USAGE`].
fn usage_in(values: &Values) -> Result<VolumeUsage> {
    let (quota, refquota) = (values.number("quota")?, values.number("refquota")?);
    // A refquota counts what the volume itself refers to, and no snapshots.
    let used = values.number(if refquota > 0 { "referenced" } else { "used" })?;
    let total = values.number("volsize")?.max(quota).max(refquota);
    Ok(VolumeUsage { used_bytes: Some(used), total_bytes: (total > 0).then_some(total) })
}

/// Whether a dataset or snapshot is there.
pub(super) fn is_there(cx: &Cx<'_>, name: &str) -> Result<bool> {
    run_if_there(cx, &command::list("name", &[name]))
}

/// Limits a filesystem by what `set` sets.
fn limit(cx: &Cx<'_>, at: &Place, set: &Cmd, size: Option<ByteSize>) -> Result<()> {
    change(cx, set).map_err(|failure| match failure.refusal {
        Some(Refusal::TooSmall) => {
            let size = size.unwrap_or_default();
            StorageError::invalid(format!("{at} holds more than {size}: delete some of it first"))
        }
        _ => failure.into(),
    })
}

/// A disk's size in whole blocks.
fn rounded(size: ByteSize, block_bytes: u64) -> u64 {
    size.round_up(block_bytes.max(BLOCK_BYTES)).unwrap_or(size).as_bytes()
}
