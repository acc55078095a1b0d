//! Snapshots that are made by a schedule (`snapshots.schedule`), of volumes and of instances.

use super::work::Requestor;
use super::{NewSnapshot, Result, Service, ServiceError, Task, VolumeRecord, lifetime};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use larder_catalog::VolumeId;
use larder_catalog::documents::{Instance, VolumeState};
use larder_runtime::Status;
use larder_storage_driver::{Config, VolumeKind, is_true};
use parking_lot::Mutex;
use std::collections::HashSet;

pub(super) const KEY: &str = "snapshots.schedule";
/// What people write for common times, as cron lines.
const ALIASES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@annually", "0 0 1 1 *"),
    ("@yearly", "0 0 1 1 *"),
];
/// Of instances only: at every start, and not even when a profile says so.
const AT_START: &str = "@startup";
const NEVER: &str = "@never";

/// When the schedules were last looked at: what was due while nobody looked is not made up for.
#[derive(Debug)]
pub(super) struct Looked {
    at: Mutex<Timestamp>,
    /// The volumes whose snapshot was due while they were being changed.
    put_off: Mutex<HashSet<VolumeId>>,
}

impl Looked {
    pub(super) fn at(now: Timestamp) -> Self {
        Self { at: Mutex::new(now), put_off: Mutex::default() }
    }
}

/// One look at the schedules.
struct Look {
    since: Zoned,
    now: Zoned,
    /// What the look before put off.
    put_off: HashSet<VolumeId>,
}

/// Times at which snapshots are made.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    times: Vec<Cron>,
    at_start: bool,
}

impl Schedule {
    /// The schedule of a volume: a cron line of five fields, or words such as `@daily` with commas between.
    pub(super) fn of_volume(config: &Config) -> Result<Self> {
        Self::of_volumes(config, KEY)
    }

    /// The same by another key.
    pub(super) fn of_volumes(config: &Config, key: &str) -> Result<Self> {
        let text = config.get(key).map_or("", String::as_str);
        let schedule = Self::read(text)?;
        match text.split(',').any(|part| [AT_START, NEVER].contains(&part.trim())) {
            true => Err(refused(text, &format!("{AT_START} and {NEVER} are for instances only"))),
            false => Ok(schedule),
        }
    }

    /// The schedule of an instance: also at its starts.
    pub(super) fn of_instance(config: &Config) -> Result<Self> {
        Self::read(config.get(KEY).map_or("", String::as_str))
    }

    fn read(text: &str) -> Result<Self> {
        let mut schedule = Self::default();
        if text.trim().is_empty() {
            return Ok(schedule);
        }
        if !text.trim_start().starts_with('@') {
            schedule.times.push(parsed(text, text)?);
            return Ok(schedule);
        }
        for part in text.split(',').map(str::trim) {
            match ALIASES.iter().find(|(alias, _)| *alias == part) {
                Some((_, line)) => schedule.times.push(parsed(text, line)?),
                None if part == AT_START => schedule.at_start = true,
                None if part == NEVER => return Ok(Self::default()),
                None => return Err(refused(text, &format!("{part:?} is no such word"))),
            }
        }
        Ok(schedule)
    }

    /// Whether a time of it lies after `since`, and not after `now`.
    fn is_due(&self, since: &Zoned, now: &Zoned) -> bool {
        let next = |cron: &Cron| cron.find_next_occurrence(since, false).is_ok_and(|next| next <= *now);
        self.times.iter().any(next)
    }
}

fn parsed(text: &str, line: &str) -> Result<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(line).map_err(|error| refused(text, &error.to_string()))
}

fn refused(text: &str, why: &str) -> ServiceError {
    let words: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
    ServiceError::bad(format!(
        "invalid value {text:?} of key {KEY:?}: {why}; it must be {}, or a cron line of five fields",
        words.join(", ")
    ))
}

