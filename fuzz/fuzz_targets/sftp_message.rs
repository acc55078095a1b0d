//! Messages of SFTP clients.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    larder_daemon::fuzzing::sftp_message(message);
});
