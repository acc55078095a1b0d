//! One name for another: moves, the swap of a restore, and removal. A logical volume takes its new name in one step.

use super::command::{LVCHANGE, LVREMOVE, LVRENAME, change, run};
use super::names::{Found, Part, is_place_tag, tag};
use super::{Look, Lvm};
use larder_storage_driver::{Area, Cx, ErrorKind, Need, Place, Result, StorageError};

impl Lvm {
    pub(super) fn move_place(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.no_longer_alone(&to.main());
        if self.no_longer_alone(from) && to.is_live() && self.publish_alone(cx, from, to).is_ok() {
            return Ok(());
        }
        let look = self.look(cx)?;
        match (look.main(from), look.main(to)) {
            (Some(_), Some(_)) => return Err(StorageError::already_exists(to)),
            (None, None) if look.of(to).is_empty() => return Err(StorageError::not_found(from)),
            _ => {}
        }
        let mut moving = look.of(from);
        // The main part goes last to a live name, and first from it.
        moving.sort_by_key(|found| {
            let is_main = found.part == Part::Main && found.place.snapshot == from.snapshot;
            if to.is_live() { is_main } else { !is_main }
        });
        let target = |found: &Found| Place { snapshot: found.place.snapshot.clone(), ..to.main() };
        let target = |found: &Found| if from.snapshot.is_some() { to.clone() } else { target(found) };
        for found in &moving {
            self.names.check(&target(found))?;
        }
        self.release(cx, &moving)?;
        self.tag_next(cx, &moving, to)?;
        for found in &moving {
            self.rename_lv(cx, &found.lv.name, &self.names.lv(&target(found), found.part))?;
        }
        Ok(())
    }

    /// Renames what is a single logical volume. When that is refused, a look tells why.
    fn publish_alone(&self, cx: &Cx<'_>, from: &Place, to: &Place) -> Result<()> {
        self.names.check(to)?;
        self.unmount(cx, from)?;
        self.rename_lv(cx, &self.names.lv(from, Part::Main), &self.names.lv(to, Part::Main))
    }

    /// Writes beside volumes where they go, before they are called so; what says where they were long ago goes.
    fn tag_next(&self, cx: &Cx<'_>, moving: &[&Found], to: &Place) -> Result<()> {
        if moving.is_empty() || to.is_live() {
            return Ok(());
        }
        let wanted = tag(to);
        let mut cmd = change(LVCHANGE).args(["--addtag", &wanted]);
        let mut stale: Vec<&String> = moving
            .iter()
            .flat_map(|found| {
                let now = tag(&found.place);
                found.lv.tags.iter().filter(move |tag| is_place_tag(tag) && **tag != now)
            })
            .filter(|tag| **tag != wanted)
            .collect();
        stale.sort();
        stale.dedup();
        for tag in stale {
            cmd = cmd.args(["--deltag", tag]);
        }
        run(cx, &cmd.args(moving.iter().map(|found| self.full(&found.lv.name)))).map(|_| ())
    }

    fn rename_lv(&self, cx: &Cx<'_>, from: &str, to: &str) -> Result<()> {
        run(cx, &change(LVRENAME).args([&self.names.vg, from, to])).map(|_| ())
    }

    /// The same; whatever the tool said, it is done when the old name is gone and the new one is there.
    fn rename_surely(&self, cx: &Cx<'_>, from: &str, to: &str) -> Result<()> {
        let Err(error) = self.rename_lv(cx, from, to) else { return Ok(()) };
        let volumes = self.volumes(&cx.uncancellable())?;
        let is_there = |name: &str| volumes.iter().any(|lv| lv.name == name);
        if is_there(to) && !is_there(from) { Ok(()) } else { Err(error) }
    }

    pub(super) fn remove_place(&self, cx: &Cx<'_>, at: &Place) -> Result<()> {
        self.no_longer_alone(at);
        let look = self.look(cx)?;
        let mut going = look.of(at);
        self.release(cx, &going)?;
        // What is listed goes last, so that what is left of an interrupted call is listed.
        going.sort_by_key(|found| (found.part, found.place.snapshot.is_none()));
        self.remove_lvs(cx, going.iter().map(|found| found.lv.name.as_str()))
    }

