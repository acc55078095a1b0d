//! What the endpoint must refuse, and what it must keep apart.

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{Call, ann, call, read_reply, serve};
use jiff::SignedDuration;
use md5::{Digest, Md5};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn an_object_goes_in_and_out_by_path_and_by_host() {
    let served = serve();
    assert_eq!(ann(&served, call("PUT", "/first")).status, 200);
    for key in ["a", "a/b", "a//b", "x/../y", "%C3%A9%20%2B", "n.meta", "."] {
        let put = ann(&served, call("PUT", &format!("/first/{key}")).body(key));
        assert_eq!(put.status, 200, "{key}: {}", put.text());
        let got = ann(&served, call("GET", &format!("/first/{key}")));
        assert_eq!((got.status, got.text().as_str()), (200, key));
    }
    let by_host = ann(&served, call("GET", "/a/b").header("host", "first.s3.test"));
    assert_eq!((by_host.status, by_host.text().as_str()), (200, "a/b"));
    let part = ann(&served, call("GET", "/first/a//b").header("range", "bytes=1-2"));
    assert_eq!((part.status, part.text().as_str()), (206, "//"));
    assert_eq!(part.headers["content-range"], "bytes 1-2/4");
    let gone = ann(&served, call("DELETE", "/first/a"));
    assert_eq!(gone.status, 204);
    let missing = ann(&served, call("GET", "/first/a"));
    assert_eq!((missing.status, missing.code().as_str()), (404, "NoSuchKey"));
    assert_eq!(missing.headers["x-amz-request-id"].len(), 32);
    assert!(missing.text().contains(&missing.headers["x-amz-request-id"]));
}

/// What is not encrypted is sent from its file, a piece at a time.
#[test]
fn any_range_of_a_large_object_comes_back_also_of_one_that_is_encrypted() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let bytes: Vec<u8> = (0..3_500_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let key = [b'k'; 32];
    let (md5, key) = (BASE64_STANDARD.encode(Md5::digest(key)), BASE64_STANDARD.encode(key));
    for is_encrypted in [false, true] {
        let with_key = |call: Call| match is_encrypted {
            false => call,
            true => call
                .header("x-amz-server-side-encryption-customer-algorithm", "AES256")
                .header("x-amz-server-side-encryption-customer-key", &key)
                .header("x-amz-server-side-encryption-customer-key-md5", &md5),
        };
        let put = ann(&served, with_key(call("PUT", "/first/key").body(bytes.clone())));
        assert_eq!(put.status, 200, "{}", put.text());
        let ranges =
            [(0, 3_499_999), (1, 3_499_998), (1_048_575, 2_097_152), (3_400_000, 3_499_999), (777, 200_000)];
        for (first, last) in ranges {
            let get = call("GET", "/first/key").header("range", &format!("bytes={first}-{last}"));
            let got = ann(&served, with_key(get));
            assert_eq!(got.status, 206, "{}", got.text());
            assert!(got.body == bytes[first..=last], "{first} to {last}, encrypted: {is_encrypted}");
        }
    }
}

#[test]
fn what_is_not_signed_rightly_is_refused() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body("x"));
    let get = || call("GET", "/first/key");
    let skewed = |minutes| {
        let mut skewed = get();
        skewed.skew = SignedDuration::from_mins(minutes);
        skewed.sign("ANN", "secret of ann/+=").send(&served)
    };
    let refused = [
        (get().sign("ANN", "another secret").send(&served), 403, "SignatureDoesNotMatch"),
        (get().sign("NOBODY", "secret").send(&served), 403, "InvalidAccessKeyId"),
        (skewed(16), 403, "RequestTimeTooSkewed"),
        (skewed(-16), 403, "RequestTimeTooSkewed"),
        (get().send(&served), 403, "AccessDenied"),
        (get().header("authorization", "AWS ANN:c2ln").send(&served), 400, "InvalidRequest"),
    ];
    for (reply, status, code) in refused {
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{}", reply.text());
    }
    assert_eq!(skewed(14).status, 200);
    // What was signed before this server began may have been answered.
    assert_eq!(skewed(-14).code(), "RequestTimeTooSkewed");
}

