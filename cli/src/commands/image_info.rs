//! `larder image info`: what an image is, why it is here and when it goes.

use super::Context;
use super::image::{self, TypedImageArgs};
use crate::client::{ApiPath, Client};
use crate::fields::Fields;
use crate::output::{self, human};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The key that says after how many days an unused cached image goes.
const EXPIRY_KEY: &str = "images.remote_cache_expiry";
/// What it is when nobody set it.
const DEFAULT_EXPIRY_DAYS: i64 = 10;

pub(crate) async fn run(context: &Context, args: &TypedImageArgs) -> Result<()> {
    if let Some(image) = image::elsewhere(context, args).await? {
        return output::text(&describe(&image, &[]));
    }
    let (client, name) = context.named(&args.image.image, "image")?;
    let image = image::find(&client, &name, args.kind()).await?;
    // Only the life of a cached image hangs on it.
    let days = if image.is("cached") { expiry_days(&client).await? } else { DEFAULT_EXPIRY_DAYS };
    output::text(&describe(&image, &stay(&image, days)))
}

/// The days of the project, else those of the server.
async fn expiry_days(client: &Client) -> Result<i64> {
    let project = ApiPath::of(["projects", client.project().unwrap_or("default")]);
    let own = match client.get(&project).await {
        Ok(project) => project.metadata.config(EXPIRY_KEY).parse().ok(),
        // Whether we may look at the project or not, the image can be told about.
        Err(_) => None,
    };
    match own {
        Some(days) => Ok(days),
        None => Ok(client.server().await?.config(EXPIRY_KEY).parse().unwrap_or(DEFAULT_EXPIRY_DAYS)),
    }
}

/// The text about an image.
fn describe(image: &Value, stay: &[String]) -> String {
    let time = |field: &str| Some(human::minute(image.text(field))).filter(|time| !time.is_empty());
    let never = || "never".to_owned();
    let mut lines = vec![
        format!("Fingerprint: {}", image.text("fingerprint")),
        format!("Size: {}", human::bytes(image.number("size"))),
        format!("Architecture: {}", image.text("architecture")),
        format!("Type: {}", image.text("type")),
        format!("Public: {}", human::yes(image.is("public"))),
        "Timestamps:".to_owned(),
    ];
    if let Some(created) = time("created_at") {
        lines.push(format!("  Created: {created}"));
    }
    lines.push(format!("  Uploaded: {}", time("uploaded_at").unwrap_or_else(never)));
    lines.push(format!("  Expires: {}", time("expires_at").unwrap_or_else(never)));
    lines.push(format!("  Last used: {}", time("last_used_at").unwrap_or_else(never)));
    lines.push("Properties:".to_owned());
    lines.extend(image.entries("properties").into_iter().map(|(key, value)| format!("  {key}: {value}")));
    lines.push("Aliases:".to_owned());
    lines.extend(image.items("aliases").iter().map(|alias| format!("  - {}", alias.text("name"))));
    lines.extend_from_slice(stay);
    lines.push(format!("Auto update: {}", if image.is("auto_update") { "enabled" } else { "disabled" }));
    lines.extend(source(&image["update_source"]));
    if image["profiles"].is_array() {
        lines.push("Profiles:".to_owned());
        let profiles = image.items("profiles").iter().filter_map(Value::as_str);
        lines.extend(profiles.map(|profile| format!("  - {profile}")));
    }
    format!("{}\n", lines.join("\n"))
}

/// Why it is here, and when it goes.
fn stay(image: &Value, expiry_days: i64) -> Vec<String> {
    if !image.is("cached") {
        return vec!["Cached: no (not cached: stays until deleted)".to_owned()];
    }
    let mut lines = vec!["Cached: yes (came along with an instance)".to_owned()];
    let used = human::moment(image.text("last_used_at"));
    lines.push(format!("  Last used: {}", used.map_or_else(|| "never".to_owned(), human::day)));
    let since = used.or_else(|| human::moment(image.text("uploaded_at")));
    lines.push(match since.and_then(|since| last_day(since, expiry_days)) {
        Some(day) => format!(
            "  Goes: {} unless it is used again ({EXPIRY_KEY} is {expiry_days} days)",
            human::day(day)
        ),
        None if expiry_days <= 0 => format!("  Stays until deleted ({EXPIRY_KEY} is {expiry_days})"),
        None => format!("  Goes: {expiry_days} days after its last use ({EXPIRY_KEY})"),
    });
    lines
}

fn last_day(since: Timestamp, expiry_days: i64) -> Option<Timestamp> {
    let days = (expiry_days > 0).then_some(expiry_days)?;
    since.checked_add(SignedDuration::from_hours(days.checked_mul(24)?)).ok()
}

fn source(source: &Value) -> Vec<String> {
    if !source.is_object() {
        return Vec::new();
    }
    let field = |(heading, name): (&str, &str)| {
        let value = source.text(name);
        (!value.is_empty()).then(|| format!("  {heading}: {value}"))
    };
    let fields = [("Server", "server"), ("Protocol", "protocol"), ("Alias", "alias"), ("Type", "image_type")];
    let told: Vec<String> = fields.into_iter().filter_map(field).collect();
    if told.is_empty() { told } else { [vec!["Source:".to_owned()], told].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image() -> Value {
        json!({"fingerprint": "3f5cb05a", "size": 3_250_585, "architecture": "x86_64", "type": "container",
            "public": false, "created_at": "2026-11-20T00:00:00Z", "uploaded_at": "2026-11-23T20:34:34Z",
            "expires_at": "0001-01-01T00:00:00Z", "last_used_at": "2026-11-25T08:00:00Z", "cached": true,
            "auto_update": true, "aliases": [], "properties": {"os": "Alpine", "release": "3.22"},
            "profiles": ["default"], "update_source": {"server": "https://images.example.org",
                "protocol": "simplestreams", "alias": "alpine/3.22", "certificate": ""}})
    }

    #[test]
    fn a_cached_image_tells_the_day_it_goes() {
        insta::assert_snapshot!(describe(&image(), &stay(&image(), 10)), @r"
        Fingerprint: 3f5cb05a
        Size: 3.10MiB
        Architecture: x86_64
        Type: container
        Public: no
        Timestamps:
          Created: 2026/11/20 00:00 UTC
          Uploaded: 2026/11/23 20:34 UTC
          Expires: never
          Last used: 2026/11/25 08:00 UTC
        Properties:
          os: Alpine
          release: 3.22
        Aliases:
        Cached: yes (came along with an instance)
          Last used: 2026-11-25
          Goes: 2026-12-05 unless it is used again (images.remote_cache_expiry is 10 days)
        Auto update: enabled
        Source:
          Server: https://images.example.org
          Protocol: simplestreams
          Alias: alpine/3.22
        Profiles:
          - default
        ");
    }

    #[test]
    fn an_image_stays_when_nothing_takes_it_away() {
        let mut image = image();
        assert_eq!(stay(&image, 0)[2], "  Stays until deleted (images.remote_cache_expiry is 0)");
        image["cached"] = json!(false);
        assert_eq!(stay(&image, 10), ["Cached: no (not cached: stays until deleted)"]);
    }

    #[test]
    fn a_cached_image_nobody_used_counts_from_its_arrival() {
        let mut image = image();
        image["last_used_at"] = json!("0001-01-01T00:00:00Z");
        assert!(stay(&image, 3)[2].starts_with("  Goes: 2026-11-26 "), "{:?}", stay(&image, 3));
        // A number of days too large for any calendar must not end the program.
        assert!(stay(&image, i64::MAX)[2].starts_with("  Goes: "));
    }
}
