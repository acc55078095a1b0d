//! When a snapshot goes and what it is called, from a volume's `snapshots.*` keys.

use super::{Result, ServiceError};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use larder_storage_driver::Config;
use regex::{Captures, Regex};
use std::sync::LazyLock;

/// When a snapshot made `now` goes, by `snapshots.expiry`; `None` when it stays.
pub(super) fn expiry_of(config: &Config, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(text) = config.get("snapshots.expiry").filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    after(text, now).map(Some)
}

/// When a snapshot that a person makes `now` goes: by `snapshots.expiry.manual`, or as any other.
pub(super) fn manual_expiry_of(config: &Config, now: Timestamp) -> Result<Option<Timestamp>> {
    match config.get("snapshots.expiry.manual").filter(|text| !text.trim().is_empty()) {
        Some(text) => after(text, now).map(Some),
        None => expiry_of(config, now),
    }
}

/// Refuses lifetimes that can't be read.
pub(super) fn check(config: &Config) -> Result<()> {
    let now = Timestamp::UNIX_EPOCH;
    expiry_of(config, now).and(manual_expiry_of(config, now)).map(drop)
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
    let mut filled = dated(pattern, &now.to_zoned(TimeZone::system()));
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

/// A pattern with the time in it: `{{ creation_date }}`, or with a form as Go has it,
/// `{{ creation_date|date:'2006-01-02' }}`.
fn dated(pattern: &str, now: &Zoned) -> String {
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        let form = r#"\{\{\s*creation_date\s*(?:\|\s*date\s*:\s*(?:'([^']*)'|"([^"]*)")\s*)?\}\}"#;
        #[expect(clippy::expect_used, reason = "constant")]
        Regex::new(form).expect("a pattern")
    });
    let date = DATE.replace_all(pattern, |found: &Captures<'_>| {
        let form = found.get(1).or_else(|| found.get(2)).map_or("2006-01-02_15-04-05", |form| form.as_str());
        now.strftime(&as_strftime(form)).to_string()
    });
    date.into_owned()
}

/// The parts of a time in Go's example of one, each with strftime's letter; of two that begin alike the longer comes first.
const PARTS: [(&str, &str); 21] = [
    ("2006", "%Y"),
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("-0700", "%z"),
    ("1", "%-m"),
    ("2", "%-d"),
    ("3", "%-I"),
    ("4", "%-M"),
    ("5", "%-S"),
];

fn as_strftime(form: &str) -> String {
    let (mut left, mut written) = (form, String::new());
    while let Some(letter) = left.chars().next() {
        match PARTS.iter().find(|(part, _)| left.starts_with(part)) {
            Some((part, specifier)) => {
                written.push_str(specifier);
                left = &left[part.len()..];
            }
            None => {
                written.push_str(if letter == '%' { "%%" } else { &left[..letter.len_utf8()] });
                left = &left[letter.len_utf8()..];
            }
        }
    }
    written
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
    }

    #[test]
    fn a_pattern_tells_the_time_of_the_place_in_any_form() {
        let now: Zoned = "2026-01-31T09:05:07[Europe/Berlin]".parse().unwrap();
        for (pattern, expected) in [
            ("at-{{ creation_date|date:'2006-01-02' }}", "at-2026-01-31"),
            ("{{creation_date | date: \"02Jan06_15-04-05\"}}-%d", "31Jan26_09-05-07-%d"),
            ("{{ creation_date|date:'2.1.2006 %' }}", "31.1.2026 %"),
            ("{{ creation_date }}", "2026-01-31_09-05-07"),
            ("{{ other }}", "{{ other }}"),
        ] {
            assert_eq!(dated(pattern, &now), expected, "{pattern}");
        }
    }

    #[test]
    fn a_person_s_snapshot_has_a_life_of_its_own() {
        let mut config = Config::from([("snapshots.expiry".to_owned(), "1d".to_owned())]);
        let told = |config: &Config| manual_expiry_of(config, now()).unwrap().unwrap().to_string();
        assert_eq!(told(&config), "2026-02-01T12:00:00Z");
        config.insert("snapshots.expiry.manual".to_owned(), "2d".to_owned());
        assert_eq!(told(&config), "2026-02-02T12:00:00Z");
        assert_eq!(expiry_of(&config, now()).unwrap().unwrap().to_string(), "2026-02-01T12:00:00Z");
    }
}
