//! Downloads from a small server that cuts, lies, changes its mind, sends us on and on, and has nothing.
#![expect(clippy::unwrap_used, reason = "this is a test program")]

use jiff::SignedDuration;
use larder_base::{Cancel, Clock, Fingerprint, ManualClock, Progress};
use larder_images::simplestreams::parse_products;
use larder_images::{
    DownloadError, DownloadOptions, Downloader, ImageKind, ImageStore, ListCache, Roots, StreamImage, Url,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// One request as the server sees it.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    range: Option<usize>,
    if_range: Option<String>,
    /// How many requests for this path came before.
    nth: usize,
}

/// What the server does with a request: the bytes to send, and then it closes.
type Handler = dyn Fn(&Request) -> Vec<u8> + Send + Sync;

struct Server {
    url: Url,
    seen: Arc<Mutex<Vec<Request>>>,
    certificate: Option<String>,
}

impl Server {
    async fn start(handler: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen(handler, None).await
    }

    async fn start_tls(handler: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen(handler, Some(rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()))
            .await
    }

    async fn listen(
        handler: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
        key: Option<rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if key.is_some() { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://localhost:{port}/base")).unwrap();
        let certificate = key.as_ref().map(|key| key.cert.pem());
        let acceptor = key.map(|key| {
            let private =
                rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![key.cert.der().clone()], private)
                .unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        let (seen, handler): (Arc<Mutex<Vec<Request>>>, Arc<Handler>) = (Arc::default(), Arc::new(handler));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, handler, acceptor) = (Arc::clone(&log), Arc::clone(&handler), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &log, &*handler).await;
                            }
                        }
                        None => answer(stream, &log, &*handler).await,
                    }
                });
            }
        });
        Self { url, seen, certificate }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<Request>>,
    handler: &Handler,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let path = text.split(' ').nth(1).unwrap().to_owned();
    let range = header("range")
        .map(|value| value.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    let request = {
        let mut log = log.lock().unwrap();
        let nth = log.iter().filter(|earlier| earlier.path == path).count();
        log.push(Request { path, range, if_range: header("if-range"), nth });
        log.last().unwrap().clone()
    };
    let bytes = handler(&request);
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

/// A response head and as much of the body as `sent` lets through.
fn response(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// What a good server answers, cut after `most` bytes of the body.
fn serve(request: &Request, content: &[u8], etag: &str, most: usize) -> Vec<u8> {
    let headers = format!("etag: {etag}\r\n");
    let cut = |body: &[u8]| body[..body.len().min(most)].to_vec();
    match request.range.filter(|_| request.if_range.as_deref() == Some(etag)) {
        Some(from) => {
            let (last, all) = (content.len() - 1, content.len());
            let headers = format!("{headers}content-range: bytes {from}-{last}/{all}\r\n");
            response("206 Partial Content", &headers, all - from, &cut(&content[from..]))
        }
        None => response("200 OK", &headers, content.len(), &cut(content)),
    }
}

fn content(seed: u8) -> Vec<u8> {
    (0..300_000_u32).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap() ^ seed).collect()
}

fn sha256(bytes: &[u8]) -> Fingerprint {
    hex::encode(Sha256::digest(bytes)).parse().unwrap()
}

const META: &[u8] = b"the metadata";

fn products(root: &[u8], combined: &Fingerprint) -> String {
    let items = json!({
        "meta": { "ftype": "lxd.tar.xz", "path": "images/1:1/meta", "size": META.len(), "sha256": sha256(META).as_str(),
            "combined_squashfs_sha256": combined.as_str() },
        "root": { "ftype": "squashfs", "path": "images/1:1/root", "size": root.len(), "sha256": sha256(root).as_str() },
    });
    json!({ "products": { "a": { "aliases": "alpine", "arch": "amd64", "os": "Alpine", "release": "3",
        "versions": { "20260101_13:00": { "items": items } } } } })
    .to_string()
}

fn image(root: &[u8]) -> StreamImage {
    let combined = sha256(&[META, root].concat());
    let list = parse_products(products(root, &combined).as_bytes()).unwrap();
    list.by_alias("alpine", ImageKind::Container, "x86_64").unwrap().clone()
}

struct Bench {
    _folder: tempfile::TempDir,
    store: ImageStore,
    downloader: Downloader,
}

impl Bench {
    fn new() -> Self {
        Self::with(DownloadOptions::default())
    }

    fn with(options: DownloadOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(folder.path().join("images")).unwrap();
        let options =
            DownloadOptions { pause: Duration::from_millis(1), patience: Duration::from_secs(2), ..options };
        Self { store, downloader: Downloader::new(options).unwrap(), _folder: folder }
    }

    async fn get(&self, servers: &[&Server], image: &StreamImage) -> Result<Fingerprint, DownloadError> {
        let urls: Vec<Url> = servers.iter().map(|server| server.url.clone()).collect();
        self.downloader.image(&urls, image, &self.store, &Cancel::never(), &Progress::silent()).await
    }

    /// The image is here, whole, and nothing else is.
    fn assert_whole(&self, image: &StreamImage, root: &[u8]) {
        let files = self.store.files(&image.fingerprint).unwrap();
        assert_eq!(fs::read(files.main).unwrap(), META);
        assert_eq!(fs::read(files.rootfs.unwrap()).unwrap(), root);
        assert_eq!(fs::read_dir(self.store.directory()).unwrap().count(), 2);
    }

    fn assert_nothing(&self) {
        assert!(self.store.list().unwrap().is_empty());
    }
}

/// Serves the metadata well, and the root as `root` says.
fn but_for_root(
    root: impl Fn(&Request) -> Vec<u8> + Send + Sync,
) -> impl Fn(&Request) -> Vec<u8> + Send + Sync {
    move |request| match request.path.as_str() {
        "/base/images/1:1/meta" => serve(request, META, "\"meta\"", usize::MAX),
        "/base/images/1:1/root" => root(request),
        _ => response("404 Not Found", "", 0, b""),
    }
}

#[tokio::test]
async fn a_good_server_gives_the_image_and_progress() {
    let root = content(0);
    let served = root.clone();
    let server =
        Server::start(but_for_root(move |request| serve(request, &served, "\"1\"", usize::MAX))).await;
    let bench = Bench::new();
    let image = image(&root);
    let reports: Arc<Mutex<Vec<larder_base::ProgressReport>>> = Arc::default();
    let sink = Arc::clone(&reports);
    let progress = Progress::to(move |report| sink.lock().unwrap().push(report));
    let urls = [server.url.clone()];
    let got = bench.downloader.image(&urls, &image, &bench.store, &Cancel::never(), &progress).await;
    assert_eq!(got.unwrap(), image.fingerprint);
    bench.assert_whole(&image, &root);
    let last = reports.lock().unwrap().iter().rfind(|report| report.stage == "download").cloned().unwrap();
    assert_eq!((last.done, last.total), (image.size, Some(image.size)));
    // What is here is not fetched again.
    bench.get(&[&server], &image).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_server_that_cuts_is_gone_on_with() {
    let root = content(1);
    let served = root.clone();
    let server = Server::start(but_for_root(move |request| serve(request, &served, "\"1\"", 50_000))).await;
    let bench = Bench::new();
    bench.get(&[&server], &image(&root)).await.unwrap();
    bench.assert_whole(&image(&root), &root);
    let ranges: Vec<_> = server.seen().iter().filter_map(|request| request.range).collect();
    assert!(ranges.len() >= 5 && ranges.is_sorted() && ranges[0] > 0, "{ranges:?}");
}

#[tokio::test]
async fn a_later_run_goes_on_with_the_part_file() {
    let root = content(2);
    let served = root.clone();
    let handler = move |request: &Request| match request.nth {
        0 => serve(request, &served, "\"1\"", 100_000),
        1..=5 => response("503 Service Unavailable", "", 0, b""),
        _ => serve(request, &served, "\"1\"", usize::MAX),
    };
    let server = Server::start(but_for_root(handler)).await;
    let bench = Bench::new();
    let error = bench.get(&[&server], &image(&root)).await.unwrap_err();
    assert!(matches!(error, DownloadError::Status { status: 503, .. }), "{error}");
    bench.assert_nothing();
    bench.get(&[&server], &image(&root)).await.unwrap();
    bench.assert_whole(&image(&root), &root);
    assert!(server.seen().last().unwrap().range.unwrap() > 0);
}

#[tokio::test]
async fn content_that_changes_between_ranges_starts_over() {
    let (old, new) = (content(3), content(4));
    let served = new.clone();
    // Honest: the ETag changes, and If-Range makes it send the whole.
    let handler = move |request: &Request| match request.nth {
        0 => serve(request, &old, "\"old\"", 100_000),
        _ => serve(request, &served, "\"new\"", usize::MAX),
    };
    let server = Server::start(but_for_root(handler)).await;
    let bench = Bench::new();
    bench.get(&[&server], &image(&new)).await.unwrap();
    bench.assert_whole(&image(&new), &new);
}

#[tokio::test]
async fn a_server_that_joins_two_versions_is_found_out() {
    for etag in ["\"new\"", "\"old\""] {
        let (old, new) = (content(3), content(4));
        let served = new.clone();
        // It ignores If-Range; with the same ETag only the hash can tell.
        let handler = move |request: &Request| match request.nth {
            0 => serve(request, &old, "\"old\"", 100_000),
            1 => serve(
                &Request { if_range: Some(etag.to_owned()), ..request.clone() },
                &served,
                etag,
                usize::MAX,
            ),
            _ => serve(request, &served, etag, usize::MAX),
        };
        let server = Server::start(but_for_root(handler)).await;
        let bench = Bench::new();
        bench.get(&[&server], &image(&new)).await.unwrap();
        bench.assert_whole(&image(&new), &new);
        assert_eq!(server.seen().last().unwrap().range, None);
    }
}

#[tokio::test]
async fn lies_about_size_and_content_are_errors_that_name_address_and_remedy() {
    let root = content(5);
    let other = content(6);
    let longer = [root.as_slice(), b"more"].concat();
    let shorter = root[1..].to_vec();
    let endless = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), &longer].concat();
    let early = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), &shorter].concat();
    type Case = (&'static str, Box<dyn Fn(&Request) -> Vec<u8> + Send + Sync>);
    let cases: Vec<Case> = vec![
        ("bytes instead of", Box::new(move |request| serve(request, &longer, "\"1\"", usize::MAX))),
        ("bytes instead of", Box::new(move |request| serve(request, &shorter, "\"1\"", usize::MAX))),
        ("bytes instead of", Box::new(move |_| endless.clone())),
        ("bytes instead of", Box::new(move |_| early.clone())),
        ("has the hash", Box::new(move |request| serve(request, &other, "\"1\"", usize::MAX))),
    ];
    for (text, handler) in cases {
        let server = Server::start(but_for_root(handler)).await;
        let bench = Bench::new();
        let error = bench.get(&[&server], &image(&root)).await.unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("/base/images/1:1/root"), "{error}");
        assert!(error.contains("refresh the list of images"), "{error}");
        bench.assert_nothing();
    }
}

