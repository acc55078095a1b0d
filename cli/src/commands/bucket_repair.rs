//! `larder storage bucket scrub` and `rebuild-index`, which the peers do not have.

use super::Context;
use super::bucket::BucketArgs;
use crate::failure::Told;
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose, human};
use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The format of the list of what is damaged
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: k key, v version, p problem
    #[arg(short, long, default_value = "kvp")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    bucket: BucketArgs,
    /// The format of the list of what is not in the new index
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
}

/// Fails when something is damaged.
pub(crate) async fn scrub(context: &Context, args: &ScrubArgs) -> Result<()> {
    let columns = choose(scrub_columns(), &args.columns)?;
    let (client, bucket) = args.bucket.locate(context)?;
    let name = &args.bucket.bucket;
    let doing = format!("Scrubbing {name}");
    let found = context.change(&client, &doing, Method::POST, &bucket.at("scrub"), None).await?.metadata;
    let (damaged, versions) = (found.items("damaged"), found.number("versions"));
    tell(context, args.format, &columns, damaged, || {
        let bytes = human::bytes(found.number("bytes"));
        format!("Storage bucket {name} scrubbed: {versions} versions with {bytes}, nothing damaged")
    })?;
    if damaged.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} of {versions} versions in the storage bucket {name} are damaged", damaged.len());
    let hint = "get them from a snapshot or a backup, or put them anew";
    Err(Told::new(message, hint).into())
}

/// Fails when something is missing in the new index.
pub(crate) async fn rebuild(context: &Context, args: &RebuildArgs) -> Result<()> {
    let (client, bucket) = args.bucket.locate(context)?;
    let name = &args.bucket.bucket;
    let (doing, path) = (format!("Rebuilding the index of {name}"), bucket.at("rebuild-index"));
    let found = context.change(&client, &doing, Method::POST, &path, None).await?.metadata;
    let incomplete = found
        .items("incomplete")
        .iter()
        .map(|key| json!({ "what": "object", "name": key, "problem": "bytes of it are missing" }));
    let unreadable = found
        .items("unreadable")
        .iter()
        .map(|id| json!({ "what": "file", "name": id, "problem": "it does not tell whose it is" }));
    let missing: Vec<Value> = incomplete.chain(unreadable).collect();
    tell(context, args.format, &rebuild_columns(), &missing, || {
        let (versions, unused) = (found.number("versions"), found.number("unused"));
        format!("Index of storage bucket {name} rebuilt: {versions} versions; {unused} unused files removed")
    })?;
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("the new index of the storage bucket {name} does not have all that was there");
    Err(Told::new(
        message,
        "what there is of it stays in the volume; a snapshot or a backup may have it whole",
    )
    .into())
}

/// A list where there is something or a program reads it, a sentence otherwise.
fn tell(
    context: &Context,
    format: Format,
    columns: &[Column],
    items: &[Value],
    fine: impl FnOnce() -> String,
) -> Result<()> {
    match items.is_empty() && format == Format::default() {
        true => context.done(&fine()),
        false => output::list(format, columns, items),
    }
}

fn scrub_columns() -> Vec<Column> {
    vec![
        Column::new('k', "KEY", |damage| damage.text("key").to_owned()),
        Column::new('v', "VERSION", |damage| damage.text("version").to_owned()),
        Column::new('p', "PROBLEM", |damage| damage.text("problem").to_owned()),
    ]
}

fn rebuild_columns() -> Vec<Column> {
    vec![
        Column::new('w', "WHAT", |missing| missing.text("what").to_owned()),
        Column::new('n', "NAME", |missing| missing.text("name").to_owned()),
        Column::new('p', "PROBLEM", |missing| missing.text("problem").to_owned()),
    ]
}
