//! Copies within the pool: clones, full copies, and copies that share blocks with an image alone.

use super::command::{self, Property};
use super::keys::{self, CloneCopy};
use super::parse::Refusal;
use super::run::{Failure, run};
use super::stream::joined;
use super::volume::properties;
use super::{Zfs, block_mode};
use crate::spelling::Part;
use larder_storage_driver::{Content, Cx, Need, Place, Result, StorageError, VolumeKind, VolumeSpec};
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
        let images = self.images(cx, at, from)?;
        let origin = self.origin(cx, from)?;
        let outcome = self.copy_parts(cx, [at, from], &images, &origin, spec);
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
            _ if block_mode::is_wanted(spec) => self.finish_clone(cx, at, spec).map(drop),
            Some(size) if at.volume.content == Content::Block => self.set_size(cx, at, Some(size)),
            _ => Ok(()),
        }
    }

    fn origin(&self, cx: &Cx<'_>, from: &Place) -> Result<Origin> {
        let parts = Part::of(&from.volume).iter();
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
        [at, from]: [&Place; 2],
        images: &[String],
        origin: &Origin,
        spec: &VolumeSpec,
    ) -> Result<()> {
        let mut images = images.iter();
        for (part, snapshot) in Part::of(&at.volume).iter().zip(&origin.snapshots) {
            let dataset = self.layout.part(at, *part);
            let properties = properties(at, *part, spec)?;
            match images.next() {
                None => run(cx, &command::clone(snapshot, &dataset, &properties)).map(drop),
                Some(image) => self.transfer(cx, image, snapshot, &dataset, &properties),
            }
            .map_err(|failure| match failure.refusal {
                Some(Refusal::Missing) => StorageError::not_found(from),
                Some(Refusal::OtherType) => block_mode::other_type(at),
                _ => failure.into(),
            })?;
        }
        Ok(())
    }

    /// The images' snapshots beyond which a copy shares nothing with its source, part by part; none where it is a clone.
    fn images(&self, cx: &Cx<'_>, at: &Place, from: &Place) -> Result<Vec<String>> {
        let full =
            || StorageError::unsupported(Need::Clone, format!("{at} is no clone: zfs.clone_copy says so"));
        match keys::clone_copy(&self.config.lock()) {
            _ if from.volume.kind == VolumeKind::Image => Ok(Vec::new()),
            CloneCopy::Clone => Ok(Vec::new()),
            CloneCopy::Full => Err(full()),
            CloneCopy::Rebase => {
                let image = |part: &Part| self.image_of(cx, from, *part)?.ok_or_else(full);
                Part::of(&from.volume).iter().map(image).collect()
            }
        }
    }

    /// The image's snapshot that a part was cloned from.
    fn image_of(&self, cx: &Cx<'_>, from: &Place, part: Part) -> Result<Option<String>> {
        let text = self.look_at(cx, "origin", &self.layout.part(from, part), from)?;
        let origin = text.trim_end();
        Ok(origin.ends_with(&format!("@{OF_IMAGE}")).then(|| origin.to_owned()))
    }

    /// Sends what a snapshot has beyond an image's into a new dataset, which then has no snapshot.
    fn transfer(
        &self,
        cx: &Cx<'_>,
        image: &str,
        snapshot: &str,
        dataset: &str,
        properties: &[Property],
    ) -> Result<(), Failure> {
        let (send, receive) =
            (command::send(Some(image), snapshot), command::receive(dataset, None, properties));
        joined(cx, send, receive)?;
        let tag = snapshot.split_once('@').map_or("", |(_, tag)| tag);
        run(cx, &command::destroy(&format!("{dataset}@{tag}"))).map(drop)
    }
}
