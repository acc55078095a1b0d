//! A mounted filesystem that holds still, with all that was written on its device, while that is copied: `fsfreeze(8)`.

use super::{MOUNTING, is_mounted, is_writable};
use larder_base::host::{Cmd, Tool};
use larder_storage_driver::{Cx, Result};
use std::path::Path;

const FSFREEZE: Tool = Tool { name: "fsfreeze", package: "util-linux" };

/// Works while what is mounted for writing at a path holds still; just works when nothing is.
pub(crate) fn held_still<T>(cx: &Cx<'_>, at: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !is_mounted(at) || !is_writable(at) {
        return work();
    }
    let thaw = || let_go(&cx.uncancellable(), at);
    if let Err(error) = run(cx, "--freeze", at) {
        let _ = thaw();
        return Err(error);
    }
    let outcome = work();
    // A first failure is answered with a second try: what stays frozen hangs its users.
    let thawed = thaw().or_else(|_| thaw());
    let value = outcome?;
    thawed.map(|()| value)
}

/// Lets the writers of what is mounted at a path go on; what is not frozen refuses.
pub(crate) fn let_go(cx: &Cx<'_>, at: &Path) -> Result<()> {
    run(cx, "--unfreeze", at)
}

fn run(cx: &Cx<'_>, word: &str, at: &Path) -> Result<()> {
    cx.run(&Cmd::changes(FSFREEZE).arg(word).arg(at).limit(MOUNTING)).map(drop)
}