#[test]
fn a_read_only_key_writes_by_no_verb() {
    let served = serve();
    ann(&served, call("PUT", "/shared"));
    ann(&served, call("PUT", "/shared/key").body("x"));
    let reader = |call: common::Call| call.sign("READER", "r").send(&served);
    assert_eq!(reader(call("GET", "/shared/key")).text(), "x");
    assert_eq!(reader(call("GET", "/shared?list-type=2")).status, 200);
    let delete = "<Delete><Object><Key>key</Key></Object></Delete>";
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let writes = [
        call("PUT", "/shared/key").body("y"),
        call("PUT", "/shared/copy").header("x-amz-copy-source", "/shared/key"),
        call("DELETE", "/shared/key"),
        call("POST", "/shared/key?uploads="),
        call("PUT", "/shared/key?tagging=").body(tags),
        call("DELETE", "/shared/key?tagging="),
        call("PUT", "/shared/key?acl=").header("x-amz-acl", "public-read"),
        call("PUT", "/shared?acl=").header("x-amz-acl", "public-read"),
        call("PUT", "/shared?versioning=")
            .body("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
        call("PUT", "/shared?policy=").body("{}"),
        call("DELETE", "/shared?policy="),
        call("DELETE", "/shared?cors="),
        call("DELETE", "/shared"),
        call("PUT", "/another"),
    ];
    for write in writes {
        let (method, target) = (write.method, write.target.clone());
        assert_eq!(reader(write).code(), "AccessDenied", "{method} {target}");
    }
    let many = reader(
        call("POST", "/shared?delete=").body(delete).header("content-md5", "tX3MsGTNI2MzHfRA7qxB9g=="),
    );
    assert!(!many.text().contains("<Deleted>"), "{}", many.text());
    assert_eq!(ann(&served, call("GET", "/shared/key")).text(), "x");
    assert_eq!(call("PUT", "/shared/key").body("z").sign("WRITER", "w").send(&served).status, 200);
}

#[test]
fn a_buckets_key_learns_nothing_of_other_buckets() {
    let served = serve();
    ann(&served, call("PUT", "/shared"));
    ann(&served, call("PUT", "/private"));
    ann(&served, call("PUT", "/private/key").header("x-amz-acl", "public-read").body("x"));
    for target in ["/private/key", "/private", "/missing", "/missing/key", "/private?versions="] {
        let reply = call("GET", target).sign("WRITER", "w").send(&served);
        assert_eq!((reply.status, reply.code().as_str()), (403, "AccessDenied"), "{target}");
    }
    let copy = call("PUT", "/shared/copy").header("x-amz-copy-source", "/private/key");
    assert_eq!(copy.sign("WRITER", "w").send(&served).code(), "AccessDenied");
    let buckets = call("GET", "/").sign("WRITER", "w").send(&served).text();
    assert!(buckets.contains("<Name>shared</Name>") && !buckets.contains("private"), "{buckets}");
    let bob = |call: common::Call| call.sign("BOB", "secret of bob").send(&served);
    assert_eq!(bob(call("GET", "/private")).code(), "AccessDenied");
    assert_eq!(bob(call("GET", "/private/key")).text(), "x");
    assert_eq!(bob(call("PUT", "/private")).code(), "BucketAlreadyExists");
}

#[test]
fn a_list_that_nobody_set_is_the_owners_and_so_is_one_that_was_taken_back() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body("x"));
    let list = || ann(&served, call("GET", "/first/key?acl=")).text();
    let bob = || call("GET", "/first/key").sign("BOB", "secret of bob").send(&served).status;
    let untouched = list();
    assert_eq!(untouched.matches("<Permission>FULL_CONTROL</Permission>").count(), 1, "{untouched}");
    assert_eq!(untouched.matches("<ID>id-of-ann</ID>").count(), 2, "{untouched}");
    for (canned, status, groups) in [("public-read", 200, 1), ("private", 403, 0)] {
        let reply = ann(&served, call("PUT", "/first/key?acl=").header("x-amz-acl", canned));
        assert_eq!((reply.status, bob()), (200, status), "{canned}: {}", reply.text());
        assert_eq!(list().matches("<URI>").count(), groups, "{canned}");
    }
    assert_eq!(list(), untouched);
}

