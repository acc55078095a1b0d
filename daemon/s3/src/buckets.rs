//! Buckets themselves: making, finding, removing, versioning.

use crate::Face;
use crate::acl::{Acl, Right};
use crate::describe::asked;
use crate::directory::{DirectoryError, Identity, Rights};
use crate::gate::{Gate, caller, denied};
use crate::settings::{self, to_xml};
use crate::support::{blocking, from_bucket, time, unavailable};
use http::StatusCode;
use larder_storage_buckets::{Bucket, BucketError, Versioning};
use s3s::dto::{
    Bucket as BucketDto, BucketLocationConstraint, BucketVersioningStatus, CreateBucketInput,
    CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput,
    GetBucketVersioningInput, GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput,
    ListBucketsOutput, ObjectLockConfiguration, ObjectLockEnabled, Owner, OwnershipControls,
    OwnershipControlsRule, Payer, PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use std::sync::Arc;

pub(crate) async fn list(
    face: &Face,
    request: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let Some(key) = caller(face.directory.as_ref(), &request).await? else {
        // Who is nobody owns nothing.
        return Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(Vec::new()),
            ..ListBucketsOutput::default()
        }));
    };
    let input = request.input;
    let mut entries =
        match &key.rights {
            Rights::Account => face.directory.buckets(&key.identity).await.map_err(unavailable)?,
            Rights::Buckets(granted) => {
                let mut entries = Vec::new();
                for name in granted.keys() {
                    let found = face.directory.bucket(name).await.map_err(unavailable)?;
                    entries.extend(found.map(|found| crate::directory::BucketEntry {
                        name: found.name,
                        created: found.created,
                    }));
                }
                entries
            }
        };
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.clone().unwrap_or_default();
    entries.retain(|entry| entry.name.starts_with(&prefix) && (after.is_empty() || entry.name > after));
    let limit = usize::try_from(input.max_buckets.unwrap_or(10_000).clamp(1, 10_000)).unwrap_or(1);
    let next = (entries.len() > limit).then(|| entries[limit - 1].name.clone());
    entries.truncate(limit);
    let buckets = entries.into_iter().map(|entry| BucketDto {
        bucket_region: None,
        creation_date: Some(time(entry.created)),
        name: Some(entry.name),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token: next,
        owner: Some(Owner {
            display_name: Some(key.identity.display_name.clone()),
            id: Some(key.identity.id.clone()),
        }),
        prefix: input.prefix,
    }))
}

/// What S3 allows beyond what the protocol layer checks.
fn check_name(name: &str) -> S3Result<()> {
    let bytes = name.as_bytes();
    let is_fine = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && !name.contains("..")
        && !name.contains(".-")
        && !name.contains("-.")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    is_fine.then_some(()).ok_or_else(|| s3_error!(InvalidBucketName, "The specified bucket is not valid."))
}

