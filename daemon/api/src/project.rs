//! Projects.

use crate::Config;
use std::collections::BTreeMap;

wire! {
    /// A project.
    pub struct Project {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
        /// URLs of what is in it.
        pub used_by: Vec<String>,
    }

    /// A new project.
    pub struct ProjectsPost {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
        /// Its name.
        pub name: String,
    }

    /// What can be changed of a project.
    pub struct ProjectPut {
        /// Its keys.
        pub config: Config,
        /// For people.
        pub description: String,
    }

    /// A project's new name.
    pub struct ProjectPost {
        /// The new name.
        pub name: String,
    }

    /// What a project uses.
    pub struct ProjectState {
        /// Its use of each resource, such as `instances` or `disk`.
        pub resources: BTreeMap<String, ProjectStateResource>,
    }

    /// The use of one resource. Its fields are written with capitals.
    pub struct ProjectStateResource {
        /// The most there may be; -1 for no limit.
        #[serde(rename = "Limit")]
        pub limit: i64,
        /// What is used.
        #[serde(rename = "Usage")]
        pub usage: i64,
    }
}
