//! Files and folders carried to and from an instance through its file API.

use super::transfer::{Headers, PartFile, header_of};
use crate::client::{ApiPath, Body, Client, Part};
use crate::output::Bar;
use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What a path in an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
        }
    }

    fn of(headers: &HeaderMap) -> Self {
        match header_of(headers, "type") {
            Some("directory") => Self::Directory,
            Some("symlink") => Self::Symlink,
            _ => Self::File,
        }
    }
}

/// Owner and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

impl Attributes {
    /// Those of a file here.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { uid: metadata.uid(), gid: metadata.gid(), mode: metadata.mode() & 0o7777 }
    }

    fn of_headers(headers: &HeaderMap) -> Self {
        let number =
            |name: &str| header_of(headers, name).and_then(|text| text.parse().ok()).unwrap_or_default();
        let mode = header_of(headers, "mode").and_then(|text| u32::from_str_radix(text, 8).ok());
        Self { uid: number("uid"), gid: number("gid"), mode: mode.unwrap_or(0o644) & 0o7777 }
    }
}

/// The files of an instance.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    instance: String,
    bar: Bar,
}

/// How many links are followed before it is called a loop, as the kernel has it.
const MAX_LINKS: usize = 40;

impl Remote {
    /// The files of `instance`; what is carried is shown on `bar`.
    pub(crate) fn new(client: Client, instance: &str, bar: Bar) -> Self {
        Self { client, instance: instance.to_owned(), bar }
    }

