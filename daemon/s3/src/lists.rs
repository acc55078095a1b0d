//! Lists of objects, versions and uploads.

use crate::Face;
use crate::acl::Right;
use crate::directory::IdentityName;
use crate::gate::Gate;
use crate::support::{blocking, etag, signed, time, unavailable};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use larder_storage_buckets::{Bucket, BucketError, Entry, Listed, Page, Query};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, DeleteMarkerEntry, EncodingType, Initiator,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, MultipartUpload, Object,
    ObjectVersion, Owner,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use std::collections::HashMap;

const MOST: i32 = 1000;

/// How many entries a request wants; at most a thousand.
fn limit(asked: Option<i32>) -> S3Result<i32> {
    match asked {
        None => Ok(MOST),
        Some(count) if count < 0 => {
            Err(s3_error!(InvalidArgument, "Argument maxKeys must be an integer between 0 and 2147483647"))
        }
        Some(count) => Ok(count.min(MOST)),
    }
}

/// Keys are spelled plainly, or percent-encoded where a client asks for that.
#[derive(Clone, Copy)]
struct Spelling {
    is_encoded: bool,
}

impl Spelling {
    fn of(asked: Option<&EncodingType>) -> S3Result<Self> {
        match asked.map(EncodingType::as_str) {
            None => Ok(Self { is_encoded: false }),
            Some("url") => Ok(Self { is_encoded: true }),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request")),
        }
    }

    fn spell(self, text: &str) -> String {
        match self.is_encoded {
            true => urlencoding::encode(text).replace("%2F", "/"),
            false => text.to_owned(),
        }
    }
}

/// Who stands behind a canonical id.
pub(crate) async fn owner_of(face: &Face, id: &str) -> S3Result<Owner> {
    let found = face.directory.identity(IdentityName::Id(id)).await.map_err(unavailable)?;
    let display_name = found.map_or_else(|| id.to_owned(), |identity| identity.display_name);
    Ok(Owner { display_name: Some(display_name), id: Some(id.to_owned()) })
}

fn checksum_of(item: &Listed) -> (Option<Vec<ChecksumAlgorithm>>, Option<ChecksumType>) {
    let parts = item.checksum.as_deref().and_then(|checksum| checksum.split_once(' '));
    match parts {
        Some((algorithm, kind)) => (
            Some(vec![ChecksumAlgorithm::from(algorithm.to_owned())]),
            Some(ChecksumType::from(kind.to_owned())),
        ),
        None => (None, None),
    }
}

/// What every list is asked for.
struct Asked<'i> {
    prefix: Option<&'i String>,
    delimiter: Option<&'i String>,
    encoding: Option<&'i EncodingType>,
    most: Option<i32>,
    /// The key behind which it begins, and of that key the version or upload.
    after: Option<String>,
    after_id: Option<String>,
}

/// What a request asks for; `$most` names the field with the limit.
macro_rules! asked {
    ($input:expr, $most:ident, $after:expr, $after_id:expr) => {
        Asked {
            prefix: $input.prefix.as_ref(),
            delimiter: $input.delimiter.as_ref(),
            encoding: $input.encoding_type.as_ref(),
            most: $input.$most,
            after: $after.filter(|after: &String| !after.is_empty()),
            after_id: $after_id.filter(|after: &String| !after.is_empty()),
        }
    };
}

/// A page, and how it is to be shown.
struct Found {
    page: Page,
    limit: i32,
    spelling: Spelling,
    delimiter: Option<String>,
}

impl Asked<'_> {
    /// Reads the page. Nothing at all is found for a limit of none.
    async fn fetch(
        self,
        gate: &Gate,
        list: fn(&Bucket, &Query) -> Result<Page, BucketError>,
    ) -> S3Result<Found> {
        let limit = limit(self.most)?;
        let spelling = Spelling::of(self.encoding)?;
        let query = Query {
            prefix: self.prefix.cloned().unwrap_or_default(),
            delimiter: self.delimiter.cloned().unwrap_or_default(),
            after: self.after,
            after_id: self.after_id,
            limit: usize::try_from(limit).unwrap_or(0),
        };
        let bucket = gate.bucket();
        let page = match limit {
            0 => Page::default(),
            _ => blocking(move || list(&bucket, &query)).await?,
        };
        let delimiter = self.delimiter.filter(|delimiter| !delimiter.is_empty());
        let delimiter = delimiter.map(|delimiter| spelling.spell(delimiter));
        Ok(Found { page, limit, spelling, delimiter })
    }
}

