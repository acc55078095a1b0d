//! Storage accounts, which the peers do not have: S3 users with buckets of their own.

use jiff::Timestamp;

wire! {
    /// A storage account.
    pub struct StorageAccount {
        /// Its name.
        pub name: String,
        /// The canonical user id that S3 shows.
        pub id: String,
        /// What S3 shows as the owner of things.
        pub display_name: String,
        /// Its e-mail address, or nothing.
        pub email: String,
        /// The pool in which its buckets are made.
        pub pool: String,
        /// How many bytes all of its buckets may hold together, as a size such as `10GiB`; empty without a limit.
        pub quota: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// Its access keys.
        pub access_keys: Vec<String>,
        /// URLs of its buckets.
        pub used_by: Vec<String>,
    }

    /// A new storage account. An empty access key or secret key is made up.
    pub struct StorageAccountsPost {
        /// Its name.
        pub name: String,
        /// What S3 shows as the owner of things; the name when empty.
        pub display_name: String,
        /// Its e-mail address, or nothing.
        pub email: String,
        /// The pool in which its buckets are made.
        pub pool: String,
        /// How many bytes all of its buckets may hold together; empty without a limit.
        pub quota: String,
        /// The access key of its first key pair.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key of its first key pair.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
    }

    /// What can be changed of a storage account.
    pub struct StorageAccountPut {
        /// What S3 shows as the owner of things; the name when empty.
        pub display_name: String,
        /// Its e-mail address, or nothing.
        pub email: String,
        /// The pool in which its buckets are made.
        pub pool: String,
        /// How many bytes all of its buckets may hold together; empty without a limit.
        pub quota: String,
    }

    /// A key pair of a storage account.
    pub struct StorageAccountKey {
        /// The access key.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
        /// When it was made.
        pub created_at: Timestamp,
        /// Whether it opens the buckets of `grants` alone instead of acting for its account.
        pub restricted: bool,
        /// The buckets that it opens then, whoever owns them.
        pub grants: Vec<StorageAccountGrant>,
    }

    /// A new key pair. An empty access key or secret key is made up.
    pub struct StorageAccountKeysPost {
        /// The access key.
        #[serde(rename = "access-key")]
        pub access_key: String,
        /// The secret key.
        #[serde(rename = "secret-key")]
        pub secret_key: String,
    }

    /// What can be changed of a key pair.
    pub struct StorageAccountKeyPut {
        /// Whether it opens the buckets of `grants` alone instead of acting for its account.
        pub restricted: bool,
        /// The buckets that it opens then, all of them.
        pub grants: Vec<StorageAccountGrant>,
    }

    /// A bucket that a restricted key pair opens.
    pub struct StorageAccountGrant {
        /// The bucket's name, which is unique over the server.
        pub bucket: String,
        /// `admin`, or `read-only` (also when empty).
        pub role: String,
    }
}
