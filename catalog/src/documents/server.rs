//! The server's configuration, projects, warnings, and what is kept out of sight.

use super::{Config, Volume};
use crate::{Document, Key, keys};
use jiff::Timestamp;
use larder_base::{KeptId, ProjectName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Its keys.
    pub config: Config,
}

impl Document for ServerConfig {
    const KIND: &'static str = "server configuration";

    fn key(&self) -> Key {
        keys::server_config()
    }
}

/// A naming scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// For people.
    pub description: String,
    /// Its keys.
    pub config: Config,
}

impl Document for Project {
    const KIND: &'static str = "project";

    fn key(&self) -> Key {
        keys::project(&self.name)
    }
}

/// What became of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningStatus {
    /// Nobody has looked.
    New,
    /// Somebody has.
    Acknowledged,
    /// It no longer holds.
    Resolved,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Its id.
    pub id: Uuid,
    /// The project it concerns.
    pub project: String,
    /// What kind of trouble, in words.
    pub kind: String,
    /// `low`, `moderate` or `high`.
    pub severity: String,
    /// What became of it.
    pub status: WarningStatus,
    /// How often it came.
    pub count: u64,
    /// When it came first.
    pub first_seen: Timestamp,
    /// When it came last.
    pub last_seen: Timestamp,
    /// What was said last.
    pub last_message: String,
    /// The URL of what it is about.
    pub entity_url: String,
}

impl Document for Warning {
    const KIND: &'static str = "warning";

    fn key(&self) -> Key {
        keys::warning(self.id)
    }
}

/// A volume kept out of sight on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its id on the pool.
    pub id: KeptId,
    /// The volume as it was.
    pub volume: Volume,
    /// When it goes; `None` as long as something depends on it.
    pub until: Option<Timestamp>,
    /// Why it is kept.
    pub reason: String,
}

impl Document for Kept {
    const KIND: &'static str = "kept volume";

    fn key(&self) -> Key {
        keys::kept(self.id)
    }
}
