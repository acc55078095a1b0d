//! `larder file`: files in instances.

use super::Context;
use super::file_tree::{self, Attributes, Kind, Remote};
use crate::edit;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Manage files in instances
#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Copy files into an instance
    Push(PushArgs),
    /// Copy files out of an instance
    Pull(PullArgs),
    /// Delete files in instances
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Edit a file in an instance
    Edit(EditArgs),
    /// Create a file, folder or symbolic link in an instance
    Create(CreateArgs),
    /// Create folders in an instance
    Mkdir(MkdirArgs),
}

/// Who owns what is made, and what may be done with it.
#[derive(Debug, Clone, Args)]
struct OwnerArgs {
    /// The user id (default: that of the file here)
    #[arg(long)]
    uid: Option<u32>,
    /// The group id (default: that of the file here)
    #[arg(long)]
    gid: Option<u32>,
    /// The permissions, in octal (default: those of the file here)
    #[arg(long)]
    mode: Option<String>,
}

impl OwnerArgs {
    fn over(&self, attributes: Attributes) -> Result<Attributes> {
        let mode = match &self.mode {
            None => attributes.mode,
            Some(text) => match u32::from_str_radix(text, 8) {
                Ok(mode @ 0..=0o7777) => mode,
                _ => bail!("{text:?} is not a mode: write it in octal, as in 644"),
            },
        };
        Ok(Attributes {
            uid: self.uid.unwrap_or(attributes.uid),
            gid: self.gid.unwrap_or(attributes.gid),
            mode,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The files here (- is standard input), and where to: [REMOTE:]INSTANCE/PATH
    #[arg(value_name = "FILE... [REMOTE:]INSTANCE/PATH", required = true, num_args = 2..)]
    words: Vec<String>,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Copy folders with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Make the folders that are missing
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The files, and where to here (- is standard output)
    #[arg(value_name = "[REMOTE:]INSTANCE/PATH... TARGET", required = true, num_args = 2..)]
    words: Vec<String>,
    /// Copy folders with everything in them
    #[arg(short, long)]
    recursive: bool,
    /// Make the folders that are missing
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The files
    #[arg(value_name = "[REMOTE:]INSTANCE/PATH", required = true)]
    files: Vec<String>,
    /// Delete folders with everything in them
    #[arg(short, long, visible_alias = "recursive")]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The file
    #[arg(value_name = "[REMOTE:]INSTANCE/PATH")]
    file: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What to create
    #[arg(value_name = "[REMOTE:]INSTANCE/PATH")]
    file: String,
    /// What a symbolic link points to
    target: Option<String>,
    /// What to create: file, directory or symlink
    #[arg(long = "type", default_value = "file", value_parser = ["file", "directory", "symlink"])]
    kind: String,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Make the folders that are missing
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MkdirArgs {
    /// The folders
    #[arg(value_name = "[REMOTE:]INSTANCE/PATH", required = true)]
    folders: Vec<String>,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Make the folders above too
    #[arg(short = 'p', long)]
    create_dirs: bool,
}

pub(crate) async fn run(context: &Context, command: FileCommand) -> Result<()> {
    match command {
        FileCommand::Push(args) => push(context, args).await,
        FileCommand::Pull(args) => pull(context, args).await,
        FileCommand::Delete(args) => {
            for file in &args.files {
                let (remote, path) = locate(context, file)?;
                remote.delete(&path, args.force).await?;
            }
            Ok(())
        }
        FileCommand::Edit(args) => edit_file(context, &args.file).await,
        FileCommand::Create(args) => create(context, args).await,
        FileCommand::Mkdir(args) => {
            for folder in &args.folders {
                let (remote, path) = locate(context, folder)?;
                let attributes = args.owner.over(Attributes { uid: 0, gid: 0, mode: 0o755 })?;
                if args.create_dirs {
                    remote.make_folders(&parent(&path)).await?;
                }
                remote.put(&path, Kind::Directory, attributes, Vec::new()).await?;
            }
            Ok(())
        }
    }
}

/// Splits `[remote:]instance/path`; the path is absolute.
fn locate(context: &Context, text: &str) -> Result<(Remote, String)> {
    let (client, rest) = context.target(text)?;
    match rest.split_once('/') {
        Some((instance, path)) if !instance.is_empty() => {
            Ok((Remote::new(client, instance, context.bar("Copying")), format!("/{path}")))
        }
        _ => bail!("{text:?} is not INSTANCE/PATH"),
    }
}

fn parent(path: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent.to_owned(),
        _ => "/".to_owned(),
    }
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

async fn push(context: &Context, args: PushArgs) -> Result<()> {
    let Some((target, sources)) = args.words.split_last() else { bail!("name the files and the target") };
    let (remote, path) = locate(context, target)?;
    if args.create_dirs {
        let folder = if path.ends_with('/') { path.clone() } else { parent(&path) };
        remote.make_folders(&folder).await?;
    }
    let into_folder =
        path.ends_with('/') || sources.len() > 1 || remote.kind(&path).await? == Some(Kind::Directory);
    for source in sources {
        let local = Path::new(source);
        let name = local.file_name().and_then(|name| name.to_str());
        let target = match name {
            _ if source == "-" && into_folder => {
                bail!("standard input has no name: name the file in the instance")
            }
            Some(name) if into_folder => join(&path, name),
            None if into_folder && source != "/" => {
                let whole = local.canonicalize().with_context(|| format!("can't read {source}"))?;
                join(&path, whole.file_name().and_then(|name| name.to_str()).unwrap_or_default())
            }
            _ => path.clone(),
        };
        push_one(&remote, source, &target, &args).await?;
    }
    Ok(())
}

async fn push_one(remote: &Remote, source: &str, target: &str, args: &PushArgs) -> Result<()> {
    if source == "-" {
        let attributes = args.owner.over(Attributes { uid: 0, gid: 0, mode: 0o644 })?;
        return remote.put(target, Kind::File, attributes, file_tree::read_stdin_bytes().await?).await;
    }
    let local = PathBuf::from(source);
    let metadata = std::fs::metadata(&local).with_context(|| format!("can't read {source}"))?;
    if metadata.is_dir() {
        if !args.recursive {
            bail!("{source:?} is a folder: use --recursive");
        }
        return remote.push_tree(&local, target, &|attributes| args.owner.over(attributes)).await;
    }
    let attributes = args.owner.over(Attributes::of(&metadata))?;
    remote.push_file(&local, target, attributes).await
}

async fn pull(context: &Context, args: PullArgs) -> Result<()> {
    let Some((target, sources)) = args.words.split_last() else { bail!("name the files and the target") };
    let local = Path::new(target);
    let into_folder = local.is_dir() || target.ends_with('/') || sources.len() > 1;
    if args.create_dirs {
        let folder = if into_folder { Some(local) } else { local.parent() };
        if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
    }
    if into_folder && target != "-" && !local.is_dir() {
        bail!("{target:?} is not a folder");
    }
    for source in sources {
        let (remote, path) = locate(context, source)?;
        if target == "-" {
            remote.pull_to_stdout(&path).await?;
            continue;
        }
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = if name.is_empty() { remote.instance() } else { name };
        let file = if into_folder { local.join(name) } else { local.to_owned() };
        if args.recursive && remote.kind(&path).await? == Some(Kind::Directory) {
            remote.pull_tree(&path, &file).await?;
        } else {
            remote.pull_file(&path, &file).await?;
        }
    }
    Ok(())
}

async fn edit_file(context: &Context, text: &str) -> Result<()> {
    let (remote, path) = locate(context, text)?;
    let extension =
        Path::new(&path).extension().and_then(|e| e.to_str()).map(|e| format!(".{e}")).unwrap_or_default();
    let folder = tempfile::Builder::new().prefix("larder-edit-").tempdir()?;
    let file = folder.path().join(format!("file{extension}"));
    if !crate::terminal::stdin_is_terminal() {
        let attributes = Attributes { uid: 0, gid: 0, mode: 0o644 };
        return remote.put(&path, Kind::File, attributes, file_tree::read_stdin_bytes().await?).await;
    }
    let attributes = match remote.kind(&path).await? {
        Some(_) => remote.pull_file(&path, &file).await?,
        None => {
            std::fs::write(&file, "")?;
            Attributes { uid: 0, gid: 0, mode: 0o644 }
        }
    };
    let before = std::fs::read(&file)?;
    let held = context.hold_interrupts();
    edit::open_editor(&file).await?;
    drop(held);
    if std::fs::read(&file)? == before {
        return Ok(());
    }
    remote.push_file(&file, &path, attributes).await
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (remote, path) = locate(context, &args.file)?;
    if args.create_dirs {
        remote.make_folders(&parent(&path)).await?;
    }
    let (kind, mode, content) = match (args.kind.as_str(), args.target) {
        ("symlink", Some(target)) => (Kind::Symlink, 0o777, target.into_bytes()),
        ("symlink", None) => bail!("say what the symbolic link points to"),
        (_, Some(target)) => bail!("only a symbolic link points to something, such as {target:?}"),
        ("directory", None) => (Kind::Directory, 0o755, Vec::new()),
        (_, None) => (Kind::File, 0o644, Vec::new()),
    };
    remote.put(&path, kind, args.owner.over(Attributes { uid: 0, gid: 0, mode })?, content).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_instances_are_joined_and_cut() {
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("/a/b/"), "/a");
        assert_eq!(parent("/a"), "/");
        assert_eq!(join("/a/", "b"), "/a/b");
        assert_eq!(join("/", "b"), "/b");
    }

    #[test]
    fn a_mode_is_octal() {
        let over = |mode: &str| {
            OwnerArgs { uid: None, gid: Some(5), mode: Some(mode.to_owned()) }.over(Attributes {
                uid: 7,
                gid: 7,
                mode: 0,
            })
        };
        assert_eq!(over("0644").unwrap(), Attributes { uid: 7, gid: 5, mode: 0o644 });
        assert_eq!(over("4755").unwrap().mode, 0o4755);
        assert!(over("rwx").is_err() && over("99").is_err() && over("77777").is_err());
    }
}
