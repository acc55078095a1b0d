//! How a bucket is spelled in radosgw, and back.
//!
//! Each bucket belongs to a user of its own, and each of its keys to a subuser of that. The user's name says which pool, which
//! bucket and which of those that ever had that name: so nobody else's user is taken for ours, nor an older bucket's for a new
//! one's. Bucket names are one space for all users of a gateway; the pool's prefix goes before ours.

use larder_storage_driver::{Content, ObjectBucket, Place, VolumeId, VolumeKind};
use uuid::Uuid;

/// What our users' names begin with.
const OURS: &str = "larder";

/// The name of a bucket's user.
pub(super) fn user(identity: &str, bucket: &ObjectBucket) -> String {
    let VolumeId { project, name, .. } = &bucket.volume;
    format!("{OURS}.{identity}.{}.{}_{name}", bucket.mark.simple(), escaped(project.as_str()))
}

/// The bucket of a user of the pool `identity`; `None` for anybody else's.
pub(super) fn read_user(identity: &str, user: &str) -> Option<ObjectBucket> {
    let rest = user.strip_prefix(OURS)?.strip_prefix('.')?.strip_prefix(identity)?.strip_prefix('.')?;
    let (mark, rest) = rest.split_once('.')?;
    let (project, name) = rest.split_once('_')?;
    let volume = VolumeId {
        kind: VolumeKind::Bucket,
        content: Content::Filesystem,
        project: unescaped(project)?.parse().ok()?,
        name: name.parse().ok()?,
    };
    let bucket = ObjectBucket { volume, mark: Uuid::try_parse(mark).ok()? };
    (self::user(identity, &bucket) == user).then_some(bucket)
}

/// The places that the names of all users of a gateway tell of.
pub(super) fn places(identity: &str, users: &[String]) -> Vec<Place> {
    let volumes = users.iter().filter_map(|user| read_user(identity, user)).map(|bucket| bucket.volume);
    let mut places: Vec<_> = volumes.map(|volume| Place::live(&volume)).collect();
    places.sort();
    places.dedup();
    places
}

/// The subuser that has a key.
pub(super) fn subuser(user: &str, key: &str) -> String {
    format!("{user}:{}", escaped(key))
}

/// What is no ASCII letter, digit, dash or dot, as `~` and two hexadecimal digits a byte.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => out.push(char::from(byte)),
            other => out.push_str(&format!("~{other:02x}")),
        }
    }
    out
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'~' => {
                let (digits, after) = after.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                after
            }
            plain => {
                bytes.push(*plain);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(project: &str, name: &str, mark: u128) -> Option<ObjectBucket> {
        let (project, name) = (project.parse().ok()?, name.parse().ok()?);
        let volume = VolumeId { kind: VolumeKind::Bucket, content: Content::Filesystem, project, name };
        Some(ObjectBucket { volume, mark: Uuid::from_u128(mark) })
    }

    proptest! {
        #[test]
        fn a_bucket_reads_back_from_its_user(project in "[a-z][a-z~:.é-]{0,10}[a-z0-9]", name in "[a-z0-9][a-z0-9.-]{1,60}[a-z0-9]", mark: u128) {
            let Some(bucket) = bucket(&project, &name, mark) else { return Ok(()) };
            let user = user("0123", &bucket);
            prop_assert!(!user.contains([':', '$']) && user.is_ascii(), "{user}");
            prop_assert_eq!(read_user("0123", &user), Some(bucket));
            prop_assert_eq!(read_user("012", &user), None);
        }

        #[test]
        fn reading_users_never_panics(user in "\\PC{0,60}") {
            let _ = (read_user("0", &user), read_user("0", &format!("larder.0.{user}")), unescaped(&user));
        }
    }

    #[test]
    fn foreign_users_are_left_out() {
        let ours = user("77", &bucket("default", "b-1", 1).unwrap());
        let other = user("78", &bucket("default", "b-2", 2).unwrap());
        let users = [ours.clone(), other, "admin".to_owned(), "larder.77.x.default_b".to_owned(), ours];
        let places = places("77", &users);
        assert_eq!(places.iter().map(|place| place.volume.name.as_str()).collect::<Vec<_>>(), ["b-1"]);
    }

    #[test]
    fn a_key_of_any_name_is_a_subuser() {
        assert_eq!(subuser("u", "backup"), "u:backup");
        assert_eq!(subuser("u", "a:b_ü"), "u:a~3ab~5f~c3~bc");
    }
}
