//! The server itself: `/1.0`.

use crate::Config;

wire! {
    /// What a stranger may know of the server.
    pub struct ServerUntrusted {
        /// What clients may rely on.
        pub api_extensions: Vec<String>,
        /// `stable`.
        pub api_status: String,
        /// `1.0`.
        pub api_version: String,
        /// `untrusted`.
        pub auth: String,
        /// Whether this is only an image server.
        pub public: bool,
        /// How one may become trusted, such as `tls`.
        pub auth_methods: Vec<String>,
        /// Empty.
        pub config: Config,
    }

    /// What a trusted client may know of the server.
    pub struct Server {
        /// The server's keys.
        pub config: Config,
        /// What clients may rely on.
        pub api_extensions: Vec<String>,
        /// `stable`.
        pub api_status: String,
        /// `1.0`.
        pub api_version: String,
        /// `trusted`.
        pub auth: String,
        /// Whether this is only an image server.
        pub public: bool,
        /// How one may become trusted, such as `tls`.
        pub auth_methods: Vec<String>,
        /// Who asks.
        pub auth_user_name: String,
        /// How the asking one was recognised: `unix` or `tls`.
        pub auth_user_method: String,
        /// The machine and the daemon.
        pub environment: ServerEnvironment,
    }

    /// The machine and the daemon.
    pub struct ServerEnvironment {
        /// `host:port` of each address listened at.
        pub addresses: Vec<String>,
        /// The kernel's names of the architectures that instances may have, the native one first.
        pub architectures: Vec<String>,
        /// The server's certificate, PEM.
        pub certificate: String,
        /// SHA-256 of the certificate, hexadecimal.
        pub certificate_fingerprint: String,
        /// What runs instances, such as `lxc | qemu`.
        pub driver: String,
        /// Its version.
        pub driver_version: String,
        /// What filters packets.
        pub firewall: String,
        /// `Linux`.
        pub kernel: String,
        /// The machine's architecture.
        pub kernel_architecture: String,
        /// What the kernel can do, `true` or `false` each.
        pub kernel_features: Config,
        /// The kernel's version.
        pub kernel_version: String,
        /// What liblxc can do, `true` or `false` each.
        pub lxc_features: Config,
        /// The distribution.
        pub os_name: String,
        /// Its version.
        pub os_version: String,
        /// The project asked for.
        pub project: String,
        /// The daemon's name.
        pub server: String,
        /// Whether it is one of several.
        pub server_clustered: bool,
        /// How events travel between members.
        pub server_event_mode: String,
        /// The machine's name.
        pub server_name: String,
        /// The daemon's process id.
        pub server_pid: i64,
        /// The daemon's version.
        pub server_version: String,
        /// Whether this is a release with long support.
        pub server_lts: bool,
        /// The drivers in use, such as `dir | zfs`.
        pub storage: String,
        /// Their versions.
        pub storage_version: String,
        /// The drivers that could be used here.
        pub storage_supported_drivers: Vec<ServerStorageDriver>,
    }

    /// A storage driver that can be used here. Its fields are written with capitals.
    pub struct ServerStorageDriver {
        /// Its name.
        #[serde(rename = "Name")]
        pub name: String,
        /// The version of its tools.
        #[serde(rename = "Version")]
        pub version: String,
        /// Whether its pools can be reached from several machines.
        #[serde(rename = "Remote")]
        pub remote: bool,
    }

    /// A change of the server's keys.
    pub struct ServerPut {
        /// The server's keys.
        pub config: Config,
    }
}

wire! {
    /// A change of some keys of anything that has keys and a description: what is not named stays.
    pub struct ConfigPatch {
        /// The new description; absent when it stays.
        pub description: Option<String>,
        /// The keys that change; an empty value removes one.
        pub config: Config,
    }
}
