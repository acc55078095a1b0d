//! Standard input and output carried over websockets.
//!
//! Bytes go as binary messages; an empty text message says that one direction has ended. Reading and writing
//! the terminal or a pipe blocks, so threads do it.

use crate::client::Socket;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::io::{Read, Write};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

/// The half of a websocket that sends.
pub(crate) type Sender = SplitSink<Socket, Message>;
/// The half of a websocket that receives.
pub(crate) type Receiver = SplitStream<Socket>;

const CHUNK_BYTES: usize = 32 << 10;
const CHUNKS_WAITING: usize = 16;

/// Standard input in chunks; the channel closes at its end.
pub(crate) fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A thread that writes chunks.
#[derive(Debug)]
pub(crate) struct Writer {
    chunks: mpsc::Sender<Vec<u8>>,
    finished: oneshot::Receiver<()>,
}

impl Writer {
    /// Writes to `target`, flushing each chunk.
    pub(crate) fn to(mut target: impl Write + Send + 'static) -> Self {
        let (chunks, mut receiver) = mpsc::channel::<Vec<u8>>(CHUNKS_WAITING);
        let (sender, finished) = oneshot::channel();
        std::thread::spawn(move || {
            while let Some(chunk) = receiver.blocking_recv() {
                if target.write_all(&chunk).and_then(|()| target.flush()).is_err() {
                    // Whoever read this has gone: the channel closes, and the other side hears of it.
                    break;
                }
            }
            let _ = sender.send(());
        });
        Self { chunks, finished }
    }

    /// Waits until everything is written.
    async fn finish(self) {
        drop(self.chunks);
        let _ = self.finished.await;
    }
}

/// Sends chunks and then the end mark. Holds the sender afterwards, for dropping it would end the socket.
pub(crate) async fn send_all(mut sender: Sender, mut chunks: mpsc::Receiver<Vec<u8>>) -> Sender {
    while let Some(chunk) = chunks.recv().await {
        if sender.send(Message::Binary(chunk.into())).await.is_err() {
            return sender;
        }
    }
    let _ = sender.send(Message::Text("".into())).await;
    sender
}

/// Writes what comes in until the end mark or the end of the socket.
pub(crate) async fn receive_all(mut receiver: Receiver, writer: Writer) {
    while let Some(Ok(message)) = receiver.next().await {
        let goes_on = match message {
            Message::Binary(chunk) => writer.chunks.send(chunk.into()).await.is_ok(),
            Message::Text(text) => !text.is_empty(),
            Message::Close(_) => false,
            _ => true,
        };
        if !goes_on {
            break;
        }
    }
    writer.finish().await;
}

/// Reads a socket nothing is expected from: reading is what answers pings.
pub(crate) async fn drain(mut receiver: Receiver) {
    while let Some(Ok(_)) = receiver.next().await {}
}
