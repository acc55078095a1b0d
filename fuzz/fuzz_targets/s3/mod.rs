//! An S3 endpoint over a folder in memory, its signing client, and what must hold of every answer: no internal error, no
//! end without one, nothing left in staging. Its clock is paused: a client that would be waited for is cut at once.

#[path = "../../../daemon/s3/tests/common/mod.rs"]
mod common;

pub(crate) use common::{Call, Reply, call};
use larder_s3::{Endpoint, Options, Peer};
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// More than any request here.
const PIPE: usize = 1 << 20;

pub(crate) struct World {
    endpoint: Endpoint,
    runtime: Runtime,
    folder: TempDir,
}

impl World {
    /// The one of this process, with a bucket `shared` of Ann's that everybody may write to.
    pub(crate) fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let memory = PathBuf::from("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            let folder = folder.expect("a scratch folder");
            let endpoint = common::endpoint(folder.path(), Options::default());
            let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
            let world = Self { endpoint, runtime: runtime.expect("a runtime"), folder };
            let make = call("PUT", "/shared").header("x-amz-acl", "public-read-write");
            assert_eq!(world.ann(make).status, 200);
            world
        })
    }

    /// Signs and sends as Ann.
    pub(crate) fn ann(&self, call: Call) -> Reply {
        self.ask(call.header("connection", "close").sign("ANN", "secret of ann/+="))
    }

    /// Sends as nobody.
    pub(crate) fn nobody(&self, call: Call) -> Reply {
        self.ask(call.header("connection", "close"))
    }

    fn ask(&self, call: Call) -> Reply {
        let bytes = self.runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(PIPE);
            let endpoint = self.endpoint.clone();
            let serving =
                tokio::spawn(
                    async move { endpoint.serve(server, Peer::default(), std::future::pending()).await },
                );
            client.write_all(call.head().as_bytes()).await.expect("the head is taken");
            client.write_all(&call.body).await.expect("the body is taken");
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).await.expect("an answer");
            serving.await.expect("no panic");
            bytes
        });
        let reply = Reply::read(&bytes).expect("an answer");
        let what = format!("{} {}: {}", call.method, call.target, reply.text());
        assert!(reply.status != 500, "{what}");
        let staging = self.folder.path().join("shared/staging");
        let left = std::fs::read_dir(staging).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something is left in staging: {what}");
        reply
    }
}

/// Percent-encoded as it is signed, all but slashes.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    bytes
        .iter()
        .map(|byte| if is_plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
