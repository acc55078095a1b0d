//! Documents that requests bring: each is refused, or taken and shown again. The first byte says which one it is.
#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
mod s3;

use libfuzzer_sys::fuzz_target;
use s3::{World, call};

/// Method and target of each, and whether what was taken can be asked for.
const DOCUMENTS: [(&str, &str, bool); 14] = [
    ("PUT", "/shared?cors=", true),
    ("PUT", "/shared?lifecycle=", true),
    ("PUT", "/shared?tagging=", true),
    ("PUT", "/shared?acl=", true),
    ("PUT", "/shared?versioning=", true),
    ("PUT", "/shared?ownershipControls=", true),
    ("PUT", "/shared?publicAccessBlock=", true),
    ("PUT", "/shared?object-lock=", true),
    ("PUT", "/shared/key?tagging=", true),
    ("PUT", "/shared/key?acl=", true),
    ("POST", "/shared?delete=", false),
    ("POST", "/shared/key?uploadId=none", false),
    ("PUT", "/shared/key?legal-hold=", true),
    ("PUT", "/another", false),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, document)) = bytes.split_first() else { return };
    let world = World::get();
    let (method, target, is_shown) = DOCUMENTS[usize::from(*which) % DOCUMENTS.len()];
    if target.contains("/key?") {
        let _ = world.ann(call("PUT", "/shared/key").body("x"));
    }
    let set = world.ann(call(method, target).body(document));
    if set.status >= 300 {
        assert!(!set.code().is_empty(), "an error without a code: {}", set.text());
        return;
    }
    if is_shown {
        let shown = world.ann(call("GET", target));
        // Documents that take everything away leave nothing to show.
        assert!(matches!(shown.status, 200 | 404), "{target}: {}: {}", shown.status, shown.text());
        let _ = world.nobody(call("OPTIONS", target).header("origin", "http://a"));
    }
});
