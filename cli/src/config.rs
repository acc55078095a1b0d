//! Remotes and the default project: what `larder` remembers between two calls.

use crate::client::{Client, Trace};
use crate::failure::Told;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the environment says; read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `LARDER_SOCKET`.
    pub(crate) socket: Option<PathBuf>,
    /// `LARDER_DIR`.
    pub(crate) directory: Option<PathBuf>,
    /// `LARDER_CONF`: the folder of `config.yml`.
    pub(crate) configuration: Option<PathBuf>,
    /// `LARDER_PROJECT`.
    pub(crate) project: Option<String>,
    /// `HOME`.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn read() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name| variable(name).map(PathBuf::from);
        Self {
            socket: path("LARDER_SOCKET"),
            directory: path("LARDER_DIR"),
            configuration: path("LARDER_CONF"),
            project: variable("LARDER_PROJECT").and_then(|value| value.into_string().ok()),
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
        }
    }

    /// Where the local server listens.
    pub(crate) fn local_socket(&self) -> PathBuf {
        let directory = self.directory.clone().unwrap_or_else(|| PathBuf::from("/var/lib/larder"));
        self.socket.clone().unwrap_or_else(|| directory.join("unix.socket"))
    }

    fn config_file(&self) -> Option<PathBuf> {
        if let Some(folder) = &self.configuration {
            return Some(folder.join("config.yml"));
        }
        let base = self.config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(base.join("larder").join("config.yml"))
    }
}

/// How a remote is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    /// The API, over a unix socket.
    Larder,
    /// An image server.
    Simplestreams,
}

impl Protocol {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Simplestreams => "simplestreams",
        }
    }
}

/// One remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    /// `unix:///path`, `unix://` for the local server, or the URL of an image server.
    pub(crate) addr: String,
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
    /// The project used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

/// The name of the remote that is this machine.
pub(crate) const LOCAL: &str = "local";
/// The name of the image server everybody has.
pub(crate) const IMAGES: &str = "images";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default = "default_remote")]
    default_remote: String,
    #[serde(default)]
    remotes: BTreeMap<String, Remote>,
}

fn default_remote() -> String {
    LOCAL.to_owned()
}

fn well_known() -> BTreeMap<String, Remote> {
    let remote = |addr: &str, protocol| Remote { addr: addr.to_owned(), protocol, project: None };
    BTreeMap::from([
        (LOCAL.to_owned(), remote("unix://", Protocol::Larder)),
        (IMAGES.to_owned(), remote("https://images.linuxcontainers.org", Protocol::Simplestreams)),
    ])
}

/// The remotes and which of them is the default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    environment: Environment,
    document: Document,
}

impl Config {
    /// Reads the configuration file; without one the well-known remotes are there.
    pub(crate) fn load(environment: Environment) -> Result<Self> {
        let mut document = Document { default_remote: default_remote(), remotes: BTreeMap::new() };
        if let Some(file) = environment.config_file() {
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    document = parse(&text).with_context(|| format!("can't use {}", file.display()))?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("can't read {}", file.display())),
            }
        }
        for (name, remote) in well_known() {
            document.remotes.entry(name).or_insert(remote);
        }
        Ok(Self { environment, document })
    }

    /// Writes the configuration file; it is there whole or as it was.
    pub(crate) fn save(&self) -> Result<()> {
        let Some(file) = self.environment.config_file() else {
            bail!("there is no home folder to keep the configuration in: set LARDER_CONF");
        };
        let folder = file.parent().unwrap_or(Path::new("."));
        let text =
            serde_saphyr::to_string(&self.document).context("can't write the configuration as YAML")?;
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut part = tempfile::NamedTempFile::new_in(folder)?;
            part.write_all(text.as_bytes())?;
            part.persist(&file)?;
            Ok(())
        };
        write().with_context(|| format!("can't write {}", file.display()))
    }

    /// The remotes by name.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = (&String, &Remote)> {
        self.document.remotes.iter()
    }

    /// The name of the default remote.
    pub(crate) fn default_remote(&self) -> &str {
        &self.document.default_remote
    }

    /// Makes a remote the default.
    pub(crate) fn switch(&mut self, name: &str) -> Result<()> {
        if self.remote(name)?.protocol == Protocol::Simplestreams {
            bail!("{name:?} is an image server and can't be the default remote");
        }
        name.clone_into(&mut self.document.default_remote);
        Ok(())
    }

    /// One remote.
    pub(crate) fn remote(&self, name: &str) -> Result<&Remote> {
        self.document.remotes.get(name).ok_or_else(|| unknown_remote(name))
    }

    /// One remote, to change it.
    pub(crate) fn remote_mut(&mut self, name: &str) -> Result<&mut Remote> {
        self.document.remotes.get_mut(name).ok_or_else(|| unknown_remote(name))
    }

    /// Adds a remote.
    pub(crate) fn add(&mut self, name: &str, remote: Remote) -> Result<()> {
        if name.is_empty() || name.contains([':', '/', ' ']) {
            bail!("invalid remote name {name:?}: colons, slashes and spaces are not allowed");
        }
        if self.document.remotes.contains_key(name) {
            bail!("remote {name:?} exists already");
        }
        self.document.remotes.insert(name.to_owned(), remote);
        Ok(())
    }

    /// Takes a remote away.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Remote> {
        if name == LOCAL {
            bail!("the remote {LOCAL:?} can't be removed or renamed");
        }
        if name == self.document.default_remote {
            bail!("remote {name:?} is the default: switch to another one first");
        }
        self.document.remotes.remove(name).ok_or_else(|| unknown_remote(name))
    }

    /// The socket a remote's address means.
    pub(crate) fn socket(&self, remote: &Remote) -> Result<PathBuf> {
        match remote.addr.strip_prefix("unix://").or_else(|| remote.addr.strip_prefix("unix:")) {
            Some("") => Ok(self.environment.local_socket()),
            Some(path) => Ok(PathBuf::from(path)),
            None => bail!("{:?} is not the address of a unix socket", remote.addr),
        }
    }

    /// Splits `remote:name`. Without a colon it is the default remote; a name may hold colons itself only when
    /// what stands before the first one is no remote.
    pub(crate) fn split<'a>(&'a self, text: &'a str) -> Result<(&'a str, &'a str)> {
        let default = self.default_remote();
        match text.split_once(':') {
            None => Ok((default, text)),
            Some((remote, rest)) if self.document.remotes.contains_key(remote) => Ok((remote, rest)),
            Some((remote, _)) => Err(unknown_remote(remote)),
        }
    }

    /// The project for a remote when the command line names none.
    pub(crate) fn project(&self, remote: &Remote) -> Option<String> {
        self.environment.project.clone().or_else(|| remote.project.clone())
    }

    /// A client for a remote that speaks the API.
    pub(crate) fn client(&self, name: &str, project: Option<String>, trace: Option<Trace>) -> Result<Client> {
        let remote = self.remote(name)?;
        if remote.protocol == Protocol::Simplestreams {
            return Err(Told::new(
                format!("remote {name:?} is an image server: it has images to launch and copy, nothing else"),
                format!("name an image of it, as in: larder launch {name}:IMAGE, or larder image copy {name}:IMAGE local:"),
            )
            .into());
        }
        let project = project.or_else(|| self.project(remote));
        Ok(Client::new(self.socket(remote)?).with_project(project).with_trace(trace))
    }
}