impl Service {
    /// Makes the snapshots that are due since the last look. Goes on after a failure; returns how many were made.
    pub fn make_scheduled_snapshots(&self) -> Result<usize> {
        let now = self.clock.now();
        let since = std::mem::replace(&mut *self.looked.at.lock(), now);
        let zone = TimeZone::system();
        let look = Look {
            since: since.to_zoned(zone.clone()),
            now: now.to_zoned(zone),
            put_off: std::mem::take(&mut *self.looked.put_off.lock()),
        };
        let mut made = 0;
        for record in self.store.volumes()? {
            let volume = &record.volume;
            let may_have_one =
                volume.kind == VolumeKind::Custom.as_str() && volume.state == VolumeState::Ready;
            let schedule = || Schedule::of_volume(&volume.config);
            if !may_have_one || !self.is_due_now(volume.id, &volume.name, schedule(), &look) {
                continue;
            }
            match self.scheduled_snapshot(&record) {
                Ok(()) => made += 1,
                Err(error) => {
                    tracing::warn!(volume = volume.name, %error, "a snapshot that was due is not made");
                }
            }
        }
        for (instance, expanded) in self.expanded_each(self.store.all_instances()?)? {
            match self.scheduled_snapshot_of(&instance, &expanded.config, &look) {
                Ok(false) => {}
                Ok(true) => made += 1,
                Err(error) => {
                    tracing::warn!(instance = instance.name, %error, "a snapshot that was due is not made");
                }
            }
        }
        Ok(made)
    }

    /// Whether the snapshot of a volume is to be made now. One that is being changed is put off to the next look, for which
    /// the others don't wait.
    fn is_due_now(&self, volume: VolumeId, of: &str, schedule: Result<Schedule>, look: &Look) -> bool {
        if !is_due(of, schedule, &look.since, &look.now) && !look.put_off.contains(&volume) {
            return false;
        }
        let is_busy = self.volume_claims.is_taken(&volume);
        if is_busy {
            self.looked.put_off.lock().insert(volume);
        }
        !is_busy
    }

    fn scheduled_snapshot(&self, record: &VolumeRecord) -> Result<()> {
        let task = Task::quiet(Requestor::default());
        let pool = self.open_pool(&self.store.pool_by_id(record.volume.pool)?.name)?;
        let new = NewSnapshot {
            name: self.next_snapshot_name(record)?,
            description: String::new(),
            expires_at: Some(lifetime::expiry_of(&record.volume.config, self.clock.now())?),
        };
        self.create_snapshot(&task, &pool, record, new)
    }

    fn scheduled_snapshot_of(&self, instance: &Instance, config: &Config, look: &Look) -> Result<bool> {
        let Some(root) = instance.root else { return Ok(false) };
        if !self.is_due_now(root, &instance.name, Schedule::of_instance(config), look) {
            return Ok(false);
        }
        let takes_stopped = config.get("snapshots.schedule.stopped").is_some_and(|value| is_true(value));
        if !takes_stopped && self.instance_status(instance)? == Status::Stopped {
            return Ok(false);
        }
        self.snapshot_by_schedule(&Task::quiet(Requestor::default()), instance, config)?;
        Ok(true)
    }

    /// Makes the snapshot of an instance that is due at each of its starts.
    pub(super) fn make_snapshot_at_start(&self, task: &Task, instance: &Instance, config: &Config) {
        let is_due = Schedule::of_instance(config).is_ok_and(|schedule| schedule.at_start);
        if is_due && let Err(error) = self.snapshot_by_schedule(task, instance, config) {
            tracing::warn!(instance = instance.name, %error, "the snapshot at the start is not made");
        }
    }

    fn snapshot_by_schedule(&self, task: &Task, instance: &Instance, config: &Config) -> Result<()> {
        let name = self.next_instance_snapshot_name(instance)?;
        let expires_at = lifetime::expiry_of(config, self.clock.now())?;
        self.snapshot_instance(task, instance, &name, Some(expires_at))
    }
}

