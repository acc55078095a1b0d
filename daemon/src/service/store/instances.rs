//! Instances and their snapshots in the catalog. An instance and its root volume are written together; what an instance
//! uses has a key that says so, and can't be deleted while it is there.

use super::{Store, pointer, pointer_to};
use crate::service::{Result, ServiceError, VolumeRecord};
use larder_base::ProjectName;
use larder_catalog::documents::Profile;
use larder_catalog::documents::{Instance, InstanceSnapshot, InstanceState, Pool, Volume, VolumeState};
use larder_catalog::{
    CatalogError, Cause, InstanceId, Key, Transaction, VolumeId, get_document, keys, list_documents,
};
use std::collections::{BTreeSet, HashMap};

/// Something that an instance uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct Use {
    id: String,
    document: Key,
    /// Of a profile: its name, by which instances know it, and what is written when one comes to have it.
    named: Option<[Key; 2]>,
}

impl Use {
    pub(in crate::service) fn volume(id: VolumeId) -> Self {
        Self { id: id.to_string(), document: keys::volume(id), named: None }
    }

    pub(in crate::service) fn profile(profile: &Profile) -> Self {
        let named = [keys::profile_name(&profile.project, &profile.name), keys::profile_taken(profile.id)];
        Self { id: profile.id.to_string(), document: keys::profile(profile.id), named: Some(named) }
    }

    fn key(&self, instance: &Instance) -> Key {
        keys::used_by(&self.id, &instance.id.to_string())
    }

    /// Notes that an instance uses this, which must be there, a profile by the name that the instance knows.
    fn note(&self, transaction: Transaction, instance: &Instance, url: &str) -> Result<Transaction> {
        let transaction = match &self.named {
            Some([name, taken]) => {
                transaction.guard_present(name.clone()).put(taken.clone(), pointer_to(&instance.id)?)
            }
            None => transaction.guard_present(self.document.clone()),
        };
        Ok(transaction.put(self.key(instance), pointer_to(&url)?))
    }
}

/// An instance before and after a change of anything but its id, with what it uses.
#[derive(Debug)]
pub(in crate::service) struct ChangedInstance {
    pub(in crate::service) old: Instance,
    pub(in crate::service) new: Instance,
    pub(in crate::service) old_uses: Vec<Use>,
    pub(in crate::service) uses: Vec<Use>,
    pub(in crate::service) url: String,
}

impl ChangedInstance {
    /// Adds the change to a transaction, which fails when the instance is not as before, its new name is taken, or something
    /// used is gone.
    pub(super) fn add_to(&self, mut transaction: Transaction, store: &Store) -> Result<Transaction> {
        let name = |instance: &Instance| keys::instance_name(&instance.project, &instance.name);
        if name(&self.old) != name(&self.new) {
            transaction = transaction
                .guard_absent(name(&self.new))
                .delete(name(&self.old))
                .put(name(&self.new), pointer_to(&self.new.id)?);
        }
        for used in self.old_uses.iter().filter(|used| !self.uses.contains(used)) {
            transaction = transaction.delete(used.key(&self.old));
        }
        for used in &self.uses {
            transaction = match used.named.is_some() && self.old_uses.contains(used) {
                // Who gives a profile it has another name changes the instance too.
                true => transaction.put(used.key(&self.new), pointer_to(&self.url)?),
                false => used.note(transaction, &self.new, &self.url)?,
            };
        }
        let revision = store.revision_of(&self.old)?;
        Ok(transaction.guard_at(keys::instance(self.old.id), revision).put_document(&self.new)?)
    }
}

fn taken(name: &str) -> ServiceError {
    ServiceError::taken(format!("the instance {name:?}"))
}

pub(super) fn put_instance_snapshot(
    transaction: Transaction,
    snapshot: &InstanceSnapshot,
) -> Result<Transaction> {
    let name = keys::instance_snapshot_name(snapshot.instance, &snapshot.name);
    Ok(transaction
        .guard_present(keys::instance(snapshot.instance))
        .put(name, pointer_to(&snapshot.id)?)
        .put_document(snapshot)?)
}

impl Store {
    /// All instances that are there or on their way, by project and name.
    pub fn all_instances(&self) -> Result<Vec<Instance>> {
        let stored = list_documents::<Instance>(self.catalog.as_ref(), &keys::instances())?;
        let mut instances: Vec<Instance> = stored.into_iter().map(|stored| stored.document).collect();
        instances.sort_by(|one, other| (&one.project, &one.name).cmp(&(&other.project, &other.name)));
        Ok(instances)
    }

    /// An instance by name. One that is still being created is not there yet.
    pub fn instance(&self, project: &ProjectName, name: &str) -> Result<Option<Instance>> {
        let Some(entry) = self.catalog.get(&keys::instance_name(project, name))? else { return Ok(None) };
        let found = self.instance_by_id(pointer(&entry.value)?)?;
        Ok(found.filter(|instance| instance.state != InstanceState::Creating && instance.name == name))
    }

