//! Sizes with units. What is read is written as the same size.
#![no_main]

use larder_base::ByteSize;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        assert!(i64::try_from(size.as_bytes()).is_ok());
    }
});
