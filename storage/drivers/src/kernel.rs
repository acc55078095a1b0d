//! What the kernel of this machine has.

use std::path::Path;

/// Whether the running kernel has a module that it could load.
pub(crate) fn has_module(name: &str) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let folder = Path::new("/lib/modules").join(release);
    let lists = ["modules.dep", "modules.builtin"].map(|list| std::fs::read_to_string(folder.join(list)));
    let wanted = format!("/{name}.ko");
    lists.into_iter().flatten().any(|list| list.contains(&wanted))
}
