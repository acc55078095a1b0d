//! What is allowed and what is not, asked for in roundabout ways.

mod common;

use common::{Call, Reply, Served, ann, call, serve};
use larder_s3::Options;
use std::collections::BTreeMap;

const ENABLE: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

fn bob(served: &Served, call: Call) -> Reply {
    call.sign("BOB", "secret of bob").send(served)
}

fn outcome(reply: &Reply) -> (u16, String) {
    (reply.status, reply.code())
}

fn allow(served: &Served, statement: &str) {
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    let reply = ann(served, call("PUT", "/first?policy=").body(policy));
    assert_eq!(reply.status, 204, "{}", reply.text());
}

#[test]
fn what_one_connection_changes_others_know_whatever_was_configured_between() {
    let folder = tempfile::tempdir().unwrap();
    let before = common::endpoint(folder.path(), Options::default());
    let after = common::serve_endpoint(before.with_options(Options::default()), tempfile::tempdir().unwrap());
    let before = common::serve_endpoint(before, folder);
    ann(&before, call("PUT", "/first"));
    ann(&before, call("PUT", "/first/key").body("x"));
    allow(
        &before,
        r#"{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::first/*"}"#,
    );
    for served in [&before, &after] {
        assert_eq!(call("GET", "/first/key").send(served).status, 200);
    }
    assert_eq!(ann(&before, call("DELETE", "/first?policy=")).status, 204);
    for served in [&before, &after] {
        assert_eq!(outcome(&call("GET", "/first/key").send(served)), (403, "AccessDenied".to_owned()));
    }
}

#[test]
fn what_is_kept_with_an_object_is_of_a_kind_and_a_size() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let long = "x".repeat(9000);
    let grants = vec!["id=\"id-of-bob\""; 101].join(",");
    for (name, value, code) in [
        ("x-amz-storage-class", "\"\"\"", "InvalidStorageClass"),
        ("cache-control", long.as_str(), "MetadataTooLarge"),
        ("x-amz-grant-read", grants.as_str(), "InvalidArgument"),
    ] {
        let reply = ann(&served, call("PUT", "/first/key").header(name, value));
        assert_eq!(outcome(&reply), (400, code.to_owned()), "{name}");
    }
    let class = call("PUT", "/first/key").header("x-amz-storage-class", "STANDARD_IA");
    assert_eq!(ann(&served, class).status, 200);
    // Nobody has signed it: it is read before anybody is let in.
    let delete = |size: usize| {
        let object = "<Object><Key>key</Key></Object>";
        call("POST", "/first?delete=").body(format!("<Delete>{object}<!--{}--></Delete>", "x".repeat(size)))
    };
    assert_eq!(delete(300 << 10).send(&served).code(), "MaxMessageLengthExceeded");
    assert_eq!(ann(&served, delete(300 << 10)).status, 200);
    let rule = format!(
        "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>{}</AllowedOrigin></CORSRule></CORSConfiguration>",
        "x".repeat(64 << 10)
    );
    assert_eq!(ann(&served, call("PUT", "/first?cors=").body(rule)).code(), "InvalidRequest");
}

#[test]
fn a_range_of_another_object_is_none() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let etag = ann(&served, call("PUT", "/first/key").body("content")).headers["etag"].clone();
    let date = ann(&served, call("HEAD", "/first/key")).headers["last-modified"].clone();
    let other = "\"0123456789abcdef0123456789abcdef\"".to_owned();
    let old = "Wed, 01 Jan 2020 00:00:00 GMT".to_owned();
    for (condition, status, text) in
        [(etag, 206, "tent"), (date, 206, "tent"), (other, 200, "content"), (old, 200, "content")]
    {
        let get = call("GET", "/first/key").header("range", "bytes=3-").header("if-range", &condition);
        let reply = ann(&served, get);
        assert_eq!((reply.status, reply.text().as_str()), (status, text), "{condition}");
    }
}

