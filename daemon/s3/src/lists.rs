//! Lists of objects, versions and uploads.

use crate::Face;
use crate::acl::Right;
use crate::directory::IdentityName;
use crate::gate::Gate;
use crate::support::{blocking, etag, signed, time, unavailable};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use larder_storage_buckets::{Entry, Listed, Page, Query};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, DeleteMarkerEntry, EncodingType, Initiator,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, MultipartUpload, Object,
    ObjectStorageClass, ObjectVersion, ObjectVersionStorageClass, Owner, StorageClass,
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

fn count(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0)
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

    fn optional(self, text: Option<&String>) -> Option<String> {
        text.map(|text| self.spell(text))
    }
}

/// Who stands behind a canonical id.
pub(crate) async fn owner_of(face: &Face, id: &str) -> S3Result<Owner> {
    let found = face.directory.identity(IdentityName::Id(id)).await.map_err(unavailable)?;
    let display_name = found.map_or_else(|| id.to_owned(), |identity| identity.display_name);
    Ok(Owner { display_name: Some(display_name), id: Some(id.to_owned()) })
}

/// The owners of a page's entries.
async fn owners_of(face: &Face, page: &Page) -> S3Result<HashMap<String, Owner>> {
    let mut owners = HashMap::new();
    for entry in &page.entries {
        if let Entry::Item(item) = entry
            && !owners.contains_key(&item.owner)
        {
            owners.insert(item.owner.clone(), owner_of(face, &item.owner).await?);
        }
    }
    Ok(owners)
}

fn prefixes(page: &Page, spelling: Spelling) -> Option<Vec<CommonPrefix>> {
    let found = page.entries.iter().filter_map(|entry| match entry {
        Entry::Prefix(prefix) => Some(CommonPrefix { prefix: Some(spelling.spell(prefix)) }),
        Entry::Item(_) => None,
    });
    Some(found.collect::<Vec<_>>()).filter(|found| !found.is_empty())
}