impl Found {
    fn spell(&self, text: Option<&String>) -> String {
        text.map(|text| self.spelling.spell(text)).unwrap_or_default()
    }

    fn prefixes(&self) -> Option<Vec<CommonPrefix>> {
        let found = self.page.entries.iter().filter_map(|entry| match entry {
            Entry::Prefix(prefix) => Some(CommonPrefix { prefix: Some(self.spelling.spell(prefix)) }),
            Entry::Item(_) => None,
        });
        Some(found.collect::<Vec<_>>()).filter(|found| !found.is_empty())
    }

    fn items(&self) -> impl Iterator<Item = &Listed> {
        self.page.entries.iter().filter_map(|entry| match entry {
            Entry::Item(item) => Some(item),
            Entry::Prefix(_) => None,
        })
    }

    /// The entry behind which a list that was cut goes on.
    fn next(&self) -> Option<&Entry> {
        self.page.entries.last().filter(|_| self.page.is_truncated)
    }

    fn next_key(&self) -> Option<String> {
        self.next().map(|entry| self.spelling.spell(entry.key()))
    }

    /// Of that key the version or upload.
    fn next_id(&self) -> Option<String> {
        match self.next()? {
            Entry::Item(item) => Some(item.id.clone()),
            Entry::Prefix(_) => None,
        }
    }

    /// The owners of the entries.
    async fn owners(&self, face: &Face) -> S3Result<HashMap<String, Owner>> {
        let mut owners = HashMap::new();
        for item in self.items() {
            if !owners.contains_key(&item.owner) {
                owners.insert(item.owner.clone(), owner_of(face, &item.owner).await?);
            }
        }
        Ok(owners)
    }

    fn objects(&self, owners: &HashMap<String, Owner>) -> Vec<Object> {
        self.items().map(|item| self.object(item, owners.get(&item.owner).cloned())).collect()
    }

    fn object(&self, item: &Listed, owner: Option<Owner>) -> Object {
        let (checksum_algorithm, checksum_type) = checksum_of(item);
        Object {
            checksum_algorithm,
            checksum_type,
            e_tag: Some(etag(&item.etag)),
            key: Some(self.spelling.spell(&item.key)),
            last_modified: Some(time(item.modified)),
            owner,
            restore_status: None,
            size: Some(signed(item.size)),
            storage_class: Some(class_of(item).into()),
        }
    }

    fn version(&self, item: &Listed, owner: Option<Owner>) -> ObjectVersion {
        let (checksum_algorithm, checksum_type) = checksum_of(item);
        ObjectVersion {
            checksum_algorithm,
            checksum_type,
            e_tag: Some(etag(&item.etag)),
            is_latest: Some(item.is_latest),
            key: Some(self.spelling.spell(&item.key)),
            last_modified: Some(time(item.modified)),
            owner,
            restore_status: None,
            size: Some(signed(item.size)),
            storage_class: Some(class_of(item).into()),
            version_id: Some(item.id.clone()),
        }
    }

    fn marker(&self, item: &Listed, owner: Option<Owner>) -> DeleteMarkerEntry {
        DeleteMarkerEntry {
            is_latest: Some(item.is_latest),
            key: Some(self.spelling.spell(&item.key)),
            last_modified: Some(time(item.modified)),
            owner,
            version_id: Some(item.id.clone()),
        }
    }

    fn upload(&self, item: &Listed, owner: Option<Owner>) -> MultipartUpload {
        let (algorithm, checksum_type) = checksum_of(item);
        let initiator =
            owner.clone().map(|owner| Initiator { display_name: owner.display_name, id: owner.id });
        MultipartUpload {
            checksum_algorithm: algorithm.and_then(|known| known.into_iter().next()),
            checksum_type,
            initiated: Some(time(item.modified)),
            initiator,
            key: Some(self.spelling.spell(&item.key)),
            owner,
            storage_class: Some(class_of(item).into()),
            upload_id: Some(item.id.clone()),
        }
    }
}

/// The storage class a list shows.
fn class_of(item: &Listed) -> String {
    item.class.clone().unwrap_or_else(|| "STANDARD".to_owned())
}

