//! An image's file, looked into without unpacking it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

fuzz_target!(|bytes: &[u8]| {
    let Ok(descriptor) = memfd_create("image", MemfdFlags::CLOEXEC) else { return };
    let mut file = File::from(descriptor);
    if file.write_all(bytes).is_ok() {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let _ = larder_images::inspect(&path);
    }
});
