//! Policies of buckets: what is taken is shown as it came, judges every request, and never locks its owner out.
#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
mod s3;

use libfuzzer_sys::fuzz_target;
use s3::{World, call};

fuzz_target!(|policy: &str| {
    let world = World::get();
    let set = world.ann(call("PUT", "/shared?policy=").body(policy));
    if set.status != 204 {
        assert_eq!(set.status, 400, "{}", set.text());
        return;
    }
    let shown = world.ann(call("GET", "/shared?policy="));
    assert!(shown.status == 200 && shown.body == policy.as_bytes(), "{}", shown.text());
    for ask in [
        call("GET", "/shared/key?tagging="),
        call("PUT", "/shared/key").body("x"),
        call("GET", "/shared?prefix=a"),
    ] {
        let _ = world.nobody(ask.clone().header("user-agent", "a").header("referer", "http://b"));
        let _ = world.ann(ask.header("x-amz-acl", "private"));
    }
    assert_eq!(world.ann(call("DELETE", "/shared?policy=")).status, 204);
});
