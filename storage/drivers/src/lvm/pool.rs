//! The volume group and the thin pool: made, reused, opened, grown, destroyed.
//!
//! A volume group that a pool is in bears the pool's mark; what was made for the pool bears another. Destroying removes what
//! bears both and holds nothing of others, and nothing else.

use super::command::{
    LVCHANGE, LVCREATE, LVEXTEND, PVREMOVE, PVRESIZE, PVS, VGCHANGE, VGCREATE, VGREMOVE, VGS, change, report,
    run,
};
use super::going::Going;
use super::names::Found;
use super::report::{VG_COLUMNS, Vg, read_vgs};
use super::{Lvm, keys};
use crate::source::{Source, claim, device_of};
use larder_base::ByteSize;
use larder_base::host::{Cmd, FsAct};
use larder_storage_driver::{Cx, ErrorKind, PoolUsage, Result, StorageError};
use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) const POOL_MARK: &str = "larder_pool=";
pub(super) const MADE_MARK: &str = "larder_made";
/// Whose a volume group is, by the tag it bears.
const OWNERS: &[(&str, &str)] =
    &[("incus_pool", "Incus"), ("lxd_pool", "LXD"), (POOL_MARK, "another pool of Larder's")];
/// How much of what is free a thin pool takes: the rest is for its metadata to grow.
const THIN_SHARE: &str = "95%FREE";

impl Lvm {
    /// The mark of this pool: where it is on this machine.
    pub(super) fn mark(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{POOL_MARK}{hex}")
    }

