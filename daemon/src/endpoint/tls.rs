//! The server's certificate: `server.crt` and `server.key` of the state folder, made and signed by itself when neither is
//! there.

use anyhow::{Context, Result, bail};
use larder_base::Clock;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// How many years a certificate that we make is good for.
const YEARS: i32 = 10;

/// The certificate for who connects.
pub(super) fn server_config(certificate: &Path, key: &Path, clock: &dyn Clock) -> Result<Arc<ServerConfig>> {
    match (certificate.exists(), key.exists()) {
        (true, true) => {}
        (false, false) => make(certificate, key, clock)?,
        (true, false) => bail!("{} is there, and {} is missing", certificate.display(), key.display()),
        (false, true) => bail!("{} is there, and {} is missing", key.display(), certificate.display()),
    }
    let unreadable = |path: &Path| format!("{} can't be read", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} and {} don't fit", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn make(certificate: &Path, key: &Path, clock: &dyn Clock) -> Result<()> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // A bucket may be the label before a name.
    let labels = [format!("*.{name}"), "*.localhost".to_owned()];
    let names = [name.clone(), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new([names.as_slice(), &labels].concat())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Larder");
    subject.push(DnType::CommonName, format!("root@{name}"));
    params.distinguished_name = subject;
    let today = clock.now().to_zoned(jiff::tz::TimeZone::UTC);
    let (month, day) = (today.month().unsigned_abs(), today.day().unsigned_abs().min(28));
    params.not_before = rcgen::date_time_ymd(i32::from(today.year()), month, day);
    params.not_after = rcgen::date_time_ymd(i32::from(today.year()) + YEARS, month, day);
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
    let signed = params.self_signed(&pair)?;
    // The key first: a certificate without one is told of, and a key alone too.
    write(key, 0o600, &pair.serialize_pem())?;
    write(certificate, 0o644, &signed.pem())
}

fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let fresh = path.with_added_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_half_of_a_pair_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
        server_config(&certificate, &key, &larder_base::SystemClock).unwrap();
        let made = fs::read(&certificate).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        server_config(&certificate, &key, &larder_base::SystemClock).unwrap();
        assert_eq!(fs::read(&certificate).unwrap(), made);
        fs::remove_file(&key).unwrap();
        let error = server_config(&certificate, &key, &larder_base::SystemClock).unwrap_err();
        assert!(error.to_string().contains("server.key is missing"), "{error}");
    }
}
