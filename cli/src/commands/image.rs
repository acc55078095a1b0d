//! `larder image`: images on a server, and those an image server has.

use super::resource::Resource;
use super::{Context, image_alias, image_copy, image_info, image_transfer};
use crate::client::{ApiPath, Client};
use crate::fields::{Fields, object_mut, settings};
use crate::image_server;
use crate::output::{self, Column, Format, choose, human};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

/// The fields of an image a PUT takes.
const IMAGE_FIELDS: &[&str] = &["auto_update", "properties", "public", "expires_at", "profiles"];

/// The type of images that virtual machines are made from.
pub(crate) const VIRTUAL_MACHINE: &str = "virtual-machine";
/// The type of images that containers are made from.
pub(crate) const CONTAINER: &str = "container";

/// Manage images
///
/// An image is named by an alias, or by its fingerprint or the beginning of it. Images that came along with
/// an instance are cached and go by themselves when they were not used for a while; see larder image info.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    List(ListArgs),
    /// Show an image as YAML
    Show(TypedImageArgs),
    /// Show what an image is, why it is here and when it goes
    Info(TypedImageArgs),
    /// Edit an image as YAML
    Edit(ImageArgs),
    /// Delete images
    #[command(visible_alias = "rm")]
    Delete(ImagesArgs),
    Copy(image_copy::CopyArgs),
    Import(image_transfer::ImportArgs),
    Export(image_transfer::ExportArgs),
    /// Look whether there are newer images where these came from, and fetch them
    Refresh(ImagesArgs),
    /// Show a property of an image
    GetProperty(PropertyArgs),
    /// Set properties of an image
    SetProperty(SetPropertyArgs),
    /// Take a property of an image away
    UnsetProperty(PropertyArgs),
    #[command(subcommand)]
    Alias(image_alias::AliasCommand),
}

/// List images
///
/// A filter is a part of an alias, the beginning of a fingerprint, or KEY=VALUE where the key is a property
/// such as os, or one of type, architecture, public, cached and project. All filters must hold.
///
/// Columns: l shortest alias, L all aliases, f and F fingerprint, p public, d description, a architecture,
/// t type, s size, u upload date, U last used, c cached, e project.
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(crate) struct ListArgs {
    /// A remote as in local: or images:, and filters
    #[arg(value_name = "[REMOTE:] FILTER")]
    words: Vec<String>,
    /// The columns
    #[arg(short, long, default_value = "lfpdatsu")]
    columns: String,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// List the images of all projects
    #[arg(long)]
    all_projects: bool,
}

/// One image.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image
    #[arg(value_name = "[REMOTE:]IMAGE")]
    pub(crate) image: String,
}

/// One image, maybe only if it is one for virtual machines.
#[derive(Debug, Args)]
pub(crate) struct TypedImageArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Mean an image for virtual machines
    #[arg(long)]
    pub(crate) vm: bool,
}

