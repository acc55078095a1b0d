//! Volumes: made, cloned, snapshotted, attached, resized, measured.

use super::command::{LVCHANGE, LVCREATE, LVEXTEND, LVREDUCE, change, run};
use super::keys::stripes;
use super::names::{Found, Part, tag};
use super::pool::bytes;
use super::report::Lv;
use super::{Look, Lvm};
use crate::filesystem::{Filesystem, OnDevice, is_mounted, is_writable, usage};
use crate::keys::value;
use crate::parts::must_grow;
use crate::source::clear;
use larder_base::host::FsAct;
use larder_base::{ByteSize, SnapshotName};
use larder_storage_driver::{
    Attached, Config, Content, Cx, ErrorKind, Mode, Need, Place, Result, StorageError, VolumeSpec,
    VolumeUsage,
};
use std::path::PathBuf;

/// The filesystem beside a virtual machine's disk, as the peers make it.
const BESIDE_DISK: ByteSize = ByteSize::from_mebibytes(100);
/// How a volume's filesystem is mounted, as a tag: `:` stands for the comma that tags can't have.
const MOUNT_TAG: &str = "larder_mount=";
const DEFAULT_MOUNT: &str = "discard";
/// What filesystem a volume has, as a tag, so that nobody needs to look at its device.
const FILESYSTEM_TAG: &str = "larder_filesystem=";
/// That a thick disk has grown from so many bytes, and what it got may still have what others wrote.
const GROWN_TAG: &str = "larder_clear=";

/// How many bytes of a thin volume or pool are written, as far as that is known.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an estimate"
)]
pub(super) fn written(lv: &Lv) -> Option<u64> {
    lv.data_percent.map(|percent| (lv.size as f64 * percent / 100.0) as u64)
}

/// Whether a part of a volume has a filesystem.
fn has_filesystem(at: &Place, part: Part) -> bool {
    at.volume.has_filesystem() && part == Part::Main
}

/// What a logical volume that shares its blocks becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// Read-only, and inactive unless that is asked for.
    Snapshot,
    /// A volume with a device.
    Active,
    /// A volume without.
    Inactive,
}

impl Lvm {
    pub(super) fn make_volume(&self, cx: &Cx<'_>, at: &Place, spec: &VolumeSpec) -> Result<()> {
        self.names.check(at)?;
        let look = self.look(cx)?;
        self.must_be_free(&look, at)?;
        self.make_room(cx, &look);
        for part in Part::of(&at.volume) {
            let name = self.names.lv(at, *part);
            if look.part(at, *part).is_none() {
                self.make_lv(cx, at, *part, spec)?;
            }
            if has_filesystem(at, *part) {
                let (device, scratch) = (self.device(&name), self.mount_point(at));
                let filesystem = self.wanted_filesystem(&spec.config);
                filesystem.make(cx, device, scratch, &spec.config, self.is_thin())?;
            }
        }
        self.is_alone(at, &[]);
        Ok(())
    }

    fn size_of(&self, at: &Place, part: Part, spec: &VolumeSpec) -> ByteSize {
        match (part, at.volume.content) {
            (Part::Main, Content::Block) if at.volume.has_two_parts() => BESIDE_DISK,
            (_, Content::Filesystem) => spec.size.unwrap_or(self.settings.default_size),
            (_, Content::Block | Content::Iso) => spec.disk_size(),
        }
    }

    fn make_lv(&self, cx: &Cx<'_>, at: &Place, part: Part, spec: &VolumeSpec) -> Result<()> {
        let (name, size) = (self.names.lv(at, part), bytes(self.size_of(at, part, spec)));
        let cmd = match &self.settings.thin_pool {
            Some(pool) => change(LVCREATE).args(["--thinpool", pool, "--virtualsize", &size]),
            None => {
                let stripes = stripes(&spec.config, "")?;
                change(LVCREATE).args(["--size", &size, "--wipesignatures", "y"]).args(stripes)
            }
        };
        let mut cmd = cmd.args(["--name", &name, "--addtag", &tag(at)]);
        if has_filesystem(at, part) {
            let options = value(&spec.config, "block.mount_options").unwrap_or(DEFAULT_MOUNT);
            let filesystem = format!("{FILESYSTEM_TAG}{}", self.wanted_filesystem(&spec.config).as_str());
            cmd = cmd.args(["--addtag", &mount_tag(options)?, "--addtag", &filesystem]);
        }
        run(cx, &cmd.arg(&self.names.vg))?;
        // What was in these blocks before is nobody's business, and the holes of what is copied here are zeros.
        match self.is_thin() || has_filesystem(at, part) {
            true => Ok(()),
            false => run(cx, &clear(&self.device(&name), 0)).map(drop),
        }
    }

