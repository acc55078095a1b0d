//! Lists of images, and whole images into the store.

use super::{DownloadError, Downloader, Url, WantedFile};
use crate::simplestreams::{
    INDEX_PATH, ImageList, MOST_DOCUMENT_BYTES, StreamFile, StreamImage, parse_index, parse_products,
};
use crate::store::{ImageFiles, ImageStore, StoreError};
use larder_base::{Cancel, Fingerprint, Progress};
use std::path::Path;

impl Downloader {
    /// Gets the list of a server's images, from the first of its addresses that gives it.
    pub async fn list(&self, servers: &[Url], cancel: &Cancel) -> Result<ImageList, DownloadError> {
        let mut last = DownloadError::NoServer { what: "the list of images".to_owned() };
        for server in servers {
            match self.list_of(server, cancel).await {
                Ok(list) => return Ok(list),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn list_of(&self, server: &Url, cancel: &Cancel) -> Result<ImageList, DownloadError> {
        let url = below(server, INDEX_PATH)?;
        let document = |url: &Url| {
            let url = url.to_string();
            move |source| DownloadError::Document { url, source }
        };
        let index = self.bytes(&url, MOST_DOCUMENT_BYTES, cancel).await?;
        let mut list = ImageList::default();
        for path in parse_index(&index).map_err(document(&url))? {
            let url = below(server, &path)?;
            let products = self.bytes(&url, MOST_DOCUMENT_BYTES, cancel).await?;
            list.merge(parse_products(&products).map_err(document(&url))?);
        }
        Ok(list)
    }

    /// Gets an image into the store. Its files are checked one by one, then together against the fingerprint,
    /// and only then get their names there; whatever fails, no image appears. A later call goes on with what
    /// had come.
    pub async fn image(
        &self,
        servers: &[Url],
        image: &StreamImage,
        store: &ImageStore,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Fingerprint, DownloadError> {
        if store.files(&image.fingerprint).is_some() {
            return Ok(image.fingerprint.clone());
        }
        let parts = store.part(&image.fingerprint);
        let parts = ImageFiles { main: parts.main, rootfs: parts.rootfs.filter(|_| image.rootfs.is_some()) };
        let mut done_before = 0;
        let files = [(Some(&image.main), Some(&parts.main)), (image.rootfs.as_ref(), parts.rootfs.as_ref())];
        for (file, part) in files.into_iter().filter_map(|(file, part)| file.zip(part)) {
            let wanted =
                WantedFile { size: file.size, sha256: file.sha256.clone(), done_before, total: image.size };
            self.one(servers, file, &wanted, part, cancel, progress).await?;
            done_before += file.size;
        }
        let (store, expected) = (store.clone(), image.fingerprint.clone());
        let (cancel, progress) = (cancel.clone(), progress.clone());
        let publishing = tokio::task::spawn_blocking(move || {
            let published = store.publish(&parts, Some(&expected), &cancel, &progress);
            if matches!(published, Err(StoreError::Mismatch { .. })) {
                // There is nothing to go on with: the next try begins anew.
                store.discard(&parts)?;
            }
            published
        });
        match publishing.await {
            Ok(Ok(fingerprint)) => Ok(fingerprint),
            Ok(Err(StoreError::Cancelled)) | Err(_) => Err(DownloadError::Cancelled),
            Ok(Err(error)) => Err(DownloadError::Store(error)),
        }
    }

    async fn one(
        &self,
        servers: &[Url],
        file: &StreamFile,
        wanted: &WantedFile,
        part: &Path,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(), DownloadError> {
        let urls: Vec<Url> =
            servers.iter().map(|server| below(server, &file.path)).collect::<Result<_, _>>()?;
        self.file(&urls, wanted, part, cancel, progress).await
    }
}

/// The address of a file below a server's own.
fn below(server: &Url, path: &str) -> Result<Url, DownloadError> {
    let mut base = server.clone();
    base.set_path(&format!("{}/", server.path().trim_end_matches('/')));
    base.set_query(None);
    base.set_fragment(None);
    // Without the dot, `20260101_13:00/x` would be an address with a scheme of its own.
    base.join(&format!("./{path}")).map_err(|_| DownloadError::Address { url: server.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_below_the_server_whatever_its_address_ends_in() {
        let url = |server: &str, path: &str| below(&Url::parse(server).unwrap(), path).unwrap().to_string();
        assert_eq!(
            url("https://a.example", "streams/v1/index.json"),
            "https://a.example/streams/v1/index.json"
        );
        assert_eq!(url("https://a.example/b", "c"), "https://a.example/b/c");
        assert_eq!(url("https://a.example/b/", "c:d/e"), "https://a.example/b/c:d/e");
    }
}
