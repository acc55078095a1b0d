//! Projects: naming scopes.

use super::profiles::{DEFAULT_PROFILE, empty_default, has_own_profiles};
use super::reconcile::plan_of;
use super::store::{ProfileStep, VolumeRecord, cause_of};
use super::work::Then;
use super::{Result, Service, ServiceError, Task, profile_url};
use larder_base::ProjectName;
use larder_catalog::documents::{Profile, Project};
use larder_storage_driver::{Config, ConfigKey, KeyScope, KeyType};

const fn feature(name: &'static str, default: &'static str, description: &'static str) -> ConfigKey {
    ConfigKey { name, scope: KeyScope::Pool, kind: KeyType::Boolean, default, mutable: true, description }
}

/// The feature of custom volumes.
pub(super) const OWN_VOLUMES: &str = "features.storage.volumes";

/// What a project may have of its own instead of sharing the default project's.
const FEATURES: &[ConfigKey] = &[
    feature("features.images", "true", "Whether the project has images of its own"),
    feature("features.profiles", "true", "Whether the project has profiles of its own"),
    feature(OWN_VOLUMES, "true", "Whether the project has custom volumes of its own"),
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
        self.feature_project(name, OWN_VOLUMES)
    }

    /// The project that holds what `feature` is about for the project `name`.
    pub fn feature_project(&self, name: &str, feature: &str) -> Result<ProjectName> {
        Ok(holder_for(&self.project(name)?, feature))
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
        let _empty_or_not = self.store.nothing_comes();
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
        self.store.change_project(old, &project, &profile, Some(cause))
    }

    /// Gives an empty project another name.
    pub fn rename_project(&self, task: &Task, old: &Project, name: &ProjectName) -> Result<()> {
        let _stays_empty = self.store.nothing_comes();
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
        let _stays_empty = self.store.nothing_comes();
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

    /// URLs of what keeps a project from going: its default profile does not, it goes with it; nor does what is on its way out.
    fn project_contents(&self, name: &ProjectName) -> Result<Vec<String>> {
        let mut users = self.project_holds(name, |record| !record.is_sentenced())?;
        if let Some(profile) = self.default_profile_of(name)? {
            let url = profile_url(&profile);
            users.retain(|user| *user != url);
        }
        for pool in self.store.pools()? {
            for intent in self.store.intents_in(&pool)? {
                if let Then::VolumeIsNamed { project, name: volume } = plan_of(&intent)?.then
                    && project == name.as_str()
                {
                    users.push(format!("the volume {volume}, which is on its way"));
                }
            }
        }
        Ok(users)
    }

    /// URLs of what is in a project, as far as it can be asked for.
    pub fn project_users(&self, name: &ProjectName) -> Result<Vec<String>> {
        self.project_holds(name, VolumeRecord::is_listed)
    }

    /// URLs of what is in a project; of its volumes those that `is_meant` picks.
    fn project_holds(
        &self,
        name: &ProjectName,
        is_meant: impl Fn(&VolumeRecord) -> bool,
    ) -> Result<Vec<String>> {
        let pools = self.store.pools()?;
        let pool_name = |id| pools.iter().find(|pool| pool.id == id).map(|pool| pool.name.as_str());
        let mut users = Vec::new();
        for record in self.store.volumes()?.iter().filter(|record| is_meant(record)) {
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

/// The project that holds what `feature` is about for a project: itself, or the default project.
pub(super) fn holder_for(project: &Project, feature: &str) -> ProjectName {
    let has_own =
        project.name.is_default() || project.config.get(feature).is_some_and(|value| value == "true");
    if has_own { project.name.clone() } else { ProjectName::default_project() }
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

#[cfg(test)]
mod tests {
    use super::super::trial::{World, new_volume, task, volumes_in};
    use super::super::work::Plan;
    use super::super::{Kind, NewVolume, storage_id};
    use super::*;
    use larder_catalog::documents::Volume;
    use larder_storage_driver::Place;
    use larder_storage_pool::Intent;

    #[test]
    fn a_project_that_a_volume_is_on_its_way_to_stays() {
        let world = World::new();
        let service = world.with_pools(&["p"]);
        let pool = service.open_pool("p").unwrap();
        let blue: ProjectName = "blue".parse().unwrap();
        service.create_project(&task(), &blue, String::new(), Config::new()).unwrap();
        service.create_volume(&task(), &pool, new_volume("v", &[])).unwrap();
        let record = volumes_in(&service, &pool).remove(0);
        let renamed = Volume { project: blue.clone(), ..record.volume.clone() };
        let (from, to) = (record.storage_id().unwrap(), storage_id(&renamed).unwrap());
        let plan = Plan {
            storage: Intent::Move { from: Place::live(&from), to: Place::live(&to) },
            then: Then::VolumeIsNamed { project: "blue".to_owned(), name: "v".to_owned() },
        };
        let ticket = service.ticket(&task());
        service.store.begin_rename(&ticket, &record, &renamed, &plan).unwrap();
        let project = service.project("blue").unwrap();
        let refused = service.delete_project(&task(), &project).unwrap_err();
        assert!(refused.message.contains("on its way"), "{refused:?}");
        service.store.drop_rename(&ticket, &record, &renamed).unwrap();
        service.delete_project(&task(), &project).unwrap();
    }

    #[test]
    fn nothing_comes_into_a_project_that_has_gone() {
        let world = World::new();
        let service = world.with_pools(&["p"]);
        let (pool, name) = (service.open_pool("p").unwrap(), ProjectName::default_project());
        let blue: ProjectName = "blue".parse().unwrap();
        service.create_project(&task(), &blue, String::new(), Config::new()).unwrap();
        let known = service.project("blue").unwrap();
        service.update_project(&task(), &known, known.config.clone(), "for tests".to_owned()).unwrap();
        let late = service.update_project(&task(), &known, known.config.clone(), "late".to_owned());
        assert_eq!(late.unwrap_err(), ServiceError::overtaken());
        assert_eq!(service.delete_project(&task(), &known), Err(ServiceError::overtaken()));
        service.delete_project(&task(), &service.project("blue").unwrap()).unwrap();
        let new = |project: &ProjectName| NewVolume { project: project.clone(), ..new_volume("v", &[]) };
        let refused = service.create_volume(&task(), &pool, new(&blue)).unwrap_err();
        assert_eq!(refused.kind, Kind::NotFound, "{refused:?}");
        service.create_volume(&task(), &pool, new(&name)).unwrap();
        assert_eq!(volumes_in(&service, &pool).len(), 1);
    }
}