fn parse(text: &str) -> Result<Document> {
    if text.trim().is_empty() {
        return Ok(Document { default_remote: default_remote(), remotes: BTreeMap::new() });
    }
    let document: Document = serde_saphyr::from_str(text)?;
    let known = well_known().contains_key(&document.default_remote);
    if !known && !document.remotes.contains_key(&document.default_remote) {
        bail!("the default remote {:?} is not among the remotes", document.default_remote);
    }
    Ok(document)
}

fn unknown_remote(name: &str) -> anyhow::Error {
    Told::new(format!("there is no remote {name:?}"), "see the remotes with: larder remote list").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let environment = Environment { configuration: Some(folder.to_owned()), ..Environment::default() };
        Config::load(environment).unwrap()
    }

    #[test]
    fn names_are_split_at_a_known_remote() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        assert_eq!(config.split("c1").unwrap(), ("local", "c1"));
        assert_eq!(config.split("local:").unwrap(), ("local", ""));
        assert_eq!(config.split("images:alpine/3.22").unwrap(), ("images", "alpine/3.22"));
        let error = config.split("nowhere:c1").unwrap_err();
        assert!(crate::failure::text(&error).contains("larder remote list"), "{error}");
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = config(folder.path());
        let other =
            Remote { addr: "unix:///run/other.socket".to_owned(), protocol: Protocol::Larder, project: None };
        first.add("other", other).unwrap();
        first.switch("other").unwrap();
        first.remote_mut("local").unwrap().project = Some("web".to_owned());
        first.save().unwrap();
        let second = config(folder.path());
        assert_eq!(second.document, first.document);
        assert_eq!(second.split("c1").unwrap(), ("other", "c1"));
        assert_eq!(second.socket(second.remote("other").unwrap()).unwrap(), Path::new("/run/other.socket"));
    }

    #[test]
    fn the_socket_is_found_in_the_order_that_is_documented() {
        let mut environment = Environment::default();
        assert_eq!(environment.local_socket(), Path::new("/var/lib/larder/unix.socket"));
        environment.directory = Some("/srv/larder".into());
        assert_eq!(environment.local_socket(), Path::new("/srv/larder/unix.socket"));
        environment.socket = Some("/run/l.socket".into());
        assert_eq!(environment.local_socket(), Path::new("/run/l.socket"));
    }

    #[test]
    fn an_image_server_is_no_default_and_the_local_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        assert!(config.switch("images").is_err());
        assert!(config.remove("local").is_err());
        assert!(config.add("a:b", config.remote("local").unwrap().clone()).is_err());
        assert!(config.client("images", None, None).is_err());
    }

    #[test]
    fn a_file_with_an_unknown_default_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yml"), "default-remote: gone\nremotes: {}\n").unwrap();
        let environment =
            Environment { configuration: Some(folder.path().to_owned()), ..Environment::default() };
        let error = format!("{:#}", Config::load(environment).unwrap_err());
        assert!(error.contains("config.yml") && error.contains("gone"), "{error}");
    }
}