#[test]
fn a_body_that_is_not_what_was_signed_or_ends_early_leaves_nothing() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let mut tampered = call("PUT", "/first/key").body(vec![b'a'; 100_000]).sign("ANN", "secret of ann/+=");
    tampered.body[50_000] = b'b';
    assert_eq!(tampered.send(&served).code(), "XAmzContentSHA256Mismatch");
    let mut document = call("PUT", "/first?tagging=").body("<Tagging/>").sign("ANN", "secret of ann/+=");
    document.body = b"<tagging/>".to_vec();
    assert_eq!(document.send(&served).code(), "XAmzContentSHA256Mismatch");
    let digest = call("PUT", "/first/key").header("content-md5", "tX3MsGTNI2MzHfRA7qxB9g==").body("x");
    assert_eq!(ann(&served, digest).code(), "BadDigest");
    let cut = call("PUT", "/first/key").body(vec![b'a'; 100_000]).sign("ANN", "secret of ann/+=");
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(cut.head().as_bytes()).unwrap();
    stream.write_all(&cut.body[..60_000]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    let staging = served.folder.path().join("first/staging");
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_dir(&staging).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the cut upload is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ann(&served, call("GET", "/first/key")).code(), "NoSuchKey");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_and_a_connection_serves_many() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let mut stream = TcpStream::connect(served.address).unwrap();
    let put = call("PUT", "/first/key")
        .header("expect", "100-continue")
        .body("hello")
        .sign("ANN", "secret of ann/+=");
    stream.write_all(put.head().as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, true).status, 100);
    stream.write_all(&put.body).unwrap();
    assert_eq!(read_reply(&mut stream, false).status, 200);
    let get = call("GET", "/first/key").sign("ANN", "secret of ann/+=");
    stream.write_all(get.head().as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, false).text(), "hello");
}

#[test]
fn a_client_that_asks_first_with_nothing_to_send_is_answered_and_comes_anew() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let mut stream = TcpStream::connect(served.address).unwrap();
    let put = call("PUT", "/first/empty").header("expect", "100-continue").header("content-length", "0");
    stream.write_all(put.sign("ANN", "secret of ann/+=").head().as_bytes()).unwrap();
    let reply = read_reply(&mut stream, true);
    assert_eq!((reply.status, reply.headers["connection"].as_str()), (200, "close"));
    assert!(reply.headers.contains_key("etag"));
}

#[test]
fn a_client_that_asks_first_and_is_refused_comes_anew() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let put = call("PUT", "/first/key").header("expect", "100-continue").body("hello");
    let get = call("GET", "/first").sign("ANN", "secret of ann/+=");
    let mut stream = TcpStream::connect(served.address).unwrap();
    // What it asks next is not taken for the body that it kept.
    stream.write_all((put.sign("BOB", "wrong").head() + &get.head()).as_bytes()).unwrap();
    let mut answers = Vec::new();
    let _ = stream.read_to_end(&mut answers);
    let answers = String::from_utf8_lossy(&answers);
    assert!(answers.starts_with("HTTP/1.1 403 ") && answers.contains("connection: close\r\n"), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

#[test]
fn other_sites_may_ask_what_the_buckets_rules_say() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let rules = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>\
        <AllowedOrigin>https://*.example.net</AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader>\
        <MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>";
    assert_eq!(ann(&served, call("PUT", "/first?cors=").body(rules)).status, 200);
    let preflight = |origin: &str, method: &str| {
        let ask = call("OPTIONS", "/first/key").header("origin", origin);
        ask.header("access-control-request-method", method).send(&served)
    };
    let allowed = preflight("https://www.example.net", "GET");
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://www.example.net");
    assert_eq!(allowed.headers["access-control-max-age"], "60");
    assert_eq!(preflight("https://example.org", "GET").code(), "AccessDenied");
    assert_eq!(preflight("https://www.example.net", "PUT").code(), "AccessDenied");
    let plain = ann(&served, call("GET", "/first/key").header("origin", "https://www.example.net"));
    assert_eq!(plain.headers["access-control-allow-origin"], "https://www.example.net");
}

