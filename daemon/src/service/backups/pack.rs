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
pub(in crate::service) struct Compression {
    algorithm: Algorithm,
    /// How hard it tries; the algorithm's own when absent.
    level: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    None,
    Gzip,
    Bzip2,
    Xz,
    Lzma,
    Zstd,
}

const GZIP_LEVEL: u32 = 6;
const BZIP2_LEVEL: u32 = 6;
const XZ_LEVEL: u32 = 6;
const ZSTD_LEVEL: u32 = 3;
/// An argument that changes how the file is cut up and not what is in it.
const RSYNCABLE: &str = "--rsyncable";
/// How long a full pipe is waited for before the work looks whether it was cancelled.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

impl FromStr for Compression {
    type Err = ServiceError;

    /// The peers read a command here: a program's name, and arguments after it. A program that does on several processors what
    /// another does on one writes the same form.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let algorithm = match words.next().unwrap_or_default() {
            "none" => Algorithm::None,
            "gzip" | "pigz" => Algorithm::Gzip,
            "bzip2" => Algorithm::Bzip2,
            "xz" | "pxz" => Algorithm::Xz,
            "lzma" => Algorithm::Lzma,
            "zstd" | "pzstd" => Algorithm::Zstd,
            other => {
                let message = format!(
                    "unknown compression algorithm {other:?}: it is one of none, gzip, bzip2, xz, lzma, zstd"
                );
                return Err(ServiceError::bad(message));
            }
        };
        let mut level = None;
        for word in words.filter(|word| *word != RSYNCABLE) {
            level = Some(level_of(word).ok_or_else(|| {
                ServiceError::bad(format!(
                    "unknown argument {word:?} of a compression algorithm: it is one of -1 to -9, {RSYNCABLE}"
                ))
            })?);
        }
        Ok(Self { algorithm, level })
    }
}

/// Reads `-1` to `-9`.
fn level_of(word: &str) -> Option<u32> {
    let digit = word.strip_prefix('-')?;
    digit.parse().ok().filter(|level| digit.len() == 1 && (1..=9).contains(level))
}

impl Compression {
    /// The end of a file name that goes with it.
    pub(super) fn suffix(self) -> &'static str {
        let format = match self.algorithm {
            Algorithm::None => Format::Tar,
            Algorithm::Gzip => Format::Gzip,
            Algorithm::Bzip2 => Format::Bzip2,
            Algorithm::Xz => Format::Xz,
            Algorithm::Lzma => Format::Lzma,
            Algorithm::Zstd => Format::Zstd,
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
    let level = |usual: u32| compression.level.unwrap_or(usual);
    match compression.algorithm {
        Algorithm::None => {
            io::copy(&mut from, &mut to)?;
        }
        Algorithm::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(&mut to, flate2::Compression::new(level(GZIP_LEVEL)));
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Algorithm::Bzip2 => {
            let mut encoder =
                bzip2::write::BzEncoder::new(&mut to, bzip2::Compression::new(level(BZIP2_LEVEL)));
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Algorithm::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(&mut to, level(XZ_LEVEL));
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Algorithm::Lzma => {
            let options = liblzma::stream::LzmaOptions::new_preset(level(XZ_LEVEL))?;
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(&mut to, stream);
            io::copy(&mut from, &mut encoder)?;
            encoder.finish()?;
        }
        Algorithm::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(&mut to, level(ZSTD_LEVEL).cast_signed())?;
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
        let names = ["none", "gzip", "bzip2", "xz", "lzma", "zstd"];
        for name in names.into_iter().chain(["gzip -1", "bzip2 -9", "xz -1", "lzma -1", "zstd -9", "none -1"])
        {
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
    fn a_command_is_read_as_the_algorithm_of_its_program() {
        let read = |text: &str| text.parse::<Compression>();
        for (command, algorithm, level) in [
            ("gzip -9 --rsyncable", Algorithm::Gzip, Some(9)),
            ("pigz --rsyncable", Algorithm::Gzip, None),
            ("pxz -1", Algorithm::Xz, Some(1)),
            (" pzstd  -3 ", Algorithm::Zstd, Some(3)),
        ] {
            assert_eq!(read(command).unwrap(), Compression { algorithm, level }, "{command}");
        }
        for (command, word) in [
            ("", "\"\""),
            ("rar", "rar"),
            ("gzip -0", "-0"),
            ("xz -10", "-10"),
            ("zstd -o /x", "-o"),
            ("gzip -+1", "-+1"),
        ] {
            let error = read(command).unwrap_err();
            assert!(error.message.contains(word), "{command}: {error}");
        }
        assert_eq!(read("pxz").unwrap().suffix(), ".tar.xz");
    }

    #[test]
    fn a_level_is_applied() {
        let numbers = 0..100_000_u64;
        let text: Vec<u8> = numbers.flat_map(|number| (number * number % 8191).to_le_bytes()).collect();
        for name in ["gzip", "xz", "zstd"] {
            let packed = |level: &str| {
                let mut out = Vec::new();
                compress(format!("{name} {level}").parse().unwrap(), text.as_slice(), &mut out).unwrap();
                out
            };
            assert_ne!(packed("-1"), packed("-9"), "{name}");
        }
    }

    #[test]
    fn a_failure_of_the_work_is_the_failure() {
        let file = tempfile::tempfile().unwrap();
        let task = Task::quiet(Requestor::default());
        let failed = through("test", "gzip".parse().unwrap(), &file, &task, |_| {
            Err(ServiceError::bad("no such volume"))
        });
        assert_eq!(failed.unwrap_err().message, "no such volume");
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_no_cancelled_work() {
        let (reader, writer) = io::pipe().unwrap();
        let task = Task::until(Cancel::new());
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
        let cancelled = through("test", "none".parse().unwrap(), pipe, &task, work).unwrap_err();
        assert_eq!(cancelled.message, "cancelled");
        drop(reader);
    }
}
