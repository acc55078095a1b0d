//! How a technology carries snapshots from one of its pools to another without looking into them.

use crate::{Content, Cx, Place, Result, StorageError, VolumeSpec};
use larder_base::Ticket;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// What a picture is called where it is a snapshot.
const PICTURE: &str = "picture";

/// A technology's own way from one pool to another: `btrfs send`, `zfs send`, `rbd export-diff`. A facet of a
/// [`Driver`](crate::Driver); the pool layer joins the ends, chooses what is sent on top of what, and copies files where there
/// is no stream.
///
/// Snapshots are carried oldest first, each as what differs from one that both ends have; the volume itself comes last.
pub trait Stream: fmt::Debug + Send + Sync {
    /// Which contents it carries.
    fn contents(&self) -> &'static [Content];

    /// What this end speaks; `None` where the pool can take no part.
    fn end(&self) -> Result<Option<StreamEnd>>;

    /// What a snapshot is known by on every pool that it was carried to; `None` when no stream can carry it.
    fn identity(&self, cx: &Cx<'_>, snapshot: &Place) -> Result<Option<String>>;

    /// Writes down what a snapshot is known by that has just been received, where the technology does not keep it by itself.
    fn note(&self, cx: &Cx<'_>, snapshot: &Place, identity: &str) -> Result<()> {
        let _ = (cx, snapshot, identity);
        Ok(())
    }

    /// Where the picture of a live volume is while work under `ticket` needs it: a place that is swept by that ticket. A snapshot
    /// that can't be staged without its volume lies in the trash from its beginning.
    fn picture_place(&self, of: &Place, ticket: &Ticket) -> Place {
        Place { snapshot: PICTURE.parse().ok(), ..of.trashed(ticket) }
    }

    /// Makes a picture of a live volume that can be sent, at its [`Stream::picture_place`]; the pool destroys it. What no stream
    /// can carry is `Unsupported(Need::Stream)` before any change.
    fn picture(&self, cx: &Cx<'_>, of: &Place, at: &Place) -> Result<()>;

    /// Writes a snapshot or picture into a pipe; with `base`, a snapshot that the other end has too, only what differs.
    /// Changes nothing.
    fn send(&self, cx: &Cx<'_>, from: &Place, base: Option<&Place>, into: File) -> Result<()>;

    /// Whether what is received on top of a snapshot of the live volume gets that and all before it. If not, the pool carries the
    /// snapshots that stay to the staged volume first, within itself.
    fn takes_over(&self) -> bool {
        true
    }

    /// Makes what a staged volume is received into. `base` is the snapshot of this pool that it will be built on, if any.
    fn begin(&self, cx: &Cx<'_>, at: &Place, base: Option<&Place>, spec: &VolumeSpec) -> Result<()>;

    /// Reads from a pipe what [`Stream::send`] writes on top of `base`, this pool's: a snapshot of a staged volume, or, last,
    /// the staged volume itself as `spec` wants it.
    ///
    /// With [`Stream::takes_over`] the first `base` may be a snapshot of the live volume that is brought up to date. Where snapshots
    /// can't leave their volume (no [`Restore::Exchange`](crate::Restore::Exchange)), the staged volume then either has that
    /// snapshot and all before it, or [`Driver::rename`](crate::Driver::rename) moves them to it all the same.
    fn receive(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        base: Option<&Place>,
        spec: &VolumeSpec,
        from: File,
    ) -> Result<()>;
}

/// What one end of a stream speaks, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Ends of one format understand each other.
    pub format: &'static str,
    /// What the pool's bytes are on, if files that are copied share blocks there: within one home there is no stream.
    pub home: Option<String>,
}

impl StreamEnd {
    /// Whether a stream from `source` can be read here.
    pub fn understands(&self, source: &Self) -> bool {
        self.format == source.format && (self.home.is_none() || self.home != source.home)
    }
}

/// Works at both ends of a pipe at once; gives what came of each. An end must be closed when its work is over, so that neither side
/// waits for the other for ever.
pub fn piped<S: Send, R>(
    send: impl FnOnce(File) -> S + Send,
    receive: impl FnOnce(File) -> R,
) -> Result<(S, R)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || send(writer));
        let received = receive(reader);
        let sent = sending.join().map_err(|_| StorageError::unexpected("the sender of a stream died"))?;
        Ok((sent, received))
    })
}
