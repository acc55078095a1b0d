//! When a snapshot goes and what it is called, from a volume's `snapshots.*` keys.

use super::{Result, ServiceError};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use larder_storage_driver::Config;

/// When a snapshot made `now` goes, by `snapshots.expiry`; `None` when it stays.
pub(super) fn expiry_of(config: &Config, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(text) = config.get("snapshots.expiry").filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    after(text, now).map(Some)
}

/// Refuses a time for a snapshot to go that has passed already.
pub(super) fn must_be_ahead(at: Option<Timestamp>, now: Timestamp, snapshot: &str) -> Result<()> {
    match at {
        Some(at) if at <= now => Err(ServiceError::bad(format!(
            "the expiry {at} of snapshot {snapshot:?} has passed already: give a later one"
        ))),
        _ => Ok(()),
    }
}

/// The time `text` (such as `1d 6H`; units S M H d w m y) after `now`.
fn after(text: &str, now: Timestamp) -> Result<Timestamp> {
    let refuse = || {
        ServiceError::bad(format!(
            "invalid expiry {text:?}: give numbers with a unit, such as 1d 6H (S M H d w m y)"
        ))
    };
    let mut span = Span::new();
    for part in text.split_whitespace() {
        let unit = part.chars().next_back().ok_or_else(refuse)?;
        let number: u32 = part[..part.len() - unit.len_utf8()].parse().map_err(|_| refuse())?;
        let number = i64::from(number);
        let step = match unit {
            'S' => Span::new().try_seconds(number),
            'M' => Span::new().try_minutes(number),
            'H' => Span::new().try_hours(number),
            'd' => Span::new().try_days(number),
            'w' => Span::new().try_weeks(number),
            'm' => Span::new().try_months(number),
            'y' => Span::new().try_years(number),
            _ => return Err(refuse()),
        };
        let sum = step.and_then(|step| now.to_zoned(TimeZone::UTC).checked_add(span).map(|at| (at, step)));
        let (at, step) = sum.map_err(|_| refuse())?;
        let end = at.checked_add(step).map_err(|_| refuse())?;
        span = (end.timestamp() - now).round(jiff::Unit::Second).unwrap_or(0.seconds());
    }
    now.checked_add(span).map_err(|_| refuse())
}

/// A name that is not `taken`: `%d` in the pattern counts up, the peers' `creation_date` is filled in, and a number is
/// added to a pattern that has none.
pub(super) fn name_from_pattern(pattern: &str, taken: &[String], now: Timestamp) -> String {
    let date = now.strftime("%Y-%m-%d_%H-%M-%S").to_string();
    let mut filled = pattern.to_owned();
    if let (Some(start), Some(end)) = (pattern.find("{{"), pattern.rfind("}}"))
        && start < end
        && pattern[start..end].contains("creation_date")
    {
        filled.replace_range(start..end + 2, &date);
    }
    if !filled.contains("%d") {
        if !taken.contains(&filled) {
            return filled;
        }
        filled.push_str("-%d");
    }
    let (before, after) = filled.split_once("%d").unwrap_or((&filled, ""));
    let number = |name: &String| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
    let next = taken.iter().filter_map(number).max().map_or(0, |highest| highest.saturating_add(1));
    format!("{before}{next}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn lifetimes_add_up_in_calendar_time() {
        assert_eq!(after("1d 6H", now()).unwrap().to_string(), "2026-02-01T18:00:00Z");
        assert_eq!(after("1m", now()).unwrap().to_string(), "2026-02-28T12:00:00Z");
        assert_eq!(after("1y", now()).unwrap().to_string(), "2027-01-31T12:00:00Z");
        for bad in ["1x", "d", "-1d", "99999999999d", "4294967295y"] {
            assert!(after(bad, now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_count_up_and_never_collide() {
        let taken = ["snap0", "snap7", "other"].map(str::to_owned);
        assert_eq!(name_from_pattern("snap%d", &taken, now()), "snap8");
        assert_eq!(name_from_pattern("other", &taken, now()), "other-0");
        assert_eq!(name_from_pattern("fresh", &taken, now()), "fresh");
        let dated = name_from_pattern("at-{{ creation_date|date:'2006-01-02' }}", &taken, now());
        assert_eq!(dated, "at-2026-01-31_12-00-00");
    }
}