    /// The instance's name.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    fn path(&self, path: &str) -> ApiPath {
        ApiPath::of(["instances", self.instance.as_str(), "files"]).query("path", path)
    }

    async fn open(&self, path: &str) -> Result<Response<Incoming>> {
        let opened =
            self.client.download(Method::GET, &self.path(path), HeaderMap::new(), Body::empty()).await;
        opened.with_context(|| format!("can't read {path} in {}", self.instance))
    }

    /// What a path is; `None` when it isn't there.
    pub(crate) async fn kind(&self, path: &str) -> Result<Option<Kind>> {
        let opened =
            self.client.download(Method::GET, &self.path(path), HeaderMap::new(), Body::empty()).await;
        match opened {
            Ok(response) => Ok(Some(Kind::of(response.headers()))),
            Err(error) if error.is_not_found() => {
                // The instance itself may be what isn't there.
                self.client.get(&ApiPath::of(["instances", self.instance.as_str()])).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn send(&self, path: &str, kind: Kind, attributes: Attributes, body: Body) -> Result<()> {
        let mut headers = Headers::octet_stream();
        headers.add("type", kind.as_str())?;
        headers.add("uid", &attributes.uid.to_string())?;
        headers.add("gid", &attributes.gid.to_string())?;
        headers.add("mode", &format!("{:04o}", attributes.mode))?;
        if kind == Kind::File {
            headers.add("write", "overwrite")?;
        }
        let sent = self.client.upload(Method::POST, &self.path(path), headers.into_map(), body).await;
        sent.map(drop).with_context(|| format!("can't write {path} in {}", self.instance))
    }

    /// Makes something; the content is a file's bytes or a link's target.
    pub(crate) async fn put(
        &self,
        path: &str,
        kind: Kind,
        attributes: Attributes,
        content: Vec<u8>,
    ) -> Result<()> {
        self.send(path, kind, attributes, Body::bytes(content)).await
    }

    /// Makes a folder and those above it, as far as they are missing.
    pub(crate) async fn make_folders(&self, path: &str) -> Result<()> {
        let mut folder = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder = format!("{folder}/{part}");
            if self.kind(&folder).await?.is_none() {
                self.put(&folder, Kind::Directory, Attributes { uid: 0, gid: 0, mode: 0o755 }, Vec::new())
                    .await?;
            }
        }
        Ok(())
    }

    /// Deletes a path.
    pub(crate) async fn delete(&self, path: &str, recursive: bool) -> Result<()> {
        let mut headers = Headers::new();
        if recursive {
            headers.add("force", "true")?;
        }
        let deleted =
            self.client.upload(Method::DELETE, &self.path(path), headers.into_map(), Body::empty()).await;
        deleted.map(drop).with_context(|| format!("can't delete {path} in {}", self.instance))
    }

    /// Copies a file into the instance.
    pub(crate) async fn push_file(&self, local: &Path, path: &str, attributes: Attributes) -> Result<()> {
        self.bar.say(path);
        let body = Body::parts(vec![Part::File(local.to_owned())], |_| {}).await?;
        self.send(path, Kind::File, attributes, body).await
    }

    /// Copies a folder with everything in it into the instance. Links stay links; devices and sockets are left
    /// out.
    pub(crate) async fn push_tree(
        &self,
        local: &Path,
        path: &str,
        change: &dyn Fn(Attributes) -> Result<Attributes>,
    ) -> Result<()> {
        let unreadable = |local: &Path| format!("can't read {}", local.display());
        let mut waiting = vec![(local.to_owned(), path.to_owned())];
        while let Some((local, path)) = waiting.pop() {
            let metadata = std::fs::symlink_metadata(&local).with_context(|| unreadable(&local))?;
            if metadata.is_symlink() {
                let target = std::fs::read_link(&local).with_context(|| unreadable(&local))?;
                let attributes = change(Attributes::of(&metadata))?;
                self.put(&path, Kind::Symlink, attributes, target.into_os_string().into_encoded_bytes())
                    .await?;
            } else if metadata.is_dir() {
                // A mode that was asked for is meant for files; a folder needs its own to be entered.
                let attributes =
                    Attributes { mode: metadata.mode() & 0o7777, ..change(Attributes::of(&metadata))? };
                self.put(&path, Kind::Directory, attributes, Vec::new()).await?;
                for entry in std::fs::read_dir(&local).with_context(|| unreadable(&local))? {
                    let entry = entry.with_context(|| unreadable(&local))?;
                    let name = entry.file_name();
                    let Some(name) = name.to_str() else {
                        bail!("the name {} is not UTF-8", entry.path().display())
                    };
                    waiting.push((entry.path(), format!("{}/{name}", path.trim_end_matches('/'))));
                }
            } else if metadata.is_file() {
                self.push_file(&local, &path, change(Attributes::of(&metadata))?).await?;
            }
        }
        Ok(())
    }

    /// Opens a file, following links.
    async fn open_file(&self, path: &str) -> Result<Response<Incoming>> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let response = self.open(&path).await?;
            match Kind::of(response.headers()) {
                Kind::File => return Ok(response),
                Kind::Directory => bail!("{path} in {} is a folder: use --recursive", self.instance),
                Kind::Symlink => path = resolve(&path, &text(response).await?),
            }
        }
        bail!("too many symbolic links: {path} in {}", self.instance)
    }

    /// Copies a file out of the instance, and returns whose it was there.
    pub(crate) async fn pull_file(&self, path: &str, local: &Path) -> Result<Attributes> {
        self.bar.say(path);
        let response = self.open_file(path).await?;
        let attributes = Attributes::of_headers(response.headers());
        write_file(response, local, attributes.mode).await?;
        Ok(attributes)
    }

    /// Writes a file to standard output.
    pub(crate) async fn pull_to_stdout(&self, path: &str) -> Result<()> {
        let mut body = self.open_file(path).await?.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame?.into_data() {
                crate::output::bytes(&chunk)?;
            }
        }
        Ok(())
    }

    /// Copies a folder with everything in it out of the instance. Names come from the instance and are not
    /// trusted: one that is no plain name is refused.
    pub(crate) async fn pull_tree(&self, path: &str, local: &Path) -> Result<()> {
        let mut waiting = vec![(path.trim_end_matches('/').to_owned(), local.to_owned())];
        while let Some((path, local)) = waiting.pop() {
            let response = self.open(if path.is_empty() { "/" } else { &path }).await?;
            self.bar.say(&path);
            let attributes = Attributes::of_headers(response.headers());
            match Kind::of(response.headers()) {
                Kind::File => write_file(response, &local, attributes.mode).await?,
                Kind::Symlink => {
                    let target = text(response).await?;
                    std::os::unix::fs::symlink(target, &local)
                        .with_context(|| format!("can't make {}", local.display()))?;
                }
                Kind::Directory => {
                    let names = names(response).await?;
                    make_folder(&local)?;
                    for name in names {
                        waiting.push((format!("{path}/{name}"), local.join(&name)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A folder that is really one: a link in its place would lead what follows elsewhere.
fn make_folder(local: &Path) -> Result<()> {
    match std::fs::create_dir(local) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let metadata = std::fs::symlink_metadata(local)?;
            if !metadata.is_dir() {
                bail!("{} is there and is no folder", local.display());
            }
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("can't make {}", local.display())),
    }
}

async fn text(response: Response<Incoming>) -> Result<String> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

async fn names(response: Response<Incoming>) -> Result<Vec<String>> {
    let bytes = response.into_body().collect().await?.to_bytes();
    let envelope: Value = serde_json::from_slice(&bytes).context("the server's list of files is no JSON")?;
    let names = envelope["metadata"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(plain_name).collect()
}

fn plain_name(name: &str) -> Result<String> {
    match name {
        "" | "." | ".." => bail!("the instance has a file named {name:?}, which can't be copied"),
        _ if name.contains(['/', '\0']) => {
            bail!("the instance has a file named {name:?}, which can't be copied")
        }
        _ => Ok(name.to_owned()),
    }
}

async fn write_file(response: Response<Incoming>, local: &Path, mode: u32) -> Result<()> {
    let mut part = PartFile::beside(local)?;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.context("the server stopped sending")?.into_data() {
            part.write(&chunk)?;
        }
    }
    part.finish(local)?;
    // Set-id bits of a file of an instance must not come to life here.
    std::fs::set_permissions(local, std::fs::Permissions::from_mode(mode & 0o777))
        .with_context(|| format!("can't set the mode of {}", local.display()))
}

/// Where a link at `path` leads.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
    if !target.starts_with('/') {
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"))
}

/// Standard input to its end, any bytes.
pub(crate) async fn read_stdin_bytes() -> Result<Vec<u8>> {
    let mut chunks = crate::streams::stdin();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        all.extend(chunk);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_the_kernel_says() {
        assert_eq!(resolve("/etc/a", "b"), "/etc/b");
        assert_eq!(resolve("/etc/a", "/run/b"), "/run/b");
        assert_eq!(resolve("/etc/a/b", "../c"), "/etc/c");
        assert_eq!(resolve("/a", "../../c"), "/c");
        assert_eq!(resolve("/a", "./c//d/"), "/c/d");
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        assert!(plain_name("passwd").is_ok());
        for bad in ["", ".", "..", "a/b", "/etc", "a\0"] {
            assert!(plain_name(bad).is_err(), "{bad:?}");
        }
    }
}
