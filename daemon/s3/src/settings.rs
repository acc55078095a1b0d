//! A bucket's settings as the endpoint keeps them: documents in the XML (or JSON) that S3 defines, parsed once.

use crate::acl::Acl;
use crate::policy::Policy;
use crate::support::blocking;
use larder_storage_buckets::{Bucket, BucketError};
use parking_lot::Mutex;
use s3s::dto::{
    BucketLifecycleConfiguration, CORSConfiguration, ObjectLockConfiguration, OwnershipControls,
    PublicAccessBlockConfiguration, Tagging,
};
use s3s::{S3Result, xml};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

pub(crate) const ACL: &str = "acl";
pub(crate) const CORS: &str = "cors";
pub(crate) const LIFECYCLE: &str = "lifecycle";
pub(crate) const OBJECT_LOCK: &str = "object-lock";
pub(crate) const OWNERSHIP: &str = "ownership";
pub(crate) const POLICY: &str = "policy";
pub(crate) const PUBLIC_ACCESS: &str = "public-access-block";
pub(crate) const REGION: &str = "region";
pub(crate) const TAGS: &str = "tags";

/// The settings of a bucket.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) acl: Option<Acl>,
    pub(crate) cors: Option<CORSConfiguration>,
    pub(crate) lifecycle: Option<BucketLifecycleConfiguration>,
    pub(crate) object_lock: Option<ObjectLockConfiguration>,
    pub(crate) ownership: Option<OwnershipControls>,
    pub(crate) policy_text: Option<String>,
    pub(crate) policy: Option<Policy>,
    pub(crate) public_access: Option<PublicAccessBlockConfiguration>,
    /// The region the bucket was asked to be in.
    pub(crate) region: Option<String>,
    pub(crate) tags: Option<Tagging>,
}

impl Settings {
    fn load(name: &str, bucket: &Bucket) -> Result<Self, BucketError> {
        let stored = bucket.settings()?;
        let text = |setting: &str| stored.get(setting).map(String::as_str);
        let policy = text(POLICY).map(|policy| {
            Policy::parse(policy, name).unwrap_or_else(|error| {
                tracing::error!(bucket = name, %error, "a stored policy is not understood: nobody may do anything, its owner may set another");
                Policy::refusing()
            })
        });
        Ok(Self {
            acl: text(ACL).and_then(Acl::from_json),
            cors: text(CORS).map(from_xml).transpose()?,
            lifecycle: text(LIFECYCLE).map(from_xml).transpose()?,
            object_lock: text(OBJECT_LOCK).map(from_xml).transpose()?,
            ownership: text(OWNERSHIP).map(from_xml).transpose()?,
            policy_text: text(POLICY).map(str::to_owned),
            policy,
            public_access: text(PUBLIC_ACCESS).map(from_xml).transpose()?,
            region: text(REGION).map(str::to_owned),
            tags: text(TAGS).map(from_xml).transpose()?,
        })
    }

    /// Who owns what others put, as S3 spells it.
    pub(crate) fn ownership(&self) -> &str {
        let rule = self.ownership.as_ref().and_then(|ownership| ownership.rules.first());
        rule.map_or("ObjectWriter", |rule| rule.object_ownership.as_str())
    }

    /// Whether access control lists count for nothing.
    pub(crate) fn acls_are_off(&self) -> bool {
        self.ownership() == "BucketOwnerEnforced"
    }

    /// Whether object lock is on.
    pub(crate) fn has_object_lock(&self) -> bool {
        self.object_lock.is_some()
    }

    pub(crate) fn public_access(&self, of: impl Fn(&PublicAccessBlockConfiguration) -> Option<bool>) -> bool {
        self.public_access.as_ref().and_then(of).unwrap_or(false)
    }
}

fn damaged(why: &str) -> BucketError {
    BucketError::Damaged { what: format!("a stored setting ({why})") }
}

/// A document as XML.
pub(crate) fn to_xml<T: xml::Serialize>(document: &T) -> Result<String, BucketError> {
    let mut bytes = Vec::new();
    let mut serializer = xml::Serializer::new(&mut bytes);
    document.serialize(&mut serializer).map_err(|error| damaged(&error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| damaged(&error.to_string()))
}

fn from_xml<T: for<'xml> xml::Deserialize<'xml>>(text: &str) -> Result<T, BucketError> {
    let mut deserializer = xml::Deserializer::new(text.as_bytes());
    T::deserialize(&mut deserializer).map_err(|error| damaged(&error.to_string()))
}

/// Settings, and the bucket they are of.
type Known = (Weak<Bucket>, Arc<Settings>);

/// The settings of buckets that were asked for, until they change.
#[derive(Debug, Default)]
pub(crate) struct SettingsCache {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<String, Known>,
    /// How often settings changed: what was read before a change isn't kept after it.
    changes: u64,
}

impl SettingsCache {
    /// The settings of a bucket. Only who asks first after they changed waits for them to be read.
    pub(crate) async fn of(self: &Arc<Self>, name: &str, bucket: &Arc<Bucket>) -> S3Result<Arc<Settings>> {
        if let Some(settings) = self.recall(name, bucket) {
            return Ok(settings);
        }
        let (cache, name, bucket) = (Arc::clone(self), name.to_owned(), Arc::clone(bucket));
        blocking(move || cache.load(name, &bucket)).await
    }

    /// The same for who may block.
    pub(crate) fn of_blocking(&self, name: &str, bucket: &Arc<Bucket>) -> Result<Arc<Settings>, BucketError> {
        self.recall(name, bucket).map_or_else(|| self.load(name.to_owned(), bucket), Ok)
    }

    fn recall(&self, name: &str, bucket: &Arc<Bucket>) -> Option<Arc<Settings>> {
        let memory = self.memory.lock();
        let (of, settings) = memory.known.get(name)?;
        (of.as_ptr() == Arc::as_ptr(bucket)).then(|| Arc::clone(settings))
    }

    fn load(&self, name: String, bucket: &Arc<Bucket>) -> Result<Arc<Settings>, BucketError> {
        let changes = self.memory.lock().changes;
        let settings = Arc::new(Settings::load(&name, bucket)?);
        let entry = (Arc::downgrade(bucket), Arc::clone(&settings));
        let mut memory = self.memory.lock();
        if memory.changes == changes {
            memory.known.insert(name, entry);
        }
        Ok(settings)
    }

    /// The bucket's settings changed.
    pub(crate) fn forget(&self, name: &str) {
        let mut memory = self.memory.lock();
        memory.changes += 1;
        memory.known.remove(name);
    }
}
