//! What is wrong with a key is found before anything is done: for every key of every driver.

use larder_storage_driver::{Config, ConfigKey, ErrorKind, KeyScope, KeyType, Result, check_config};
use larder_storage_drivers::{PoolSetup, SUPPORTED, load};

type Failure = Box<dyn std::error::Error>;

/// What the driver says to a key of a pool or a volume, as the daemon asks it: nothing is there that could be changed.
fn ask(driver: &str, scope: KeyScope, key: &str, value: &str) -> std::result::Result<Result<()>, Failure> {
    let config = Config::from([(key.to_owned(), value.to_owned())]);
    let pool = |config: Config| -> std::result::Result<PoolSetup, Failure> {
        Ok(PoolSetup {
            name: "pool".parse()?,
            root: "/nowhere/pool".into(),
            disks: "/nowhere".into(),
            ceph_conf: None,
            config,
        })
    };
    let asked = if scope == KeyScope::Pool { config.clone() } else { Config::new() };
    Ok(load(driver, pool(asked)?)
        .and_then(|loaded| check_config(&config, scope, loaded.config_keys(), driver)))
}

fn must_be_named(driver: &str, scope: KeyScope, key: &str, value: &str) -> std::result::Result<(), Failure> {
    let said = ask(driver, scope, key, value)?;
    let case = format!("{driver}: {scope:?} {key}={value:?}");
    let Err(error) = said else { return Err(format!("{case} was taken").into()) };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{case}: {error}");
    assert!(error.to_string().contains(key), "{case} is not named: {error}");
    Ok(())
}

fn keys(driver: &str) -> std::result::Result<&'static [ConfigKey], Failure> {
    let (root, disks) = ("/nowhere/pool".into(), "/nowhere".into());
    Ok(load(
        driver,
        PoolSetup { name: "pool".parse()?, root, disks, ceph_conf: None, config: Config::new() },
    )?
    .config_keys())
}

/// Values that are wrong for a type.
fn wrong(kind: KeyType) -> &'static [&'static str] {
    match kind {
        KeyType::Text => &["a\0b"],
        KeyType::Boolean => &["maybe", "2"],
        KeyType::Integer => &["much", "1.5"],
        KeyType::Count => &["0", "-1", "much"],
        KeyType::Owner => &["-1", "4294967295", "root"],
        KeyType::Size => &["-1", "much", "10XiB", "9223372036854775807"],
        KeyType::PowerOfTwo(..) => &["3", "much", "1EiB"],
        KeyType::OneOf(_) => &["another"],
        KeyType::Path => &["relative/path", "/nul\0"],
        KeyType::OctalMode => &["0999", "17777", "rwx"],
        KeyType::Lifetime => &["1x", "d"],
        KeyType::Schedule => &["daily", "* * * *"],
        KeyType::MkfsWords(_) => &["/dev/sdb", "-d /root", "-q -J device=sdb", "--rootdir=root"],
    }
}

#[test]
fn a_wrong_value_is_named_wherever_it_is_given() -> std::result::Result<(), Failure> {
    for driver in SUPPORTED {
        for key in keys(driver.name)? {
            for value in wrong(key.kind) {
                must_be_named(driver.name, key.scope, key.name, value)?;
                if key.scope == KeyScope::Volume {
                    // As a default for all volumes of a pool.
                    must_be_named(driver.name, KeyScope::Pool, &format!("volume.{}", key.name), value)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn an_unknown_key_and_one_of_another_driver_are_named() -> std::result::Result<(), Failure> {
    for driver in SUPPORTED {
        let own = keys(driver.name)?;
        for scope in [KeyScope::Pool, KeyScope::Volume] {
            must_be_named(driver.name, scope, "no.such.key", "1")?;
            must_be_named(driver.name, scope, "volume.volume.size", "1GiB")?;
        }
        must_be_named(driver.name, KeyScope::Pool, "volume.source", "/x")?;
        for other in SUPPORTED {
            for key in keys(other.name)? {
                if !own.iter().any(|known| (known.name, known.scope) == (key.name, key.scope)) {
                    must_be_named(driver.name, key.scope, key.name, "1")?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_key_is_there_once_and_says_what_it_does() -> std::result::Result<(), Failure> {
    for driver in SUPPORTED {
        let keys = keys(driver.name)?;
        for key in keys {
            let same = keys.iter().filter(|other| (other.name, other.scope) == (key.name, key.scope));
            assert_eq!(same.count(), 1, "{}: {}", driver.name, key.name);
            assert!(!key.description.is_empty(), "{}: {}", driver.name, key.name);
        }
    }
    Ok(())
}
