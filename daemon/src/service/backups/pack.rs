//! Compression of backups and images, while they are written.

use crate::service::{Result, ServiceError, Task};
use larder_base::progress::Unit;
use larder_base::{Cancel, Progress};
use larder_images::Format;
use larder_storage_driver::StorageError;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Zstd,
}

const XZ_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// How long a full pipe is waited for before the work looks whether it was cancelled.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

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

impl Compression {
    /// The end of a file name that goes with it.
    pub(super) fn suffix(self) -> &'static str {
        let format = match self {
            Self::None => Format::Tar,
            Self::Gzip => Format::Gzip,
            Self::Bzip2 => Format::Bzip2,
            Self::Xz => Format::Xz,
            Self::Lzma => Format::Lzma,
            Self::Zstd => Format::Zstd,
        };
        format.suffix()
    }
}

/// Runs `work`, which writes into the file it is given; what it writes ends up in `target`, compressed. Reports as `stage`.
pub(in crate::service) fn through(
    stage: &'static str,
    compression: Compression,
    target: impl Write + Send,
    task: &Task,
    work: impl FnOnce(Arc<File>) -> Result<()>,
) -> Result<()> {
    let (reader, writer) = io::pipe()?;
    let writer = Arc::new(File::from(OwnedFd::from(writer)));
    let reader = Counted { inner: reader, count: 0, stage, progress: task.progress.clone() };
    let (worked, packed) = std::thread::scope(|scope| {
        let packing = std::thread::Builder::new().name("compress".to_owned());
        let packing = packing.spawn_scoped(scope, move || compress(compression, reader, target))?;
        // The last writer is gone when `work` returns: the reader then sees the end.
        let worked = work(writer);
        let packed = packing.join().unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        Ok::<_, ServiceError>((worked, packed))
    })?;
    // Whatever the two then said is only a consequence.
    task.cancel.checkpoint().map_err(StorageError::from)?;
    // A compressor that fails closes the pipe, and the work's failure is only a consequence of that.
    packed.map_err(|error| ServiceError::internal(format!("the file can't be written: {error}")))?;
    worked
}

fn compress(compression: Compression, mut from: impl Read, to: impl Write) -> io::Result<()> {
    let mut to = io::BufWriter::with_capacity(256 << 10, to);
    match compression {
        Compression::None => {
            io::copy(&mut from, &mut to)?;
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut to, flate2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(&mut to, bzip2::Compression::default());
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut to, XZ_LEVEL);
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(XZ_LEVEL)?;
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(&mut to, stream);
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut to, ZSTD_LEVEL)?;
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
    }
    to.flush()
}

/// Reports what goes by.
struct Counted<R> {
    inner: R,
    count: u64,
    stage: &'static str,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        self.progress.report(self.stage, "", self.count, None, Unit::Bytes);
        Ok(read)
    }
}

/// The writing end of a pipe whose reader may be slow: a full pipe does not keep cancelled work waiting.
#[derive(Debug)]
pub(super) struct PatientPipe {
    pipe: File,
    cancel: Cancel,
}

impl PatientPipe {
    pub(super) fn new(pipe: io::PipeWriter, cancel: &Cancel) -> io::Result<Self> {
        let pipe = File::from(OwnedFd::from(pipe));
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self { pipe, cancel: cancel.clone() })
    }
}

impl Write for PatientPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.cancel.checkpoint().map_err(io::Error::other)?;
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut waited_for = [PollFd::new(&self.pipe, PollFlags::OUT)];
                    rustix::event::poll(&mut waited_for, Some(&PATIENCE))?;
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Requestor;
    use std::io::Seek;

    #[test]
    fn what_goes_in_comes_out_again() {
        // A tar, so that its format can be told.
        let mut text = vec![0; 512];
        text[257..262].copy_from_slice(b"ustar");
        text.extend(std::iter::repeat_n(b'x', 300_000));
        for name in ["none", "gzip", "bzip2", "xz", "lzma", "zstd"] {
            let mut file = tempfile::tempfile().unwrap();
            let task = Task::quiet(Requestor::default());
            let work = |output: Arc<File>| Ok((&*output).write_all(&text)?);
            let written = through("test", name.parse().unwrap(), &file, &task, work);
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
        let task = Task::quiet(Requestor::default());
        let failed =
            through("test", Compression::Gzip, &file, &task, |_| Err(ServiceError::bad("no such volume")));
        assert_eq!(failed.unwrap_err().message, "no such volume");
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_no_cancelled_work() {
        let (reader, writer) = io::pipe().unwrap();
        let task = Task { cancel: Cancel::new(), ..Task::quiet(Requestor::default()) };
        let pipe = PatientPipe::new(writer, &task.cancel).unwrap();
        let cancel = task.cancel.clone();
        let work = |output: Arc<File>| {
            // More than the two pipes and the buffer hold, and never read.
            let writing = std::thread::spawn(move || (&*output).write_all(&vec![1; 4 << 20]));
            std::thread::sleep(std::time::Duration::from_millis(50));
            cancel.cancel();
            assert!(writing.join().unwrap().is_err());
            Ok(())
        };
        let cancelled = through("test", Compression::None, pipe, &task, work).unwrap_err();
        assert_eq!(cancelled.message, "cancelled");
        drop(reader);
    }
}
