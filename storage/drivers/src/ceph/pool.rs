//! The pool: an OSD pool, or a namespace in one, with a mark that says whose it is.

use super::Ceph;
use super::layout::{Spelled, is_out_of_sight, is_own_zombie};
use super::remove::Fate;
use crate::cluster::parse::{Named, Row, Space};
use crate::cluster::{Refusal, ask, ask_if_there, change, change_if_there, run};
use crate::filesystem::{let_go, mount_points};
use crate::refusal::Outcome;
use larder_storage_driver::{Cx, Driver, ErrorKind, Place, PoolUsage, Result, StorageError};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// What marks a pool as ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Whose it is.
    identity: String,
    /// The identifier of the cluster.
    cluster: String,
    /// Whether the OSD pool or namespace was made for it, and goes with it.
    is_made: bool,
}

impl Mark {
    fn write(&self) -> String {
        let made = if self.is_made { "made" } else { "found" };
        format!("{}\n{}\n{made}\n", self.identity, self.cluster)
    }

    /// Reads what [`Mark::write`] wrote; what an unknown version wrote is nobody's.
    fn read(text: &str) -> Self {
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        Self { identity: next(), cluster: next(), is_made: next() == "made" }
    }
}

impl Ceph {
    /// Makes the OSD pool or namespace unless it is there, and marks it.
    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        let commands = &settings.commands;
        if let Some(mark) = self.mark(cx)? {
            return if mark.identity == settings.identity { Ok(()) } else { Err(self.is_somebodys()) };
        }
        match ask_if_there::<Vec<String>>(cx, &commands.names())? {
            None => {
                self.has_made.store(true, Ordering::Relaxed);
                match (&commands.namespace, &settings.copies) {
                    (Some(_), _) => change(cx, &commands.create_namespace())?,
                    (None, copies) => {
                        change(cx, &commands.create_pool(&settings.placement_groups))?;
                        copies.iter().try_for_each(|copies| change(cx, &commands.set_copies(copies)))?;
                    }
                }
            }
            Some(names) if !names.is_empty() && !settings.reuse => {
                let message = format!(
                    "the OSD pool {} holds images already: give another, source.recover=true to take over what is \
                     there, or ceph.osd.force_reuse=true to use it beside somebody else",
                    commands.home()
                );
                return Err(StorageError::invalid(message));
            }
            Some(_) => {}
        }
        if commands.namespace.is_none() {
            change(cx, &commands.prepare_pool())?;
        }
        self.write_mark(cx, self.has_made.load(Ordering::Relaxed)).map(drop)
    }

    fn is_somebodys(&self) -> StorageError {
        StorageError::invalid(format!(
            "the OSD pool {} is in use by another storage pool: give another, or source.recover=true to take it over",
            self.settings().commands.home()
        ))
    }

    fn mark(&self, cx: &Cx<'_>) -> Result<Option<Mark>> {
        let text = run(cx, &self.settings().commands.read_mark()).unless(&[Refusal::Missing])?;
        Ok(text.map(|text| Mark::read(&text)))
    }

    fn write_mark(&self, cx: &Cx<'_>, is_made: bool) -> Result<Mark> {
        let settings = self.settings();
        let cluster = run(cx, &settings.commands.cluster_id())?.trim().to_owned();
        let mark = Mark { identity: settings.identity.clone(), cluster, is_made };
        change(cx, &settings.commands.write_mark(&mark.write()))?;
        Ok(mark)
    }

    /// Looks at the mark, and puts right on this machine what a run that was cut off has left.
    pub(super) fn open(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        let mark = match self.mark(cx)? {
            Some(mark) if mark.identity == settings.identity => mark,
            Some(mark) if settings.recover => self.write_mark(cx, mark.is_made)?,
            Some(_) => return Err(self.is_somebodys()),
            None if settings.recover && change_if_there(cx, &settings.commands.names())? => {
                self.write_mark(cx, false)?
            }
            None => {
                let what = format!("the pool {} on the ceph cluster", settings.commands.home());
                return Err(StorageError::not_found(what));
            }
        };
        self.cluster.get_or_init(|| mark.cluster);
        self.mount_points.make(cx)?;
        self.thaw(cx)?;
        self.remove_childless(cx)
    }

    /// Asks for the mark; what else than a pool that is still ours is no answer.
    pub(super) fn ask(&self, cx: &Cx<'_>) -> Result<()> {
        match self.mark(cx)? {
            Some(mark) if mark.identity == self.settings().identity => Ok(()),
            _ => {
                let message = "the pool is not on the ceph cluster any more, or was taken over";
                Err(StorageError::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// A run that was cut off while it made a snapshot may have left its volume frozen.
    fn thaw(&self, cx: &Cx<'_>) -> Result<()> {
        for mapped in self.mapped()?.iter().filter(|mapped| !mapped.read_only) {
            let targets = mount_points(&mapped.path())?;
            for target in targets.iter().filter(|target| self.mount_points.has(target)) {
                // What is not frozen refuses.
                let _ = let_go(cx, target);
            }
        }
        Ok(())
    }

    /// Images that are gone but for their clones, and whose last clone went while nobody looked. One that can't be removed now is
    /// tried the next time.
    fn remove_childless(&self, cx: &Cx<'_>) -> Result<()> {
        let names: Vec<String> = ask(cx, &self.settings().commands.names())?;
        for zombie in names.iter().filter(|name| is_own_zombie(name)) {
            if let Err(error) = self.remove_zombie(cx, zombie) {
                tracing::warn!(image = zombie, error = %error.chain(), "what is gone but for its clones stays");
            }
        }
        Ok(())
    }

    /// Removes what is ours; the OSD pool or namespace too when it was made for the pool.
    pub(super) fn remove_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let settings = self.settings();
        let commands = &settings.commands;
        let mark = self.mark(cx)?;
        if mark.as_ref().is_some_and(|mark| mark.identity != settings.identity) {
            return Err(self.is_somebodys());
        }
        if let Some(mark) = &mark {
            self.cluster.get_or_init(|| mark.cluster.clone());
        }
        self.release_where(cx, |mapped| self.is_own(mapped))?;
        // The mark goes before the namespace.
        self.has_made.fetch_or(mark.as_ref().is_some_and(|mark| mark.is_made), Ordering::Relaxed);
        let is_made = self.has_made.load(Ordering::Relaxed);
        if is_made && commands.namespace.is_none() {
            self.remove_osd_pool(cx)?;
        } else if mark.is_some() || is_made {
            match is_made {
                true => self.remove_images(cx)?,
                false => self.remove_unseen(cx)?,
            }
            change_if_there(cx, &commands.remove_mark())?;
            if is_made {
                change_if_there(cx, &commands.remove_namespace())?;
            }
        }
        self.mount_points.remove(cx)
    }

    /// Refuses to remove an OSD pool in which somebody else has something.
    fn must_be_alone(&self, cx: &Cx<'_>) -> Result<()> {
        let commands = &self.settings().commands;
        let namespaces: Option<Vec<Named>> = ask_if_there(cx, &commands.namespaces())?;
        let images: Option<Vec<String>> = ask_if_there(cx, &commands.names())?;
        let namespaces = namespaces.into_iter().flatten().map(|of| format!("the namespace {}", of.name));
        let foreign = images.into_iter().flatten().filter(|name| !self.layout.is_ours(name));
        let others: Vec<String> = namespaces.chain(foreign.map(|name| format!("the image {name}"))).collect();
        if others.is_empty() {
            return Ok(());
        }
        let message =
            format!("the OSD pool {} has {} too: remove these first", commands.pool, others.join(", "));
        Err(StorageError::new(ErrorKind::InUse, message))
    }

    fn remove_osd_pool(&self, cx: &Cx<'_>) -> Result<()> {
        self.must_be_alone(cx)?;
        self.release_where(cx, |_| true)?;
        let commands = &self.settings().commands;
        match change(cx, &commands.remove_pool()) {
            Err(failure) if failure.is(Refusal::Forbidden) => {
                let message = format!(
                    "the cluster does not let the OSD pool {} be deleted: allow it \
                     (ceph config set mon mon_allow_pool_delete true)",
                    commands.pool
                );
                Err(StorageError::unexpected(message).because(StorageError::from(failure)))
            }
            other => Ok(other.unless(&[Refusal::Missing]).map(drop)?),
        }
    }

    /// Removes what is not live of an OSD pool that was found: live names may be somebody else's, and our own volumes are gone before
    /// their pool. What others have cloned stays for them.
    fn remove_unseen(&self, cx: &Cx<'_>) -> Result<()> {
        let names: Vec<String> = ask(cx, &self.settings().commands.names())?;
        let unseen = names.iter().filter(|name| is_out_of_sight(name) && !is_own_zombie(name));
        unseen.map(Spelled::image).try_for_each(|image| self.remove_part(cx, &image))?;
        self.remove_childless(cx)
    }

    /// Removes the pool's images, clones before what they are clones of.
    fn remove_images(&self, cx: &Cx<'_>) -> Result<()> {
        loop {
            let rows: Option<Vec<Row>> = ask_if_there(cx, &self.settings().commands.list())?;
            let images: BTreeSet<String> = rows.into_iter().flatten().map(|row| row.image).collect();
            let ours: Vec<String> = images.into_iter().filter(|image| self.layout.is_ours(image)).collect();
            let mut removed = 0;
            for image in &ours {
                let fate = self.remove_image(cx, &Spelled::image(image), true)?;
                removed += usize::from(fate == Fate::Gone);
            }
            if ours.len() == removed {
                return Ok(());
            }
            if removed == 0 {
                let message = format!("{} still have clones elsewhere: delete these first", ours.join(", "));
                return Err(StorageError::new(ErrorKind::InUse, message));
            }
        }
    }

    /// The live places, where these go with the pool.
    pub(super) fn live_if_made(&self, cx: &Cx<'_>) -> Result<Vec<Place>> {
        match self.mark(cx)? {
            Some(mark) if mark.is_made => Ok(self.list(cx)?.into_iter().filter(Place::is_live).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// What the OSD pool holds and can still take.
    pub(super) fn space(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        let commands = &self.settings().commands;
        let data = commands.data_pool.as_ref().unwrap_or(&commands.pool);
        let space = ask::<Space>(cx, &commands.space())?.of(data)?;
        let total_bytes = space.stored + space.available;
        Ok(PoolUsage { used_bytes: space.stored, total_bytes, ..PoolUsage::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_what_is_none_is_nobodys() {
        let mark = Mark { identity: "i".to_owned(), cluster: "c".to_owned(), is_made: true };
        assert_eq!(Mark::read(&mark.write()), mark);
        assert_eq!(Mark::read(""), Mark { identity: String::new(), cluster: String::new(), is_made: false });
    }
}
