//! Projects in the catalog.

use super::{ProfileStep, Store};
use crate::service::{Result, ServiceError};
use larder_base::ProjectName;
use larder_catalog::documents::Project;
use larder_catalog::{CatalogError, Cause, Transaction, keys};

impl Store {
    /// All projects, by name.
    pub fn projects(&self) -> Result<Vec<Project>> {
        let stored = larder_catalog::list_documents::<Project>(self.catalog.as_ref(), &keys::projects())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// A project by name; `None` for a name that could be none.
    pub fn project(&self, name: &str) -> Result<Option<Project>> {
        let Ok(name) = name.parse::<ProjectName>() else { return Ok(None) };
        let stored = larder_catalog::get_document::<Project>(self.catalog.as_ref(), &keys::project(&name))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// Records a project, with its first profile in `profile`.
    pub(in crate::service) fn add_project(
        &self,
        project: &Project,
        profile: &ProfileStep,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction =
            Transaction::new().guard_absent(keys::project(&project.name)).put_document(project)?;
        let transaction = self.with_profile(transaction, profile)?;
        let transaction = match cause {
            Some(cause) => transaction.because(cause),
            None => transaction,
        };
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { .. }) => {
                Err(ServiceError::taken(format!("the project {:?}", project.name.as_str())))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Changes a project that is as it was known, and its default profile as `profile` says.
    pub(in crate::service) fn change_project(
        &self,
        known: &Project,
        changed: &Project,
        profile: &ProfileStep,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = self.unless_changed(known)?.put_document(changed)?;
        self.commit(self.with_profile(transaction, profile)?, cause)
    }

    /// Gives a project another name; its default profile moves along.
    pub(in crate::service) fn rename_project(
        &self,
        old: &Project,
        new: &Project,
        profile: &ProfileStep,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = self
            .unless_changed(old)?
            .guard_absent(keys::project(&new.name))
            .delete_document(old)
            .put_document(new)?;
        match self.commit(self.with_profile(transaction, profile)?, cause) {
            Err(error) if error.kind == crate::service::Kind::Conflict => {
                Err(ServiceError::taken(format!("the project {:?}", new.name.as_str())))
            }
            other => other,
        }
    }

    /// Forgets a project and its default profile.
    pub(in crate::service) fn remove_project(
        &self,
        project: &Project,
        profile: &ProfileStep,
        cause: Option<Cause>,
    ) -> Result<()> {
        let transaction = self.unless_changed(project)?.delete_document(project);
        self.commit(self.with_profile(transaction, profile)?, cause)
    }

    /// Makes the default project on a new catalog.
    pub fn ensure_default_project(&self) -> Result<()> {
        let name = ProjectName::default_project();
        if self.project(name.as_str())?.is_some() {
            return Ok(());
        }
        let features = [
            "features.images",
            "features.networks",
            "features.profiles",
            "features.storage.buckets",
            "features.storage.volumes",
        ];
        let config = features.into_iter().map(|feature| (feature.to_owned(), "true".to_owned())).collect();
        let project = Project { name, description: "Default project".to_owned(), config };
        self.add_project(&project, &ProfileStep::default(), None)
    }
}
