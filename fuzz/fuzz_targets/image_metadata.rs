//! The `metadata.yaml` of an image. What is understood can be written and says the same when it is read again.
#![no_main]

use larder_images::ImageMetadata;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(metadata) = ImageMetadata::parse(text) {
        let again = metadata.to_yaml().and_then(|yaml| ImageMetadata::parse(&yaml));
        assert_eq!(again.ok(), Some(metadata));
    }
});