#[tokio::test]
async fn a_wrong_combined_hash_publishes_nothing() {
    let root = content(7);
    let served = root.clone();
    let server =
        Server::start(but_for_root(move |request| serve(request, &served, "\"1\"", usize::MAX))).await;
    let bench = Bench::new();
    let list = parse_products(products(&root, &sha256(b"other")).as_bytes()).unwrap();
    let error = bench.get(&[&server], &list.images[0]).await.unwrap_err();
    assert!(matches!(error, DownloadError::Store(_)), "{error}");
    assert_eq!(fs::read_dir(bench.store.directory()).unwrap().count(), 0);
}

#[tokio::test]
async fn missing_files_and_endless_redirects_are_errors() {
    let root = content(8);
    let server = Server::start(but_for_root(|_| response("404 Not Found", "", 0, b""))).await;
    let bench = Bench::new();
    let error = bench.get(&[&server], &image(&root)).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("another server"), "{error}");
    assert_eq!(server.seen().len(), 2, "a 404 is not asked for again");
    bench.assert_nothing();
    let server = Server::start(|_| response("302 Found", "location: /again\r\n", 0, b"")).await;
    let error = bench.get(&[&server], &image(&root)).await.unwrap_err();
    assert!(matches!(error, DownloadError::Redirects { limit: 5, .. }), "{error}");
    assert_eq!(server.seen().len(), 6);
    let server =
        Server::start(|_| response("302 Found", "location: http://images.example.org/\r\n", 0, b"")).await;
    let error = bench.get(&[&server], &image(&root)).await.unwrap_err();
    assert!(matches!(error, DownloadError::Plain { .. }), "{error}");
    bench.assert_nothing();
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let root = content(9);
    let served = root.clone();
    let bad = Server::start(|_| response("404 Not Found", "", 0, b"")).await;
    let good = Server::start(but_for_root(move |request| serve(request, &served, "\"1\"", usize::MAX))).await;
    let bench = Bench::new();
    bench.get(&[&bad, &good], &image(&root)).await.unwrap();
    bench.assert_whole(&image(&root), &root);
    let error = bench.get(&[], &image(b"x")).await.unwrap_err();
    assert!(matches!(error, DownloadError::NoServer { .. }), "{error}");
}

