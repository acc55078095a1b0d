//! Storage pools.

use super::Config;
use crate::{Document, Key, PoolId, keys};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a pool is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolStatus {
    /// Being made; nobody was told of it.
    Creating,
    /// There.
    Created,
    /// On its way out; takes no new volumes.
    Deleting,
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// Its name.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// For people.
    pub description: String,
    /// Its keys.
    pub config: Config,
    /// Whether it is there.
    pub status: PoolStatus,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Document for Pool {
    const KIND: &'static str = "pool";

    fn key(&self) -> Key {
        keys::pool(self.id)
    }
}
