//! Profiles in the catalog: a document under its id, a key for its name, and a key on each pool that its devices name.
//! An instance knows its profiles by name, so a profile's new name reaches those who have it in the same transaction.

use super::Store;
use crate::service::{Result, ServiceError, url};
use larder_base::ProjectName;
use larder_catalog::documents::{Instance, InstanceSnapshot, Pool, PoolStatus, Profile};
use larder_catalog::{
    CatalogError, Cause, Key, ProfileId, Revision, Transaction, get_document, keys, list_documents,
};
use std::collections::BTreeSet;

/// How many instances and snapshots a new name reaches: each takes two of a transaction's operations.
const RENAMED_TOGETHER: usize = 40;

/// A profile before and after a change; it comes without the one and goes without the other.
#[derive(Debug, Default)]
pub(in crate::service) struct ProfileStep {
    pub before: Option<Profile>,
    pub after: Option<Profile>,
}

/// Names of the pools that a profile's devices are on.
fn pools_of(profile: &Profile) -> BTreeSet<&str> {
    let named = profile.devices.values().filter_map(|device| device.get("pool"));
    named.map(String::as_str).filter(|pool| !pool.is_empty()).collect()
}

fn name_key(profile: &Profile) -> Key {
    keys::profile_name(&profile.project, &profile.name)
}

impl Store {
    /// All profiles of all projects, by project and name.
    pub fn all_profiles(&self) -> Result<Vec<Profile>> {
        let stored = list_documents::<Profile>(self.catalog.as_ref(), &keys::profiles())?;
        let mut profiles: Vec<Profile> = stored.into_iter().map(|stored| stored.document).collect();
        profiles.sort_by(|one, other| (&one.project, &one.name).cmp(&(&other.project, &other.name)));
        Ok(profiles)
    }

    /// The profiles that a project holds, by name.
    pub fn profiles_of(&self, project: &ProjectName) -> Result<Vec<Profile>> {
        let mut profiles = self.all_profiles()?;
        profiles.retain(|profile| profile.project == *project);
        Ok(profiles)
    }

