//! The endpoint around the protocol: what a request must be before it is looked at, CORS, request ids, errors as AWS
//! spells them, and connections that don't wait for ever.

use crate::cors;
use crate::directory::Directory;
use crate::document::Document;
use crate::face::{Face, Options};
use crate::gate::Peer;
use crate::limits::{Hasty, Seats, within};
use crate::support::custom;
use async_trait::async_trait;
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::validation::NameValidation;
use s3s::{Body, S3Error, S3Result, s3_error};
use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Headers of a request, all together, have at most so many bytes.
const MAX_HEADERS: usize = 64 * 1024;
/// Documents that are read whole: deletions of 1,000 keys, lists of 10,000 parts.
const MAX_DOCUMENT: usize = 4 << 20;
/// A presigned request is good for at most a week.
const MAX_EXPIRY: u64 = 7 * 24 * 3600;
/// What an upload may have that doesn't tell its length.
const MAX_UNMEASURED: usize = 1 << 20;
/// SHA-256 of no bytes.
const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Errors are small documents.
const MAX_ERROR: usize = 64 * 1024;

#[derive(Debug)]
struct Secrets(Arc<dyn Directory>);

#[async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let key = self.0.access_key(access_key).await.map_err(crate::support::unavailable)?;
        let unknown = || {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        };
        Ok(SecretKey::from(key.ok_or_else(unknown)?.secret))
    }
}

/// Every operation asks at its own gate.
#[derive(Debug)]
struct AtTheGate;

#[async_trait]
impl S3Access for AtTheGate {
    async fn check(&self, _: &mut S3AccessContext<'_>) -> S3Result<()> {
        Ok(())
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

/// An S3 endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    service: S3Service,
    face: Face,
    hosts: Arc<Hosts>,
    seats: Seats,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Endpoint").field("face", &self.face).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint over the buckets of a directory.
    pub fn new(directory: Arc<dyn Directory>, options: Options) -> Self {
        let hosts = Arc::new(Hosts(options.domains.clone()));
        let seats = Seats::new(options.requests_per_key);
        let face = Face::new(Arc::clone(&directory), options);
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
        Self { service: builder.build(), face, hosts, seats }
    }

    /// The face, for the work that is done beside requests.
    pub fn face(&self) -> &Face {
        &self.face
    }

    /// Answers the requests of a connection until it ends. The stream is a plain or a TLS connection, without delay of
    /// small packets.
    pub async fn serve<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let endpoint = self.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let endpoint = endpoint.clone();
            async move { Ok::<_, Infallible>(endpoint.answer(request.map(Body::from), peer).await) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        let patience = self.face.options.patience;
        builder.timer(TokioTimer::new()).header_read_timeout(patience.headers).max_buf_size(MAX_HEADERS);
        let stream = TokioIo::new(Hasty::new(stream, patience.idle));
        if let Err(error) = builder.serve_connection(stream, service).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
        }
    }

    /// Answers one request.
    pub async fn answer(&self, mut request: Request<Body>, peer: Peer) -> Response<Body> {
        let patience = self.face.options.patience;
        add_date(request.headers_mut());
        add_hash_of_nothing(&mut request);
        let id = uuid::Uuid::new_v4().simple().to_string().to_ascii_uppercase();
        let (method, resource) = (request.method().clone(), request.uri().path().to_owned());
        let origin = request.headers().contains_key(ORIGIN).then(|| request.headers().clone());
        let is_attributes = method == Method::GET && names_attributes(request.uri().query());
        let (bucket, in_host) = self.bucket_of(&request);
        request.extensions_mut().insert(peer);
        let request = match within(patience.body, measured(request, in_host)).await.flatten() {
            Ok(request) => request,
            Err(error) => return finished(rendered(error), &id, &resource, &method).await,
        };
        let mut response = match refusal(&request, in_host) {
            Some(error) => rendered(error),
            None if method == Method::OPTIONS => self.preflight(request.headers(), bucket.as_deref()).await,
            None => match self.seats.take(claimed_key(&request)) {
                None => rendered(s3_error!(SlowDown, "Please reduce your request rate.")),
                Some(seat) => {
                    let form = crate::post::boundary(request.headers()).filter(|_| method == Method::POST);
                    let response = match (form, &bucket) {
                        (Some(boundary), Some(bucket)) => {
                            crate::post::post(&self.face, request, &boundary, bucket)
                                .await
                                .unwrap_or_else(rendered)
                        }
                        _ if is_upload(&request, in_host) => self.call(request).await,
                        _ => self.call_with_document(request).await,
                    };
                    drop(seat);
                    response
                }
            },
        };
        if let (Some(headers), false, Some(bucket)) = (origin, method == Method::OPTIONS, bucket) {
            let rules = self.cors_rules(&bucket).await;
            let reply = cors::reply(&rules, method.as_str(), &headers, false);
            response.headers_mut().extend(reply.unwrap_or_default());
        }
        if is_attributes {
            response = plain_etag(response).await;
        }
        finished(response, &id, &resource, &method).await
    }

