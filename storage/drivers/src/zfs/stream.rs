//! Volumes on their way to another pool of zfs: `zfs send` writes a snapshot, or what differs between two; `zfs receive` makes
//! the second of the first. Both are known by their `guid`, which a snapshot keeps wherever it is received.
//!
//! The parts of a volume follow each other in one pipe. What brings a volume up to date is received as a clone of the newest
//! snapshot that both ends have; that one, and all before it, go over to it later by `zfs promote`, without a byte being
//! written. No property is sent, and every property that matters is set: nothing is ever mounted where it was elsewhere.
//! Sources: `zfs-send(8)`, `zfs-receive(8)`, `zfs-promote(8)`.

use super::command;
use super::parse::Refusal;
use super::run::change;
use super::volume::properties;
use super::{CONTENTS, Zfs, block_mode, keys};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_base::host::Input;
use larder_storage_driver::{
    Area, Content, Cx, Need, Place, Result, StorageError, Stream, StreamEnd, VolumeSpec,
};
use std::fs::File;
use std::sync::Arc;

/// The snapshot as which the volume itself arrives; no place is spelled so.
const ARRIVED: &str = "arrived";

fn can_not(problem: String) -> StorageError {
    StorageError::unsupported(Need::Stream, problem)
}

impl Zfs {
    /// A zvol has the block size of what was sent, for ever.
    fn must_have_block_size(&self, cx: &Cx<'_>, at: &Place, part: Part, spec: &VolumeSpec) -> Result<()> {
        let Some(wanted) = keys::block_size(spec) else { return Ok(()) };
        let values = self.look_at(cx, "volblocksize", &self.layout.part(at, part), at)?;
        match values.number("volblocksize")? {
            found if found == 0 || found == wanted => Ok(()),
            found => Err(can_not(format!("{at} can't be received: it has blocks of {found} bytes"))),
        }
    }

    /// Makes what has arrived the volume that `spec` wants.
    fn settle(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        for part in Part::of(&at.volume) {
            change(cx, &command::destroy(&[], &format!("{}@{ARRIVED}", self.layout.part(at, *part))))?;
        }
        match spec.size {
            _ if block_mode::is_wanted(spec) => {
                let found = self.finish_clone(cx, at, spec)?;
                if found != block_mode::filesystem(spec) {
                    return Err(can_not(format!("{at} can't be received: it has {}", found.as_str())));
                }
            }
            Some(size) if at.volume.content == Content::Block => self.set_size(cx, at, Some(size))?,
            _ => self.must_have_room(cx, at)?,
        }
        self.reserve(cx, at, spec)
    }

    /// The snapshots that will go over to a volume count under its quota, and so do those among them that nobody wants.
    fn must_have_room(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        const COLUMNS: &str = "used,quota,origin";
        let values = self.look_at(cx, COLUMNS, &self.layout.part(at, Part::main(&at.volume)), at)?;
        let (used, quota) = (values.number("used")?, values.number("quota")?);
        let Some((old, _)) = values.text("origin").and_then(|origin| origin.split_once('@')) else {
            return Ok(());
        };
        let theirs = self.look_at(cx, "used", old, &at.within(Area::Live))?;
        let all = used + theirs.number("used")?;
        match quota {
            1.. if all > quota => {
                Err(can_not(format!("{at} has no room for its older snapshots for a moment")))
            }
            _ => Ok(()),
        }
    }
}

impl Stream for Zfs {
    fn contents(&self) -> &'static [Content] {
        CONTENTS
    }

    fn end(&self) -> Result<Option<StreamEnd>> {
        // Nothing is shared by copying files, within one pool neither.
        Ok(Some(StreamEnd { format: "zfs", home: None }))
    }

    fn identity(&self, cx: &Cx<'_>, snapshot: &Place) -> Result<Option<String>> {
        let guid = |part: &Part| {
            self.look_at(cx, "guid", &self.layout.spelled(snapshot, *part), snapshot)?.number("guid")
        };
        let guids: Vec<u64> = Part::of(&snapshot.volume).iter().map(guid).collect::<Result<_>>()?;
        Ok(Some(format!("{guids:?}")))
    }

    fn picture(&self, cx: &Cx<'_>, of: &Place, at: &Place) -> Result<()> {
        self.mount_points.write_back(cx, of)?;
        self.snapshot_parts(cx, at)
    }

    fn send(&self, cx: &Cx<'_>, from: &Place, base: Option<&Place>, into: File) -> Result<()> {
        let into = Arc::new(into);
        for part in Part::of(&from.volume) {
            let base = base.map(|base| self.layout.spelled(base, *part));
            let cmd = command::send(base.as_deref(), &self.layout.spelled(from, *part));
            change(cx, &cmd.output_to(Arc::clone(&into)))?;
        }
        Ok(())
    }

    fn begin(&self, _: &Cx<'_>, at: &Place, _: Option<&Place>, _: &VolumeSpec) -> Result<()> {
        self.layout.must_be_spellable(at)
    }

    fn receive(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        base: Option<&Place>,
        spec: &VolumeSpec,
        from: File,
    ) -> Result<()> {
        let from = Arc::new(from);
        let is_new = base.is_none_or(|base| base.area != at.area);
        for part in Part::of(&at.volume) {
            let spelled = match &at.snapshot {
                Some(_) => self.layout.spelled(at, *part),
                None => format!("{}@{ARRIVED}", self.layout.part(at, *part)),
            };
            let properties = if is_new { properties(at, *part, spec) } else { Vec::new() };
            let origin = base.filter(|_| is_new).map(|base| self.layout.spelled(base, *part));
            let cmd = command::receive(&spelled, origin.as_deref(), &properties);
            let received = change(cx, &cmd.input(Input::File(Arc::clone(&from))));
            received.unless(&[Refusal::OtherType])?.ok_or_else(|| {
                can_not(format!("{at} can't be received: only one of the two is on a zvol"))
            })?;
            if base.is_none() {
                self.must_have_block_size(cx, at, *part, spec)?;
            }
        }
        drop(from);
        if at.snapshot.is_none() { self.settle(cx, at, spec) } else { Ok(()) }
    }
}
