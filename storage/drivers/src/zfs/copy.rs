//! Copies within the pool: clones, full copies, and copies that share blocks with an image alone.

use super::command::{self, DEFERRED, Property};
use super::parse::Refusal;
use super::run::{Failure, change};
use super::volume::properties;
use super::{Zfs, block_mode};
use crate::keys::value;
use crate::parts::Part;
use larder_base::host::Input;
use larder_storage_driver::{Content, Cx, Need, Place, Result, StorageError, VolumeKind, VolumeSpec, piped};
use std::sync::Arc;
use uuid::Uuid;

/// The snapshot of an image that its clones are made from: it stays as long as the image.
const OF_IMAGE: &str = "readonly";

impl Zfs {
    pub(super) fn copy_natively(
        &self,
        cx: &Cx<'_>,
        [at, from]: [&Place; 2],
        spec: &VolumeSpec,
    ) -> Result<()> {
        let images = Part::of(&from.volume).iter().map(|part| self.image_of(cx, [at, from], *part));
        let images = images.collect::<Result<Vec<_>>>()?;
        let (snapshots, is_passing) = self.snapshots_to_copy(cx, from)?;
        let mut parts = Part::of(&at.volume).iter().zip(snapshots.iter().zip(&images));
        let copied = parts.try_for_each(|(part, (snapshot, image))| {
            let (dataset, properties) = (self.layout.part(at, *part), properties(at, *part, spec));
            match image {
                None => change(cx, &command::clone(snapshot, &dataset, &properties)),
                Some(image) => transfer(cx, [image, snapshot], &dataset, &properties),
            }
        });
        for snapshot in snapshots.iter().filter(|_| is_passing) {
            // Now, or with the clone.
            let deferred = change(&cx.uncancellable(), &command::destroy(&[DEFERRED], snapshot));
            if copied.is_ok() {
                deferred?;
            }
        }
        copied.map_err(|failure| match failure.refusal {
            Some(Refusal::Missing) => failure.of(from),
            Some(Refusal::OtherType) => block_mode::other_type(at),
            _ => failure.into(),
        })?;
        match spec.size {
            _ if block_mode::is_wanted(spec) => drop(self.finish_clone(cx, at, spec)?),
            Some(size) if at.volume.content == Content::Block => self.set_size(cx, at, Some(size))?,
            _ => {}
        }
        self.reserve(cx, at, spec)
    }

    /// The snapshots that a copy is made from, part by part, and whether they were made for this copy and go with it.
    fn snapshots_to_copy(&self, cx: &Cx<'_>, from: &Place) -> Result<(Vec<String>, bool)> {
        let parts = Part::of(&from.volume).iter();
        if from.snapshot.is_some() {
            return Ok((parts.map(|part| self.layout.spelled(from, *part)).collect(), false));
        }
        let is_image = from.volume.kind == VolumeKind::Image;
        let tag = if is_image { OF_IMAGE.to_owned() } else { format!("copy-{}", Uuid::new_v4().simple()) };
        let snapshots: Vec<_> =
            parts.map(|part| format!("{}@{tag}", self.layout.part(from, *part))).collect();
        match change(cx, &command::snapshot(&snapshots)) {
            Err(failure) if !(is_image && failure.is(Refusal::Exists)) => Err(failure.of(from)),
            _ => Ok((snapshots, !is_image)),
        }
    }

    /// The image's snapshot beyond which a part of a copy shares nothing with its source; `None` when it is a clone.
    fn image_of(&self, cx: &Cx<'_>, [at, from]: [&Place; 2], part: Part) -> Result<Option<String>> {
        let full =
            StorageError::unsupported(Need::Clone, format!("{at} is no clone: zfs.clone_copy says so"));
        match value(&self.config.lock(), "zfs.clone_copy") {
            _ if from.volume.kind == VolumeKind::Image => Ok(None),
            Some("false") => Err(full),
            Some("rebase") => {
                let values = self.look_at(cx, "origin", &self.layout.part(from, part), from)?;
                let origin = values.text("origin").filter(|origin| origin.ends_with(&format!("@{OF_IMAGE}")));
                origin.map(|origin| Some(origin.to_owned())).ok_or(full)
            }
            _ => Ok(None),
        }
    }
}

/// Sends what a snapshot has beyond an image's into a new dataset, which then has no snapshot.
fn transfer(
    cx: &Cx<'_>,
    [image, snapshot]: [&str; 2],
    dataset: &str,
    properties: &[Property],
) -> Result<(), Failure> {
    let send = command::send(Some(image), snapshot);
    let receive = command::receive(dataset, None, properties);
    let (sent, received) = piped(
        |into| change(cx, &send.output_to(Arc::new(into))),
        |from| change(cx, &receive.input(Input::File(Arc::new(from)))),
    )?;
    received.and(sent)?;
    let tag = snapshot.split_once('@').map_or("", |(_, tag)| tag);
    change(cx, &command::destroy(&[], &format!("{dataset}@{tag}")))
}
