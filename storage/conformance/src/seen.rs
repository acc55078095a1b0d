//! What is on a world's pools, to be compared before and after.

use crate::World;
use larder_base::host::SystemHost;
use larder_storage_driver::{Area, Attached, Mode, Place, Result};
use larder_storage_pool::Pool;
use larder_storage_tree::manifest;
use std::collections::BTreeMap;

/// What is live: each place with what is in it.
pub(crate) type Live = BTreeMap<Place, String>;

/// All places, and what is in those that are live; by pool.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) places: Vec<Vec<Place>>,
    pub(crate) live: Vec<Live>,
}

impl Seen {
    /// What is staged or trashed.
    pub(crate) fn leftovers(&self) -> Vec<&Place> {
        self.places.iter().flatten().filter(|place| place.area.ticket().is_some()).collect()
    }
}

impl World {
    /// The places of all pools, sorted, each once.
    pub(crate) fn places(&self) -> Result<Vec<Vec<Place>>> {
        let cx = self.cx(&SystemHost);
        let sorted = |pool: &Pool| {
            pool.places(&cx).map(|mut places| {
                places.sort();
                places.dedup();
                places
            })
        };
        self.pools().iter().map(sorted).collect()
    }

    /// Everything that is to be seen.
    pub(crate) fn look(&self) -> Result<Seen> {
        let places = self.places()?;
        let live = self.pools().iter().zip(&places).map(|(pool, places)| self.live_on(pool, places));
        Ok(Seen { live: live.collect::<Result<_>>()?, places })
    }

    /// What is live on all pools, each with a description of its content, sizes included, times left out.
    pub(crate) fn seen(&self) -> Result<Vec<Live>> {
        Ok(self.look()?.live)
    }

    /// What is staged or trashed on all pools.
    pub(crate) fn leftovers(&self) -> Result<Vec<Place>> {
        let places = self.places()?.into_iter().flatten();
        Ok(places.filter(|place| place.area.ticket().is_some()).collect())
    }

    fn live_on(&self, pool: &Pool, places: &[Place]) -> Result<Live> {
        let cx = self.cx(&SystemHost);
        let mut live = Live::new();
        for place in places.iter().filter(|place| place.area == Area::Live) {
            let volume = &place.volume;
            let text = match &place.snapshot {
                Some(snapshot) => {
                    let text = describe(&pool.attach_snapshot(&cx, volume, snapshot)?)?;
                    pool.detach_snapshot(&cx, volume, snapshot)?;
                    text
                }
                None => {
                    let text = describe(&pool.attach(&cx, volume, Mode::ReadOnly)?)?;
                    let size = pool.volume_usage(&cx, volume)?.total_bytes;
                    pool.detach(&cx, volume)?;
                    format!("{text} total {size:?}")
                }
            };
            live.insert(place.clone(), text);
        }
        Ok(live)
    }
}

fn describe(attached: &Attached) -> Result<String> {
    let mut text = String::new();
    if let Some(folder) = &attached.directory {
        let mut listing = manifest(folder)?;
        for entry in listing.0.values_mut() {
            entry.modified = 0;
        }
        let inside = attached.disk.as_ref().and_then(|disk| disk.strip_prefix(folder).ok());
        listing.0.retain(|path, _| Some(path.as_path()) != inside);
        for (path, entry) in &listing.0 {
            text.push_str(&format!(
                "{}: {} {:o} {:?} {} {:x}; ",
                path.display(),
                entry.kind,
                entry.mode,
                entry.owner,
                entry.size,
                entry.content
            ));
        }
    }
    if let Some(disk) = &attached.disk {
        let bytes = std::fs::read(disk)?;
        let written = String::from_utf8_lossy(without_zeros_at_the_end(&bytes)).into_owned();
        text.push_str(&format!("disk of {} bytes: {written}", bytes.len()));
    }
    Ok(text)
}

/// Whole blocks of zeros are told by comparing, which is quick in a build without optimisation too.
fn without_zeros_at_the_end(bytes: &[u8]) -> &[u8] {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while let Some(start) = end.checked_sub(1).map(|last| last / BLOCK.len() * BLOCK.len())
        && bytes[start..end] == BLOCK[..end - start]
    {
        end = start;
    }
    let last = bytes[..end].iter().rposition(|byte| *byte != 0);
    &bytes[..last.map_or(0, |last| last + 1)]
}
