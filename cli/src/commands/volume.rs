//! `larder storage volume`.

use super::device::{self, Owner};
use super::resource::{KeyArgs, Resource, SetArgs};
use super::{Context, transfer, volume_copy, volume_list, volume_snapshot};
use crate::client::{ApiPath, Client};
use crate::fields::{Fields, pairs, texts};
use crate::output::{self, Column, Format, choose, human};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage storage volumes
///
/// A volume is named by its pool and its name. Names are those of custom volumes unless a kind stands before
/// them, as in container/c1, virtual-machine/v1 or image/FINGERPRINT.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    #[command(visible_alias = "ls")]
    List(volume_list::ListArgs),
    /// Show a volume or snapshot as YAML
    Show(VolumeArgs),
    /// Show a volume's state and its snapshots
    Info(VolumeArgs),
    /// Create a custom volume
    Create(CreateArgs),
    /// Show the value of a configuration key
    Get(VolumeKeyArgs),
    /// Set configuration keys
    Set(VolumeSetArgs),
    /// Take a configuration key away
    Unset(VolumeKeyArgs),
    /// Edit a volume or snapshot as YAML
    Edit(VolumeArgs),
    /// Rename a volume, or a snapshot when the names are VOLUME/SNAPSHOT
    Rename(RenameArgs),
    /// Delete a volume, or a snapshot when the name is VOLUME/SNAPSHOT
    #[command(visible_alias = "rm")]
    Delete(VolumeArgs),
    #[command(visible_alias = "cp")]
    Copy(volume_copy::CopyArgs),
    #[command(visible_alias = "mv")]
    Move(volume_copy::MoveArgs),
    /// Attach a volume to an instance
    Attach(AttachArgs),
    /// Attach a volume to a profile
    AttachProfile(AttachArgs),
    /// Detach a volume from an instance
    Detach(DetachArgs),
    /// Detach a volume from a profile
    DetachProfile(DetachArgs),
    /// Export a volume to a backup file
    Export(ExportArgs),
    /// Import a volume from a backup file or an ISO image
    Import(ImportArgs),
    Snapshot(volume_snapshot::SnapshotArgs),
    /// Restore a volume from a snapshot
    Restore(volume_snapshot::RestoreArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VolumeArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pub(crate) pool: String,
    /// The volume
    #[arg(value_name = "[KIND/]VOLUME[/SNAPSHOT]")]
    pub(crate) volume: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
    /// The name of the new volume
    volume: String,
    /// Configuration keys, such as size=10GiB
    #[arg(value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// What it holds: filesystem or block
    #[arg(long = "type", default_value = "filesystem", value_parser = ["filesystem", "block"])]
    content: String,
    /// A description
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeKeyArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeSetArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    #[command(flatten)]
    settings: SetArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The new name
    new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The instance or profile
    owner: String,
    /// The name of the device (default: the volume's name); or the path, when it begins with a slash
    device: Option<String>,
    /// Where the volume appears inside the instance; needed for filesystems
    path: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The instance or profile
    owner: String,
    /// The name of the device (default: the one that holds the volume)
    device: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// The file to write (default: VOLUME.tar.gz or what the compression is called)
    file: Option<String>,
    #[command(flatten)]
    options: transfer::BackupOptions,
    /// Leave the snapshots out
    #[arg(long)]
    volume_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The storage pool
    #[arg(value_name = "[REMOTE:]POOL")]
    pool: String,
    /// The file
    file: std::path::PathBuf,
    /// The name of the new volume (default: the name in the backup)
    volume: Option<String>,
    /// What the file is: backup, iso or tar (default: iso for names that end in .iso, else backup)
    #[arg(long = "type", value_parser = ["backup", "iso", "tar"])]
    kind: Option<String>,
}

/// The name of a volume or of one of its snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeName {
    /// `custom`, `container`, `virtual-machine` or `image`.
    pub(crate) kind: String,
    /// The volume's name.
    pub(crate) volume: String,
    /// The snapshot's name, when one is meant.
    pub(crate) snapshot: Option<String>,
}

