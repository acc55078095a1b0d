//! The volume group and the thin pool: made, reused, opened, grown, destroyed.
//!
//! A volume group that a pool is in bears the pool's mark; what was made for the pool bears another. Destroying removes what
//! bears both, and nothing else.

use super::command::{
    LVCREATE, LVEXTEND, LVREMOVE, PVREMOVE, PVRESIZE, VGCHANGE, VGCREATE, VGREMOVE, VGS, change, report, run,
};
use super::report::{VG_COLUMNS, Vg, read_vgs};
use super::{Lvm, keys};
use crate::source::{Claim, Source, claim};
use larder_base::ByteSize;
use larder_base::host::FsAct;
use larder_storage_driver::{Cx, ErrorKind, PoolUsage, Result, StorageError};
use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;

const POOL_MARK: &str = "larder_pool=";
const MADE_MARK: &str = "larder_made";
/// Whose a volume group is, by the tag it bears.
const OWNERS: &[(&str, &str)] =
    &[("incus_pool", "Incus"), ("lxd_pool", "LXD"), (POOL_MARK, "another pool of Larder's")];
/// How much of what is free a thin pool takes: the rest is for its metadata to grow.
const THIN_SHARE: &str = "95%FREE";

impl Lvm {
    /// The mark of this pool: where it is on this machine.
    fn mark(&self) -> String {
        let digest = Sha256::digest(self.root.as_os_str().as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{POOL_MARK}{hex}")
    }

    /// The volume group, if it is there.
    fn group(&self, cx: &Cx<'_>) -> Result<Option<Vg>> {
        let groups = read_vgs(&run(cx, &report(VGS, VG_COLUMNS))?.stdout)?;
        Ok(groups.into_iter().find(|group| group.name == self.names.vg))
    }

    pub(super) fn make_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let mark = self.mark();
        match (&self.source, self.group(cx)?) {
            (_, Some(group)) if group.tags.contains(&mark) => {}
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
            return Ok(());
        }
        if claim(cx, &device, None, self.settings.may_wipe)? != Claim::Free {
            return Err(StorageError::new(ErrorKind::Invalid, format!("{} is not free", device.display())));
        }
        let mut cmd = change(VGCREATE).args(["--addtag", mark, "--addtag", MADE_MARK]);
        if let Some(size) = self.settings.metadata {
            cmd = cmd.args(["--metadatasize", &bytes(size)]);
        }
        run(cx, &cmd.arg(&self.names.vg).arg(device)).map(|_| ())
    }

    /// Refuses a volume group that others use, unless it may be shared.
    fn check_shared(&self, cx: &Cx<'_>, group: &Vg) -> Result<()> {
        if self.settings.may_share {
            return Ok(());
        }
        let owner = OWNERS.iter().find(|(tag, _)| group.tags.iter().any(|found| found.starts_with(tag)));
        let hint = "give another source, lvm.vg.force_reuse=true to share it, or source.recover=true to take it over";
        if let Some((_, owner)) = owner {
            let message = format!("the volume group {} is in use by {owner}: {hint}", group.name);
            return Err(StorageError::new(ErrorKind::InUse, message));
        }
        let ours = |name: &str| self.settings.thin_pool.as_deref() == Some(name);
        if let Some(other) = self.volumes(cx)?.into_iter().find(|lv| !ours(&lv.name)) {
            let message = format!(
                "the volume group {} is in use, it has the logical volume {}: {hint}",
                group.name, other.name
            );
            return Err(StorageError::new(ErrorKind::InUse, message));
        }
        Ok(())
    }

    fn make_thin_pool(&self, cx: &Cx<'_>) -> Result<()> {
        let Some(name) = &self.settings.thin_pool else { return Ok(()) };
        match self.volumes(cx)?.into_iter().find(|lv| lv.name == *name) {
            Some(lv) if lv.is_thin_pool => return Ok(()),
            Some(_) => {
                let message = format!("the logical volume {name} in {} is no thin pool", self.names.vg);
                return Err(StorageError::new(ErrorKind::Invalid, message));
            }
            None => {}
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
        if !group.tags.contains(&mark) {
            run(cx, &change(VGCHANGE).args(["--addtag", &mark, &self.names.vg]))?;
        }
        if !self.root.is_dir() {
            cx.act(&FsAct::MakeDirectory { path: self.root.clone(), mode: super::PRIVATE })?;
        }
        Ok(())
    }

    pub(super) fn close_group(&self, cx: &Cx<'_>) -> Result<()> {
        let Some(group) = self.group(cx)? else { return self.source.detach(cx) };
        let found = self.look(cx)?;
        self.release(cx, &found.all())?;
        if group.tags.iter().any(|tag| tag == MADE_MARK) {
            run(cx, &change(VGCHANGE).args(["--activate", "n", &self.names.vg]))?;
        } else {
            self.activate(cx, false, &found.all())?;
        }
        self.source.detach(cx)
    }

    pub(super) fn destroy_group(&self, cx: &Cx<'_>) -> Result<()> {
        // Where there is no LVM, nothing of it can be left.
        let group = if super::unavailable().is_some() { None } else { self.group(cx)? };
        if let Some(group) = group.filter(|group| group.tags.contains(&self.mark())) {
            let found = self.look(cx)?;
            self.release(cx, &found.all())?;
            if group.tags.iter().any(|tag| tag == MADE_MARK) {
                run(cx, &change(VGREMOVE).args(["--force", &self.names.vg]))?;
                if let Source::Device(device) = &self.source {
                    run(cx, &change(PVREMOVE).arg(device))?;
                }
            } else {
                self.leave_group(cx)?;
            }
        }
        self.source.detach(cx)?;
        self.source.destroy(cx)?;
        cx.act(&FsAct::remove_tree(&self.root))
    }

    /// Takes what is ours out of a volume group that was there before.
    fn leave_group(&self, cx: &Cx<'_>) -> Result<()> {
        let is_made = |tags: &[String]| tags.iter().any(|tag| tag == MADE_MARK);
        let found = self.look(cx)?;
        let mut names: Vec<String> = found.parts.iter().map(|part| self.full(&part.lv.name)).collect();
        names.extend(found.thin_pool.filter(|lv| is_made(&lv.tags)).map(|lv| self.full(&lv.name)));
        if !names.is_empty() {
            run(cx, &change(LVREMOVE).arg("--force").args(names))?;
        }
        run(cx, &change(VGCHANGE).args(["--deltag", &self.mark(), &self.names.vg])).map(|_| ())
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

/// A size as LVM's tools read it.
pub(super) fn bytes(size: ByteSize) -> String {
    format!("{}b", size.as_bytes())
}
