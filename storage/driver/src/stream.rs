//! How a technology carries snapshots from one of its pools to another without looking into them.

use crate::{Cx, Place, Result, VolumeSpec};
use std::fmt;
use std::fs::File;

/// A technology's own way from one pool to another: `btrfs send`, `zfs send`, `rbd export-diff`. A facet of a
/// [`Driver`](crate::Driver); the pool layer joins the ends, chooses what is sent on top of what, and copies files where there
/// is no stream.
///
/// Snapshots are carried oldest first, each as what differs from one that both ends have; the volume itself comes last.
pub trait Stream: fmt::Debug + Send + Sync {
    /// What this end speaks; `None` where the pool can take no part.
    fn end(&self) -> Result<Option<StreamEnd>>;

    /// What a snapshot is known by on every pool that it was carried to; `None` when no stream can carry it.
    fn identity(&self, cx: &Cx<'_>, snapshot: &Place) -> Result<Option<String>>;

    /// Makes a picture of a live volume that can be sent, staged under the ticket of `cx`, and tells where; the pool destroys it
    /// as any staged place. What no stream can carry is `Unsupported(Need::Stream)` before any change.
    fn picture(&self, cx: &Cx<'_>, of: &Place) -> Result<Place>;

    /// Writes a snapshot or picture into a pipe; with `base`, a snapshot that the other end has too, only what differs.
    /// Changes nothing.
    fn send(&self, cx: &Cx<'_>, from: &Place, base: Option<&Place>, into: File) -> Result<()>;

    /// Reads from a pipe what [`Stream::send`] writes: a snapshot of a staged volume, or, last, the staged volume itself as
    /// `spec` wants it.
    fn receive(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec, from: File) -> Result<()>;
}

/// What one end of a stream speaks, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Ends of one format understand each other.
    pub format: &'static str,
    /// What the pool's bytes are on. Within one home blocks are shared by other means, so there is no stream.
    pub home: String,
}

impl StreamEnd {
    /// Whether a stream from `source` can be read here.
    pub fn understands(&self, source: &Self) -> bool {
        self.format == source.format && self.home != source.home
    }
}
