//! Devices of instances and of profiles: `larder config device` and `larder profile device`.

use super::Context;
use super::config::INSTANCE_FIELDS;
use super::profile::PROFILE_FIELDS;
use super::resource::Resource;
use crate::client::ApiPath;
use crate::fields::{object_mut, pairs, settings, texts};
use crate::output;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// Manage devices
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Add a device
    Add(AddArgs),
    /// Take devices away
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Show the value of a device's key
    Get(GetArgs),
    /// Set keys of a device
    Set(SetArgs),
    /// Take a key of a device away
    Unset(GetArgs),
    /// List the names of the devices
    #[command(visible_alias = "ls")]
    List(OwnerArgs),
    /// Show the devices as YAML
    Show(OwnerArgs),
    /// Copy a device of a profile to the instance and change it there
    Override(OverrideArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// The instance or profile
    #[arg(value_name = "[REMOTE:]NAME")]
    owner: String,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The name of the device
    device: String,
    /// Its type, such as disk, nic or none
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Its keys, such as path=/data
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The names of the devices
    #[arg(required = true)]
    devices: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The name of the device
    device: String,
    /// The key
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The name of the device
    device: String,
    /// Keys and their new values
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The name of the device
    device: String,
    /// Keys to change
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What has devices.
#[derive(Debug)]
pub(crate) struct Owner(Resource);

impl Owner {
    /// An instance.
    pub(crate) fn instance(context: &Context, text: &str) -> Result<Self> {
        let (client, name) = context.named(text, "instance")?;
        let path = ApiPath::of(["instances", name.as_str()]);
        Ok(Self(Resource { client, path, kind: "instance", name, writable: INSTANCE_FIELDS }))
    }

    /// A profile.
    pub(crate) fn profile(context: &Context, text: &str) -> Result<Self> {
        let (client, name) = context.named(text, "profile")?;
        let path = ApiPath::of(["profiles", name.as_str()]);
        Ok(Self(Resource { client, path, kind: "profile", name, writable: PROFILE_FIELDS }))
    }

    /// Its own devices.
    pub(crate) async fn devices(&self) -> Result<Map<String, Value>> {
        let mut object = self.0.read().await?.metadata;
        Ok(std::mem::take(object_mut(&mut object, "devices")?))
    }

    async fn change(
        &self,
        context: &Context,
        change: impl FnOnce(&mut Map<String, Value>) -> Result<()>,
    ) -> Result<()> {
        self.0.update(context, |object| change(object_mut(object, "devices")?)).await
    }

    fn no_device(&self, device: &str) -> anyhow::Error {
        anyhow::anyhow!("the {} {:?} has no device {device:?} of its own", self.0.kind, self.0.name)
    }
}

/// Adds a device.
pub(crate) async fn add(context: &Context, owner: &Owner, name: &str, device: Value) -> Result<()> {
    owner
        .change(context, |devices| match devices.contains_key(name) {
            true => bail!("the {} {:?} has a device {name:?} already", owner.0.kind, owner.0.name),
            false => {
                devices.insert(name.to_owned(), device);
                Ok(())
            }
        })
        .await?;
    context.done(&format!("Device {name} added to {}", owner.0.name))
}

/// Takes devices away.
pub(crate) async fn remove(context: &Context, owner: &Owner, names: &[String]) -> Result<()> {
    owner
        .change(context, |devices| {
            names.iter().try_for_each(|name| match devices.remove(name) {
                Some(_) => Ok(()),
                None => Err(owner.no_device(name)),
            })
        })
        .await?;
    context.done(&format!("Device {} removed from {}", names.join(", "), owner.0.name))
}

pub(crate) async fn run(
    context: &Context,
    command: DeviceCommand,
    owner: fn(&Context, &str) -> Result<Owner>,
) -> Result<()> {
    match command {
        DeviceCommand::Add(args) => {
            let mut device = texts(pairs(&args.keys)?);
            device["type"] = json!(args.kind);
            add(context, &owner(context, &args.owner.owner)?, &args.device, device).await
        }
        DeviceCommand::Remove(args) => {
            remove(context, &owner(context, &args.owner.owner)?, &args.devices).await
        }
        DeviceCommand::Get(args) => {
            let owner = owner(context, &args.owner.owner)?;
            let devices = owner.devices().await?;
            let device = devices.get(&args.device).ok_or_else(|| owner.no_device(&args.device))?;
            output::line(device[&args.key].as_str().unwrap_or_default())
        }
        DeviceCommand::Set(args) => set(context, &owner(context, &args.owner.owner)?, &args).await,
        DeviceCommand::Unset(args) => unset(context, &owner(context, &args.owner.owner)?, &args).await,
        DeviceCommand::List(args) => {
            let devices = owner(context, &args.owner)?.devices().await?;
            devices.keys().try_for_each(|name| output::line(name))
        }
        DeviceCommand::Show(args) => {
            output::show(&Value::Object(owner(context, &args.owner)?.devices().await?))
        }
        DeviceCommand::Override(args) => override_device(context, &args).await,
    }
}

async fn set(context: &Context, owner: &Owner, args: &SetArgs) -> Result<()> {
    let settings = settings(&args.settings)?;
    owner
        .change(context, |devices| {
            let device = devices.get_mut(&args.device).ok_or_else(|| owner.no_device(&args.device))?;
            for (key, value) in settings {
                device[key] = json!(value);
            }
            Ok(())
        })
        .await
}

async fn unset(context: &Context, owner: &Owner, args: &GetArgs) -> Result<()> {
    owner
        .change(context, |devices| {
            let device = devices.get_mut(&args.device).ok_or_else(|| owner.no_device(&args.device))?;
            match device.as_object_mut().and_then(|device| device.remove(&args.key)) {
                Some(_) => Ok(()),
                None => bail!("the device {:?} has no key {:?}", args.device, args.key),
            }
        })
        .await
}

async fn override_device(context: &Context, args: &OverrideArgs) -> Result<()> {
    let owner = Owner::instance(context, &args.owner.owner)?;
    let instance = owner.0.read().await?.metadata;
    let mut device = match instance["expanded_devices"].get(&args.device) {
        Some(device) => device.clone(),
        None => bail!("no profile of {:?} has a device {:?}", args.owner.owner, args.device),
    };
    for (key, value) in pairs(&args.settings)? {
        device[key] = json!(value);
    }
    add(context, &owner, &args.device, device).await
}