impl TypedImageArgs {
    /// The type the image must have.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        self.vm.then_some(VIRTUAL_MACHINE)
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// The images
    #[arg(value_name = "[REMOTE:]IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PropertyArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// The property
    key: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetPropertyArgs {
    #[command(flatten)]
    image: ImageArgs,
    /// Properties and their values: KEY=VALUE, or KEY VALUE
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<String>,
}

pub(crate) async fn run(context: &Context, command: ImageCommand) -> Result<()> {
    match command {
        ImageCommand::List(args) => list(context, &args).await,
        ImageCommand::Show(args) => show(context, &args).await,
        ImageCommand::Info(args) => image_info::run(context, &args).await,
        ImageCommand::Edit(args) => resource(context, &args.image, None).await?.edit(context).await,
        ImageCommand::Delete(args) => delete(context, &args).await,
        ImageCommand::Copy(args) => image_copy::run(context, &args).await,
        ImageCommand::Import(args) => image_transfer::import(context, &args).await,
        ImageCommand::Export(args) => image_transfer::export(context, &args).await,
        ImageCommand::Refresh(args) => refresh(context, &args).await,
        ImageCommand::GetProperty(args) => get_property(context, &args).await,
        ImageCommand::SetProperty(args) => set_property(context, &args).await,
        ImageCommand::UnsetProperty(args) => unset_property(context, &args).await,
        ImageCommand::Alias(command) => image_alias::run(context, command).await,
    }
}

/// The image that an alias, or the beginning of a fingerprint, names. With a type, it must be of that one.
pub(crate) async fn find(client: &Client, name: &str, kind: Option<&str>) -> Result<Value> {
    let fingerprint = match client.get(&ApiPath::of(["images", "aliases", name])).await {
        Ok(alias) => alias.metadata.text("target").to_owned(),
        Err(error) if error.is_not_found() => name.to_owned(),
        Err(error) => return Err(error.into()),
    };
    let image = client.get(&ApiPath::of(["images", fingerprint.as_str()])).await?.metadata;
    match (kind, image.text("type")) {
        (Some(VIRTUAL_MACHINE), CONTAINER) => {
            bail!("the image {name:?} is for containers, not for virtual machines")
        }
        (Some(CONTAINER), VIRTUAL_MACHINE) => bail!("the image {name:?} is for virtual machines: use --vm"),
        _ => Ok(image),
    }
}

/// The whole fingerprint of the image that is named.
pub(crate) async fn fingerprint(client: &Client, name: &str, kind: Option<&str>) -> Result<String> {
    Ok(find(client, name, kind).await?.text("fingerprint").to_owned())
}

async fn resource(context: &Context, text: &str, kind: Option<&str>) -> Result<Resource> {
    let (client, name) = context.named(text, "image")?;
    let path = ApiPath::of(["images", fingerprint(&client, &name, kind).await?.as_str()]);
    Ok(Resource { client, path, kind: "image", name, writable: IMAGE_FIELDS })
}

/// The image an image server has, when the text names one of an image server.
pub(crate) async fn elsewhere(context: &Context, args: &TypedImageArgs) -> Result<Option<Value>> {
    let text = &args.image.image;
    if !context.is_image_server(text)? {
        return Ok(None);
    }
    let (remote, name) = context.config.split(text)?;
    let images = image_server::images(&context.config.remote(remote)?.addr).await?;
    image_server::find(&images, name, args.kind().unwrap_or(CONTAINER)).map(|image| Some(image.clone()))
}

async fn show(context: &Context, args: &TypedImageArgs) -> Result<()> {
    match elsewhere(context, args).await? {
        Some(image) => output::show(&image),
        None => resource(context, &args.image.image, args.kind()).await?.show().await,
    }
}

async fn delete(context: &Context, args: &ImagesArgs) -> Result<()> {
    for image in &args.images {
        resource(context, image, None).await?.delete(context).await?;
    }
    Ok(())
}

async fn refresh(context: &Context, args: &ImagesArgs) -> Result<()> {
    for text in &args.images {
        let image = resource(context, text, None).await?;
        let path = image.path.at("refresh");
        let doing = format!("Refreshing {}", image.name);
        let finished = context.change(&image.client, &doing, Method::POST, &path, None).await?;
        if finished.metadata.is("refreshed") {
            context.done(&format!("Image {} refreshed", image.name))?;
        } else {
            context.done(&format!("Image {} is up to date", image.name))?;
        }
    }
    Ok(())
}

async fn get_property(context: &Context, args: &PropertyArgs) -> Result<()> {
    let image = resource(context, &args.image.image, None).await?;
    match image.read().await?.metadata["properties"][&args.key].as_str() {
        Some(value) => output::line(value),
        None => bail!("the image {:?} has no property {:?}", image.name, args.key),
    }
}

async fn set_property(context: &Context, args: &SetPropertyArgs) -> Result<()> {
    let image = resource(context, &args.image.image, None).await?;
    let settings = settings(&args.settings)?;
    image
        .update(context, |object| {
            let pairs = settings.into_iter().map(|(key, value)| (key, Value::String(value)));
            object_mut(object, "properties")?.extend(pairs);
            Ok(())
        })
        .await
}

async fn unset_property(context: &Context, args: &PropertyArgs) -> Result<()> {
    let image = resource(context, &args.image.image, None).await?;
    let remove = |object: &mut Value| match object_mut(object, "properties")?.remove(&args.key) {
        Some(_) => Ok(()),
        None => bail!("the image {:?} has no property {:?}", image.name, args.key),
    };
    image.update(context, remove).await
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let (remote, filters) = match args.words.split_first() {
        Some((first, rest)) if first.ends_with(':') => (Some(first.as_str()), rest),
        _ => (None, args.words.as_slice()),
    };
    let chosen = match args.all_projects && !args.columns.contains('e') {
        true => format!("e{}", args.columns),
        false => args.columns.clone(),
    };
    let columns = choose(columns(), &chosen)?;
    let mut images = match remote {
        Some(remote) if context.is_image_server(remote)? => {
            let server = context.config.remote(context.config.split(remote)?.0)?;
            image_server::images(&server.addr).await?
        }
        _ => on_server(&context.optional(remote)?, args.all_projects).await?,
    };
    images.retain(|image| filters.iter().all(|filter| holds(image, filter)));
    images.sort_by_cached_key(sort_key);
    output::list(args.format, &columns, &images)
}

async fn on_server(client: &Client, all_projects: bool) -> Result<Vec<Value>> {
    let path = ApiPath::of(["images"]).query("recursion", "1");
    let path = path.query_if("all-projects", all_projects.then_some("true"));
    match client.get(&path).await?.metadata {
        Value::Array(images) => Ok(images),
        _ => Ok(Vec::new()),
    }
}

/// Images with an alias come first.
fn sort_key(image: &Value) -> (String, bool, String, String) {
    let alias = shortest_alias(image);
    (
        image.text("project").to_owned(),
        alias.is_none(),
        alias.unwrap_or_default().to_owned(),
        image.text("fingerprint").to_owned(),
    )
}

fn aliases(image: &Value) -> Vec<&str> {
    image.items("aliases").iter().map(|alias| alias.text("name")).collect()
}

fn shortest_alias(image: &Value) -> Option<&str> {
    aliases(image).into_iter().min_by_key(|alias| alias.len())
}

fn holds(image: &Value, filter: &str) -> bool {
    let Some((key, wanted)) = filter.split_once('=') else {
        let begins = image.text("fingerprint").starts_with(&filter.to_lowercase());
        return begins || aliases(image).iter().any(|alias| alias.contains(filter));
    };
    let flag = if image.is(key) { "true" } else { "false" };
    let value = match key {
        "type" | "architecture" | "project" | "fingerprint" => image.text(key),
        "public" | "cached" | "auto_update" => flag,
        _ => image["properties"][key.strip_prefix("properties.").unwrap_or(key)].as_str().unwrap_or_default(),
    };
    wanted.split(',').any(|wanted| value.eq_ignore_ascii_case(wanted))
}

fn columns() -> Vec<Column> {
    let text = |letter, heading: &str, field: &'static str| {
        Column::new(letter, heading, move |image: &Value| image.text(field).to_owned())
    };
    let flag = |letter, heading: &str, field: &'static str| {
        Column::new(letter, heading, move |image: &Value| human::yes(image.is(field)))
    };
    let time = |letter, heading: &str, field: &'static str| {
        Column::new(letter, heading, move |image: &Value| human::minute(image.text(field)))
    };
    let description = |image: &Value| image["properties"].text("description").to_owned();
    vec![
        Column::new('l', "ALIAS", alias_and_others),
        Column::new('L', "ALIASES", |image| aliases(image).join("\n")),
        Column::new('f', "FINGERPRINT", |image| short(image.text("fingerprint"))),
        text('F', "FINGERPRINT", "fingerprint"),
        flag('p', "PUBLIC", "public"),
        Column::new('d', "DESCRIPTION", description),
        text('a', "ARCHITECTURE", "architecture"),
        Column::new('t', "TYPE", |image| image.text("type").to_uppercase()),
        Column::new('s', "SIZE", |image| human::bytes(image.number("size"))),
        time('u', "UPLOAD DATE", "uploaded_at"),
        time('U', "LAST USED", "last_used_at"),
        flag('c', "CACHED", "cached"),
        text('e', "PROJECT", "project"),
    ]
}

