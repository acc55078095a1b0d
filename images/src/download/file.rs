//! One file, from the first server that has it, into a part file that a later run can go on with.

use super::{DownloadError, Downloader, Url};
use crate::store::{StoreError, hash_into, origin_of};
use larder_base::progress::Unit;
use larder_base::{Cancel, Fingerprint, Progress};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

/// The key of the stage that progress is reported under.
const STAGE: &str = "download";
/// A server that always breaks off after a few bytes is given up at last.
const MOST_CONNECTIONS: u32 = 500;
const MOST_DOUBLINGS: u32 = 5;

/// What is known of a file before it is fetched.
#[derive(Debug, Clone)]
pub struct WantedFile {
    /// Its size.
    pub size: u64,
    /// Its hash; without one the caller must verify the content in another way.
    pub sha256: Option<Fingerprint>,
    /// Bytes of other files that were fetched before, for the progress.
    pub done_before: u64,
    /// Bytes of all files together, for the progress.
    pub total: u64,
}

/// Which version of which file a part file came from, kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    url: String,
    validator: String,
}

impl Origin {
    /// A strong ETag, or else the date of the last change; what has neither can't be gone on with.
    fn of(url: &Url, headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = text("etag").filter(|etag| !etag.starts_with("W/"));
        let validator = etag.or_else(|| text("last-modified"))?.to_owned();
        Some(Self { url: url.to_string(), validator })
    }
}

/// One file on its way.
struct Fetch<'a> {
    downloader: &'a Downloader,
    wanted: &'a WantedFile,
    part: &'a Path,
    origin: PathBuf,
    cancel: &'a Cancel,
    progress: &'a Progress,
}

impl Downloader {
    /// Fetches a file into `part`, from the first of `urls` that gives it, and checks size and hash. What is in
    /// `part` already is gone on with if the server still has that version, and thrown away if not. After an
    /// error `part` holds what came, if that is worth going on with; after success it is whole and synced to
    /// disk.
    pub async fn file(
        &self,
        urls: &[Url],
        wanted: &WantedFile,
        part: &Path,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(), DownloadError> {
        let fetch = Fetch { downloader: self, wanted, part, origin: origin_of(part), cancel, progress };
        let mut last = DownloadError::NoServer { what: part.display().to_string() };
        for url in urls {
            match fetch.from(url).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    tracing::info!(%url, %error, "a server did not give the file");
                    last = error;
                }
            }
        }
        Err(last)
    }
}

