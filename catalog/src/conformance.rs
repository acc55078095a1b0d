//! What every store of the catalog must do, as functions that another store's tests can run too.

use crate::{Catalog, CatalogError, Cause, HISTORY, Key, MAX_OPERATIONS, Prefix, Revision, Transaction};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// How a trial ends.
pub type Outcome = Result<(), Box<dyn Error>>;

/// One trial: its name, a sentence, and what it does with an empty catalog.
pub type Trial = (&'static str, fn(&Arc<dyn Catalog>) -> Outcome);

/// All trials.
pub const TRIALS: &[Trial] = &[
    ("what_was_put_is_there_with_its_revision", what_was_put_is_there_with_its_revision),
    ("a_transaction_is_all_or_nothing", a_transaction_is_all_or_nothing),
    ("guards_hold", guards_hold),
    ("a_list_is_ordered_and_keeps_to_its_prefix", a_list_is_ordered_and_keeps_to_its_prefix),
    ("a_hundred_operations_are_the_limit", a_hundred_operations_are_the_limit),
    ("a_watch_tells_the_past_then_the_present_in_order", a_watch_tells_the_past_then_the_present_in_order),
    ("a_change_tells_why", a_change_tells_why),
    ("a_watch_that_is_too_late_says_so", a_watch_that_is_too_late_says_so),
    ("many_writers_lose_nothing", many_writers_lose_nothing),
    ("a_backup_is_consistent_while_others_write", a_backup_is_consistent_while_others_write),
];

/// How long a trial waits for a change that must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn key(name: &str) -> Key {
    Key::of(["test", name])
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn put(catalog: &Arc<dyn Catalog>, name: &str, value: &str) -> Result<Revision, CatalogError> {
    catalog.transact(Transaction::new().put(key(name), value.to_owned()))
}

fn what_was_put_is_there_with_its_revision(catalog: &Arc<dyn Catalog>) -> Outcome {
    ensure(catalog.get(&key("a"))?.is_none(), "an empty catalog has something")?;
    let first = put(catalog, "a", "1")?;
    let second = put(catalog, "a", "2")?;
    ensure(second > first, "revisions grow")?;
    let entry = catalog.get(&key("a"))?.ok_or("it is not there")?;
    ensure(entry.value == "2" && entry.revision == second, "the last value and revision")?;
    ensure(catalog.revision()? == second, "the catalog's revision")?;
    catalog.transact(Transaction::new().delete(key("a")).delete(key("never there")))?;
    ensure(catalog.get(&key("a"))?.is_none(), "it is still there")
}

fn a_transaction_is_all_or_nothing(catalog: &Arc<dyn Catalog>) -> Outcome {
    put(catalog, "taken", "1")?;
    let before = catalog.revision()?;
    let transaction =
        Transaction::new().put(key("x"), "1".into()).delete(key("taken")).guard_absent(key("taken"));
    let refused = catalog.transact(transaction);
    ensure(
        matches!(refused, Err(CatalogError::Conflict { key: found }) if found == key("taken")),
        "the guard's key is named",
    )?;
    ensure(catalog.get(&key("x"))?.is_none(), "half of it was committed")?;
    ensure(catalog.get(&key("taken"))?.is_some(), "the other half was committed")?;
    ensure(catalog.revision()? == before, "a refused transaction took a revision")
}

fn guards_hold(catalog: &Arc<dyn Catalog>) -> Outcome {
    let first = put(catalog, "a", "1")?;
    let guarded = |transaction: Transaction| catalog.transact(transaction.put(key("b"), "1".into())).is_ok();
    ensure(!guarded(Transaction::new().guard_absent(key("a"))), "absent")?;
    ensure(!guarded(Transaction::new().guard_present(key("c"))), "present")?;
    ensure(!guarded(Transaction::new().guard_at(key("c"), first)), "at a revision, of what is absent")?;
    ensure(
        guarded(Transaction::new().guard_at(key("a"), first).guard_present(key("a")).guard_absent(key("c"))),
        "all hold",
    )?;
    put(catalog, "a", "2")?;
    ensure(!guarded(Transaction::new().guard_at(key("a"), first)), "at an old revision")
}

fn a_list_is_ordered_and_keeps_to_its_prefix(catalog: &Arc<dyn Catalog>) -> Outcome {
    let keys = [["volume", "10"], ["volume", "1"], ["volumes", "1"], ["volume", "1/2"]];
    for parts in keys {
        catalog.transact(Transaction::new().put(Key::of(parts), "0".into()))?;
    }
    catalog.transact(Transaction::new().put(Key::of(["volume", "1", "x"]), "0".into()))?;
    let list = |prefix: Prefix| -> Result<Vec<String>, CatalogError> {
        Ok(catalog.list(&prefix)?.into_iter().map(|entry| entry.key.as_str().to_owned()).collect())
    };
    ensure(
        list(Prefix::of(["volume"]))? == ["volume/1", "volume/1%2F2", "volume/1/x", "volume/10"],
        "the order or the prefix",
    )?;
    ensure(list(Prefix::of(["volume", "1"]))? == ["volume/1/x"], "1 is no beginning of 10")
}

fn a_hundred_operations_are_the_limit(catalog: &Arc<dyn Catalog>) -> Outcome {
    let of =
        |count: usize| (0..count).fold(Transaction::new(), |t, n| t.put(key(&n.to_string()), "0".into()));
    catalog.transact(of(MAX_OPERATIONS))?;
    let refused = catalog.transact(of(MAX_OPERATIONS).guard_present(key("0")));
    ensure(
        matches!(refused, Err(CatalogError::TooManyOperations { found: 101 })),
        "101 operations were taken",
    )
}

fn a_watch_tells_the_past_then_the_present_in_order(catalog: &Arc<dyn Catalog>) -> Outcome {
    let mut sent = vec![put(catalog, "a", "1")?, put(catalog, "b", "1")?];
    let mut watch = catalog.watch(Revision(0))?;
    let writer = Arc::clone(catalog);
    let later = std::thread::spawn(move || {
        (0..50).map(|n| put(&writer, &format!("c{n}"), "1")).collect::<Result<Vec<_>, _>>()
    });
    let mut seen = Vec::new();
    while seen.len() < 52 {
        seen.push(watch.next(PATIENCE)?.ok_or("a change did not come")?.revision);
    }
    sent.extend(later.join().map_err(|_| "the writer panicked")??);
    ensure(seen == sent, "changes were lost, doubled or out of order")?;
    let mut late = catalog.watch(sent[10])?;
    ensure(late.next(PATIENCE)?.map(|change| change.revision) == Some(sent[11]), "a later start")?;
    ensure(watch.next(Duration::from_millis(1))?.is_none(), "nothing more")
}

fn a_change_tells_why(catalog: &Arc<dyn Catalog>) -> Outcome {
    let cause = Cause {
        action: "tested".into(),
        source: "/1.0/x".into(),
        project: "default".into(),
        requestor: serde_json::json!({ "username": "root" }),
        context: serde_json::Value::Null,
    };
    let old = put(catalog, "old", "1")?;
    let transaction =
        Transaction::new().put(key("a"), "1".into()).delete(key("old")).delete(key("never there"));
    catalog.transact(transaction.because(cause.clone()))?;
    let mut watch = catalog.watch(old)?;
    let change = watch.next(PATIENCE)?.ok_or("no change")?;
    ensure(change.cause == Some(cause), "the cause")?;
    ensure(change.puts == [(key("a"), "1".to_owned())], "what was written")?;
    ensure(change.deletes == [key("old")], "what was deleted")?;
    ensure(watch.last() == change.revision, "where to go on")
}

/// A store may forget what is older than [`HISTORY`], and must neither leave a hole nor forget more.
fn a_watch_that_is_too_late_says_so(catalog: &Arc<dyn Catalog>) -> Outcome {
    const WRITERS: i64 = 50;
    let mut slow = catalog.watch(Revision(0))?;
    let write = |catalog: &dyn Catalog| -> Result<(), CatalogError> {
        for _ in 0..HISTORY / WRITERS + 10 {
            catalog.transact(Transaction::new().put(key("k"), "0".to_owned()))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(|| write(catalog.as_ref()))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| CatalogError::Closed)?)
    })?;
    let last = catalog.revision()?;
    let mut watch = catalog.watch(Revision(last.0 - HISTORY))?;
    for expected in last.0 - HISTORY + 1..=last.0 {
        let change = watch.next(PATIENCE)?.ok_or("a change did not come")?;
        ensure(change.revision == Revision(expected), "a hole in the history")?;
    }
    match (catalog.watch(Revision(0)).err(), slow.next(PATIENCE)) {
        (None, Ok(Some(change))) => ensure(change.revision == Revision(1), "a watch began in the middle"),
        (Some(CatalogError::Compacted { from, .. }), Err(CatalogError::Compacted { .. })) => {
            ensure(from == Revision(0), "what was asked for")
        }
        (late, slow) => Err(format!("a late watch got {late:?}, a slow one {slow:?}").into()),
    }
}

