//! Answers that the kernel sends from a file's pages, without a copy through this process (sendfile(2)).
//!
//! The protocol layers pass bytes on and ask for nothing else, so a piece of a file goes through them as mapped memory that
//! nobody reads. The connection knows it again by its place, and has the kernel send the file instead. Whoever reads it anyway
//! finds the file's bytes.

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};
use parking_lot::RwLock;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// What is sent at once.
const MOST: usize = 1 << 20;
/// To map less costs more than to copy it.
pub(crate) const LEAST: usize = 128 << 10;

/// Pieces that are on their way, by the address of their first byte.
static ON_THEIR_WAY: RwLock<BTreeMap<usize, Place>> = RwLock::new(BTreeMap::new());

/// Where a piece of a file is in memory and in the file.
#[derive(Debug, Clone)]
struct Place {
    file: Arc<File>,
    offset: u64,
    length: usize,
}

/// A mapped piece of a file.
struct Piece(Mmap);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        ON_THEIR_WAY.write().remove(&address(&self.0));
    }
}

fn address(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr()
}

/// Up to so many bytes of a file from `offset`, [`LEAST`] or more, for a [`Plain`] connection. None where the disk would have to be
/// waited for. The file must never change below the bytes.
pub(crate) fn piece(file: &Arc<File>, offset: u64, most: usize) -> Option<Bytes> {
    let length = most.min(MOST);
    // SAFETY: the file of an object is written once, under another name, and never again; nobody makes it shorter.
    let map = unsafe { MmapOptions::new().offset(offset).len(length).map(file.as_ref()) }.ok()?;
    if !is_in_memory(&map) {
        return None;
    }
    let place = Place { file: Arc::clone(file), offset, length };
    ON_THEIR_WAY.write().insert(address(&map), place);
    Some(Bytes::from_owner(Piece(map)))
}

/// Whether the kernel has all pages of bytes that are mapped (mincore(2)).
fn is_in_memory(map: &[u8]) -> bool {
    let page = rustix::param::page_size();
    let before = address(map) % page;
    let mut pages = [0_u8; MOST / 4096 + 1];
    let count = (before + map.len()).div_ceil(page);
    // SAFETY: the pages are those of the map, and there is a byte for each of them.
    let told = unsafe {
        libc::mincore(map.as_ptr().sub(before).cast_mut().cast(), before + map.len(), pages.as_mut_ptr())
    };
    told == 0 && pages[..count].iter().all(|page| page & 1 == 1)
}

/// The place in a file of bytes that are part of a piece.
fn place(bytes: &[u8]) -> Option<Place> {
    if bytes.is_empty() {
        return None;
    }
    let pieces = ON_THEIR_WAY.read();
    let (start, place) = pieces.range(..=address(bytes)).next_back()?;
    let within = address(bytes) - start;
    let is_inside = within.checked_add(bytes.len()).is_some_and(|end| end <= place.length);
    is_inside.then(|| Place {
        file: Arc::clone(&place.file),
        offset: place.offset + within as u64,
        length: bytes.len(),
    })
}

/// Marks a request that came by a [`Plain`] connection, in its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakesFiles;

/// A plain connection, which sends pieces of files without a copy.
pub(crate) struct Plain(TcpStream);

impl Plain {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Writes as soon as the connection takes something.
    fn poll_sent(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_io(Interest::WRITABLE, || send(&self.0)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

/// Sends bytes that are part of a piece. They were in memory when it was made, and a client may be slow.
fn send(stream: &TcpStream, place: &Place, bytes: &[u8]) -> io::Result<usize> {
    match is_in_memory(bytes) {
        true => send_file(stream, place, bytes),
        false => tokio::task::block_in_place(|| {
            let length = bytes.len().min(LEAST);
            send_file(stream, &Place { length, ..place.clone() }, &bytes[..length])
        }),
    }
}

/// Sends them from the file, or as other bytes where its filesystem can't do that.
fn send_file(stream: &TcpStream, place: &Place, bytes: &[u8]) -> io::Result<usize> {
    let mut offset = place.offset;
    match rustix::fs::sendfile(stream, place.file.as_ref(), Some(&mut offset), place.length) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?)
        }
        sent => Ok(sent?),
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found = slices.iter().enumerate().find_map(|(index, slice)| Some((index, place(slice)?)));
        match found {
            None => Pin::new(&mut self.0).poll_write_vectored(context, slices),
            Some((0, place)) => self.poll_sent(context, |stream| send(stream, &place, &slices[0])),
            // What is before it waits for it, to go out in one packet.
            Some((before, _)) => self.poll_sent(context, |stream| {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let nothing = &mut SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(stream, &slices[..before], nothing, flags)?)
            }),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn file_of(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    async fn connected() -> (TcpStream, Plain) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Plain::new(listener.accept().await.unwrap().0))
    }

    fn some_bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn pieces_go_out_between_other_bytes_in_their_order_though_the_client_is_slow() {
        let bytes = some_bytes(3 * MOST);
        let file = file_of(&bytes);
        let (mut client, mut server) = connected().await;
        let expected =
            [b"head".as_slice(), &bytes[5..5 + MOST], b"middle", &bytes[4096..4096 + LEAST], b"end"];
        let expected = expected.concat();
        let sending = tokio::spawn(async move {
            let first = piece(&file, 5, usize::MAX).unwrap();
            let second = piece(&file, 4096, LEAST).unwrap();
            assert_eq!((first.len(), second.len()), (MOST, LEAST));
            let parts = [
                Bytes::from_static(b"head"),
                first,
                Bytes::from_static(b"middle"),
                second,
                Bytes::from_static(b"end"),
            ];
            let mut all = std::collections::VecDeque::from(parts);
            while !all.is_empty() {
                let slices: Vec<_> = all.iter().map(|bytes| IoSlice::new(bytes)).collect();
                let mut sent = server.write_vectored(&slices).await.unwrap();
                while let Some(front) = all.front_mut() {
                    let taken = sent.min(front.len());
                    bytes::Buf::advance(front, taken);
                    sent -= taken;
                    if !front.is_empty() {
                        break;
                    }
                    all.pop_front();
                }
            }
        });
        let mut came = Vec::new();
        let mut buffer = vec![0; 50_000];
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            match client.read(&mut buffer).await.unwrap() {
                0 => break,
                count => came.extend_from_slice(&buffer[..count]),
            }
        }
        sending.await.unwrap();
        assert!(came == expected, "{} of {} bytes, or others", came.len(), expected.len());
    }

    #[test]
    fn a_piece_is_known_by_its_place_for_as_long_as_it_is_there() {
        let bytes = some_bytes(MOST);
        let file = file_of(&bytes);
        let whole = piece(&file, 1000, LEAST).unwrap();
        assert!(whole[..] == bytes[1000..1000 + LEAST], "who reads it finds other bytes");
        let part = whole.slice(7..20);
        let found = place(&part).unwrap();
        assert_eq!((found.offset, found.length), (1007, 13));
        assert!(place(b"other bytes").is_none() && place(&[]).is_none());
        let start = address(&whole);
        drop(whole);
        assert!(ON_THEIR_WAY.read().contains_key(&start), "a part is left");
        drop(part);
        assert!(!ON_THEIR_WAY.read().contains_key(&start));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_is_cut_meanwhile_is_an_error() {
        let file = file_of(&some_bytes(MOST));
        let (_client, mut server) = connected().await;
        let bytes = piece(&file, 0, MOST).unwrap();
        file.set_len(0).unwrap();
        let error = server.write_all(&bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
