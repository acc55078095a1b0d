//! `metadata.yaml`: what an image says of itself. It is read out of the image's tar file without unpacking
//! anything, within fixed bounds, and taken only when it makes sense.

use crate::archive::{self, Bounded, Format};
use crate::kind::kernel_architecture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// The name of the file in an image.
pub const METADATA_FILE: &str = "metadata.yaml";
const MOST_YAML_BYTES: u64 = 1 << 20;
/// It must be among the first members of the archive, and within the first bytes of the stream.
const MOST_ENTRIES: usize = 4096;
const MOST_STREAM_BYTES: u64 = 256 << 20;

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMetadata {
    /// The architecture, as the kernel names it.
    #[serde(default)]
    pub architecture: String,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub creation_date: i64,
    /// When it ends, in seconds since 1970; 0 is never.
    #[serde(default)]
    pub expiry_date: i64,
    /// Free properties, such as `os` and `release`.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Files to render into an instance's root: the absolute path in the root, and how.
    #[serde(default)]
    pub templates: BTreeMap<String, TemplateEntry>,
}

/// One file to render into an instance's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateEntry {
    /// On which occasions.
    #[serde(default)]
    pub when: Vec<Trigger>,
    /// Only when the file is not there yet.
    #[serde(default)]
    pub create_only: bool,
    /// The template's name in the image's `templates` directory.
    #[serde(default)]
    pub template: String,
    /// Values for the template.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// The owner of the file, as the instance sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group of the file, as the instance sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The mode of the file, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// An occasion on which templates are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The instance was made from the image.
    Create,
    /// The instance was copied.
    Copy,
    /// The instance got another name.
    Rename,
    /// The instance is about to start.
    Start,
}

impl Trigger {
    /// The word for it in `metadata.yaml` and in templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Copy => "copy",
            Self::Rename => "rename",
            Self::Start => "start",
        }
    }
}

/// What a tar file of an image holds beside its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootPart {
    /// No root: it is the metadata of a split image.
    Absent,
    /// `rootfs/`: it is a whole container image.
    Directory,
    /// `rootfs.img`: it is a whole virtual machine image.
    Disk,
}

/// An image's tar file, looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageContents {
    /// What it says of itself.
    pub metadata: ImageMetadata,
    /// What root it holds.
    pub root: RootPart,
    /// How it is packed.
    pub format: Format,
}

/// An image's metadata could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The file could not be read.
    #[error("{path} could not be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no tar file.
    #[error(
        "{path} is no image: give a tar file (plain, gzip, bzip2, xz, lzma or zstd) with a {METADATA_FILE}"
    )]
    NoTar {
        /// The file.
        path: PathBuf,
    },
    /// There is no metadata where it must be.
    #[error(
        "{path} has no {METADATA_FILE} among its first {MOST_ENTRIES} members: put it first in the archive"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The metadata is too long.
    #[error("{METADATA_FILE} has {size} bytes, and at most {MOST_YAML_BYTES} are read")]
    TooLong {
        /// Its size.
        size: u64,
    },
    /// The metadata is not YAML of the right form.
    #[error("{METADATA_FILE} is not understood: {0}")]
    Malformed(String),
    /// A field has a value that makes no sense.
    #[error("{METADATA_FILE}: {field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl ImageMetadata {
    /// Reads and checks the text of a `metadata.yaml`.
    ///
    /// ```
    /// use larder_images::ImageMetadata;
    /// let metadata = ImageMetadata::parse("architecture: amd64\ncreation_date: 1700000000\n").unwrap();
    /// assert_eq!(metadata.architecture, "x86_64");
    /// let error = ImageMetadata::parse("creation_date: 1700000000\n").unwrap_err();
    /// assert!(error.to_string().contains("architecture"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        let size = text.len() as u64;
        if size > MOST_YAML_BYTES {
            return Err(MetadataError::TooLong { size });
        }
        let mut field = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        let mut metadata: Self = parsed.map_err(|error| {
            let reason = first_line(error.without_snippet().to_string().trim_start_matches("error: "));
            match field.as_str() {
                "" | "." | "?" => MetadataError::Malformed(reason),
                _ => MetadataError::Invalid { field: field.clone(), reason },
            }
        })?;
        metadata.check()?;
        if let Some(kernel) = kernel_architecture(&metadata.architecture) {
            metadata.architecture = kernel.to_owned();
        }
        Ok(metadata)
    }

    /// The text of a `metadata.yaml` that says the same.
    pub fn to_yaml(&self) -> Result<String, MetadataError> {
        serde_saphyr::to_string(self).map_err(|error| MetadataError::Malformed(error.to_string()))
    }

    fn check(&self) -> Result<(), MetadataError> {
        let invalid = |field: &str, reason: &str| {
            Err(MetadataError::Invalid { field: field.to_owned(), reason: reason.to_owned() })
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.architecture.is_empty() {
            return invalid("architecture", "is missing: say which, for example x86_64");
        }
        if self.architecture.len() > 64 || !self.architecture.chars().all(plain) {
            return invalid("architecture", "is no name of an architecture: for example x86_64");
        }
        if self.creation_date <= 0 {
            return invalid("creation_date", "is missing: say when, in seconds since 1970");
        }
        if self.expiry_date < 0 {
            return invalid("expiry_date", "is before 1970: say when, in seconds since 1970, or 0 for never");
        }
        for (path, entry) in &self.templates {
            let field = format!("templates.{path}");
            let mut parts = Path::new(path).components();
            let is_rooted = parts.next() == Some(Component::RootDir);
            if !is_rooted || path.ends_with('/') || !parts.all(|part| matches!(part, Component::Normal(_))) {
                return invalid(&field, "is no absolute path of a file");
            }
            let name = &entry.template;
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
                return invalid(&format!("{field}.template"), "is no plain file name");
            }
            let mode = entry.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8));
            if mode.is_some_and(|mode| !mode.is_ok_and(|mode| mode <= 0o7777)) {
                return invalid(&format!("{field}.mode"), "is no mode in octal digits: for example 0644");
            }
        }
        Ok(())
    }
}

