//! Ids inside the values of extended attributes, changed without touching the rest.

use std::io;

/// Changes an id; none when it is not in the map.
pub(super) type Change<'a> = &'a dyn Fn(u32) -> Option<u32>;

const ACL_VERSION: u32 = 2;
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

/// The value of `system.posix_acl_access` or `_default` with its named users and groups changed.
///
/// It is a version and entries of tag, permissions and id, little-endian; only named entries have an id.
pub(super) fn acl(value: &[u8], user: Change<'_>, group: Change<'_>) -> io::Result<Vec<u8>> {
    let refuse = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut changed = value.to_vec();
    let (version, entries) =
        changed.split_first_chunk_mut::<ACL_HEADER>().ok_or_else(|| refuse("an access list is too short"))?;
    if u32::from_le_bytes(*version) != ACL_VERSION || !entries.len().is_multiple_of(ACL_ENTRY) {
        return Err(refuse("an access list of an unknown form"));
    }
    for entry in entries.chunks_exact_mut(ACL_ENTRY) {
        let (head, id) = entry.split_at_mut(4);
        let change = match u16::from_le_bytes([head[0], head[1]]) {
            ACL_USER => user,
            ACL_GROUP => group,
            _ => continue,
        };
        let old = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
        let new = change(old).ok_or_else(|| refuse("an access list names an id outside the map"))?;
        id.copy_from_slice(&new.to_le_bytes());
    }
    Ok(changed)
}

const CAPABILITY_REVISIONS: u32 = 0xFF00_0000;
const CAPABILITY_2: u32 = 0x0200_0000;
const CAPABILITY_3: u32 = 0x0300_0000;
const LENGTH_2: usize = 20;
const LENGTH_3: usize = 24;

/// The value of `security.capability` for another root: revision 2 has the machine's root, revision 3 names
/// its own at the end.
pub(super) fn capability(value: &[u8], user: Change<'_>) -> io::Result<Vec<u8>> {
    let refuse = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let magic = value.first_chunk().map(|magic| u32::from_le_bytes(*magic));
    let root = match magic.map(|magic| magic & CAPABILITY_REVISIONS) {
        Some(CAPABILITY_2) if value.len() == LENGTH_2 => 0,
        Some(CAPABILITY_3) if value.len() == LENGTH_3 => {
            u32::from_le_bytes([value[20], value[21], value[22], value[23]])
        }
        _ => return Err(refuse("file capabilities of an unknown form")),
    };
    let root = user(root).ok_or_else(|| refuse("file capabilities of a root outside the map"))?;
    let flags = magic.unwrap_or(0) & !CAPABILITY_REVISIONS;
    let mut changed = value[..LENGTH_2].to_vec();
    let revision = if root == 0 { CAPABILITY_2 } else { CAPABILITY_3 };
    changed[..4].copy_from_slice(&(revision | flags).to_le_bytes());
    if root != 0 {
        changed.extend(root.to_le_bytes());
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up(id: u32) -> Option<u32> {
        (id < 1000).then_some(id + 100_000)
    }

    fn down(id: u32) -> Option<u32> {
        id.checked_sub(100_000)
    }

    fn entry(tag: u16, id: u32) -> Vec<u8> {
        [&tag.to_le_bytes()[..], &7u16.to_le_bytes(), &id.to_le_bytes()].concat()
    }

    #[test]
    fn only_named_entries_of_an_access_list_change() {
        let list = |user, group| {
            let entries =
                [entry(0x01, u32::MAX), entry(0x02, user), entry(0x08, group), entry(0x20, u32::MAX)];
            [&2u32.to_le_bytes()[..], &entries.concat()].concat()
        };
        assert_eq!(acl(&list(5, 6), &up, &up).unwrap(), list(100_005, 100_006));
        assert_eq!(acl(&list(100_005, 100_006), &down, &down).unwrap(), list(5, 6));
        assert!(acl(&list(5000, 6), &up, &up).is_err());
    }

    #[test]
    fn capabilities_get_their_root_and_lose_it_again() {
        let plain = [&0x0200_0001u32.to_le_bytes()[..], &[9; 16]].concat();
        let rooted = [&0x0300_0001u32.to_le_bytes()[..], &[9; 16], &100_000u32.to_le_bytes()].concat();
        assert_eq!(capability(&plain, &up).unwrap(), rooted);
        assert_eq!(capability(&rooted, &down).unwrap(), plain);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = acl(&bytes, &up, &up);
            let _ = capability(&bytes, &up);
        }
    }
}
