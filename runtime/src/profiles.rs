//! What an instance gets from its profiles and its own settings.

use std::collections::BTreeMap;

/// Keys with their values.
pub type Config = BTreeMap<String, String>;
/// Devices by name, each with its keys.
pub type Devices = BTreeMap<String, Config>;

/// One profile's settings.
#[derive(Debug, Clone, Copy)]
pub struct ProfileLayer<'a> {
    /// Its keys.
    pub config: &'a Config,
    /// Its devices.
    pub devices: &'a Devices,
}

/// All that applies to an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Its keys.
    pub config: Config,
    /// Its devices.
    pub devices: Devices,
}

impl Expanded {
    /// The devices that are there: one of type `none` only takes away what a profile gave.
    pub fn active_devices(&self) -> impl Iterator<Item = (&str, &Config)> {
        let active = |device: &&Config| device.get("type").is_none_or(|kind| kind != "none");
        self.devices
            .iter()
            .filter(move |(_, device)| active(device))
            .map(|(name, device)| (name.as_str(), device))
    }
}

/// Lays an instance's own settings over its profiles', in their order: a later key wins, a later device of
/// the same name replaces the whole earlier one. Keys that describe one instance or image are never taken
/// from a profile.
///
/// ```
/// use larder_runtime::{Config, Devices, ProfileLayer, expand};
/// let keys = |pairs: &[(&str, &str)]| -> Config {
///     pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
/// };
/// let (small, large) = (keys(&[("limits.memory", "1GiB")]), keys(&[("limits.memory", "8GiB")]));
/// let devices = Devices::new();
/// let profiles = [ProfileLayer { config: &small, devices: &devices }];
/// let expanded = expand(&profiles, ProfileLayer { config: &large, devices: &devices });
/// assert_eq!(expanded.config["limits.memory"], "8GiB");
/// ```
pub fn expand(profiles: &[ProfileLayer<'_>], own: ProfileLayer<'_>) -> Expanded {
    let mut expanded = Expanded::default();
    for profile in profiles {
        let shared = profile.config.iter().filter(|(key, _)| !belongs_to_one(key));
        expanded.config.extend(shared.map(|(key, value)| (key.clone(), value.clone())));
        expanded.devices.extend(profile.devices.clone());
    }
    expanded.config.extend(own.config.clone());
    expanded.devices.extend(own.devices.clone());
    expanded
}

fn belongs_to_one(key: &str) -> bool {
    key.starts_with("volatile.") || key.starts_with("image.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn devices(list: &[(&str, &[(&str, &str)])]) -> Devices {
        list.iter().map(|(name, pairs)| ((*name).to_owned(), keys(pairs))).collect()
    }

    #[test]
    fn later_profiles_win_and_the_instance_wins_over_all() {
        let (one, two, own) = (
            keys(&[("a", "1"), ("b", "1"), ("volatile.x", "1")]),
            keys(&[("b", "2"), ("c", "2")]),
            keys(&[("c", "3")]),
        );
        let none = Devices::new();
        let layers = [&one, &two].map(|config| ProfileLayer { config, devices: &none });
        let expanded = expand(&layers, ProfileLayer { config: &own, devices: &none });
        assert_eq!(expanded.config, keys(&[("a", "1"), ("b", "2"), ("c", "3")]));
    }

    #[test]
    fn a_device_replaces_the_whole_one_below_it_and_none_takes_it_away() {
        let profile = devices(&[
            ("root", &[("type", "disk"), ("path", "/"), ("pool", "p"), ("size", "1GiB")]),
            ("data", &[("type", "disk"), ("path", "/data"), ("source", "/srv")]),
        ]);
        let own = devices(&[
            ("root", &[("type", "disk"), ("path", "/"), ("pool", "q")]),
            ("data", &[("type", "none")]),
        ]);
        let config = Config::new();
        let layers = [ProfileLayer { config: &config, devices: &profile }];
        let expanded = expand(&layers, ProfileLayer { config: &config, devices: &own });
        assert_eq!(expanded.devices, own, "the size of the profile's root is gone, and `none` stays visible");
        assert_eq!(expanded.active_devices().map(|(name, _)| name).collect::<Vec<_>>(), ["root"]);
    }
}
