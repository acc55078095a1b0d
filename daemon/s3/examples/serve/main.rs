//! Serves a folder of buckets over loopback, for trying clients and suites out without the daemon.
//!
//! ```sh
//! cargo run -p larder-s3 --example serve -- FOLDER ACCOUNTS.json [ADDRESS [SECONDS_OF_A_DAY [DOMAIN]]]
//! ```

#![expect(clippy::print_stdout, reason = "it tells where it listens")]

mod folder;

use folder::{Configuration, Folder};
use jiff::SignedDuration;
use larder_s3::{Endpoint, Options, Peer, lifecycle};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, accounts, rest @ ..] = arguments.as_slice() else {
        return Err("usage: serve FOLDER ACCOUNTS.json [ADDRESS [SECONDS_OF_A_DAY [DOMAIN]]]".into());
    };
    let configuration: Configuration = serde_json::from_slice(&std::fs::read(accounts)?)?;
    let address: SocketAddr = rest.first().map_or("127.0.0.1:0", String::as_str).parse()?;
    let day = rest.get(1).map_or(Ok(86_400), |seconds| seconds.parse())?;
    let options = Options {
        day: SignedDuration::from_secs(day),
        domains: rest.get(2).into_iter().cloned().collect(),
        regions: ["us-east-1", "default", "EU", "eu-west-1"].map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let directory = Folder::open(Path::new(root), configuration)?;
    let endpoint = Endpoint::new(Arc::new(directory), options);
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    tokio::spawn(expire(
        endpoint.clone(),
        std::time::Duration::from_secs(day.clamp(2, 7200).unsigned_abs() / 2),
    ));
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let endpoint = endpoint.clone();
        let address: IpAddr = peer.ip();
        tokio::spawn(async move {
            endpoint.serve_plain(stream, Peer { address: Some(address), is_secure: false }, pending()).await;
        });
    }
}

async fn expire(endpoint: Endpoint, every: std::time::Duration) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = lifecycle::run(endpoint.face()).await {
            println!("lifecycle: {error}");
        }
    }
}