fn items(page: &Page) -> impl Iterator<Item = &Listed> {
    page.entries.iter().filter_map(|entry| match entry {
        Entry::Item(item) => Some(item),
        Entry::Prefix(_) => None,
    })
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

fn object(item: &Listed, owner: Option<Owner>, spelling: Spelling) -> Object {
    let (checksum_algorithm, checksum_type) = checksum_of(item);
    let class = item.class.clone().map(ObjectStorageClass::from);
    Object {
        checksum_algorithm,
        checksum_type,
        e_tag: Some(etag(&item.etag)),
        key: Some(spelling.spell(&item.key)),
        last_modified: Some(time(item.modified)),
        owner,
        restore_status: None,
        size: Some(signed(item.size)),
        storage_class: class.or_else(|| Some(ObjectStorageClass::from_static("STANDARD"))),
    }
}

/// Lists current objects; nothing at all for a limit of none.
async fn listed(gate: &Gate, query: Query) -> S3Result<Page> {
    if query.limit == 0 {
        return Ok(Page::default());
    }
    let bucket = gate.bucket();
    blocking(move || bucket.list(&query)).await
}

/// Where a list that was cut goes on.
fn next_of(page: &Page) -> Option<&str> {
    page.entries.last().filter(|_| page.is_truncated).map(Entry::key)
}

pub(crate) async fn list(
    face: &Face,
    request: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let gate = Gate::enter(face, &request, &request.input.bucket).await?;
    gate.bucket_action("s3:ListBucket", Some(Right::Read))?;
    let input = request.input;
    let limit = limit(input.max_keys)?;
    let spelling = Spelling::of(input.encoding_type.as_ref())?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after: input.marker.clone().filter(|marker| !marker.is_empty()),
        after_id: None,
        limit: count(limit),
    };
    let page = listed(&gate, query).await?;
    let owners = owners_of(face, &page).await?;
    let contents =
        items(&page).map(|item| object(item, owners.get(&item.owner).cloned(), spelling)).collect();
    let has_delimiter = input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty());
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(gate.name().to_owned()),
        // The first version of the list leaves it as it came: its clients don't decode it.
        prefix: Some(input.prefix.clone().unwrap_or_default()),
        marker: Some(spelling.spell(input.marker.as_deref().unwrap_or_default())),
        max_keys: Some(limit),
        is_truncated: Some(page.is_truncated),
        contents: Some(contents),
        common_prefixes: prefixes(&page, spelling),
        delimiter: spelling.optional(input.delimiter.as_ref().filter(|delimiter| !delimiter.is_empty())),
        // Without a delimiter the last key says where to go on.
        next_marker: next_of(&page).filter(|_| has_delimiter).map(|next| spelling.spell(next)),
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
    let limit = limit(input.max_keys)?;
    let spelling = Spelling::of(input.encoding_type.as_ref())?;
    let token = input.continuation_token.as_deref().filter(|token| !token.is_empty());
    let after = match token {
        Some(token) => Some(from_token(token)?),
        None => input.start_after.clone().filter(|start| !start.is_empty()),
    };
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after,
        after_id: None,
        limit: count(limit),
    };
    let page = listed(&gate, query).await?;
    let owners = match input.fetch_owner {
        Some(true) => owners_of(face, &page).await?,
        _ => HashMap::new(),
    };
    let contents =
        items(&page).map(|item| object(item, owners.get(&item.owner).cloned(), spelling)).collect();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(gate.name().to_owned()),
        prefix: Some(spelling.spell(input.prefix.as_deref().unwrap_or_default())),
        max_keys: Some(limit),
        key_count: i32::try_from(page.entries.len()).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(page.is_truncated),
        next_continuation_token: next_of(&page).map(to_token),
        contents: Some(contents),
        common_prefixes: prefixes(&page, spelling),
        delimiter: spelling.optional(input.delimiter.as_ref().filter(|delimiter| !delimiter.is_empty())),
        encoding_type: input.encoding_type,
        start_after: spelling.optional(input.start_after.as_ref()),
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
    let limit = limit(input.max_keys)?;
    let spelling = Spelling::of(input.encoding_type.as_ref())?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
        after_id: input.version_id_marker.clone().filter(|marker| !marker.is_empty()),
        limit: count(limit),
    };
    let bucket = gate.bucket();
    let page = match query.limit {
        0 => Page::default(),
        _ => blocking(move || bucket.list_versions(&query)).await?,
    };
    let owners = owners_of(face, &page).await?;
    let owner = |item: &Listed| owners.get(&item.owner).cloned();
    let markers = items(&page).filter(|item| item.is_marker).map(|item| DeleteMarkerEntry {
        is_latest: Some(item.is_latest),
        key: Some(spelling.spell(&item.key)),
        last_modified: Some(time(item.modified)),
        owner: owner(item),
        version_id: Some(item.id.clone()),
    });
    let versions = items(&page).filter(|item| !item.is_marker).map(|item| {
        let (checksum_algorithm, checksum_type) = checksum_of(item);
        let class = item.class.clone().map(ObjectVersionStorageClass::from);
        ObjectVersion {
            checksum_algorithm,
            checksum_type,
            e_tag: Some(etag(&item.etag)),
            is_latest: Some(item.is_latest),
            key: Some(spelling.spell(&item.key)),
            last_modified: Some(time(item.modified)),
            owner: owner(item),
            restore_status: None,
            size: Some(signed(item.size)),
            storage_class: class.or_else(|| Some(ObjectVersionStorageClass::from_static("STANDARD"))),
            version_id: Some(item.id.clone()),
        }
    });
    let last = page.entries.last().filter(|_| page.is_truncated);
    Ok(S3Response::new(ListObjectVersionsOutput {
        name: Some(gate.name().to_owned()),
        prefix: Some(spelling.spell(input.prefix.as_deref().unwrap_or_default())),
        key_marker: Some(spelling.spell(input.key_marker.as_deref().unwrap_or_default())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        max_keys: Some(limit),
        is_truncated: Some(page.is_truncated),
        delete_markers: Some(markers.collect()),
        versions: Some(versions.collect()),
        common_prefixes: prefixes(&page, spelling),
        delimiter: spelling.optional(input.delimiter.as_ref().filter(|delimiter| !delimiter.is_empty())),
        next_key_marker: last.map(|entry| spelling.spell(entry.key())),
        next_version_id_marker: last.and_then(|entry| match entry {
            Entry::Item(item) => Some(item.id.clone()),
            Entry::Prefix(_) => None,
        }),
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
    let limit = limit(input.max_uploads)?;
    let spelling = Spelling::of(input.encoding_type.as_ref())?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone().unwrap_or_default(),
        after: input.key_marker.clone().filter(|marker| !marker.is_empty()),
        after_id: input.upload_id_marker.clone().filter(|marker| !marker.is_empty()),
        limit: count(limit),
    };
    let bucket = gate.bucket();
    let page = match query.limit {
        0 => Page::default(),
        _ => blocking(move || bucket.list_uploads(&query)).await?,
    };
    let owners = owners_of(face, &page).await?;
    let uploads = items(&page).map(|item| {
        let owner = owners.get(&item.owner).cloned();
        let (algorithm, checksum_type) = checksum_of(item);
        MultipartUpload {
            checksum_algorithm: algorithm.and_then(|known| known.into_iter().next()),
            checksum_type,
            initiated: Some(time(item.modified)),
            initiator: owner
                .clone()
                .map(|owner| Initiator { display_name: owner.display_name, id: owner.id }),
            key: Some(spelling.spell(&item.key)),
            owner,
            storage_class: Some(
                item.class.clone().map_or_else(|| StorageClass::from_static("STANDARD"), StorageClass::from),
            ),
            upload_id: Some(item.id.clone()),
        }
    });
    let last = page.entries.last().filter(|_| page.is_truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(gate.name().to_owned()),
        prefix: Some(spelling.spell(input.prefix.as_deref().unwrap_or_default())),
        key_marker: Some(spelling.spell(input.key_marker.as_deref().unwrap_or_default())),
        upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
        max_uploads: Some(limit),
        is_truncated: Some(page.is_truncated),
        uploads: Some(uploads.collect()),
        common_prefixes: prefixes(&page, spelling),
        delimiter: spelling.optional(input.delimiter.as_ref().filter(|delimiter| !delimiter.is_empty())),
        next_key_marker: last.map(|entry| spelling.spell(entry.key())),
        next_upload_id_marker: last.and_then(|entry| match entry {
            Entry::Item(item) => Some(item.id.clone()),
            Entry::Prefix(_) => None,
        }),
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    }))
}
