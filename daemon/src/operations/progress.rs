//! Progress as both families of clients read it: a text under `<stage>_progress`, and the parts under `progress`.

use larder_base::{ByteSize, ProgressReport, Unit};
use serde_json::{Map, Value, json};

/// What a report adds to an operation's metadata.
pub(super) fn metadata_of(report: &ProgressReport) -> Map<String, Value> {
    let percent = report.total.filter(|total| *total > 0).map(|total| (report.done.min(total) * 100) / total);
    let done = match (percent, report.unit) {
        (Some(percent), _) => format!("{percent}%"),
        (None, Unit::Bytes) => human(report.done),
        (None, Unit::Items) => format!("{} files", report.done),
    };
    let subject = if report.subject.is_empty() { String::new() } else { format!("{}: ", report.subject) };
    let speed = match report.unit {
        Unit::Bytes => format!(" ({}/s)", human(report.per_second)),
        Unit::Items => String::new(),
    };
    let parts = json!({
        "stage": report.stage,
        "percent": percent.unwrap_or(0).to_string(),
        "processed": report.done.to_string(),
        "speed": report.per_second.to_string(),
    });
    let mut metadata = Map::new();
    metadata.insert(format!("{}_progress", report.stage), Value::String(format!("{subject}{done}{speed}")));
    metadata.insert("progress".to_owned(), parts);
    metadata
}

/// A size with two digits after the point, in the peers' decimal units.
fn human(bytes: u64) -> String {
    const UNITS: &[(&str, u64)] =
        &[("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match UNITS.iter().find(|(_, factor)| bytes >= *factor) {
        Some((unit, factor)) => {
            let hundredths = u128::from(bytes) * 100 / u128::from(*factor);
            format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
        }
        None => ByteSize::from_bytes(bytes).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_both_forms() {
        let report = ProgressReport {
            stage: "download",
            subject: "rootfs".to_owned(),
            done: 1_500_000,
            total: Some(3_000_000),
            per_second: 2_345_678,
            unit: Unit::Bytes,
        };
        let told = metadata_of(&report);
        assert_eq!(told["download_progress"], "rootfs: 50% (2.34MB/s)");
        assert_eq!(told["progress"]["percent"], "50");
        let open = metadata_of(&ProgressReport { total: None, subject: String::new(), done: 512, ..report });
        assert_eq!(open["download_progress"], "512B (2.34MB/s)");
    }
}
