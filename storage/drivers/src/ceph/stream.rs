//! Volumes on their way to another pool of ceph, on this cluster or another: `rbd export-diff` writes a snapshot, or what differs
//! between two; `rbd import-diff` makes the second of the first, under its name.
//!
//! The parts of a volume follow each other in one pipe. A snapshot is known by the identity of the pool that it was made in and
//! the number that it has there, which is never given again. Where it is received it has another: its image notes which it was. No
//! snapshot can leave its image, so those that stay in a volume that is brought up to date are carried to its new images too.
//! Source: `rbd(8)`.

use super::layout::Spelled;
use super::{CONTENTS, Ceph};
use crate::cluster::parse::Snapshot;
use crate::cluster::{Refusal, ask, change, run};
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_base::host::Input;
use larder_storage_driver::{Content, Cx, Need, Place, Result, StorageError, Stream, StreamEnd, VolumeSpec};
use std::fs::File;
use std::sync::Arc;

impl Ceph {
    /// The image of a snapshot's main part, and what the snapshot is known by where it is: the key of its note.
    fn known_here(&self, cx: &Cx<'_>, at: &Place) -> Result<(Spelled, String)> {
        let spelled = self.layout.spelled(at, Part::main(&at.volume));
        let found = self.snapshot_of(cx, &spelled)?.ok_or_else(|| StorageError::not_found(at))?;
        let key = format!("larder.snapshot.{}.{}", self.settings().identity, found.id);
        Ok((Spelled::image(spelled.image), key))
    }

    /// Refuses a filesystem that is not the one that was asked for.
    fn must_be_wanted(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let found = self.on_device(cx, at)?.filesystem;
        self.release_filesystem(cx, at)?;
        if found == self.wanted(spec) {
            return Ok(());
        }
        let problem = format!("{at} can't be received: it has {}", found.as_str());
        Err(StorageError::unsupported(Need::Stream, problem))
    }

    /// Makes what has arrived the volume that `spec` wants.
    fn settle(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        let mut bytes = 0;
        for part in Part::of(&at.volume) {
            let (image, commands) = (self.layout.spelled(at, *part), &self.settings().commands);
            let all: Vec<Snapshot> = ask(cx, &commands.snapshots(&image))?;
            if let Some(arrived) = all.iter().max_by_key(|snapshot| snapshot.id) {
                change(cx, &commands.remove_snapshot(&image.at(&arrived.name)))?;
            }
            let info = self.info(cx, at, *part)?;
            if *part == Part::Filesystem {
                self.renew(cx, at, &info.id)?;
            }
            bytes = info.size;
        }
        self.fit(cx, at, bytes, spec)
    }
}

impl Stream for Ceph {
    fn contents(&self) -> &'static [Content] {
        CONTENTS
    }

    fn end(&self) -> Result<Option<StreamEnd>> {
        // Nothing is shared by copying files, within one pool neither.
        Ok(Some(StreamEnd { format: "rbd", home: None }))
    }

    fn takes_over(&self) -> bool {
        false
    }

    fn identity(&self, cx: &Cx<'_>, snapshot: &Place) -> Result<Option<String>> {
        let (image, key) = self.known_here(cx, snapshot)?;
        let noted = run(cx, &self.settings().commands.read_note(&image, &key)).unless(&[Refusal::Missing])?;
        Ok(Some(noted.map_or(key, |noted| noted.trim_end().to_owned())))
    }

    fn note(&self, cx: &Cx<'_>, snapshot: &Place, identity: &str) -> Result<()> {
        let (image, key) = self.known_here(cx, snapshot)?;
        Ok(change(cx, &self.settings().commands.write_note(&image, &key, identity))?)
    }

    fn picture(&self, cx: &Cx<'_>, of: &Place, at: &Place) -> Result<()> {
        self.snapshot_at(cx, of, at)
    }

    fn send(&self, cx: &Cx<'_>, from: &Place, base: Option<&Place>, into: File) -> Result<()> {
        let into = Arc::new(into);
        Part::of(&from.volume).iter().try_for_each(|part| {
            let base = base.map(|base| self.layout.spelled(base, *part));
            let cmd = self.settings().commands.export(base.as_ref(), &self.layout.spelled(from, *part));
            change(cx, &cmd.output_to(Arc::clone(&into))).of(from)
        })
    }

    fn begin(&self, cx: &Cx<'_>, at: &Place, _: Option<&Place>, spec: &VolumeSpec) -> Result<()> {
        self.create_images(cx, at, spec)
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
        for part in Part::of(&at.volume) {
            let image = self.layout.spelled(&at.main(), *part);
            let cmd = self.settings().commands.import(&image).input(Input::File(Arc::clone(&from)));
            // The sender is told when the work is cancelled, and with it this ends.
            change(&cx.uncancellable(), &cmd)?;
        }
        drop(from);
        if base.is_none() && at.volume.has_filesystem() {
            self.must_be_wanted(cx, &at.main(), spec)?;
        }
        if at.snapshot.is_none() { self.settle(cx, at, spec) } else { Ok(()) }
    }
}
