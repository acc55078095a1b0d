//! Rendering an image's templates into an instance's root.
//!
//! Templates come from images, so they are hostile: they see the values they are given and nothing else (no
//! files, no includes), may only work for so long, and what they make is written without ever leaving the root,
//! whatever links the root holds, and only over plain files.
//!
//! The language is a small part of Django's, as images use it: `{{ instance.name }}`, `{% if %}`, `{% for %}`, the
//! filters `default`, `lower`, `upper`, `trim` and `safe`, and the function `config_get(key, default)`. What a
//! template names and is not there is an error that names it.

mod language;
mod lexer;
mod render;

use crate::metadata::{TemplateEntry, Trigger};
use render::{Scope, Value};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const MOST_TEMPLATE_BYTES: u64 = 1 << 20;
const DEFAULT_MODE: u32 = 0o644;

/// What templates may know of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its name.
    pub name: String,
    /// `container` or `virtual-machine`.
    pub kind: String,
    /// Its architecture, as the kernel names it.
    pub architecture: String,
    /// Whether its root is the machine's root.
    pub privileged: bool,
    /// Whether it goes when it stops.
    pub ephemeral: bool,
}

/// The values of one rendering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateValues {
    /// The instance.
    pub instance: InstanceFacts,
    /// Its configuration, profiles included.
    pub config: BTreeMap<String, String>,
    /// Its devices, profiles included.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// One rendering of all templates for one occasion.
#[derive(Debug, Clone)]
pub struct TemplateRun<'a> {
    /// The instance's root directory.
    pub rootfs: &'a Path,
    /// The directory of template files.
    pub templates: &'a Path,
    /// From `metadata.yaml`: the path in the root, and how.
    pub entries: &'a BTreeMap<String, TemplateEntry>,
    /// The occasion.
    pub trigger: Trigger,
    /// The values.
    pub values: &'a TemplateValues,
    /// The user and group that the instance's user and group 0 are in its root; the others follow.
    pub first_ids: (u32, u32),
}