impl Fetch<'_> {
    /// Tries one server until it gives the file, refuses it, or fails too often in a row without progress.
    async fn from(&self, url: &Url) -> Result<(), DownloadError> {
        let (mut failures, mut has_restarted) = (0, false);
        for _ in 0..MOST_CONNECTIONS {
            let before = self.length().await;
            let error = match self.connection(url).await {
                Ok(()) => return Ok(()),
                // The joint may be at fault: once more, in one piece.
                Err(DownloadError::WrongHash { .. }) if before > 0 && !has_restarted => {
                    has_restarted = true;
                    continue;
                }
                Err(error) => error,
            };
            failures = if self.length().await > before { 0 } else { failures + 1 };
            if !error.is_passing() || failures >= self.downloader.options.attempts {
                return Err(error);
            }
            tracing::debug!(%url, %error, failures, "trying again");
            let pause = self.downloader.options.pause * 2_u32.pow(failures.min(MOST_DOUBLINGS));
            tokio::select! {
                () = super::cancelled(self.cancel) => return Err(DownloadError::Cancelled),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Err(DownloadError::Changed { url: url.to_string() })
    }

    /// One connection: goes on where the part file ends, or begins anew.
    async fn connection(&self, url: &Url) -> Result<(), DownloadError> {
        let mut have = self.length().await;
        let origin = self.read_origin().await.filter(|origin| origin.url == url.as_str());
        let may_continue = have == self.wanted.size && self.wanted.sha256.is_some() || origin.is_some();
        if have > self.wanted.size || (have > 0 && !may_continue) {
            self.discard().await?;
            have = 0;
        }
        let mut hash = self.hash_so_far(have).await?;
        if have < self.wanted.size || have == 0 {
            let headers = match &origin {
                Some(origin) if have > 0 => {
                    vec![("range", format!("bytes={have}-")), ("if-range", origin.validator.clone())]
                }
                _ => Vec::new(),
            };
            let response = self.downloader.get(url, &headers, self.cancel).await?;
            let file = match response.status().as_u16() {
                206 if have > 0 => {
                    self.check_range(url, &response, have, origin.as_ref()).await?;
                    self.open(true).await?
                }
                200 => {
                    (have, hash) = (0, Sha256::new());
                    self.check_size(url, &response)?;
                    self.discard().await?;
                    self.write_origin(Origin::of(url, response.headers())).await?;
                    self.open(false).await?
                }
                // What we have is past the end of what the server has now.
                206 | 416 => {
                    self.discard().await?;
                    return Err(DownloadError::Changed { url: url.to_string() });
                }
                status => return Err(DownloadError::Status { url: url.to_string(), status }),
            };
            self.receive(url, response, file, &mut hash, have).await?;
        }
        self.check_hash(url, hash).await
    }

    async fn receive(
        &self,
        url: &Url,
        mut response: Response,
        mut file: File,
        hash: &mut Sha256,
        mut have: u64,
    ) -> Result<(), DownloadError> {
        let wrong_size =
            |found| DownloadError::WrongSize { url: url.to_string(), expected: self.wanted.size, found };
        let result = loop {
            let chunk = match self.downloader.patiently(url, self.cancel, response.chunk()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            have += chunk.len() as u64;
            if have > self.wanted.size {
                break Err(wrong_size(have));
            }
            hash.update(&chunk);
            if let Err(error) = file.write_all(&chunk).await {
                break Err(self.failed("write", self.part)(error));
            }
            let (done, total) = (self.wanted.done_before + have, self.wanted.total);
            self.progress.report(STAGE, "", done, Some(total), Unit::Bytes);
        };
        // Whatever came is kept: the next connection goes on with it.
        file.flush().await.map_err(self.failed("write", self.part))?;
        if matches!(result, Err(DownloadError::WrongSize { .. })) {
            self.discard().await?;
        }
        result?;
        if have < self.wanted.size {
            self.discard().await?;
            return Err(wrong_size(have));
        }
        file.sync_all().await.map_err(self.failed("write", self.part))
    }

    fn check_size(&self, url: &Url, response: &Response) -> Result<(), DownloadError> {
        let expected = self.wanted.size;
        match response.content_length() {
            Some(found) if found != expected => {
                Err(DownloadError::WrongSize { url: url.to_string(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// The rest must begin where ours ends, and be of the same version.
    async fn check_range(
        &self,
        url: &Url,
        response: &Response,
        have: u64,
        origin: Option<&Origin>,
    ) -> Result<(), DownloadError> {
        let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
        let expected = format!("bytes {have}-{}/{}", self.wanted.size.saturating_sub(1), self.wanted.size);
        let now = Origin::of(url, response.headers());
        let is_same = now.is_none() || now.as_ref() == origin;
        if range == Some(expected.as_str()) && is_same {
            return Ok(());
        }
        self.discard().await?;
        Err(DownloadError::Changed { url: url.to_string() })
    }

    async fn check_hash(&self, url: &Url, hash: Sha256) -> Result<(), DownloadError> {
        let Some(expected) = &self.wanted.sha256 else { return Ok(()) };
        let found = hex::encode(hash.finalize());
        if found == expected.as_str() {
            return Ok(());
        }
        self.discard().await?;
        Err(DownloadError::WrongHash { url: url.to_string(), expected: expected.clone(), found })
    }

    async fn hash_so_far(&self, have: u64) -> Result<Sha256, DownloadError> {
        let mut hash = Sha256::new();
        if have == 0 {
            return Ok(hash);
        }
        let (part, cancel) = (self.part.to_owned(), self.cancel.clone());
        let hashing =
            tokio::task::spawn_blocking(move || hash_into(&mut hash, &part, &cancel, |_| {}).map(|()| hash));
        match hashing.await {
            Ok(Ok(hash)) => Ok(hash),
            Ok(Err(StoreError::Cancelled)) => Err(DownloadError::Cancelled),
            Ok(Err(error)) => Err(DownloadError::Store(error)),
            Err(error) => Err(self.failed("read", self.part)(io::Error::other(error))),
        }
    }

    async fn length(&self) -> u64 {
        tokio::fs::metadata(self.part).await.map_or(0, |stat| stat.len())
    }

    async fn open(&self, append: bool) -> Result<File, DownloadError> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append).mode(0o600);
        options.open(self.part).await.map_err(self.failed("open", self.part))
    }

    async fn read_origin(&self) -> Option<Origin> {
        serde_json::from_slice(&tokio::fs::read(&self.origin).await.ok()?).ok()
    }

    async fn write_origin(&self, origin: Option<Origin>) -> Result<(), DownloadError> {
        let Some(origin) = origin else { return Ok(()) };
        let bytes = serde_json::to_vec(&origin).unwrap_or_default();
        tokio::fs::write(&self.origin, bytes).await.map_err(self.failed("write", &self.origin))
    }

    async fn discard(&self) -> Result<(), DownloadError> {
        for path in [self.part, &self.origin] {
            match tokio::fs::remove_file(path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DownloadError + use<> {
        let path = path.to_owned();
        move |source| DownloadError::File { what, path, source }
    }
}
