//! Images as they come and go: one file, or a form of `metadata` and `rootfs`, in this order.

use super::glue::{App, header};
use super::{ApiError, Reply};
use crate::service::{ImageUpload, NewImage, ServiceError};
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header as names};
use axum::response::IntoResponse;
use futures_util::{Stream, StreamExt};
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::Image;
use larder_images::{ImageFiles, ImageStore};
use larder_storage_driver::Config;
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;

/// Uploaded part files; removed when they are dropped before somebody took them over.
#[derive(Debug)]
pub(super) struct Parts {
    store: ImageStore,
    upload: ImageUpload,
    is_ours: bool,
}

impl Parts {
    /// From here on the one who asked removes or publishes them.
    pub(super) fn hand_over(&mut self) -> &ImageUpload {
        self.is_ours = false;
        &self.upload
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = self.store.discard(&self.upload.files)
        {
            tracing::warn!(%error, "an uploaded image stays behind for a day");
        }
    }
}

/// Writes an upload into part files of the store, and reads what its headers say.
pub(super) async fn received(
    app: &App,
    project: ProjectName,
    store: ImageStore,
    request: Request,
) -> Result<(Parts, NewImage), ApiError> {
    let headers = request.headers().clone();
    let (mut new, expected) = told(project, &headers)?;
    let main = new_part(&store)?;
    let files = ImageFiles { main: main.clone(), rootfs: None };
    let mut parts = Parts { store, upload: ImageUpload { files, expected }, is_ours: true };
    let kind = headers.get(names::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        write(&main, request.into_body().into_data_stream()).await?;
        return Ok((parts, new));
    }
    let form = Multipart::from_request(request, app).await;
    let mut form = form.map_err(|error| ServiceError::bad(format!("invalid form: {error}")))?;
    let broken = |error: axum::extract::multipart::MultipartError| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the form broke off: {}", error.body_text()))
    };
    let mut place = 0;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_owned();
        let path = match (place, name.as_str()) {
            (0, "metadata") => {
                if new.filename.is_empty() {
                    new.filename = field.file_name().unwrap_or_default().to_owned();
                }
                main.clone()
            }
            (1, "rootfs" | "rootfs.img") => {
                let path = new_part(&parts.store)?;
                parts.upload.files.rootfs = Some(path.clone());
                path
            }
            _ => {
                let message = format!(
                    "unexpected part {name:?} of the form: it has the parts metadata and rootfs, in this order"
                );
                return Err(ServiceError::bad(message).into());
            }
        };
        write(&path, field.map(|chunk| chunk.map_err(axum::Error::new))).await?;
        place += 1;
    }
    if place < 2 {
        return Err(ServiceError::bad(
            "the form is not complete: it has the parts metadata and rootfs, in this order",
        )
        .into());
    }
    Ok((parts, new))
}

fn new_part(store: &ImageStore) -> Result<PathBuf, ApiError> {
    Ok(store.new_part().map_err(ServiceError::from)?.0)
}

async fn write(
    path: &Path,
    mut chunks: impl Stream<Item = Result<axum::body::Bytes, axum::Error>> + Unpin,
) -> Result<(), ApiError> {
    let failed =
        |error: std::io::Error| ServiceError::internal(format!("the upload can't be stored: {error}"));
    let mut file = tokio::fs::OpenOptions::new().write(true).open(path).await.map_err(failed)?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the upload broke off: {error}"))
        })?;
        file.write_all(&chunk).await.map_err(failed)?;
    }
    Ok(file.flush().await.map_err(failed)?)
}

/// What the headers `X-LXD-…` or `X-Incus-…` of an upload say.
fn told(project: ProjectName, headers: &HeaderMap) -> Result<(NewImage, Option<Fingerprint>), ServiceError> {
    let flag = |name: &str| matches!(header(headers, name), Some("1" | "true"));
    let pairs = |name: &str| -> Vec<(String, String)> {
        let text = header(headers, name).unwrap_or_default();
        let decoded = |part: &str| {
            urlencoding::decode(&part.replace('+', " ")).map(std::borrow::Cow::into_owned).unwrap_or_default()
        };
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(key, value)| (decoded(key), decoded(value))).collect()
    };
    let listed = |name: &str, key: &str| -> Vec<String> {
        pairs(name).into_iter().filter(|(own, _)| own == key).map(|(_, value)| value).collect()
    };
    let profiles = listed("profiles", "profile");
    let expected = header(headers, "fingerprint")
        .map(|text| text.parse::<Fingerprint>().map_err(|error| ServiceError::bad(error.to_string())));
    let new = NewImage {
        project,
        filename: header(headers, "filename").unwrap_or_default().to_owned(),
        public: flag("public"),
        auto_update: false,
        cached: false,
        properties: pairs("properties").into_iter().collect::<Config>(),
        expires_at: None,
        profiles: (!profiles.is_empty()).then_some(profiles),
        aliases: listed("aliases", "alias").into_iter().map(|name| (name, String::new())).collect(),
        update_source: None,
    };
    Ok((new, expected.transpose()?))
}

/// A split image as a form.
pub(super) fn form(image: &Image, metadata: File, suffix: &str, rootfs: File) -> Reply {
    let boundary = format!("larder-{}", uuid::Uuid::new_v4().simple());
    let root = match image.kind.as_str() {
        "virtual-machine" => ("rootfs.img", format!("{}.img", image.fingerprint)),
        _ => ("rootfs", format!("{}.rootfs", image.fingerprint)),
    };
    let head = |name: &str, file: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
    };
    let first = head("metadata", &format!("meta-{}{suffix}", image.fingerprint));
    let second = format!("\r\n{}", head(root.0, &root.1));
    let last = format!("\r\n--{boundary}--\r\n");
    let size = |file: &File| file.metadata().map(|metadata| metadata.len()).map_err(ServiceError::from);
    let length = (first.len() + second.len() + last.len()) as u64 + size(&metadata)? + size(&rootfs)?;
    let text = |text: String| Body::from(text).into_data_stream();
    let file = |file: File| super::reply::file_body(file).into_data_stream();
    let stream = text(first).chain(file(metadata)).chain(text(second)).chain(file(rootfs)).chain(text(last));
    let headers = [
        (names::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}")),
        (names::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}
