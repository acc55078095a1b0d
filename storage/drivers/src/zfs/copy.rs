//! Copies within the pool: clones, full copies, and copies that share blocks with an image alone.

use super::command::{self, Property};
use super::keys::{self, CloneCopy};
use super::layout::{Part, parts_of};
use super::parse::Refusal;
use super::run::run;
use super::volume::properties;
use super::{Zfs, block_mode};
use larder_base::host::Input;
use larder_storage_driver::{Content, Cx, ErrorKind, Place, Result, StorageError, VolumeKind, VolumeSpec};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use uuid::Uuid;

/// The snapshot of an image that its clones are made from: it stays as long as the image.
const OF_IMAGE: &str = "readonly";

/// The snapshots that a copy is made from, part by part.
struct Origin {
    snapshots: Vec<String>,
    /// Whether they were made for this copy and go with it.
    is_passing: bool,
}

impl Zfs {
    pub(super) fn copy_natively(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        spec: &VolumeSpec,
    ) -> Result<()> {
        self.layout.must_be_spellable(at)?;
        keys::block_size(spec)?;
        let origin = self.origin(cx, from)?;
        let outcome = self.copy_parts(cx, at, from, &origin, spec);
        if origin.is_passing {
            // Now, or with the clone.
            for snapshot in &origin.snapshots {
                let deferred = run(&cx.uncancellable(), &command::destroy_deferred(snapshot));
                if outcome.is_ok() {
                    deferred?;
                }
            }
        }
        outcome?;
        match spec.size {
            _ if block_mode::is_wanted(spec) => self.finish_clone(cx, at, spec),
            Some(size) if at.volume.content == Content::Block => self.set_size(cx, at, Some(size)),
            _ => Ok(()),
        }
    }

    fn origin(&self, cx: &Cx<'_>, from: &Place) -> Result<Origin> {
        let parts = parts_of(&from.volume).iter();
        if from.snapshot.is_some() {
            let snapshots = parts.map(|part| self.layout.spelled(from, *part)).collect();
            return Ok(Origin { snapshots, is_passing: false });
        }
        let is_image = from.volume.kind == VolumeKind::Image;
        let tag = if is_image { OF_IMAGE.to_owned() } else { format!("copy-{}", Uuid::new_v4().simple()) };
        let snapshots: Vec<_> =
            parts.map(|part| format!("{}@{tag}", self.layout.part(from, *part))).collect();
        let is_there = |failure: &super::run::Failure| is_image && failure.is(Refusal::Exists);
        match run(cx, &command::snapshot(&snapshots)) {
            Err(failure) if failure.is(Refusal::Missing) => Err(StorageError::not_found(from)),
            Err(failure) if !is_there(&failure) => Err(failure.into()),
            _ => Ok(Origin { snapshots, is_passing: !is_image }),
        }
    }

    fn copy_parts(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        origin: &Origin,
        spec: &VolumeSpec,
    ) -> Result<()> {
        let how = match from.volume.kind {
            VolumeKind::Image => CloneCopy::Clone,
            _ => keys::clone_copy(&self.config.lock()),
        };
        for (part, snapshot) in parts_of(&at.volume).iter().zip(&origin.snapshots) {
            let dataset = self.layout.part(at, *part);
            let properties = properties(at, *part, spec)?;
            match how {
                CloneCopy::Clone => run(cx, &command::clone(snapshot, &dataset, &properties))
                    .map(drop)
                    .map_err(|failure| match failure.refusal {
                        Some(Refusal::Missing) => StorageError::not_found(from),
                        Some(Refusal::OtherType) => block_mode::other_type(at),
                        _ => failure.into(),
                    })?,
                CloneCopy::Full => self.transfer(cx, at, None, snapshot, &dataset, &properties)?,
                CloneCopy::Rebase => {
                    let image = self.image_of(cx, from, *part)?;
                    self.transfer(cx, at, image.as_deref(), snapshot, &dataset, &properties)?;
                }
            }
        }
        Ok(())
    }

    /// The image's snapshot that a part was cloned from.
    fn image_of(&self, cx: &Cx<'_>, from: &Place, part: Part) -> Result<Option<String>> {
        let text = self.look_at(cx, "origin", &self.layout.part(from, part), from)?;
        let origin = text.trim_end();
        Ok(origin.ends_with(&format!("@{OF_IMAGE}")).then(|| origin.to_owned()))
    }

    /// Sends a snapshot into a new dataset, which then has none.
    fn transfer(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        base: Option<&str>,
        snapshot: &str,
        dataset: &str,
        properties: &[Property],
    ) -> Result<()> {
        let (reader, writer) = std::io::pipe()?;
        let (reader, writer) = (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
        let send = command::send(base, snapshot).output_to(Arc::new(writer));
        let receive = command::receive(dataset, properties).input(Input::File(Arc::new(reader)));
        let (sent, received) = std::thread::scope(|scope| {
            // Each end is closed with its command, so that neither side waits for the other for ever.
            let sending = scope.spawn(move || {
                let sent = run(cx, &send);
                drop(send);
                sent
            });
            let received = run(cx, &receive);
            drop(receive);
            (sending.join(), received)
        });
        received.map_err(|failure| match failure.refusal {
            Some(Refusal::OtherType) => block_mode::other_type(at),
            _ => failure.into(),
        })?;
        sent.map_err(|_| StorageError::new(ErrorKind::Unexpected, "sending panicked"))??;
        let tag = snapshot.split_once('@').map_or("", |(_, tag)| tag);
        Ok(run(cx, &command::destroy(&format!("{dataset}@{tag}"))).map(drop)?)
    }
}
