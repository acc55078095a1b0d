//! The conformance suite over SQLite, on disk and in memory; files that are no catalog; lists in time.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

use larder_base::ManualClock;
use larder_catalog::{
    Catalog, CatalogError, Entry, Key, Prefix, Revision, SqliteCatalog, Transaction, conformance,
};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn put(name: &str) -> Transaction {
    Transaction::new().put(Key::of(["test", name]), format!("\"{}\"", "x".repeat(200)))
}

fn everything(catalog: &dyn Catalog) -> Vec<Entry> {
    ["test", "volume", "volumes"].iter().flat_map(|part| catalog.list(&Prefix::of([part])).unwrap()).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn the_conformance_suite_holds_on_disk_and_reopening_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for (name, trial) in conformance::TRIALS {
        let path = folder.path().join(format!("{name}.db"));
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&path).unwrap());
        trial(&catalog).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (entries, revision) = (everything(catalog.as_ref()), catalog.revision().unwrap());
        kept += entries.len();
        drop(catalog);
        let again = SqliteCatalog::open(&path).unwrap();
        assert_eq!(everything(&again), entries, "{name}: lost by reopening");
        assert_eq!(again.revision().unwrap(), revision, "{name}: lost by reopening");
        assert_eq!(again.transact(put("next")).unwrap(), Revision(revision.0 + 1), "{name}");
    }
    assert!(kept > 100, "{kept}");
}

#[test]
fn the_conformance_suite_holds_in_memory() {
    for (name, trial) in conformance::TRIALS {
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::in_memory().unwrap());
        trial(&catalog).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn catalogs_in_memory_are_strangers_to_each_other() {
    let (one, other) = (SqliteCatalog::in_memory().unwrap(), SqliteCatalog::in_memory().unwrap());
    one.transact(put("a")).unwrap();
    assert!(everything(&other).is_empty());
}

#[test]
fn what_is_no_catalog_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    let letter = "this is a letter to my aunt, long enough to be a page of a database\n".repeat(20);
    std::fs::write(&text, &letter).unwrap();
    let error = SqliteCatalog::open(&text).unwrap_err();
    assert!(matches!(&error, CatalogError::Unusable { path, .. } if *path == text), "{error}");
    assert!(error.to_string().contains("text.db"), "{error}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), letter);

    for (name, sql) in [("cats.db", "CREATE TABLE cats (name TEXT)"), ("id.db", "PRAGMA application_id = 7")]
    {
        let foreign = folder.path().join(name);
        rusqlite::Connection::open(&foreign).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&foreign).unwrap();
        let error = SqliteCatalog::open(&foreign).unwrap_err();
        assert!(matches!(&error, CatalogError::Foreign { path } if *path == foreign), "{error}");
        assert_eq!(std::fs::read(&foreign).unwrap(), before);
    }

    let error = SqliteCatalog::open(&folder.path().join("no such folder/larder.db")).unwrap_err();
    assert!(matches!(&error, CatalogError::File { .. }) && error.to_string().contains("no such"), "{error}");
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.db");
    drop(SqliteCatalog::open(&path).unwrap());
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let before = std::fs::read(&path).unwrap();
    let error = SqliteCatalog::open(&path).unwrap_err();
    assert!(matches!(&error, CatalogError::NewerDatabase { path: found } if *found == path), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_catalog_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.db");
    let catalog = SqliteCatalog::open(&path).unwrap();
    for n in 0..200 {
        catalog.transact(put(&n.to_string())).unwrap();
    }
    drop(catalog);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 9000].fill(0x5a);
    let cut = whole[..whole.len() - 5000].to_vec();
    for content in [damaged, cut] {
        std::fs::write(&path, content).unwrap();
        let error = SqliteCatalog::open(&path).and_then(|catalog| catalog.check()).unwrap_err();
        assert!(matches!(&error, CatalogError::Unusable { path: found, .. } if *found == path), "{error}");
        assert!(error.to_string().contains("damaged.db"), "{error}");
    }
}

#[test]
fn the_files_are_for_their_owner_alone_and_a_backup_leaves_nothing_else_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larder.db");
    let catalog = SqliteCatalog::open(&path).unwrap();
    catalog.transact(put("a")).unwrap();
    let copies = folder.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    let copy = copies.join("copy.db");
    catalog.backup(&copy).unwrap();
    assert!(matches!(catalog.backup(&copy), Err(CatalogError::BackupExists { .. })));
    assert!(catalog.backup(&folder.path().join("missing/copy.db")).is_err());
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 1);
    for name in ["larder.db", "larder.db-wal", "larder.db-shm", "copies/copy.db"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
    assert_eq!(everything(&SqliteCatalog::open(&copy).unwrap()), everything(&catalog));
}

#[test]
fn a_watch_outlives_its_catalog_and_then_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let catalog = SqliteCatalog::open_with_clock(&folder.path().join("larder.db"), clock).unwrap();
    let mut watch = catalog.watch(Revision(0)).unwrap();
    assert!(watch.next(Duration::ZERO).unwrap().is_none());
    catalog.transact(put("a")).unwrap();
    drop(catalog);
    let change = watch.next(Duration::MAX).unwrap().unwrap();
    assert_eq!(change.at.to_string(), "2026-01-01T00:00:00Z");
    assert!(matches!(watch.next(Duration::MAX), Err(CatalogError::Closed)));
}

#[test]
fn a_waiting_watch_is_woken_when_the_catalog_is_closed() {
    let catalog = SqliteCatalog::in_memory().unwrap();
    let mut watch = catalog.watch(Revision(0)).unwrap();
    let waiting = std::thread::spawn(move || watch.next(Duration::MAX));
    std::thread::sleep(Duration::from_millis(20));
    drop(catalog);
    assert!(matches!(waiting.join().unwrap(), Err(CatalogError::Closed)));
}

/// The best of several, so that a busy machine does not fail it.
#[test]
fn a_thousand_documents_are_listed_in_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&folder.path().join("larder.db")).unwrap();
    for group in 0..10 {
        let names = (0..100).map(|n| format!("{group}-{n}"));
        let all = names.fold(Transaction::new(), |transaction, name| {
            transaction.put(Key::of(["test", &name]), format!("\"{}\"", "x".repeat(400)))
        });
        catalog.transact(all).unwrap();
    }
    let prefix = Prefix::of(["test"]);
    let time = || {
        let begin = Instant::now();
        assert_eq!(catalog.list(&prefix).unwrap().len(), 1000);
        begin.elapsed()
    };
    let best = (0..20).map(|_| time()).min().unwrap();
    println!("1,000 documents in {best:?}");
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 5 });
    assert!(best < limit, "{best:?}");
}