fn many_writers_lose_nothing(catalog: &Arc<dyn Catalog>) -> Outcome {
    const EACH: usize = 25;
    put(catalog, "counter", "0")?;
    let count = |catalog: Arc<dyn Catalog>| -> Result<(), CatalogError> {
        let mut done = 0;
        while done < EACH {
            let Some(entry) = catalog.get(&key("counter"))? else { return Err(CatalogError::Closed) };
            let next = entry.value.parse::<u64>().unwrap_or(0) + 1;
            let transaction = Transaction::new()
                .guard_at(key("counter"), entry.revision)
                .put(key("counter"), next.to_string());
            match catalog.transact(transaction) {
                Ok(_) => done += 1,
                Err(CatalogError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let threads: Vec<_> = (0..8)
        .map(|_| Arc::clone(catalog))
        .map(|catalog| std::thread::spawn(move || count(catalog)))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a writer panicked")??;
    }
    let entry = catalog.get(&key("counter"))?.ok_or("the counter is gone")?;
    ensure(entry.value == (8 * EACH).to_string(), &format!("counted {}", entry.value))
}

/// Each transaction writes the same number under two keys: no copy may have two different ones.
fn a_backup_is_consistent_while_others_write(catalog: &Arc<dyn Catalog>) -> Outcome {
    let folder = temporary_folder()?;
    let writer = Arc::clone(catalog);
    let writing = std::thread::spawn(move || -> Result<(), CatalogError> {
        for n in 0..200 {
            writer.transact(
                Transaction::new().put(key("left"), n.to_string()).put(key("right"), n.to_string()),
            )?;
        }
        Ok(())
    });
    for n in 0..5 {
        let path = folder.join(format!("copy-{n}.db"));
        let before = catalog.revision()?;
        catalog.backup(&path)?;
        let after = catalog.revision()?;
        ensure(
            matches!(catalog.backup(&path), Err(CatalogError::BackupExists { .. })),
            "a backup overwrote another",
        )?;
        let copy = crate::SqliteCatalog::open(&path)?;
        let values: BTreeSet<_> = ["left", "right"]
            .map(|name| copy.get(&key(name)).map(|entry| entry.map(|entry| entry.value)))
            .into_iter()
            .collect::<Result<_, _>>()?;
        ensure(values.len() == 1, "a copy is torn")?;
        ensure((before..=after).contains(&copy.revision()?), "a copy is not of its time")?;
    }
    writing.join().map_err(|_| "the writer panicked")??;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn temporary_folder() -> std::io::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("larder-catalog-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}
