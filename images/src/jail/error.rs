//! Why an archive was not unpacked.

use std::io;
use std::path::PathBuf;

/// An archive was not unpacked. What was unpacked until then is left for the caller to remove: it is in the
/// directory it gave, and nowhere else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A file or directory of the request could not be opened.
    #[error("{path} could not be opened")]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no archive we know.
    #[error(
        "{path} is no archive: give a tar file (plain, gzip, bzip2, xz, lzma or zstd) or a squashfs image"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The archive could not be decompressed.
    #[error("{path} is damaged: get it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// More bytes come out than the limit allows.
    #[error(
        "{path} unpacks to more than the limit of {limit} bytes: raise the size of the volume or refuse it"
    )]
    TooManyBytes {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// More files and directories come out than the limit allows.
    #[error("{path} holds more than the limit of {limit} files and directories")]
    TooManyFiles {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// It took too long.
    #[error("{path} was not unpacked within the limit of {seconds} s")]
    TooSlow {
        /// The file.
        path: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// The archive has no such member.
    #[error("{path} does not hold {wanted}")]
    NotInArchive {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
    },
    /// The tool in the jail refused the archive: it is damaged, or holds a name that leads outside.
    #[error("{path} was refused by {tool}: {message}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The tool.
        tool: &'static str,
        /// The last lines it wrote.
        message: String,
    },
    /// The tool is not installed.
    #[error("{path} needs the program {tool}: install {package}")]
    MissingTool {
        /// The file.
        path: PathBuf,
        /// The tool.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// That part of such an archive can't be taken alone.
    #[error("a directory of a squashfs image can't be unpacked in place of the whole: unpack all of {path}")]
    NotSelectable {
        /// The file.
        path: PathBuf,
    },
    /// The jail could not be built on this machine.
    #[error("the jail could not be built: {message}")]
    NoJail {
        /// The step that failed, and why.
        message: String,
    },
    /// The helper could not be started, or its pipes broke.
    #[error("the helper {program} could not be run")]
    NoHelper {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The work was asked to stop.
    #[error("cancelled")]
    Cancelled,
}
