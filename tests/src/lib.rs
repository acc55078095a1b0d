//! What the whole-project tests share: starting the real `larderd` on a scratch folder, and talking to it.

mod clients;
mod connection;
mod drivers;
mod http;
mod images;
mod radosgw;
mod s3;
mod server;
mod tar;
mod websocket;

pub use clients::{RealClient, require_containers};
pub use connection::{Connection, PART, between};
pub use drivers::{drivers, number, pool_config, setting, with_each_driver};
pub use http::{Reply, request};
pub use images::{ImageServer, TestImage, form, tar, upload_small_image};
pub use radosgw::{Gateway, GatewayWorld, REMOTE_BUCKETS};
pub use s3::{Answer, Pair, S3, host_of};
pub use server::{Larderd, program, require, skip};
pub use tar::{Tar, files_in};
pub use websocket::WebSocket;
