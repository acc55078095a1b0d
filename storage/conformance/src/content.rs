//! Small volumes, and what is in them.

use crate::Outcome;
use larder_base::{ByteSize, ProjectName};
use larder_storage_driver::{Attached, Content, Cx, Result, StorageError, VolumeId, VolumeKind, VolumeSpec};
use std::fmt;

/// A custom volume of the default project.
pub(crate) fn custom(content: Content, name: &str) -> Result<VolumeId, larder_base::NameError> {
    Ok(VolumeId::custom(content, ProjectName::default_project(), name.parse()?))
}

/// The root of a virtual machine: two parts.
pub(crate) fn machine(name: &str) -> Result<VolumeId, larder_base::NameError> {
    let project = ProjectName::default_project();
    Ok(VolumeId { kind: VolumeKind::VirtualMachine, content: Content::Block, project, name: name.parse()? })
}

/// The size of a small disk: a whole number of what any technology counts in.
pub(crate) const DISK: ByteSize = ByteSize::from_mebibytes(4);

/// A small volume.
pub(crate) fn spec(volume: &VolumeId) -> VolumeSpec {
    let spec = VolumeSpec::new(volume.clone());
    if volume.has_disk() { spec.with_size(DISK) } else { spec }
}

/// Fills a volume with a text: a file, and the beginning of the disk.
pub(crate) fn filled(text: &str) -> impl Fn(&Cx<'_>, &Attached) -> Result<()> + use<> {
    let text = text.to_owned();
    move |_, into| write_text(into, &text)
}

pub(crate) fn write_text(attached: &Attached, text: &str) -> Result<()> {
    if let Some(folder) = &attached.directory {
        std::fs::create_dir_all(folder.join("folder"))?;
        std::fs::write(folder.join("folder/file"), text)?;
    }
    if let Some(disk) = &attached.disk {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(disk)?;
        file.write_all_at(&padded(text), 0)?;
    }
    Ok(())
}

const TEXT_BYTES: usize = 32;

fn padded(text: &str) -> [u8; TEXT_BYTES] {
    let mut bytes = [b' '; TEXT_BYTES];
    for (byte, letter) in bytes.iter_mut().zip(text.bytes()) {
        *byte = letter;
    }
    bytes
}

/// Both parts of a volume must tell the same.
pub(crate) fn read_text(attached: &Attached) -> Result<String> {
    let mut texts = Vec::new();
    if let Some(folder) = &attached.directory {
        texts.push(std::fs::read_to_string(folder.join("folder/file"))?);
    }
    if let Some(disk) = &attached.disk {
        use std::os::unix::fs::FileExt;
        let mut bytes = [0; TEXT_BYTES];
        std::fs::File::open(disk)?.read_exact_at(&mut bytes, 0)?;
        texts.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
    }
    texts.dedup();
    match texts.as_slice() {
        [text] => Ok(text.clone()),
        _ => Err(StorageError::new(
            larder_storage_driver::ErrorKind::Unexpected,
            format!("the parts differ: {texts:?}"),
        )),
    }
}

/// Compares what was expected with what is there.
pub(crate) fn same<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Outcome {
    crate::ensure(found == expected, format!("{what}: found {found:?}, expected {expected:?}"))
}
