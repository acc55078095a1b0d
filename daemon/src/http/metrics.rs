//! `/1.0/metrics`: numbers in the text form of OpenMetrics.

use super::Reply;
use super::glue::{App, blocking};
use crate::service::{Family, MetricKind, Service};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use std::fmt::Write;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// GET `/1.0/metrics`.
pub(crate) async fn get(State(app): State<App>) -> Reply {
    let mut families = blocking(&app, Service::metrics).await?;
    families.push(operations(&app));
    Ok(([(header::CONTENT_TYPE, TYPE)], text(&families)).into_response())
}

/// How many operations are known, by status: those under way, and those that ended a moment ago.
fn operations(app: &App) -> Family {
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    for operation in app.operations.all() {
        *counts.entry(operation.wire().status).or_default() += 1.0;
    }
    let help = "Operations under way, and those that ended a few seconds ago.";
    let mut family = Family::new("larder_operations", help, MetricKind::Gauge);
    for (status, count) in counts {
        family.add(&[("status", &status)], count);
    }
    family
}

fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let kind = match family.kind {
            MetricKind::Gauge => "gauge",
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
        };
        let name = family.name;
        // Writing to a string can't fail.
        let _ = write!(text, "# TYPE {name} {kind}\n# HELP {name} {}\n", family.help);
        for sample in &family.samples {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{}{labels} {}", sample.suffix, sample.value);
        }
    }
    text.push_str("# EOF\n");
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_scrapers_read_them() {
        let mut family = Family::new("a_b", "What it is.", MetricKind::Counter);
        family.add(&[("x", "say \"hi\" \\ there\n"), ("y", "")], 2.0);
        family.add(&[], 0.25);
        assert_eq!(
            text(&[family]),
            "# TYPE a_b counter\n# HELP a_b What it is.\n\
             a_b_total{x=\"say \\\"hi\\\" \\\\ there\\n\",y=\"\"} 2\na_b_total 0.25\n# EOF\n"
        );
    }
}
