//! What to unpack, and turning it into a job for the helper.

use super::error::UnpackError;
use super::job::{ARCHIVE, Job, TARGET, exit};
use super::process::{self, Ending, Feed, Watch};
use crate::archive::{self, Bounded, Counted, Format};
use larder_base::host::SystemHost;
use larder_base::progress::Unit;
use larder_base::{Cancel, Cancelled, Progress};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::Ordering;

const STAGE: &str = "unpack";
const SHOWN_MESSAGE: usize = 1000;
/// How much of a tar stream is looked at to see whether its names begin with `./`.
const PEEK_BYTES: u64 = 64 << 10;
const TAR_ARGUMENTS: [&str; 17] = [
    "--extract",
    "--file=-",
    "--read-full-records",
    "--force-local",
    "--restrict",
    "--verbose",
    "--quoting-style=escape",
    "--numeric-owner",
    "--same-owner",
    "--same-permissions",
    "--delay-directory-restore",
    "--sparse",
    "--acls",
    "--xattrs",
    "--xattrs-include=*",
    "--xattrs-exclude=security.selinux",
    "--no-wildcards",
];

/// How much may come out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the unpacked stream (tar) or written (squashfs); no single file may be larger either, counting
    /// the holes of sparse files.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Seconds until the work is killed.
    pub seconds: u64,
}

impl Default for Limits {
    /// 100 GiB, four million files, one hour.
    fn default() -> Self {
        Self { bytes: 100 << 30, inodes: 4_000_000, seconds: 3600 }
    }
}

/// Which part of an archive is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// All of it.
    All,
    /// What is below this directory, without the directory's name: `rootfs/etc` becomes `etc`. Tar files only.
    Below(String),
    /// These files and directories (with what is below them), under their own names. Each must be there.
    Only(Vec<String>),
}

/// One archive to unpack.
#[derive(Debug, Clone)]
pub struct UnpackRequest<'a> {
    /// The archive file.
    pub archive: &'a Path,
    /// An existing directory; the only place anything is written. An entry `.` of the archive sets this
    /// directory's own owner, mode and attributes.
    pub into: &'a Path,
    /// How much may come out.
    pub limits: Limits,
    /// Which part is wanted.
    pub select: Select,
}

/// Starts helpers. Cheap to clone; any number may work at a time.
#[derive(Debug, Clone)]
pub struct JailLauncher {
    program: PathBuf,
}

impl JailLauncher {
    /// A launcher that starts `program` again as the helper: the path of an executable whose main function
    /// calls [`jail_main`](super::jail_main) when its first argument is
    /// [`JAIL_ARGUMENT`](super::JAIL_ARGUMENT).
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Unpacks an archive with owners, modes, links, devices, extended attributes, ACLs and file capabilities
    /// as it has them. Blocks until it is done; no process is left when it returns. After an error `into`
    /// holds whatever came out until then.
    ///
    /// Nothing outside `into` can be changed, whatever the archive holds.
    pub fn unpack(
        &self,
        request: &UnpackRequest<'_>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(), UnpackError> {
        cancel.checkpoint().map_err(|_| UnpackError::Cancelled)?;
        let open = |path: &Path| {
            let path = path.to_owned();
            move |source| UnpackError::Open { path, source }
        };
        let mut file = File::open(request.archive).map_err(open(request.archive))?;
        let into = std::fs::canonicalize(request.into).map_err(open(request.into))?;
        let size = file.metadata().map_err(open(request.archive))?.len();
        let format = Format::of_file(&mut file)
            .map_err(open(request.archive))?
            .ok_or_else(|| UnpackError::UnknownFormat { path: request.archive.to_owned() })?;
        let (packed, count) = Counted::new(file.try_clone().map_err(open(request.archive))?, cancel);
        let plan = match format {
            Format::Squashfs => Plan::squashfs(request, file)?,
            _ => Plan::tar(request, packed, format)?,
        };
        let subject = request.archive.file_name().unwrap_or_default().to_string_lossy();
        let tick =
            || progress.report(STAGE, &subject, count.load(Ordering::Relaxed), Some(size), Unit::Bytes);
        let limits = request.limits;
        let watch = Watch {
            inodes: limits.inodes,
            implied: plan.tool == "tar",
            seconds: limits.seconds,
            cancel,
            tick: &tick,
        };
        let ending = process::run(&self.program, &plan.job, &into, plan.feed, &watch)
            .map_err(|source| UnpackError::NoHelper { program: self.program.clone(), source })?;
        judge(request, plan.tool, ending)?;
        progress.report(STAGE, &subject, size, Some(size), Unit::Bytes);
        Ok(())
    }
}