    fn wanted_filesystem(&self, config: &Config) -> Filesystem {
        Filesystem::wanted(config).unwrap_or(self.names.filesystem)
    }

    /// Writes back what is cached of a mounted filesystem: LVM stops ext4 and xfs for the moment of a snapshot, but not btrfs.
    fn sync(&self, at: &Place) -> Result<()> {
        let target = self.mount_point(at);
        if at.volume.has_filesystem() && is_mounted(&target) {
            rustix::fs::syncfs(std::fs::File::open(target)?).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    /// A logical volume that shares its blocks with another.
    fn share_lv(&self, cx: &Cx<'_>, from: &Found, name: &str, at: &Place, becomes: Becomes) -> Result<()> {
        let permission = if becomes == Becomes::Snapshot { "r" } else { "rw" };
        let mut cmd = change(LVCREATE).args(["--snapshot", "--permission", permission, "--name", name]);
        cmd = cmd.args(["--addtag", &tag(&at.main())]);
        let stays = |tag: &&String| tag.starts_with(MOUNT_TAG) || tag.starts_with(FILESYSTEM_TAG);
        for tag in from.lv.tags.iter().filter(stays) {
            cmd = cmd.args(["--addtag", tag]);
        }
        let skip = if becomes == Becomes::Snapshot { "y" } else { "n" };
        let active = if becomes == Becomes::Active { "y" } else { "n" };
        cmd = cmd.args(["--setactivationskip", skip, "--activate", active]);
        run(cx, &cmd.arg(self.full(&from.lv.name))).map(|_| ())
    }

    pub(super) fn snapshot_volume(&self, cx: &Cx<'_>, of: &Place, name: &SnapshotName) -> Result<()> {
        if !self.is_thin() {
            let message = format!("{of} has no native snapshots: thick volumes are copied");
            return Err(StorageError::unsupported(Need::Snapshot, message));
        }
        let at = of.at_snapshot(name);
        self.names.check(&at)?;
        let look = self.look(cx)?;
        look.main(of).ok_or_else(|| StorageError::not_found(of))?;
        self.must_be_free(&look, &at)?;
        self.make_room(cx, &look);
        self.sync(of)?;
        for part in Part::of(&of.volume) {
            let from = look.part(of, *part).ok_or_else(|| StorageError::not_found(of))?;
            self.share_lv(cx, from, &self.names.lv(&at, *part), &at, Becomes::Snapshot)?;
        }
        self.no_longer_alone(of);
        Ok(())
    }

    /// A volume that shares its blocks with another, and snapshots that share theirs with those named.
    pub(super) fn clone_volume(
        &self,
        cx: &Cx<'_>,
        at: &Place,
        from: &Place,
        snapshots: &[SnapshotName],
        spec: &VolumeSpec,
    ) -> Result<()> {
        if !self.is_thin() {
            let message = format!("{from} can't be cloned: thick volumes are copied");
            return Err(StorageError::unsupported(Need::Clone, message));
        }
        let of_snapshots = snapshots.iter().map(|name| (from.at_snapshot(name), at.at_snapshot(name)));
        let wanted: Vec<_> = of_snapshots.chain([(from.clone(), at.clone())]).collect();
        let look = self.look(cx)?;
        self.must_be_free(&look, at)?;
        for (source, target) in &wanted {
            self.names.check(target)?;
            look.main(source).ok_or_else(|| StorageError::not_found(source))?;
        }
        self.make_room(cx, &look);
        self.sync(from)?;
        for (source, target) in &wanted {
            for part in Part::of(&at.volume) {
                let found = look.part(source, *part).ok_or_else(|| StorageError::not_found(source))?;
                let becomes = match &target.snapshot {
                    Some(_) => Becomes::Snapshot,
                    None if has_filesystem(at, *part) => Becomes::Active,
                    None => Becomes::Inactive,
                };
                self.share_lv(cx, found, &self.names.lv(target, *part), target, becomes)?;
            }
        }
        if at.volume.has_filesystem()
            && let Some(source) = look.main(from)
        {
            self.renew(cx, at, source)?;
        }
        // As large as its source it is already.
        let source = self.measured(&look, from)?;
        let is_another =
            |size: &ByteSize| size.round_up(source.lv.extent).map(ByteSize::as_bytes) != Some(source.lv.size);
        if let Some(size) = spec.size.filter(is_another) {
            self.resize_volume(cx, at, Some(size))?;
        }
        self.is_alone(at, snapshots);
        Ok(())
    }

    /// Gives the filesystem of a clone, which is active, an identifier of its own.
    fn renew(&self, cx: &Cx<'_>, at: &Place, source: &Found) -> Result<()> {
        let name = [self.names.lv(at, Part::Main)];
        self.on_device(cx, at, self.device(&name[0]), &source.lv)?.renew(cx)?;
        self.activate_lvs(cx, false, &name)
    }

    /// The filesystem of a place; one that a peer made is asked.
    fn on_device(&self, cx: &Cx<'_>, at: &Place, device: PathBuf, lv: &Lv) -> Result<OnDevice> {
        let target = self.mount_point(at);
        let tagged = lv.tags.iter().find_map(|tag| Filesystem::named(tag.strip_prefix(FILESYSTEM_TAG)?));
        match tagged {
            Some(filesystem) => Ok(OnDevice { filesystem, device, target }),
            None => OnDevice::found(cx, device, target),
        }
    }

    /// Makes a place usable. What can't be taken back when that fails is no harm: the next user finds it.
    pub(super) fn attach_volume(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        self.attach_all(cx, at, mode).inspect_err(|_| drop(self.detach_volume(&cx.uncancellable(), at)))
    }

    fn attach_all(&self, cx: &Cx<'_>, at: &Place, mode: Mode) -> Result<Attached> {
        let look = self.look(cx)?;
        let main = look.main(at).ok_or_else(|| StorageError::not_found(at))?;
        let parts: Vec<&Found> = look.parts.iter().filter(|found| found.place == *at).collect();
        self.make_room(cx, &look);
        self.activate(cx, true, &parts)?;
        let mut attached = Attached::default();
        for found in parts {
            let device = self.device(&found.lv.name);
            if has_filesystem(at, found.part) {
                attached.directory = Some(self.mount(cx, at, main, mode)?);
            } else {
                if let Some(from) = grown_from(&found.lv) {
                    self.clear_grown(cx, found, from, found.lv.size)?;
                }
                attached.disk = Some(device);
            }
        }
        Ok(attached)
    }

    fn mount(&self, cx: &Cx<'_>, at: &Place, main: &Found, mode: Mode) -> Result<PathBuf> {
        let target = self.mount_point(at);
        if is_mounted(&target) {
            // Left by a run that was cut off, or in use by an instance that goes on.
            if mode == Mode::ReadOnly || is_writable(&target) {
                return Ok(target);
            }
            cx.act(&FsAct::Unmount { target })?;
        }
        let on_device = self.on_device(cx, at, self.device(&main.lv.name), &main.lv)?;
        let options = match at.snapshot.is_some() && self.is_thin() {
            true => on_device.filesystem.snapshot_options().to_owned(),
            false => mount_options(&main.lv),
        };
        on_device.mount(cx, &options, mode)
    }

    pub(super) fn detach_volume(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.unmount(cx, at)?;
        self.activate_lvs(cx, false, &self.active_lvs(at))
    }

    /// What counts as the volume's size: its disk where it has one, else its filesystem.
    fn measured<'a>(&self, look: &'a Look, at: &Place) -> Result<&'a Found> {
        let part = if at.volume.has_two_parts() { Part::Disk } else { Part::Main };
        look.main(at).and_then(|_| look.part(at, part)).ok_or_else(|| StorageError::not_found(at))
    }

