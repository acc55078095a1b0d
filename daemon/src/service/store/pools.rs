//! Pools in the catalog.

use super::{Store, VolumeRecord};
use crate::service::{Result, ServiceError};
use larder_base::Ticket;
use larder_catalog::documents::{Intent, Pool, Volume};
use larder_catalog::{CatalogError, Cause, PoolId, Transaction, keys};

impl Store {
    /// All pools, by name.
    pub fn pools(&self) -> Result<Vec<Pool>> {
        let stored = larder_catalog::list_documents::<Pool>(self.catalog.as_ref(), &keys::pools())?;
        let mut pools: Vec<Pool> = stored.into_iter().map(|stored| stored.document).collect();
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(pools)
    }

    /// A pool by name.
    pub fn pool(&self, name: &str) -> Result<Option<Pool>> {
        let Some(id) = self.catalog.get(&keys::pool_name(name))? else { return Ok(None) };
        let id: PoolId = super::pointer(&id.value)?;
        let stored = larder_catalog::get_document::<Pool>(self.catalog.as_ref(), &keys::pool(id))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// A pool by id.
    pub fn pool_by_id(&self, id: PoolId) -> Result<Pool> {
        let stored = larder_catalog::get_document::<Pool>(self.catalog.as_ref(), &keys::pool(id))?;
        stored
            .map(|stored| stored.document)
            .ok_or_else(|| ServiceError::not_found(format!("storage pool {id}")))
    }

    pub(in crate::service) fn begin_pool(&self, pool: &Pool) -> Result<()> {
        let name = keys::pool_name(&pool.name);
        let transaction = Transaction::new()
            .guard_absent(name.clone())
            .put(name, super::pointer_to(&pool.id)?)
            .put_document(pool)?;
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { .. }) => {
                Err(ServiceError::taken(format!("the storage pool {:?}", pool.name)))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    pub(in crate::service) fn change_pool(&self, pool: &Pool, cause: Option<Cause>) -> Result<()> {
        self.commit(Transaction::new().guard_present(keys::pool(pool.id)).put_document(pool)?, cause)
    }

    pub(in crate::service) fn forget_pool(&self, pool: &Pool, cause: Option<Cause>) -> Result<()> {
        self.commit(Transaction::new().delete(keys::pool_name(&pool.name)).delete_document(pool), cause)
    }

    /// The same with sentenced volumes that are left in it, whose sentence holds until the pool is forgotten: in one transaction. Of
    /// more than fit into one the first go before; a start in between tells of what they leave on the pool.
    pub(in crate::service) fn forget_pool_with(
        &self,
        pool: &Pool,
        sentenced: &[VolumeRecord],
        cause: Cause,
    ) -> Result<()> {
        let intents = self.intents_in(pool)?;
        let mut transaction = Transaction::new();
        for (number, VolumeRecord { volume, .. }) in sentenced.iter().enumerate() {
            if number > 0 && number % super::volumes::BATCH == 0 {
                self.commit(std::mem::replace(&mut transaction, Transaction::new()), None)?;
            }
            self.forget_what_belongs_to(volume)?;
            transaction = self.without_name_of(volume, transaction)?.delete_document(volume);
            let own = intents.iter().filter(|intent| intent.volume == volume.id);
            transaction = own.fold(transaction, |all, intent| all.delete(keys::intent(&intent.ticket)));
        }
        self.commit(transaction.delete(keys::pool_name(&pool.name)).delete_document(pool), Some(cause))
    }

    /// The volumes of a pool.
    pub fn volumes_in(&self, pool: &Pool) -> Result<Vec<VolumeRecord>> {
        let mut records = self.volumes()?;
        records.retain(|record| record.volume.pool == pool.id);
        Ok(records)
    }

    /// All volumes.
    pub fn volumes(&self) -> Result<Vec<VolumeRecord>> {
        let stored = larder_catalog::list_documents::<Volume>(self.catalog.as_ref(), &keys::volumes())?;
        Ok(stored.into_iter().map(VolumeRecord::new).collect())
    }

    /// Whether something is planned under a ticket.
    pub(in crate::service) fn has_intent(&self, ticket: &Ticket) -> Result<bool> {
        Ok(self.catalog.get(&keys::intent(ticket))?.is_some())
    }

    pub(in crate::service) fn intents_in(&self, pool: &Pool) -> Result<Vec<Intent>> {
        let stored = larder_catalog::list_documents::<Intent>(self.catalog.as_ref(), &keys::intents())?;
        let intents = stored.into_iter().map(|stored| stored.document);
        Ok(intents.filter(|intent| intent.pool == pool.id).collect())
    }
}
