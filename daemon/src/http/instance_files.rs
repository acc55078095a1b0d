//! `/1.0/instances/{name}/files?path=…`: files of an instance, with owner, mode and kind in headers.

use super::glue::{App, Upload, blocking, done, header};
use super::instances::find;
use super::{Query, Reply};
use crate::service::{Result, ServiceError};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header as names};
use axum::response::IntoResponse;
use jiff::Timestamp;
use larder_runtime::files::{Entry, EntryKind, NewFile, WriteMode};
use std::fs::File;

fn path_of(query: &Query) -> Result<String> {
    let path = query.get("path").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| ServiceError::bad("no path is given: add ?path=/absolute/path"))?;
    Ok(super::families::file_path(path))
}

/// What is at a path.
enum Content {
    File(File),
    Directory(Vec<String>),
    Symlink(String),
}

/// GET: a file's bytes, a folder's names, or a link's target.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let (path, instance, task) = (path_of(&query)?, find(&app, &query, name).await?, query.task());
    let shown = path.clone();
    let (entry, content) = blocking(&app, move |service| {
        service.with_instance_files(&task, &instance, |root| {
            let entry = root.entry(&path)?;
            let content = match &entry.kind {
                EntryKind::Directory => Content::Directory(root.list(&path)?),
                EntryKind::Symlink(target) => Content::Symlink(target.clone()),
                EntryKind::File | EntryKind::Other => Content::File(root.read(&path)?.1),
            };
            Ok((entry, content))
        })
    })
    .await?;
    let headers = headers_of(&entry);
    match content {
        Content::Directory(entries) => Ok((headers, super::glue::sync(&entries)?).into_response()),
        Content::Symlink(target) => Ok((headers, octets(None), Body::from(target)).into_response()),
        Content::File(file) => {
            let name = shown.rsplit('/').next().unwrap_or_default();
            Ok((headers, super::glue::download(super::reply::file_body(file), Some(entry.size), name)?)
                .into_response())
        }
    }
}

/// HEAD: the headers alone.
pub(crate) async fn head(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let (path, instance, task) = (path_of(&query)?, find(&app, &query, name).await?, query.task());
    let entry = blocking(&app, move |service| {
        service.with_instance_files(&task, &instance, |root| root.entry(&path))
    })
    .await?;
    let length = matches!(entry.kind, EntryKind::File).then_some(entry.size);
    Ok((headers_of(&entry), octets(length)).into_response())
}

/// POST: makes or overwrites a file, makes a folder or a link.
pub(crate) async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
    body: Upload,
) -> Reply {
    let (path, instance, task) = (path_of(&query)?, find(&app, &query, name).await?, query.task());
    let new =
        NewFile { user: number(&headers, "uid")?, group: number(&headers, "gid")?, mode: mode(&headers)? };
    let write = match header(&headers, "write") {
        None | Some("overwrite") => WriteMode::Overwrite,
        Some("append") => WriteMode::Append,
        Some(other) => {
            return Err(ServiceError::bad(format!(
                "unknown way to write {other:?}: it is overwrite or append"
            ))
            .into());
        }
    };
    match header(&headers, "type") {
        None | Some("file") => {
            let spooled = body.spooled(&app.service.directories().backups()).await?;
            blocking(&app, move |service| {
                let mut content = File::open(spooled.path())?;
                service
                    .with_instance_files(&task, &instance, |root| root.write(&path, new, write, &mut content))
            })
            .await?;
        }
        Some("directory") => {
            blocking(&app, move |service| {
                service.with_instance_files(&task, &instance, |root| root.make_directory(&path, new))
            })
            .await?;
        }
        Some("symlink") => {
            let target = String::from_utf8(body.bounded().await?.to_vec());
            let target = target.map_err(|_| ServiceError::bad("the link's target is no UTF-8 text"))?;
            blocking(&app, move |service| {
                service.with_instance_files(&task, &instance, |root| root.make_link(&path, &target, new))
            })
            .await?;
        }
        Some(other) => {
            let message = format!("unknown type of file {other:?}: it is one of file, directory, symlink");
            return Err(ServiceError::bad(message).into());
        }
    }
    done()
}

/// DELETE: a file, a link or an empty folder; with `X-Incus-force: true` a folder with all that is in it.
pub(crate) async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Reply {
    let (path, instance, task) = (path_of(&query)?, find(&app, &query, name).await?, query.task());
    let is_forced = header(&headers, "force").is_some_and(|value| value == "true" || value == "1");
    blocking(&app, move |service| {
        service.with_instance_files(&task, &instance, |root| root.remove(&path, is_forced))
    })
    .await?;
    done()
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u32>> {
    let refuse = |text: &str| ServiceError::bad(format!("invalid {name} {text:?}: it must be a number"));
    header(headers, name).map(|text| text.parse().map_err(|_| refuse(text))).transpose()
}

/// Octal with a zero in front, as the peers' clients write it; decimal otherwise.
fn mode(headers: &HeaderMap) -> Result<Option<u32>> {
    let Some(text) = header(headers, "mode") else { return Ok(None) };
    let read = match text.strip_prefix('0') {
        Some(octal) => u32::from_str_radix(if octal.is_empty() { "0" } else { octal }, 8),
        None => text.parse(),
    };
    match read {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(ServiceError::bad(format!("invalid mode {text:?}: give an octal number such as 0644"))),
    }
}

fn octets(length: Option<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(names::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = length {
        headers.insert(names::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers
}

/// Owner, mode, kind and time, under the names that each family of clients reads.
fn headers_of(entry: &Entry) -> HeaderMap {
    let kind = match entry.kind {
        EntryKind::Directory => "directory",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::File | EntryKind::Other => "file",
    };
    let modified = Timestamp::try_from(entry.modified).unwrap_or_default();
    let values = [
        ("uid", entry.user.to_string()),
        ("gid", entry.group.to_string()),
        ("mode", format!("{:04o}", entry.mode)),
        ("modified", modified.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()),
        ("type", kind.to_owned()),
    ];
    let mut headers = HeaderMap::new();
    for family in ["x-lxd", "x-incus"] {
        for (name, value) in &values {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(format!("{family}-{name}")), HeaderValue::from_str(value))
            {
                headers.insert(name, value);
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_the_peers_write_them() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-lxd-mode", HeaderValue::from_str(text).unwrap());
            mode(&headers).ok().flatten()
        };
        assert_eq!(read("0644"), Some(0o644));
        assert_eq!(read("420"), Some(0o644));
        assert_eq!(read("0"), Some(0));
        for bad in ["0999", "rw", "0100000", "-1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