/// Looks into the tar file of an image, unified or metadata alone. Reads no further than it must, and never
/// more than a fixed amount, whatever the file claims.
pub fn inspect(path: &Path) -> Result<ImageContents, MetadataError> {
    let failed = |source| MetadataError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let format = Format::of_file(&mut file).map_err(failed)?;
    let format = format.filter(|format| *format != Format::Squashfs);
    let format = format.ok_or_else(|| MetadataError::NoTar { path: path.to_owned() })?;
    let stream = archive::unpacked(file, format).map_err(failed)?;
    let mut archive = tar::Archive::new(Bounded::new(stream, MOST_STREAM_BYTES));
    let (mut metadata, mut root) = (None, RootPart::Absent);
    for entry in archive.entries().map_err(failed)?.take(MOST_ENTRIES) {
        let mut entry = match entry {
            Ok(entry) => entry,
            // What a whole image holds after its metadata need not be read to its end.
            Err(error) if archive::is_too_long(&error) => break,
            Err(error) => return Err(failed(error)),
        };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match name.trim_start_matches("./").trim_end_matches('/') {
            METADATA_FILE if entry.header().entry_type().is_file() => {
                metadata = Some(read_metadata(&mut entry, path)?);
            }
            "rootfs.img" => root = RootPart::Disk,
            name if name == "rootfs" || name.starts_with("rootfs/") => root = RootPart::Directory,
            _ => {}
        }
        if metadata.is_some() && root != RootPart::Absent {
            break;
        }
    }
    let metadata = metadata.ok_or_else(|| MetadataError::Missing { path: path.to_owned() })?;
    Ok(ImageContents { metadata, root, format })
}