    /// A profile by the name it has in the project that holds it.
    pub fn profile(&self, project: &ProjectName, name: &str) -> Result<Option<Profile>> {
        let Some(id) = self.catalog.get(&keys::profile_name(project, name))? else { return Ok(None) };
        let id: ProfileId = super::pointer(&id.value)?;
        let stored = get_document::<Profile>(self.catalog.as_ref(), &keys::profile(id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// Commits a profile's change. `followers` are the projects whose instances may have it: they learn a new name.
    pub(in crate::service) fn commit_profile(
        &self,
        step: &ProfileStep,
        followers: &[ProjectName],
        cause: Option<&Cause>,
    ) -> Result<()> {
        let taken = step.before.as_ref().map(|before| keys::profile_taken(before.id));
        loop {
            match self.try_to_commit_profile(step, followers, cause)? {
                // Somebody came to have it meanwhile.
                Err(CatalogError::Conflict { key }) if taken.as_ref() == Some(&key) => {}
                Err(CatalogError::Conflict { key })
                    if step.after.as_ref().map(name_key) == Some(key.clone()) =>
                {
                    let name = step.after.as_ref().map(|after| after.name.as_str()).unwrap_or_default();
                    return Err(ServiceError::taken(format!("the profile {name:?}")));
                }
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    fn try_to_commit_profile(
        &self,
        step: &ProfileStep,
        followers: &[ProjectName],
        cause: Option<&Cause>,
    ) -> Result<std::result::Result<Revision, CatalogError>> {
        let mut transaction = self.with_profile(Transaction::new(), step)?;
        if let (Some(before), Some(after)) = (&step.before, &step.after)
            && before.name != after.name
        {
            transaction = self.rename_at_followers(transaction, &before.name, &after.name, followers)?;
        }
        let transaction = cause.into_iter().cloned().fold(transaction, Transaction::because);
        match (&step.before, &step.after) {
            (_, Some(after)) => self.commit_into(&after.project, transaction),
            (Some(before), None) if !self.used_by(&before.id.to_string())?.is_empty() => {
                Err(ServiceError::overtaken())
            }
            _ => Ok(self.catalog.transact(transaction)),
        }
    }

    /// Adds a profile's change to a transaction. It fails when the profile is no longer as it was before, when the name
    /// is taken, or when a pool it needs is not there.
    pub(super) fn with_profile(
        &self,
        mut transaction: Transaction,
        step: &ProfileStep,
    ) -> Result<Transaction> {
        if let Some(before) = &step.before {
            let key = keys::profile(before.id);
            let stored = get_document::<Profile>(self.catalog.as_ref(), &key)?;
            let Some(stored) = stored.filter(|stored| stored.document == *before) else {
                return Err(CatalogError::Conflict { key }.into());
            };
            transaction =
                transaction.guard_at(key, stored.revision).delete(name_key(before)).delete_document(before);
            if step.after.as_ref().map(name_key) != Some(name_key(before)) {
                let taken = keys::profile_taken(before.id);
                transaction = match self.catalog.get(&taken)? {
                    Some(last) => transaction.guard_at(taken.clone(), last.revision).delete(taken),
                    None => transaction.guard_absent(taken),
                };
            }
            for pool in pools_of(before) {
                if let Some(pool) = self.pool(pool)? {
                    transaction =
                        transaction.delete(keys::used_by(&pool.id.to_string(), &before.id.to_string()));
                }
            }
        }
        let Some(after) = &step.after else { return Ok(transaction) };
        if step.before.as_ref().map(name_key) != Some(name_key(after)) {
            transaction = transaction.guard_absent(name_key(after));
        }
        let own_url = super::pointer_to(&url(&["profiles", &after.name], &after.project))?;
        for name in pools_of(after) {
            let (pool, guard) = self.usable_pool(name)?;
            let user = keys::used_by(&pool.id.to_string(), &after.id.to_string());
            transaction = transaction.guard_at(keys::pool(pool.id), guard).put(user, own_url.clone());
        }
        Ok(transaction.put(name_key(after), super::pointer_to(&after.id)?).put_document(after)?)
    }

    /// A pool that may be referred to, as it is now: one that is on its way out may not.
    fn usable_pool(&self, name: &str) -> Result<(Pool, larder_catalog::Revision)> {
        let missing = || ServiceError::bad(format!("the storage pool {name:?} of a disk does not exist"));
        let id = self.pool(name)?.ok_or_else(missing)?.id;
        let stored = get_document::<Pool>(self.catalog.as_ref(), &keys::pool(id))?.ok_or_else(missing)?;
        match stored.document.status {
            PoolStatus::Created => Ok((stored.document, stored.revision)),
            PoolStatus::Creating | PoolStatus::Deleting => Err(missing()),
        }
    }

    fn rename_at_followers(
        &self,
        mut transaction: Transaction,
        old: &str,
        new: &str,
        followers: &[ProjectName],
    ) -> Result<Transaction> {
        let renamed = |profiles: &mut Vec<String>| {
            let mine = profiles.iter_mut().filter(|name| *name == old);
            mine.map(|name| new.clone_into(name)).count() > 0
        };
        let mut count = 0;
        for mut stored in list_documents::<Instance>(self.catalog.as_ref(), &keys::instances())? {
            let instance = &mut stored.document;
            if followers.contains(&instance.project) && renamed(&mut instance.profiles) {
                let key = keys::instance(instance.id);
                transaction = transaction.guard_at(key, stored.revision).put_document(&*instance)?;
                count += 1;
            }
        }
        for mut stored in
            list_documents::<InstanceSnapshot>(self.catalog.as_ref(), &keys::instance_snapshots())?
        {
            let snapshot = &mut stored.document;
            if followers.contains(&snapshot.then.project) && renamed(&mut snapshot.then.profiles) {
                let key = keys::instance_snapshot(snapshot.instance, snapshot.id);
                transaction = transaction.guard_at(key, stored.revision).put_document(&*snapshot)?;
                count += 1;
            }
        }
        match count {
            0..=RENAMED_TOGETHER => Ok(transaction),
            _ => Err(ServiceError::bad(format!(
                "the profile {old} can't be renamed: {count} instances and snapshots have it, at most \
                 {RENAMED_TOGETHER} are possible"
            ))),
        }
    }
}