    pub(super) fn volume_usage(&self, cx: &Cx<'_>, at: &Place) -> Result<VolumeUsage> {
        self.usage_in(&self.look(cx)?, at)
    }

    pub(super) fn usage_in(&self, look: &Look, at: &Place) -> Result<VolumeUsage> {
        let found = self.measured(look, at)?;
        let target = self.mount_point(at);
        let inside = (has_filesystem(at, found.part) && is_mounted(&target))
            .then(|| usage(&target).ok()?.used_bytes)
            .flatten();
        Ok(VolumeUsage {
            used_bytes: inside.or_else(|| written(&found.lv)),
            total_bytes: Some(found.lv.size),
        })
    }

    pub(super) fn resize_volume(&self, cx: &Cx<'_>, at: &Place, size: Option<ByteSize>) -> Result<()> {
        let look = self.look(cx)?;
        let found = self.measured(&look, at)?;
        // A logical volume always has a size: without another one it keeps what it has.
        let Some(size) = size.filter(|size| size.as_bytes() > 0) else { return Ok(()) };
        let too_large = || StorageError::new(ErrorKind::Invalid, format!("the size {size} is too large"));
        let size = size.round_up(found.lv.extent).ok_or_else(too_large)?;
        if !has_filesystem(at, found.part) {
            return self.resize_disk(cx, found, size);
        }
        let was_active = found.lv.is_active;
        self.activate(cx, true, &[found])?;
        let on_device = self.on_device(cx, at, self.device(&found.lv.name), &found.lv)?;
        let resized = on_device.resize(cx, found.lv.size, size.as_bytes(), || {
            if size.as_bytes() < found.lv.size {
                self.reduce(cx, found, size)
            } else {
                self.extend(cx, found, size)
            }
        });
        if !was_active {
            self.activate_lvs(cx, false, std::slice::from_ref(&found.lv.name))?;
        }
        resized
    }

