//! What signatures are good for: how often, for how long, for which bytes.

mod common;

use common::{ann, call, serve};
use jiff::SignedDuration;
use larder_s3::{Options, Repeats};
use std::net::Ipv4Addr;
use std::time::Duration;

#[test]
fn a_signature_is_taken_once() {
    let served = serve();
    let signed = |call: common::Call| call.sign_plainly("ANN", "secret of ann/+=");
    ann(&served, call("PUT", "/first"));
    let (put, early) = (signed(call("PUT", "/first/key").body("x")), signed(call("DELETE", "/first/gone")));
    let get = signed(call("GET", "/first/key"));
    let refused = signed(call("PUT", "/nowhere/key").body("x"));
    let outcome = |reply: common::Reply| (reply.status, reply.code());
    let is_refused = |captured: &common::Call| {
        assert_eq!(outcome(captured.send(&served)), (403, "RequestTimeTooSkewed".to_owned()));
    };
    assert_eq!((put.send(&served).status, get.send(&served).status), (200, 200));
    assert_eq!(refused.send(&served).code(), "NoSuchBucket");
    // A client that numbers its tries never sends one twice, and what was signed before this server began it may have done.
    for method in ["PUT", "GET"] {
        let numbered = call(method, "/first/key").sign("ANN", "secret of ann/+=");
        assert_eq!(numbered.send(&served).status, 200);
        is_refused(&numbered);
    }
    let mut old = call("PUT", "/first/old").body("x");
    old.skew = SignedDuration::from_mins(-5);
    is_refused(&signed(old));
    // One that does not sign its numbers may mean the same twice, and not the same try.
    let counted = |call: &common::Call, number| {
        call.clone().header("amz-sdk-invocation-id", number).header("amz-sdk-request", "attempt=1")
    };
    let same = signed(call("DELETE", "/first/same"));
    assert_eq!(
        (counted(&same, "1").send(&served).status, counted(&same, "2").send(&served).status),
        (204, 204)
    );
    is_refused(&counted(&same, "1"));
    is_refused(&counted(&same, "2"));
    // Without numbers a reading may be meant twice, and a change is to be signed anew, whoever adds numbers to it.
    assert_eq!(get.send(&served).status, 200);
    for again in [put.clone(), counted(&put, "1")] {
        assert_eq!(outcome(again.send(&served)), (503, "SlowDown".to_owned()));
    }
    // From elsewhere a reading alone: many machines may have one key.
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(outcome(put.send_from(elsewhere, &served)), (403, "RequestTimeTooSkewed".to_owned()));
    assert_eq!(get.send_from(elsewhere, &served).status, 200);
    std::thread::sleep(Duration::from_millis(11_100));
    is_refused(&put);
    is_refused(&get);
    // What was not sent yet, or has failed, is no replay.
    assert_eq!(early.send(&served).status, 204);
    assert_eq!(refused.send(&served).code(), "NoSuchBucket");
    assert_eq!(signed(call("PUT", "/first/key").body("x")).send(&served).status, 200);
}

#[test]
fn where_each_is_signed_anew_a_signature_is_taken_once_whatever_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let mild = common::endpoint(folder.path(), Options::default());
    let strict = mild.with_options(Options { repeats: Repeats::AreRefused, ..Options::default() });
    let served = common::serve_endpoint(strict, folder);
    let before = common::serve_endpoint(mild, tempfile::tempdir().unwrap());
    // What is signed in the second in which they began may be from before.
    std::thread::sleep(Duration::from_secs(1));
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body("x"));
    let signed = |call: common::Call| call.sign_plainly("ANN", "secret of ann/+=");
    let refused = (503, "SlowDown".to_owned());
    for again in [signed(call("GET", "/first/key")), signed(call("PUT", "/first/key").body("y"))] {
        // What was taken with the options before is known.
        let reply = again.send(&before);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let replies = [again.send(&served), again.send(&served)];
        assert_eq!(replies.map(|reply| (reply.status, reply.code())), [refused.clone(), refused.clone()]);
    }
    let counted = |call: &common::Call, number| {
        call.clone().header("amz-sdk-invocation-id", number).header("amz-sdk-request", "attempt=1")
    };
    let same = signed(call("DELETE", "/first/key"));
    assert_eq!(counted(&same, "1").send(&served).status, 204);
    let another = counted(&same, "2").send(&served);
    assert_eq!((another.status, another.code()), refused);
}

#[test]
fn of_one_change_that_comes_many_times_at_once_one_is_done() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(ann(&served, call("PUT", "/first?versioning=").body(enable)).status, 200);
    let put = call("PUT", "/first/key").body("x").sign("ANN", "secret of ann/+=");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..16).map(|_| scope.spawn(|| put.send(&served).status)).collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 15, "{statuses:?}");
    let versions = ann(&served, call("GET", "/first?versions=")).text();
    assert_eq!(versions.matches("<Version>").count(), 1, "{versions}");
}

