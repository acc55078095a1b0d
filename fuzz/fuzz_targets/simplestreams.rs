//! What an image server answers: its index, and its products. Paths in it must stay below the server's address.
#![no_main]

use larder_images::ImageKind;
use larder_images::simplestreams::{parse_index, parse_products};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(paths) = parse_index(bytes) {
        assert!(paths.iter().all(|path| !path.starts_with('/') && path.split('/').all(|part| part != "..")));
    }
    if let Ok(list) = parse_products(bytes) {
        for alias in ["debian/12", "default", ""] {
            list.by_alias(alias, ImageKind::Container, "x86_64");
            list.by_fingerprint(alias);
        }
    }
});
