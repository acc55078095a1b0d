//! The manifest of a backup that somebody imports.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    larder_daemon::fuzzing::backup_manifest(text);
});