#[test]
fn a_presigned_request_ends_and_lasts_at_most_a_week() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body("x"));
    let presigned = |seconds, ago: i64| {
        let mut presigned = call("GET", "/first/key");
        presigned.skew = SignedDuration::from_secs(-ago);
        presigned.presign("ANN", "secret of ann/+=", seconds)
    };
    assert_eq!(presigned(604_800, 0).send(&served).text(), "x");
    assert_eq!(presigned(60, 120).send(&served).code(), "AccessDenied");
    assert_eq!(presigned(604_801, 0).send(&served).code(), "AuthorizationQueryParametersError");
    let mut other = presigned(60, 0);
    other.target = other.target.replace("/first/key", "/first/kez");
    assert_eq!(other.send(&served).code(), "SignatureDoesNotMatch");
}

#[test]
fn a_captured_signature_is_good_for_what_was_signed_alone() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/other"));
    ann(&served, call("PUT", "/first/key").body("x"));
    let captured =
        call("PUT", "/first/key").header("x-amz-meta-a", "b").body("y").sign("ANN", "secret of ann/+=");
    let with = |change: fn(&mut common::Call)| {
        let mut changed = captured.clone();
        change(&mut changed);
        changed.send(&served).code()
    };
    assert_eq!(with(|call| call.method = "DELETE"), "SignatureDoesNotMatch");
    assert_eq!(with(|call| call.target = "/first/kez".to_owned()), "SignatureDoesNotMatch");
    assert_eq!(with(|call| call.target = "/other/key".to_owned()), "SignatureDoesNotMatch");
    assert_eq!(with(|call| call.target += "?tagging="), "SignatureDoesNotMatch");
    assert_eq!(with(|call| *call = call.clone().header("x-amz-meta-a", "c")), "SignatureDoesNotMatch");
    assert_eq!(with(|call| *call = call.clone().header("host", "other.s3.test")), "SignatureDoesNotMatch");
    assert_eq!(with(|call| call.body = b"z".to_vec()), "XAmzContentSHA256Mismatch");
    let later = |call: &mut common::Call| {
        let old = call.headers["x-amz-date"].clone();
        let now = jiff::Timestamp::now() + SignedDuration::from_mins(1);
        call.headers.insert("x-amz-date".to_owned(), now.strftime("%Y%m%dT%H%M%SZ").to_string());
        assert_ne!(call.headers["x-amz-date"], old);
    };
    assert_eq!(with(later), "SignatureDoesNotMatch", "its date is signed too");
    assert_eq!(captured.send(&served).status, 200, "nothing of this was done");
    assert_eq!(with(|call| call.method = "DELETE"), "RequestTimeTooSkewed", "now it was");
    assert_eq!(ann(&served, call("GET", "/first/key")).text(), "y");
}

#[test]
fn signed_chunks_can_not_be_changed_left_out_or_taken_from_elsewhere() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let (one, other) = (vec![b'a'; 8192], vec![b'b'; 8192]);
    let put = |chunks: &[&[u8]]| call("PUT", "/first/key").sign_chunks("ANN", "secret of ann/+=", chunks);
    let whole = put(&[&one, &other]);
    // Each is framed by its length, its signature and line ends.
    let framed = 8192 + "2000;chunk-signature=".len() + 64 + 4;
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = whole.clone();
        change(&mut changed.body);
        changed.send(&served)
    };
    for refused in [
        changed(&|body| body[1000] = b'c'),
        changed(&|body| body[framed + 2000] = b'c'),
        // The second chunk twice, and never the first.
        changed(&|body| {
            body.copy_within(framed..2 * framed, 0);
        }),
        // A chunk of another upload.
        changed(&|body| {
            body[..framed].copy_from_slice(&put(&[&other, &other]).body[..framed]);
        }),
    ] {
        assert!(matches!(refused.status, 400 | 403), "{}: {}", refused.status, refused.text());
        assert!(
            ["SignatureDoesNotMatch", "IncompleteBody"].contains(&refused.code().as_str()),
            "{}",
            refused.text()
        );
    }
    assert_eq!(ann(&served, call("GET", "/first/key")).code(), "NoSuchKey");
    assert_eq!(whole.send(&served).status, 200);
    assert!(ann(&served, call("GET", "/first/key")).body == [&one[..], &other].concat());
}

