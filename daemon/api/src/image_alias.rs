//! Movable names of images.

wire! {
    /// A name, as an image lists it and as a request gives it.
    pub struct ImageAlias {
        /// The name.
        pub name: String,
        /// For people.
        pub description: String,
    }

    /// A name and what it points to.
    pub struct ImageAliasesEntry {
        /// For people.
        pub description: String,
        /// The image's fingerprint.
        pub target: String,
        /// The name.
        pub name: String,
        /// The image's type: `container` or `virtual-machine`.
        #[serde(rename = "type")]
        pub kind: String,
    }

    /// A new name.
    pub struct ImageAliasesPost {
        /// For people.
        pub description: String,
        /// The image's fingerprint.
        pub target: String,
        /// The name.
        pub name: String,
        /// What the client takes the image's type for; the image knows better.
        #[serde(rename = "type", skip_serializing_if = "crate::wire::is_absent")]
        pub kind: String,
    }

    /// What can be changed of a name.
    pub struct ImageAliasesEntryPut {
        /// For people.
        pub description: String,
        /// The image's fingerprint.
        pub target: String,
    }

    /// Another name.
    pub struct ImageAliasesEntryPost {
        /// The new name.
        pub name: String,
    }
}
