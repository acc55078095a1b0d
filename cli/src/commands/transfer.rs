//! Backup files in both directions, and the headers that go with raw bodies.

use super::{Context, Finished};
use crate::client::{ApiPath, Body, Client, Part};
use crate::output::Bar;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How a backup is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupOptions {
    /// The compression, such as gzip, zstd or none
    #[arg(long, default_value = "")]
    compression: String,
    /// Use the driver's own format; it can only be imported to a pool of the same driver
    #[arg(long)]
    optimized_storage: bool,
}

impl BackupOptions {
    /// The fields of the request that all backups have.
    pub(crate) fn request(&self) -> Value {
        let mut request = json!({"optimized_storage": self.optimized_storage});
        if !self.compression.is_empty() {
            request["compression_algorithm"] = json!(self.compression);
        }
        request
    }
}

/// Request headers in the spelling of both peers.
#[derive(Debug)]
pub(crate) struct Headers(HeaderMap);

impl Headers {
    /// None.
    pub(crate) fn new() -> Self {
        Self(HeaderMap::new())
    }

    /// Those of a body that is a file.
    pub(crate) fn octet_stream() -> Self {
        let mut headers = Self::new();
        headers.0.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers
    }

    /// Adds `X-LXD-name` and `X-Incus-name`.
    pub(crate) fn add(&mut self, name: &str, value: &str) -> Result<()> {
        let value =
            HeaderValue::from_str(value).with_context(|| format!("{value:?} can't be sent as {name}"))?;
        for family in ["x-lxd", "x-incus"] {
            self.0.insert(HeaderName::from_bytes(format!("{family}-{name}").as_bytes())?, value.clone());
        }
        Ok(())
    }

    /// Sets a header under its own name.
    pub(crate) fn set(&mut self, name: HeaderName, value: &str) -> Result<()> {
        self.0.insert(name, HeaderValue::from_str(value)?);
        Ok(())
    }

    /// The headers.
    pub(crate) fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// The value of `X-LXD-name` or `X-Incus-name` of an answer.
pub(crate) fn header_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let get = |family: &str| headers.get(format!("{family}-{name}"))?.to_str().ok();
    get("x-lxd").or_else(|| get("x-incus"))
}

/// Sends a file as the body of a POST.
pub(crate) async fn upload(
    context: &Context,
    client: &Client,
    path: &ApiPath,
    headers: Headers,
    file: &Path,
) -> Result<Finished> {
    let parts = vec![Part::File(file.to_owned())];
    upload_parts(context, client, path, headers, parts).await
}

/// Sends several pieces as the body of a POST.
pub(crate) async fn upload_parts(
    context: &Context,
    client: &Client,
    path: &ApiPath,
    headers: Headers,
    parts: Vec<Part>,
) -> Result<Finished> {
    let total = total_bytes(&parts)?;
    let bar = context.bar("Sending");
    bar.measure(total);
    let body = Body::parts(parts, bar.meter()).await?;
    let after = context.bar("Importing");
    let mut events = context.watch(client, &after).await;
    let change = client.upload(Method::POST, path, headers.into_map(), body).await?;
    drop(bar);
    context.finish(client, change, after, &mut events).await
}

fn total_bytes(parts: &[Part]) -> Result<u64> {
    let size = |part: &Part| match part {
        Part::Bytes(bytes) => Ok(bytes.len() as u64),
        Part::File(path) => {
            let metadata =
                std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
            if !metadata.is_file() {
                bail!("{} is not a file", path.display());
            }
            Ok(metadata.len())
        }
    };
    parts.iter().map(size).sum()
}

/// Makes a backup and writes it to a file. Servers that stream backups need no copy of it.
pub(crate) async fn export(
    context: &Context,
    client: &Client,
    backups: &ApiPath,
    mut request: Value,
    file: Option<&str>,
    subject: &str,
) -> Result<()> {
    let target = match file {
        Some(file) => PathBuf::from(file),
        None => PathBuf::from(format!("{subject}{}", extension(&request))),
    };
    if file == Some("-") {
        bail!("a backup can't be written to standard output: name a file");
    }
    // Found out before the server makes a backup for nothing.
    drop(PartFile::beside(&target)?);
    if client.has_extension("direct_backup").await? {
        let mut headers = Headers::new();
        headers.set(header::ACCEPT, "application/octet-stream")?;
        headers.set(header::CONTENT_TYPE, "application/json")?;
        let body = Body::bytes(request.to_string().into_bytes());
        let response = client.download(Method::POST, backups, headers.into_map(), body).await?;
        save(context, response, &target, subject).await?;
    } else {
        let name = format!("export-{}", Uuid::new_v4().simple());
        request["name"] = json!(name);
        // A client that dies must not leave its backup on the server for ever.
        request["expires_at"] =
            json!(Timestamp::now().checked_add(SignedDuration::from_hours(24))?.to_string());
        context.change(client, "Making a backup", Method::POST, backups, Some(request)).await?;
        let backup = backups.clone().at(&name);
        let saved = fetch_to(context, client, &backup.clone().at("export"), &target, subject).await;
        let removed = context.change(client, "Cleaning up", Method::DELETE, &backup, None).await;
        saved.and(removed.map(drop))?;
    }
    context.done(&format!("Backup written: {}", target.display()))
}