    /// An instance by id.
    pub fn instance_by_id(&self, id: InstanceId) -> Result<Option<Instance>> {
        let stored = get_document::<Instance>(self.catalog.as_ref(), &keys::instance(id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// Records an instance and its root volume as being made.
    pub(in crate::service) fn begin_instance(
        &self,
        pool: &Pool,
        instance: &Instance,
        volume: &Volume,
    ) -> Result<()> {
        let name = keys::instance_name(&instance.project, &instance.name);
        let volume_name = keys::volume_name(pool.id, &volume.project, &volume.kind, &volume.name);
        let transaction = Transaction::new()
            .guard_present(keys::pool(pool.id))
            .guard_absent(name.clone())
            .guard_absent(volume_name.clone())
            .put(name, pointer_to(&instance.id)?)
            .put(volume_name, pointer_to(&volume.id)?)
            .put_document(instance)?
            .put_document(volume)?;
        match self.commit_into(&instance.project, transaction)? {
            Err(CatalogError::Conflict { .. }) => Err(taken(&instance.name)),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// The instance and its volume are there.
    pub(in crate::service) fn instance_is_ready(
        &self,
        instance: &Instance,
        volume: &Volume,
        uses: &[Use],
        url: &str,
        cause: Option<Cause>,
    ) -> Result<()> {
        let ready = Volume { state: VolumeState::Ready, ..volume.clone() };
        let instance = Instance { state: InstanceState::Ready, ..instance.clone() };
        let mut transaction = Transaction::new().put_document(&ready)?.put_document(&instance)?;
        for used in uses {
            transaction = used.note(transaction, &instance, url)?;
        }
        self.commit(transaction, cause)
    }

    /// Notes something in an instance's document, whatever else has changed. Returns it as it is then, if it is there.
    pub(in crate::service) fn note_in_instance(
        &self,
        id: InstanceId,
        note: impl Fn(&mut Instance),
        cause: Option<&Cause>,
    ) -> Result<Option<Instance>> {
        let key = keys::instance(id);
        while let Some(mut now) = get_document::<Instance>(self.catalog.as_ref(), &key)? {
            note(&mut now.document);
            let transaction =
                Transaction::new().guard_at(key.clone(), now.revision).put_document(&now.document)?;
            let transaction = cause.into_iter().cloned().fold(transaction, Transaction::because);
            match self.catalog.transact(transaction) {
                Err(CatalogError::Conflict { .. }) => {}
                other => return Ok(other.map(|_| Some(now.document))?),
            }
        }
        Ok(None)
    }

    /// Changes an instance that is as it was known, and what it uses.
    pub(in crate::service) fn change_instance(
        &self,
        known: &Instance,
        instance: &Instance,
        old_uses: &[Use],
        uses: &[Use],
        url: &str,
        cause: Option<Cause>,
    ) -> Result<()> {
        self.commit(self.instance_changed(known, instance, old_uses, uses, url)?, cause)
    }

    /// What makes an instance that is as it was known another one, and what it uses.
    pub(in crate::service) fn instance_changed(
        &self,
        known: &Instance,
        instance: &Instance,
        old_uses: &[Use],
        uses: &[Use],
        url: &str,
    ) -> Result<Transaction> {
        let mut transaction = self.unless_changed(known)?.put_document(instance)?;
        for used in old_uses.iter().filter(|used| !uses.contains(used)) {
            transaction = transaction.delete(used.key(instance));
        }
        // Who gives a profile it has another name changes the instance too.
        for used in uses.iter().filter(|used| used.named.is_none() || !old_uses.contains(used)) {
            transaction = used.note(transaction, instance, url)?;
        }
        Ok(transaction)
    }

    /// Changes what an instance uses, and nothing else.
    pub(in crate::service) fn change_uses(
        &self,
        instance: &Instance,
        old: &[Use],
        new: &[Use],
        url: &str,
    ) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let mut transaction = Transaction::new().guard_present(keys::instance(instance.id));
        for used in old.iter().filter(|used| !new.contains(used)) {
            transaction = transaction.delete(used.key(instance));
        }
        for used in new.iter().filter(|used| !old.contains(used)) {
            transaction = used.note(transaction, instance, url)?;
        }
        self.commit(transaction, None)
    }

    /// The ids of what each user is noted to use, by the user's id, in one scan.
    pub(in crate::service) fn used_by_each(&self) -> Result<HashMap<String, BTreeSet<String>>> {
        let mut used: HashMap<String, BTreeSet<String>> = HashMap::new();
        for entry in self.catalog.list(&keys::all_used_by())? {
            if let (Some(target), Some(user)) = (entry.key.part(1), entry.key.part(2)) {
                used.entry(user).or_default().insert(target);
            }
        }
        Ok(used)
    }

    /// Notes what an instance uses, where something else is noted: a run that ended while a profile changed leaves that.
    pub(in crate::service) fn settle_uses(
        &self,
        instance: &Instance,
        uses: &[Use],
        noted: &BTreeSet<String>,
        url: &str,
    ) -> Result<()> {
        let is_right = |id: &str| uses.iter().any(|used| used.id == id);
        if noted.iter().all(|id| is_right(id)) && uses.iter().all(|used| noted.contains(&used.id)) {
            return Ok(());
        }
        let mut transaction = Transaction::new().guard_present(keys::instance(instance.id));
        for id in noted.iter().filter(|id| !is_right(id)) {
            transaction = transaction.delete(keys::used_by(id, &instance.id.to_string()));
        }
        for used in uses {
            transaction = used.note(transaction, instance, url)?;
        }
        self.commit(transaction, None)
    }

    /// Changes an instance with its name or project.
    pub(in crate::service) fn rename_instance(
        &self,
        change: &ChangedInstance,
        cause: Option<Cause>,
    ) -> Result<()> {
        let name = keys::instance_name(&change.new.project, &change.new.name);
        let transaction = change.add_to(Transaction::new(), self)?;
        let transaction = cause.into_iter().fold(transaction, Transaction::because);
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key }) if key == name => Err(taken(&change.new.name)),
            other => Ok(other.map(|_| ())?),
        }
    }

    /// The instance whose root volume this is.
    pub(in crate::service) fn instance_by_root(&self, root: VolumeId) -> Result<Option<Instance>> {
        Ok(self.all_instances()?.into_iter().find(|instance| instance.root == Some(root)))
    }

    /// Forgets an instance whose volume is gone.
    pub(in crate::service) fn forget_instance(
        &self,
        instance: &Instance,
        uses: &[Use],
        cause: Option<Cause>,
    ) -> Result<()> {
        for snapshot in self.instance_snapshots_of(instance)? {
            self.forget_instance_snapshot(&snapshot, None)?;
        }
        let mut transaction = Transaction::new()
            .delete(keys::instance_name(&instance.project, &instance.name))
            .delete_document(instance);
        for used in uses {
            transaction = transaction.delete(used.key(instance));
        }
        self.commit(transaction, cause)
    }

    /// The root volume of an instance.
    pub fn root_of(&self, instance: &Instance) -> Result<Option<VolumeRecord>> {
        instance.root.map_or(Ok(None), |id| self.volume_by_id(id))
    }

    /// The snapshots of an instance, oldest first.
    pub fn instance_snapshots_of(&self, instance: &Instance) -> Result<Vec<InstanceSnapshot>> {
        let prefix = keys::instance_snapshots_of(instance.id);
        let stored = list_documents::<InstanceSnapshot>(self.catalog.as_ref(), &prefix)?;
        let mut snapshots: Vec<InstanceSnapshot> = stored.into_iter().map(|stored| stored.document).collect();
        snapshots.sort_by(|one, other| (one.created_at, &one.name).cmp(&(other.created_at, &other.name)));
        Ok(snapshots)
    }

    /// Records a snapshot of an instance that is there.
    pub(in crate::service) fn put_instance_snapshot(
        &self,
        snapshot: &InstanceSnapshot,
        cause: Option<Cause>,
    ) -> Result<()> {
        self.commit(put_instance_snapshot(Transaction::new(), snapshot)?, cause)
    }

    /// Changes what is said of a snapshot that is as it was known.
    pub(in crate::service) fn change_instance_snapshot(
        &self,
        known: &InstanceSnapshot,
        changed: &InstanceSnapshot,
        cause: Option<Cause>,
    ) -> Result<()> {
        self.commit(self.unless_changed(known)?.put_document(changed)?, cause)
    }

    /// Gives a snapshot the name that the root volume's has.
    pub(in crate::service) fn rename_instance_snapshot(
        &self,
        snapshot: &InstanceSnapshot,
        name: &str,
        cause: Option<&Cause>,
    ) -> Result<()> {
        let key = keys::instance_snapshot(snapshot.instance, snapshot.id);
        // What is said of it may be changed at any time: the name alone is new.
        loop {
            let now = get_document::<InstanceSnapshot>(self.catalog.as_ref(), &key)?;
            let now = now.ok_or_else(ServiceError::overtaken)?;
            let renamed = InstanceSnapshot { name: name.to_owned(), ..now.document };
            let transaction = Transaction::new()
                .guard_at(key.clone(), now.revision)
                .delete(keys::instance_snapshot_name(snapshot.instance, &snapshot.name))
                .put(keys::instance_snapshot_name(snapshot.instance, name), pointer_to(&snapshot.id)?)
                .put_document(&renamed)?;
            let transaction = cause.into_iter().cloned().fold(transaction, Transaction::because);
            match self.catalog.transact(transaction) {
                Err(CatalogError::Conflict { .. }) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    pub(in crate::service) fn forget_instance_snapshot(
        &self,
        snapshot: &InstanceSnapshot,
        cause: Option<Cause>,
    ) -> Result<()> {
        let name = keys::instance_snapshot_name(snapshot.instance, &snapshot.name);
        self.commit(Transaction::new().delete(name).delete_document(snapshot), cause)
    }
}
