//! Movable names of images.

use super::alias_url;
use crate::service::store::cause_of;
use crate::service::{Result, Service, ServiceError, Task};
use larder_base::ProjectName;
use larder_catalog::documents::ImageAlias;

const NAME_BYTES: usize = 255;

/// A name may have slashes, but nothing that a path or a person could mistake.
pub(super) fn check_name(name: &str) -> Result<()> {
    let is_plain = !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.chars().any(|c| c.is_control() || c.is_whitespace())
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    match is_plain {
        true => Ok(()),
        false => Err(ServiceError::bad(format!(
            "invalid image alias {name:?}: it has at most {NAME_BYTES} bytes, no blanks, and no empty parts between slashes"
        ))),
    }
}

impl Service {
    /// An alias of a project.
    pub fn image_alias(&self, project: &ProjectName, name: &str) -> Result<ImageAlias> {
        self.store
            .image_alias(project, name)?
            .ok_or_else(|| ServiceError::not_found(format!("image alias {name:?}")))
    }

    /// Makes an alias of the image whose fingerprint begins with `target`.
    pub fn create_image_alias(
        &self,
        task: &Task,
        project: &ProjectName,
        name: &str,
        description: String,
        target: &str,
    ) -> Result<ImageAlias> {
        check_name(name)?;
        let image = self.image(project, target)?;
        let alias = ImageAlias {
            project: project.clone(),
            name: name.to_owned(),
            description,
            fingerprint: image.fingerprint,
            kind: image.kind,
        };
        self.store.add_image_alias(
            &alias,
            Some(cause_of(task, "image-alias-created", &alias_url(&alias), project)),
        )?;
        Ok(alias)
    }

    /// Changes description and target.
    pub fn update_image_alias(
        &self,
        task: &Task,
        alias: &ImageAlias,
        description: String,
        target: &str,
    ) -> Result<()> {
        let image = self.image(&alias.project, target)?;
        let changed =
            ImageAlias { description, fingerprint: image.fingerprint, kind: image.kind, ..alias.clone() };
        let cause = cause_of(task, "image-alias-updated", &alias_url(alias), &alias.project);
        self.store.change_image_alias(alias, &changed, Some(cause))
    }

    /// Gives an alias another name.
    pub fn rename_image_alias(&self, task: &Task, alias: &ImageAlias, name: &str) -> Result<()> {
        check_name(name)?;
        let renamed = ImageAlias { name: name.to_owned(), ..alias.clone() };
        let mut cause = cause_of(task, "image-alias-renamed", &alias_url(&renamed), &alias.project);
        cause.context = serde_json::json!({ "old_name": alias.name });
        self.store.rename_image_alias(alias, &renamed, Some(cause))
    }

    /// Deletes an alias.
    pub fn delete_image_alias(&self, task: &Task, alias: &ImageAlias) -> Result<()> {
        let cause = cause_of(task, "image-alias-deleted", &alias_url(alias), &alias.project);
        self.store.remove_image_alias(alias, Some(cause))
    }
}
