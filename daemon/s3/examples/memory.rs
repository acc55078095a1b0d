//! The protocol layer alone: a handler that answers from memory, for telling what is ours from what it costs.
//!
//! ```sh
//! cargo run --release -p larder-s3 --example memory -- ACCESS_KEY SECRET_KEY
//! ```

#![expect(clippy::print_stdout, reason = "it tells where it listens")]

use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use s3s::auth::SimpleAuth;
use s3s::dto::{ETag, GetObjectInput, GetObjectOutput, PutObjectInput, PutObjectOutput, StreamingBlob};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use std::collections::HashMap;
use tokio::net::TcpListener;

/// Objects by bucket and key.
#[derive(Debug, Default)]
struct Memory(RwLock<HashMap<(String, String), Bytes>>);

#[async_trait::async_trait]
impl S3 for Memory {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let name = (request.input.bucket, request.input.key);
        let found = self.0.read().get(&name).cloned().ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(i64::try_from(found.len()).unwrap_or(i64::MAX)),
            content_type: Some("binary/octet-stream".to_owned()),
            e_tag: Some(ETag::Strong("0123456789abcdef0123456789abcdef".to_owned())),
            body: Some(StreamingBlob::from(Body::from(found))),
            ..GetObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut bytes = Vec::new();
        if let Some(mut body) = request.input.body {
            while let Some(chunk) = body.next().await {
                bytes.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        self.0.write().insert((request.input.bucket, request.input.key), bytes.into());
        Ok(S3Response::new(PutObjectOutput::default()))
    }
}

/// As many threads as the daemon has, and connections built as it builds them.
#[tokio::main(worker_threads = 3)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [access, secret] = arguments.as_slice() else {
        return Err("usage: memory ACCESS_KEY SECRET_KEY".into());
    };
    let mut builder = S3ServiceBuilder::new(Memory::default());
    builder.set_auth(SimpleAuth::from_single(access.clone(), secret.clone()));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                let service = service.clone();
                async move { service.call(request.map(Body::from)).await }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new());
            // A client that goes away is no concern of a benchmark.
            let _ = server.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