#[test]
fn a_policy_judges_the_version_and_the_source_that_are_meant() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    bob(&served, call("PUT", "/others"));
    assert_eq!(ann(&served, call("PUT", "/first?versioning=").body(ENABLE)).status, 200);
    let put =
        |text: &str| ann(&served, call("PUT", "/first/key").body(text)).headers["x-amz-version-id"].clone();
    let (open, closed) = (put("open"), put("closed"));
    allow(
        &served,
        &format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"id-of-bob"}},"Action":["s3:GetObjectVersion","s3:DeleteObjectVersion"],
            "Resource":"arn:aws:s3:::first/*","Condition":{{"StringEquals":{{"s3:VersionId":"{open}"}}}}}}"#
        ),
    );
    let copy = |version: &str| {
        let copy = call("PUT", &format!("/others/x?versionId={open}"));
        bob(&served, copy.header("x-amz-copy-source", &format!("/first/key?versionId={version}")))
    };
    assert_eq!(copy(&closed).code(), "AccessDenied");
    assert_eq!(copy(&open).status, 200);
    let delete = |version: &str| {
        let object = format!("<Object><Key>key</Key><VersionId>{version}</VersionId></Object>");
        let body = format!("<Delete>{object}</Delete>");
        bob(&served, call("POST", &format!("/first?delete=&versionId={open}")).body(body)).text()
    };
    assert!(delete(&closed).contains("AccessDenied"));
    assert!(!delete(&open).contains("AccessDenied"));
    // A source is the same however it is encoded.
    allow(
        &served,
        r#"{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::first/*",
        "Condition":{"StringLike":{"s3:x-amz-copy-source":"first/secret/*"}}}"#,
    );
    ann(&served, call("PUT", "/first/secret/x").body("s"));
    for source in ["first/secret/x", "/first/%73ecret/x", "/first/secret%2Fx"] {
        let copied = ann(&served, call("PUT", "/first/copy").header("x-amz-copy-source", source));
        assert_eq!(copied.code(), "AccessDenied", "{source}");
    }
}

#[test]
fn tags_go_along_with_a_copy_for_who_may_read_them() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    bob(&served, call("PUT", "/others"));
    let tagged = call("PUT", "/first/key").header("x-amz-tagging", "a=b").header("x-amz-acl", "private");
    ann(&served, tagged.body("x"));
    allow(
        &served,
        r#"{"Effect":"Allow","Principal":{"AWS":"id-of-bob"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::first/*"}"#,
    );
    let copy = || call("PUT", "/others/x").header("x-amz-copy-source", "/first/key");
    assert_eq!(bob(&served, copy()).code(), "AccessDenied");
    assert_eq!(bob(&served, copy().header("x-amz-tagging-directive", "REPLACE")).status, 200);
}

#[test]
fn who_may_write_may_not_keep_what_is_written_for_ever() {
    let served = serve();
    let locked = call("PUT", "/first").header("x-amz-bucket-object-lock-enabled", "true");
    assert_eq!(ann(&served, locked.header("x-amz-acl", "public-read-write")).status, 200);
    let lock = |call: Call| {
        call.header("x-amz-object-lock-mode", "COMPLIANCE")
            .header("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z")
    };
    assert_eq!(bob(&served, lock(call("PUT", "/first/key").body("x"))).code(), "AccessDenied");
    assert_eq!(
        bob(&served, call("PUT", "/first/key").header("x-amz-object-lock-legal-hold", "ON").body("x")).code(),
        "AccessDenied"
    );
    assert_eq!(bob(&served, call("PUT", "/first/key").body("x")).status, 200);
    let begin = |key: &'static str, create: Call| {
        let begun = ann(&served, create).text();
        let upload =
            begun.split("<UploadId>").nth(1).and_then(|rest| rest.split('<').next()).unwrap().to_owned();
        let part = call("PUT", &format!("/first/{key}?partNumber=1&uploadId={upload}")).body("x");
        (key, (upload, ann(&served, part).headers["etag"].clone()))
    };
    let begun = BTreeMap::from([
        begin("silent", call("POST", "/first/silent?uploads=")),
        begin("asked", lock(call("POST", "/first/asked?uploads="))),
    ]);
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
        <Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    assert_eq!(ann(&served, call("PUT", "/first?object-lock=").body(rule)).status, 200);
    // An upload has the retention that it asked for, or else what the bucket has when it is completed.
    for (key, mode) in [("asked", "COMPLIANCE"), ("silent", "GOVERNANCE")] {
        let (upload, etag) = &begun[key];
        let body = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let completed = ann(&served, call("POST", &format!("/first/{key}?uploadId={upload}")).body(body));
        assert_eq!(completed.status, 200, "{}", completed.text());
        let head = ann(&served, call("HEAD", &format!("/first/{key}")));
        assert_eq!(head.headers.get("x-amz-object-lock-mode").map(String::as_str), Some(mode), "{key}");
    }
}

