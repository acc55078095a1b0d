//! Profiles: keys and devices that instances share.

use super::crash::{Point, point};
use super::projects::{OWN_VOLUMES, holder_for};
use super::store::{ProfileStep, cause_of};
use super::{Result, Service, ServiceError, Task, instance_url, url};
use larder_base::{ProjectName, VolumeName};
use larder_catalog::ProfileId;
use larder_catalog::documents::{Config, Devices, Instance, InstanceState, Profile, Project, Volume};
use larder_runtime::Expanded;
use larder_storage_driver::VolumeKind;
use std::collections::{BTreeSet, HashMap};

/// The profile that every project with profiles of its own has.
pub(super) const DEFAULT_PROFILE: &str = "default";

/// What can be said of a profile.
#[derive(Debug, Clone, Default)]
pub struct ProfileContent {
    /// Its keys.
    pub config: Config,
    /// For people.
    pub description: String,
    /// Its devices.
    pub devices: Devices,
}

/// The custom volumes that disks of profiles name, by pool, project and name, with the profiles' URLs.
#[derive(Debug, Default)]
pub struct VolumesOfProfiles(HashMap<(String, ProjectName, String), Vec<String>>);

impl VolumesOfProfiles {
    /// URLs of the profiles that name a volume of the pool called `pool`.
    pub fn naming(&self, pool: &str, volume: &Volume) -> &[String] {
        if volume.kind != VolumeKind::Custom.as_str() {
            return &[];
        }
        let key = (pool.to_owned(), volume.project.clone(), volume.name.clone());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// The pool and the name of the custom volume that a device is, if it is one.
fn volume_of(device: &Config) -> Option<(&str, &str)> {
    let get = |key: &str| device.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let (pool, source) = (get("pool")?, get("source")?);
    let is_disk = get("type") == Some("disk");
    is_disk.then_some((pool, source.strip_prefix("custom/").unwrap_or(source)))
}

/// The URL of a profile.
pub fn profile_url(profile: &Profile) -> String {
    url(&["profiles", &profile.name], &profile.project)
}

/// Whether a project has profiles of its own.
pub(super) fn has_own_profiles(project: &Project) -> bool {
    project.name.is_default() || project.config.get("features.profiles").is_some_and(|value| value == "true")
}

/// The profile that a project gets with its first breath: nothing is in it.
pub(super) fn empty_default(project: &ProjectName) -> Profile {
    Profile {
        id: ProfileId::random(),
        project: project.clone(),
        name: DEFAULT_PROFILE.to_owned(),
        description: "Default profile".to_owned(),
        config: Config::new(),
        devices: Devices::new(),
    }
}

impl Service {
    /// The project that holds the profiles of `project`: itself, or the default project.
    pub fn profile_project(&self, name: &str) -> Result<ProjectName> {
        self.feature_project(name, "features.profiles")
    }

    /// A profile of the project that holds it, or an error that names it.
    pub fn profile(&self, project: &ProjectName, name: &str) -> Result<Profile> {
        let missing = || ServiceError::not_found(format!("profile {name:?}"));
        self.store.profile(project, name)?.ok_or_else(missing)
    }

    /// The profiles that a project holds, by name.
    pub fn profiles(&self, project: &ProjectName) -> Result<Vec<Profile>> {
        self.store.profiles_of(project)
    }

    /// The custom volumes that disks of profiles name. They are read from the profiles each time: a profile may name a volume
    /// that does not exist yet.
    pub fn volumes_of_profiles(&self) -> Result<VolumesOfProfiles> {
        let holders: HashMap<_, _> = self
            .store
            .projects()?
            .into_iter()
            .map(|project| (project.name.clone(), holder_for(&project, OWN_VOLUMES)))
            .collect();
        let mut volumes = VolumesOfProfiles::default();
        for profile in self.store.all_profiles()? {
            let Some(holder) = holders.get(&profile.project) else { continue };
            let named: BTreeSet<_> = profile.devices.values().filter_map(volume_of).collect();
            for (pool, name) in named {
                let key = (pool.to_owned(), holder.clone(), name.to_owned());
                volumes.0.entry(key).or_default().push(profile_url(&profile));
            }
        }
        Ok(volumes)
    }

    /// URLs of the instances that have a profile.
    pub fn profile_users(&self, profile: &Profile) -> Result<Vec<String>> {
        self.store.used_by(&profile.id.to_string())
    }

    /// Makes a profile in the project that is to hold it.
    pub fn create_profile(
        &self,
        task: &Task,
        project: &ProjectName,
        name: &str,
        content: ProfileContent,
    ) -> Result<Profile> {
        check_name(name)?;
        let content = checked(content)?;
        let profile = Profile {
            id: ProfileId::random(),
            project: project.clone(),
            name: name.to_owned(),
            description: content.description,
            config: content.config,
            devices: content.devices,
        };
        let cause = cause_of(task, "profile-created", &profile_url(&profile), project);
        let step = ProfileStep { before: None, after: Some(profile.clone()) };
        self.store.commit_profile(&step, &[], Some(&cause))?;
        Ok(profile)
    }

    /// Changes keys, devices and description. Instances that have the profile follow, running ones at once; those that
    /// can't are told of in the error, and the profile is changed all the same.
    pub fn update_profile(&self, task: &Task, old: &Profile, content: ProfileContent) -> Result<Profile> {
        let content = checked(content)?;
        let profile = Profile {
            description: content.description,
            config: content.config,
            devices: content.devices,
            ..old.clone()
        };
        let followers = self.followers(old, &profile)?;
        let cause = cause_of(task, "profile-updated", &profile_url(old), &old.project);
        let step = ProfileStep { before: Some(old.clone()), after: Some(profile.clone()) };
        self.store.commit_profile(&step, &[], Some(&cause))?;
        point(Point::Commit);
        let failures: Vec<String> = followers
            .iter()
            .filter_map(|(instance, before)| {
                let error = self.follow_profile(task, instance, before).err()?;
                Some(format!("{}: {error}", instance_url(instance)))
            })
            .collect();
        match failures.as_slice() {
            [] => Ok(profile),
            some => Err(ServiceError::bad(format!(
                "the profile {:?} is changed, but not all that is running could follow: {}",
                profile.name,
                some.join("; ")
            ))),
        }
    }

    /// The instances that have a profile, with what applies to each before its change. One that could not be with the
    /// change refuses it.
    fn followers(&self, old: &Profile, new: &Profile) -> Result<Vec<(Instance, Expanded)>> {
        let projects = self.sharers(&old.project)?;
        let mut followers = Vec::new();
        for instance in self.store.all_instances()? {
            let is_ready = instance.state == InstanceState::Ready;
            if !is_ready || !projects.contains(&instance.project) || !instance.profiles.contains(&old.name) {
                continue;
            }
            let (before, after) = (self.expanded(&instance)?, self.expanded_with(&instance, new)?);
            if let Err(error) = self.check_settings(&instance, &after)
                && self.check_settings(&instance, &before).is_ok()
            {
                let message = format!("{}: {error}", instance_url(&instance));
                return Err(ServiceError { kind: error.kind, message });
            }
            followers.push((instance, before));
        }
        Ok(followers)
    }

    /// Gives a profile another name, at the instances that have it too.
    pub fn rename_profile(&self, task: &Task, old: &Profile, name: &str) -> Result<Profile> {
        must_be_ordinary(old, "renamed")?;
        check_name(name)?;
        let profile = Profile { name: name.to_owned(), ..old.clone() };
        if profile.name == old.name {
            return Err(ServiceError::taken(format!("the profile {name:?}")));
        }
        let mut cause = cause_of(task, "profile-renamed", &profile_url(&profile), &old.project);
        cause.context = serde_json::json!({ "old_name": old.name });
        let step = ProfileStep { before: Some(old.clone()), after: Some(profile.clone()) };
        self.store.commit_profile(&step, &self.sharers(&old.project)?, Some(&cause))?;
        Ok(profile)
    }

    /// Deletes a profile that no instance has.
    pub fn delete_profile(&self, task: &Task, profile: &Profile) -> Result<()> {
        must_be_ordinary(profile, "deleted")?;
        let users = self.profile_users(profile)?;
        if !users.is_empty() {
            let some: Vec<_> = users.iter().take(5).cloned().collect();
            let (name, some) = (&profile.name, some.join(", "));
            return Err(ServiceError::bad(format!("the profile {name} is in use by {some}")));
        }
        let cause = cause_of(task, "profile-deleted", &profile_url(profile), &profile.project);
        let step = ProfileStep { before: Some(profile.clone()), after: None };
        self.store.commit_profile(&step, &[], Some(&cause))
    }

    /// Makes the default project's profile `default` when it is not there: with a root disk on `pool`, if that is there.
    pub(super) fn ensure_default_profile(&self, pool: &str) -> Result<()> {
        let project = ProjectName::default_project();
        if self.store.profile(&project, DEFAULT_PROFILE)?.is_some() {
            return Ok(());
        }
        let mut profile = empty_default(&project);
        if self.store.pool(pool)?.is_some() {
            let root = [("path", "/"), ("pool", pool), ("type", "disk")];
            let root = root.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            profile.devices.insert("root".to_owned(), root);
        }
        self.store.commit_profile(&ProfileStep { before: None, after: Some(profile) }, &[], None)
    }

    /// The projects whose instances have the profiles that `holder` holds.
    fn sharers(&self, holder: &ProjectName) -> Result<Vec<ProjectName>> {
        let projects = self.store.projects()?.into_iter();
        let shares = |project: &Project| match has_own_profiles(project) {
            true => project.name == *holder,
            false => holder.is_default(),
        };
        Ok(projects.filter(shares).map(|project| project.name).collect())
    }
}

fn must_be_ordinary(profile: &Profile, what: &str) -> Result<()> {
    match profile.name.as_str() {
        DEFAULT_PROFILE => Err(ServiceError::bad(format!("the profile {DEFAULT_PROFILE:?} can't be {what}"))),
        _ => Ok(()),
    }
}

/// A name is as a volume's.
fn check_name(name: &str) -> Result<()> {
    match name.parse::<VolumeName>() {
        Ok(_) => Ok(()),
        Err(error) => Err(ServiceError::bad(format!("invalid profile name {name:?}: {}", error.problem))),
    }
}

/// Keys and devices that may stand in a profile, without those that say nothing.
fn checked(mut content: ProfileContent) -> Result<ProfileContent> {
    content.config.retain(|_, value| !value.is_empty());
    for device in content.devices.values_mut() {
        device.retain(|_, value| !value.is_empty());
    }
    let is_of_one = |key: &&String| key.starts_with("volatile.") || key.starts_with("image.");
    if let Some(key) = content.config.keys().find(is_of_one) {
        return Err(ServiceError::bad(format!(
            "the key {key:?} belongs to one instance, not into a profile"
        )));
    }
    let wrong = |error: larder_runtime::KeyError| ServiceError::bad(error.to_string());
    larder_runtime::check_config(&content.config).map_err(wrong)?;
    larder_runtime::check_devices(&content.devices).map_err(wrong)?;
    super::schedule::Schedule::of_instance(&content.config)?;
    super::lifetime::check(&content.config)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Directories, Kind, Requestor};
    use jiff::Timestamp;
    use larder_base::SystemClock;
    use larder_base::host::SystemHost;
    use larder_catalog::documents::InstanceSnapshot;
    use larder_catalog::{InstanceId, InstanceSnapshotId, SqliteCatalog, Transaction, get_document, keys};
    use std::sync::Arc;

    fn world() -> (tempfile::TempDir, Service, Task) {
        let folder = tempfile::tempdir().unwrap();
        let directories = Directories::new(folder.path());
        directories.prepare().unwrap();
        let catalog = Arc::new(SqliteCatalog::in_memory().unwrap());
        let launcher = larder_images::JailLauncher::new("/nonexistent".into());
        let (host, clock) = (Arc::new(SystemHost), Arc::new(SystemClock));
        let service = Service::new(catalog, host, clock, directories, launcher).unwrap();
        service.prepare().unwrap();
        (folder, service, Task::quiet(Requestor::default()))
    }

    fn instance(project: &ProjectName, profile: &str) -> Instance {
        Instance {
            id: InstanceId::random(),
            project: project.clone(),
            name: "c1".to_owned(),
            kind: "container".to_owned(),
            architecture: "x86_64".to_owned(),
            description: String::new(),
            config: Config::new(),
            devices: Devices::new(),
            profiles: vec![DEFAULT_PROFILE.to_owned(), profile.to_owned()],
            ephemeral: false,
            stateful: false,
            root: None,
            state: InstanceState::Ready,
            created_at: Timestamp::UNIX_EPOCH,
            last_used_at: None,
        }
    }

    fn root_on(pool: &str) -> ProfileContent {
        let root = [("path", "/"), ("pool", pool), ("type", "disk")];
        let root = root.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        ProfileContent { devices: Devices::from([("root".to_owned(), root)]), ..ProfileContent::default() }
    }

    #[test]
    fn a_new_name_reaches_instances_and_snapshots_that_share_the_profile_and_no_others() {
        let (_folder, service, task) = world();
        let shared: Config = [("features.profiles".to_owned(), "false".to_owned())].into();
        let (sharing, own) = ("sharing".parse().unwrap(), "own".parse().unwrap());
        service.create_project(&task, &sharing, String::new(), shared).unwrap();
        service.create_project(&task, &own, String::new(), Config::new()).unwrap();
        let holder = service.profile_project("sharing").unwrap();
        assert!(holder.is_default());
        let profile = service.create_profile(&task, &holder, "small", ProfileContent::default()).unwrap();
        let (follows, stays) = (instance(&sharing, "small"), instance(&own, "small"));
        let snapshot = InstanceSnapshot {
            id: InstanceSnapshotId::random(),
            instance: follows.id,
            name: "s0".to_owned(),
            then: follows.clone(),
            stateful: false,
            root: None,
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
        };
        let catalog = service.store().catalog();
        let written = Transaction::new().put_document(&follows).and_then(|all| all.put_document(&stays));
        catalog.transact(written.and_then(|all| all.put_document(&snapshot)).unwrap()).unwrap();

        let renamed = service.rename_profile(&task, &profile, "tiny").unwrap();
        let of = |id| {
            let stored = get_document::<Instance>(catalog.as_ref(), &keys::instance(id)).unwrap();
            stored.unwrap().document.profiles
        };
        assert_eq!((of(follows.id), of(stays.id)), (vec!["default".into(), "tiny".into()], stays.profiles));
        let key = keys::instance_snapshot(follows.id, snapshot.id);
        let stored = get_document::<InstanceSnapshot>(catalog.as_ref(), &key).unwrap().unwrap();
        assert_eq!(stored.document.then.profiles, ["default", "tiny"]);
        assert_eq!(service.profile(&holder, "tiny").unwrap(), renamed);
        assert_eq!(service.profile(&holder, "small").unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn a_profile_in_use_stays() {
        let (_folder, service, task) = world();
        let project = ProjectName::default_project();
        let profile = service.create_profile(&task, &project, "small", ProfileContent::default()).unwrap();
        let user = keys::used_by(&profile.id.to_string(), "c1");
        let catalog = service.store().catalog();
        catalog.transact(Transaction::new().put(user.clone(), "\"/1.0/instances/c1\"".to_owned())).unwrap();
        let refused = service.delete_profile(&task, &profile).unwrap_err();
        assert_eq!(refused.kind, Kind::BadRequest);
        assert!(refused.message.contains("/1.0/instances/c1"), "{refused}");
        catalog.transact(Transaction::new().delete(user)).unwrap();
        service.delete_profile(&task, &profile).unwrap();
        assert_eq!(service.profile(&project, "small").unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn a_pool_knows_the_profiles_that_need_it() {
        let (_folder, service, task) = world();
        let project = ProjectName::default_project();
        let pool = service.pool_document("default").unwrap().id.to_string();
        let users = || service.store().used_by(&pool).unwrap();
        assert_eq!(
            users(),
            ["/1.0/profiles/default"],
            "the default profile of a new server has its root there"
        );
        let profile = service.create_profile(&task, &project, "small", root_on("default")).unwrap();
        let profile = service.rename_profile(&task, &profile, "tiny").unwrap();
        assert!(users().contains(&"/1.0/profiles/tiny".to_owned()) && users().len() == 2, "{:?}", users());
        let refused = service.update_profile(&task, &profile, root_on("none")).unwrap_err();
        assert!(refused.kind == Kind::BadRequest && refused.message.contains("none"), "{refused}");
        service.update_profile(&task, &profile, ProfileContent::default()).unwrap();
        assert_eq!(users(), ["/1.0/profiles/default"]);
    }

    #[test]
    fn a_change_made_from_what_is_no_longer_so_is_refused() {
        let (_folder, service, task) = world();
        let project = ProjectName::default_project();
        let old = service.create_profile(&task, &project, "small", ProfileContent::default()).unwrap();
        let content =
            |text: &str| ProfileContent { description: text.to_owned(), ..ProfileContent::default() };
        service.update_profile(&task, &old, content("one")).unwrap();
        assert_eq!(service.update_profile(&task, &old, content("two")).unwrap_err().kind, Kind::Conflict);
        assert_eq!(service.profile(&project, "small").unwrap().description, "one");
    }

    #[test]
    fn a_start_gives_the_default_profile_back_its_place_once() {
        let (_folder, service, task) = world();
        let project = ProjectName::default_project();
        let first = service.profile(&project, DEFAULT_PROFILE).unwrap();
        service.update_profile(&task, &first, ProfileContent::default()).unwrap();
        service.prepare().unwrap();
        let profiles = service.profiles(&project).unwrap();
        assert!(
            profiles.len() == 1 && profiles[0].devices.is_empty(),
            "what was taken out stays out: {profiles:?}"
        );
    }
}