    async fn call_with_document(&self, mut request: Request<Body>) -> Response<Body> {
        // What has no body at all needs no watching.
        let document = (!request.body().is_end_stream()).then(|| Document::watch(&mut request));
        let response = self.call(request).await;
        let has_failed = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
        let fault = document.filter(|_| has_failed).and_then(|document| document.fault(MAX_DOCUMENT));
        fault.map_or(response, rendered)
    }

    async fn call(&self, request: Request<Body>) -> Response<Body> {
        match self.service.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let error: s3s::StdError = error.into();
                tracing::error!(error = &*error as &dyn std::error::Error, "a request failed");
                rendered(s3_error!(InternalError))
            }
        }
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
        let cache = Arc::clone(&self.face.settings);
        let loaded = crate::support::blocking(move || cache.of(&found.name, &found.bucket)).await;
        let cors = loaded.ok().and_then(|settings| settings.cors.clone());
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

/// A request may be dated by `Date` alone, in either format.
fn add_date(headers: &mut HeaderMap) {
    if headers.contains_key("x-amz-date") || !headers.contains_key(AUTHORIZATION) {
        return;
    }
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let date = date.map(|date| date.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string());
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        headers.insert("x-amz-date", date);
    }
}

/// What has no body needs no hash of it; some clients leave it out.
fn add_hash_of_nothing(request: &mut Request<Body>) {
    let has = |name: &str| request.headers().contains_key(name);
    let length = request.headers().get(CONTENT_LENGTH).map_or(b"0".as_slice(), HeaderValue::as_bytes);
    let has_body = length != b"0" || has("transfer-encoding");
    if has("authorization") && !has("x-amz-content-sha256") && !has_body {
        request.headers_mut().insert("x-amz-content-sha256", HeaderValue::from_static(HASH_OF_NOTHING));
    }
}

/// An upload of an object, by its method and path: its length must be told.
fn is_upload(request: &Request<Body>, in_host: bool) -> bool {
    let path = request.uri().path().trim_start_matches('/');
    let has_key =
        if in_host { !path.is_empty() } else { path.split_once('/').is_some_and(|(_, key)| !key.is_empty()) };
    let is_of_object = request.uri().query().is_none_or(|query| query.contains("partNumber="));
    request.method() == Method::PUT
        && has_key
        && is_of_object
        && !request.headers().contains_key("x-amz-copy-source")
}

