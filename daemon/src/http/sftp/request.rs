//! The requests of SFTP version 3.

use super::wire::{Attributes, Malformed, Reader};
use larder_runtime::files::OpenHow;

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Open { path: String, how: OpenHow, attributes: Attributes },
    Close(&'a [u8]),
    Read { handle: &'a [u8], offset: u64, length: u32 },
    Write { handle: &'a [u8], offset: u64, data: &'a [u8] },
    LinkStatus(String),
    Status(String),
    OpenStatus(&'a [u8]),
    Change { path: String, attributes: Attributes },
    ChangeOpen { handle: &'a [u8], attributes: Attributes },
    OpenFolder(String),
    ReadFolder(&'a [u8]),
    Remove(String),
    MakeFolder { path: String, attributes: Attributes },
    RemoveFolder(String),
    RealPath(String),
    Rename { from: String, to: String, replace: bool },
    ReadLink(String),
    MakeLink { target: &'a str, link: String },
    Sync(&'a [u8]),
    Unknown,
}

/// Extensions that are answered, with their versions.
pub(super) const EXTENSIONS: [(&str, &str); 2] = [(POSIX_RENAME, "1"), (SYNC, "1")];
const POSIX_RENAME: &str = "posix-rename@openssh.com";
const SYNC: &str = "fsync@openssh.com";

impl<'a> Request<'a> {
    /// Reads what follows kind and id of a message.
    pub(super) fn parse(kind: u8, body: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match kind {
            3 => Self::Open { path: body.path()?, how: how(body.number()?), attributes: body.attributes()? },
            4 => Self::Close(body.bytes()?),
            5 => Self::Read { handle: body.bytes()?, offset: body.long()?, length: body.number()? },
            6 => Self::Write { handle: body.bytes()?, offset: body.long()?, data: body.bytes()? },
            7 => Self::LinkStatus(body.path()?),
            8 => Self::OpenStatus(body.bytes()?),
            9 => Self::Change { path: body.path()?, attributes: body.attributes()? },
            10 => Self::ChangeOpen { handle: body.bytes()?, attributes: body.attributes()? },
            11 => Self::OpenFolder(body.path()?),
            12 => Self::ReadFolder(body.bytes()?),
            13 => Self::Remove(body.path()?),
            14 => Self::MakeFolder { path: body.path()?, attributes: body.attributes()? },
            15 => Self::RemoveFolder(body.path()?),
            16 => Self::RealPath(body.path()?),
            17 => Self::Status(body.path()?),
            18 => Self::Rename { from: body.path()?, to: body.path()?, replace: false },
            19 => Self::ReadLink(body.path()?),
            // The target comes first, as everybody does it, not as the draft has it.
            20 => Self::MakeLink { target: body.text()?, link: body.path()? },
            200 => match body.text()? {
                POSIX_RENAME => Self::Rename { from: body.path()?, to: body.path()?, replace: true },
                SYNC => Self::Sync(body.bytes()?),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        })
    }
}

fn how(flags: u32) -> OpenHow {
    let has = |flag: u32| flags & flag != 0;
    OpenHow {
        read: has(1),
        write: has(2),
        append: has(4),
        create: has(8),
        truncate: has(16),
        exclusive: has(32),
    }
}