impl VolumeName {
    /// Reads `[kind/]volume[/snapshot]`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (kind, rest) = match text.split_once('/') {
            Some((kind @ ("custom" | "container" | "virtual-machine" | "image"), rest)) => (kind, rest),
            _ => ("custom", text),
        };
        let (volume, snapshot) = match rest.split_once('/') {
            Some((volume, snapshot)) => (volume, Some(snapshot)),
            None => (rest, None),
        };
        if volume.is_empty() || snapshot.is_some_and(|snapshot| snapshot.is_empty() || snapshot.contains('/'))
        {
            bail!("{text:?} is not the name of a volume: write [KIND/]VOLUME[/SNAPSHOT]");
        }
        Ok(Self { kind: kind.to_owned(), volume: volume.to_owned(), snapshot: snapshot.map(str::to_owned) })
    }

    /// The path of the volume itself.
    pub(crate) fn volume_path(&self, pool: &str) -> ApiPath {
        ApiPath::of(["storage-pools", pool, "volumes", &self.kind, &self.volume])
    }

    /// The path of what is meant.
    pub(crate) fn path(&self, pool: &str) -> ApiPath {
        match &self.snapshot {
            Some(snapshot) => self.volume_path(pool).at("snapshots").at(snapshot),
            None => self.volume_path(pool),
        }
    }

    /// Refuses the name of a snapshot.
    pub(crate) fn no_snapshot(self) -> Result<Self> {
        match &self.snapshot {
            Some(snapshot) => bail!("a volume is meant here, not its snapshot {snapshot:?}"),
            None => Ok(self),
        }
    }
}

/// A volume and where it lives.
#[derive(Debug)]
pub(crate) struct Located {
    /// The server.
    pub(crate) client: Client,
    /// The pool.
    pub(crate) pool: String,
    /// The volume or snapshot.
    pub(crate) name: VolumeName,
}

impl VolumeArgs {
    /// Finds the server and reads the name.
    pub(crate) fn locate(&self, context: &Context) -> Result<Located> {
        let (client, pool) = context.named(&self.pool, "storage pool")?;
        Ok(Located { client, pool, name: VolumeName::parse(&self.volume)? })
    }

    pub(crate) fn resource(&self, context: &Context) -> Result<Resource> {
        let located = self.locate(context)?;
        let path = located.name.path(&located.pool);
        let (kind, writable): (_, &[&str]) = match located.name.snapshot {
            Some(_) => ("storage volume snapshot", &["description", "expires_at"]),
            None => ("storage volume", &["config", "description"]),
        };
        Ok(Resource { client: located.client, path, kind, name: self.volume.clone(), writable })
    }
}

