//! Access control lists: who owns, and what is granted to whom.

use crate::directory::{Directory, Identity, IdentityName};
use crate::support::unavailable;
use s3s::dto::{
    AccessControlPolicy, Grant as GrantDto, Grantee as GranteeDto, Owner as OwnerDto, Permission, Type,
};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// Everybody, signed or not.
pub(crate) const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
/// Everybody with a key.
pub(crate) const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// How many grants a list may have, as with AWS.
const MAX_GRANTS: usize = 100;

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Right {
    FullControl,
    Read,
    Write,
    ReadAcp,
    WriteAcp,
}

impl Right {
    fn as_str(self) -> &'static str {
        match self {
            Self::FullControl => "FULL_CONTROL",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadAcp => "READ_ACP",
            Self::WriteAcp => "WRITE_ACP",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::FullControl, Self::Read, Self::Write, Self::ReadAcp, Self::WriteAcp]
            .into_iter()
            .find(|right| right.as_str() == text)
    }
}

/// To whom something is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grantee {
    User { id: String, name: String },
    Group(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) grantee: Grantee,
    pub(crate) right: Right,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acl {
    pub(crate) owner: String,
    pub(crate) owner_name: String,
    pub(crate) grants: Vec<Grant>,
}

/// What a request says of grants: a canned list, or headers.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) canned: Option<&'a str>,
    pub(crate) full_control: Option<&'a str>,
    pub(crate) read: Option<&'a str>,
    pub(crate) write: Option<&'a str>,
    pub(crate) read_acp: Option<&'a str>,
    pub(crate) write_acp: Option<&'a str>,
}

impl Asked<'_> {
    fn headers(&self) -> [(Option<&str>, Right); 5] {
        [
            (self.read, Right::Read),
            (self.write, Right::Write),
            (self.read_acp, Right::ReadAcp),
            (self.write_acp, Right::WriteAcp),
            (self.full_control, Right::FullControl),
        ]
    }

    /// Whether the request says anything.
    pub(crate) fn is_something(&self) -> bool {
        self.canned.is_some() || self.headers().iter().any(|(header, _)| header.is_some())
    }
}

impl Acl {
    /// Everything for its owner.
    pub(crate) fn private(owner: &Identity) -> Self {
        let grantee = Grantee::User { id: owner.id.clone(), name: owner.display_name.clone() };
        let grants = vec![Grant { grantee, right: Right::FullControl }];
        Self { owner: owner.id.clone(), owner_name: owner.display_name.clone(), grants }
    }

    /// A canned list for something of `owner` in a bucket of `bucket_owner`.
    pub(crate) fn canned(name: &str, owner: &Identity, bucket_owner: &Identity) -> S3Result<Self> {
        let mut acl = Self::private(owner);
        let group = |uri: &str, right| Grant { grantee: Grantee::Group(uri.to_owned()), right };
        let bucket_owner_may = |right| {
            let grantee =
                Grantee::User { id: bucket_owner.id.clone(), name: bucket_owner.display_name.clone() };
            (bucket_owner.id != owner.id).then_some(Grant { grantee, right })
        };
        match name {
            "private" => {}
            "public-read" => acl.grants.push(group(ALL_USERS, Right::Read)),
            "public-read-write" => {
                acl.grants.extend([group(ALL_USERS, Right::Read), group(ALL_USERS, Right::Write)]);
            }
            "authenticated-read" => acl.grants.push(group(AUTHENTICATED, Right::Read)),
            "bucket-owner-read" => acl.grants.extend(bucket_owner_may(Right::Read)),
            "bucket-owner-full-control" => acl.grants.extend(bucket_owner_may(Right::FullControl)),
            other => return Err(s3_error!(InvalidArgument, "{other} is no canned access control list")),
        }
        Ok(acl)
    }

    /// The list a request asks for, private when it doesn't say.
    pub(crate) async fn asked(
        asked: &Asked<'_>,
        owner: &Identity,
        bucket_owner: &Identity,
        directory: &dyn Directory,
    ) -> S3Result<Self> {
        let mut by_header = Vec::new();
        for (header, right) in asked.headers() {
            by_header.extend(header.map(|header| (header, right)));
        }
        if let Some(canned) = asked.canned {
            if !by_header.is_empty() {
                return Err(s3_error!(
                    InvalidRequest,
                    "a canned list and grants by header exclude each other"
                ));
            }
            return Self::canned(canned, owner, bucket_owner);
        }
        let mut acl = Self::private(owner);
        if !by_header.is_empty() {
            acl.grants.clear();
        }
        for (header, right) in by_header {
            for grantee in header.split(',') {
                let grantee = parse_grantee(grantee.trim(), directory).await?;
                acl.grants.push(Grant { grantee, right });
                if acl.grants.len() > MAX_GRANTS {
                    return Err(s3_error!(InvalidArgument, "a list has at most {MAX_GRANTS} grants"));
                }
            }
        }
        Ok(acl)
    }

