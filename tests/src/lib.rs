//! What the whole-project tests share: starting the real `larderd` on a scratch folder, and talking to it.

mod http;
mod server;
mod websocket;

pub use http::{Reply, request};
pub use server::{Larderd, program, require, skip};
pub use websocket::WebSocket;