struct Plan {
    tool: &'static str,
    job: Job,
    feed: Feed,
}

impl Plan {
    fn tar(
        request: &UnpackRequest<'_>,
        packed: impl Read + Send + 'static,
        format: Format,
    ) -> Result<Self, UnpackError> {
        need(request, "tar", "tar")?;
        let damaged = |source| damaged(request, source);
        let stream = archive::unpacked(packed, format).map_err(damaged)?;
        let mut stream = Bounded::new(stream, request.limits.bytes);
        let mut arguments: Vec<String> = TAR_ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--directory={TARGET}"));
        let mut head = Vec::new();
        if request.select != Select::All {
            stream.by_ref().take(PEEK_BYTES).read_to_end(&mut head).map_err(damaged)?;
        }
        let prefix = if has_dot_names(&head) { "./" } else { "" };
        match &request.select {
            Select::All => {}
            Select::Below(directory) => {
                let strip = directory.split('/').count() + usize::from(!prefix.is_empty());
                arguments.push(format!("--strip-components={strip}"));
                arguments.extend(["--".to_owned(), format!("{prefix}{}", checked(request, directory)?)]);
            }
            Select::Only(members) => {
                arguments.push("--".to_owned());
                for member in members {
                    arguments.push(format!("{prefix}{}", checked(request, member)?));
                }
            }
        }
        let job =
            Job { program: "tar".to_owned(), arguments, bytes: request.limits.bytes, bind_archive: false };
        Ok(Self { tool: "tar", job, feed: Feed::Stream(Box::new(Cursor::new(head).chain(stream))) })
    }

    fn squashfs(request: &UnpackRequest<'_>, file: File) -> Result<Self, UnpackError> {
        need(request, "unsquashfs", "squashfs-tools")?;
        let fixed =
            ["-force", "-no-progress", "-info", "-processors", "4", "-data-queue", "64", "-frag-queue", "64"];
        let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
        arguments.extend(["-dest", TARGET, ARCHIVE].map(str::to_owned));
        match &request.select {
            Select::All => {}
            Select::Below(_) => {
                return Err(UnpackError::NotSelectable { path: request.archive.to_owned() });
            }
            Select::Only(members) => {
                for member in members {
                    arguments.push(checked(request, member)?.to_owned());
                }
            }
        }
        let bytes = request.limits.bytes;
        let job = Job { program: "unsquashfs".to_owned(), arguments, bytes, bind_archive: true };
        Ok(Self { tool: "unsquashfs", job, feed: Feed::File(file) })
    }
}

fn need(request: &UnpackRequest<'_>, tool: &'static str, package: &'static str) -> Result<(), UnpackError> {
    let path = request.archive.to_owned();
    SystemHost::find(tool).map(drop).ok_or(UnpackError::MissingTool { path, tool, package })
}

