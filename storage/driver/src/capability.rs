//! What a driver can do, as data. Enums rather than flags: they say which way, not only whether.

use crate::Content;

/// What a driver can do on the pool it was opened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Which contents it keeps.
    pub contents: &'static [Content],
    /// How a snapshot is made.
    pub snapshot: SnapshotKind,
    /// How a clone is made.
    pub clone: CloneKind,
    /// How a filesystem volume's size is enforced.
    pub quota: Quota,
    /// Whether a disk may shrink.
    pub shrink: Shrink,
    /// How a snapshot is restored.
    pub restore: Restore,
    /// Where the trees of a pool's volumes are.
    pub trees: Trees,
    /// Whether other members reach the same pool.
    pub shared: bool,
}

/// How a snapshot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotKind {
    /// [`Driver::snapshot`](crate::Driver::snapshot) makes it at once, sharing blocks.
    Native,
    /// The pool copies the volume into a staged snapshot place and publishes that.
    Copied,
}

/// How a clone is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneKind {
    /// [`Driver::create_clone`](crate::Driver::create_clone) shares blocks with its source, which the technology can't
    /// remove while the clone lives. [`Driver::destroy`](crate::Driver::destroy) succeeds all the same: the driver hides
    /// what has clones where [`Driver::list`](crate::Driver::list) does not tell it, and removes it with the last of them.
    Dependent,
    /// [`Driver::create_clone`](crate::Driver::create_clone) shares blocks, and either may go first.
    Independent,
    /// There is none; the pool copies.
    None,
}

/// How a filesystem volume's size is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// It is not: a size is noted and warned about.
    None,
    /// By the filesystem's project quotas.
    Project,
    /// By the technology itself.
    Native,
}

/// Whether a disk may shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shrink {
    /// Never.
    No,
    /// Yes; what lay beyond is lost.
    Yes,
}

/// How a snapshot is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// The pool stages a copy or clone of the snapshot and swaps it in with
    /// [`Driver::exchange`](crate::Driver::exchange). Any snapshot.
    Exchange,
    /// [`Driver::restore`](crate::Driver::restore) rolls back in place, to any snapshot.
    InPlace,
    /// [`Driver::restore`](crate::Driver::restore) rolls back in place, to the newest snapshot only.
    InPlaceNewest,
}

/// Where the trees of a pool's volumes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trees {
    /// In one filesystem: a file may have a name in two volumes.
    Together,
    /// Each for itself, or with borders between them that no file is on both sides of.
    Apart,
}