fn read_metadata(entry: &mut impl Read, path: &Path) -> Result<ImageMetadata, MetadataError> {
    let mut bytes = Vec::new();
    let read = entry.take(MOST_YAML_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| MetadataError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| MetadataError::Malformed(error.to_string()))?;
    ImageMetadata::parse(&text)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const YAML: &str = "\
architecture: x86_64
creation_date: 1700000000
expiry_date: 1800000000
properties:
  os: Alpine
  release: 3.20
  supported: true
templates:
  /etc/hostname:
    when: [create, copy]
    create_only: true
    template: hostname.tpl
    properties: {}
  /etc/hosts:
    when:
      - start
    template: hosts.tpl
    mode: '0600'
    uid: 5
";

    #[test]
    fn a_usual_file_is_understood_and_written_again() {
        let metadata = ImageMetadata::parse(YAML).unwrap();
        assert_eq!(metadata.properties["release"], "3.20");
        assert_eq!(metadata.properties["supported"], "true");
        let hostname = &metadata.templates["/etc/hostname"];
        assert_eq!(
            (hostname.when.as_slice(), hostname.create_only),
            ([Trigger::Create, Trigger::Copy].as_slice(), true)
        );
        assert_eq!(metadata.templates["/etc/hosts"].uid, Some(5));
        assert_eq!(ImageMetadata::parse(&metadata.to_yaml().unwrap()).unwrap(), metadata);
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            ("creation_date: 1\n", "architecture"),
            ("architecture: x86_64\n", "creation_date"),
            ("architecture: ../x\ncreation_date: 1\n", "architecture"),
            ("architecture: x\ncreation_date: 1\nexpiry_date: -1\n", "expiry_date"),
            ("architecture: x\ncreation_date: soon\n", "creation_date"),
            ("architecture: x\ncreation_date: 1\ntemplates: {etc/x: {template: a}}\n", "templates.etc/x"),
            (
                "architecture: x\ncreation_date: 1\ntemplates: {/a/../../x: {template: a}}\n",
                "templates./a/../../x",
            ),
            (
                "architecture: x\ncreation_date: 1\ntemplates: {/a: {template: ../b}}\n",
                "templates./a.template",
            ),
            (
                "architecture: x\ncreation_date: 1\ntemplates: {/a: {template: b, mode: '9'}}\n",
                "templates./a.mode",
            ),
            ("architecture: x\ncreation_date: 1\ntemplates: {/a: {template: b, when: [reboot]}}\n", "reboot"),
        ];
        for (text, field) in cases {
            let error = ImageMetadata::parse(text).unwrap_err().to_string();
            assert!(error.contains(field), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_alias_bomb_is_an_error_and_quick() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..40 {
            let last = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 9].join(", "));
        }
        text += "architecture: x86_64\ncreation_date: 1\nproperties: {x: *a39}\n";
        assert!(ImageMetadata::parse(&text).is_err());
        let deep = format!("architecture: {}", "[".repeat(100_000));
        assert!(ImageMetadata::parse(&deep).is_err());
    }

    type Member<'a> = (&'a str, &'a [u8]);

    fn image(members: &[Member<'_>]) -> tempfile::NamedTempFile {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *data).unwrap();
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes = zstd::encode_all(builder.into_inner().unwrap().as_slice(), 1).unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn the_root_tells_the_kind() {
        let yaml = YAML.as_bytes();
        let cases: [(&[Member<'_>], RootPart); 4] = [
            (&[(METADATA_FILE, yaml), ("templates/a", b"")], RootPart::Absent),
            (&[("./metadata.yaml", yaml), ("./rootfs/etc/hostname", b"")], RootPart::Directory),
            (&[("rootfs/etc/hostname", b""), (METADATA_FILE, yaml)], RootPart::Directory),
            (&[(METADATA_FILE, yaml), ("rootfs.img", b"QFI")], RootPart::Disk),
        ];
        for (members, root) in cases {
            let contents = inspect(image(members).path()).unwrap();
            assert_eq!((contents.root, contents.format), (root, Format::Zstd));
            assert_eq!(contents.metadata.architecture, "x86_64");
        }
    }

    #[test]
    fn missing_late_and_long_metadata_are_refused() {
        let error = inspect(image(&[("rootfs/a", b"")]).path()).unwrap_err();
        assert!(matches!(error, MetadataError::Missing { .. }), "{error}");
        let names: Vec<String> = (0..MOST_ENTRIES).map(|at| format!("rootfs/{at}")).collect();
        let mut members: Vec<Member<'_>> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        members.push((METADATA_FILE, YAML.as_bytes()));
        assert!(matches!(inspect(image(&members).path()), Err(MetadataError::Missing { .. })));
        let long = vec![b'#'; 2 << 20];
        let error = inspect(image(&[(METADATA_FILE, &long)]).path()).unwrap_err();
        assert!(matches!(error, MetadataError::TooLong { .. }), "{error}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hsqs").unwrap();
        assert!(matches!(inspect(file.path()), Err(MetadataError::NoTar { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC{0,200}") {
            let _ = ImageMetadata::parse(&text);
        }
    }
}
