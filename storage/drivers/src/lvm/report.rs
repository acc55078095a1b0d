//! What `lvs` and `vgs` say, as types. Pure: text in, types out.

use crate::json;
use larder_storage_driver::StorageError;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

/// The columns of [`Lv`], for `lvs -o`.
pub(super) const LV_COLUMNS: &str = "lv_name,lv_tags,lv_size,pool_lv,segtype,lv_active,data_percent,metadata_percent,\
                                     vg_extent_size,vg_free";
/// The columns of [`Vg`], for `vgs -o`.
pub(super) const VG_COLUMNS: &str = "vg_name,vg_tags,vg_size,vg_free";

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Lv {
    #[serde(rename = "lv_name")]
    pub(super) name: String,
    #[serde(rename = "lv_tags", deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    /// Bytes.
    #[serde(rename = "lv_size", deserialize_with = "number")]
    pub(super) size: u64,
    /// The thin pool it is in; empty when it has extents of its own.
    #[serde(rename = "pool_lv")]
    pub(super) pool: String,
    #[serde(rename = "segtype", deserialize_with = "is_thin_pool")]
    pub(super) is_thin_pool: bool,
    #[serde(rename = "lv_active", deserialize_with = "is_active")]
    pub(super) is_active: bool,
    /// Of a thin volume or pool: how much is written; unknown while it is inactive.
    #[serde(deserialize_with = "percent")]
    pub(super) data_percent: Option<f64>,
    /// Of a thin pool: how much of its metadata is written.
    #[serde(deserialize_with = "percent")]
    pub(super) metadata_percent: Option<f64>,
    /// Bytes of an extent of its volume group.
    #[serde(rename = "vg_extent_size", deserialize_with = "number")]
    pub(super) extent: u64,
    /// Bytes of its volume group that no volume has.
    #[serde(deserialize_with = "number")]
    pub(super) vg_free: u64,
}

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Vg {
    #[serde(rename = "vg_name")]
    pub(super) name: String,
    #[serde(rename = "vg_tags", deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    /// Bytes.
    #[serde(rename = "vg_size", deserialize_with = "number")]
    pub(super) size: u64,
    /// Bytes that no volume has.
    #[serde(rename = "vg_free", deserialize_with = "number")]
    pub(super) free: u64,
}

#[derive(Deserialize)]
struct Report<S> {
    report: Vec<S>,
}

#[derive(Deserialize)]
struct LvSection {
    lv: Vec<Lv>,
}

#[derive(Deserialize)]
struct VgSection {
    vg: Vec<Vg>,
}

/// Reads `lvs --reportformat json --units b --nosuffix -o` [`LV_COLUMNS`]. A volume of several segments has a row for each.
pub(super) fn read_lvs(text: &str) -> Result<Vec<Lv>, StorageError> {
    let sections = sections::<LvSection>("lvs", text)?.into_iter();
    let mut volumes: Vec<Lv> = sections.flat_map(|section| section.lv).collect();
    volumes.dedup_by(|one, other| one.name == other.name);
    Ok(volumes)
}

/// Reads `vgs --reportformat json --units b --nosuffix -o` [`VG_COLUMNS`].
pub(super) fn read_vgs(text: &str) -> Result<Vec<Vg>, StorageError> {
    Ok(sections::<VgSection>("vgs", text)?.into_iter().flat_map(|section| section.vg).collect())
}

fn sections<S: DeserializeOwned>(command: &str, text: &str) -> Result<Vec<S>, StorageError> {
    Ok(json::read::<Report<S>>(command, text)?.report)
}

fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(text.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// Nothing where there is none.
fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(String::deserialize(from)?.parse().ok())
}

fn is_thin_pool<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(from)? == "thin-pool")
}

fn is_active<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(from)? == "active")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A logical volume of 64 MiB, in a thin pool unless that has no name.
    pub(in crate::lvm) fn lv(name: &str, tags: &[&str], pool: &str) -> Lv {
        Lv {
            name: name.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size: 64 << 20,
            pool: pool.to_owned(),
            is_thin_pool: false,
            is_active: false,
            data_percent: None,
            metadata_percent: None,
            extent: 4 << 20,
            vg_free: 0,
        }
    }
    use proptest::prelude::*;

    const THIN: &str = include_str!("../../../../fixtures/lvm/2.03.31/lvs-thin.json");
    const INACTIVE: &str = include_str!("../../../../fixtures/lvm/2.03.31/lvs-inactive.json");
    const EMPTY: &str = include_str!("../../../../fixtures/lvm/2.03.31/lvs-empty.json");
    const ONE: &str = include_str!("../../../../fixtures/lvm/2.03.31/vgs-one.json");
    const NONE: &str = include_str!("../../../../fixtures/lvm/2.03.31/vgs-none.json");

    #[test]
    fn logical_volumes_are_read() {
        let volumes = read_lvs(THIN).unwrap();
        let names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "IncusThinPool",
                "custom_default_thick",
                "custom_default_v1",
                "custom_default_v1-s0",
                "virtual-machines_my--vm",
                "virtual-machines_my--vm.block"
            ]
        );
        assert!(volumes[0].is_thin_pool && volumes[0].metadata_percent == Some(10.23));
        assert_eq!(volumes[2].tags, ["larder_place=s:none.0:custom:x=20y"]);
        assert_eq!((volumes[2].size, volumes[2].data_percent), (64 << 20, Some(50.0)));
        assert!(volumes[2].is_active && !volumes[3].is_active);
        assert_eq!((volumes[1].pool.as_str(), volumes[2].pool.as_str()), ("", "IncusThinPool"));
        assert!(!read_lvs(INACTIVE).unwrap()[4].is_active);
        assert_eq!(read_lvs(EMPTY).unwrap(), vec![]);
    }

    #[test]
    fn volume_groups_are_read() {
        let expected = Vg {
            name: "pool1".to_owned(),
            tags: vec!["larder_pool".to_owned()],
            size: 21_470_642_176,
            free: 21_470_642_176,
        };
        assert_eq!(read_vgs(ONE).unwrap(), vec![expected]);
        assert_eq!(read_vgs(NONE).unwrap(), vec![]);
    }

    #[test]
    fn what_is_no_report_is_refused_in_words() {
        let error = read_lvs("command not found").unwrap_err();
        assert!(error.to_string().contains("command not found"), "{error}");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,200}") {
            let _ = read_lvs(&text);
            let _ = read_vgs(&text);
        }
    }
}
