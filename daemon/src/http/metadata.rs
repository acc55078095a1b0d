//! `/1.0/metadata/configuration`: every key there is, from the tables that also check them.

use super::Reply;
use super::glue::{App, blocking, sync};
use crate::service::{SERVER_KEYS, Service, project_keys};
use axum::extract::State;
use larder_api::{ConfigurationGroup, ConfigurationKey, MetadataConfiguration};
use larder_base::PoolName;
use larder_storage_driver::{Config, ConfigKey, KeyScope, KeyType};
use larder_storage_drivers::{PoolSetup, SUPPORTED};
use std::collections::BTreeMap;

/// GET `/1.0/metadata/configuration`.
pub(crate) async fn get(State(app): State<App>) -> Reply {
    sync(&blocking(&app, configuration).await?)
}

fn configuration(service: &Service) -> crate::service::Result<MetadataConfiguration> {
    let mut configs = BTreeMap::new();
    for driver in SUPPORTED {
        let name: PoolName = "pool".parse()?;
        let directories = service.directories();
        let (root, disks) = (directories.pool(&name), directories.disks());
        let setup = PoolSetup { name, root, disks, ceph_conf: None, config: Config::new() };
        let keys = larder_storage_drivers::load(driver.name, setup)?.config_keys();
        let of = |scope: KeyScope| group(keys.iter().filter(move |key| key.scope == scope), "");
        let groups = BTreeMap::from([
            ("pool-conf".to_owned(), of(KeyScope::Pool)),
            ("volume-conf".to_owned(), of(KeyScope::Volume)),
        ]);
        configs.insert(format!("storage-{}", driver.name), groups);
    }
    configs.insert("server".to_owned(), server());
    let features = BTreeMap::from([("features".to_owned(), group(project_keys().iter(), ""))]);
    configs.insert("project".to_owned(), features);
    Ok(MetadataConfiguration { configs })
}

/// The server's keys by their first word, as the peers group them.
fn server() -> BTreeMap<String, ConfigurationGroup> {
    let place = |key: &ConfigKey| if key.name.starts_with("images.") { "images" } else { "miscellaneous" };
    let of = |name: &str| group(SERVER_KEYS.iter().filter(|key| place(key) == name), "global");
    ["images", "miscellaneous"].map(|name| (name.to_owned(), of(name))).into()
}

fn group<'a>(keys: impl Iterator<Item = &'a ConfigKey>, scope: &str) -> ConfigurationGroup {
    let entry = |key: &ConfigKey| {
        let told = ConfigurationKey {
            kind: key.kind.as_str().to_owned(),
            shortdesc: key.description.to_owned(),
            longdesc: wanted(key),
            default: key.default.to_owned(),
            scope: scope.to_owned(),
            liveupdate: if key.mutable { "yes" } else { "no" }.to_owned(),
            ..ConfigurationKey::default()
        };
        BTreeMap::from([(key.name.to_owned(), told)])
    };
    ConfigurationGroup { keys: keys.map(entry).collect() }
}

/// What a value must look like, in the words of the refusal. A NUL is right for no type.
fn wanted(key: &ConfigKey) -> String {
    match key.kind {
        KeyType::Text | KeyType::Boolean | KeyType::Integer | KeyType::MkfsWords(_) => String::new(),
        kind => kind.check("\0").err().map(|wanted| format!("It must be {wanted}.")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_server_is_told_with_what_its_value_must_be() {
        let groups = server();
        let told: BTreeMap<_, _> = groups.values().flat_map(|group| group.keys.iter().flatten()).collect();
        assert_eq!(told.len(), SERVER_KEYS.len());
        let images: Vec<_> = groups["images"].keys.iter().flat_map(BTreeMap::keys).collect();
        assert!(images.iter().all(|name| name.starts_with("images.")), "{images:?}");
        let key = told[&"backups.compression_algorithm".to_owned()];
        assert_eq!(
            (key.kind.as_str(), key.default.as_str(), key.scope.as_str()),
            ("string", "gzip", "global")
        );
        assert!(key.longdesc.contains("zstd"), "{}", key.longdesc);
        assert_eq!(told[&"images.remote_cache_expiry".to_owned()].longdesc, "");
    }
}
