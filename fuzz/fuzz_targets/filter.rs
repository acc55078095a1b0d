//! The filter language of lists.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    larder_daemon::fuzzing::filter(text);
});