    fn reduce(&self, cx: &Cx<'_>, found: &Found, size: ByteSize) -> Result<()> {
        let cmd = change(LVREDUCE).args(["--force", "--size", &bytes(size)]);
        run(cx, &cmd.arg(self.full(&found.lv.name))).map(|_| ())
    }

    /// A thick disk is noted to have grown before it does, until what it got is cleared: whoever comes next goes on with that.
    fn resize_disk(&self, cx: &Cx<'_>, found: &Found, size: ByteSize) -> Result<()> {
        let grows = must_grow(&found.place, found.lv.size, size.as_bytes())?;
        if self.is_thin() {
            return if grows { self.extend(cx, found, size) } else { Ok(()) };
        }
        let noted = grown_from(&found.lv);
        let from = noted.unwrap_or(found.lv.size);
        if grows {
            if noted.is_none() {
                self.note_growth(cx, found, "--addtag", from)?;
            }
            self.extend(cx, found, size)?;
        } else if noted.is_none() {
            return Ok(());
        }
        // It is in nobody's use.
        self.activate(cx, true, &[found])?;
        let cleared = self.clear_grown(cx, found, from, size.as_bytes());
        if !found.lv.is_active {
            // What was found of it is from before it was active.
            self.activate_lvs(&cx.uncancellable(), false, std::slice::from_ref(&found.lv.name))?;
        }
        cleared
    }

    /// Clears what an active disk of `size` bytes has more than `from`, and forgets that it has grown.
    fn clear_grown(&self, cx: &Cx<'_>, found: &Found, from: u64, size: u64) -> Result<()> {
        if from < size {
            run(cx, &clear(&self.device(&found.lv.name), from))?;
        }
        self.note_growth(cx, found, "--deltag", from)
    }

    fn note_growth(&self, cx: &Cx<'_>, found: &Found, how: &str, from: u64) -> Result<()> {
        let cmd = change(LVCHANGE).args([how, &format!("{GROWN_TAG}{from}")]);
        run(cx, &cmd.arg(self.full(&found.lv.name))).map(drop)
    }

    fn extend(&self, cx: &Cx<'_>, found: &Found, size: ByteSize) -> Result<()> {
        let cmd = change(LVEXTEND).args(["--size", &bytes(size)]);
        run(cx, &cmd.arg(self.full(&found.lv.name))).map(|_| ())
    }
}

/// How large a disk was before it grew by what is not cleared yet.
fn grown_from(lv: &Lv) -> Option<u64> {
    lv.tags.iter().find_map(|tag| tag.strip_prefix(GROWN_TAG)?.parse().ok())
}

/// The tag that keeps a volume's mount options. Fails with kind `Invalid` for what no tag can hold.
fn mount_tag(options: &str) -> Result<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_+.-/=,".contains(c);
    if options.chars().all(is_allowed) {
        return Ok(format!("{MOUNT_TAG}{}", options.replace(',', ":")));
    }
    let message = format!("block.mount_options can't be {options:?}: use options with commas between them");
    Err(StorageError::new(ErrorKind::Invalid, message))
}

fn mount_options(lv: &Lv) -> String {
    let tagged = lv.tags.iter().find_map(|tag| tag.strip_prefix(MOUNT_TAG));
    tagged.map_or_else(|| DEFAULT_MOUNT.to_owned(), |options| options.replace(':', ","))
}

