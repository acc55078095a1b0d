//! The S3 protocol over buckets.
