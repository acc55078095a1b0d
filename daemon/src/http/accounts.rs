//! `/1.0/storage-accounts`, which the peers do not have (`larder_storage_accounts`).

use super::buckets::{role, role_name};
use super::glue::{App, Body, Matched, blocking, created_with, done, list, matched, sync_with_etag};
use super::{Query, Reply};
use crate::service::{AccountContent, KeyPair, NewAccount, Result, Service, ServiceError, account_url, url};
use axum::extract::{Path, State};
use larder_api::{
    StorageAccount, StorageAccountGrant, StorageAccountKey, StorageAccountKeyPut, StorageAccountKeysPost,
    StorageAccountPut, StorageAccountsPost,
};
use larder_base::ByteSize;
use larder_catalog::documents::{AccountKey, BucketGrant, StorageAccount as Account};
use serde_json::{Value, json};

/// GET `/1.0/storage-accounts`.
pub(crate) async fn get_all(State(app): State<App>, query: Query) -> Reply {
    let accounts = blocking(&app, |service| {
        service.store().accounts()?.iter().map(|account| wire(service, account)).collect::<Result<Vec<_>>>()
    })
    .await?;
    list(&query, accounts, |account| account_url(&account.name))
}

/// POST `/1.0/storage-accounts`: the first key pair is in the reply.
pub(crate) async fn post(
    State(app): State<App>,
    query: Query,
    Body(body): Body<StorageAccountsPost>,
) -> Reply {
    let location = account_url(&body.name);
    let content = AccountContent {
        display_name: body.display_name,
        email: body.email,
        pool: body.pool,
        quota: quota(&body.quota)?,
    };
    let StorageAccountsPost { name, access_key, secret_key, .. } = body;
    let task = query.task();
    let new = NewAccount { name, content, access_key, secret_key };
    let pair = blocking(&app, move |service| service.create_account(&task, new)).await?;
    created_with(&location, &wire_pair(&pair))
}

/// GET `/1.0/storage-accounts/{name}`.
pub(crate) async fn get(State(app): State<App>, Path(name): Path<String>) -> Reply {
    let (account, etag) = blocking(&app, move |service| {
        let account = service.account(&name)?;
        Ok((wire(service, &account)?, etag(&account)))
    })
    .await?;
    sync_with_etag(&account, &etag)
}

/// PUT `/1.0/storage-accounts/{name}`.
pub(crate) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageAccountPut>,
) -> Reply {
    let StorageAccountPut { display_name, email, pool, quota: limit } = body;
    let content = AccountContent { display_name, email, pool, quota: quota(&limit)? };
    change(app, name, query, guard, move |_| content).await
}

/// What a PATCH names; the rest stays.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Change {
    display_name: Option<String>,
    email: Option<String>,
    pool: Option<String>,
    quota: Option<String>,
}

/// PATCH `/1.0/storage-accounts/{name}`.
pub(crate) async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    guard: Matched,
    Body(body): Body<Change>,
) -> Reply {
    let limit = body.quota.as_deref().map(quota).transpose()?;
    change(app, name, query, guard, move |old| AccountContent {
        display_name: body.display_name.unwrap_or_else(|| old.display_name.clone()),
        email: body.email.unwrap_or_else(|| old.email.clone()),
        pool: body.pool.unwrap_or_else(|| old.pool.clone()),
        quota: limit.unwrap_or(old.quota),
    })
    .await
}

async fn change(
    app: App,
    name: String,
    query: Query,
    guard: Matched,
    new: impl FnOnce(&Account) -> AccountContent + Send + 'static,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let account = service.account(&name)?;
        matched(&guard, &etag(&account))?;
        service.update_account(&task, &account, new(&account))
    })
    .await?;
    done()
}

/// DELETE `/1.0/storage-accounts/{name}`: refused while it owns buckets.
pub(crate) async fn delete(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let task = query.task();
    blocking(&app, move |service| service.delete_account(&task, &service.account(&name)?)).await?;
    done()
}

/// GET `/1.0/storage-accounts/{name}/keys`.
pub(crate) async fn get_keys(State(app): State<App>, Path(name): Path<String>, query: Query) -> Reply {
    let account = name.clone();
    let keys = blocking(&app, move |service| {
        let account = service.account(&name)?;
        let keys = service.store().account_keys(account.id)?;
        keys.iter().map(|key| wire_key(service, key)).collect::<Result<Vec<_>>>()
    })
    .await?;
    list(&query, keys, |key| key_url(&account, &key.access_key))
}

/// POST `/1.0/storage-accounts/{name}/keys`: the new key pair is in the reply.
pub(crate) async fn post_key(
    State(app): State<App>,
    Path(name): Path<String>,
    query: Query,
    Body(body): Body<StorageAccountKeysPost>,
) -> Reply {
    let (account, task) = (name.clone(), query.task());
    let pair = blocking(&app, move |service| {
        service.add_account_key(&task, &service.account(&name)?, &body.access_key, &body.secret_key)
    })
    .await?;
    created_with(&key_url(&account, &pair.access_key), &wire_pair(&pair))
}