/// A small upload in chunks that doesn't tell its length is given one; a large one is refused by the protocol layer.
async fn measured(mut request: Request<Body>, in_host: bool) -> S3Result<Request<Body>> {
    let has = |name: &str| request.headers().contains_key(name);
    if !is_upload(&request, in_host) || !has("transfer-encoding") || has("x-amz-decoded-content-length") {
        return Ok(request);
    }
    let body = std::mem::take(request.body_mut());
    let collected = Limited::new(body, MAX_UNMEASURED).collect().await;
    let bytes = collected
        .map_err(|_| s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."))?
        .to_bytes();
    request.headers_mut().remove("transfer-encoding");
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *request.body_mut() = Body::from(bytes);
    Ok(request)
}

/// Who a request says it comes from, before that is verified.
fn claimed_key(request: &Request<Body>) -> String {
    let header =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let in_header = header.split("Credential=").nth(1);
    let in_query = request.uri().query().and_then(|query| query.split("X-Amz-Credential=").nth(1));
    let credential = in_header.or(in_query).unwrap_or_default();
    credential.split(['/', '%', ',']).next().unwrap_or_default().to_owned()
}

/// What is refused before the protocol layer sees it.
fn refusal(request: &Request<Body>, in_host: bool) -> Option<S3Error> {
    let has = |name: &str| request.headers().contains_key(name);
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size > MAX_HEADERS {
        let message = "Your request header section exceeds the maximum allowed size.";
        return Some(custom("RequestHeaderSectionTooLarge", StatusCode::BAD_REQUEST, message));
    }
    if is_upload(request, in_host) && !has("content-length") && !has("transfer-encoding") {
        return Some(s3_error!(MissingContentLength, "You must provide the Content-Length HTTP header."));
    }
    if request.headers().get("content-md5").is_some_and(HeaderValue::is_empty) {
        return Some(s3_error!(InvalidDigest, "The Content-MD5 you specified is not valid."));
    }
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if header.starts_with(b"AWS ") || (value("Signature").is_some() && value("AWSAccessKeyId").is_some()) {
        return Some(s3_error!(
            InvalidRequest,
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        ));
    }
    if value("allow-unordered").is_some_and(|wanted| wanted == "true")
        && value("delimiter").is_some_and(|d| !d.is_empty())
    {
        return Some(s3_error!(InvalidArgument, "a list without order can't have a delimiter"));
    }
    if let Some(expires) = value("X-Amz-Expires") {
        let refuse =
            |message: &str| Some(custom("AuthorizationQueryParametersError", StatusCode::FORBIDDEN, message));
        match expires.parse::<u64>() {
            Err(_) => return refuse("X-Amz-Expires should be a non-negative number"),
            Ok(seconds) if seconds > MAX_EXPIRY => {
                return refuse(
                    "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
                );
            }
            Ok(_) => {}
        }
    }
    None
}

fn rendered(error: S3Error) -> Response<Body> {
    let status = error.status_code().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error.to_http_response().unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    })
}

fn names_attributes(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| pair == "attributes" || pair.starts_with("attributes="))
}

/// Attributes show an ETag without quotes, unlike everything else; the protocol layer has one way of writing them.
async fn plain_etag(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let bytes = match Limited::new(body, MAX_DOCUMENT).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::error!(error = &*error as &dyn std::error::Error, "attributes could not be written");
            return rendered(s3_error!(InternalError));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.replace("<ETag>&quot;", "<ETag>").replace("&quot;</ETag>", "</ETag>");
    let text = text.replace("<ETag>\"", "<ETag>").replace("\"</ETag>", "</ETag>");
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(parts, Body::from(bytes::Bytes::from(text)))
}

/// Names the request; an error says its resource and id too.
async fn finished(response: Response<Body>, id: &str, resource: &str, method: &Method) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Ok(value) = HeaderValue::from_str(id) {
        parts.headers.insert("x-amz-request-id", value.clone());
        parts.headers.insert("x-amz-id-2", value);
    }
    if parts.status == StatusCode::NOT_MODIFIED || (*method == Method::HEAD && parts.status.as_u16() >= 400) {
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    if parts.status.as_u16() < 400 {
        return Response::from_parts(parts, body);
    }
    let bytes = match Limited::new(body, MAX_ERROR).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Response::from_parts(parts, Body::empty()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let resource = resource.replace('&', "&amp;").replace('<', "&lt;");
    let more =
        format!("<Resource>{resource}</Resource><RequestId>{id}</RequestId><HostId>{id}</HostId></Error>");
    let text = text.replace("</Error>", &more);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(parts, Body::from(bytes::Bytes::from(text)))
}
