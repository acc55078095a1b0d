//! Uploads by a browser's form: the file flows, what stands before it is checked first.

use crate::acl::Asked;
use crate::checksum::Algorithm;
use crate::describe::{Described, from_tag_set};
use crate::encryption::{self, CustomerKey};
use crate::form::{Form, malformed};
use crate::form_policy::{FormPolicy, Signed};
use crate::gate::Gate;
use crate::ingest::{Expected, ingest};
use crate::limits::{Place, within};
use crate::support::{blocking, unavailable};
use crate::{Face, checksum};
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use larder_storage_buckets::{Checksum, Put, Version};
use s3s::auth::{Credentials, SecretKey};
use s3s::dto::{StreamingBlob, Tagging, Timestamp, TimestampFormat};
use s3s::{Body, S3Request, S3Result, s3_error, xml};
use std::collections::BTreeMap;

/// Whether a request says that it is a form, be it a good one or not.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let says_so = |kind: &HeaderValue| {
        kind.as_bytes().to_ascii_lowercase().windows(10).any(|part| part == b"multipart/")
    };
    headers.get_all(CONTENT_TYPE).iter().any(says_so)
}

/// The boundary of a form.
pub(crate) fn boundary(headers: &HeaderMap) -> S3Result<String> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds.next().filter(|_| kinds.next().is_none()).and_then(|kind| kind.to_str().ok());
    let (kind, parameters) = kind.unwrap_or_default().split_once(';').unwrap_or_default();
    let mut named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let found = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
    let boundary = found.map(|(_, value)| value.trim().trim_matches('"')).unwrap_or_default();
    match kind.trim().eq_ignore_ascii_case("multipart/form-data") && !boundary.is_empty() {
        true => Ok(boundary.to_owned()),
        false => Err(malformed("it has no boundary")),
    }
}

/// Answers a form that was sent to a bucket.
pub(crate) async fn post(
    face: &Face,
    request: Request<Body>,
    place: &Place,
    boundary: &str,
    bucket: &str,
) -> S3Result<Response<Body>> {
    let (mut parts, body) = request.into_parts();
    place.as_unknown()?;
    // What is asked for stands in the form.
    let of_protocol = parts.headers.keys().filter(|name| name.as_str().starts_with("x-amz-"));
    for name in of_protocol.cloned().collect::<Vec<_>>() {
        parts.headers.remove(name);
    }
    let mut form = within(face.options.patience.body, Form::read(body, boundary)).await??;
    let key = form.fields.get("key").filter(|key| !key.is_empty()).cloned();
    let key =
        key.ok_or_else(|| s3_error!(InvalidArgument, "Bucket POST must contain a field named 'key'."))?;
    let filename = form.filename.clone().unwrap_or_default();
    let key = key.replace("${filename}", &filename);
    form.fields.insert("key".to_owned(), key.clone());
    let signed = Signed::of(&form.fields)?;
    let credentials = match &signed {
        None => None,
        Some(signed) => Some(verified(face, signed, &form.fields).await?),
    };
    if let Some(credentials) = &credentials {
        place.as_key(&credentials.access_key)?;
    }
    let policy = form.fields.get("policy").map(|policy| FormPolicy::parse(policy)).transpose()?;
    let request = S3Request {
        input: (),
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        extensions: parts.extensions,
        credentials,
        region: None,
        service: None,
        trailing_headers: None,
    };
    let mut gate = Gate::enter(face, &request, bucket).await?;
    for (name, value) in &form.fields {
        gate.tell_field(name, value);
    }
    if let Some(policy) = &policy {
        policy.check(&form.fields, form.file_type.as_deref(), bucket, gate.found.bucket.now())?;
    }
    if let Some(file_type) = form.file_type.take() {
        form.fields.entry("content-type".to_owned()).or_insert(file_type);
    }
    let version = store(face, &mut gate, form, &key, policy.as_ref()).await?;
    reply(&gate, &version.0, &version.1)
}

async fn verified(face: &Face, signed: &Signed, fields: &BTreeMap<String, String>) -> S3Result<Credentials> {
    let found = face.directory.access_key(signed.key()).await.map_err(unavailable)?;
    let key = found.ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
    let policy = fields.get("policy");
    let policy = policy
        .ok_or_else(|| s3_error!(InvalidArgument, "Bucket POST must contain a field named 'policy'."))?;
    signed.verify(policy, &key.secret)?;
    let secret_key = SecretKey::from(key.secret.as_str());
    Ok(Credentials { access_key: signed.key().to_owned(), secret_key })
}

type Fields = BTreeMap<String, String>;

fn described(fields: &Fields) -> S3Result<Described> {
    let field = |name: &str| fields.get(name).cloned();
    let metadata = fields
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.clone())));
    let date = |name: &str, format| match fields.get(name) {
        None => Ok(None),
        Some(text) => {
            Timestamp::parse(format, text).map(Some).map_err(|error| s3_error!(error, InvalidArgument))
        }
    };
    Ok(Described {
        cache_control: field("cache-control"),
        content_disposition: field("content-disposition"),
        content_encoding: field("content-encoding"),
        content_language: field("content-language"),
        content_type: field("content-type"),
        expires: date("expires", TimestampFormat::HttpDate)?,
        website: field("x-amz-website-redirect-location"),
        metadata: Some(metadata.collect()),
        storage_class: field("x-amz-storage-class"),
        tagging: None,
        legal_hold: field("x-amz-object-lock-legal-hold").map(Into::into),
        lock_mode: field("x-amz-object-lock-mode").map(Into::into),
        lock_until: date("x-amz-object-lock-retain-until-date", TimestampFormat::DateTime)?,
    })
}

