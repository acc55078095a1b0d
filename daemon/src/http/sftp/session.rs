//! What one client has open, and the answers to its requests.

use super::LIMIT;
use super::request::{EXTENSIONS, Request};
use super::wire::{Attributes, Malformed, Reader, Writer};
use crate::service::ServiceError;
use jiff::Timestamp;
use larder_runtime::files::{Change, Entry, EntryKind, FileRoot, FilesError, Folder, NewFile, OpenHow};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much one client may have open.
const HANDLES: usize = 256;
/// How many entries of a folder one answer has. With names of 255 bytes they fit into a message.
const ENTRIES: usize = 100;
/// How much of a file one answer has: all of a message but its head.
const READ: u32 = LIMIT - 1024;
const VERSION: u32 = 3;

/// The outcomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// Why a request is refused.
#[derive(Debug)]
struct Refusal(Code, String);

type Answer = Result<Writer, Refusal>;

#[derive(Debug)]
enum Open {
    File { path: String, file: File },
    Folder(Folder),
}

/// A client's side of the files.
#[derive(Debug)]
pub(super) struct Session {
    open: BTreeMap<u32, Open>,
    next: u32,
    root: FileRoot,
}

impl Session {
    pub(super) fn new(root: FileRoot) -> Self {
        Self { open: BTreeMap::new(), next: 0, root }
    }

    /// Answers a message, which is given without its length. A message without an id can't be answered.
    pub(super) fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (&kind, rest) = message.split_first().ok_or(Malformed::Short)?;
        let mut body = Reader(rest);
        let id = body.number()?;
        if kind == 1 {
            // The greeting; in the id's place it has the client's version.
            let greeting = Writer::new(2).number(VERSION);
            let add = |writer: Writer, (name, version)| writer.text(name).text(version);
            return Ok(EXTENSIONS.into_iter().fold(greeting, add).done());
        }
        let answer = match Request::parse(kind, &mut body) {
            Ok(request) => self.perform(id, request),
            Err(error) => Err(Refusal(Code::BadMessage, error.to_string())),
        };
        Ok(answer.unwrap_or_else(|Refusal(code, text)| status(id, code, &text)).done())
    }

    fn perform(&mut self, id: u32, request: Request<'_>) -> Answer {
        match request {
            Request::Open { path, how, attributes } => return self.open_file(id, path, how, &attributes),
            Request::Close(handle) => {
                self.open.remove(&number_of(handle)?).ok_or_else(no_handle)?;
            }
            Request::Read { handle, offset, length } => return self.read(id, handle, offset, length),
            Request::Write { handle, offset, data } => self.file(handle)?.1.write_all_at(data, offset)?,
            Request::LinkStatus(path) => return Ok(described(id, &self.root.entry(&path)?)),
            Request::Status(path) => return Ok(described(id, &self.root.target(&path)?)),
            Request::OpenStatus(handle) => {
                let entry = match self.open.get(&number_of(handle)?).ok_or_else(no_handle)? {
                    Open::File { path, file } => self.root.entry_of_open(file, path)?,
                    Open::Folder(folder) => self.root.entry_of_folder(folder)?,
                };
                return Ok(described(id, &entry));
            }
            Request::Change { path, attributes } => self.root.change(&path, change(&attributes))?,
            Request::ChangeOpen { handle, attributes } => {
                let (path, file) = self.file(handle)?;
                self.root.change_open(file, path, change(&attributes))?;
            }
            Request::OpenFolder(path) => {
                let folder = self.root.open_folder(&path)?;
                return self.keep(id, Open::Folder(folder));
            }
            Request::ReadFolder(handle) => return self.read_folder(id, handle),
            Request::Remove(path) => self.remove(&path, false)?,
            Request::RemoveFolder(path) => self.remove(&path, true)?,
            Request::MakeFolder { path, attributes } => {
                if self.root.entry(&path).is_ok() {
                    return Err(FilesError::Exists(path).into());
                }
                self.root.make_directory(&path, new_file(&attributes))?;
            }
            Request::RealPath(path) => return Ok(one_name(id, &cleaned(&path))),
            Request::Rename { from, to, replace } => self.root.rename(&from, &to, replace)?,
            Request::ReadLink(path) => match self.root.entry(&path)?.kind {
                EntryKind::Symlink(target) => return Ok(one_name(id, &target)),
                _ => return Err(Refusal(Code::Failure, format!("{path} is not a symlink"))),
            },
            Request::MakeLink { target, link } => {
                self.root.make_link(&link, target, NewFile::default())?;
            }
            Request::Sync(handle) => self.file(handle)?.1.sync_all()?,
            Request::Unknown => {
                return Err(Refusal(Code::Unsupported, "this request is not known here".to_owned()));
            }
        }
        Ok(status(id, Code::Ok, ""))
    }

    fn open_file(&mut self, id: u32, path: String, how: OpenHow, attributes: &Attributes) -> Answer {
        // Before anything is made or cut off.
        self.must_have_room()?;
        let only_reads = how == OpenHow { read: true, ..OpenHow::default() };
        if only_reads && self.root.target(&path)?.kind == EntryKind::Directory {
            // Clients open what they copy before they look what it is.
            let folder = self.root.open_folder(&path)?;
            return self.keep(id, Open::Folder(folder));
        }
        let file = self.root.open_file(&path, how, new_file(attributes))?;
        self.keep(id, Open::File { path, file })
    }

    fn read(&self, id: u32, handle: &[u8], offset: u64, length: u32) -> Answer {
        let file = self.file(handle)?.1;
        let mut content = vec![0; usize::try_from(length.min(READ)).unwrap_or(0)];
        let mut filled = 0;
        while filled < content.len() {
            match file.read_at(&mut content[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if filled == 0 && length > 0 {
            return Err(Refusal(Code::Eof, "the file ends here".to_owned()));
        }
        Ok(Writer::new(103).number(id).bytes(&content[..filled]))
    }

    fn read_folder(&mut self, id: u32, handle: &[u8]) -> Answer {
        let Some(Open::Folder(folder)) = self.open.get_mut(&number_of(handle)?) else {
            return Err(no_handle());
        };
        let entries = self.root.next_entries(folder, ENTRIES)?;
        if entries.is_empty() {
            return Err(Refusal(Code::Eof, "the folder has no more entries".to_owned()));
        }
        let answer = Writer::new(104).number(id).number(u32::try_from(entries.len()).unwrap_or(0));
        Ok(entries.iter().fold(answer, |answer, (name, entry)| {
            answer.text(name).text(&line(name, entry)).attributes(&attributes(entry))
        }))
    }

    /// Removes a folder, or what is none.
    fn remove(&self, path: &str, folder: bool) -> Result<(), Refusal> {
        let is_folder = self.root.entry(path)?.kind == EntryKind::Directory;
        if is_folder != folder {
            let what = if is_folder { "a directory" } else { "no directory" };
            return Err(Refusal(Code::Failure, format!("{path} is {what}")));
        }
        Ok(self.root.remove(path, false)?)
    }

    fn must_have_room(&self) -> Result<(), Refusal> {
        if self.open.len() < HANDLES {
            return Ok(());
        }
        Err(Refusal(Code::Failure, format!("{HANDLES} files and folders are open: close some first")))
    }

    fn keep(&mut self, id: u32, open: Open) -> Answer {
        self.must_have_room()?;
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let handle = self.next;
        self.open.insert(handle, open);
        self.next = handle.wrapping_add(1);
        Ok(Writer::new(102).number(id).bytes(&handle.to_be_bytes()))
    }

    fn file(&self, handle: &[u8]) -> Result<(&str, &File), Refusal> {
        match self.open.get(&number_of(handle)?) {
            Some(Open::File { path, file }) => Ok((path, file)),
            _ => Err(no_handle()),
        }
    }
}

fn number_of(handle: &[u8]) -> Result<u32, Refusal> {
    handle.try_into().map(u32::from_be_bytes).map_err(|_| no_handle())
}

fn no_handle() -> Refusal {
    Refusal(Code::Failure, "the handle is not open for this".to_owned())
}

impl From<FilesError> for Refusal {
    fn from(error: FilesError) -> Self {
        let code = match &error {
            FilesError::NotFound(_) => Code::NoSuchFile,
            FilesError::Io { source, .. } => code_of(source),
            _ => Code::Failure,
        };
        Self(code, ServiceError::from(error).message)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self(code_of(&error), error.to_string())
    }
}

fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::NotFound => Code::NoSuchFile,
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::Failure,
    }
}

