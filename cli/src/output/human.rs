//! Sizes and times for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A number of bytes with two digits after the point.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let exponent = bytes.ilog2() / 10;
    // Two digits are shown, so the precision lost here can't be seen.
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let number = bytes as f64 / (1u64 << (10 * exponent)) as f64;
    format!("{number:.2}{}", UNITS[exponent as usize - 1])
}

/// A moment the API wrote; `None` when it never was.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|moment| moment.as_second() > 0)
}

/// A moment to the minute; empty when it never was.
pub(crate) fn minute(text: &str) -> String {
    format(text, "%Y/%m/%d %H:%M UTC")
}

/// The day of a moment.
pub(crate) fn day(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

fn format(text: &str, pattern: &str) -> String {
    moment(text)
        .map(|moment| moment.to_zoned(TimeZone::UTC).strftime(pattern).to_string())
        .unwrap_or_default()
}

/// Yes or no.
pub(crate) fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(0), "0B");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(1024), "1.00KiB");
        assert_eq!(bytes(10 << 30), "10.00GiB");
        assert_eq!(bytes(u64::MAX), "16.00EiB");
        assert_eq!(minute("2026-11-23T20:34:34.508331271Z"), "2026/11/23 20:34 UTC");
        for never in ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "", "soon"] {
            assert_eq!(minute(never), "", "{never}");
        }
    }
}
