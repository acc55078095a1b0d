//! Numbers and strings as SFTP writes them: big-endian, a length before each string.

use std::time::{Duration, SystemTime};

/// A message that does not follow the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It ends too early.
    #[error("the message ends too early")]
    Short,
    /// A path is not text.
    #[error("a path in the message is no UTF-8 text")]
    NotText,
}

/// What is left to read of a message.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    pub(super) fn long(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed::Short)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotText)
    }

    /// A path from the root on: there is no other folder that it could start from.
    pub(super) fn path(&mut self) -> Result<String, Malformed> {
        Ok(format!("/{}", self.text()?.trim_start_matches('/')))
    }

    /// Attributes; those that this server does not know are passed over.
    pub(super) fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.number()?;
        let mut attributes = Attributes::default();
        if flags & Attributes::SIZE != 0 {
            attributes.size = Some(self.long()?);
        }
        if flags & Attributes::OWNER != 0 {
            attributes.owner = Some((self.number()?, self.number()?));
        }
        if flags & Attributes::PERMISSIONS != 0 {
            attributes.permissions = Some(self.number()?);
        }
        if flags & Attributes::TIMES != 0 {
            let mut time = || Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(self.number()?.into()));
            attributes.times = Some((time()?, time()?));
        }
        if flags & Attributes::EXTENDED != 0 {
            for _ in 0..self.number()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(attributes)
    }
}

/// What is said of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    /// With the kind of the file, when it comes from the server.
    pub(super) permissions: Option<u32>,
    /// When it was read, when it was changed.
    pub(super) times: Option<(SystemTime, SystemTime)>,
}

impl Attributes {
    const SIZE: u32 = 1;
    const OWNER: u32 = 2;
    const PERMISSIONS: u32 = 4;
    const TIMES: u32 = 8;
    const EXTENDED: u32 = 1 << 31;
}

/// A message in the making, its length to be set.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&length(bytes).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn attributes(mut self, attributes: &Attributes) -> Self {
        let Attributes { size, owner, permissions, times } = *attributes;
        let flag = |is_there: bool, flag: u32| if is_there { flag } else { 0 };
        self = self.number(
            flag(size.is_some(), Attributes::SIZE)
                | flag(owner.is_some(), Attributes::OWNER)
                | flag(permissions.is_some(), Attributes::PERMISSIONS)
                | flag(times.is_some(), Attributes::TIMES),
        );
        if let Some(size) = size {
            self.0.extend_from_slice(&size.to_be_bytes());
        }
        if let Some((user, group)) = owner {
            self = self.number(user).number(group);
        }
        if let Some(permissions) = permissions {
            self = self.number(permissions);
        }
        if let Some((accessed, modified)) = times {
            self = self.number(seconds(accessed)).number(seconds(modified));
        }
        self
    }

    /// The message with its length in front.
    pub(super) fn done(mut self) -> Vec<u8> {
        let length = length(&self.0[4..]);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// As this version of the protocol counts time: in 32 bits.
fn seconds(time: SystemTime) -> u32 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
