//! What one client can't do to the others: say too much, ask too much at once, or make the endpoint wait.

#![expect(clippy::unwrap_used, reason = "a test panics to fail")]

mod common;

use common::{Served, ann, call, read_reply, serve, serve_with};
use larder_s3::{Options, Patience};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn what_is_too_large_is_refused_with_the_code_that_aws_gives() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let many = |count: usize, key: &str| {
        let objects = format!("<Object><Key>{key}</Key></Object>").repeat(count);
        call("POST", "/first?delete=")
            .header("x-amz-checksum-crc32", "AAAAAA==")
            .body(format!("<Delete>{objects}</Delete>"))
    };
    let huge = |length: &str| call("PUT", "/first/key").header("content-length", length);
    let metadata = call("PUT", "/first/key").header("x-amz-meta-a", &"v".repeat(2048));
    let tags = (0..11).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join("&");
    let cases = [
        (call("PUT", &format!("/first/{}", "k".repeat(1025))), 400, "KeyTooLongError"),
        (metadata, 400, "MetadataTooLarge"),
        (call("PUT", "/first/key").header("x-amz-tagging", &tags), 400, "InvalidTag"),
        (huge("5368709121"), 400, "EntityTooLarge"),
        (call("PUT", "/first/key?partNumber=10001&uploadId=none"), 400, "InvalidArgument"),
        (call("PUT", "/first?policy=").body("x".repeat(20 * 1024 + 1)), 400, "MalformedPolicy"),
        (many(1001, "k"), 400, "MalformedXML"),
        (many(5000, &"k".repeat(1000)), 400, "MaxMessageLengthExceeded"),
    ];
    for (case, status, code) in cases {
        let (method, target) = (case.method, case.target.chars().take(40).collect::<String>());
        let reply = ann(&served, case);
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{method} {target}: {}",
            reply.text()
        );
    }
    let headers = |size: usize| call("GET", "/first").header("x-amz-meta-a", &"v".repeat(size));
    assert_eq!(headers(66_000).send(&served).code(), "RequestHeaderSectionTooLarge");
    // The answer comes before all is said, or the connection just ends.
    let mut stream = TcpStream::connect(served.address).unwrap();
    let _ = stream.write_all(headers(1_000_000).head().as_bytes());
    let told = until_the_end(&mut stream);
    assert!(told.is_empty() || told.contains(" 431 "), "{told}");
    assert!(!ann(&served, call("GET", "/first")).text().contains("<Key>"));
}

#[test]
fn a_refused_client_can_say_all_it_has_to() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let put = call("PUT", "/first/key").body(vec![b'a'; 16 << 20]).sign("ANN", "no secret of hers");
    assert_eq!(put.send(&served).code(), "SignatureDoesNotMatch");
    let put = call("PUT", "/none/key").body(vec![b'a'; 16 << 20]);
    assert_eq!(ann(&served, put).code(), "NoSuchBucket");
}

#[test]
fn a_form_with_large_fields_is_refused_before_its_file() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let field =
        format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}\r\n", "v".repeat(70_000));
    let form = call("POST", "/first").header("content-type", "multipart/form-data; boundary=b").body(field);
    assert_eq!(form.send(&served).code(), "MaxPostPreDataLengthExceeded");
}

#[test]
fn a_key_has_so_many_requests_at_once_and_others_are_not_hindered() {
    let served = serve_with(Options { requests_per_key: 1, ..Options::default() });
    ann(&served, call("PUT", "/shared"));
    let put = call("PUT", "/shared/key").header("expect", "100-continue").body("0123456789");
    let put = put.sign("ANN", "secret of ann/+=");
    let mut slow = say(&served, put.head().as_bytes());
    // It has its seat once it is told to go on.
    assert_eq!(read_reply(&mut slow, true).status, 100);
    let list = || call("GET", "/shared?list-type=2");
    let refused = ann(&served, list());
    assert_eq!((refused.status, refused.code().as_str()), (503, "SlowDown"));
    assert_eq!(list().sign("WRITER", "w").send(&served).status, 200);
    slow.write_all(&put.body).unwrap();
    assert_eq!(read_reply(&mut slow, false).status, 200);
    assert_eq!(ann(&served, list()).status, 200, "the seat is free again");
}

