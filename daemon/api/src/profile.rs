//! Profiles.

use crate::{Config, Devices};

wire! {
    /// Keys and devices that instances share.
    pub struct Profile {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its devices.
        pub devices: Devices,
        /// Its name.
        pub name: String,
        /// URLs of the instances that have it.
        pub used_by: Vec<String>,
        /// Its project.
        pub project: String,
    }

    /// A new profile.
    pub struct ProfilesPost {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its devices.
        pub devices: Devices,
        /// Its name.
        pub name: String,
    }

    /// What can be changed of a profile.
    pub struct ProfilePut {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its devices.
        pub devices: Devices,
    }

    /// A profile's new name.
    pub struct ProfilePost {
        /// The new name.
        pub name: String,
    }
}
