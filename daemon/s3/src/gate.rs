//! Who may do what: the only way to a bucket's objects leads through a [`Gate`].

use crate::acl::{Acl, Right};
use crate::directory::{AccessKey, Directory, FoundBucket, Identity, Rights, Role};
use crate::policy::{Asking, Verdict};
use crate::settings::Settings;
use crate::support::unavailable;
use http::{HeaderMap, Uri};
use larder_storage_buckets::{Bucket, Version};
use s3s::dto::CopySource;
use s3s::{S3Request, S3Result, s3_error};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What the connection is like; the server puts it into a request's extensions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer {
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub is_secure: bool,
}

/// A request on a bucket: who asks, for what.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) found: FoundBucket,
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Option<Arc<AccessKey>>,
    values: HashMap<String, Vec<String>>,
}

/// The caller's key, none for somebody unknown.
pub(crate) async fn caller<T>(
    directory: &dyn Directory,
    request: &S3Request<T>,
) -> S3Result<Option<Arc<AccessKey>>> {
    let Some(credentials) = &request.credentials else { return Ok(None) };
    let key = directory.access_key(&credentials.access_key).await.map_err(unavailable)?;
    key.map(Some).ok_or_else(|| s3_error!(InvalidAccessKeyId))
}

impl Gate {
    /// Comes to a bucket. A key of other buckets doesn't learn whether it exists.
    pub(crate) async fn enter<T>(face: &crate::Face, request: &S3Request<T>, bucket: &str) -> S3Result<Self> {
        Self::enter_expecting(face, request, bucket, "x-amz-expected-bucket-owner").await
    }

    /// Comes to the bucket that a copy is made from, whose owner the client may expect to be another.
    pub(crate) async fn enter_source<T>(
        face: &crate::Face,
        request: &S3Request<T>,
        bucket: &str,
    ) -> S3Result<Self> {
        Self::enter_expecting(face, request, bucket, "x-amz-source-expected-bucket-owner").await
    }

