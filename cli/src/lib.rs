//! The Larder client.
//!
//! [`client`] is the library: it talks to a server and never prints. Everything else here is the `larder`
//! program, which starts at [`run`]: one file a command below `commands`, and `output` alone writes to the
//! terminal.

pub mod client;
mod commands;
mod config;
mod edit;
mod failure;
mod fields;
mod image_server;
mod output;
mod streams;
mod terminal;

pub use commands::run;