#[cfg(test)]
mod tests {
    use super::super::command::{LVS, report};
    use super::super::report::LV_COLUMNS;
    use super::*;
    use crate::PoolSetup;
    use larder_base::host::ScriptedHost;
    use larder_base::{Cancel, Progress, Ticket};
    use larder_storage_driver::VolumeId;

    #[test]
    fn mount_options_survive_in_a_tag() {
        assert_eq!(mount_tag("noatime,discard").unwrap(), "larder_mount=noatime:discard");
        let refused = mount_tag("context=\"x y\"").unwrap_err();
        assert!(refused.to_string().contains("block.mount_options"), "{refused}");
    }

    const DISK: &str = "p1/custom_default_v1.block";
    const MIB: u64 = 1 << 20;

    /// The command that looks, and what it finds: a thick disk, with a tag of its growth perhaps.
    fn look(mebibytes: u64, tags: &str) -> (String, String) {
        let row = serde_json::json!({
            "lv_name": "custom_default_v1.block", "lv_tags": tags, "lv_size": (mebibytes * MIB).to_string(), "pool_lv": "",
            "segtype": "linear", "lv_active": "", "data_percent": "", "metadata_percent": "",
            "vg_extent_size": (4 * MIB).to_string(), "vg_free": (64 * MIB).to_string(),
        });
        let cmd = report(LVS, LV_COLUMNS).arg("p1").to_string();
        (cmd, serde_json::json!({ "report": [{ "lv": [row] }] }).to_string())
    }

    fn changes(what: &str) -> String {
        let (tool, words) = what.split_once(' ').unwrap();
        format!("{tool} --quiet --yes {words} {DISK}")
    }

    fn on<T>(host: &ScriptedHost, work: impl FnOnce(&Lvm, &Cx<'_>, &Place) -> T) -> T {
        let driver = Lvm::new(PoolSetup::with_keys(&[("lvm.use_thinpool", "false")])).unwrap();
        let ticket = Ticket::new("none", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let cx = Cx::new(host, Progress::silent(), Cancel::never(), ticket);
        let id = VolumeId::custom(Content::Block, "default".parse().unwrap(), "v1".parse().unwrap());
        work(&driver, &cx, &Place::live(&id))
    }

    #[test]
    fn a_grown_disk_that_could_not_be_cleared_is_cleared_by_whoever_comes_next() {
        let grow = |driver: &Lvm, cx: &Cx<'_>, at: &Place| {
            driver.resize_volume(cx, at, Some(ByteSize::from_mebibytes(8)))
        };
        let clear = "blkdiscard --zeroout --offset 4194304 /dev/p1/custom_default_v1.block";
        let active = |word: &str| changes(&format!("lvchange --activate {word} --ignoreactivationskip"));
        let (add, forget) = (
            changes("lvchange --addtag larder_clear=4194304"),
            changes("lvchange --deltag larder_clear=4194304"),
        );
        let (lvs, small) = look(4, "");
        let (_, grown) = look(8, "larder_clear=4194304");
        let host = ScriptedHost::new()
            .answers(&lvs, &small)
            .answers(&add, "")
            .answers(&changes("lvextend --size 8388608b"), "")
            .answers(&active("y"), "")
            .fails(clear, "Input/output error")
            .answers(&active("n"), "");
        on(&host, grow).unwrap_err();
        assert_eq!(host.transcript().len(), 6);
        // The same again: as large as it shall be, and not cleared.
        let host = ScriptedHost::new()
            .answers(&lvs, &grown)
            .answers(&active("y"), "")
            .answers(clear, "")
            .answers(&forget, "")
            .answers(&active("n"), "");
        on(&host, grow).unwrap();
        assert_eq!(host.transcript().len(), 5);
        let host = ScriptedHost::new()
            .answers(&lvs, &grown)
            .answers(&active("y"), "")
            .answers(clear, "")
            .answers(&forget, "");
        on(&host, |driver, cx, at| driver.attach_volume(cx, at, Mode::ReadOnly)).unwrap();
        // It had not grown after all.
        let (_, as_before) = look(4, "larder_clear=4194304");
        let host =
            ScriptedHost::new().answers(&lvs, &as_before).answers(&active("y"), "").answers(&forget, "");
        on(&host, |driver, cx, at| driver.attach_volume(cx, at, Mode::ReadWrite)).unwrap();
    }
}
