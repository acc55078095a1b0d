//! larderd: the daemon that keeps what [`service`] decides. [`http`] parses requests and renders answers, [`operations`]
//! runs what takes longer, [`events`] tells of what was committed.

mod endpoint;
pub mod events;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
mod memory;
pub mod operations;
mod server;
pub mod service;
mod starting;
mod stopping;

pub use server::{Options, run};
