//! Getting lists and files from image servers: over https, resumably, within bounds, and never taken for what
//! they are not.

mod cache;
mod error;
mod file;
mod image;

pub use cache::{CachedList, ListCache};
pub use error::DownloadError;
pub use file::WantedFile;
pub use reqwest::Url;

use error::Redirect;
use larder_base::Cancel;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const MOST_REDIRECTS: usize = 5;
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// Whose signature on a server's certificate counts.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// The authorities this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured.
    #[default]
    System,
    /// These certificates alone, in PEM.
    Only(Vec<u8>),
}

/// How a [`Downloader`] behaves.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// What it calls itself.
    pub user_agent: String,
    /// Whether plain http is used with other machines too; with this machine it always may.
    pub allow_http: bool,
    /// Whose signature counts.
    pub roots: Roots,
    /// How long a server may be silent.
    pub patience: Duration,
    /// How often in a row a server may fail without a byte of progress.
    pub attempts: u32,
    /// The wait after the first failure in a row; it doubles with each.
    pub pause: Duration,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            user_agent: format!("Larder/{}", env!("CARGO_PKG_VERSION")),
            allow_http: false,
            roots: Roots::System,
            patience: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_millis(500),
        }
    }
}

/// Gets lists and files from image servers. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Downloader {
    /// Made at its first use: without certificates on the machine only downloads fail.
    client: Arc<OnceLock<Client>>,
    options: DownloadOptions,
}

impl Downloader {
    /// Makes one. Fails when certificates that were given can't be read; those of the system are read when they are needed.
    pub fn new(options: DownloadOptions) -> Result<Self, DownloadError> {
        let downloader = Self { client: Arc::default(), options };
        if matches!(downloader.options.roots, Roots::Only(_)) {
            downloader.client()?;
        }
        Ok(downloader)
    }

    fn client(&self) -> Result<&Client, DownloadError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.new_client()?;
        Ok(self.client.get_or_init(|| client))
    }

    fn new_client(&self) -> Result<Client, DownloadError> {
        let options = &self.options;
        let allow_http = options.allow_http;
        let policy = Policy::custom(move |attempt| {
            if attempt.previous().len() > MOST_REDIRECTS {
                attempt.error(Redirect::TooMany(MOST_REDIRECTS))
            } else if !may_fetch(attempt.url(), allow_http) {
                attempt.error(Redirect::Plain)
            } else {
                attempt.follow()
            }
        });
        let mut builder = Client::builder()
            .user_agent(&options.user_agent)
            .connect_timeout(options.patience)
            .redirect(policy);
        if let Roots::Only(pem) = &options.roots {
            let certificates = Certificate::from_pem_bundle(pem).map_err(DownloadError::Client)?;
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(DownloadError::Client)
    }

    /// Gets a short document as bytes; at most `limit` of them.
    pub async fn bytes(&self, url: &Url, limit: u64, cancel: &Cancel) -> Result<Vec<u8>, DownloadError> {
        let response = self.get(url, &[], cancel).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(DownloadError::Status { url: url.to_string(), status: status.as_u16() });
        }
        let too_long = || DownloadError::TooLong { url: url.to_string(), limit };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_long());
        }
        let (mut response, mut bytes) = (response, Vec::new());
        while let Some(chunk) = self.patiently(url, cancel, response.chunk()).await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn get(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
        cancel: &Cancel,
    ) -> Result<Response, DownloadError> {
        if !may_fetch(url, self.options.allow_http) {
            return Err(DownloadError::Plain { url: url.to_string() });
        }
        let mut request = self.client()?.get(url.clone()).header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.patiently(url, cancel, request.send()).await
    }

    /// Waits for one answer of the server, but neither past its patience nor past a cancel.
    async fn patiently<T>(
        &self,
        url: &Url,
        cancel: &Cancel,
        answer: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, DownloadError> {
        let patience = self.options.patience;
        tokio::select! {
            biased;
            () = cancelled(cancel) => Err(DownloadError::Cancelled),
            answer = answer => answer.map_err(|source| error::of_request(url, source)),
            () = tokio::time::sleep(patience) => {
                Err(DownloadError::Silent { url: url.to_string(), seconds: patience.as_secs() })
            }
        }
    }
}

/// Ends when the work is cancelled.
async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_POLL).await;
    }
}

fn may_fetch(url: &Url, allow_http: bool) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => true,
        "http" => allow_http || is_loopback,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_or_by_permission() {
        let may = |url: &str, allow| may_fetch(&Url::parse(url).unwrap(), allow);
        assert!(may("https://images.example.org/", false));
        assert!(
            may("http://127.0.0.1:8080/", false)
                && may("http://[::1]/", false)
                && may("http://localhost/", false)
        );
        assert!(!may("http://images.example.org/", false) && may("http://images.example.org/", true));
        assert!(!may("http://localhost.example.org/", false));
        assert!(!may("file:///etc/passwd", true) && !may("ftp://127.0.0.1/", true));
    }
}