pub(crate) async fn run(context: &Context, command: VolumeCommand) -> Result<()> {
    match command {
        VolumeCommand::List(args) => volume_list::run(context, &args).await,
        VolumeCommand::Show(args) => args.resource(context)?.show().await,
        VolumeCommand::Info(args) => info(context, &args).await,
        VolumeCommand::Create(args) => create(context, args).await,
        VolumeCommand::Get(args) => args.volume.resource(context)?.get(&args.key).await,
        VolumeCommand::Set(args) => args.volume.resource(context)?.set(context, &args.settings).await,
        VolumeCommand::Unset(args) => args.volume.resource(context)?.unset(context, &args.key).await,
        VolumeCommand::Edit(args) => args.resource(context)?.edit(context).await,
        VolumeCommand::Rename(args) => rename(context, &args).await,
        VolumeCommand::Delete(args) => args.resource(context)?.delete(context).await,
        VolumeCommand::Copy(args) => volume_copy::copy(context, args).await,
        VolumeCommand::Move(args) => volume_copy::r#move(context, args).await,
        VolumeCommand::Attach(args) => attach(context, &args, Owner::instance).await,
        VolumeCommand::AttachProfile(args) => attach(context, &args, Owner::profile).await,
        VolumeCommand::Detach(args) => detach(context, &args, Owner::instance).await,
        VolumeCommand::DetachProfile(args) => detach(context, &args, Owner::profile).await,
        VolumeCommand::Export(args) => export(context, args).await,
        VolumeCommand::Import(args) => import(context, args).await,
        VolumeCommand::Snapshot(args) => volume_snapshot::run(context, args).await,
        VolumeCommand::Restore(args) => volume_snapshot::restore(context, &args).await,
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, pool) = context.named(&args.pool, "storage pool")?;
    let name = args.volume.strip_prefix("custom/").unwrap_or(&args.volume);
    let body = json!({
        "name": name,
        "type": "custom",
        "content_type": args.content,
        "description": args.description,
        "config": texts(pairs(&args.config)?),
    });
    let path = ApiPath::of(["storage-pools", &pool, "volumes", "custom"]);
    context.change(&client, &format!("Creating {name}"), Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage volume {name} created"))
}

async fn rename(context: &Context, args: &RenameArgs) -> Result<()> {
    let old = VolumeName::parse(&args.volume.volume)?;
    let mut new = args.new_name.as_str();
    if old.snapshot.is_some() {
        // Both `v1/s0 v1/s1` and `v1/s0 s1` are understood.
        new = new.strip_prefix(&format!("{}/", old.volume)).unwrap_or(new);
    }
    args.volume.resource(context)?.rename(context, new).await
}

async fn info(context: &Context, args: &VolumeArgs) -> Result<()> {
    let located = args.locate(context)?;
    let path = located.name.clone().no_snapshot()?.volume_path(&located.pool);
    let volume = located.client.get(&path).await?.metadata;
    let mut text = format!("Name: {}\n", volume.text("name"));
    if !volume.text("description").is_empty() {
        text.push_str(&format!("Description: {}\n", volume.text("description")));
    }
    text.push_str(&format!("Type: {}\nContent type: {}\n", volume.text("type"), volume.text("content_type")));
    let created = human::minute(volume.text("created_at"));
    if !created.is_empty() {
        text.push_str(&format!("Created: {created}\n"));
    }
    // A server without this or a driver that can't tell is no reason to show nothing.
    if let Ok(state) = located.client.get(&path.clone().at("state")).await {
        let usage = &state.metadata["usage"];
        text.push_str(&format!("Usage: {}\n", human::bytes(usage.number("used"))));
        if usage.number("total") > 0 {
            text.push_str(&format!("Total: {}\n", human::bytes(usage.number("total"))));
        }
    }
    for user in volume.items("used_by").iter().filter_map(Value::as_str) {
        text.push_str(&format!("Used by: {user}\n"));
    }
    output::text(&text)?;
    let snapshots = located.client.get(&path.at("snapshots").query("recursion", "1")).await?.metadata;
    let snapshots = snapshots.as_array().map(Vec::as_slice).unwrap_or_default();
    if !snapshots.is_empty() {
        output::line("\nSnapshots:")?;
        output::list(Format::Table, &choose(snapshot_columns(), "ndce")?, snapshots)?;
    }
    Ok(())
}

/// The columns of lists of volume snapshots.
pub(crate) fn snapshot_columns() -> Vec<Column> {
    let own_name = |snapshot: &Value| snapshot.text("name").rsplit('/').next().unwrap_or_default().to_owned();
    vec![
        Column::new('n', "NAME", own_name),
        Column::new('d', "DESCRIPTION", |snapshot| snapshot.text("description").to_owned()),
        Column::new('c', "TAKEN AT", |snapshot| human::minute(snapshot.text("created_at"))),
        Column::new('e', "EXPIRES AT", |snapshot| human::minute(snapshot.text("expires_at"))),
    ]
}

async fn attach(
    context: &Context,
    args: &AttachArgs,
    owner: fn(&Context, &str) -> Result<Owner>,
) -> Result<()> {
    let located = args.volume.locate(context)?;
    let name = located.name.no_snapshot()?;
    let (device_name, path) = match (args.device.as_deref(), args.path.as_deref()) {
        (Some(path), None) if path.starts_with('/') => (name.volume.as_str(), Some(path)),
        (device, path) => (device.unwrap_or(&name.volume), path),
    };
    let source =
        if name.kind == "custom" { name.volume.clone() } else { format!("{}/{}", name.kind, name.volume) };
    let mut device = json!({"type": "disk", "pool": located.pool, "source": source});
    if let Some(path) = path {
        device["path"] = json!(path);
    }
    let owner = owner(context, &with_remote(&args.volume.pool, &args.owner))?;
    device::add(context, &owner, device_name, device).await
}

async fn detach(
    context: &Context,
    args: &DetachArgs,
    owner: fn(&Context, &str) -> Result<Owner>,
) -> Result<()> {
    let located = args.volume.locate(context)?;
    let owner = owner(context, &with_remote(&args.volume.pool, &args.owner))?;
    let devices = owner.devices().await?;
    let holds = |device: &Value| {
        let source = device.text("source");
        let source = source.strip_prefix("custom/").unwrap_or(source);
        device.text("type") == "disk" && device.text("pool") == located.pool && source == located.name.volume
    };
    let mut found = devices.iter().filter(|(_, device)| holds(device)).map(|(name, _)| name.clone());
    let device = match (args.device.clone(), found.next(), found.next()) {
        (Some(device), _, _) => device,
        (None, Some(device), None) => device,
        (None, Some(_), Some(_)) => {
            bail!("the volume is attached more than once: name the device to take away")
        }
        (None, None, _) => bail!("no device of {:?} holds the volume {:?}", args.owner, args.volume.volume),
    };
    device::remove(context, &owner, &[device]).await
}

/// The owner's name with the remote of the pool, unless it has one.
fn with_remote(pool: &str, owner: &str) -> String {
    match pool.split_once(':') {
        Some((remote, _)) if !owner.contains(':') => format!("{remote}:{owner}"),
        _ => owner.to_owned(),
    }
}

async fn export(context: &Context, args: ExportArgs) -> Result<()> {
    let located = args.volume.locate(context)?;
    let name = located.name.no_snapshot()?;
    let mut request = args.options.request();
    request["volume_only"] = json!(args.volume_only);
    let backups = name.volume_path(&located.pool).at("backups");
    transfer::export(context, &located.client, &backups, request, args.file.as_deref(), &name.volume).await
}

async fn import(context: &Context, args: ImportArgs) -> Result<()> {
    let (client, pool) = context.named(&args.pool, "storage pool")?;
    let is_iso = args.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("iso"));
    let kind = args.kind.as_deref().unwrap_or(if is_iso { "iso" } else { "backup" });
    let mut name = args.volume.clone();
    if name.is_none() && kind != "backup" {
        name = args.file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    }
    let mut headers = transfer::Headers::octet_stream();
    if let Some(name) = &name {
        headers.add("name", name)?;
    }
    if kind != "backup" {
        headers.add("type", kind)?;
    }
    let path = ApiPath::of(["storage-pools", &pool, "volumes", "custom"]);
    transfer::upload(context, &client, &path, headers, &args.file).await?;
    context.done(&format!("Storage volume {} imported", name.as_deref().unwrap_or("from the backup")))
}

#[cfg(test)]
mod tests {
    use super::VolumeName;

    #[test]
    fn names_may_say_the_kind_and_a_snapshot() {
        let read = |text: &str| {
            let name = VolumeName::parse(text).unwrap();
            (name.kind.clone(), name.volume.clone(), name.snapshot.clone(), name.path("p").render(None))
        };
        assert_eq!(read("v1").3, "/1.0/storage-pools/p/volumes/custom/v1");
        assert_eq!(read("v1/s0").3, "/1.0/storage-pools/p/volumes/custom/v1/snapshots/s0");
        assert_eq!(read("container/c1").3, "/1.0/storage-pools/p/volumes/container/c1");
        assert_eq!(read("custom/container").1, "container");
        for bad in ["", "/", "v1/", "container/", "v1/a/b", "container/c1/a/b"] {
            assert!(VolumeName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
