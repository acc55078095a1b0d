//! The actions that a bucket policy may name: those of S3 on buckets and objects, by the service's own reference, be they done
//! here or not. What is written wrongly would allow or deny nothing.

use crate::policy_condition::matches_pattern;

const ACTIONS: &str = "AbortMultipartUpload BypassGovernanceRetention CreateBucket DeleteBucket DeleteBucketOwnershipControls \
    DeleteBucketPolicy DeleteBucketWebsite DeleteObject DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging \
    GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging \
    GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus \
    GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite \
    GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration \
    GetMetricsConfiguration GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging \
    GetObjectTorrent GetObjectVersion GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionForReplication \
    GetObjectVersionTagging GetObjectVersionTorrent GetReplicationConfiguration InitiateReplication ListBucket \
    ListBucketMultipartUploads ListBucketVersions ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner \
    PutAccelerateConfiguration PutAnalyticsConfiguration PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification \
    PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock \
    PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration \
    PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration PutObject \
    PutObjectAcl PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging \
    PutReplicationConfiguration ReplicateDelete ReplicateObject ReplicateTags RestoreObject";

/// Whether a pattern, in any case, is that of an action.
pub(crate) fn is_known(pattern: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let pattern = pattern.to_ascii_lowercase();
    let Some(pattern) = pattern.strip_prefix("s3:") else { return false };
    ACTIONS.split_ascii_whitespace().any(|action| matches_pattern(pattern, &action.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_wrongly_is_known_as_that() {
        for known in ["*", "s3:*", "s3:Get*", "s3:getobject", "S3:PutObject", "s3:?etObject"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["", "s3:", "s3:GetObjet", "s3:Got*", "iam:*", "GetObject", "s3:GetObject "] {
            assert!(!is_known(unknown), "{unknown}");
        }
    }
}
