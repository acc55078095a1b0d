//! Removing volumes and snapshots, with or without clones.
//!
//! A snapshot that has clones can't go before them. It is told to go by itself with the last of them (`zfs destroy -d`) and
//! renamed, so that its name is free. A volume whose snapshots have clones is renamed likewise, and removed once none of its
//! snapshots is left.

use super::parse::Refusal;
use super::run::{Failure, run, run_if_there};
use super::{Zfs, command};
use crate::spelling::Part;
use larder_storage_driver::{Cx, Place, Result};
use std::collections::BTreeSet;

impl Zfs {
    pub(super) fn remove_volume(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in Part::of(&at.volume) {
            let dataset = self.layout.part(at, *part);
            let has_gone_parent = self.has_gone_parent(cx, &dataset)?;
            self.unmount_all_of(cx, at, *part)?;
            if has_gone_parent.is_some() {
                self.remove_dataset(cx, &dataset)?;
            }
            // Absent: removed by a call that was cut off before its parent was.
            if has_gone_parent.unwrap_or(true) {
                self.remove_childless(cx)?;
            }
        }
        Ok(())
    }

    /// Whether a dataset is a clone of something that is gone but for its clones; `None` when it is absent.
    fn has_gone_parent(&self, cx: &Cx<'_>, dataset: &str) -> Result<Option<bool>> {
        match run(cx, &command::list("origin", &[dataset])) {
            Ok(text) => {
                let origin = text.trim_end().split('@').next().unwrap_or_default();
                Ok(Some(self.layout.is_gone(origin)))
            }
            Err(failure) if failure.is(Refusal::Missing) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn remove_dataset(&self, cx: &Cx<'_>, dataset: &str) -> Result<()> {
        match run(cx, &command::destroy_all(dataset)) {
            Ok(_) => Ok(()),
            Err(failure) if failure.is(Refusal::Missing) => Ok(()),
            Err(failure) if failure.is(Refusal::HasClones) => {
                none_is_fine(run(cx, &command::destroy_deferred(&format!("{dataset}@%"))))?;
                Ok(run(cx, &command::rename(dataset, &self.layout.gone())).map(drop)?)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) fn remove_snapshot(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        for part in Part::of(&at.volume) {
            let spelled = self.layout.spelled(at, *part);
            self.unmount_all_of(cx, at, *part)?;
            match run(cx, &command::destroy(&spelled)) {
                Err(failure) if failure.is(Refusal::HasClones) => self.hide_snapshot(cx, &spelled)?,
                other => none_is_fine(other)?,
            }
        }
        Ok(())
    }

    fn hide_snapshot(&self, cx: &Cx<'_>, spelled: &str) -> Result<()> {
        run(cx, &command::destroy_deferred(spelled))?;
        let dataset = spelled.split('@').next().unwrap_or_default();
        let hidden = format!("{dataset}@gone-{}", uuid::Uuid::new_v4().simple());
        // Its last clone may have gone just now.
        run_if_there(cx, &command::rename(spelled, &hidden)).map(drop)
    }

    /// Removes volumes that are gone but for their clones and have none left. One may be the last clone of another.
    pub(super) fn remove_childless(&self, cx: &Cx<'_>) -> Result<()> {
        loop {
            let text = run(cx, &command::list_below("name", &self.layout.ours()))?;
            let childless = self.childless(&text);
            if childless.is_empty() {
                return Ok(());
            }
            for dataset in childless {
                none_is_fine(run(cx, &command::destroy(&dataset)))?;
            }
        }
    }

    fn childless(&self, text: &str) -> Vec<String> {
        let parents: BTreeSet<&str> =
            text.lines().filter_map(|name| name.split_once('@')).map(|(of, _)| of).collect();
        let is_childless =
            |name: &&str| self.layout.is_gone(name) && !name.contains('@') && !parents.contains(name);
        text.lines().filter(is_childless).map(str::to_owned).collect()
    }

    /// Puts what runs that were cut off have left on its way: views, snapshots that copies were made from, and parents of
    /// clones that are gone.
    pub(super) fn tidy(&self, cx: &Cx<'_>) -> Result<()> {
        let text = run(cx, &command::list_below("name,defer_destroy", self.layout.dataset()))?;
        let rows: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        for (name, deferred) in &rows {
            let tag = name.split_once('@').map(|(_, tag)| tag);
            if tag.is_none() && self.layout.is_view(name) {
                run_if_there(cx, &command::destroy(name))?;
            }
            if tag.is_some_and(|tag| tag.starts_with("copy-") || tag.starts_with("gone-"))
                && *deferred == "off"
            {
                none_is_fine(run(cx, &command::destroy_deferred(name)))?;
            }
        }
        if rows.iter().any(|(name, _)| self.layout.is_gone(name)) {
            self.remove_childless(cx)
        } else {
            Ok(())
        }
    }
}

fn none_is_fine(outcome: Result<String, Failure>) -> Result<()> {
    match outcome {
        Err(failure) if !failure.is(Refusal::Missing) => Err(failure.into()),
        _ => Ok(()),
    }
}
