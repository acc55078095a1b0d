//! Storage pools.

use crate::Config;

wire! {
    /// A storage pool.
    pub struct StoragePool {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// The technology.
        pub driver: String,
        /// URLs of what is in it or refers to it.
        pub used_by: Vec<String>,
        /// `Pending`, `Created`, `Errored`, `Unavailable` or `Unknown`.
        pub status: String,
        /// The members that have it.
        pub locations: Vec<String>,
    }

    /// A new storage pool.
    pub struct StoragePoolsPost {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// The technology.
        pub driver: String,
    }

    /// What can be changed of a storage pool.
    pub struct StoragePoolPut {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
    }

    /// How full a storage pool is.
    pub struct ResourcesStoragePool {
        /// Bytes.
        pub space: Usage,
        /// Files, where the filesystem counts them.
        pub inodes: Usage,
    }

    /// How much there is of something.
    pub struct Usage {
        /// In use.
        pub used: u64,
        /// All there is.
        pub total: u64,
    }
}
