//! The endpoint around the protocol: connections that don't wait for ever, seats, CORS, and whoever watches.

use crate::chunk_signature::Signatures;
use crate::chunks::Framing;
use crate::cors;
use crate::directory::Directory;
use crate::document::Document;
use crate::face::{Face, Options};
use crate::from_file::{Plain, TakesFiles};
use crate::gate::Peer;
use crate::limits::{Admitted, Hasty, MAX_HEADERS, Place, Seats, within};
use crate::linger::is_sent_anyway;
use crate::pace::{Coming, Paced};
use crate::replay::{Signed, Taken, Use};
use crate::reply::{MAX_DOCUMENT, MAX_UNSIGNED_DOCUMENT, finished, names_attributes, plain_etag, rendered};
use crate::request::{add_date, add_hash_of_nothing, is_signed, is_upload, measured, refusal};
use crate::support::{custom, unavailable};
use crate::traffic::{Watch, Watched, Watcher};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{Body, S3Result, s3_error};
use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[derive(Debug)]
struct Secrets(Arc<dyn Directory>);

#[async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let key = self.0.access_key(access_key).await.map_err(unavailable)?;
        let unknown = || {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        };
        Ok(SecretKey::from(key.ok_or_else(unknown)?.secret.as_str()))
    }
}

/// Every operation asks at its own gate. Here it is known who asks: they take their seat.
#[derive(Debug)]
struct AtTheGate;

#[async_trait]
impl S3Access for AtTheGate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(place) = context.extensions_mut().get::<Place>().cloned() else { return Ok(()) };
        match context.credentials() {
            Some(credentials) => place.as_key(&credentials.access_key),
            None => place.as_unknown(),
        }
    }
}

/// Which names are allowed is checked where a bucket is made.
#[derive(Debug)]
struct AnyName;

impl NameValidation for AnyName {
    fn validate_bucket_name(&self, name: &str) -> bool {
        !name.is_empty()
    }
}

/// A bucket as the label before one of our names.
#[derive(Debug)]
struct Hosts(Vec<String>);

