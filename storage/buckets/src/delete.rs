//! Deleting: markers, versions, locks.

use crate::bucket::{Bucket, publish, withdraw};
use crate::header::Header;
use crate::record::{Carrier, Home, Precondition, Record, Version, Versioning};
use crate::writer::Change;
use crate::{BucketError, NULL_VERSION, Result, rows};
use jiff::Timestamp;

/// What to delete.
#[derive(Debug, Clone, Default)]
pub struct Delete {
    /// The key.
    pub key: String,
    /// A version of it, for ever; without one the current object, which a versioned bucket keeps behind a marker.
    pub version: Option<String>,
    /// Whether a governance retention of the named version is lifted.
    pub may_bypass: bool,
    /// What must hold of the current object, or of the named version.
    pub precondition: Precondition,
    /// The owner of the marker that is made.
    pub owner: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deleted {
    /// The version that was deleted or the marker that was made.
    pub version: Option<String>,
    /// Whether that is a delete marker.
    pub is_marker: bool,
}

/// What is ready for the index when a marker is needed.
struct Marker {
    version: Version,
    header: String,
}

impl Bucket {
    /// Deletes. Deleting what isn't there succeeds, as in S3.
    pub fn delete(&self, delete: Delete) -> Result<Deleted> {
        let outcomes = self.delete_many(vec![delete])?;
        outcomes.into_iter().next().unwrap_or(Err(BucketError::Closed))
    }

    /// Deletes in one commit; each succeeds or fails by itself.
    pub fn delete_many(&self, deletes: Vec<Delete>) -> Result<Vec<Result<Deleted>>> {
        let now = self.clock.now();
        let versioning = self.versioning();
        let marker = |delete: &Delete| match (&delete.version, versioning) {
            (None, Versioning::Enabled | Versioning::Suspended) => self.marker(delete).map(Some),
            _ => Ok(None),
        };
        let prepared = deletes.into_iter().map(|delete| (marker(&delete), delete)).collect::<Vec<_>>();
        self.writer.commit(move |change| {
            let outcomes = prepared.iter().map(|(marker, delete)| match marker {
                Ok(marker) => delete_one(change, delete, marker.as_ref(), now),
                Err(BucketError::KeyLength(length)) => Err(BucketError::KeyLength(*length)),
                Err(error) => Err(BucketError::Damaged { what: error.to_string() }),
            });
            // A failure of the database itself must undo the whole: what it left of the change is unknown.
            outcomes
                .map(|outcome| match outcome {
                    Err(error @ BucketError::Index(_)) => Err(error),
                    other => Ok(other),
                })
                .collect()
        })
    }

    fn marker(&self, delete: &Delete) -> Result<Marker> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let carrier = Some(Carrier { id, home: Home::Small });
        let record = Record { owner: delete.owner.clone(), carrier, ..Record::default() };
        let version = Version { is_marker: true, ..self.new_version(&delete.key, record)? };
        let header = Header::Object(Box::new(version.clone())).to_json()?;
        Ok(Marker { version, header })
    }
}

fn delete_one(
    change: &mut Change<'_>,
    delete: &Delete,
    marker: Option<&Marker>,
    now: Timestamp,
) -> Result<Deleted> {
    match (&delete.version, marker) {
        (Some(id), _) => delete_version(change, delete, id, now),
        (None, Some(marker)) => {
            let is_there = rows::latest(change.index, &delete.key)?.is_some();
            if !is_there && delete.precondition != Precondition::default() {
                // Nothing fits the condition, and nothing is to be hidden.
                return Ok(Deleted::default());
            }
            delete.precondition.check_to_delete(rows::latest(change.index, &delete.key)?.as_ref())?;
            publish(change, &marker.version)?;
            if let Some(carrier) = &marker.version.record.carrier {
                change.effects.small.push((carrier.id.clone(), marker.header.clone(), Vec::new()));
            }
            Ok(Deleted { version: Some(marker.version.id.clone()), is_marker: true })
        }
        (None, None) => {
            delete.precondition.check_to_delete(rows::latest(change.index, &delete.key)?.as_ref())?;
            if let Some(version) = rows::by_id(change.index, &delete.key, NULL_VERSION)? {
                version.must_be_unlocked(now, false)?;
                withdraw(change, &version)?;
                rows::refresh_latest(change.index, &delete.key)?;
            }
            Ok(Deleted::default())
        }
    }
}

fn delete_version(change: &mut Change<'_>, delete: &Delete, id: &str, now: Timestamp) -> Result<Deleted> {
    let found = rows::by_id(change.index, &delete.key, id)?;
    delete.precondition.check_to_delete(found.as_ref())?;
    let Some(version) = found else {
        return Ok(Deleted { version: Some(id.to_owned()), is_marker: false });
    };
    if delete.precondition.is_noncurrent
        && rows::latest(change.index, &delete.key)?.is_some_and(|latest| latest.id == id)
    {
        return Err(BucketError::PreconditionFailed("it is the newest version again"));
    }
    version.must_be_unlocked(now, delete.may_bypass)?;
    withdraw(change, &version)?;
    rows::refresh_latest(change.index, &delete.key)?;
    Ok(Deleted { version: Some(id.to_owned()), is_marker: version.is_marker })
}