#[test]
fn versions_and_locks_hold_over_the_protocol() {
    let served = serve();
    ann(&served, call("PUT", "/locked").header("x-amz-bucket-object-lock-enabled", "true"));
    let put = ann(
        &served,
        call("PUT", "/locked/key")
            .header("x-amz-object-lock-mode", "GOVERNANCE")
            .header("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z")
            .body("x"),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    let version = format!("/locked/key?versionId={}", put.headers["x-amz-version-id"]);
    assert_eq!(ann(&served, call("DELETE", &version)).code(), "AccessDenied");
    assert_eq!(ann(&served, call("DELETE", "/locked/key")).headers["x-amz-delete-marker"], "true");
    assert_eq!(ann(&served, call("GET", "/locked/key")).code(), "NoSuchKey");
    assert_eq!(ann(&served, call("GET", &version)).text(), "x");
    let bypass = call("DELETE", &version).header("x-amz-bypass-governance-retention", "true");
    assert_eq!(ann(&served, bypass).status, 204);
}

#[test]
fn what_can_be_no_header_is_refused_and_not_stored() {
    let served = serve();
    ann(&served, call("PUT", "/shared").header("x-amz-acl", "public-read-write"));
    let part = |name: &str, more: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    };
    let post = |fields: &str, file: &str| {
        let body = format!("{}{fields}{}--b--\r\n", part("key", "", "a"), part("file", file, "text"));
        call("POST", "/shared")
            .header("content-type", "multipart/form-data; boundary=b")
            .body(body)
            .send(&served)
    };
    let kind = "\r\nContent-Type: \0/plain";
    for (fields, file) in [
        (String::new(), kind),
        (part("Content-Type", "", "a\u{1}b"), ""),
        (part("Cache-Control", "", "a\r\nx-other: b"), ""),
        (part("x-amz-meta-a\u{7f}", "", "a"), ""),
        (part("x-amz-meta-a", "", "a\nb"), ""),
        (part("x-amz-website-redirect-location", "", "/\0"), ""),
    ] {
        let reply = post(&fields, file);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "InvalidArgument"),
            "{fields:?}: {}",
            reply.text()
        );
        assert_eq!(ann(&served, call("GET", "/shared/a")).status, 404, "{fields:?}");
    }
    assert_eq!(post(&part("x-amz-meta-a", "", "Hell\u{f6}"), "").status, 204);
    assert_eq!(ann(&served, call("GET", "/shared/a")).text(), "text");
    for name in ["type", "language", "disposition", "encoding"] {
        let reply = ann(&served, call("GET", &format!("/shared/a?response-content-{name}=a%0Ab")));
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    }
}

#[test]
fn what_nobody_signed_does_not_count() {
    let served = serve();
    for bucket in ["/first", "/other"] {
        ann(&served, call("PUT", bucket));
    }
    ann(&served, call("PUT", "/other/secret").body("s"));
    let link = call("PUT", "/first/key").presign("ANN", "secret of ann/+=", 60);
    for (name, value) in [("x-amz-copy-source", "/other/secret"), ("x-amz-acl", "public-read")] {
        let added = link.clone().header(name, value).send(&served);
        assert_eq!((added.status, added.code().as_str()), (403, "AccessDenied"), "{name}");
        let mut added = call("PUT", "/first/key").sign("ANN", "secret of ann/+=");
        added.headers.insert(name.to_owned(), value.to_owned());
        assert_eq!(added.send(&served).code(), "AccessDenied", "{name}");
    }
    assert_eq!(ann(&served, call("GET", "/first/key")).status, 404);
    assert_eq!(link.clone().body("x").send(&served).status, 200);
    // Nobody would take the chunks apart.
    let chunked = link.header("content-encoding", "aws-chunked").body("1\r\ny\r\n0\r\n\r\n").send(&served);
    assert_eq!((chunked.status, chunked.code().as_str()), (501, "NotImplemented"));
    assert_eq!(ann(&served, call("GET", "/first/key")).text(), "x");
}

#[test]
fn a_form_is_a_form_however_it_is_spelt() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let body = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n\
                --x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nv\r\n--x--\r\n";
    let form = |target, kind| call("POST", target).header("content-type", kind).body(body).send(&served);
    for (target, kind, status, code) in [
        ("/first", "multipart/form-data; boundary=x", 403, "AccessDenied"),
        ("/first", "Multipart/Form-Data; charset=utf-8; Boundary=\"x\"", 403, "AccessDenied"),
        ("/first", "multipart/form-data", 400, "MalformedPOSTRequest"),
        ("/first", "multipart/mixed; boundary=x", 400, "MalformedPOSTRequest"),
        ("/", "multipart/form-data; Boundary=x", 405, "MethodNotAllowed"),
    ] {
        let reply = form(target, kind);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{target} {kind}");
    }
}

#[test]
fn a_bucket_that_is_there_is_made_again_only_as_it_is() {
    let served = serve();
    let (plain, locked) = (
        || call("PUT", "/first"),
        |value| call("PUT", "/first").header("x-amz-bucket-object-lock-enabled", value),
    );
    assert_eq!(ann(&served, plain()).status, 200);
    assert_eq!((ann(&served, plain()).status, ann(&served, locked("false")).status), (200, 200));
    assert_eq!(ann(&served, locked("true")).code(), "BucketAlreadyOwnedByYou");
    let enforced = plain().header("x-amz-object-ownership", "BucketOwnerEnforced");
    assert_eq!(ann(&served, enforced).code(), "BucketAlreadyOwnedByYou");
}