/// GET `/1.0/storage-accounts/{name}/keys/{access_key}`.
pub(crate) async fn get_key(State(app): State<App>, Path((name, key)): Path<(String, String)>) -> Reply {
    let key = blocking(&app, move |service| {
        let key = service.account_key(&service.account(&name)?, &key)?;
        wire_key(service, &key)
    })
    .await?;
    sync_with_etag(&key, &key_etag(&key))
}

/// PUT `/1.0/storage-accounts/{name}/keys/{access_key}`: which buckets it opens, or that it acts for its account.
pub(crate) async fn put_key(
    State(app): State<App>,
    Path((name, key)): Path<(String, String)>,
    query: Query,
    guard: Matched,
    Body(body): Body<StorageAccountKeyPut>,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let account = service.account(&name)?;
        let key = service.account_key(&account, &key)?;
        matched(&guard, &key_etag(&wire_key(service, &key)?))?;
        let grant = |grant: &StorageAccountGrant| {
            let missing = || ServiceError::not_found(format!("bucket {:?}", grant.bucket));
            let record = service.store().bucket_volume(&grant.bucket)?.ok_or_else(missing)?;
            Ok(BucketGrant { volume: record.volume.id, role: role(&grant.role)? })
        };
        let grants = body.grants.iter().map(grant).collect::<Result<Vec<_>>>()?;
        if !body.restricted && !grants.is_empty() {
            return Err(ServiceError::bad("grants are for a restricted key: set restricted to true"));
        }
        service.grant_buckets(&task, &account, &key, body.restricted.then_some(grants))
    })
    .await?;
    done()
}

/// DELETE `/1.0/storage-accounts/{name}/keys/{access_key}`.
pub(crate) async fn delete_key(
    State(app): State<App>,
    Path((name, key)): Path<(String, String)>,
    query: Query,
) -> Reply {
    let task = query.task();
    blocking(&app, move |service| {
        let account = service.account(&name)?;
        service.remove_account_key(&task, &account, &service.account_key(&account, &key)?)
    })
    .await?;
    done()
}

fn key_url(account: &str, access_key: &str) -> String {
    url(&["storage-accounts", account, "keys", access_key], &"default")
}

fn quota(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let size: ByteSize =
        text.parse().map_err(|error| ServiceError::bad(format!("invalid quota: {error}")))?;
    Ok(Some(size.as_bytes()).filter(|bytes| *bytes > 0))
}

fn wire(service: &Service, account: &Account) -> Result<StorageAccount> {
    let pools = service.store().pools()?;
    let pool_of = |id| pools.iter().find(|pool| pool.id == id).map_or("", |pool| pool.name.as_str());
    let buckets = service.buckets_of(account.id)?;
    let keys = service.store().account_keys(account.id)?;
    Ok(StorageAccount {
        name: account.name.clone(),
        id: account.id.as_uuid().simple().to_string(),
        display_name: account.display_name.clone(),
        email: account.email.clone(),
        pool: account.pool.clone(),
        quota: account.quota.map(|bytes| ByteSize::from_bytes(bytes).to_string()).unwrap_or_default(),
        created_at: account.created_at,
        access_keys: keys.into_iter().map(|key| key.access_key).collect(),
        used_by: buckets.iter().map(|bucket| service.bucket_url(pool_of(bucket.pool), bucket)).collect(),
    })
}

fn wire_pair(pair: &KeyPair) -> StorageAccountKeysPost {
    StorageAccountKeysPost { access_key: pair.access_key.clone(), secret_key: pair.secret_key.clone() }
}

fn wire_key(service: &Service, key: &AccountKey) -> Result<StorageAccountKey> {
    let mut grants = Vec::new();
    for grant in key.grants.iter().flatten() {
        if let Some(record) = service.store().volume_by_id(grant.volume)? {
            let role = role_name(grant.role).to_owned();
            grants.push(StorageAccountGrant { bucket: record.volume.name, role });
        }
    }
    Ok(StorageAccountKey {
        access_key: key.access_key.clone(),
        secret_key: service.account_secret(key)?,
        created_at: key.created_at,
        restricted: key.grants.is_some(),
        grants,
    })
}

fn key_etag(key: &StorageAccountKey) -> Value {
    let grants: Vec<_> = key.grants.iter().map(|grant| (&grant.bucket, &grant.role)).collect();
    json!([key.access_key, key.secret_key, key.restricted, grants])
}

fn etag(account: &Account) -> Value {
    json!([account.name, account.display_name, account.email, account.pool, account.quota])
}