#[test]
fn a_request_counts_until_the_last_byte_of_its_answer_is_out() {
    let served = serve_with(Options { requests_per_key: 1, ..Options::default() });
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body(vec![b'a'; 32 << 20]));
    let get = call("GET", "/first/key").sign("ANN", "secret of ann/+=");
    let mut slow = say(&served, get.head().as_bytes());
    let mut first = [0; 1000];
    slow.read_exact(&mut first).unwrap();
    let list = || ann(&served, call("GET", "/first?list-type=2"));
    assert_eq!(list().code(), "SlowDown");
    let length = 32 << 20;
    let mut rest = vec![0; length];
    slow.read_exact(&mut rest[..length - 1000]).unwrap();
    drop(slow);
    let deadline = Instant::now() + Duration::from_secs(10);
    while list().status != 200 {
        assert!(Instant::now() < deadline, "the seat is still taken");
    }
}

#[test]
fn who_is_unknown_takes_no_seat_of_the_key_that_they_name() {
    let served = serve_with(Options { requests_per_key: 1, ..Options::default() });
    ann(&served, call("PUT", "/first"));
    // A form that says that it is Ann's, and goes on for ever before its signature.
    let form = "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\
                authorization: AWS4-HMAC-SHA256 Credential=ANN/20260101/us-east-1/s3/aws4_request,\
                SignedHeaders=host,Signature=00\r\n\
                content-type: multipart/form-data; boundary=b\r\nexpect: 100-continue\r\n\r\n";
    let mut slow = say(&served, form.as_bytes());
    // It sits once it is told to go on, where everybody else does who is unknown.
    assert_eq!(read_reply(&mut slow, true).status, 100);
    assert_eq!(call("GET", "/first").send(&served).code(), "SlowDown");
    assert_eq!(ann(&served, call("GET", "/first?list-type=2")).status, 200);
}

/// Waits a hundred times shorter than the real one.
fn hasty() -> Served {
    let patience = Patience::default();
    waiting(Patience {
        headers: patience.headers / 100,
        body: patience.body / 100,
        answer: patience.answer / 100,
    })
}

fn waiting(patience: Patience) -> Served {
    serve_with(Options { patience, ..Options::default() })
}

/// What the endpoint says until it ends the connection.
fn until_the_end(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut told = Vec::new();
    let ended = stream.read_to_end(&mut told);
    assert!(
        ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset) || ended.is_ok(),
        "{ended:?}"
    );
    String::from_utf8_lossy(&told).into_owned()
}