/// A template was not rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template file could not be read.
    #[error("the template {name} could not be read: is it in the image's templates directory?")]
    Read {
        /// The template.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The template is too long.
    #[error("the template {name} has more than {limit} bytes")]
    TooLong {
        /// The template.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// The template has an error, or names something that is not there.
    #[error("the template {name} could not be rendered: line {line}: {reason}")]
    Render {
        /// The template.
        name: String,
        /// The line it is in; 0 where no line is at fault.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The file in the root could not be written.
    #[error("the file {path} of the instance could not be written")]
    Write {
        /// The path in the root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in the root at that path is no plain file.
    #[error("{path} of the instance is no plain file: a template can't be written there")]
    NoPlainFile {
        /// The path in the root.
        path: PathBuf,
    },
}

impl TemplateRun<'_> {
    /// Renders every template that is meant for this occasion and writes it into the root. All are rendered
    /// before the first is written. Tells which paths were written.
    pub fn apply(&self) -> Result<Vec<PathBuf>, TemplateError> {
        let root = open_directory(self.rootfs)
            .map_err(|source| TemplateError::Write { path: "/".into(), source })?;
        let mut rendered = Vec::new();
        for (path, entry) in self.entries {
            let is_meant = entry.when.contains(&self.trigger);
            if is_meant && !(entry.create_only && is_there(&root, Path::new(path))) {
                rendered.push((Path::new(path), entry, self.render(path, entry)?));
            }
        }
        for (path, entry, text) in &rendered {
            self.write(&root, path, entry, text.as_bytes())?;
        }
        Ok(rendered.iter().map(|(path, ..)| (*path).to_owned()).collect())
    }

    fn render(&self, path: &str, entry: &TemplateEntry) -> Result<String, TemplateError> {
        let source = read_template(self.templates, &entry.template)?;
        let instance = self.values.instance.as_map();
        let rendered = render::render(&source, self.scope(path, entry, &instance), &self.values.config);
        rendered.map_err(|(line, reason)| TemplateError::Render {
            name: entry.template.clone(),
            line,
            reason,
        })
    }

    fn scope<'b>(
        &'b self,
        path: &'b str,
        entry: &'b TemplateEntry,
        instance: &'b BTreeMap<String, String>,
    ) -> Scope<'b> {
        let values = [
            ("trigger", Value::Text(Cow::Borrowed(self.trigger.as_str()))),
            ("path", Value::Text(Cow::Borrowed(path))),
            ("instance", Value::Map(instance)),
            // The older name of the same thing.
            ("container", Value::Map(instance)),
            ("config", Value::Map(&self.values.config)),
            ("devices", Value::Maps(&self.values.devices)),
            ("properties", Value::Map(&entry.properties)),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn write(
        &self,
        root: &OwnedFd,
        path: &Path,
        entry: &TemplateEntry,
        text: &[u8],
    ) -> Result<(), TemplateError> {
        let failed = |source: io::Error| TemplateError::Write { path: path.to_owned(), source };
        let mode = entry.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let (file, is_new) = match open_in(root, path, OFlags::PATH, Mode::empty()) {
            // A device or a pipe must not even be opened: opening acts on some.
            Ok(found) => match is_plain_file(&found).map_err(failed)? {
                true => (reopen(&found, OFlags::WRONLY | OFlags::TRUNC).map_err(failed)?, false),
                false => return Err(TemplateError::NoPlainFile { path: path.to_owned() }),
            },
            Err(rustix::io::Errno::NOENT) => {
                make_parents(root, path, self.first_ids).map_err(failed)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let made = open_in(root, path, flags, Mode::from_raw_mode(0o600));
                (made.map_err(|error| failed(error.into()))?, true)
            }
            Err(error) => return Err(failed(error.into())),
        };
        let mut file = File::from(file);
        file.write_all(text).map_err(failed)?;
        if is_new || entry.uid.is_some() || entry.gid.is_some() {
            let (uid, gid) = if is_new { (Some(0), Some(0)) } else { (None, None) };
            let uid = entry.uid.or(uid).map(|uid| Uid::from_raw(uid.saturating_add(self.first_ids.0)));
            let gid = entry.gid.or(gid).map(|gid| Gid::from_raw(gid.saturating_add(self.first_ids.1)));
            rustix::fs::fchown(&file, uid, gid).map_err(|error| failed(error.into()))?;
        }
        if let Some(mode) = mode.or(is_new.then_some(DEFAULT_MODE)) {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}

impl InstanceFacts {
    /// A truth that is false is empty, so that `{% if instance.privileged %}` asks what it seems to ask.
    fn as_map(&self) -> BTreeMap<String, String> {
        let truth = |truth: bool| if truth { "true" } else { "" };
        let fields = [
            ("name", self.name.as_str()),
            ("type", &self.kind),
            ("architecture", &self.architecture),
            ("privileged", truth(self.privileged)),
            ("ephemeral", truth(self.ephemeral)),
        ];
        fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Template files are the image's: no link among them is followed.
fn read_template(directory: &Path, name: &str) -> Result<String, TemplateError> {
    let failed = |source: io::Error| TemplateError::Read { name: name.to_owned(), source };
    let directory = open_directory(directory).map_err(failed)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = rustix::fs::openat2(&directory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|error| failed(error.into()))?;
    if !is_plain_file(&path).map_err(failed)? {
        return Err(failed(io::Error::other("it is no plain file")));
    }
    let file = reopen(&path, OFlags::RDONLY).map_err(failed)?;
    let mut text = String::new();
    File::from(file).take(MOST_TEMPLATE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    let is_long = text.len() as u64 > MOST_TEMPLATE_BYTES;
    if is_long {
        return Err(TemplateError::TooLong { name: name.to_owned(), limit: MOST_TEMPLATE_BYTES });
    }
    Ok(text)
}

/// Opens a path as the instance would: links lead from its root, and `/proc`'s magic links nowhere.
fn open_in(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve)
}

fn is_there(root: &OwnedFd, path: &Path) -> bool {
    open_in(root, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).is_ok()
}

fn is_plain_file(path: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(path)?.st_mode) == FileType::RegularFile)
}

/// Opens what a path descriptor stands for: the very file that was looked at, not its name.
fn reopen(path: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let name = format!("/proc/self/fd/{}", path.as_raw_fd());
    Ok(rustix::fs::openat(CWD, name, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn make_parents(root: &OwnedFd, path: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
    parents.reverse();
    // The first is `/` itself.
    for pair in parents.windows(2) {
        let [above, parent] = pair else { continue };
        let above = open_in(root, above, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let name = parent.file_name().unwrap_or_default();
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
                rustix::fs::chownat(&above, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
