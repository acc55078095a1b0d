//! What lifecycles delete, and what they may ask for.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use common::{Served, ann, call};
use larder_s3::{Endpoint, Options, lifecycle};

fn run(endpoint: &Endpoint) -> lifecycle::Expired {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(lifecycle::run(endpoint.face())).unwrap()
}

fn set_rule(served: &Served, rule: &str) -> (u16, String) {
    let document = format!(
        "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status>{rule}</Rule></LifecycleConfiguration>"
    );
    let reply = ann(served, call("PUT", "/first?lifecycle=").body(document));
    (reply.status, reply.code())
}

const LONE_MARKERS: &str =
    "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";

#[test]
fn a_delete_marker_goes_that_is_the_last_of_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = common::endpoint(folder.path(), Options::default());
    let served = common::serve_endpoint(endpoint.clone(), folder);
    ann(&served, call("PUT", "/first"));
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(ann(&served, call("PUT", "/first?versioning=").body(enable)).status, 200);
    // A page has a thousand entries: 999, the marker, and what comes behind it.
    for number in 0..999 {
        assert_eq!(ann(&served, call("PUT", &format!("/first/a{number:04}"))).status, 200);
    }
    for key in ["b", "c"] {
        let put = ann(&served, call("PUT", &format!("/first/{key}")));
        assert_eq!(ann(&served, call("DELETE", &format!("/first/{key}"))).status, 204);
        if key == "b" {
            let version = format!("/first/b?versionId={}", put.headers["x-amz-version-id"]);
            assert_eq!(ann(&served, call("DELETE", &version)).status, 204);
        }
    }
    assert_eq!(set_rule(&served, &format!("<Filter/>{LONE_MARKERS}")).0, 200);
    assert_eq!(run(&endpoint), lifecycle::Expired { versions: 1, uploads: 0 });
    let left = ann(&served, call("GET", "/first?versions=&prefix=b")).text();
    assert!(!left.contains("<DeleteMarker>"), "{left}");
    // The other one hides a version.
    let left = ann(&served, call("GET", "/first?versions=&prefix=c")).text();
    assert!(left.contains("<DeleteMarker>"), "{left}");
}

#[test]
fn a_filter_must_fit_what_goes() {
    let served = common::serve();
    ann(&served, call("PUT", "/first"));
    let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>";
    let sizes = "<ObjectSizeGreaterThan>1</ObjectSizeGreaterThan>";
    let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let days = "<Expiration><Days>1</Days></Expiration>";
    for (filter, action, is_taken) in [
        (tag.to_owned(), days, true),
        (tag.to_owned(), abort, false),
        (format!("<And><Prefix>x</Prefix>{tag}</And>"), abort, false),
        (sizes.to_owned(), abort, false),
        ("<Prefix>x</Prefix>".to_owned(), abort, true),
        (tag.to_owned(), LONE_MARKERS, false),
    ] {
        let (status, code) = set_rule(&served, &format!("<Filter>{filter}</Filter>{action}"));
        let expected = if is_taken { (200, "") } else { (400, "InvalidRequest") };
        assert_eq!((status, code.as_str()), expected, "{filter} {action}");
    }
}
