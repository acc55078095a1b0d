//! Removing volumes and snapshots, with or without clones.
//!
//! A snapshot that has clones can't go before them. It is told to go by itself with the last of them (`zfs destroy -d`) and
//! renamed, so that its name is free. A volume whose snapshots have clones is renamed likewise, and removed once none of its
//! snapshots is left.

use super::command::{self, BELOW, DEFERRED};
use super::layout::Layout;
use super::parse::Refusal;
use super::run::{change, run, run_if_there};
use super::{Zfs, disk};
use crate::filesystem::unmount_where;
use crate::parts::Part;
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Place, Result};
use std::collections::BTreeSet;
use std::path::Path;

impl Zfs {
    pub(super) fn remove_part(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let dataset = self.layout.part(at, part);
        // Absent: removed by a call that was cut off, perhaps before what it was cloned from was.
        let origin = run(cx, &command::list("origin", &[&dataset])).unless(&[Refusal::Missing])?;
        self.unmount_all_of(cx, at, part)?;
        if origin.is_some() {
            self.remove_dataset(cx, &dataset)?;
        }
        let has_gone_parent = origin.is_none_or(|origin| self.layout.is_gone(&origin));
        if has_gone_parent { self.remove_childless(cx) } else { Ok(()) }
    }

    fn remove_dataset(&self, cx: &Cx<'_>, dataset: &str) -> Result<()> {
        match change(cx, &command::destroy(&[BELOW], dataset)) {
            Err(failure) if failure.is(Refusal::HasClones) => {
                run_if_there(cx, &command::destroy(&[DEFERRED, BELOW], &format!("{dataset}@%")))?;
                Ok(change(cx, &command::rename(dataset, &self.layout.gone()))?)
            }
            other => Ok(other.unless(&[Refusal::Missing]).map(drop)?),
        }
    }

    /// Removes a part of a snapshot.
    pub(super) fn remove_snapshot(&self, cx: &Cx<'_>, at: &Place, part: Part) -> Result<()> {
        let spelled = self.layout.spelled(at, part);
        self.unmount_all_of(cx, at, part)?;
        match change(cx, &command::destroy(&[], &spelled)) {
            Err(failure) if failure.is(Refusal::HasClones) => self.hide_snapshot(cx, &spelled),
            other => Ok(other.unless(&[Refusal::Missing]).map(drop)?),
        }
    }

    fn hide_snapshot(&self, cx: &Cx<'_>, spelled: &str) -> Result<()> {
        change(cx, &command::destroy(&[DEFERRED], spelled))?;
        let dataset = spelled.split('@').next().unwrap_or_default();
        let hidden = format!("{dataset}@gone-{}", uuid::Uuid::new_v4().simple());
        // Its last clone may have gone just now.
        run_if_there(cx, &command::rename(spelled, &hidden)).map(drop)
    }

    /// Removes volumes that are gone but for their clones and have none left. One may be the last clone of another.
    pub(super) fn remove_childless(&self, cx: &Cx<'_>) -> Result<()> {
        loop {
            let text = run(cx, &command::list_below("name", &self.layout.ours()))?;
            let childless = childless(&self.layout, &text);
            if childless.is_empty() {
                return Ok(());
            }
            for dataset in childless {
                run_if_there(cx, &command::destroy(&[BELOW], &dataset))?;
            }
        }
    }

    /// Puts what runs that were cut off have left on its way: views, snapshots that copies were made from, and parents of
    /// clones that are gone.
    pub(super) fn tidy(&self, cx: &Cx<'_>) -> Result<()> {
        let text = run(cx, &command::list_below("name,defer_destroy", self.layout.dataset()))?;
        let rows: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        for (name, deferred) in &rows {
            let tag = name.split_once('@').map(|(_, tag)| tag);
            if tag.is_none() && self.layout.is_view(name) {
                let node = disk::node_of(name)?;
                unmount_where(cx, |mounted| node.as_deref() == Some(Path::new(&mounted.source)))?;
                run_if_there(cx, &command::destroy(&[], name))?;
            }
            if tag.is_some_and(|tag| tag.starts_with("copy-") || tag.starts_with("gone-"))
                && *deferred == "off"
            {
                run_if_there(cx, &command::destroy(&[DEFERRED], name))?;
            }
        }
        if rows.iter().any(|(name, _)| self.layout.is_gone(name)) {
            self.remove_childless(cx)
        } else {
            Ok(())
        }
    }
}

/// Of all names below the pool's own dataset, the volumes that are gone and have no snapshot any more, nor has what was made
/// inside them by whoever they were delegated to.
fn childless(layout: &Layout, text: &str) -> Vec<String> {
    let snapshots = text.lines().filter(|name| name.contains('@'));
    let parents: BTreeSet<&str> = snapshots.filter_map(|name| layout.gone_of(name)).collect();
    let is_childless = |name: &&str| layout.gone_of(name) == Some(name) && !parents.contains(name);
    text.lines().filter(is_childless).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_inside_goes_with_the_volume_that_is_gone() {
        let layout = Layout::new("p1".to_owned());
        let childless = |names: &[&str]| childless(&layout, &names.join("\n"));
        assert_eq!(
            childless(&["p1/.larder", "p1/.larder/gone.a", "p1/.larder/gone.a/inside"]),
            ["p1/.larder/gone.a"]
        );
        assert!(childless(&["p1/.larder/gone.a", "p1/.larder/gone.a@s"]).is_empty());
        assert!(childless(&["p1/.larder/gone.a", "p1/.larder/gone.a/inside@s"]).is_empty());
        let two = ["p1/.larder/gone.a", "p1/.larder/gone.ab", "p1/.larder/gone.ab@s", "p1/.larder/staging.x"];
        assert_eq!(childless(&two), ["p1/.larder/gone.a"]);
    }
}