#[test]
fn every_signature_of_a_body_in_chunks_counts_and_nothing_is_stored_where_one_is_wrong() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let crc = ("x-amz-checksum-crc32", "mobJYA==");
    let whole = |trailer| {
        let chunks = [&b"hel"[..], b"lo", b"!"];
        call("PUT", "/first/key").sign_chunks_before("ANN", "secret of ann/+=", &chunks, trailer)
    };
    let send = |trailer, before: &str, nth, change: &dyn Fn(&str) -> String| {
        let mut changed = whole(trailer);
        // The signature that follows this for the n-th time.
        let text = String::from_utf8(changed.body).unwrap();
        let at = text.match_indices(before).nth(nth).unwrap().0 + before.len();
        let body = [&text[..at], &change(&text[at..at + 64]), &text[at + 64..]].concat();
        changed.body = body.into_bytes();
        let reply = changed.send(&served);
        assert_eq!(ann(&served, call("GET", "/first/key")).code(), "NoSuchKey");
        (reply.status, reply.code())
    };
    let last_digit = |signature: &str| {
        let (rest, last) = signature.split_at(63);
        format!("{rest}{}", if last == "0" { '1' } else { '0' })
    };
    let refused = (403, "SignatureDoesNotMatch".to_owned());
    let malformed = (400, "IncompleteBody".to_owned());
    let places = [0, 1, 2, 3].map(|nth| ("chunk-signature=", nth));
    for (trailer, places) in
        [(None, &places[..]), (Some(crc), &[&places[..], &[("x-amz-trailer-signature:", 0)]].concat())]
    {
        for (before, nth) in places {
            let about = format!("{before} {nth} {trailer:?}");
            assert_eq!(send(trailer, before, *nth, &last_digit), refused, "{about}");
            assert_eq!(send(trailer, before, *nth, &|right| right.to_uppercase()), refused, "{about}");
            assert_eq!(send(trailer, before, *nth, &|_| "z".repeat(64)), refused, "{about}");
            let short = send(trailer, before, *nth, &|right| right[..63].to_owned());
            assert_eq!(&short, if *before == "chunk-signature=" { &malformed } else { &refused });
        }
    }
    let without = |what: &str, until: &str| {
        let mut changed = whole(Some(crc));
        let text = String::from_utf8(changed.body).unwrap();
        let at = text.rfind(what).unwrap();
        let end = at + text[at..].find(until).unwrap();
        changed.body = [&text[..at], &text[end..]].concat().into_bytes();
        let reply = changed.send(&served);
        (reply.status, reply.code())
    };
    assert_eq!(without(";chunk-signature=", "\r\n"), malformed);
    assert_eq!(without("x-amz-trailer-signature:", "\r\n"), malformed);
    assert_eq!(without("x-amz-checksum-crc32", "x-amz-trailer-signature:"), refused);
    let mut cut = whole(Some(crc));
    let end = cut.body.windows(4).position(|window| window == b"x-am").unwrap();
    cut.body.splice(end.., *b"\r\n");
    assert_eq!(cut.send(&served).code(), "IncompleteBody", "the trailer was announced");
    assert_eq!(ann(&served, call("GET", "/first/key")).code(), "NoSuchKey");
    let stored = whole(Some(crc)).send(&served);
    assert_eq!((stored.status, stored.headers[crc.0].as_str()), (200, crc.1), "{}", stored.text());
    assert_eq!(whole(None).send(&served).status, 200);
    assert_eq!(ann(&served, call("GET", "/first/key")).text(), "hello!");
}

#[test]
fn the_signature_of_the_request_comes_before_those_of_its_chunks() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let with = |key, change: &dyn Fn(&mut common::Call)| {
        let put = call("PUT", "/first/key");
        let mut changed = put.sign_chunks(key, "secret of ann/+=", &[b"hello"]);
        change(&mut changed);
        changed.send(&served).code()
    };
    let seed = |call: &mut common::Call| {
        let authorization = call.headers.get_mut("authorization").unwrap();
        let wrong = if authorization.ends_with('0') { '1' } else { '0' };
        authorization.pop();
        authorization.push(wrong);
    };
    assert_eq!(with("ANN", &seed), "SignatureDoesNotMatch");
    let unread = |call: &mut common::Call| {
        seed(call);
        call.body = b"no chunks".to_vec();
    };
    assert_eq!(with("ANN", &unread), "SignatureDoesNotMatch");
    assert_eq!(with("NOBODY", &|_| {}), "InvalidAccessKeyId");
    assert_eq!(with("NOBODY", &|call| call.body = b"no chunks".to_vec()), "InvalidAccessKeyId");
    let later = |call: &mut common::Call| {
        call.headers.insert("x-amz-date".to_owned(), "20200101T000000Z".to_owned());
    };
    assert_eq!(with("ANN", &later), "RequestTimeTooSkewed");
    assert_eq!(with("ANN", &|call| drop(call.headers.remove("authorization"))), "NotImplemented");
    let presigned = |call: &mut common::Call| {
        let link = common::call("PUT", "/first/key").presign("ANN", "secret of ann/+=", 60);
        for name in ["authorization", "x-amz-decoded-content-length"] {
            call.headers.remove(name);
        }
        call.target = link.target;
    };
    assert_eq!(with("ANN", &presigned), "NotImplemented");
    assert_eq!(with("ANN", &|_| {}), "");
}