fn extension(request: &Value) -> &'static str {
    match request["compression_algorithm"].as_str().unwrap_or("gzip").split(' ').next() {
        Some("none") => ".tar",
        Some("zstd") => ".tar.zst",
        Some("xz") => ".tar.xz",
        Some("bzip2") => ".tar.bz2",
        Some("lzma") => ".tar.lzma",
        _ => ".tar.gz",
    }
}

/// Asks for a file and writes it.
pub(crate) async fn fetch_to(
    context: &Context,
    client: &Client,
    path: &ApiPath,
    target: &Path,
    what: &str,
) -> Result<()> {
    let response = client.download(Method::GET, path, HeaderMap::new(), Body::empty()).await?;
    save(context, response, target, what).await
}

/// Writes an answer's body to a file, which is there whole or not at all.
pub(crate) async fn save(
    context: &Context,
    response: Response<Incoming>,
    target: &Path,
    what: &str,
) -> Result<()> {
    let bar = context.bar(&format!("Receiving {what}"));
    let mut part = PartFile::beside(target)?;
    receive(response, &bar, &mut part).await?;
    part.finish(target)
}

/// The same for what only its owner may read, to a file that isn't there yet.
pub(crate) async fn save_secret(
    context: &Context,
    response: Response<Incoming>,
    target: &Path,
    what: &str,
) -> Result<()> {
    let bar = context.bar(&format!("Receiving {what}"));
    let mut part = PartFile::secret_beside(target)?;
    receive(response, &bar, &mut part).await?;
    part.finish_new(target)
}

async fn receive(response: Response<Incoming>, bar: &Bar, part: &mut PartFile) -> Result<()> {
    let length = measure(response.headers(), bar);
    let meter = bar.meter();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.context("the server stopped sending")?.into_data() {
            part.write(&chunk)?;
            meter(part.bytes);
        }
    }
    match length {
        Some(length) if part.bytes != length => {
            bail!("the server sent {} bytes of {length}", part.bytes)
        }
        _ => Ok(()),
    }
}

/// Shows how far an answer's body is, and returns its length when that is known.
pub(crate) fn measure(headers: &HeaderMap, bar: &Bar) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) => bar.measure(length),
        None => bar.count(),
    }
    length
}

/// A file in the making, beside its target, with the hash of what was written; removed when it isn't finished.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: tempfile::NamedTempFile,
    hash: Sha256,
    /// How much was written.
    pub(crate) bytes: u64,
}

impl PartFile {
    /// A new one in the folder of `target`.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        Self::with_mode(target, 0o644)
    }

    /// The same, for its owner alone.
    pub(crate) fn secret_beside(target: &Path) -> Result<Self> {
        Self::with_mode(target, 0o600)
    }

    fn with_mode(target: &Path, mode: u32) -> Result<Self> {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".larder-part-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
            .tempfile_in(folder)
            .with_context(|| format!("can't write to {}", folder.display()))?;
        Ok(Self { file, hash: Sha256::new(), bytes: 0 })
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.file.write_all(chunk).with_context(|| format!("can't write {}", self.file.path().display()))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// The hash of everything, which continues that of `before`.
    pub(crate) fn hash_continuing(&self, before: Option<&Self>) -> Result<String> {
        let Some(before) = before else { return Ok(hex::encode(self.hash.clone().finalize())) };
        let mut hash = before.hash.clone();
        std::io::copy(&mut std::fs::File::open(self.file.path())?, &mut HashWriter(&mut hash))?;
        Ok(hex::encode(hash.finalize()))
    }

    /// Gives it its name.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        self.file.persist(target).with_context(|| format!("can't write {}", target.display()))?;
        Ok(())
    }

    /// Gives it its name unless something has that name already.
    pub(crate) fn finish_new(self, target: &Path) -> Result<()> {
        self.file.persist_noclobber(target).with_context(|| format!("can't write {}", target.display()))?;
        Ok(())
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_sent_in_the_spelling_of_both_peers() {
        let mut headers = Headers::octet_stream();
        headers.add("name", "v1").unwrap();
        let map = headers.into_map();
        assert_eq!(map.get("X-LXD-name").unwrap(), "v1");
        assert_eq!(map.get("X-Incus-name").unwrap(), "v1");
        assert_eq!(header_of(&map, "name"), Some("v1"));
        assert!(Headers::new().add("name", "a\nb").is_err());
    }

    #[test]
    fn a_secret_is_its_owners_and_overwrites_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("larder.db");
        PartFile::secret_beside(&target).unwrap().finish_new(&target).unwrap();
        assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(PartFile::secret_beside(&target).unwrap().finish_new(&target).is_err());
    }

    #[test]
    fn a_split_image_is_hashed_over_both_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = PartFile::beside(&folder.path().join("a")).unwrap();
        let mut two = PartFile::beside(&folder.path().join("b")).unwrap();
        one.write(b"he").unwrap();
        two.write(b"llo").unwrap();
        let whole = hex::encode(Sha256::digest(b"hello"));
        assert_eq!(two.hash_continuing(Some(&one)).unwrap(), whole);
        drop((one, two));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "unfinished parts are removed");
    }
}
