//! Making a new index from the headers that the blobs carry.

use crate::bucket::Bucket;
use crate::header::Header;
use crate::layout::{Layout, remove_if_there, sync_folder};
use crate::record::{Home, Version};
use crate::{BucketError, NULL_VERSION, Result, rows, schema};
use larder_base::Clock;
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a rebuild found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Versions and delete markers that are in the new index.
    pub versions: u64,
    /// Versions that are not, because bytes of them are missing.
    pub incomplete: Vec<String>,
    /// Blobs of no version, for instance parts of uploads that were in progress: they are removed.
    pub unused: u64,
}

/// Makes a new index for the bucket in a directory that is not open. Objects, versions, tags, locks and settings come back;
/// uploads in progress don't. The old index is kept as `index.db.old`.
pub fn rebuild(directory: &Path, clock: Arc<dyn Clock>) -> Result<Rebuilt> {
    let layout = Layout::new(directory);
    layout.create()?;
    set_aside(&layout)?;
    let stores = schema::open_for_writing(&layout)?;
    let mut found = Found::default();
    found.read_small(&stores.small)?;
    found.read_files(&layout)?;
    let rebuilt = found.write(&layout, &stores.index)?;
    drop(stores);
    // Opening it removes what the new index lists as garbage.
    drop(Bucket::open(directory, None, clock)?);
    Ok(rebuilt)
}

fn set_aside(layout: &Layout) -> Result<()> {
    let index = layout.index();
    let beside = |suffix: &str| -> PathBuf {
        let mut name = index.clone().into_os_string();
        name.push(suffix);
        name.into()
    };
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&beside(suffix))?;
    }
    if index.exists() {
        fs::rename(&index, beside(".old")).map_err(BucketError::file(&index))?;
    }
    sync_folder(layout.root())
}

#[derive(Default)]
struct Found {
    versions: BTreeMap<i64, Version>,
    blobs: HashMap<String, Home>,
    /// The headers of files that have changed since.
    changed: HashMap<String, Header>,
}

impl Found {
    fn take(&mut self, id: String, home: Home, header: Option<Header>) {
        self.blobs.insert(id, home);
        if let Some(Header::Object(version)) = header {
            self.versions.insert(version.sequence, *version);
        }
    }

    fn read_small(&mut self, small: &Connection) -> Result<()> {
        let mut statement = small.prepare("SELECT id, header FROM blobs")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let header: String = row.get(1)?;
            self.take(row.get(0)?, Home::Small, Header::from_json(header.as_bytes()));
        }
        let mut statement = small.prepare("SELECT id, header FROM headers")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let header: String = row.get(1)?;
            let header = Header::from_json(header.as_bytes());
            self.changed
                .extend(header.map(|header| Ok::<_, BucketError>((row.get(0)?, header))).transpose()?);
        }
        Ok(())
    }

    fn read_files(&mut self, layout: &Layout) -> Result<()> {
        let shards = (0..=u8::MAX).map(|prefix| layout.data().join(format!("{prefix:02x}")));
        for folder in shards.chain([layout.staging()]).filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(&folder).map_err(BucketError::file(&folder))? {
                let entry = entry.map_err(BucketError::file(&folder))?;
                let path = entry.path();
                let file = File::open(&path).map_err(BucketError::file(&path))?;
                let header = Header::read(&file).map_err(BucketError::file(&path))?;
                let id = entry.file_name().to_string_lossy().into_owned();
                let header = self.changed.remove(&id).or(header);
                if folder == layout.staging() {
                    layout.settle(&id)?;
                }
                self.take(id, Home::File, header);
            }
        }
        Ok(())
    }

    fn write(self, layout: &Layout, index: &Connection) -> Result<Rebuilt> {
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
                continue;
            }
            rows::insert(&whole, &Version { is_latest: false, ..version.clone() })?;
            rows::refresh_latest(&whole, &version.key)?;
            used.extend(version.blobs().into_iter().map(|(id, _)| id));
            rebuilt.versions += 1;
            bytes += version.size;
            objects += u64::from(!version.is_marker);
        }
        for (id, home) in self.blobs.iter().filter(|(id, _)| !used.contains(*id)) {
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
