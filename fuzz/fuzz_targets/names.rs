//! Names. What is accepted is one plain member of a path, and is written as it was read. Other ids keep their value.
#![no_main]

use larder_base::{
    Fingerprint, InstanceName, KeptId, PoolName, ProjectName, SnapshotName, Ticket, VolumeName,
};
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};

fn check<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
        let parts: Vec<Component> = Path::new(text).components().collect();
        assert!(matches!(parts.as_slice(), [Component::Normal(part)] if *part == text), "{text:?}");
        assert!(text.len() <= 255 && !text.contains(['\0', '\n']), "{text:?}");
    }
}

/// What is written is read as the same.
fn check_spelling<T: std::str::FromStr + ToString + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{text:?}");
    }
}

fuzz_target!(|text: &str| {
    check::<PoolName>(text);
    check::<ProjectName>(text);
    check::<VolumeName>(text);
    check::<SnapshotName>(text);
    check::<InstanceName>(text);
    check_spelling::<Fingerprint>(text);
    check_spelling::<Ticket>(text);
    check_spelling::<KeptId>(text);
});
