//! Storage accounts and their keys in the catalog.

use super::Store;
use crate::service::{Result, ServiceError};
use larder_catalog::documents::{AccessKeyHome, AccountKey, StorageAccount};
use larder_catalog::{AccountId, CatalogError, Cause, Transaction, VolumeId, keys};

/// Takes an e-mail address for an account.
fn put_email(transaction: Transaction, account: &StorageAccount) -> Result<Transaction> {
    if account.email.is_empty() {
        return Ok(transaction);
    }
    let email = keys::account_email(&account.email);
    Ok(transaction.guard_absent(email.clone()).put(email, super::pointer_to(&account.id)?))
}

fn conflict(error: CatalogError, account: &StorageAccount) -> ServiceError {
    match &error {
        CatalogError::Conflict { key } if *key == keys::account_name(&account.name) => {
            ServiceError::taken(format!("the storage account {:?}", account.name))
        }
        CatalogError::Conflict { key } if *key == keys::account_email(&account.email) => {
            ServiceError::taken(format!("a storage account with the e-mail address {:?}", account.email))
        }
        _ => error.into(),
    }
}

fn put_key(transaction: Transaction, key: &AccountKey) -> Result<Transaction> {
    let home = AccessKeyHome::Account { account: key.account };
    let access = keys::access_key(&key.access_key);
    Ok(transaction.guard_absent(access.clone()).put(access, super::pointer_to(&home)?).put_document(key)?)
}

impl Store {
    /// All accounts, by name.
    pub fn accounts(&self) -> Result<Vec<StorageAccount>> {
        let stored =
            larder_catalog::list_documents::<StorageAccount>(self.catalog.as_ref(), &keys::accounts())?;
        let mut accounts: Vec<_> = stored.into_iter().map(|stored| stored.document).collect();
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(accounts)
    }

    /// An account by name.
    pub fn account(&self, name: &str) -> Result<Option<StorageAccount>> {
        let Some(entry) = self.catalog.get(&keys::account_name(name))? else { return Ok(None) };
        self.account_by_id(super::pointer(&entry.value)?)
    }

    /// An account by id.
    pub fn account_by_id(&self, id: AccountId) -> Result<Option<StorageAccount>> {
        let stored =
            larder_catalog::get_document::<StorageAccount>(self.catalog.as_ref(), &keys::account(id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// An account by its e-mail address.
    pub(in crate::service) fn account_by_email(&self, email: &str) -> Result<Option<StorageAccount>> {
        let Some(entry) = self.catalog.get(&keys::account_email(email))? else { return Ok(None) };
        self.account_by_id(super::pointer(&entry.value)?)
    }

    /// An account's keys, oldest first.
    pub fn account_keys(&self, account: AccountId) -> Result<Vec<AccountKey>> {
        let stored = larder_catalog::list_documents::<AccountKey>(
            self.catalog.as_ref(),
            &keys::account_keys_of(account),
        )?;
        let mut found: Vec<_> = stored.into_iter().map(|stored| stored.document).collect();
        found.sort_by(|one, other| {
            (one.created_at, &one.access_key).cmp(&(other.created_at, &other.access_key))
        });
        Ok(found)
    }

    /// A key of an account.
    pub fn account_key(&self, account: AccountId, access_key: &str) -> Result<Option<AccountKey>> {
        let key = keys::account_key(account, access_key);
        let stored = larder_catalog::get_document::<AccountKey>(self.catalog.as_ref(), &key)?;
        Ok(stored.map(|stored| stored.document))
    }

    pub(in crate::service) fn add_account(
        &self,
        account: &StorageAccount,
        first: &AccountKey,
        cause: Option<Cause>,
    ) -> Result<()> {
        let name = keys::account_name(&account.name);
        let transaction = Transaction::new()
            .guard_absent(name.clone())
            .put(name, super::pointer_to(&account.id)?)
            .put_document(account)?;
        let transaction = put_key(put_email(transaction, account)?, first)?;
        self.commit_account(transaction, account, Some(first), cause)
    }

    /// Replaces an account by one of the same id and name.
    pub(in crate::service) fn change_account(
        &self,
        old: &StorageAccount,
        new: &StorageAccount,
        cause: Option<Cause>,
    ) -> Result<()> {
        let mut transaction = Transaction::new().guard_present(keys::account(old.id));
        if old.email != new.email {
            if !old.email.is_empty() {
                transaction = transaction.delete(keys::account_email(&old.email));
            }
            transaction = put_email(transaction, new)?;
        }
        self.commit_account(transaction.put_document(new)?, new, None, cause)
    }

    /// Forgets an account that owns no bucket, with its keys.
    pub(in crate::service) fn remove_account(
        &self,
        account: &StorageAccount,
        cause: Option<Cause>,
    ) -> Result<()> {
        for key in self.account_keys(account.id)? {
            self.remove_account_key(&key, None)?;
        }
        let mut transaction =
            Transaction::new().delete(keys::account_name(&account.name)).delete_document(account);
        if !account.email.is_empty() {
            transaction = transaction.delete(keys::account_email(&account.email));
        }
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn add_account_key(
        &self,
        account: &StorageAccount,
        key: &AccountKey,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = put_key(Transaction::new(), key)?.guard_present(keys::account(key.account));
        self.commit_account(transaction, account, Some(key), cause)
    }

    pub(in crate::service) fn change_account_key(
        &self,
        key: &AccountKey,
        cause: Option<Cause>,
    ) -> Result<()> {
        let guard = keys::account_key(key.account, &key.access_key);
        self.commit(Transaction::new().guard_present(guard).put_document(key)?, cause)
    }

    pub(in crate::service) fn remove_account_key(
        &self,
        key: &AccountKey,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = Transaction::new().delete(keys::access_key(&key.access_key));
        self.commit(transaction.delete_document(key), cause)
    }

    /// Takes a bucket that goes out of all grants.
    pub(super) fn withdraw_grants(&self, volume: VolumeId) -> Result<()> {
        let stored =
            larder_catalog::list_documents::<AccountKey>(self.catalog.as_ref(), &keys::account_keys())?;
        for stored in stored {
            let mut key = stored.document;
            // A key that was limited stays so, even when nothing is left that it opens.
            let Some(grants) = &mut key.grants else { continue };
            let before = grants.len();
            grants.retain(|grant| grant.volume != volume);
            if grants.len() < before {
                self.change_account_key(&key, None)?;
            }
        }
        Ok(())
    }

    fn commit_account(
        &self,
        transaction: Transaction,
        account: &StorageAccount,
        key: Option<&AccountKey>,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = match cause {
            Some(cause) => transaction.because(cause),
            None => transaction,
        };
        match (self.catalog.transact(transaction), key) {
            (Err(CatalogError::Conflict { key: found }), Some(key))
                if found == keys::access_key(&key.access_key) =>
            {
                Err(ServiceError::taken(format!("the access key {:?}", key.access_key)))
            }
            (outcome, _) => outcome.map(|_| ()).map_err(|error| conflict(error, account)),
        }
    }
}