fn tags(fields: &Fields) -> S3Result<Vec<(String, String)>> {
    let Some(text) = fields.get("tagging") else { return Ok(Vec::new()) };
    let mut deserializer = xml::Deserializer::new(text.as_bytes());
    let tagging = <Tagging as xml::Deserialize>::deserialize(&mut deserializer);
    from_tag_set(tagging.map_err(|error| s3_error!(error, MalformedXML))?.tag_set, 10)
}

fn checksum_field(fields: &Fields) -> Option<(Algorithm, String)> {
    Algorithm::ALL
        .into_iter()
        .find_map(|algorithm| Some((algorithm, fields.get(&algorithm.header())?.clone())))
}

async fn store(
    face: &Face,
    gate: &mut Gate,
    form: Form,
    key: &str,
    policy: Option<&FormPolicy>,
) -> S3Result<(Version, Fields)> {
    let fields = form.fields.clone();
    let field = |name: &str| fields.get(name).map(String::as_str);
    encryption::refuse_managed(field("x-amz-server-side-encryption"), false)?;
    let customer = CustomerKey::parse(
        field("x-amz-server-side-encryption-customer-algorithm"),
        field("x-amz-server-side-encryption-customer-key"),
        field("x-amz-server-side-encryption-customer-key-md5"),
    )?;
    let tags = tags(&fields)?;
    gate.tell_tags(&tags);
    let asked = Asked { canned: field("acl"), ..Asked::default() };
    let mut record = described(&fields)?.record(gate, face, key, &asked).await?;
    if !tags.is_empty() {
        gate.key_action("s3:PutObjectTagging", key)?;
        record.tags = tags;
    }
    record.encryption = customer.as_ref().and_then(CustomerKey::seal);
    let expected = Expected {
        checksum: checksum_field(&fields),
        key: customer,
        most: policy.and_then(FormPolicy::most),
        ..Expected::default()
    };
    let body = StreamingBlob::wrap(Box::pin(form.into_file()));
    let ingested = ingest(gate.bucket(), Some(body), expected).await?;
    if ingested.staged.part().size < policy.map_or(0, FormPolicy::least) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    if let Some((algorithm, value)) = ingested.checksum {
        let (algorithm, kind) = (algorithm.as_str().to_owned(), checksum::FULL_OBJECT.to_owned());
        record.checksum = Some(Checksum { algorithm, kind, value });
    }
    let put = Put { key: key.to_owned(), record, ..Put::default() };
    let (bucket, staged) = (gate.bucket(), ingested.staged);
    let version = blocking(move || bucket.put(staged, put)).await?;
    Ok((version, fields))
}

/// What a browser is told: where to go, or that it went well.
fn reply(gate: &Gate, version: &Version, fields: &Fields) -> S3Result<Response<Body>> {
    let etag = format!("\"{}\"", version.etag);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| malformed("a redirect is no URL"));
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(ETAG, value(&etag)?);
    if let Some(id) = crate::describe::written_version(version) {
        response.headers_mut().insert("x-amz-version-id", value(&id)?);
    }
    let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
    if let Some(redirect) =
        redirect.filter(|redirect| redirect.starts_with("http://") || redirect.starts_with("https://"))
    {
        let joint = if redirect.contains('?') { '&' } else { '?' };
        let encode = urlencoding::encode;
        let query = format!(
            "bucket={}&key={}&etag={}",
            gate.name(),
            encode(&version.key).replace("%2F", "/"),
            encode(&etag)
        );
        response.headers_mut().insert(LOCATION, value(&format!("{redirect}{joint}{query}"))?);
        *response.status_mut() = StatusCode::SEE_OTHER;
        return Ok(response);
    }
    let location = format!("/{}/{}", gate.name(), urlencoding::encode(&version.key).replace("%2F", "/"));
    response.headers_mut().insert(LOCATION, value(&location)?);
    match fields.get("success_action_status").map(String::as_str) {
        Some("200") => {}
        Some("201") => {
            *response.status_mut() = StatusCode::CREATED;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            *response.body_mut() = Body::from(post_response(gate, version, &location, &etag)?);
        }
        _ => *response.status_mut() = StatusCode::NO_CONTENT,
    }
    Ok(response)
}

fn post_response(gate: &Gate, version: &Version, location: &str, etag: &str) -> S3Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = xml::Serializer::new(&mut bytes);
    let written = serializer.decl().and_then(|()| {
        serializer.element("PostResponse", |inner| {
            inner.content("Location", location)?;
            inner.content("Bucket", gate.name())?;
            inner.content("Key", version.key.as_str())?;
            inner.content("ETag", etag)
        })
    });
    written.map_err(|error| s3_error!(error, InternalError))?;
    String::from_utf8(bytes).map_err(|error| s3_error!(error, InternalError))
}