#[tokio::test]
async fn tls_is_checked_against_the_roots() {
    let root = content(10);
    let served = root.clone();
    let server =
        Server::start_tls(but_for_root(move |request| serve(request, &served, "\"1\"", usize::MAX))).await;
    let strange = Bench::with(DownloadOptions { attempts: 1, ..DownloadOptions::default() });
    let error = strange.get(&[&server], &image(&root)).await.unwrap_err();
    assert!(matches!(error, DownloadError::Unreachable { .. }), "{error}");
    strange.assert_nothing();
    let pem = server.certificate.clone().unwrap().into_bytes();
    let bench = Bench::with(DownloadOptions { roots: Roots::Only(pem), ..DownloadOptions::default() });
    bench.get(&[&server], &image(&root)).await.unwrap();
    bench.assert_whole(&image(&root), &root);
}

/// The environment is read once at start, so this test runs itself again with the variable set.
#[tokio::test]
async fn the_certificate_file_of_the_environment_is_honoured() {
    const AGAIN: &str = "LARDER_TEST_SERVER";
    if let Ok(url) = std::env::var(AGAIN) {
        let bench = Bench::new();
        let bytes = bench.downloader.bytes(&Url::parse(&url).unwrap(), 100, &Cancel::never()).await.unwrap();
        assert_eq!(bytes, b"hello");
        return;
    }
    let server = Server::start_tls(|_| response("200 OK", "", 5, b"hello")).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, server.certificate.as_ref().unwrap().as_bytes()).unwrap();
    let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "the_certificate_file_of_the_environment_is_honoured"]);
    again.env(AGAIN, server.url.as_str()).env("SSL_CERT_FILE", file.path());
    let output = again.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn cancel_and_silence_end_a_download() {
    // It answers the head and then nothing: the body is shorter than said, and the connection stays open.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\netag: \"1\"\r\n\r\nthe").await;
            kept.push(stream);
        }
    });
    let server = Server {
        url: Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap(),
        seen: Arc::default(),
        certificate: None,
    };
    let bench = Bench::with(DownloadOptions { attempts: 1, ..DownloadOptions::default() });
    let error = bench.get(&[&server], &image(b"root")).await.unwrap_err();
    assert!(matches!(error, DownloadError::Silent { .. }), "{error}");
    let cancel = Cancel::new();
    let other = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        other.cancel();
    });
    let urls = [server.url.clone()];
    let image = image(b"other root");
    let result = bench.downloader.image(&urls, &image, &bench.store, &cancel, &Progress::silent()).await;
    assert!(matches!(result, Err(DownloadError::Cancelled)));
    bench.assert_nothing();
}

