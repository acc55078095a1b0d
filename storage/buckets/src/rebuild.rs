//! Making a new index from the headers that the blobs carry.

use crate::bucket::Bucket;
use crate::header::Header;
use crate::layout::Layout;
use crate::record::{Home, Version};
use crate::{BucketError, NULL_VERSION, Result, rows, schema};
use larder_base::{Cancel, Clock};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// What a rebuild found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Versions and delete markers that are in the new index.
    pub versions: u64,
    /// Keys of versions that are not, because bytes of them are missing. What there is of them stays where it is.
    pub incomplete: Vec<String>,
    /// Ids of blobs that don't tell whose they are, because that part of them is damaged. They stay where they are.
    pub unreadable: Vec<String>,
    /// Blobs of no version, for instance parts of uploads that were in progress: they are removed.
    pub unused: u64,
}

/// Makes a new index for the bucket in a directory that is not open. Objects, versions, tags, locks and settings come back;
/// uploads in progress don't. The old index stays in its place until the new one is whole, and is kept as `index.db.old`.
/// `report` is told how many blobs were read; who cancels it finds all as it was.
pub fn rebuild(
    directory: &Path,
    clock: Arc<dyn Clock>,
    cancel: &Cancel,
    report: &mut dyn FnMut(u64),
) -> Result<Rebuilt> {
    let layout = Layout::new(directory);
    layout.create()?;
    layout.remove_new_index()?;
    let mut reading = Reading { cancel, report, found: Found::default() };
    reading.read_small(&schema::open_small(&layout)?)?;
    reading.read_files(&layout)?;
    let found = reading.found;
    let index = schema::open_new_index(&layout)?;
    let rebuilt = found.write(&layout, &index)?;
    schema::finish_new_index(&layout, index)?;
    cancel.checkpoint()?;
    found.staged.iter().try_for_each(|id| layout.settle(id))?;
    layout.replace_index()?;
    // Opening it removes what the new index lists as garbage.
    drop(Bucket::open(directory, None, clock)?);
    Ok(rebuilt)
}

/// A look at all blobs.
struct Reading<'a> {
    cancel: &'a Cancel,
    report: &'a mut dyn FnMut(u64),
    found: Found,
}

#[derive(Default)]
struct Found {
    versions: BTreeMap<i64, Version>,
    blobs: HashMap<String, Home>,
    /// The headers of files that have changed since.
    changed: HashMap<String, Header>,
    /// Those that don't tell what they are of.
    unreadable: BTreeSet<String>,
    /// Those that lie in staging.
    staged: Vec<String>,
}

impl Reading<'_> {
    fn take(&mut self, id: String, home: Home, header: Option<Header>) -> Result<()> {
        self.cancel.checkpoint()?;
        match header.filter(|header| header.is_of(&id)) {
            Some(Header::Object(version)) => {
                self.found.versions.insert(version.sequence, *version);
            }
            Some(Header::Part { .. }) => {}
            None => {
                self.found.unreadable.insert(id.clone());
            }
        }
        self.found.blobs.insert(id, home);
        (self.report)(self.found.blobs.len() as u64);
        Ok(())
    }

    fn read_small(&mut self, small: &Connection) -> Result<()> {
        let mut statement = small.prepare("SELECT id, header FROM blobs")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let header: String = row.get(1)?;
            self.take(row.get(0)?, Home::Small, Header::from_json(header.as_bytes()))?;
        }
        let mut statement = small.prepare("SELECT id, header FROM headers")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let header: String = row.get(1)?;
            let header = Header::from_json(header.as_bytes());
            self.found
                .changed
                .extend(header.map(|header| Ok::<_, BucketError>((row.get(0)?, header))).transpose()?);
        }
        Ok(())
    }

    fn read_files(&mut self, layout: &Layout) -> Result<()> {
        let shards = (0..=u8::MAX).map(|prefix| layout.data().join(format!("{prefix:02x}")));
        for folder in shards.chain([layout.staging()]).filter(|folder| folder.is_dir()) {
            let is_staging = folder == layout.staging();
            for entry in fs::read_dir(&folder).map_err(BucketError::file(&folder))? {
                let entry = entry.map_err(BucketError::file(&folder))?;
                let path = entry.path();
                let file = File::open(&path).map_err(BucketError::file(&path))?;
                let read = if is_staging { Header::read_end } else { Header::read };
                let header = read(&file).map_err(BucketError::file(&path))?;
                let id = entry.file_name().to_string_lossy().into_owned();
                let header = self.found.changed.remove(&id).or(header);
                if is_staging {
                    if !header.as_ref().is_some_and(|header| header.is_of(&id)) {
                        // It never came to its end; opening the bucket removes it.
                        continue;
                    }
                    self.found.staged.push(id.clone());
                }
                self.take(id, Home::File, header)?;
            }
        }
        Ok(())
    }
}

impl Found {
    fn write(&self, layout: &Layout, index: &Connection) -> Result<Rebuilt> {
        let whole = index.unchecked_transaction()?;
        let (mut rebuilt, mut used, mut bytes, mut objects) = (Rebuilt::default(), BTreeSet::new(), 0, 0);
        let mut nulls = BTreeSet::new();
        // The newest first: of several null versions of a key, which a crash can leave, only it counts.
        for version in self.versions.values().rev() {
            if version.id == NULL_VERSION && !nulls.insert(version.key.clone()) {
                continue;
            }
            if version.blobs().iter().any(|(id, _)| !self.blobs.contains_key(id)) {
                rebuilt.incomplete.push(version.key.clone());
                used.extend(version.blobs().into_iter().map(|(id, _)| id));
                continue;
            }
            rows::insert(&whole, &Version { is_latest: false, ..version.clone() })?;
            rows::refresh_latest(&whole, &version.key)?;
            used.extend(version.blobs().into_iter().map(|(id, _)| id));
            rebuilt.versions += 1;
            bytes += version.size;
            objects += u64::from(!version.is_marker);
        }
        let (unreadable, unused): (Vec<_>, Vec<_>) = self
            .blobs
            .iter()
            .filter(|(id, _)| !used.contains(*id))
            .partition(|(id, _)| self.unreadable.contains(*id));
        rebuilt.unreadable = unreadable.into_iter().map(|(id, _)| id.clone()).collect();
        rebuilt.unreadable.sort();
        for (id, home) in unused {
            let home = crate::writer::home_name(*home);
            whole.execute("INSERT INTO garbage VALUES (?1, ?2)", params![id, home])?;
            rebuilt.unused += 1;
        }
        let last = self.versions.keys().next_back().copied().unwrap_or(0);
        let usage = params![rows::signed(bytes), rows::signed(objects), last];
        whole.execute("UPDATE usage SET bytes = ?1, objects = ?2, sequence = ?3", usage)?;
        restore_settings(layout, &whole)?;
        whole.commit()?;
        Ok(rebuilt)
    }
}

fn restore_settings(layout: &Layout, index: &Connection) -> Result<()> {
    let path = layout.settings();
    let text = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(BucketError::file(&path))?,
    };
    let settings: BTreeMap<String, String> = serde_json::from_slice(&text)
        .map_err(|error| BucketError::Damaged { what: format!("{}: {error}", path.display()) })?;
    for (name, value) in settings {
        index.execute("INSERT OR REPLACE INTO settings VALUES (?1, ?2)", [name, value])?;
    }
    Ok(())
}