#[test]
fn a_captured_signature_is_the_same_however_its_header_is_spelt() {
    let served = serve();
    for bucket in ["/first", "/other"] {
        ann(&served, call("PUT", bucket));
    }
    ann(&served, call("PUT", "/other/secret").body("s"));
    let put = call("PUT", "/first/key").body("x").sign("ANN", "secret of ann/+=");
    let authorization = put.headers["authorization"].clone();
    let with = |from: &str, to: &str| {
        let changed = authorization.replacen(from, to, 1);
        assert_ne!(changed, authorization);
        put.clone().header("authorization", &changed)
    };
    let copy = |call: Call| call.header("x-amz-copy-source", "/other/secret").send(&served);
    // Not sent before: all of these are refused for what they are.
    let algorithm = "AWS4-HMAC-SHA256";
    for word in ["Signature=0000000000000001", "SignedHeaders=x-amz-copy-source,", "AWS4-HMAC-SHA1", "x"] {
        assert_eq!(with(algorithm, word).send(&served).code(), "InvalidRequest", "{word}");
        assert_eq!(copy(with(algorithm, word)).code(), "InvalidRequest", "{word}");
    }
    assert_eq!(with("host;", "\u{e9};host;").send(&served).code(), "InvalidRequest");
    for name in ["X-Amz-Copy-Source", " x-amz-copy-source", "x-amz-copy-source "] {
        assert_eq!(copy(with("host;", &format!("host;{name};"))).code(), "AccessDenied", "{name}");
    }
    assert_eq!(copy(with("host;", "host;x-amz-copy-source;")).code(), "SignatureDoesNotMatch");
    assert_eq!(ann(&served, call("GET", "/first/key")).status, 404);
    // The same once it was taken.
    assert_eq!(put.send(&served).status, 200);
    for again in
        [with("host;", "host;nothing;"), with(", Signature=", ",  Signature="), with("host;", "host;;")]
    {
        assert_eq!(again.send(&served).code(), "RequestTimeTooSkewed", "{:?}", again.headers);
    }
    let both = call("GET", "/first/key").presign("ANN", "secret of ann/+=", 60);
    assert_eq!(both.header("authorization", &authorization).send(&served).code(), "InvalidArgument");
}

#[test]
fn a_query_is_read_as_it_is_verified_however_it_is_encoded() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let signed_before = "?Signatur%65=x&AWSAccessKeyI%64=ANN&Expires=4102444800";
    assert_eq!(call("GET", &format!("/first/key{signed_before}")).send(&served).code(), "InvalidRequest");
    let mut long = call("GET", "/first/key").presign("ANN", "secret of ann/+=", 604_801);
    long.target = long.target.replace("X-Amz-Expires", "X-Amz-Expire%73");
    assert_eq!(long.send(&served).code(), "AuthorizationQueryParametersError");
}

#[test]
fn a_copy_goes_ahead_only_as_its_conditions_say() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body("x"));
    ann(&served, call("PUT", "/first/there").body("y"));
    let copy = |name: &str, value: &str| {
        let copy = call("PUT", "/first/there").header("x-amz-copy-source", "/first/key").header(name, value);
        let reply = ann(&served, copy);
        (reply.status, reply.code())
    };
    for name in ["if-match", "if-none-match"] {
        assert_eq!(copy(name, "\"unfinished"), (400, "InvalidArgument".to_owned()), "{name}");
    }
    assert_eq!(copy("if-none-match", "*").0, 412);
    // Each bucket has an owner to expect.
    for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
        assert_eq!(copy(name, "id-of-bob"), (403, "AccessDenied".to_owned()), "{name}");
    }
    assert_eq!(ann(&served, call("GET", "/first/there")).text(), "y");
    assert_eq!(copy("x-amz-source-expected-bucket-owner", "id-of-ann").0, 200);
    assert_eq!(ann(&served, call("GET", "/first/there")).text(), "x");
    // Bob lets everybody read; the owner that is expected of the target is not his.
    let bob = |call: Call| call.sign("BOB", "secret of bob").send(&served);
    bob(call("PUT", "/others").header("x-amz-acl", "public-read"));
    bob(call("PUT", "/others/key").header("x-amz-acl", "public-read").body("z"));
    let copy = call("PUT", "/first/there").header("x-amz-copy-source", "/others/key");
    let owners =
        [("x-amz-expected-bucket-owner", "id-of-ann"), ("x-amz-source-expected-bucket-owner", "id-of-bob")];
    let copy = owners.iter().fold(copy, |copy, (name, value)| copy.header(name, value));
    assert_eq!(ann(&served, copy).status, 200);
}
