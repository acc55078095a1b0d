//! Lists against a plain model of them: every prefix, delimiter, page size and start gives what S3 says.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use common::{open, put};
use larder_storage_buckets::{Bucket, Entry, Query, Versioning};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// What a list is, without an index: all entries behind `after`.
fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: Option<&str>) -> Vec<String> {
    let mut shown = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix)) {
        let cut = match delimiter {
            "" => None,
            _ => key[prefix.len()..].find(delimiter).map(|found| prefix.len() + found + delimiter.len()),
        };
        let entry = cut.map_or(key.as_str(), |end| &key[..end]);
        // What is behind the start by its key counts, except what lies in the prefix that is the start.
        let is_passed = after.is_some_and(|after| key.as_str() <= after || (cut.is_some() && entry == after));
        if !is_passed && shown.last().map(String::as_str) != Some(entry) {
            shown.push(entry.to_owned());
        }
    }
    shown
}

fn pages(bucket: &Bucket, mut query: Query) -> Vec<String> {
    let mut shown = Vec::new();
    loop {
        let page = bucket.list(&query).unwrap();
        assert!(page.entries.len() <= query.limit);
        shown.extend(page.entries.iter().map(|entry| entry.key().to_owned()));
        if !page.is_truncated {
            return shown;
        }
        query.after = page.entries.last().map(|entry| entry.key().to_owned());
        assert!(query.after.is_some());
    }
}

fn key() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![Just("a"), Just("b"), Just("/"), Just("é"), Just("\u{10ffff}"), Just("-")],
        1..7,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_what_the_model_says(
        keys in proptest::collection::btree_set(key(), 0..60),
        prefix in prop_oneof![Just(String::new()), key()],
        delimiter in prop_oneof![Just(""), Just("/"), Just("b"), Just("a/"), Just("\u{10ffff}")],
        after in proptest::option::of(key()),
        limit in 1_usize..9,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bucket = open(folder.path());
        for key in &keys {
            put(&bucket, key, b"");
        }
        for after in [after, None] {
            let expected = model(&keys, &prefix, delimiter, after.as_deref());
            let query = Query { prefix: prefix.clone(), delimiter: delimiter.into(), after, after_id: None, limit };
            prop_assert_eq!(pages(&bucket, query.clone()), expected.clone());
            prop_assert_eq!(pages(&bucket, Query { limit: 1000, ..query }), expected);
        }
    }
}

#[test]
fn pages_of_versions_meet_without_gap_or_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = open(folder.path());
    bucket.set_versioning(Versioning::Enabled).unwrap();
    let mut expected = Vec::new();
    for key in ["a", "b", "b/c", "d"] {
        let ids: Vec<String> = (0..5).map(|_| put(&bucket, key, b"").id).collect();
        expected.extend(ids.into_iter().rev().map(|id| (key.to_owned(), id)));
    }
    for limit in 1..7 {
        let mut query = Query { limit, ..Query::default() };
        let mut shown = Vec::new();
        loop {
            let page = bucket.list_versions(&query).unwrap();
            for entry in &page.entries {
                let Entry::Item(item) = entry else { panic!("{entry:?}") };
                shown.push((item.key.clone(), item.id.clone()));
            }
            if !page.is_truncated {
                break;
            }
            (query.after, query.after_id) = shown.last().cloned().unzip();
        }
        assert_eq!(shown, expected, "pages of {limit}");
    }
}

/// A page costs what it shows, not what it jumps over or what comes before it.
#[test]
fn a_list_with_a_delimiter_jumps_and_a_late_page_is_as_quick_as_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = std::sync::Arc::new(open(folder.path()));
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let bucket = std::sync::Arc::clone(&bucket);
            std::thread::spawn(move || {
                for number in 0..500 {
                    put(&bucket, &format!("{thread:02}/{number:04}"), b"");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let time = |query: &Query| {
        let begin = Instant::now();
        let page = bucket.list(query).unwrap();
        (page.entries.len(), begin.elapsed())
    };
    let folders = Query { delimiter: "/".into(), limit: 1000, ..Query::default() };
    let whole = Query { limit: 8000, ..Query::default() };
    let late = Query { limit: 1000, after: Some("13/0499".into()), ..Query::default() };
    let best = |query: &Query| (0..5).map(|_| time(query)).min_by_key(|(_, spent)| *spent).unwrap();
    let (folders, whole, late) = (best(&folders), best(&whole), best(&late));
    assert_eq!((folders.0, whole.0, late.0), (16, 8000, 1000));
    assert!(folders.1 * 2 < whole.1, "16 folders took {:?}, all 8000 keys {:?}", folders.1, whole.1);
    assert!(late.1 * 3 < whole.1, "a late page took {:?}, all {:?}", late.1, whole.1);
}