pub(crate) async fn list(
    face: &Face,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucket", Some(Right::Read))?;
    let input = request.input;
    let found = asked!(input, max_keys, input.marker.clone(), None).fetch(&gate, Bucket::list).await?;
    let owners = found.owners(face).await?;
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(gate.name().to_owned()),
        // The first version of the list leaves it as it came: its clients don't decode it.
        prefix: Some(input.prefix.unwrap_or_default()),
        marker: Some(found.spell(input.marker.as_ref())),
        max_keys: Some(found.limit),
        is_truncated: Some(found.page.is_truncated),
        contents: Some(found.objects(&owners)),
        common_prefixes: found.prefixes(),
        // Without a delimiter the last key says where to go on.
        next_marker: found.next_key().filter(|_| found.delimiter.is_some()),
        delimiter: found.delimiter,
        encoding_type: input.encoding_type,
        ..ListObjectsOutput::default()
    }))
}

/// A token that a client can't take for a key.
fn to_token(key: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(key)
}

fn from_token(token: &str) -> S3Result<String> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    bytes.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

pub(crate) async fn list_v2(
    face: &Face,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucket", Some(Right::Read))?;
    let input = request.input;
    let token = input.continuation_token.as_deref().filter(|token| !token.is_empty());
    let after = match token {
        Some(token) => Some(from_token(token)?),
        None => input.start_after.clone(),
    };
    let found = asked!(input, max_keys, after, None).fetch(&gate, Bucket::list).await?;
    let owners = match input.fetch_owner {
        Some(true) => found.owners(face).await?,
        _ => HashMap::new(),
    };
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(gate.name().to_owned()),
        prefix: Some(found.spell(input.prefix.as_ref())),
        max_keys: Some(found.limit),
        key_count: i32::try_from(found.page.entries.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(found.page.is_truncated),
        next_continuation_token: found.next().map(|entry| to_token(entry.key())),
        contents: Some(found.objects(&owners)),
        common_prefixes: found.prefixes(),
        start_after: input.start_after.as_deref().map(|start| found.spelling.spell(start)),
        delimiter: found.delimiter,
        encoding_type: input.encoding_type,
        ..ListObjectsV2Output::default()
    }))
}

pub(crate) async fn list_versions(
    face: &Face,
    request: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucketVersions", Some(Right::Read))?;
    let input = request.input;
    let asked = asked!(input, max_keys, input.key_marker.clone(), input.version_id_marker.clone());
    let found = asked.fetch(&gate, Bucket::list_versions).await?;
    let owners = found.owners(face).await?;
    let owner = |item: &Listed| owners.get(&item.owner).cloned();
    let (markers, versions): (Vec<_>, Vec<_>) = found.items().partition(|item| item.is_marker);
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(gate.name().to_owned()),
        prefix: Some(found.spell(input.prefix.as_ref())),
        key_marker: Some(found.spell(input.key_marker.as_ref())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(found.limit),
        is_truncated: Some(found.page.is_truncated),
        delete_markers: Some(markers.into_iter().map(|item| found.marker(item, owner(item))).collect()),
        versions: Some(versions.into_iter().map(|item| found.version(item, owner(item))).collect()),
        common_prefixes: found.prefixes(),
        next_key_marker: found.next_key(),
        next_version_id_marker: found.next_id(),
        delimiter: found.delimiter,
        encoding_type: input.encoding_type,
        ..ListObjectVersionsOutput::default()
    }))
}

pub(crate) async fn list_uploads(
    face: &Face,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucketMultipartUploads", Some(Right::Read))?;
    let input = request.input;
    let asked = asked!(input, max_uploads, input.key_marker.clone(), input.upload_id_marker.clone());
    let found = asked.fetch(&gate, Bucket::list_uploads).await?;
    let owners = found.owners(face).await?;
    let uploads = found.items().map(|item| found.upload(item, owners.get(&item.owner).cloned()));
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(gate.name().to_owned()),
        prefix: Some(found.spell(input.prefix.as_ref())),
        key_marker: Some(found.spell(input.key_marker.as_ref())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(found.limit),
        is_truncated: Some(found.page.is_truncated),
        uploads: Some(uploads.collect()),
        common_prefixes: found.prefixes(),
        next_key_marker: found.next_key(),
        next_upload_id_marker: found.next_id(),
        delimiter: found.delimiter,
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    }))
}