fn alias_and_others(image: &Value) -> String {
    match (shortest_alias(image), aliases(image).len()) {
        (None, _) => String::new(),
        (Some(alias), 1) => alias.to_owned(),
        (Some(alias), count) => format!("{alias} ({} more)", count - 1),
    }
}

/// The beginning of a fingerprint, which is enough for people.
pub(crate) fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image() -> Value {
        json!({"fingerprint": "3f5cb05a1122334455", "type": "container", "architecture": "x86_64",
            "size": 3_250_585, "public": true, "uploaded_at": "2026-11-23T20:34:34Z", "cached": true,
            "aliases": [{"name": "alpine/3.22/default"}, {"name": "alpine/3.22"}],
            "properties": {"os": "Alpine", "description": "Alpine 3.22 amd64"}})
    }

    #[test]
    fn filters_are_parts_of_names_fields_and_properties() {
        let cases = [
            ("alpine", true),
            ("3F5C", true),
            ("cb05", false),
            ("debian", false),
            ("os=alpine", true),
            ("properties.os=alpine,debian", true),
            ("os=debian", false),
            ("type=virtual-machine", false),
            ("public=true", true),
            ("auto_update=true", false),
        ];
        for (filter, expected) in cases {
            assert_eq!(holds(&image(), filter), expected, "{filter}");
        }
    }

    #[test]
    fn the_default_columns_are_those_of_the_peers() {
        let bare = json!({"fingerprint": "aa", "type": "virtual-machine", "size": 0});
        let mut images = vec![bare, image()];
        images.sort_by_cached_key(sort_key);
        let columns = choose(columns(), "lfpdatsu").unwrap();
        insta::assert_snapshot!(output::rendered(Format::Table, &columns, &images).unwrap(), @r"
        +----------------------+--------------+--------+-------------------+--------------+-----------------+---------+----------------------+
        |         ALIAS        |  FINGERPRINT | PUBLIC |    DESCRIPTION    | ARCHITECTURE |       TYPE      |   SIZE  |      UPLOAD DATE     |
        +----------------------+--------------+--------+-------------------+--------------+-----------------+---------+----------------------+
        | alpine/3.22 (1 more) | 3f5cb05a1122 | yes    | Alpine 3.22 amd64 | x86_64       | CONTAINER       | 3.10MiB | 2026/11/23 20:34 UTC |
        +----------------------+--------------+--------+-------------------+--------------+-----------------+---------+----------------------+
        |                      | aa           | no     |                   |              | VIRTUAL-MACHINE | 0B      |                      |
        +----------------------+--------------+--------+-------------------+--------------+-----------------+---------+----------------------+
        ");
        let all = choose(super::columns(), "lLfFpdatsuUce").unwrap();
        assert_eq!(all.len(), super::columns().len(), "every column is told in the help");
    }
}
