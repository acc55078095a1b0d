//! Warnings: what a person should know and nobody asked for. One that comes again counts up.

use super::store::Store;
use super::{Result, Service, ServiceError};
use larder_base::Clock;
use larder_catalog::documents::{Pool, Volume, Warning, WarningStatus};
use std::sync::Arc;

/// What a warning is about, with the peers' severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarningType {
    /// A pool could not be opened or recovered, or does not answer.
    PoolUnavailable,
    /// Something is on a pool that the catalog does not know.
    Orphan,
    /// The catalog knows something that the pool has lost.
    Missing,
    /// A size is noted, but the filesystem can't enforce it.
    SizeNotEnforced,
    /// The kernel lacks AppArmor: containers start without a profile.
    AppArmorNotAvailable,
}

impl WarningType {
    /// The words in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PoolUnavailable => "Storage pool unavailable",
            Self::Orphan => "Unknown volume on storage pool",
            Self::Missing => "Volume missing from storage pool",
            Self::SizeNotEnforced => "Volume size not enforced",
            Self::AppArmorNotAvailable => "AppArmor support has been disabled",
        }
    }

    /// `low`, `moderate` or `high`.
    pub fn severity(self) -> &'static str {
        match self {
            Self::PoolUnavailable | Self::Missing => "high",
            Self::Orphan => "moderate",
            Self::SizeNotEnforced | Self::AppArmorNotAvailable => "low",
        }
    }
}

/// Writes warnings down.
#[derive(Debug, Clone)]
pub struct Warnings {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Warnings {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Notes a warning about `entity` (a URL); one of the same kind about the same thing counts up instead.
    pub fn note(&self, kind: WarningType, project: &str, entity: &str, message: &str) -> Result<()> {
        let now = self.clock.now();
        let known = self.store.warnings()?.into_iter().find(|warning| {
            warning.kind == kind.as_str() && warning.entity_url == entity && warning.project == project
        });
        let warning = match known {
            Some(warning) => Warning {
                count: warning.count + 1,
                last_seen: now,
                last_message: message.to_owned(),
                status: match warning.status {
                    WarningStatus::Resolved => WarningStatus::New,
                    other => other,
                },
                ..warning
            },
            None => Warning {
                id: uuid::Uuid::new_v4(),
                project: project.to_owned(),
                kind: kind.as_str().to_owned(),
                severity: kind.severity().to_owned(),
                status: WarningStatus::New,
                count: 1,
                first_seen: now,
                last_seen: now,
                last_message: message.to_owned(),
                entity_url: entity.to_owned(),
            },
        };
        self.store.put_warning(&warning)
    }

    /// Marks warnings of a kind about an entity as resolved.
    pub fn resolve(&self, kind: WarningType, entity: &str) -> Result<()> {
        for warning in self.store.warnings()? {
            let is_it = warning.kind == kind.as_str() && warning.entity_url == entity;
            if is_it && warning.status != WarningStatus::Resolved {
                self.store.put_warning(&Warning { status: WarningStatus::Resolved, ..warning })?;
            }
        }
        Ok(())
    }

    pub(super) fn note_unenforced_size(&self, pool: &Pool, volume: &Volume) -> Result<()> {
        let url = format!("/1.0/storage-pools/{}", pool.name);
        let message = format!(
            "the size of volume {} is not enforced: the filesystem below pool {} has no project quotas",
            volume.name, pool.name
        );
        self.note(WarningType::SizeNotEnforced, volume.project.as_str(), &url, &message)
    }
}

impl Service {
    /// One warning.
    pub fn warning(&self, id: &str) -> Result<Warning> {
        let found = self.store.warnings()?.into_iter().find(|warning| warning.id.to_string() == id);
        found.ok_or_else(|| ServiceError::not_found(format!("warning {id}")))
    }

    /// All warnings.
    pub fn all_warnings(&self) -> Result<Vec<Warning>> {
        self.store.warnings()
    }

    /// Sets a warning's status to `new` or `acknowledged`.
    pub fn set_warning_status(&self, id: &str, status: &str) -> Result<()> {
        let status = match status {
            "new" => WarningStatus::New,
            "acknowledged" => WarningStatus::Acknowledged,
            other => {
                return Err(ServiceError::bad(format!(
                    "invalid status {other:?}: it must be new or acknowledged"
                )));
            }
        };
        let warning = self.warning(id)?;
        self.store.put_warning(&Warning { status, ..warning })
    }

    /// Forgets a warning.
    pub fn delete_warning(&self, id: &str) -> Result<()> {
        let warning = self.warning(id)?;
        self.store.remove_warning(&warning)
    }
}
