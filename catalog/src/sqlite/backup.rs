//! A consistent copy while work goes on.

use super::schema::sync_folder_of;
use crate::{CatalogError, Result};
use rusqlite::Connection;
use rusqlite::backup::Backup;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PAUSE_WHEN_BUSY: Duration = Duration::from_millis(5);

/// Copies the database to the new file `path`. It bears that name only when it is complete.
pub(super) fn copy(source: &Connection, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(CatalogError::BackupExists { path: path.to_owned() });
    }
    let part = part_of(path);
    let outcome = write(source, &part).and_then(|()| publish(&part, path));
    // The name that was published is a second one for the same file.
    let _ = std::fs::remove_file(&part);
    outcome
}

fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", uuid::Uuid::new_v4().simple()))
}

fn write(source: &Connection, part: &Path) -> Result<()> {
    let failed = |source| CatalogError::File { path: part.to_owned(), source };
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failed)?;
    let mut copy = Connection::open(part)?;
    // All pages in one step: between steps a commit would make the copy begin anew, under steady writing for ever.
    // Writers don't wait for it: it reads one view of the WAL.
    Backup::new(source, &mut copy)?.run_to_completion(i32::MAX, PAUSE_WHEN_BUSY, None)?;
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    drop(copy);
    File::open(part).and_then(|file| file.sync_all()).map_err(failed)
}

/// A link, unlike a rename, never replaces what came to `path` meanwhile.
fn publish(part: &Path, path: &Path) -> Result<()> {
    match std::fs::hard_link(part, path).and_then(|()| sync_folder_of(path)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(CatalogError::BackupExists { path: path.to_owned() })
        }
        Err(source) => Err(CatalogError::File { path: path.to_owned(), source }),
    }
}
