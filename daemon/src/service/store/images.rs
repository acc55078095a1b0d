//! Images in the catalog: the files, shared by all projects, under their fingerprint; what each project knows of them;
//! and the aliases, which go with the last entry they point to.

use super::Store;
use crate::service::{Result, ServiceError};
use jiff::Timestamp;
use larder_base::{Fingerprint, ProjectName};
use larder_catalog::documents::{Image, ImageAlias, ImageFiles};
use larder_catalog::{CatalogError, Cause, Revision, Transaction, get_document, keys, list_documents};

/// Adds aliases to a transaction, which fails when the name of one is taken.
fn with_new_aliases(transaction: Transaction, aliases: &[ImageAlias]) -> Result<Transaction> {
    let mut transaction = transaction;
    for alias in aliases {
        transaction =
            transaction.guard_absent(keys::image_alias(&alias.project, &alias.name)).put_document(alias)?;
    }
    Ok(transaction)
}

/// How a transaction with new aliases ended.
fn committed(outcome: std::result::Result<Revision, CatalogError>) -> Result<()> {
    match outcome {
        Err(CatalogError::Conflict { key }) => {
            Err(ServiceError::taken(format!("the image alias {:?}", key.last_part())))
        }
        other => Ok(other.map(|_| ())?),
    }
}

