//! A process that commits is killed at any moment: all it acknowledged is there, whole, and at most one more of each of its
//! threads.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics to fail, and its child tells by printing"
)]

use larder_catalog::{Catalog, Key, Prefix, Revision, SqliteCatalog, Transaction};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TEST: &str = "a_kill_in_the_middle_of_commits_loses_nothing_acknowledged_and_tears_nothing";
const CHILD: &str = "LARDER_CRASH_CHILD";
/// They share commits.
const WRITERS: usize = 3;
const DOCUMENTS: usize = 7;
/// Long enough that the WAL is written back in nearly every round.
const FILLING: usize = 3000;

fn key(writer: usize, document: usize) -> Key {
    Key::of(["crash", &writer.to_string(), &document.to_string()])
}

/// The number that all documents of a writer have; 0 before its first commit. Fails on half a transaction.
fn number_of(catalog: &SqliteCatalog, writer: usize) -> u64 {
    let entries = catalog.list(&Prefix::of(["crash", &writer.to_string()])).unwrap();
    let of =
        |value: &str| value.split('"').nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
    let numbers: Vec<_> = entries.iter().map(|entry| (of(&entry.value), entry.revision)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "writer {writer}: torn: {numbers:?}");
    assert!(numbers.is_empty() || numbers.len() == DOCUMENTS, "writer {writer}: {} documents", numbers.len());
    numbers.first().map_or(0, |(number, _)| *number)
}

/// Commits numbered transactions of several documents and prints each number once it is acknowledged. Ends by being killed,
/// or when nobody reads any more.
fn commit_for_ever(catalog: &SqliteCatalog, writer: usize) {
    let filling = "x".repeat(FILLING);
    for number in number_of(catalog, writer) + 1.. {
        let transaction = (0..DOCUMENTS).fold(Transaction::new(), |transaction, document| {
            transaction.put(key(writer, document), format!("\"{number} {filling}\""))
        });
        // Every other one leaves its way to the disk to the next: the end of the process must not take it back.
        let transaction = if number % 2 == 1 { transaction.relaxed() } else { transaction };
        catalog.transact(transaction).unwrap();
        println!("acknowledged {writer} {number}");
    }
}

fn be_the_child(path: &Path) {
    let catalog = SqliteCatalog::open(path).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let catalog = &catalog;
            scope.spawn(move || commit_for_ever(catalog, writer));
        }
    });
}

/// Lets a child commit for a while, kills it, and returns the last number that each writer acknowledged.
fn run_and_kill(path: &Path, wait: Duration) -> BTreeMap<usize, u64> {
    #[expect(clippy::disallowed_methods, reason = "the test starts itself as the process to be killed")]
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // A pipe that is full would stop the child at a moment that is not random: somebody must read all the time.
    let (begun, first) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut last = BTreeMap::new();
        while let Some(Ok(line)) = lines.next() {
            if let Some((writer, number)) =
                line.strip_prefix("acknowledged ").and_then(|it| it.split_once(' '))
            {
                last.insert(writer.parse().unwrap(), number.parse().unwrap());
                let _ = begun.send(());
            }
        }
        last
    });
    let is_begun = first.recv_timeout(Duration::from_secs(60));
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap();
    is_begun.unwrap();
    reading.join().unwrap()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn a_kill_in_the_middle_of_commits_loses_nothing_acknowledged_and_tears_nothing() {
    if let Some(path) = std::env::var_os(CHILD) {
        return be_the_child(Path::new(&path));
    }
    let now = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    let seed = setting("LARDER_CRASH_SEED").unwrap_or_else(now);
    let rounds = setting("LARDER_CRASH_ROUNDS").unwrap_or(12);
    println!("LARDER_CRASH_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larder.db");
    let mut before = [0; WRITERS];
    let mut chance = seed;
    for round in 0..rounds {
        // Knuth's MMIX generator: its upper bits are random enough for a moment.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acknowledged = run_and_kill(&path, Duration::from_micros((chance >> 33) % 80_000));
        let catalog = SqliteCatalog::open(&path).unwrap();
        for (writer, before) in before.iter_mut().enumerate() {
            let acknowledged = acknowledged.get(&writer).copied().unwrap_or(*before);
            let found = number_of(&catalog, writer);
            assert!(
                found == acknowledged || found == acknowledged + 1,
                "seed {seed}, round {round}, writer {writer}: {acknowledged} acknowledged, {found} there"
            );
            *before = found;
        }
        // The log tells of the same transactions.
        let commits = Revision(i64::try_from(before.iter().sum::<u64>()).unwrap());
        assert_eq!(catalog.revision().unwrap(), commits, "seed {seed}, round {round}");
        let mut watch = catalog.watch(Revision(commits.0 - 1)).unwrap();
        let last = watch.next(Duration::ZERO).unwrap().unwrap();
        assert_eq!((last.revision, last.puts.len()), (commits, DOCUMENTS), "seed {seed}, round {round}");
    }
    println!("{rounds} kills, {before:?} commits");
}
