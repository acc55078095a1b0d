//! Keys of objects: what is taken comes back under the same name, alone, and what is not UTF-8 or too long is refused.
#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
mod s3;

use libfuzzer_sys::fuzz_target;
use s3::{World, call, encoded};

fuzz_target!(|key: &[u8]| {
    // An empty key names the bucket.
    if key.is_empty() {
        return;
    }
    let world = World::get();
    let target = format!("/shared/{}", encoded(key));
    let put = world.ann(call("PUT", &target).body(key));
    if put.status != 200 {
        assert!(std::str::from_utf8(key).is_err() || key.len() > 1024, "refused: {}", put.text());
        return;
    }
    assert!(std::str::from_utf8(key).is_ok() && key.len() <= 1024, "taken: {key:?}");
    assert!(world.ann(call("GET", &target)).body == key, "something else came back");
    let listed = world.ann(call("GET", "/shared?list-type=2&encoding-type=url")).text();
    assert_eq!(listed.matches("<Key>").count(), 1, "{listed}");
    let prefix = encoded(key).replace('/', "%2F");
    let one = world.ann(call("GET", &format!("/shared?list-type=2&prefix={prefix}&delimiter=%2F"))).text();
    assert!(one.contains("<KeyCount>1</KeyCount>"), "{one}");
    assert_eq!(world.ann(call("DELETE", &target)).status, 204);
    assert_eq!(world.ann(call("GET", &target)).status, 404);
});