impl Hosts {
    fn bucket<'h>(&self, host: &'h str) -> Option<&'h str> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.0.iter().find_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'))
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'h>(&'h self, host: &'h str) -> S3Result<VirtualHost<'h>> {
        let parsed = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

/// A connection, plain or encrypted.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An S3 endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    service: S3Service,
    face: Face,
    hosts: Arc<Hosts>,
    seats: Seats,
    connections: Seats,
    taken: Arc<Taken>,
    watcher: Option<Arc<dyn Watcher>>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Endpoint").field("face", &self.face).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint over the buckets of a directory.
    pub fn new(directory: Arc<dyn Directory>, options: Options) -> Self {
        let seats = Seats::new(options.requests_per_key);
        let connections = Seats::new(options.connections_per_address);
        let taken = Arc::new(Taken::new(Instant::now(), jiff::Timestamp::now()));
        Self::build(Face::new(directory, options), seats, connections, taken)
    }

    /// The same with other options for the connections to come. Both know which signatures were taken, what buckets are set to and
    /// who has how many requests.
    #[must_use]
    pub fn with_options(&self, options: Options) -> Self {
        let seats = self.seats.with_most(options.requests_per_key);
        let connections = self.connections.with_most(options.connections_per_address);
        let (face, taken) = (self.face.with_options(options), Arc::clone(&self.taken));
        Self { watcher: self.watcher.clone(), ..Self::build(face, seats, connections, taken) }
    }

    fn build(face: Face, seats: Seats, connections: Seats, taken: Arc<Taken>) -> Self {
        let hosts = Arc::new(Hosts(face.options.domains.clone()));
        let directory = Arc::clone(&face.directory);
        let mut config = S3Config::default();
        config.xml_max_body_size = MAX_DOCUMENT;
        let mut builder = S3ServiceBuilder::new(face.clone());
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(Secrets(directory));
        builder.set_access(AtTheGate);
        builder.set_validation(AnyName);
        if !hosts.0.is_empty() {
            builder.set_host(Hosts(hosts.0.clone()));
        }
        Self { service: builder.build(), face, hosts, seats, connections, taken, watcher: None }
    }

    /// The same, telling somebody of every request.
    #[must_use]
    pub fn watched_by(mut self, watcher: Arc<dyn Watcher>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// The face, for the work that is done beside requests.
    pub fn face(&self) -> &Face {
        &self.face
    }

    /// Takes in a connection from an address; none where that has as many as it may have. What this returns is kept for as long as
    /// the connection is open.
    pub fn admit(&self, address: IpAddr) -> Option<Admitted> {
        self.connections.admit(address.to_canonical())
    }

    /// Answers the requests of a connection until it ends, or, once `stopping` is over, to the end of the one under way.
    /// The stream is a plain or a TLS connection, without delay of small packets.
    pub async fn serve<S>(&self, stream: S, peer: Peer, stopping: impl Future<Output = ()> + Send)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.converse(Box::new(stream), peer, None, stopping.boxed()).await;
    }

    /// The same for a connection that is not encrypted: objects are sent from their files.
    pub async fn serve_plain(
        &self,
        stream: TcpStream,
        peer: Peer,
        stopping: impl Future<Output = ()> + Send,
    ) {
        self.converse(Box::new(Plain::new(stream)), peer, Some(TakesFiles), stopping.boxed()).await;
    }

    /// The same whatever the stream: of one type, behind pointers, so that all of it is compiled here, once, and to be quick.
    fn converse<'c>(
        &'c self,
        stream: Box<dyn Stream>,
        peer: Peer,
        takes_files: Option<TakesFiles>,
        stopping: BoxFuture<'c, ()>,
    ) -> BoxFuture<'c, ()> {
        let endpoint = Arc::new(self.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            takes_files.map(|takes| request.extensions_mut().insert(takes));
            let endpoint = Arc::clone(&endpoint);
            async move { Ok::<_, Infallible>(endpoint.watched(request.map(Body::from), peer).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        let patience = self.face.options.patience;
        builder.timer(TokioTimer::new()).header_read_timeout(patience.headers).max_buf_size(MAX_HEADERS);
        let stream = TokioIo::new(Hasty::new(stream, patience.answer));
        let connection = builder.serve_connection(stream, service);
        let work = async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
            }
        };
        work.boxed()
    }

    /// Answers one request, and tells whoever watches. Its place is free when the answer's last byte is out.
    async fn watched(&self, request: Request<Body>, peer: Peer) -> Response<Watched> {
        let bucket = self.bucket_of(&request);
        let begin = |watcher| Watch::begin(watcher, &request, peer, bucket.0.clone());
        let watch = self.watcher.as_ref().map(begin);
        let place = Place::new(&self.seats, peer.address);
        let response = self.answer(request, peer, &place, bucket).await;
        Watched::of(response, place, watch)
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        peer: Peer,
        place: &Place,
        (bucket, in_host): (Option<String>, bool),
    ) -> Response<Body> {
        add_date(request.headers_mut());
        add_hash_of_nothing(&mut request);
        let id = uuid::Uuid::new_v4().simple().to_string().to_ascii_uppercase();
        let (method, resource) = (request.method().clone(), request.uri().path().to_owned());
        let origin = request.headers().contains_key(ORIGIN).then(|| request.headers().clone());
        let is_attributes = method == Method::GET && names_attributes(request.uri().query());
        let waits = !is_sent_anyway(request.headers());
        let signed = Signed::of(&request);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(place.clone());
        let coming = Paced::watch(&mut request, self.face.options.patience.body);
        let repeats = self.face.options.repeats;
        let taken =
            signed.map(|signed| self.taken.take(repeats, signed, peer.address, Instant::now())).transpose();
        let was_taken = taken.as_ref().ok().copied().flatten();
        let responded = match taken {
            Ok(_) => self.respond(request, place, bucket.as_deref(), in_host).await,
            Err(error) => Err(error),
        };
        let mut response = responded.unwrap_or_else(rendered);
        // Whatever became of the request then, this is why.
        if let Some(error) = coming.as_ref().and_then(Coming::error) {
            response = rendered(error);
        }
        match (signed, was_taken, response.status().is_success()) {
            (Some(signed), Some(taken), false) => self.taken.has_failed(signed, taken),
            (Some(signed), Some(Use::Again), true) => {
                self.taken.is_done(signed, peer.address, Instant::now());
            }
            _ => {}
        }
        if let (Some(headers), false, Some(bucket)) = (origin, method == Method::OPTIONS, bucket) {
            let rules = self.cors_rules(&bucket).await;
            let reply = cors::reply(&rules, method.as_str(), &headers, false);
            response.headers_mut().extend(reply.unwrap_or_default());
        }
        if is_attributes {
            response = plain_etag(response).await;
        }
        let mut response = finished(response, &id, &resource, &method).await;
        if waits && !coming.is_some_and(|coming| coming.is_wanted()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Does what a request asks for, unless it is refused before.
    async fn respond(
        &self,
        request: Request<Body>,
        place: &Place,
        bucket: Option<&str>,
        in_host: bool,
    ) -> S3Result<Response<Body>> {
        let patience = self.face.options.patience.body;
        let request = within(patience, measured(request, in_host, place)).await.flatten()?;
        if let Some(error) = refusal(&request, in_host) {
            return Err(error);
        }
        if request.method() == Method::OPTIONS {
            return Ok(self.preflight(request.headers(), bucket).await);
        }
        // The protocol layer would hold a whole form in memory.
        if request.method() == Method::POST && crate::post::is_form(request.headers()) {
            let boundary = crate::post::boundary(request.headers())?;
            let bucket = bucket.ok_or_else(|| s3_error!(MethodNotAllowed, "a form is sent to a bucket"))?;
            return crate::post::post(&self.face, request, place, &boundary, bucket).await;
        }
        match is_upload(&request, in_host) {
            true => Ok(self.call(request).await),
            false => Ok(self.call_with_document(request).await),
        }
    }

    async fn call_with_document(&self, mut request: Request<Body>) -> Response<Body> {
        let most = if is_signed(&request) { MAX_DOCUMENT } else { MAX_UNSIGNED_DOCUMENT };
        // What has no body at all needs no watching.
        let document = (!request.body().is_end_stream()).then(|| Document::watch(&mut request, most));
        let response = self.call(request).await;
        let has_failed = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
        let fault = document.filter(|_| has_failed).and_then(|document| document.fault());
        fault.map_or(response, rendered)
    }

    async fn call(&self, mut request: Request<Body>) -> Response<Body> {
        let signatures = match Signatures::of(request.headers(), &*self.face.directory).await {
            Ok(signatures) => signatures,
            Err(error) => return rendered(unavailable(error)),
        };
        let framing = Framing::watch(&mut request, signatures);
        let response = match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let error: s3s::StdError = error.into();
                tracing::error!(error = &*error as &dyn std::error::Error, "a request failed");
                rendered(s3_error!(InternalError))
            }
        };
        framing.and_then(|framing| framing.error()).map_or(response, rendered)
    }

    /// The bucket a request names, and whether by its host.
    fn bucket_of(&self, request: &Request<Body>) -> (Option<String>, bool) {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if let Some(bucket) = self.hosts.bucket(host) {
            return (Some(bucket.to_owned()), true);
        }
        let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let name = urlencoding::decode(first).ok().map(Cow::into_owned);
        (name.filter(|name| !name.is_empty()), false)
    }

    async fn cors_rules(&self, bucket: &str) -> Vec<s3s::dto::CORSRule> {
        let Ok(Some(found)) = self.face.directory.bucket(bucket).await else { return Vec::new() };
        let settings = self.face.settings.of(&found.name, &found.bucket).await;
        let cors = settings.ok().and_then(|settings| settings.cors.clone());
        cors.map(|cors| cors.cors_rules).unwrap_or_default()
    }

    async fn preflight(&self, headers: &HeaderMap, bucket: Option<&str>) -> Response<Body> {
        let rules = match bucket {
            Some(bucket) => self.cors_rules(bucket).await,
            None => Vec::new(),
        };
        for needed in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD] {
            if !headers.contains_key(&needed) {
                let message = format!("Insufficient information. {needed} request header needed.");
                return rendered(custom("BadRequest", StatusCode::BAD_REQUEST, message));
            }
        }
        match cors::reply(&rules, "OPTIONS", headers, true) {
            Some(reply) => {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = reply;
                response
            }
            None => rendered(s3_error!(AccessDenied, "CORSResponse: This CORS request is not allowed.")),
        }
    }
}
