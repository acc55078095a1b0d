//! The REST API: each handler parses, calls the service, and renders. No decisions here.

mod backups;
mod events;
mod families;
mod filter;
mod glue;
mod listen;
mod metadata;
mod operations;
mod pools;
mod projects;
mod query;
mod reply;
mod resources;
mod router;
mod server;
mod snapshots;
mod volumes;
mod warnings;

pub use glue::App;
pub(crate) use listen::{Peer, bind, serve};
pub(crate) use query::Query;
pub(crate) use reply::{ApiError, Reply};
pub(crate) use router::router;