/// A member's name as we pass it on: relative, plain, without a wildcard an option could make of it.
fn checked<'a>(request: &UnpackRequest<'_>, member: &'a str) -> Result<&'a str, UnpackError> {
    let mut parts = Path::new(member).components();
    let is_plain = !member.is_empty()
        && !member.starts_with('-')
        && !member.contains(['*', '?', '[', '\\', '\0'])
        && parts.all(|part| matches!(part, Component::Normal(_)));
    let missing =
        || UnpackError::NotInArchive { path: request.archive.to_owned(), wanted: member.to_owned() };
    if is_plain { Ok(member) } else { Err(missing()) }
}

/// Whether the first real member of a tar stream is called `./…`; pax and GNU headers before it are passed over.
fn has_dot_names(head: &[u8]) -> bool {
    let mut rest = head;
    while let Some(header) = rest.get(..512) {
        let size = std::str::from_utf8(&header[124..136]).unwrap_or_default();
        let size = u64::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        if !matches!(header[156], b'x' | b'g' | b'L' | b'K') {
            return header.starts_with(b"./");
        }
        let blocks = usize::try_from(size.div_ceil(512)).unwrap_or(usize::MAX).saturating_add(1);
        rest = rest.get(blocks.saturating_mul(512)..).unwrap_or_default();
    }
    false
}

fn damaged(request: &UnpackRequest<'_>, source: io::Error) -> UnpackError {
    let path = request.archive.to_owned();
    if archive::is_too_long(&source) {
        UnpackError::TooManyBytes { path, limit: request.limits.bytes }
    } else if source.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Cancelled>) {
        UnpackError::Cancelled
    } else {
        UnpackError::Damaged { path, source }
    }
}

fn judge(request: &UnpackRequest<'_>, tool: &'static str, ending: Ending) -> Result<(), UnpackError> {
    let path = request.archive.to_owned();
    let limits = request.limits;
    let (status, stderr) = match ending {
        Ending::Cancelled => return Err(UnpackError::Cancelled),
        Ending::TooSlow => return Err(UnpackError::TooSlow { path, seconds: limits.seconds }),
        Ending::TooManyFiles => return Err(UnpackError::TooManyFiles { path, limit: limits.inodes }),
        // A stream that broke off is the cause, and what the tool says of it a consequence.
        Ending::Exited { fed: Err(error), .. } => return Err(damaged(request, error)),
        Ending::Exited { status, stderr, .. } => (status, stderr),
    };
    if status.success() {
        if !stderr.trim().is_empty() {
            tracing::debug!(archive = %path.display(), tool, said = %stderr.trim(), "unpacked with remarks");
        }
        return Ok(());
    }
    let too_large = stderr.contains("File too large");
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if code == Some(exit::TOO_MANY_BYTES) || too_large {
        return Err(UnpackError::TooManyBytes { path, limit: limits.bytes });
    }
    let message = shown(&stderr, &status.to_string());
    if code == Some(exit::NOT_BUILT) {
        return Err(UnpackError::NoJail { message });
    }
    match stderr.lines().find_map(|line| line.strip_suffix(": Not found in archive")) {
        Some(line) => {
            let wanted = line.rsplit(": ").next().unwrap_or(line).trim_start_matches("./").to_owned();
            Err(UnpackError::NotInArchive { path, wanted })
        }
        None => Err(UnpackError::Refused { path, tool, message }),
    }
}

fn shown(stderr: &str, status: &str) -> String {
    let text = stderr.trim();
    let mut start = text.len().saturating_sub(SHOWN_MESSAGE);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    if text.is_empty() { status.to_owned() } else { text[start..].replace('\n', "; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_names_are_seen_behind_extended_headers() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("comment", b"x".as_slice())]).unwrap();
        builder.append_dir("./rootfs", ".").unwrap();
        let bytes = builder.into_inner().unwrap();
        assert!(bytes[156] == b'x' && has_dot_names(&bytes[1024..]) == bytes[1024..].starts_with(b"./"));
        assert!(!has_dot_names(b"rootfs"));
        let mut header = vec![0_u8; 512];
        header[..9].copy_from_slice(b"./rootfs/");
        assert!(has_dot_names(&header));
    }
}
