//! The files of an image, sent to a server and received from one.

use super::Context;
use super::transfer::{self, Headers, PartFile, header_of};
use crate::client::{ApiPath, Body, Client, Part};
use crate::failure::Told;
use crate::fields::Fields;
use crate::output::Bar;
use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Response, header};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use multer::Multipart;
use std::io::Read;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The fingerprint an operation tells that made an image.
pub(crate) fn fingerprint_of(metadata: &serde_json::Value) -> Result<String> {
    match metadata.text("fingerprint") {
        "" => bail!("the server didn't say which image was made: look at it with larder image list"),
        fingerprint => Ok(fingerprint.to_owned()),
    }
}

/// The files of an image.
#[derive(Debug)]
pub(crate) struct Files {
    /// What the image is; all of it when there is no other file.
    metadata: PathBuf,
    /// The root filesystem, when it is a file of its own, and what the API calls it.
    rootfs: Option<(PathBuf, &'static str)>,
}

/// The form's name of the root filesystem of a container.
const ROOTFS: &str = "rootfs";
/// The form's name of the disk of a virtual machine.
const ROOTFS_DISK: &str = "rootfs.img";

impl Files {
    /// Their paths, for messages.
    pub(crate) fn told(&self) -> String {
        let rootfs = self.rootfs.as_ref().map(|(rootfs, _)| format!(", {}", rootfs.display()));
        format!("{}{}", self.metadata.display(), rootfs.unwrap_or_default())
    }

    /// Files on this machine: what the image is, and maybe its root filesystem.
    pub(crate) fn local(metadata: &str, rootfs: Option<&str>) -> Result<Self> {
        let metadata = PathBuf::from(metadata);
        if metadata.is_dir() {
            let message = format!("{} is a folder, not an image file", metadata.display());
            let hint =
                "pack it first: tar --create --xz --xattrs --acls --file IMAGE.tar.xz --directory FOLDER .";
            return Err(Told::new(message, hint).into());
        }
        let rootfs = match rootfs {
            None => None,
            Some(rootfs) => {
                let rootfs = PathBuf::from(rootfs);
                let part = if is_disk(&rootfs)? { ROOTFS_DISK } else { ROOTFS };
                Some((rootfs, part))
            }
        };
        Ok(Self { metadata, rootfs })
    }
}

/// Whether a file is a disk of a virtual machine, as its content or its name says.
fn is_disk(path: &Path) -> Result<bool> {
    let mut magic = [0; 4];
    let mut file = std::fs::File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    let is_qcow2 = file.read_exact(&mut magic).is_ok() && magic == *b"QFI\xfb";
    let named = path.extension().is_some_and(|extension| extension == "img" || extension == "qcow2");
    Ok(is_qcow2 || named)
}

/// Sends the files of an image and returns its fingerprint.
pub(crate) async fn send(
    context: &Context,
    client: &Client,
    files: &Files,
    public: bool,
    properties: &[(String, String)],
) -> Result<String> {
    let boundary = format!("larder-{}", Uuid::new_v4().simple());
    let (mut headers, parts) = match &files.rootfs {
        None => (Headers::octet_stream(), vec![Part::File(files.metadata.clone())]),
        Some((rootfs, part)) => {
            let mut headers = Headers::new();
            headers.set(header::CONTENT_TYPE, &format!("multipart/form-data; boundary={boundary}"))?;
            (headers, form(&boundary, &files.metadata, rootfs, part))
        }
    };
    headers.add("public", if public { "true" } else { "false" })?;
    headers.add("filename", &ascii_name(&files.metadata))?;
    if !properties.is_empty() {
        let encode = |(key, value): &(String, String)| {
            format!("{}={}", urlencoding::encode(key), urlencoding::encode(value))
        };
        headers.add("properties", &properties.iter().map(encode).collect::<Vec<_>>().join("&"))?;
    }
    let finished = transfer::upload_parts(context, client, &ApiPath::of(["images"]), headers, parts).await?;
    fingerprint_of(&finished.metadata)
}

/// The form of an image of two files.
fn form(boundary: &str, metadata: &Path, rootfs: &Path, rootfs_part: &str) -> Vec<Part> {
    let head = |before: &str, part: &str, path: &Path| {
        let name = ascii_name(path);
        let disposition = format!("form-data; name=\"{part}\"; filename=\"{name}\"");
        let kind = "application/octet-stream";
        let text = format!(
            "{before}--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
        );
        Part::Bytes(text.into_bytes())
    };
    vec![
        head("", "metadata", metadata),
        Part::File(metadata.to_owned()),
        head("\r\n", rootfs_part, rootfs),
        Part::File(rootfs.to_owned()),
        Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()),
    ]
}

