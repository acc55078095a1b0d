//! Secrets at rest. What the catalog holds of a secret is sealed with AES-256-GCM under the key in `secret.key`, and bound
//! to the access key it belongs to: a sealed secret that is moved to another access key does not open.

use super::{Result, ServiceError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of the key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;
/// What every sealed secret begins with: the number of its form.
const FORM: &str = "1:";

/// Seals secrets and opens them again.
#[derive(Debug, Clone)]
pub(super) struct Sealer {
    path: PathBuf,
}

impl Sealer {
    /// A sealer with the key in `path`.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the key unless it is there. Only right while nothing was sealed.
    pub(super) fn ensure_key(&self) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let mut bytes = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ServiceError::internal("no random bytes for a key"))?;
        write_once(&self.path, &bytes).map_err(|error| {
            ServiceError::internal(format!("{} can't be made: {error}", self.path.display()))
        })
    }

    /// Seals the secret of `access_key`.
    pub(super) fn seal(&self, access_key: &str, secret: &str) -> Result<String> {
        let mut bytes = secret.as_bytes().to_vec();
        let nonce = self
            .key()?
            .seal_in_place_append_tag(Aad::from(access_key.as_bytes()), &mut bytes)
            .map_err(|_| ServiceError::internal("a secret can't be sealed"))?;
        Ok(format!("{FORM}{}", STANDARD.encode([nonce.as_ref().as_slice(), &bytes].concat())))
    }

    /// Opens the secret of `access_key`. Fails when the key is missing or is another than it was sealed with.
    pub(super) fn open(&self, access_key: &str, sealed: &str) -> Result<String> {
        let unreadable = || {
            ServiceError::internal(format!(
                "the secret of access key {access_key} can't be opened with {}: put the file back that it was sealed with",
                self.path.display()
            ))
        };
        let text = sealed.strip_prefix(FORM).ok_or_else(unreadable)?;
        let all = STANDARD.decode(text).map_err(|_| unreadable())?;
        let (nonce, rest) = all.split_at_checked(NONCE_BYTES).ok_or_else(unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable())?;
        let mut bytes = rest.to_vec();
        let opened = self
            .key()?
            .open_in_place(nonce, Aad::from(access_key.as_bytes()), &mut bytes)
            .map_err(|_| unreadable())?;
        String::from_utf8(opened.to_vec()).map_err(|_| unreadable())
    }

    fn key(&self) -> Result<RandomizedNonceKey> {
        let wrong = |problem: &str| {
            ServiceError::internal(format!(
                "{} {problem}: put the file back that secrets were sealed with",
                self.path.display()
            ))
        };
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(64).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(wrong("is missing")),
            Err(error) => return Err(wrong(&format!("can't be read ({error})"))),
            Ok(_) => {}
        }
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong("is not a key of 32 bytes"))
    }
}

/// Writes a new file for its owner alone, durably; it is there whole or not at all.
fn write_once(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // A link does not replace: of two that make the key at the same moment one wins, for both.
    match fs::hard_link(&fresh, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::remove_file(&fresh)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_opens_with_its_own_key_and_access_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::new(folder.path().join("secret.key"));
        assert!(sealer.seal("AK", "s").unwrap_err().message.contains("is missing"));
        sealer.ensure_key().unwrap();
        let mode = fs::metadata(folder.path().join("secret.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed = sealer.seal("AK", "a/secret+with=signs").unwrap();
        assert!(!sealed.contains("secret"), "{sealed}");
        assert_ne!(sealed, sealer.seal("AK", "a/secret+with=signs").unwrap(), "a nonce was used twice");
        sealer.ensure_key().unwrap();
        assert_eq!(sealer.open("AK", &sealed).unwrap(), "a/secret+with=signs");
        assert!(sealer.open("OTHER", &sealed).is_err(), "it opened under another access key");
        for bad in ["", "1:", "1:AAAA", "2:AAAA", &sealed[..sealed.len() - 4]] {
            assert!(sealer.open("AK", bad).is_err(), "{bad:?}");
        }
        let other = Sealer::new(folder.path().join("other.key"));
        other.ensure_key().unwrap();
        let error = other.open("AK", &sealed).unwrap_err();
        assert!(error.message.contains("other.key"), "{error}");
        fs::write(folder.path().join("other.key"), "short").unwrap();
        assert!(other.seal("AK", "s").unwrap_err().message.contains("32 bytes"));
    }
}
