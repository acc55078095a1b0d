//! Forms of browsers, up to the policy and the signature they carry: refused, or an object as large as the form at most.
#![no_main]

#[allow(dead_code, reason = "each target uses its part")]
mod s3;

use libfuzzer_sys::fuzz_target;
use s3::{World, call, encoded};

fuzz_target!(|form: &[u8]| {
    let world = World::get();
    let post = call("POST", "/shared").header("content-type", "multipart/form-data; boundary=b").body(form);
    let reply = world.nobody(post);
    if reply.status >= 400 {
        assert!(!reply.code().is_empty(), "an error without a code: {}", reply.text());
        return;
    }
    let listed = world.ann(call("GET", "/shared?list-type=2")).text();
    for key in listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        let key =
            key.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
        let target = format!("/shared/{}", encoded(key.replace("&amp;", "&").as_bytes()));
        assert!(world.ann(call("GET", &target)).body.len() < form.len());
        let _ = world.ann(call("DELETE", &target));
    }
});
