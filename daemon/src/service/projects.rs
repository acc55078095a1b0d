//! Projects: naming scopes.

use super::profiles::{DEFAULT_PROFILE, empty_default, has_own_profiles};
use super::store::{ProfileStep, cause_of};
use super::{Result, Service, ServiceError, Task, profile_url};
use larder_base::ProjectName;
use larder_catalog::documents::{Profile, Project};
use larder_storage_driver::{Config, ConfigKey, KeyScope, KeyType};

const fn feature(name: &'static str, default: &'static str, description: &'static str) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Pool, kind: KeyType::Boolean, default, mutable: true, description }
}

/// What a project may have of its own instead of sharing the default project's.
const FEATURES: &[ConfigKey] = &[
    feature("features.images", "true", "Whether the project has images of its own"),
    feature("features.profiles", "true", "Whether the project has profiles of its own"),
    feature("features.storage.volumes", "true", "Whether the project has custom volumes of its own"),
    feature("features.storage.buckets", "true", "Whether the project has buckets of its own"),
    feature("features.networks", "false", "Whether the project has networks of its own"),
    feature("features.networks.zones", "false", "Whether the project has network zones of its own"),
];

/// The keys of projects.
pub fn project_keys() -> &'static [ConfigKey] {
    FEATURES
}

impl Service {
    /// A project, or an error that names it.
    pub fn project(&self, name: &str) -> Result<Project> {
        self.store.project(name)?.ok_or_else(|| ServiceError::not_found(format!("project {name:?}")))
    }

    /// The project that holds the custom volumes of `project`: itself, or the default project.
    pub fn volume_project(&self, name: &str) -> Result<ProjectName> {
        self.feature_project(name, "features.storage.volumes")
    }

    /// The project that holds what `feature` is about for the project `name`.
    pub fn feature_project(&self, name: &str, feature: &str) -> Result<ProjectName> {
        let project = self.project(name)?;
        let has_own =
            project.name.is_default() || project.config.get(feature).is_some_and(|value| value == "true");
        Ok(if has_own { project.name } else { ProjectName::default_project() })
    }

    /// Makes a project; one with profiles of its own begins with an empty default profile.
    pub fn create_project(
        &self,
        task: &Task,
        name: &ProjectName,
        description: String,
        config: Config,
    ) -> Result<()> {
        let mut config = checked(config)?;
        for feature in FEATURES.iter().filter(|feature| feature.default == "true") {
            config.entry(feature.name.to_owned()).or_insert_with(|| "true".to_owned());
        }
        let project = Project { name: name.clone(), description, config };
        let cause = cause_of(task, "project-created", &format!("/1.0/projects/{name}"), name);
        let after = has_own_profiles(&project).then(|| empty_default(name));
        self.store.add_project(&project, &ProfileStep { before: None, after }, Some(cause))
    }

    /// Changes keys and description. What a project has of its own can't change once something is in it.
    pub fn update_project(
        &self,
        task: &Task,
        old: &Project,
        config: Config,
        description: String,
    ) -> Result<()> {
        let config = checked(config)?;
        let is_changed = |feature: &&ConfigKey| old.config.get(feature.name) != config.get(feature.name);
        if let Some(ConfigKey { name: feature, .. }) = FEATURES.iter().find(is_changed) {
            if old.name.is_default() {
                return Err(ServiceError::bad(format!("{feature} of the default project can't be changed")));
            }
            if !self.project_contents(&old.name)?.is_empty() {
                return Err(ServiceError::bad(format!(
                    "{feature} can't be changed: the project {} is not empty",
                    old.name
                )));
            }
        }
        let project = Project { name: old.name.clone(), description, config };
        let cause = cause_of(task, "project-updated", &format!("/1.0/projects/{}", old.name), &old.name);
        let profile = match (has_own_profiles(old), has_own_profiles(&project)) {
            (false, true) => ProfileStep { before: None, after: Some(empty_default(&old.name)) },
            (true, false) => ProfileStep { before: self.default_profile_of(&old.name)?, after: None },
            (true, true) | (false, false) => ProfileStep::default(),
        };
        self.store.change_project(&project, &profile, Some(cause))
    }

    /// Gives an empty project another name.
    pub fn rename_project(&self, task: &Task, old: &Project, name: &ProjectName) -> Result<()> {
        self.must_be_removable(old)?;
        let project = Project { name: name.clone(), ..old.clone() };
        let mut cause = cause_of(task, "project-renamed", &format!("/1.0/projects/{name}"), name);
        cause.context = serde_json::json!({ "old_name": old.name });
        let before = self.default_profile_of(&old.name)?;
        let after = before.as_ref().map(|profile| Profile { project: name.clone(), ..profile.clone() });
        self.store.rename_project(old, &project, &ProfileStep { before, after }, Some(cause))
    }

    /// Deletes an empty project.
    pub fn delete_project(&self, task: &Task, project: &Project) -> Result<()> {
        self.must_be_removable(project)?;
        let url = format!("/1.0/projects/{}", project.name);
        let profile = ProfileStep { before: self.default_profile_of(&project.name)?, after: None };
        let cause = cause_of(task, "project-deleted", &url, &project.name);
        self.store.remove_project(project, &profile, Some(cause))
    }

    fn must_be_removable(&self, project: &Project) -> Result<()> {
        if project.name.is_default() {
            return Err(ServiceError::bad("the project \"default\" can't be renamed or deleted"));
        }
        let users = self.project_contents(&project.name)?;
        match users.first() {
            None => Ok(()),
            Some(first) => Err(ServiceError::bad(format!(
                "the project {} is not empty: {} thing(s) are in it, such as {first}",
                project.name,
                users.len()
            ))),
        }
    }

    fn default_profile_of(&self, project: &ProjectName) -> Result<Option<Profile>> {
        self.store.profile(project, DEFAULT_PROFILE)
    }

    /// URLs of what keeps a project from going: its default profile does not, it goes with it.
    fn project_contents(&self, name: &ProjectName) -> Result<Vec<String>> {
        let mut users = self.project_users(name)?;
        if let Some(profile) = self.default_profile_of(name)? {
            let url = profile_url(&profile);
            users.retain(|user| *user != url);
        }
        Ok(users)
    }

    /// URLs of what is in a project.
    pub fn project_users(&self, name: &ProjectName) -> Result<Vec<String>> {
        let pools = self.store.pools()?;
        let pool_name = |id| pools.iter().find(|pool| pool.id == id).map(|pool| pool.name.as_str());
        let mut users = Vec::new();
        for record in self.store.volumes()? {
            if record.volume.project == *name
                && let Some(pool) = pool_name(record.volume.pool)
            {
                users.push(self.user_url(pool, &record.volume));
            }
        }
        users.extend(self.store.profiles_of(name)?.iter().map(profile_url));
        users.extend(self.store.images_of(name)?.iter().map(super::image_url));
        Ok(users)
    }
}

fn checked(mut config: Config) -> Result<Config> {
    config.retain(|_, value| !value.is_empty());
    for (key, value) in &config {
        let is_feature = FEATURES.iter().any(|feature| feature.name == key);
        if is_feature && !["true", "false"].contains(&value.as_str()) {
            return Err(ServiceError::bad(format!(
                "invalid value {value:?} of key {key:?}: it must be true or false"
            )));
        }
        if !is_feature && !key.starts_with("user.") {
            return Err(ServiceError::bad(format!("unknown key {key:?} for a project")));
        }
    }
    Ok(config)
}
