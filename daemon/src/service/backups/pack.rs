//! Compression of backups, while they are written.

use crate::service::{Result, ServiceError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Zstd,
}

const XZ_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

impl FromStr for Compression {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "none" => Self::None,
            "gzip" => Self::Gzip,
            "bzip2" => Self::Bzip2,
            "xz" => Self::Xz,
            "lzma" => Self::Lzma,
            "zstd" => Self::Zstd,
            other => {
                let message = format!(
                    "unknown compression algorithm {other:?}: it is one of none, gzip, bzip2, xz, lzma, zstd"
                );
                return Err(ServiceError::bad(message));
            }
        })
    }
}

/// Runs `work`, which writes into the file it is given; what it writes ends up in `target`, compressed.
pub(super) fn through(
    compression: Compression,
    target: &File,
    work: impl FnOnce(Arc<File>) -> Result<()>,
) -> Result<()> {
    if compression == Compression::None {
        return work(Arc::new(target.try_clone()?));
    }
    let (reader, writer) = io::pipe()?;
    let writer = Arc::new(File::from(OwnedFd::from(writer)));
    let target = target.try_clone()?;
    std::thread::scope(|scope| {
        let packing = std::thread::Builder::new().name("compress".to_owned());
        let packing = packing.spawn_scoped(scope, move || compress(compression, reader, target))?;
        // The last writer is gone when `work` returns: the reader then sees the end.
        let worked = work(writer);
        let packed = packing.join().unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        // A compressor that fails closes the pipe, and the work's failure is only a consequence of that.
        packed.map_err(|error| ServiceError::internal(format!("the backup can't be written: {error}")))?;
        worked
    })
}

fn compress(compression: Compression, mut from: impl Read, to: File) -> io::Result<()> {
    let to = io::BufWriter::with_capacity(256 << 10, to);
    let mut to = match compression {
        Compression::None => {
            let mut to = to;
            io::copy(&mut from, &mut to)?;
            return to.flush();
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(to, bzip2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(to, XZ_LEVEL);
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(XZ_LEVEL)?;
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(to, stream);
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?;
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?
        }
    };
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn what_goes_in_comes_out_again() {
        // A tar, so that its format can be told.
        let mut text = vec![0; 512];
        text[257..262].copy_from_slice(b"ustar");
        text.extend(std::iter::repeat_n(b'x', 300_000));
        for name in ["none", "gzip", "bzip2", "xz", "lzma", "zstd"] {
            let mut file = tempfile::tempfile().unwrap();
            let written = through(name.parse().unwrap(), &file, |output| Ok((&*output).write_all(&text)?));
            written.unwrap();
            file.rewind().unwrap();
            let format = larder_images::Format::of_file(&mut file).unwrap().expect(name);
            let mut back = Vec::new();
            larder_images::archive::unpacked(file, format).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == text, "{name}");
        }
    }

    #[test]
    fn a_failure_of_the_work_is_the_failure() {
        let file = tempfile::tempfile().unwrap();
        let failed = through(Compression::Gzip, &file, |_| Err(ServiceError::bad("no such volume")));
        assert_eq!(failed.unwrap_err().message, "no such volume");
    }
}
