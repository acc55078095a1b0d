//! `larder storage account`.

use super::Context;
use super::bucket_key::{PairArgs, tell};
use super::resource::Resource;
use crate::client::{ApiPath, Client};
use crate::fields::Fields;
use crate::output::{self, Column, Format, choose};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

/// Manage storage accounts: S3 users that make buckets of their own
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List storage accounts
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show a storage account as YAML
    Show(AccountArgs),
    /// Create a storage account and show its key pair
    Create(CreateArgs),
    /// Limit how many bytes all buckets of an account may hold together
    Quota(QuotaArgs),
    /// Edit a storage account as YAML
    Edit(AccountArgs),
    /// Delete a storage account that owns no bucket
    #[command(visible_alias = "rm")]
    Delete(AccountArgs),
    #[command(subcommand)]
    Key(KeyCommand),
    /// Limit a key of an account to some buckets, whoever owns them
    Grant(GrantArgs),
}

/// Manage the key pairs of a storage account
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key pairs of an account
    #[command(visible_alias = "ls")]
    List(KeyListArgs),
    /// Show a key pair as YAML, with its secret
    Show(KeyArgs),
    /// Give an account another key pair and show it
    Add(AddArgs),
    /// Take a key pair from an account
    #[command(visible_alias = "rm")]
    Remove(KeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A remote, as in local:
    remote: Option<String>,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: n name, D display name, e e-mail, p pool, q quota, k keys, u buckets
    #[arg(short, long, default_value = "nDepqku")]
    columns: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AccountArgs {
    /// The storage account
    #[arg(value_name = "[REMOTE:]ACCOUNT")]
    account: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// What S3 shows as the owner of things (default: the name)
    #[arg(long, default_value = "")]
    display_name: String,
    /// Its e-mail address
    #[arg(long, default_value = "")]
    email: String,
    /// The pool in which its buckets are made
    #[arg(long)]
    pool: String,
    /// How many bytes all of its buckets may hold together, such as 10GiB (default: no limit)
    #[arg(long, default_value = "")]
    quota: String,
    #[command(flatten)]
    pair: PairArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// How many bytes, such as 10GiB; none lifts the limit
    quota: String,
}

#[derive(Debug, Args)]
pub(crate) struct KeyListArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The format of the list
    #[arg(short, long, value_enum, default_value_t)]
    format: Format,
    /// The columns: a access key, b buckets it is limited to
    #[arg(short, long, default_value = "ab")]
    columns: String,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The access key
    access_key: String,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    pair: PairArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The buckets it opens from now on, and no others; with :read-only behind a name it may only read there
    #[arg(value_name = "BUCKET[:ROLE]", required_unless_present = "all")]
    buckets: Vec<String>,
    /// Let it act for its account again
    #[arg(long, conflicts_with = "buckets")]
    all: bool,
}

impl AccountArgs {
    fn locate(&self, context: &Context) -> Result<(Client, String, ApiPath)> {
        let (client, name) = context.named(&self.account, "storage account")?;
        let path = ApiPath::of(["storage-accounts", &name]);
        Ok((client, name, path))
    }

    fn resource(&self, context: &Context) -> Result<Resource> {
        let (client, name, path) = self.locate(context)?;
        let writable = &["display_name", "email", "pool", "quota"];
        Ok(Resource { client, path, kind: "storage account", name, writable })
    }
}

impl KeyArgs {
    fn resource(&self, context: &Context) -> Result<Resource> {
        let (client, _, path) = self.account.locate(context)?;
        let (path, name) = (path.at("keys").at(&self.access_key), self.access_key.clone());
        Ok(Resource { client, path, kind: "storage account key", name, writable: &["restricted", "grants"] })
    }
}

pub(crate) async fn run(context: &Context, command: AccountCommand) -> Result<()> {
    match command {
        AccountCommand::List(args) => list(context, &args).await,
        AccountCommand::Show(args) => args.resource(context)?.show().await,
        AccountCommand::Create(args) => create(context, args).await,
        AccountCommand::Quota(args) => quota(context, &args).await,
        AccountCommand::Edit(args) => args.resource(context)?.edit(context).await,
        AccountCommand::Delete(args) => args.resource(context)?.delete(context).await,
        AccountCommand::Key(KeyCommand::List(args)) => list_keys(context, &args).await,
        AccountCommand::Key(KeyCommand::Show(args)) => args.resource(context)?.show().await,
        AccountCommand::Key(KeyCommand::Add(args)) => add_key(context, &args).await,
        AccountCommand::Key(KeyCommand::Remove(args)) => args.resource(context)?.delete(context).await,
        AccountCommand::Grant(args) => grant(context, &args).await,
    }
}

async fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let client = context.optional(args.remote.as_deref())?;
    let known = vec![
        Column::new('n', "NAME", |account| account.text("name").to_owned()),
        Column::new('D', "DISPLAY NAME", |account| account.text("display_name").to_owned()),
        Column::new('e', "E-MAIL", |account| account.text("email").to_owned()),
        Column::new('p', "POOL", |account| account.text("pool").to_owned()),
        Column::new('q', "QUOTA", |account| account.text("quota").to_owned()),
        Column::new('k', "KEYS", |account| account.count("access_keys").to_string()),
        Column::new('u', "BUCKETS", |account| account.count("used_by").to_string()),
    ];
    let columns = choose(known, &args.columns)?;
    let accounts = client.get(&ApiPath::of(["storage-accounts"]).query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, accounts.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn create(context: &Context, args: CreateArgs) -> Result<()> {
    let (client, name, _) = args.account.locate(context)?;
    let mut body = json!({
        "name": name,
        "display_name": args.display_name,
        "email": args.email,
        "pool": args.pool,
        "quota": args.quota,
    });
    args.pair.add_to(&mut body)?;
    let path = ApiPath::of(["storage-accounts"]);
    let made = context.change(&client, &format!("Creating {name}"), Method::POST, &path, Some(body)).await?;
    context.done(&format!("Storage account {name} created"))?;
    tell(&made.metadata)
}

async fn quota(context: &Context, args: &QuotaArgs) -> Result<()> {
    let quota = if args.quota == "none" { "" } else { args.quota.as_str() };
    let update = |account: &mut Value| {
        account["quota"] = json!(quota);
        Ok(())
    };
    args.account.resource(context)?.update(context, update).await
}

async fn list_keys(context: &Context, args: &KeyListArgs) -> Result<()> {
    let (client, _, path) = args.account.locate(context)?;
    let buckets = |key: &Value| match key.is("restricted") {
        false => "(acts for the account)".to_owned(),
        true => key.items("grants").iter().map(|grant| grant.text("bucket")).collect::<Vec<_>>().join(", "),
    };
    let known = vec![
        Column::new('a', "ACCESS KEY", |key| key.text("access-key").to_owned()),
        Column::new('b', "BUCKETS", buckets),
    ];
    let columns = choose(known, &args.columns)?;
    let keys = client.get(&path.at("keys").query("recursion", "1")).await?.metadata;
    output::list(args.format, &columns, keys.as_array().map(Vec::as_slice).unwrap_or_default())
}

async fn add_key(context: &Context, args: &AddArgs) -> Result<()> {
    let (client, _, path) = args.account.locate(context)?;
    let mut body = json!({});
    args.pair.add_to(&mut body)?;
    let made = context.change(&client, "Adding a key", Method::POST, &path.at("keys"), Some(body)).await?;
    tell(&made.metadata)
}

async fn grant(context: &Context, args: &GrantArgs) -> Result<()> {
    let key = args.key.resource(context)?;
    let grants = args.buckets.iter().map(|text| granted(text)).collect::<Result<Vec<_>>>()?;
    let body = json!({ "restricted": !args.all, "grants": grants });
    context.change(&key.client, "Updating", Method::PUT, &key.path, Some(body)).await?;
    Ok(())
}

/// Reads `bucket[:role]`; without a role everything is allowed.
fn granted(text: &str) -> Result<Value> {
    let (bucket, role) = text.split_once(':').unwrap_or((text, "admin"));
    match role {
        "admin" | "read-only" => Ok(json!({ "bucket": bucket, "role": role })),
        other => bail!("{other:?} is not a role: write BUCKET:admin or BUCKET:read-only"),
    }
}

#[cfg(test)]
mod tests {
    use super::granted;

    #[test]
    fn a_grant_names_a_bucket_and_perhaps_a_role() {
        assert_eq!(granted("photos").unwrap()["role"], "admin");
        assert_eq!(granted("photos:read-only").unwrap()["bucket"], "photos");
        assert!(granted("photos:owner").is_err());
    }
}
