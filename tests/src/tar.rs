//! Tars made by hand, so that they can be wrong.

use std::collections::BTreeMap;

const BLOCK: usize = 512;

/// A tar file, member by member.
#[derive(Debug, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// One member of a kind (the type flag of ustar), with its link and data.
    #[must_use]
    pub fn with(mut self, name: &str, kind: u8, link: &str, data: &[u8]) -> Self {
        let mut header = [0_u8; BLOCK];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, if kind == b'5' { "0000755\0" } else { "0000644\0" });
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", data.len()));
        put(136, "14000000000\0");
        put(157, link);
        put(257, "ustar\u{0}00");
        header[156] = kind;
        seal(&mut header);
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// A file whose header says that it has a petabyte.
    #[must_use]
    pub fn claiming_too_much(self, name: &str) -> Self {
        let mut tar = self.with(name, b'0', "", b"");
        let start = tar.0.len() - BLOCK;
        let header = &mut tar.0[start..];
        header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
        seal(header);
        tar
    }

    /// A plain file.
    #[must_use]
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(name, b'0', "", data)
    }

    /// A folder.
    #[must_use]
    pub fn folder(self, name: &str) -> Self {
        self.with(name, b'5', "", b"")
    }

    /// A backup's manifest.
    #[must_use]
    pub fn index(self, text: &str) -> Self {
        self.file("backup/index.yaml", text.as_bytes())
    }

    /// The whole file.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// The files in an uncompressed tar, by their names; what is no plain file is left out.
pub fn files_in(mut archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut found = BTreeMap::new();
    while archive.len() >= BLOCK && archive[0] != 0 {
        let (header, rest) = archive.split_at(BLOCK);
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).unwrap_or_default();
        if header[156] == b'0' {
            let name = text(&header[..100]).trim_start_matches("./").to_owned();
            found.insert(name, rest[..size].to_vec());
        }
        archive = &rest[size.next_multiple_of(BLOCK).min(rest.len())..];
    }
    found
}

/// Writes the checksum of a header.
fn seal(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