impl Store {
    /// The images that a project knows, by fingerprint.
    pub fn images_of(&self, project: &ProjectName) -> Result<Vec<Image>> {
        let stored = list_documents::<Image>(self.catalog.as_ref(), &keys::image_entries_of(project))?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// What all projects know of images.
    pub fn all_images(&self) -> Result<Vec<Image>> {
        let stored = list_documents::<Image>(self.catalog.as_ref(), &keys::image_entries())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// What a project knows of an image.
    pub fn image(&self, project: &ProjectName, fingerprint: &Fingerprint) -> Result<Option<Image>> {
        let stored = get_document::<Image>(self.catalog.as_ref(), &keys::image_entry(project, fingerprint))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// The files of an image, when they are here.
    pub fn image_files(&self, fingerprint: &Fingerprint) -> Result<Option<ImageFiles>> {
        let stored = get_document::<ImageFiles>(self.catalog.as_ref(), &keys::image(fingerprint))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// The files of all images.
    pub fn all_image_files(&self) -> Result<Vec<ImageFiles>> {
        let stored = list_documents::<ImageFiles>(self.catalog.as_ref(), &keys::images())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// The aliases of a project, by name.
    pub fn image_aliases_of(&self, project: &ProjectName) -> Result<Vec<ImageAlias>> {
        let stored = list_documents::<ImageAlias>(self.catalog.as_ref(), &keys::image_aliases_of(project))?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// All aliases.
    pub fn all_image_aliases(&self) -> Result<Vec<ImageAlias>> {
        let stored = list_documents::<ImageAlias>(self.catalog.as_ref(), &keys::image_aliases())?;
        Ok(stored.into_iter().map(|stored| stored.document).collect())
    }

    /// An alias by name.
    pub fn image_alias(&self, project: &ProjectName, name: &str) -> Result<Option<ImageAlias>> {
        let stored = get_document::<ImageAlias>(self.catalog.as_ref(), &keys::image_alias(project, name))?;
        Ok(stored.map(|stored| stored.document))
    }

    /// Records an image with its files and aliases. Fails when the project knows it already or an alias is taken.
    pub(in crate::service) fn add_image(
        &self,
        image: &Image,
        files: &ImageFiles,
        aliases: &[ImageAlias],
        cause: Option<Cause>,
    ) -> Result<()> {
        let entry = keys::image_entry(&image.project, &image.fingerprint);
        let transaction =
            Transaction::new().guard_absent(entry.clone()).put_document(image)?.put_document(files)?;
        let transaction = with_new_aliases(transaction, aliases)?;
        let transaction = cause.into_iter().fold(transaction, Transaction::because);
        match self.commit_into(&image.project, transaction)? {
            Err(CatalogError::Conflict { key }) if key == entry => {
                Err(ServiceError::taken(format!("the image {}", image.fingerprint)))
            }
            other => committed(other),
        }
    }

    /// Changes an image that is as it was known, but for when it was used last, and gives it more aliases.
    pub(in crate::service) fn change_image(
        &self,
        known: &Image,
        changed: &Image,
        aliases: &[ImageAlias],
        cause: Option<&Cause>,
    ) -> Result<()> {
        let entry = keys::image_entry(&known.project, &known.fingerprint);
        loop {
            let now = get_document::<Image>(self.catalog.as_ref(), &entry)?;
            let now = now.ok_or_else(ServiceError::overtaken)?;
            let last_used_at = now.document.last_used_at;
            if now.document != (Image { last_used_at, ..known.clone() }) {
                return Err(ServiceError::overtaken());
            }
            let transaction = Transaction::new()
                .guard_at(entry.clone(), now.revision)
                .put_document(&Image { last_used_at, ..changed.clone() })?;
            let transaction = with_new_aliases(transaction, aliases)?;
            let transaction = cause.into_iter().cloned().fold(transaction, Transaction::because);
            match self.catalog.transact(transaction) {
                Err(CatalogError::Conflict { key }) if key == entry => {}
                other => return committed(other),
            }
        }
    }

    /// Notes when an image was used, if it is still there.
    pub(in crate::service) fn image_is_used(&self, image: &Image, at: Timestamp) -> Result<()> {
        let entry = keys::image_entry(&image.project, &image.fingerprint);
        while let Some(now) = get_document::<Image>(self.catalog.as_ref(), &entry)? {
            let used = Image { last_used_at: Some(at), ..now.document };
            let transaction = Transaction::new().guard_at(entry.clone(), now.revision).put_document(&used)?;
            match self.catalog.transact(transaction) {
                Err(CatalogError::Conflict { .. }) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
        Ok(())
    }

    /// Writes down what an image, which is as it was known, becomes that takes the place of another, whose aliases it gets. Fails
    /// with a conflict when it is not, or the other is gone.
    pub(in crate::service) fn replace_image(
        &self,
        old: &Image,
        known: &Image,
        successor: &Image,
    ) -> Result<()> {
        let mut transaction = self
            .unless_changed(known)?
            .guard_present(keys::image_entry(&old.project, &old.fingerprint))
            .put_document(successor)?;
        for alias in self.image_aliases_of(&old.project)? {
            if alias.fingerprint == old.fingerprint {
                let moved = ImageAlias { fingerprint: successor.fingerprint.clone(), ..alias };
                transaction = transaction
                    .guard_present(keys::image_alias(&moved.project, &moved.name))
                    .put_document(&moved)?;
            }
        }
        self.commit(transaction, None)
    }

    /// Forgets what a project knows of an image, its aliases, and the files' document when `with_files`.
    pub(in crate::service) fn forget_image(
        &self,
        image: &Image,
        with_files: bool,
        cause: Option<Cause>,
    ) -> Result<()> {
        let mut transaction = Transaction::new().delete_document(image);
        for alias in self.image_aliases_of(&image.project)? {
            if alias.fingerprint == image.fingerprint {
                transaction = transaction.delete_document(&alias);
            }
        }
        if with_files {
            transaction = transaction.delete(keys::image(&image.fingerprint));
        }
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn add_image_alias(&self, alias: &ImageAlias, cause: Option<Cause>) -> Result<()> {
        let key = keys::image_alias(&alias.project, &alias.name);
        let transaction = Transaction::new()
            .guard_absent(key)
            .guard_present(keys::image_entry(&alias.project, &alias.fingerprint))
            .put_document(alias)?;
        let transaction = cause.into_iter().fold(transaction, Transaction::because);
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { .. }) => {
                Err(ServiceError::taken(format!("the image alias {:?}", alias.name)))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Changes an alias that is as it was known; what it points to is there.
    pub(in crate::service) fn change_image_alias(
        &self,
        known: &ImageAlias,
        changed: &ImageAlias,
        cause: Option<Cause>,
    ) -> Result<()> {
        let target = keys::image_entry(&changed.project, &changed.fingerprint);
        let transaction = self.unless_changed(known)?.guard_present(target).put_document(changed)?;
        self.commit(transaction, cause)
    }

    pub(in crate::service) fn rename_image_alias(
        &self,
        old: &ImageAlias,
        new: &ImageAlias,
        cause: Option<Cause>,
    ) -> Result<()> {
        let name = keys::image_alias(&new.project, &new.name);
        let transaction =
            self.unless_changed(old)?.guard_absent(name.clone()).delete_document(old).put_document(new)?;
        let transaction = cause.into_iter().fold(transaction, Transaction::because);
        match self.catalog.transact(transaction) {
            Err(CatalogError::Conflict { key }) if key == name => {
                Err(ServiceError::taken(format!("the image alias {:?}", new.name)))
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    pub(in crate::service) fn remove_image_alias(
        &self,
        alias: &ImageAlias,
        cause: Option<Cause>,
    ) -> Result<()> {
        self.commit(Transaction::new().delete_document(alias), cause)
    }
}