    /// The volume group, if it is there.
    pub(super) fn group(&self, cx: &Cx<'_>) -> Result<Option<Vg>> {
        let groups = read_vgs(&run(cx, &report(VGS, VG_COLUMNS))?.stdout)?;
        Ok(groups.into_iter().find(|group| group.name == self.names.vg))
    }

    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let mark = self.mark();
        match (&self.source, self.group(cx)?) {
            (_, Some(group)) if group.tags.contains(&mark) => self.must_hold_no_volume(cx)?,
            (Source::Existing(_), Some(group)) => {
                self.check_shared(cx, &group)?;
                run(cx, &change(VGCHANGE).args(["--addtag", &mark, &self.names.vg]))?;
            }
            (Source::Existing(name), None) => {
                return Err(StorageError::not_found(format!("the volume group {name}")));
            }
            (_, Some(group)) => {
                let message = format!(
                    "the volume group {0} is there already: give source={0} to use it, or another lvm.vg_name",
                    group.name
                );
                return Err(StorageError::new(ErrorKind::AlreadyExists, message));
            }
            (_, None) => self.make_group(cx, &mark)?,
        }
        self.make_thin_pool(cx)
    }

    fn make_group(&self, cx: &Cx<'_>, mark: &str) -> Result<()> {
        self.source.make(cx)?;
        let device = self.source.attach(cx)?;
        // An interrupted creation may have come further than the loop device.
        if self.group(cx)?.is_some_and(|group| group.tags.iter().any(|tag| tag == mark)) {
            return self.must_hold_no_volume(cx);
        }
        if let Err(refusal) = claim(cx, &device, None, self.settings.may_wipe) {
            let detached = self.source.detach(&cx.uncancellable());
            return Err(refusal.with_undo_failures(detached.err().into_iter().collect()));
        }
        let mut cmd = change(VGCREATE).args(["--addtag", mark, "--addtag", MADE_MARK]);
        if let Some(size) = self.settings.metadata {
            cmd = cmd.args(["--metadatasize", &bytes(size)]);
        }
        run(cx, &cmd.arg(&self.names.vg).arg(device)).map(|_| ())
    }

    /// What a call that was cut off has made is gone on with; what has volumes is somebody's. Where others may be beside the pool
    /// these can't be told from its own.
    fn must_hold_no_volume(&self, cx: &Cx<'_>) -> Result<()> {
        if self.settings.may_share || self.look(cx)?.parts.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the volume group {} has volumes already: source.recover=true takes them over",
            self.names.vg
        );
        Err(StorageError::invalid(message))
    }

    /// Refuses a volume group that others use, unless it may be shared; a thin pool that was made for another pool may not.
    fn check_shared(&self, cx: &Cx<'_>, group: &Vg) -> Result<()> {
        let volumes = self.volumes(cx)?;
        if let Some(pool) = volumes.iter().find(|lv| self.is_thin_pool(lv) && is_made(&lv.tags)) {
            let message = "was made for another pool: give another lvm.thinpool_name";
            return Err(StorageError::invalid(format!("the thin pool {} {message}", pool.name)));
        }
        if self.settings.may_share {
            return Ok(());
        }
        let owner = OWNERS.iter().find(|(tag, _)| group.tags.iter().any(|found| found.starts_with(tag)));
        let hint = "give another source, lvm.vg.force_reuse=true to share it, or source.recover=true to take it over";
        let other = volumes.iter().find(|lv| self.settings.thin_pool.as_ref() != Some(&lv.name));
        let used = match (owner, other) {
            (Some((_, owner)), _) => format!("in use by {owner}"),
            (None, Some(other)) => format!("in use, it has the logical volume {}", other.name),
            (None, None) => return Ok(()),
        };
        let message = format!("the volume group {} is {used}: {hint}", group.name);
        Err(StorageError::new(ErrorKind::InUse, message))
    }

    fn make_thin_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let Some(name) = &self.settings.thin_pool else { return Ok(()) };
        if let Some(lv) = self.volumes(cx)?.iter().find(|lv| lv.name == *name) {
            let message = format!("the logical volume {name} in {} is no thin pool", self.names.vg);
            return lv.is_thin_pool.then_some(()).ok_or_else(|| StorageError::invalid(message));
        }
        let mut cmd =
            change(LVCREATE).args(["--type", "thin-pool", "--extents", THIN_SHARE, "--addtag", MADE_MARK]);
        if let Some(size) = self.settings.thin_metadata {
            cmd = cmd.args(["--poolmetadatasize", &bytes(size)]);
        }
        let stripes = keys::stripes(&self.settings.config, "volume.")?;
        run(cx, &cmd.args(stripes).args(["--name", name, &self.names.vg])).map(|_| ())
    }

    pub(super) fn open_group(&self, cx: &Cx<'_>) -> Result<()> {
        if !matches!(self.source, Source::Existing(_)) {
            self.source.attach(cx)?;
        }
        let missing = || StorageError::not_found(format!("the volume group {}", self.names.vg));
        let group = self.group(cx)?.ok_or_else(missing)?;
        let mark = self.mark();
        // One that is taken over bears the mark of where it was.
        if !group.tags.contains(&mark) {
            let old = group.tags.iter().filter(|tag| tag.starts_with(POOL_MARK));
            let removed = old.flat_map(|tag| ["--deltag", tag]);
            run(cx, &change(VGCHANGE).args(removed).args(["--addtag", &mark, &self.names.vg]))?;
        }
        // What a thin pool holds is known while it is active.
        if let Some(name) = &self.settings.thin_pool {
            run(cx, &change(LVCHANGE).args(["--activate", "y", &self.full(name)]))?;
        }
        if !self.root.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: self.root.clone(), mode: super::PRIVATE })?;
        }
        Ok(())
    }

    pub(super) fn close_group(&self, cx: &Cx<'_>) -> Result<()> {
        let Some(group) = self.group(cx)? else { return self.source.detach(cx) };
        let found = self.look(cx)?;
        self.release(cx, &found.parts.iter().collect::<Vec<_>>())?;
        // A group that others may use stays active, unless it is in a file of ours.
        if matches!(self.source, Source::File { .. }) || self.going(cx, &group)? == Going::Group {
            run(cx, &change(VGCHANGE).args(["--activate", "n", &self.names.vg]))?;
        } else {
            let ours: Vec<&Found> = found.parts.iter().filter(|found| self.may_close(&found.lv)).collect();
            self.activate(cx, false, &ours)?;
        }
        self.source.detach(cx)
    }

    pub(super) fn destroy_group(&self, cx: &Cx<'_>) -> Result<()> {
        // Where there is no LVM, nothing of it was made, and what is there can't be looked at.
        if super::unavailable().is_some() {
            return Ok(());
        }
        if self.source.path().is_some_and(Path::exists) {
            self.source.attach(cx)?;
        }
        let mut is_left = false;
        if let Some(group) = self.group(cx)?.filter(|group| group.tags.contains(&self.mark())) {
            let found = self.look(cx)?;
            self.release(cx, &found.parts.iter().collect::<Vec<_>>())?;
            match self.going(cx, &group)? {
                Going::Group => {
                    run(cx, &change(VGREMOVE).args(["--force", &self.names.vg]))?;
                    if let Source::Device(device) = &self.source {
                        run(cx, &change(PVREMOVE).arg(device))?;
                    }
                    is_left = true;
                }
                Going::Volumes(going) => self.leave_group(cx, &group, &going)?,
            }
        }
        // A file that holds what is somebody else's stays, and stays where that is found.
        let group_in_file = self.group_in_file(cx)?;
        if group_in_file.as_deref().is_none_or(str::is_empty) {
            self.source.detach(cx)?;
            match is_left || group_in_file.is_some() {
                true => self.source.destroy(cx)?,
                false => self.source.destroy_own(cx, None)?,
            }
        }
        cx.act(&FsAct::remove_tree(&self.root))
    }

    /// The volume group that the pool's file is in, empty when that is gone; `None` when the file was in none.
    fn group_in_file(&self, cx: &Cx<'_>) -> Result<Option<String>> {
        let Source::File { path, .. } = &self.source else { return Ok(None) };
        let Some(device) = device_of(path)? else { return Ok(None) };
        let cmd = Cmd::reads(PVS).args(["--noheadings", "--options", "vg_name"]).arg(device);
        Ok(run(cx, &cmd).ok().map(|output| output.stdout.trim().to_owned()))
    }

    /// Takes what is ours out of a volume group that stays, and our marks: what stays is nobody's of ours any more.
    fn leave_group(&self, cx: &Cx<'_>, group: &Vg, going: &[String]) -> Result<()> {
        self.remove_lvs(cx, going.iter().map(String::as_str))?;
        if let Some(pool) = self.look(cx)?.thin_pool.filter(|lv| is_made(&lv.tags)) {
            run(cx, &change(LVCHANGE).args(["--deltag", MADE_MARK, &self.full(&pool.name)]))?;
        }
        let mark = self.mark();
        let mut cmd = change(VGCHANGE).args(["--deltag", &mark]);
        if is_made(&group.tags) && !has_other_pool(&group.tags, &mark) {
            cmd = cmd.args(["--deltag", MADE_MARK]);
        }
        run(cx, &cmd.arg(&self.names.vg)).map(drop)
    }

    /// Lets what is on the pool's file have all of it, after the file has grown. Repeatable.
    pub(super) fn grow_group(&self, cx: &Cx<'_>, size: ByteSize) -> Result<()> {
        self.source.grow(cx, size)?;
        let device = self.source.attach(cx)?;
        run(cx, &change(PVRESIZE).arg(device))?;
        if let (Some(name), Some(group)) = (&self.settings.thin_pool, self.group(cx)?)
            && group.free > group.size / 20
        {
            run(cx, &change(LVEXTEND).args(["--extents", &format!("+{THIN_SHARE}"), &self.full(name)]))?;
        }
        Ok(())
    }

    pub(super) fn group_usage(&self, cx: &Cx<'_>) -> Result<PoolUsage> {
        let usage = |used, total| PoolUsage { used_bytes: used, total_bytes: total, ..PoolUsage::default() };
        if self.settings.thin_pool.is_some() {
            let found = self.look(cx)?;
            let missing = || StorageError::not_found("the thin pool");
            let pool = found.thin_pool.ok_or_else(missing)?;
            return Ok(usage(super::volume::written(&pool).unwrap_or_default(), pool.size));
        }
        let missing = || StorageError::not_found(format!("the volume group {}", self.names.vg));
        let group = self.group(cx)?.ok_or_else(missing)?;
        Ok(usage(group.size - group.free, group.size))
    }
}

/// Whether a volume group bears the mark of another pool of Larder's.
pub(super) fn has_other_pool(tags: &[String], mark: &str) -> bool {
    tags.iter().any(|tag| tag.starts_with(POOL_MARK) && tag != mark)
}

/// Whether a volume group or thin pool was made for the pool.
pub(super) fn is_made(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == MADE_MARK)
}

/// A size as LVM's tools read it.
pub(super) fn bytes(size: ByteSize) -> String {
    format!("{}b", size.as_bytes())
}