    /// The list of a request's body.
    pub(crate) async fn from_policy(
        policy: AccessControlPolicy,
        owner: &str,
        directory: &dyn Directory,
    ) -> S3Result<Self> {
        let given = policy.owner.and_then(|owner| owner.id).unwrap_or_else(|| owner.to_owned());
        if given != owner {
            return Err(s3_error!(AccessDenied, "an owner can't be changed by an access control list"));
        }
        let found = directory.identity(IdentityName::Id(owner)).await.map_err(unavailable)?;
        let owner_name = found.map_or_else(|| owner.to_owned(), |identity| identity.display_name);
        let given = policy.grants.unwrap_or_default();
        if given.len() > MAX_GRANTS {
            return Err(malformed());
        }
        let mut grants = Vec::new();
        for grant in given {
            let permission = grant.permission.as_ref().map(Permission::as_str).unwrap_or_default();
            let right = Right::parse(permission).ok_or_else(malformed)?;
            let grantee = grantee_of(grant.grantee.ok_or_else(malformed)?, directory).await?;
            grants.push(Grant { grantee, right });
        }
        Ok(Self { owner: owner.to_owned(), owner_name, grants })
    }

    /// Whether somebody has a right by this list. `None` is a caller without a key.
    pub(crate) fn allows(&self, caller: Option<&str>, right: Right, ignore_public: bool) -> bool {
        self.grants.iter().any(|grant| {
            let is_them = match &grant.grantee {
                Grantee::User { id, .. } => caller == Some(id.as_str()),
                Grantee::Group(_) if ignore_public => false,
                Grantee::Group(uri) if uri == ALL_USERS => true,
                Grantee::Group(uri) => uri == AUTHENTICATED && caller.is_some(),
            };
            is_them && (grant.right == right || grant.right == Right::FullControl)
        })
    }

    /// Whether it grants anything to people nobody named.
    pub(crate) fn is_public(&self) -> bool {
        self.grants.iter().any(|grant| matches!(grant.grantee, Grantee::Group(_)))
    }

    /// As the protocol shows it: groups first, then users.
    pub(crate) fn to_dto(&self) -> (OwnerDto, Vec<GrantDto>) {
        let owner = OwnerDto { id: Some(self.owner.clone()), display_name: Some(self.owner_name.clone()) };
        let is_group = |grant: &&Grant| matches!(grant.grantee, Grantee::Group(_));
        let groups = self.grants.iter().filter(is_group);
        let grants = groups.chain(self.grants.iter().filter(|grant| !is_group(grant)));
        let grants = grants.map(|grant| GrantDto {
            grantee: Some(match &grant.grantee {
                Grantee::User { id, name } => GranteeDto {
                    display_name: Some(name.clone()),
                    email_address: None,
                    id: Some(id.clone()),
                    type_: Type::from_static(Type::CANONICAL_USER),
                    uri: None,
                },
                Grantee::Group(uri) => GranteeDto {
                    display_name: None,
                    email_address: None,
                    id: None,
                    type_: Type::from_static(Type::GROUP),
                    uri: Some(uri.clone()),
                },
            }),
            permission: Some(Permission::from_static(grant.right.as_str())),
        });
        (owner, grants.collect())
    }

    /// As an object's record keeps it: nothing for the private list of the bucket's owner, which most objects have. Many
    /// small objects are looked up quicker so.
    pub(crate) fn stored(&self, bucket_owner: &Identity) -> Option<String> {
        (*self != Self::private(bucket_owner)).then(|| self.to_json())
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn malformed() -> S3Error {
    S3Error::with_message(S3ErrorCode::MalformedACLError, "the access control list is not well-formed")
}

async fn user(name: IdentityName<'_>, directory: &dyn Directory) -> S3Result<Grantee> {
    let found = directory.identity(name).await.map_err(unavailable)?;
    let identity = found.ok_or_else(|| match name {
        IdentityName::Id(_) => s3_error!(InvalidArgument, "Invalid id"),
        IdentityName::Email(_) => {
            s3_error!(UnresolvableGrantByEmailAddress, "no account has this e-mail address")
        }
    })?;
    Ok(Grantee::User { id: identity.id, name: identity.display_name })
}

fn group(uri: &str) -> S3Result<Grantee> {
    match uri {
        ALL_USERS | AUTHENTICATED => Ok(Grantee::Group(uri.to_owned())),
        _ => Err(s3_error!(InvalidArgument, "Invalid group uri")),
    }
}

async fn grantee_of(grantee: GranteeDto, directory: &dyn Directory) -> S3Result<Grantee> {
    match (grantee.id, grantee.uri, grantee.email_address) {
        (Some(id), _, _) => user(IdentityName::Id(&id), directory).await,
        (None, Some(uri), _) => group(&uri),
        (None, None, Some(email)) => user(IdentityName::Email(&email), directory).await,
        (None, None, None) => Err(malformed()),
    }
}

/// `id="…"`, `emailAddress="…"` or `uri="…"`.
async fn parse_grantee(text: &str, directory: &dyn Directory) -> S3Result<Grantee> {
    let (kind, value) = text
        .split_once('=')
        .ok_or_else(|| s3_error!(InvalidArgument, "a grantee is id=…, emailAddress=… or uri=…"))?;
    let value = value.trim().trim_matches('"');
    match kind.trim().to_ascii_lowercase().as_str() {
        "id" => user(IdentityName::Id(value), directory).await,
        "emailaddress" => user(IdentityName::Email(value), directory).await,
        "uri" => group(value),
        other => Err(s3_error!(InvalidArgument, "{other} is no kind of grantee")),
    }
}