/// The name of a file with nothing in it that would end a header.
fn ascii_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let harmless = |letter: char| letter.is_ascii_alphanumeric() || "._-+".contains(letter);
    name.chars().map(|letter| if harmless(letter) { letter } else { '_' }).collect()
}

/// The files of an image that were received and checked, and have no names yet.
#[derive(Debug)]
pub(crate) struct Received {
    metadata: Piece,
    rootfs: Option<(Piece, &'static str)>,
}

/// One file, and how the server calls it.
#[derive(Debug)]
struct Piece {
    name: String,
    part: PartFile,
}

impl Received {
    /// Puts the files into a folder.
    pub(crate) fn keep_in(self, folder: &Path) -> Result<Files> {
        let metadata = folder.join(&self.metadata.name);
        self.metadata.part.finish(&metadata)?;
        let rootfs = match self.rootfs {
            None => None,
            Some((piece, part)) => {
                let path = folder.join(&piece.name);
                piece.part.finish(&path)?;
                Some((path, part))
            }
        };
        Ok(Files { metadata, rootfs })
    }

    /// Gives the files names that begin with `target`.
    pub(crate) fn keep_as(self, target: &Path) -> Result<Files> {
        let with = |suffix: &str| {
            let mut name = target.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let Some((rootfs, part)) = self.rootfs else {
            let extension = self.metadata.name.split_once('.').map(|(_, extension)| format!(".{extension}"));
            let metadata = with(&extension.unwrap_or_default());
            self.metadata.part.finish(&metadata)?;
            return Ok(Files { metadata, rootfs: None });
        };
        let path = with(".root");
        self.metadata.part.finish(target)?;
        rootfs.part.finish(&path)?;
        Ok(Files { metadata: target.to_owned(), rootfs: Some((path, part)) })
    }
}

/// Receives the files of an image into `folder` and checks that they are the ones the fingerprint names.
pub(crate) async fn receive(
    context: &Context,
    client: &Client,
    fingerprint: &str,
    folder: &Path,
) -> Result<Received> {
    let path = ApiPath::of(["images", fingerprint, "export"]);
    let response = client.download(Method::GET, &path, HeaderMap::new(), Body::empty()).await?;
    let bar = context.bar("Receiving the image");
    transfer::measure(response.headers(), &bar);
    // The layers of an application image were hashed by others, and not as one.
    let is_layers = header_of(response.headers(), "type") == Some("oci");
    let content =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let received = match multer::parse_boundary(content) {
        Ok(boundary) => receive_two(response, &boundary, fingerprint, folder, &bar).await?,
        Err(_) => receive_one(response, fingerprint, folder, &bar).await?,
    };
    let hash = match &received.rootfs {
        None => received.metadata.part.hash_continuing(None)?,
        Some((rootfs, _)) => rootfs.part.hash_continuing(Some(&received.metadata.part))?,
    };
    if !is_layers && hash != fingerprint {
        bail!("what the server sent is damaged: its fingerprint is {hash}, not {fingerprint}");
    }
    Ok(received)
}

async fn receive_one(
    response: Response<Incoming>,
    fingerprint: &str,
    folder: &Path,
    bar: &Bar,
) -> Result<Received> {
    let disposition = response.headers().get(header::CONTENT_DISPOSITION);
    let name = disposition.and_then(|text| text.to_str().ok()).and_then(file_name);
    let name = harmless_name(name, &format!("{fingerprint}.tar"));
    let mut part = PartFile::beside(&folder.join(&name))?;
    let meter = bar.meter();
    let mut chunks = BodyDataStream::new(response.into_body());
    while let Some(chunk) = chunks.next().await {
        part.write(&chunk.context("the server stopped sending")?)?;
        meter(part.bytes);
    }
    Ok(Received { metadata: Piece { name, part }, rootfs: None })
}

async fn receive_two(
    response: Response<Incoming>,
    boundary: &str,
    fingerprint: &str,
    folder: &Path,
    bar: &Bar,
) -> Result<Received> {
    let mut form = Multipart::new(BodyDataStream::new(response.into_body()), boundary);
    let (mut metadata, mut rootfs) = (None, None);
    let mut before = 0;
    while let Some(mut field) = form.next_field().await.context("the server stopped sending")? {
        let part_name = field.name().unwrap_or_default().to_owned();
        let fallback = format!("{part_name}-{fingerprint}");
        let name = harmless_name(field.file_name().map(str::to_owned), &fallback);
        let mut part = PartFile::beside(&folder.join(&name))?;
        let meter = bar.meter();
        while let Some(chunk) = field.chunk().await.context("the server stopped sending")? {
            part.write(&chunk)?;
            meter(before + part.bytes);
        }
        before += part.bytes;
        let piece = Piece { name, part };
        match part_name.as_str() {
            "metadata" => metadata = Some(piece),
            ROOTFS => rootfs = Some((piece, ROOTFS)),
            ROOTFS_DISK => rootfs = Some((piece, ROOTFS_DISK)),
            other => bail!("the server sent a part {other:?}, which no image has"),
        }
    }
    match (metadata, rootfs) {
        (Some(metadata), Some(rootfs)) if metadata.name != rootfs.0.name => {
            Ok(Received { metadata, rootfs: Some(rootfs) })
        }
        (Some(metadata), None) => Ok(Received { metadata, rootfs: None }),
        _ => bail!("the server didn't send the two files of the image"),
    }
}

/// The file name in a Content-Disposition header.
fn file_name(disposition: &str) -> Option<String> {
    let value = disposition.split(';').find_map(|part| part.trim().strip_prefix("filename="))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// A name the server chose, unless it would leave the folder or hide in it.
fn harmless_name(name: Option<String>, fallback: &str) -> String {
    let harmless = |name: &String| {
        !name.is_empty()
            && !name.starts_with(['.', '-'])
            && !name.contains('/')
            && !name.contains(char::is_control)
    };
    name.filter(harmless).unwrap_or_else(|| fallback.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_known_by_its_content_or_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let disk = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            is_disk(&path).unwrap()
        };
        assert!(disk("rootfs", b"QFI\xfb..."));
        assert!(disk("disk.img", b""));
        assert!(!disk("root.squashfs", b"hsqs...."));
        assert!(is_disk(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn no_name_of_a_server_leaves_the_folder() {
        assert_eq!(file_name("attachment; filename=\"a b.tar.gz\"").as_deref(), Some("a b.tar.gz"));
        assert_eq!(file_name("inline;filename=x.tar.xz; size=5").as_deref(), Some("x.tar.xz"));
        assert_eq!(file_name("attachment"), None);
        assert_eq!(harmless_name(Some("x.tar".to_owned()), "f"), "x.tar");
        for bad in ["../x", "/etc/passwd", ".bashrc", "-rf", "", "a\nb"] {
            assert_eq!(harmless_name(Some(bad.to_owned()), "f"), "f", "{bad:?}");
        }
    }

    #[test]
    fn files_are_named_after_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let piece = |name: &str| {
            let mut part = PartFile::beside(&folder.path().join(name)).unwrap();
            part.write(name.as_bytes()).unwrap();
            Piece { name: name.to_owned(), part }
        };
        let content = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let target = folder.path().join("my");
        Received { metadata: piece("f.tar.gz"), rootfs: None }.keep_as(&target).unwrap();
        assert_eq!(content("my.tar.gz"), "f.tar.gz");
        let both =
            || Received { metadata: piece("meta-f.tar.xz"), rootfs: Some((piece("f.squashfs"), ROOTFS)) };
        both().keep_as(&target).unwrap();
        assert_eq!(
            (content("my"), content("my.root")),
            ("meta-f.tar.xz".to_owned(), "f.squashfs".to_owned())
        );
        both().keep_in(folder.path()).unwrap();
        assert_eq!(content("f.squashfs"), "f.squashfs");
    }

    #[tokio::test]
    async fn the_form_that_is_sent_is_a_form() {
        let folder = tempfile::tempdir().unwrap();
        let (metadata, rootfs) = (folder.path().join("meta \"1\".tar"), folder.path().join("root"));
        std::fs::write(&metadata, "what it is").unwrap();
        std::fs::write(&rootfs, "all of it").unwrap();
        let mut bytes = Vec::new();
        for part in form("b", &metadata, &rootfs, ROOTFS_DISK) {
            match part {
                Part::Bytes(text) => bytes.extend(text),
                Part::File(path) => bytes.extend(std::fs::read(path).unwrap()),
            }
        }
        let whole = futures_util::stream::once(async move { Ok::<_, std::io::Error>(bytes) });
        let mut form = Multipart::new(whole, "b");
        let field = form.next_field().await.unwrap().unwrap();
        assert_eq!((field.name(), field.file_name()), (Some("metadata"), Some("meta__1_.tar")));
        assert_eq!(field.text().await.unwrap(), "what it is");
        let field = form.next_field().await.unwrap().unwrap();
        assert_eq!(field.name(), Some("rootfs.img"));
        assert_eq!(field.text().await.unwrap(), "all of it");
        assert!(form.next_field().await.unwrap().is_none());
    }
}
