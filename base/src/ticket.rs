//! Whose unfinished work a thing on disk is.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A text is not a ticket or kept id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a ticket")]
pub struct TicketError(pub String);

/// Names the work that staged or trashed something: which member, in which run of its daemon, in which
/// operation. A member sweeps only tickets of its own whose run is over.
///
/// On disk it is spelled `<member>.<boot>.<operation>`, each without dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ticket {
    member: String,
    boot: Uuid,
    operation: Uuid,
}

impl Ticket {
    /// A ticket of `operation` on `member` in the daemon run `boot`. `member` is reduced to letters,
    /// digits and dashes.
    pub fn new(member: &str, boot: Uuid, operation: Uuid) -> Self {
        let clean = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
        let member: String = member.chars().map(clean).take(63).collect();
        Self { member, boot, operation }
    }

    /// The member that works under this ticket.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The daemon run that works under this ticket.
    pub fn boot(&self) -> Uuid {
        self.boot
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.member, self.boot.simple(), self.operation.simple())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Reads the spelling on disk.
    ///
    /// ```
    /// use larder_base::Ticket;
    /// let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    /// assert_eq!(ticket.to_string().parse(), Ok(ticket));
    /// ```
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let refuse = || TicketError(text.to_owned());
        let mut parts = text.split('.');
        let (Some(member), Some(boot), Some(operation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        if !member.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(refuse());
        }
        let uuid = |text: &str| Uuid::try_parse(text).map_err(|_| refuse());
        Ok(Self { member: member.to_owned(), boot: uuid(boot)?, operation: uuid(operation)? })
    }
}

impl TryFrom<String> for Ticket {
    type Error = TicketError;

    fn try_from(text: String) -> Result<Self, TicketError> {
        text.parse()
    }
}

impl From<Ticket> for String {
    fn from(ticket: Ticket) -> Self {
        ticket.to_string()
    }
}

/// The id of something kept out of sight on purpose (a user's trash, a parent of clones): a document
/// tells why and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeptId(Uuid);

impl KeptId {
    /// A new id that nothing bears yet.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for KeptId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.simple())
    }
}

impl FromStr for KeptId {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Uuid::try_parse(text).map(Self).map_err(|_| TicketError(text.to_owned()))
    }
}
