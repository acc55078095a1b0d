//! What an archive is packed with, told by its first bytes, and the stream inside it.

use larder_base::Cancel;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most memory an xz or lzma stream may ask for; `xz -9` asks for 65 MiB.
const DECODER_MEMORY: u64 = 512 << 20;
/// Enough to see the magic of a plain tar, which stands at byte 257.
const MAGIC_BYTES: usize = 512;

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A tar file as it is.
    Tar,
    /// A tar file in gzip.
    Gzip,
    /// A tar file in xz.
    Xz,
    /// A tar file in the older lzma format.
    Lzma,
    /// A tar file in bzip2.
    Bzip2,
    /// A tar file in zstd.
    Zstd,
    /// A squashfs image.
    Squashfs,
}

impl Format {
    /// Tells the format by the file's first bytes (512 are enough), never by its name.
    ///
    /// ```
    /// use larder_images::Format;
    /// assert_eq!(Format::detect(b"\x1f\x8b\x08"), Some(Format::Gzip));
    /// assert_eq!(Format::detect(b"hsqs...."), Some(Format::Squashfs));
    /// assert_eq!(Format::detect(b"#!/bin/sh"), None);
    /// ```
    pub fn detect(head: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Format); 6] = [
            (b"\x1f\x8b", Format::Gzip),
            (b"\xfd7zXZ\0", Format::Xz),
            (b"BZh", Format::Bzip2),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"hsqs", Format::Squashfs),
            (b"\x5d\0\0", Format::Lzma),
        ];
        let by_magic = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format);
        let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar");
        by_magic.or(is_tar.then_some(Self::Tar))
    }

    /// Tells the format of an open file and goes back to its start.
    pub fn of_file(file: &mut File) -> io::Result<Option<Self>> {
        let mut head = Vec::with_capacity(MAGIC_BYTES);
        file.rewind()?;
        file.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
        file.rewind()?;
        Ok(Self::detect(&head))
    }

    /// The end of a file name that goes with it, such as `.tar.xz`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Tar => ".tar",
            Self::Gzip => ".tar.gz",
            Self::Xz => ".tar.xz",
            Self::Lzma => ".tar.lzma",
            Self::Bzip2 => ".tar.bz2",
            Self::Zstd => ".tar.zst",
            Self::Squashfs => ".squashfs",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.suffix().trim_start_matches('.'))
    }
}

/// The stream inside a packed file; a squashfs image is handed out as it is. No stream can make
/// the decoder ask for more memory than a fixed bound.
pub fn unpacked(reader: impl Read + Send + 'static, format: Format) -> io::Result<Box<dyn Read + Send>> {
    let reader = BufReader::with_capacity(128 << 10, reader);
    Ok(match format {
        Format::Tar | Format::Squashfs => Box::new(reader),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        Format::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(DECODER_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        Format::Lzma => {
            let stream = liblzma::stream::Stream::new_lzma_decoder(DECODER_MEMORY)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
    })
}

/// Counts what is read from a packed file, for progress, and stops when the work is cancelled.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
    cancel: Cancel,
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R, cancel: &Cancel) -> (Self, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        (Self { inner, count: Arc::clone(&count), cancel: cancel.clone() }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(larder_base::Cancelled));
        }
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The stream is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} bytes come out")]
pub(crate) struct TooLong(pub(crate) u64);

/// A reader that fails with [`TooLong`] when more than its limit comes out: a short archive that unpacks to a
/// very long one is refused, not followed.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R> Bounded<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(TooLong(self.limit))),
        }
        Ok(read)
    }
}

/// Whether an error, or the one it wraps, says that a [`Bounded`] stream ran over.
pub(crate) fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<TooLong>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    fn read_all(packed: Vec<u8>, format: Format) -> Vec<u8> {
        assert_eq!(Format::detect(&packed), Some(format));
        let mut bytes = Vec::new();
        unpacked(Cursor::new(packed), format).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_packing_comes_out_again() {
        let text = b"larder ".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        assert_eq!(read_all(gzip.finish().unwrap(), Format::Gzip), text);
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        assert_eq!(read_all(bzip2.finish().unwrap(), Format::Bzip2), text);
        assert_eq!(read_all(zstd::encode_all(Cursor::new(&text), 1).unwrap(), Format::Zstd), text);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        assert_eq!(read_all(xz.finish().unwrap(), Format::Xz), text);
        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        lzma.write_all(&text).unwrap();
        assert_eq!(read_all(lzma.finish().unwrap(), Format::Lzma), text);
    }

    #[test]
    fn two_gzip_members_are_one_stream() {
        let mut packed = Vec::new();
        for part in [b"one ".as_slice(), b"two"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part).unwrap();
            packed.extend(encoder.finish().unwrap());
        }
        assert_eq!(read_all(packed, Format::Gzip), b"one two");
    }

    #[test]
    fn a_bounded_stream_ends_in_an_error_only_past_its_limit() {
        let mut bytes = Vec::new();
        Bounded::new(Cursor::new(vec![0; 10]), 10).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 10);
        let error = Bounded::new(Cursor::new(vec![0; 11]), 10).read_to_end(&mut bytes).unwrap_err();
        assert!(is_too_long(&error));
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let packed = zstd::encode_all(Cursor::new(b"larder ".repeat(1000)), 1).unwrap();
        let cut = packed[..packed.len() / 2].to_vec();
        let mut bytes = Vec::new();
        assert!(unpacked(Cursor::new(cut), Format::Zstd).unwrap().read_to_end(&mut bytes).is_err());
    }
}
