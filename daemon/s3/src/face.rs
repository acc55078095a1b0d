//! The face: which operation is done where. What isn't named here is answered with `NotImplemented`.

use crate::directory::Directory;
use crate::limits::Patience;
use crate::replay::Repeats;
use crate::settings::SettingsCache;
use crate::{bucket_access, buckets, config, copy, delete, lists, multipart, objects, properties, read};
use jiff::SignedDuration;
use s3s::dto;
use s3s::{S3, S3Request, S3Response, S3Result};
use std::sync::Arc;

/// How the endpoint behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a day of a lifecycle lasts; shorter ones are for trying rules out.
    pub day: SignedDuration,
    /// The regions a client may name when it makes a bucket; the first is ours.
    pub regions: Vec<String>,
    /// Names of this endpoint below which a label is a bucket (`bucket.s3.example.net`); none for paths only.
    pub domains: Vec<String>,
    /// Buckets an account may make.
    pub buckets_per_account: usize,
    /// Requests of one key that are answered at the same time; more wait no longer than it takes to refuse them.
    pub requests_per_key: usize,
    /// Connections from one address (of one network, with IPv6) that are open at the same time; more are closed at once.
    pub connections_per_address: usize,
    /// How long a client is waited for.
    pub patience: Patience,
    /// What becomes of a signature by header that comes again soon.
    pub repeats: Repeats,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            day: SignedDuration::from_hours(24),
            regions: vec!["us-east-1".to_owned()],
            domains: Vec::new(),
            buckets_per_account: 1000,
            requests_per_key: 256,
            connections_per_address: 1024,
            patience: Patience::default(),
            repeats: Repeats::default(),
        }
    }
}

/// S3 over the buckets of a directory.
#[derive(Debug, Clone)]
pub struct Face {
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) settings: Arc<SettingsCache>,
    pub(crate) options: Arc<Options>,
}

impl Face {
    /// A face over a directory.
    pub fn new(directory: Arc<dyn Directory>, options: Options) -> Self {
        Self { directory, settings: Arc::default(), options: Arc::new(options) }
    }

    /// The same with other options. What one changes in a bucket's settings the other knows.
    pub(crate) fn with_options(&self, options: Options) -> Self {
        Self { options: Arc::new(options), ..self.clone() }
    }
}