fn say(served: &Served, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn a_client_that_stops_in_the_middle_is_cut() {
    let served = hasty();
    ann(&served, call("PUT", "/first"));
    let put = call("PUT", "/first/key").body(vec![b'a'; 1000]).sign("ANN", "secret of ann/+=");
    let (head, body) = (put.head().into_bytes(), &put.body);
    for (said, word) in [
        (&head[..0], ""),
        (&head[..20], ""),
        (&head[..], "<Code>RequestTimeout</Code>"),
        (&[&head[..], &body[..10]].concat()[..], "<Code>RequestTimeout</Code>"),
        (&[&head[..], body].concat()[..], "200 OK"),
    ] {
        let began = Instant::now();
        let told = until_the_end(&mut say(&served, said));
        let took = began.elapsed();
        assert!(told.contains(word), "after {} bytes: {told}", said.len());
        assert!(took >= Duration::from_millis(200), "after {} bytes: {took:?}", said.len());
    }
    let staging = std::fs::read_dir(served.folder.path().join("first/staging")).unwrap();
    assert_eq!(staging.count(), 0, "a part of an object is left");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let patience = Patience::default();
    let served = waiting(Patience { answer: patience.answer / 100, ..patience });
    ann(&served, call("PUT", "/first"));
    ann(&served, call("PUT", "/first/key").body(vec![b'a'; 32 << 20]));
    let get = call("GET", "/first/key").sign("ANN", "secret of ann/+=");
    let mut stream = say(&served, get.head().as_bytes());
    std::thread::sleep(Duration::from_secs(3));
    let told = until_the_end(&mut stream);
    assert!(told.len() > 1000 && told.len() < 32 << 20, "{} bytes came", told.len());
}

#[test]
fn somebody_unknown_can_not_keep_a_connection_with_a_byte_now_and_then() {
    let served = hasty();
    let form = "content-type: multipart/form-data; boundary=b\r\n";
    for (line, more) in [("PUT /first/key", ""), ("POST /first", form)] {
        let head = format!("{line} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n{more}\r\n");
        let mut stream = say(&served, head.as_bytes());
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let began = Instant::now();
        let mut answer = [0; 1000];
        // A byte each tenth of a second is more often than anybody is waited for.
        while !matches!(stream.read(&mut answer), Ok(count) if count > 0) {
            let _ = stream.write_all(b"1\r\nx\r\n");
            assert!(began.elapsed() < Duration::from_secs(5), "{line}: nobody said that it is too slow");
        }
        assert!(String::from_utf8_lossy(&answer).contains("400 Bad Request"), "{line}");
    }
}

#[test]
fn an_address_has_only_so_many_connections() {
    let served = serve_with(Options { connections_per_address: 2, ..Options::default() });
    let mut open: Vec<_> = (0..2).map(|_| TcpStream::connect(served.address).unwrap()).collect();
    let is_answered = || {
        let mut stream = TcpStream::connect(served.address).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.read(&mut [0; 100]).is_ok_and(|count| count > 0)
    };
    assert!(!is_answered(), "a third was taken in");
    open.pop();
    let began = Instant::now();
    while !is_answered() {
        assert!(began.elapsed() < Duration::from_secs(5), "the place of one that is closed is not free");
    }
}

#[test]
fn somebody_known_can_not_keep_a_seat_with_a_byte_now_and_then() {
    let served = hasty();
    ann(&served, call("PUT", "/first"));
    let put = call("PUT", "/first/key").body(vec![b'a'; 1_000_000]).sign("ANN", "secret of ann/+=");
    let delete = call("POST", "/first?delete=").header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
    let delete = delete.body(vec![b' '; 1_000_000]).sign("ANN", "secret of ann/+=");
    for call in [put, delete] {
        let began = Instant::now();
        let mut stream = say(&served, call.head().as_bytes());
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut answer = [0; 1000];
        while !matches!(stream.read(&mut answer), Ok(count) if count > 0) {
            let _ = stream.write_all(b"a");
            assert!(began.elapsed() < Duration::from_secs(5), "{}: it may go on for ever", call.method);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("<Code>RequestTimeout</Code>"), "{}: {answer}", call.method);
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    }
}

#[test]
fn chunks_that_are_none_and_chunks_that_are_too_large_are_told_of() {
    let served = serve();
    ann(&served, call("PUT", "/first"));
    let chunked = |method, target: &str, hash: &str, body: &str| {
        let call = call(method, target)
            .header("x-amz-content-sha256", hash)
            .header("x-amz-decoded-content-length", "5");
        call.header("x-amz-trailer", "x-amz-checksum-crc32").body(body)
    };
    let (signed, unsigned) = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let line = format!("5;chunk-signature={}\r\nhello\r\n0\r\n\r\n", "0".repeat(64));
    let wrong = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
    for (call, status, code) in [
        (chunked("PUT", "/first/key", unsigned, "x\r\n"), 400, "IncompleteBody"),
        (chunked("PUT", "/first/key", unsigned, "5\r\nhello\r\n"), 400, "IncompleteBody"),
        (chunked("PUT", "/first/key", unsigned, "5\r\nhello\r\n0\r\n\r\n"), 400, "MalformedTrailerError"),
        (chunked("PUT", "/first/key", unsigned, wrong), 400, "BadDigest"),
        (
            chunked("PUT", "/first/key", unsigned, wrong).header("x-amz-checksum-crc32c", "mnG7TA=="),
            400,
            "InvalidRequest",
        ),
        (chunked("PUT", "/first/key", signed, "5\r\nhello\r\n0\r\n\r\n"), 400, "IncompleteBody"),
        (chunked("PUT", "/first/key", signed, &line), 403, "SignatureDoesNotMatch"),
        (chunked("PUT", "/first/key", signed, "100001;chunk-signature=0\r\n"), 400, "InvalidChunkSizeError"),
        (chunked("PUT", "/first?tagging=", unsigned, "5\r\nhello!\r\n"), 400, "IncompleteBody"),
        (
            chunked("PUT", "/first?tagging=", unsigned, "5\r\nhello\r\n0\r\na b:c\r\n\r\n"),
            400,
            "IncompleteBody",
        ),
        (chunked("PUT", "/first?tagging=", signed, &line), 403, "SignatureDoesNotMatch"),
    ] {
        let (target, body) = (call.target.clone(), call.body.clone());
        let reply = ann(&served, call);
        let about = format!("{target} {}: {}", String::from_utf8_lossy(&body), reply.text());
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{about}");
    }
}
