//! Certificates: who is trusted.

wire! {
    /// A trusted certificate.
    pub struct Certificate {
        /// Its name.
        pub name: String,
        /// `client`, `server` or `metrics`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether it is held to `projects`.
        pub restricted: bool,
        /// The projects it may use.
        pub projects: Vec<String>,
        /// PEM.
        pub certificate: String,
        /// SHA-256 of the certificate, hexadecimal.
        pub fingerprint: String,
        /// For people.
        pub description: String,
    }

    /// A certificate to trust, or a token to ask for.
    pub struct CertificatesPost {
        /// Its name.
        pub name: String,
        /// `client`, `server` or `metrics`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether it is held to `projects`.
        pub restricted: bool,
        /// The projects it may use.
        pub projects: Vec<String>,
        /// DER in base64.
        pub certificate: String,
        /// For people.
        pub description: String,
        /// A token that lets a stranger in.
        pub trust_token: String,
        /// The same, from older clients.
        pub password: String,
        /// Whether to answer with a token instead.
        pub token: bool,
    }

    /// What can be changed of a certificate.
    pub struct CertificatePut {
        /// Its name.
        pub name: String,
        /// `client`, `server` or `metrics`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Whether it is held to `projects`.
        pub restricted: bool,
        /// The projects it may use.
        pub projects: Vec<String>,
        /// PEM.
        pub certificate: String,
        /// For people.
        pub description: String,
    }
}
