//! The S3 endpoint's connections: accepted, encrypted, and handed to the protocol.

mod serve;
mod tls;

pub(crate) use serve::serve;
