//! What the next open does about what a crash left: files and small blobs the index knows are kept, others are removed.

use crate::header::Header;
use crate::layout::{Layout, remove_if_there};
use crate::multipart::part_of;
use crate::record::Home;
use crate::schema::Stores;
use crate::{BucketError, Result, rows};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;
use std::fs::{self, File};

/// Returns the blobs that were given up and may still be there.
pub(crate) fn recover(layout: &Layout, stores: &Stores) -> Result<Vec<(String, Home)>> {
    let staging = layout.staging();
    let mut unknown = HashSet::new();
    for entry in fs::read_dir(&staging).map_err(BucketError::file(&staging))? {
        let entry = entry.map_err(BucketError::file(&staging))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = File::open(entry.path()).map_err(BucketError::file(&entry.path()))?;
        let header = Header::read_end(&file).map_err(BucketError::file(&entry.path()))?;
        match header {
            Some(header) if is_known(&stores.index, &header, &name)? => layout.settle(&name)?,
            Some(Header::Part { .. }) => {
                unknown.insert(name);
            }
            _ => remove_if_there(&entry.path())?,
        }
    }
    settle_parts(layout, &stores.index, &unknown)?;
    remove_unknown_small(stores)?;
    let mut statement = stores.index.prepare("SELECT id, home FROM garbage")?;
    let home = |name: String| if name == "file" { Home::File } else { Home::Small };
    let garbage = statement.query_map([], |row| Ok((row.get(0)?, home(row.get(1)?))))?;
    Ok(garbage.collect::<Result<_, _>>()?)
}

/// Keeps the parts that versions name, whose uploads are forgotten by now, and removes the others.
fn settle_parts(layout: &Layout, index: &Connection, unknown: &HashSet<String>) -> Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    let mut named = HashSet::new();
    rows::for_each_record(index, |record| {
        named.extend(record.parts.into_iter().map(|part| part.id).filter(|id| unknown.contains(id)));
    })?;
    for id in unknown {
        match named.contains(id) {
            true => layout.settle(id)?,
            false => remove_if_there(&layout.staged(id))?,
        }
    }
    Ok(())
}

fn remove_unknown_small(stores: &Stores) -> Result<()> {
    let sql = "SELECT id, header FROM pending JOIN blobs USING (id)";
    let pending: Vec<(String, String)> = {
        let mut statement = stores.small.prepare(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect::<Result<_, _>>()?
    };
    for (id, header) in pending {
        let is_known = match Header::from_json(header.as_bytes()) {
            Some(header) => is_known(&stores.index, &header, &id)?,
            None => false,
        };
        if !is_known {
            stores.small.execute("DELETE FROM blobs WHERE id = ?1", [&id])?;
        }
    }
    Ok(())
}

/// Whether the index names this blob. A header alone proves nothing: it may be the end of what a client was sending.
fn is_known(index: &Connection, header: &Header, id: &str) -> Result<bool> {
    match header {
        Header::Object(version) => {
            let found = rows::by_id(index, &version.key, &version.id)?;
            let found = found.filter(|found| found.sequence == version.sequence);
            Ok(found.is_some_and(|found| found.blobs().iter().any(|(blob, _)| blob == id)))
        }
        Header::Part { upload, number, .. } => {
            if part_of(index, upload, *number)?.is_some_and(|part| part.id == id) {
                return Ok(true);
            }
            let sql = "SELECT CAST(key AS TEXT), version FROM completed WHERE upload = ?1";
            let completed =
                index.query_row(sql, [upload], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((key, version)): Option<(String, String)> = completed else { return Ok(false) };
            let found = rows::by_id(index, &key, &version)?;
            Ok(found.is_some_and(|found| found.record.parts.iter().any(|part| part.id == id)))
        }
    }
}