pub(crate) async fn create(
    face: &Face,
    request: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let key = caller(face.directory.as_ref(), &request).await?.ok_or_else(denied)?;
    if key.rights != Rights::Account {
        return Err(denied());
    }
    let input = request.input;
    check_name(&input.bucket)?;
    let region =
        input.create_bucket_configuration.as_ref().and_then(|config| config.location_constraint.as_ref());
    if let Some(region) = region
        && !region.as_str().is_empty()
        && !face.options.regions.iter().any(|known| known == region.as_str())
    {
        return Err(s3_error!(InvalidLocationConstraint, "The specified location-constraint is not valid"));
    }
    let asked = asked!(input);
    let region = region.map(|region| region.as_str().to_owned()).filter(|region| !region.is_empty());
    let acl = Acl::asked(&asked, &key.identity, &key.identity, face.directory.as_ref()).await?;
    let ownership = input.object_ownership.map(|ownership| {
        let rules = vec![OwnershipControlsRule { object_ownership: ownership }];
        OwnershipControls { rules }
    });
    if let Some(controls) = &ownership {
        let is_enforced =
            controls.rules.iter().any(|rule| rule.object_ownership.as_str() == "BucketOwnerEnforced");
        if is_enforced && acl.is_public() {
            return Err(s3_error!(
                InvalidBucketAclWithObjectOwnership,
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
            ));
        }
    }
    let owned = face.directory.buckets(&key.identity).await.map_err(unavailable)?;
    let is_new = !owned.iter().any(|entry| entry.name == input.bucket);
    if is_new && owned.len() >= face.options.buckets_per_account {
        return Err(unavailable(DirectoryError::TooMany));
    }
    let name = input.bucket;
    let wanted =
        Wanted { acl, region, ownership, has_lock: input.object_lock_enabled_for_bucket == Some(true) };
    // Done to its end even if the client goes away: a bucket without the lock that was asked for is not what anybody wanted.
    let making = tokio::spawn(make(face.clone(), key.identity.clone(), name.clone(), wanted.clone()));
    match making.await.map_err(|error| s3_error!(error, InternalError))? {
        // Making one's own bucket again as it is succeeds, as in the first region of AWS.
        Err(DirectoryError::Owned) if is_as_wanted(face, &request.credentials, &name, &wanted).await? => {}
        made => made.map_err(unavailable)?.map_err(from_bucket)?,
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")) }))
}

/// What a new bucket shall be.
#[derive(Debug, Clone)]
struct Wanted {
    acl: Acl,
    region: Option<String>,
    ownership: Option<OwnershipControls>,
    has_lock: bool,
}

/// Makes a bucket and writes down what it shall be.
async fn make(
    face: Face,
    owner: Identity,
    name: String,
    wanted: Wanted,
) -> Result<Result<(), BucketError>, DirectoryError> {
    let found = face.directory.create_bucket(&owner, &name).await?;
    face.settings.forget(&found.name);
    let bucket = found.bucket;
    let (cache, name) = (Arc::clone(&face.settings), found.name);
    let written = crate::blocking::in_turn(move || {
        let written = wanted.write_to(&bucket);
        cache.forget(&name);
        written
    });
    written.await.map_err(|error| DirectoryError::Unavailable(error.to_string()))
}

impl Wanted {
    fn write_to(&self, bucket: &Bucket) -> Result<(), BucketError> {
        bucket.set_setting(settings::ACL, Some(&self.acl.to_json()))?;
        bucket.set_setting(settings::REGION, self.region.as_deref())?;
        if let Some(ownership) = &self.ownership {
            bucket.set_setting(settings::OWNERSHIP, Some(&to_xml(ownership)?))?;
        }
        if self.has_lock {
            let enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
            let lock = ObjectLockConfiguration { object_lock_enabled: enabled, rule: None };
            // A lock protects versions: there are some before it says that it does.
            bucket.set_versioning(Versioning::Enabled)?;
            bucket.set_setting(settings::OBJECT_LOCK, Some(&to_xml(&lock)?))?;
        }
        Ok(())
    }
}

/// Whether a bucket that is there is what a request to make it wants.
async fn is_as_wanted(
    face: &Face,
    credentials: &Option<s3s::auth::Credentials>,
    name: &str,
    wanted: &Wanted,
) -> S3Result<bool> {
    if credentials.is_none() {
        return Ok(false);
    }
    let Some(found) = face.directory.bucket(name).await.map_err(unavailable)? else { return Ok(false) };
    let settings = face.settings.of(&found.name, &found.bucket).await?;
    let acl = settings.acl.clone().unwrap_or_else(|| Acl::private(&found.owner));
    let has_lock = settings.object_lock.is_some() && found.bucket.versioning() == Versioning::Enabled;
    let has_ownership = wanted.ownership.is_none() || settings.ownership == wanted.ownership;
    Ok(acl == wanted.acl && (has_lock || !wanted.has_lock) && has_ownership)
}

pub(crate) async fn delete(
    face: &Face,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:DeleteBucket", None)?;
    // A bucket that was made through the API goes through the API: its keys can't remove it.
    let account = gate.key.as_ref().filter(|key| key.rights == Rights::Account);
    let account = account.map(|key| key.identity.clone()).ok_or_else(denied)?;
    let bucket = gate.bucket();
    if !blocking(move || bucket.is_empty()).await? {
        return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
    }
    let name = gate.name().to_owned();
    drop(gate);
    face.settings.forget(&name);
    face.directory.delete_bucket(&account, &name).await.map_err(unavailable)?;
    Ok(S3Response::with_status(DeleteBucketOutput::default(), StatusCode::NO_CONTENT))
}

pub(crate) async fn head(
    face: &Face,
    request: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucket", Some(Right::Read))?;
    let region = gate.settings.region.clone().or_else(|| face.options.regions.first().cloned());
    let mut response =
        S3Response::new(HeadBucketOutput { bucket_region: region, ..HeadBucketOutput::default() });
    if gate.bucket_action("s3:GetBucketVersioning", None).is_ok() {
        // What Ceph's gateway tells an owner, too.
        let bucket = gate.bucket();
        let usage = blocking(move || bucket.usage()).await?;
        response.headers.insert("x-rgw-object-count", http::HeaderValue::from(usage.objects));
        response.headers.insert("x-rgw-bytes-used", http::HeaderValue::from(usage.bytes));
        let most = http::HeaderValue::from(face.options.buckets_per_account);
        response.headers.insert("x-rgw-quota-max-buckets", most);
    }
    Ok(response)
}

pub(crate) async fn location(
    face: &Face,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:GetBucketLocation", None)?;
    let location_constraint = gate.settings.region.clone().map(BucketLocationConstraint::from);
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

pub(crate) async fn request_payment(
    face: &Face,
    request: S3Request<GetBucketRequestPaymentInput>,
) -> S3Result<S3Response<GetBucketRequestPaymentOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:GetBucketRequestPayment", None)?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

pub(crate) async fn get_versioning(
    face: &Face,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:GetBucketVersioning", None)?;
    let status = match gate.found.bucket.versioning() {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
}

pub(crate) async fn put_versioning(
    face: &Face,
    request: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:PutBucketVersioning", None)?;
    let configuration = &request.input.versioning_configuration;
    if configuration.mfa_delete.as_ref().is_some_and(|mfa| mfa.as_str() == "Enabled") {
        return Err(s3_error!(NotImplemented, "MFA delete is not supported"));
    }
    let versioning = match configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") if gate.settings.has_object_lock() => {
            return Err(s3_error!(
                InvalidBucketState,
                "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
            ));
        }
        Some("Suspended") => Versioning::Suspended,
        _ => return Err(s3_error!(MalformedXML, "the status is Enabled or Suspended")),
    };
    let bucket = gate.bucket();
    blocking(move || bucket.set_versioning(versioning)).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}