fn status(id: u32, code: Code, text: &str) -> Writer {
    Writer::new(101).number(id).number(code as u32).text(text).text("en")
}

fn described(id: u32, entry: &Entry) -> Writer {
    Writer::new(105).number(id).attributes(&attributes(entry))
}

fn one_name(id: u32, name: &str) -> Writer {
    Writer::new(104).number(id).number(1).text(name).text(name).attributes(&Attributes::default())
}

fn new_file(attributes: &Attributes) -> NewFile {
    let (user, group) = attributes.owner.unzip();
    NewFile { user, group, mode: attributes.permissions.map(|mode| mode & 0o7777) }
}

fn change(attributes: &Attributes) -> Change {
    let NewFile { user, group, mode } = new_file(attributes);
    Change { user, group, mode, length: attributes.size, times: attributes.times }
}

fn attributes(entry: &Entry) -> Attributes {
    let kind = match entry.kind {
        EntryKind::File => 0o100_000,
        EntryKind::Directory => 0o040_000,
        EntryKind::Symlink(_) => 0o120_000,
        // Whatever it is, it can be opened no more than a socket can.
        EntryKind::Other => 0o140_000,
    };
    Attributes {
        size: Some(entry.size),
        owner: Some((entry.user, entry.group)),
        permissions: Some(kind | entry.mode),
        times: Some((entry.modified, entry.modified)),
    }
}

/// An entry for people, as `ls -l` writes it.
fn line(name: &str, entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink(_) => 'l',
        EntryKind::Other => '?',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let mode: String =
        bits.map(|(place, letter)| if entry.mode & (0o400 >> place) == 0 { '-' } else { letter }).collect();
    let modified = Timestamp::try_from(entry.modified).unwrap_or_default().strftime("%b %e %Y").to_string();
    format!("{kind}{mode} 1 {:<8} {:<8} {:>8} {modified} {name}", entry.user, entry.group, entry.size)
}

/// The path without `.`, `..` and doubled slashes.
fn cleaned(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