/// Makes the table below the protocol layer's trait.
macro_rules! operations {
    ($($name:ident: $input:ident -> $output:ident = $module:ident::$function:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Face {
            $(async fn $name(
                &self,
                request: S3Request<dto::$input>,
            ) -> S3Result<S3Response<dto::$output>> {
                $module::$function(self, request).await
            })*
        }
    };
}

operations! {
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput = multipart::abort;
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput = multipart::complete;
    copy_object: CopyObjectInput -> CopyObjectOutput = copy::copy;
    create_bucket: CreateBucketInput -> CreateBucketOutput = buckets::create;
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput = multipart::create;
    delete_bucket: DeleteBucketInput -> DeleteBucketOutput = buckets::delete;
    delete_bucket_cors: DeleteBucketCorsInput -> DeleteBucketCorsOutput = config::delete_cors;
    delete_bucket_lifecycle: DeleteBucketLifecycleInput -> DeleteBucketLifecycleOutput = config::delete_lifecycle;
    delete_bucket_ownership_controls: DeleteBucketOwnershipControlsInput -> DeleteBucketOwnershipControlsOutput = bucket_access::delete_ownership;
    delete_bucket_policy: DeleteBucketPolicyInput -> DeleteBucketPolicyOutput = bucket_access::delete_policy;
    delete_bucket_tagging: DeleteBucketTaggingInput -> DeleteBucketTaggingOutput = config::delete_tags;
    delete_object: DeleteObjectInput -> DeleteObjectOutput = delete::delete;
    delete_object_tagging: DeleteObjectTaggingInput -> DeleteObjectTaggingOutput = properties::delete_tags;
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput = delete::delete_many;
    delete_public_access_block: DeletePublicAccessBlockInput -> DeletePublicAccessBlockOutput = bucket_access::delete_public_access;
    get_bucket_acl: GetBucketAclInput -> GetBucketAclOutput = bucket_access::get_acl;
    get_bucket_cors: GetBucketCorsInput -> GetBucketCorsOutput = config::get_cors;
    get_bucket_encryption: GetBucketEncryptionInput -> GetBucketEncryptionOutput = config::get_encryption;
    get_bucket_lifecycle_configuration: GetBucketLifecycleConfigurationInput -> GetBucketLifecycleConfigurationOutput = config::get_lifecycle;
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput = buckets::location;
    get_bucket_logging: GetBucketLoggingInput -> GetBucketLoggingOutput = config::get_logging;
    get_bucket_notification_configuration: GetBucketNotificationConfigurationInput -> GetBucketNotificationConfigurationOutput = config::get_notification;
    get_bucket_ownership_controls: GetBucketOwnershipControlsInput -> GetBucketOwnershipControlsOutput = bucket_access::get_ownership;
    get_bucket_policy: GetBucketPolicyInput -> GetBucketPolicyOutput = bucket_access::get_policy;
    get_bucket_policy_status: GetBucketPolicyStatusInput -> GetBucketPolicyStatusOutput = bucket_access::policy_status;
    get_bucket_request_payment: GetBucketRequestPaymentInput -> GetBucketRequestPaymentOutput = buckets::request_payment;
    get_bucket_tagging: GetBucketTaggingInput -> GetBucketTaggingOutput = config::get_tags;
    get_bucket_versioning: GetBucketVersioningInput -> GetBucketVersioningOutput = buckets::get_versioning;
    get_bucket_website: GetBucketWebsiteInput -> GetBucketWebsiteOutput = config::get_website;
    get_object: GetObjectInput -> GetObjectOutput = read::get;
    get_object_acl: GetObjectAclInput -> GetObjectAclOutput = properties::get_acl;
    get_object_attributes: GetObjectAttributesInput -> GetObjectAttributesOutput = properties::attributes;
    get_object_legal_hold: GetObjectLegalHoldInput -> GetObjectLegalHoldOutput = properties::get_legal_hold;
    get_object_lock_configuration: GetObjectLockConfigurationInput -> GetObjectLockConfigurationOutput = config::get_object_lock;
    get_object_retention: GetObjectRetentionInput -> GetObjectRetentionOutput = properties::get_retention;
    get_object_tagging: GetObjectTaggingInput -> GetObjectTaggingOutput = properties::get_tags;
    get_public_access_block: GetPublicAccessBlockInput -> GetPublicAccessBlockOutput = bucket_access::get_public_access;
    get_object_torrent: GetObjectTorrentInput -> GetObjectTorrentOutput = properties::torrent;
    head_bucket: HeadBucketInput -> HeadBucketOutput = buckets::head;
    head_object: HeadObjectInput -> HeadObjectOutput = read::head;
    list_buckets: ListBucketsInput -> ListBucketsOutput = buckets::list;
    list_multipart_uploads: ListMultipartUploadsInput -> ListMultipartUploadsOutput = lists::list_uploads;
    list_object_versions: ListObjectVersionsInput -> ListObjectVersionsOutput = lists::list_versions;
    list_objects: ListObjectsInput -> ListObjectsOutput = lists::list;
    list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output = lists::list_v2;
    list_parts: ListPartsInput -> ListPartsOutput = multipart::list_parts;
    put_bucket_acl: PutBucketAclInput -> PutBucketAclOutput = bucket_access::put_acl;
    put_bucket_cors: PutBucketCorsInput -> PutBucketCorsOutput = config::put_cors;
    put_bucket_lifecycle_configuration: PutBucketLifecycleConfigurationInput -> PutBucketLifecycleConfigurationOutput = config::put_lifecycle;
    put_bucket_ownership_controls: PutBucketOwnershipControlsInput -> PutBucketOwnershipControlsOutput = bucket_access::put_ownership;
    put_bucket_policy: PutBucketPolicyInput -> PutBucketPolicyOutput = bucket_access::put_policy;
    put_bucket_tagging: PutBucketTaggingInput -> PutBucketTaggingOutput = config::put_tags;
    put_bucket_versioning: PutBucketVersioningInput -> PutBucketVersioningOutput = buckets::put_versioning;
    put_object: PutObjectInput -> PutObjectOutput = objects::put;
    put_object_acl: PutObjectAclInput -> PutObjectAclOutput = properties::put_acl;
    put_object_legal_hold: PutObjectLegalHoldInput -> PutObjectLegalHoldOutput = properties::put_legal_hold;
    put_object_lock_configuration: PutObjectLockConfigurationInput -> PutObjectLockConfigurationOutput = config::put_object_lock;
    put_object_retention: PutObjectRetentionInput -> PutObjectRetentionOutput = properties::put_retention;
    put_object_tagging: PutObjectTaggingInput -> PutObjectTaggingOutput = properties::put_tags;
    put_public_access_block: PutPublicAccessBlockInput -> PutPublicAccessBlockOutput = bucket_access::put_public_access;
    upload_part: UploadPartInput -> UploadPartOutput = multipart::put_part;
    upload_part_copy: UploadPartCopyInput -> UploadPartCopyOutput = copy::copy_part;
}