#[tokio::test]
async fn a_list_is_kept_for_a_while_and_used_when_the_server_fails() {
    let root = content(11);
    let fails = Arc::new(AtomicUsize::new(0));
    let failing = Arc::clone(&fails);
    let document = products(&root, &sha256(&[META, root.as_slice()].concat()));
    let server = Server::start(move |request| {
        if failing.load(Ordering::SeqCst) > 0 {
            return response("500 Internal Server Error", "", 0, b"");
        }
        let index = json!({ "index": { "images": { "datatype": "image-downloads", "products": ["a"],
            "path": "streams/v1/images.json" } } });
        let body = match request.path.as_str() {
            "/base/streams/v1/index.json" => index.to_string(),
            "/base/streams/v1/images.json" => document.clone(),
            _ => return response("404 Not Found", "", 0, b""),
        };
        response("200 OK", "", body.len(), body.as_bytes())
    })
    .await;
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let cache = ListCache::new(Arc::clone(&clock) as Arc<dyn Clock>, SignedDuration::from_hours(1));
    let bench = Bench::new();
    let (urls, never) = ([server.url.clone()], Cancel::never());
    for _ in 0..2 {
        let got = cache.get(&bench.downloader, &urls, &never).await.unwrap();
        assert!(got.list.images.len() == 1 && got.stale.is_none());
    }
    assert_eq!(server.seen().len(), 2, "the second time came from the cache");
    clock.advance(SignedDuration::from_hours(1));
    assert!(cache.get(&bench.downloader, &urls, &never).await.unwrap().stale.is_none());
    assert_eq!(server.seen().len(), 4);
    fails.store(1, Ordering::SeqCst);
    clock.advance(SignedDuration::from_hours(1));
    let stale = cache.get(&bench.downloader, &urls, &never).await.unwrap();
    assert!(stale.list.images.len() == 1 && stale.stale.is_some());
    cache.forget(&urls);
    assert!(cache.get(&bench.downloader, &urls, &never).await.is_err());
}

#[tokio::test]
async fn a_page_that_is_no_list_says_so() {
    let page = b"<html>hello</html>";
    let server = Server::start(|_| response("200 OK", "", page.len(), page)).await;
    let bench = Bench::new();
    let error = bench.downloader.list(std::slice::from_ref(&server.url), &Cancel::never()).await.unwrap_err();
    assert!(matches!(error, DownloadError::Document { .. }), "{error}");
    let error = bench.downloader.bytes(&server.url, 5, &Cancel::never()).await.unwrap_err();
    assert!(matches!(error, DownloadError::TooLong { limit: 5, .. }), "{error}");
}