    async fn enter_expecting<T>(
        face: &crate::Face,
        request: &S3Request<T>,
        bucket: &str,
        owner_header: &str,
    ) -> S3Result<Self> {
        let key = caller(face.directory.as_ref(), request).await?;
        if let Some(AccessKey { rights: Rights::Buckets(buckets), .. }) = key.as_deref()
            && !buckets.contains_key(bucket)
        {
            return Err(denied());
        }
        let found = face.directory.bucket(bucket).await.map_err(unavailable)?;
        let found = found.ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))?;
        let expected = request.headers.get(owner_header);
        if expected.is_some_and(|expected| expected.as_bytes() != found.owner.id.as_bytes()) {
            return Err(denied());
        }
        let settings = face.settings.of(&found.name, &found.bucket).await?;
        let values = match settings.policy.is_some() {
            true => values_of(&request.headers, &request.uri, request.extensions.get::<Peer>()),
            false => HashMap::new(),
        };
        Ok(Self { found, settings, key, values })
    }

    /// The bucket's objects, for who has been let in.
    pub(crate) fn bucket(&self) -> Arc<Bucket> {
        Arc::clone(&self.found.bucket)
    }

    pub(crate) fn name(&self) -> &str {
        &self.found.name
    }

    /// The caller's canonical id.
    pub(crate) fn caller(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.identity.id.as_str())
    }

    /// Who owns what the caller puts.
    pub(crate) fn writer(&self) -> Identity {
        // What somebody unknown puts belongs to whoever let them in.
        match self.key.as_deref() {
            Some(AccessKey { rights: Rights::Account, identity, .. }) => identity.clone(),
            _ => self.found.owner.clone(),
        }
    }

    fn is_owner(&self) -> bool {
        match self.key.as_deref() {
            Some(AccessKey { rights: Rights::Account, identity, .. }) => identity.id == self.found.owner.id,
            Some(AccessKey { rights: Rights::Buckets(buckets), .. }) => {
                buckets.contains_key(&self.found.name)
            }
            None => false,
        }
    }

    /// Adds what a policy may ask of this request.
    pub(crate) fn tell(&mut self, name: &str, values: Vec<String>) {
        self.values.insert(name.to_owned(), values);
    }

    /// Tells the policy of the version that is meant, where the request's own parameter is not about it.
    pub(crate) fn tell_version(&mut self, version: Option<&str>) {
        match version.filter(|_| self.settings.policy.is_some()) {
            Some(version) => self.tell("s3:versionid", vec![version.to_owned()]),
            None => drop(self.values.remove("s3:versionid")),
        }
    }

    /// Tells the policy of a form's field, as of the header that would say the same.
    pub(crate) fn tell_field(&mut self, name: &str, value: &str) {
        match name.to_ascii_lowercase().as_str() {
            "acl" => self.tell("s3:x-amz-acl", vec![value.to_owned()]),
            name => {
                if let Some(key) = key_of_header(name) {
                    self.tell(&key, vec![value.to_owned()]);
                }
            }
        }
    }

    /// Tells the policy of the tags a request brings.
    pub(crate) fn tell_tags(&mut self, tags: &[(String, String)]) {
        if self.settings.policy.is_some() {
            for (name, value) in tags {
                self.tell(&format!("s3:requestobjecttag/{name}"), vec![value.clone()]);
            }
            self.tell("s3:requestobjecttagkeys", tags.iter().map(|(name, _)| name.clone()).collect());
        }
    }

    /// The bucket's list, private when none was set.
    pub(crate) fn acl(&self) -> Acl {
        self.settings.acl.clone().unwrap_or_else(|| Acl::private(&self.found.owner))
    }

    fn list_allows(&self, acl: &Acl, right: Right) -> bool {
        let ignore_public = self.settings.public_access(|block| block.ignore_public_acls);
        !self.settings.acls_are_off() && acl.allows(self.caller(), right, ignore_public)
    }

    /// Whether something may be done with the bucket itself. `right` is what its access control list must grant to who
    /// isn't the owner; without one only the owner, or who the policy names, may.
    pub(crate) fn bucket_action(&self, action: &str, right: Option<Right>) -> S3Result<()> {
        let by_list = right.is_some_and(|right| self.list_allows(&self.acl(), right));
        self.decide(action, None, &HashMap::new(), self.is_owner() || by_list)
    }

    /// Whether objects may be written or deleted under a key.
    pub(crate) fn key_action(&self, action: &str, key: &str) -> S3Result<()> {
        // Who may write may neither destroy what versioning keeps, nor keep it for others.
        let beyond = ["s3:DeleteObjectVersion", "s3:PutObjectRetention", "s3:PutObjectLegalHold"];
        let by_list = !beyond.contains(&action) && self.list_allows(&self.acl(), Right::Write);
        self.decide(action, Some(key), &HashMap::new(), self.is_owner() || by_list)
    }

    /// Whether something may be done with an object that is there. `right` is what its access control list must grant.
    pub(crate) fn object_action(
        &self,
        action: &str,
        version: &Version,
        right: Option<Right>,
    ) -> S3Result<()> {
        let by_list = || {
            let acl = version.record.acl.as_deref().and_then(Acl::from_json);
            right.zip(acl).is_some_and(|(right, acl)| self.list_allows(&acl, right))
        };
        // With the bucket owner's ownership enforced, or for what isn't the object's own, the bucket's owner may too.
        let is_writer = self.caller() == Some(version.record.owner.as_str());
        let of_bucket = self.settings.acls_are_off()
            || right.is_none()
            || version.record.owner == self.found.owner.id
            || self.key.as_ref().is_some_and(|key| key.rights != Rights::Account);
        let mut tags = HashMap::new();
        if self.settings.policy.is_some() {
            for (name, value) in &version.record.tags {
                tags.insert(format!("s3:existingobjecttag/{name}"), vec![value.clone()]);
            }
        }
        let by_ownership = (is_writer && !self.settings.acls_are_off()) || (self.is_owner() && of_bucket);
        self.decide(action, Some(&version.key), &tags, by_ownership || by_list())
    }

    /// The error for an object that isn't there: who can't list doesn't learn that.
    pub(crate) fn missing(&self, error: s3s::S3Error, key: &str) -> s3s::S3Error {
        let by_list = self.list_allows(&self.acl(), Right::Read);
        let prefix = HashMap::from([("s3:prefix".to_owned(), vec![key.to_owned()])]);
        match self.decide("s3:ListBucket", None, &prefix, self.is_owner() || by_list) {
            Ok(()) => error,
            Err(denied) => denied,
        }
    }

    /// Whether the caller may lift a governance retention.
    pub(crate) fn may_bypass(&self, key: &str) -> bool {
        self.decide("s3:BypassGovernanceRetention", Some(key), &HashMap::new(), self.is_owner()).is_ok()
    }

    /// About an object by its key, or about the bucket itself.
    fn decide(
        &self,
        action: &str,
        key: Option<&str>,
        more: &HashMap<String, Vec<String>>,
        otherwise: bool,
    ) -> S3Result<()> {
        if let Some(AccessKey { rights: Rights::Buckets(buckets), .. }) = self.key.as_deref() {
            match buckets.get(&self.found.name) {
                Some(Role::Admin) => {}
                Some(Role::ReadOnly) if is_reading(action) => {}
                _ => return Err(denied()),
            }
        }
        let verdict = match &self.settings.policy {
            None => Verdict::Silent,
            Some(policy) => {
                let mut values = self.values.clone();
                values.extend(more.iter().map(|(name, value)| (name.clone(), value.clone())));
                let name = &self.found.name;
                let resource = key.map_or_else(|| name.clone(), |key| format!("{name}/{key}"));
                policy.judge(&Asking { caller: self.caller(), action, resource: &resource, values })
            }
        };
        let is_for_owner =
            ["s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:DeleteBucketPolicy"].contains(&action);
        let is_restricted = || {
            let is_public = self.settings.policy.as_ref().is_some_and(crate::policy::Policy::is_public);
            self.settings.public_access(|block| block.restrict_public_buckets)
                && is_public
                && !self.is_owner()
        };
        let is_allowed = match verdict {
            Verdict::Deny => is_for_owner && self.is_owner(),
            Verdict::Allow => otherwise || !is_restricted(),
            Verdict::Silent => otherwise,
        };
        is_allowed.then_some(()).ok_or_else(denied)
    }

    /// Refuses a list that grants something to everybody where that is blocked.
    pub(crate) fn check_acl(&self, acl: &Acl) -> S3Result<()> {
        match self.settings.public_access(|block| block.block_public_acls) && acl.is_public() {
            true => Err(s3_error!(AccessDenied, "public access control lists are blocked for this bucket")),
            false => Ok(()),
        }
    }
}

