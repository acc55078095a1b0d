//! The REST API: each handler parses, calls the service, and renders. No decisions here.

mod backups;
mod events;
mod families;
mod filter;
mod glue;
mod image_aliases;
mod image_upload;
mod images;
mod instance_console;
mod instance_exec;
mod instance_files;
mod instance_snapshots;
mod instances;
mod listen;
mod metadata;
mod operations;
mod pools;
mod profiles;
mod projects;
mod query;
mod reply;
mod resources;
mod router;
mod server;
mod sftp;
mod snapshots;
mod volumes;
mod warnings;

pub(crate) use filter::select;
pub use glue::App;
pub(crate) use listen::{Peer, bind, serve};
pub(crate) use query::Query;
pub(crate) use reply::{ApiError, Reply};
pub(crate) use router::router;
pub(crate) use sftp::is_sftp_request;