/// Whether a schedule is due; one that can't be read, of an earlier version perhaps, is not.
fn is_due(of: &str, schedule: Result<Schedule>, since: &Zoned, now: &Zoned) -> bool {
    match schedule {
        Ok(schedule) => schedule.is_due(since, now),
        Err(error) => {
            tracing::warn!(of, %error, "a schedule of snapshots can't be read");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::trial::{World, new_volume, task, volumes_in};
    use jiff::SignedDuration;

    fn schedule(text: &str) -> Result<Schedule> {
        Schedule::of_instance(&Config::from([(KEY.to_owned(), text.to_owned())]))
    }

    fn is_due(text: &str, since: &str, now: &str) -> bool {
        let at = |text: &str| format!("2026-03-01T{text}[Europe/Berlin]").parse().unwrap();
        schedule(text).unwrap().is_due(&at(since), &at(now))
    }

    #[test]
    fn a_time_is_due_once_and_not_before() {
        assert!(!is_due("0 6 * * *", "05:58:10", "05:59:59"));
        assert!(is_due("0 6 * * *", "05:59:59", "06:00:30"));
        assert!(!is_due("0 6 * * *", "06:00:30", "06:01:30"));
        assert!(is_due("@hourly, @yearly", "11:30:00", "12:00:00"));
        assert!(!is_due("", "00:00:00", "23:59:00") && !is_due("@never", "00:00:00", "23:59:00"));
        assert!(
            !is_due("@startup", "00:00:00", "23:59:00") && schedule("@hourly,@startup").unwrap().at_start
        );
    }

    #[test]
    fn snapshots_are_made_when_they_are_due_and_go_in_their_time() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let pool = service.open_pool("p1").unwrap();
        let keys = [(KEY, "0 * * * *"), ("snapshots.expiry", "1d"), ("snapshots.pattern", "hour%d")];
        service.create_volume(&task(), &pool, new_volume("v", &keys)).unwrap();
        service.create_volume(&task(), &pool, new_volume("w", &[])).unwrap();
        let mut made = Vec::new();
        for _ in 0..5 {
            world.clock.advance(SignedDuration::from_mins(1));
            made.push(service.make_scheduled_snapshots().unwrap());
        }
        assert_eq!(made, [0, 1, 0, 0, 0]);
        let records = volumes_in(&service, &pool);
        let mut found = Vec::new();
        for record in &records {
            for snapshot in service.store.snapshots_of(&record.volume).unwrap() {
                found.push((record.volume.name.clone(), snapshot.name, snapshot.expires_at));
            }
        }
        let expires_at = "2026-03-02T12:00:30Z".parse().ok();
        assert_eq!(found, [("v".to_owned(), "hour0".to_owned(), expires_at)]);
        world.clock.advance(SignedDuration::from_hours(30));
        assert_eq!(service.delete_expired_snapshots().unwrap(), 1);
    }

    #[test]
    fn a_volume_that_is_being_changed_holds_up_no_other() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let pool = service.open_pool("p1").unwrap();
        let keys = [(KEY, "0 * * * *"), ("snapshots.expiry", "1d")];
        for name in ["v", "w"] {
            service.create_volume(&task(), &pool, new_volume(name, &keys)).unwrap();
        }
        let busy = volumes_in(&service, &pool).remove(0);
        let in_time = |length: SignedDuration| world.clock.advance(length);
        let claim = service.claim_volume(&task(), &busy.volume).unwrap();
        in_time(SignedDuration::from_mins(2));
        assert_eq!(service.make_scheduled_snapshots().unwrap(), 1);
        drop(claim);
        in_time(SignedDuration::from_mins(1));
        assert_eq!(service.make_scheduled_snapshots().unwrap(), 1, "it is made at the next look");
        in_time(SignedDuration::from_mins(1));
        assert_eq!(service.make_scheduled_snapshots().unwrap(), 0);
        in_time(SignedDuration::from_hours(30));
        let busy = service.store.volume_by_id(busy.volume.id).unwrap().unwrap();
        let claim = service.claim_volume(&task(), &busy.volume).unwrap();
        assert_eq!(service.delete_expired_snapshots().unwrap(), 1);
        drop(claim);
        assert_eq!(service.delete_expired_snapshots().unwrap(), 1);
    }

    #[test]
    fn a_volume_s_schedule_is_looked_at_before_it_is_made() {
        let world = World::new();
        let service = world.with_pools(&["p1"]);
        let pool = service.open_pool("p1").unwrap();
        let refused = service.create_volume(&task(), &pool, new_volume("v", &[(KEY, "99 * * * *")]));
        assert!(refused.unwrap_err().message.contains("99 * * * *"));
        assert!(volumes_in(&service, &pool).is_empty());
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in ["at noon", "99 * * * *", "@daily,0 6 * * *", "@often", "* * * * * *", "@daily,"] {
            let error = schedule(bad).unwrap_err();
            assert!(error.message.contains(KEY) && error.message.contains(bad), "{bad}: {error:?}");
        }
        for word in [AT_START, NEVER] {
            let config = Config::from([(KEY.to_owned(), word.to_owned())]);
            assert!(Schedule::of_volume(&config).unwrap_err().message.contains("instances only"));
        }
    }
}