pub(crate) fn denied() -> s3s::S3Error {
    s3_error!(AccessDenied, "Access Denied")
}

/// What a read-only key may do.
fn is_reading(action: &str) -> bool {
    action.starts_with("s3:Get") || action.starts_with("s3:List")
}

/// The name that policies have for a header of the protocol.
fn key_of_header(name: &str) -> Option<String> {
    let of_lock = name.strip_prefix("x-amz-").filter(|lock| lock.starts_with("object-lock-"));
    of_lock.or_else(|| name.starts_with("x-amz-").then_some(name)).map(|name| format!("s3:{name}"))
}

/// Bucket and key of a copy's source, as the protocol layer reads them. What it can't read it refuses.
fn path_of_source(source: &str) -> String {
    match CopySource::parse(source) {
        Ok(CopySource::Bucket { bucket, key, .. }) => format!("{bucket}/{key}"),
        _ => source.to_owned(),
    }
}

/// What policies may ask of a request, by lower-case name.
fn values_of(headers: &HeaderMap, uri: &Uri, peer: Option<&Peer>) -> HashMap<String, Vec<String>> {
    let mut values = HashMap::new();
    let mut tell = |name: String, value: String| {
        values.insert(name, vec![value]);
    };
    for (name, value) in headers {
        // As the protocol layer reads them.
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
        match name.as_str() {
            "referer" => tell("aws:referer".to_owned(), value.to_owned()),
            "user-agent" => tell("aws:useragent".to_owned(), value.to_owned()),
            "x-amz-copy-source" => tell("s3:x-amz-copy-source".to_owned(), path_of_source(value)),
            "if-match" | "if-none-match" => tell(format!("s3:{name}"), value.to_owned()),
            name => {
                if let Some(key) = key_of_header(name) {
                    tell(key, value.to_owned());
                }
            }
        }
    }
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // As the protocol layer reads them.
        let decoded = |text: &str| {
            urlencoding::decode(&text.replace('+', " ")).map(Cow::into_owned).unwrap_or_default()
        };
        let (name, value) = (decoded(name), decoded(value));
        match name.as_str() {
            "prefix" | "delimiter" | "max-keys" => tell(format!("s3:{name}"), value),
            "versionId" => tell("s3:versionid".to_owned(), value),
            _ => {}
        }
    }
    let peer = peer.copied().unwrap_or_default();
    if let Some(address) = peer.address {
        tell("aws:sourceip".to_owned(), address.to_string());
    }
    tell("aws:securetransport".to_owned(), peer.is_secure.to_string());
    values
}