    pub(super) fn remove_lvs<'a>(&self, cx: &Cx<'_>, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let names: Vec<String> = names.map(|name| self.full(name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        run(cx, &change(LVREMOVE).arg("--force").args(names)).map(|_| ())
    }

    /// Swaps a staged volume with a live one, whose old content waits under a name of the trash in between. When the live
    /// one is missing, since an earlier call was cut off, the staged one takes its place.
    pub(super) fn exchange_places(&self, cx: &Cx<'_>, one: &Place, other: &Place) -> Result<()> {
        let (staged, live) = if one.is_live() { (other, one) } else { (one, other) };
        let (Area::Staging(ticket), Area::Live) = (&staged.area, &live.area) else {
            let message = format!("{one} and {other} can't be exchanged: one must be live, the other staged");
            return Err(StorageError::unsupported(Need::Exchange, message));
        };
        self.no_longer_alone(staged);
        let aside = staged.trashed(ticket);
        let look = self.look(cx)?;
        let parts = Part::of(&live.volume);
        let has = |part: &Part| look.part(staged, *part).is_some();
        if !parts.iter().all(has) {
            return Err(StorageError::not_found(staged));
        }
        let exchanged: Vec<&Found> =
            look.parts.iter().filter(|found| found.place == *staged || found.place == *live).collect();
        self.release(cx, &exchanged)?;
        let old: Vec<&Found> = exchanged.iter().copied().filter(|found| found.place == *live).collect();
        self.tag_both(cx, &old, &aside, staged)?;
        for part in parts {
            self.exchange_part(cx, &look, [staged, live, &aside], *part)?;
        }
        Ok(())
    }

    /// A volume that was live is called by both in turn.
    fn tag_both(&self, cx: &Cx<'_>, old: &[&Found], aside: &Place, staged: &Place) -> Result<()> {
        if old.is_empty() {
            return Ok(());
        }
        let cmd = change(LVCHANGE).args(["--addtag", &tag(aside), "--addtag", &tag(staged)]);
        run(cx, &cmd.args(old.iter().map(|found| self.full(&found.lv.name)))).map(|_| ())
    }

    fn exchange_part(
        &self,
        cx: &Cx<'_>,
        look: &Look,
        [staged, live, aside]: [&Place; 3],
        part: Part,
    ) -> Result<()> {
        let name = |at: &Place| self.names.lv(at, part);
        let live_name = look.part(live, part).map_or_else(|| name(live), |found| found.lv.name.clone());
        let is_there = look.part(live, part).is_some();
        if look.part(aside, part).is_some() && is_there {
            self.remove_lvs(cx, std::iter::once(name(aside).as_str()))?;
        }
        if is_there {
            self.rename_surely(cx, &live_name, &name(aside))?;
        }
        if let Err(error) = self.rename_surely(cx, &name(staged), &live_name) {
            if !is_there {
                return Err(error);
            }
            let back = self.rename_surely(&cx.uncancellable(), &name(aside), &live_name);
            return Err(error.with_undo_failures(back.err().into_iter().collect()));
        }
        if is_there || look.part(aside, part).is_some() {
            // The new content is in place: if the old one can't be handed out, it can go.
            self.rename_surely(cx, &name(aside), &name(staged))
                .or_else(|_| self.remove_if_there(&cx.uncancellable(), &name(aside)))?;
        }
        Ok(())
    }

    fn remove_if_there(&self, cx: &Cx<'_>, name: &str) -> Result<()> {
        let is_there = self.volumes(cx)?.iter().any(|lv| lv.name == name);
        self.remove_lvs(cx, is_there.then_some(name).into_iter())
    }

    /// Refuses a name that is taken, before the first step.
    pub(super) fn must_be_free(&self, look: &Look, at: &Place) -> Result<()> {
        match look.main(at) {
            Some(_) => Err(StorageError::new(ErrorKind::AlreadyExists, format!("{at} already exists"))),
            None => Ok(()),
        }
    }
}
