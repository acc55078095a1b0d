//! The policy that a form carries, and its signature.

use crate::support::custom;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use jiff::Timestamp;
use larder_base::signature::signing_key_in;
use s3s::{S3Error, S3Result, s3_error};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};

type Fields = BTreeMap<String, String>;

fn invalid(why: &str) -> S3Error {
    custom("InvalidPolicyDocument", StatusCode::BAD_REQUEST, format!("Invalid Policy: {why}."))
}

fn failed(why: &str) -> S3Error {
    s3_error!(AccessDenied, "Invalid according to Policy: {why}.")
}

enum Condition {
    Equals(String, String),
    StartsWith(String, String),
    Length(u64, u64),
}

/// A policy that was understood.
pub(crate) struct FormPolicy {
    expiration: Timestamp,
    conditions: Vec<Condition>,
}

impl FormPolicy {
    /// Reads a policy in base64.
    pub(crate) fn parse(text: &str) -> S3Result<Self> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| invalid("it is not base64"))?;
        let whole: Value = serde_json::from_slice(&bytes).map_err(|_| invalid("it is not JSON"))?;
        let expiration = whole
            .get("expiration")
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("expiration is missing"))?;
        let is_iso = expiration.contains('T') && expiration.ends_with('Z');
        let expiration = expiration.parse().ok().filter(|_| is_iso);
        let expiration =
            expiration.ok_or_else(|| invalid("expiration is no ISO 8601 date that ends with Z"))?;
        let conditions = whole.get("conditions").and_then(Value::as_array);
        let conditions = conditions.filter(|conditions| !conditions.is_empty());
        let mut parsed = Vec::new();
        for condition in conditions.ok_or_else(|| invalid("conditions are missing"))? {
            parse_condition(condition, &mut parsed)?;
        }
        Ok(Self { expiration, conditions: parsed })
    }

    /// The most bytes the file may have.
    pub(crate) fn most(&self) -> Option<u64> {
        self.conditions
            .iter()
            .filter_map(|condition| match condition {
                Condition::Length(_, most) => Some(*most),
                _ => None,
            })
            .min()
    }

    /// The least bytes the file may have.
    pub(crate) fn least(&self) -> u64 {
        let least = self.conditions.iter().filter_map(|condition| match condition {
            Condition::Length(least, _) => Some(*least),
            _ => None,
        });
        least.max().unwrap_or(0)
    }

    /// Compares the fields with the conditions: all hold, and no field is without one. A condition on the content type is one on
    /// that of the file where no field names it.
    pub(crate) fn check(
        &self,
        fields: &Fields,
        file_type: Option<&str>,
        bucket: &str,
        now: Timestamp,
    ) -> S3Result<()> {
        if self.expiration <= now {
            return Err(failed("Policy expired"));
        }
        let value = |name: &str| match name {
            "bucket" => bucket,
            "content-type" => fields.get(name).map(String::as_str).or(file_type).unwrap_or_default(),
            name => fields.get(name).map(String::as_str).unwrap_or_default(),
        };
        let mut covered = BTreeSet::new();
        for condition in &self.conditions {
            let (name, holds) = match condition {
                Condition::Equals(name, wanted) => (name, value(name) == wanted),
                Condition::StartsWith(name, wanted) => (name, value(name).starts_with(wanted.as_str())),
                Condition::Length(..) => continue,
            };
            if !holds {
                return Err(failed(&format!("Policy Condition failed: {name}")));
            }
            covered.insert(name.as_str());
        }
        let is_free = |name: &str| {
            matches!(
                name,
                "policy" | "signature" | "awsaccesskeyid" | "x-amz-signature" | "file" | "bucket" | "submit"
            ) || name.starts_with("x-ignore-")
                || name.starts_with("x-amz-checksum-")
        };
        match fields.keys().find(|name| !covered.contains(name.as_str()) && !is_free(name)) {
            Some(name) => Err(failed(&format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }
}

fn parse_condition(condition: &Value, parsed: &mut Vec<Condition>) -> S3Result<()> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(invalid("a condition's value is no string")),
    };
    match condition {
        Value::Object(pairs) if pairs.is_empty() => Err(invalid("a condition is empty")),
        Value::Object(pairs) => {
            for (name, value) in pairs {
                parsed.push(Condition::Equals(name.to_ascii_lowercase(), text(value)?));
            }
            Ok(())
        }
        Value::Array(items) => {
            let [operator, first, second] = items.as_slice() else {
                return Err(invalid("a condition has an operator and two values"));
            };
            let name = || {
                let name = first.as_str().and_then(|name| name.strip_prefix('$'));
                name.map(str::to_ascii_lowercase)
                    .ok_or_else(|| invalid("a condition names a field as $field"))
            };
            let number = |value: &Value| {
                let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                number.ok_or_else(|| invalid("content-length-range has two numbers"))
            };
            let operator = operator.as_str().map(str::to_ascii_lowercase);
            parsed.push(match operator.as_deref() {
                Some("eq") => Condition::Equals(name()?, text(second)?),
                Some("starts-with") => Condition::StartsWith(name()?, text(second)?),
                Some("content-length-range") => Condition::Length(number(first)?, number(second)?),
                _ => {
                    return Err(invalid("a condition's operator is eq, starts-with or content-length-range"));
                }
            });
            Ok(())
        }
        _ => Err(invalid("a condition is an object or a list")),
    }
}

/// How a form is signed: the key's id, and what to verify.
pub(crate) enum Signed {
    V4 { key: String, date: String, region: String, signature: Vec<u8> },
    V2 { key: String, signature: Vec<u8> },
}

impl Signed {
    /// What the fields say; none for a form without policy and signature.
    pub(crate) fn of(fields: &Fields) -> S3Result<Option<Self>> {
        let field = |name: &str| fields.get(name).map(String::as_str);
        let missing = |what: &str| {
            let message = format!("Bucket POST must contain a field named '{what}'.");
            s3_error!(InvalidArgument, "{message}")
        };
        if let Some(algorithm) = field("x-amz-algorithm") {
            if algorithm != "AWS4-HMAC-SHA256" {
                return Err(s3_error!(InvalidArgument, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
            }
            let credential = field("x-amz-credential").ok_or_else(|| missing("X-Amz-Credential"))?;
            let [key, date, region, "s3", "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..]
            else {
                return Err(s3_error!(
                    InvalidArgument,
                    "the credential is malformed: KEY/YYYYMMDD/REGION/s3/aws4_request"
                ));
            };
            let signature = field("x-amz-signature").ok_or_else(|| missing("X-Amz-Signature"))?;
            let signature = hex::decode(signature).map_err(|_| mismatch())?;
            let (key, date, region) = (key.to_owned(), date.to_owned(), region.to_owned());
            return Ok(Some(Self::V4 { key, date, region, signature }));
        }
        match (field("awsaccesskeyid"), field("signature"), field("policy")) {
            (Some(key), Some(signature), Some(_)) => {
                let signature = BASE64_STANDARD.decode(signature).map_err(|_| mismatch())?;
                Ok(Some(Self::V2 { key: key.to_owned(), signature }))
            }
            (None, None, None) => Ok(None),
            (None, ..) => Err(missing("AWSAccessKeyId")),
            (_, None, _) => Err(missing("signature")),
            (.., None) => Err(missing("policy")),
        }
    }

    pub(crate) fn key(&self) -> &str {
        match self {
            Self::V4 { key, .. } | Self::V2 { key, .. } => key,
        }
    }

    /// Compares the signature of the policy, in constant time.
    pub(crate) fn verify(&self, policy: &str, secret: &str) -> S3Result<()> {
        let is_right = match self {
            Self::V2 { signature, .. } => {
                let mac = <Hmac<Sha1> as KeyInit>::new_from_slice(secret.as_bytes()).ok();
                mac.is_some_and(|mac| mac.chain_update(policy).verify_slice(signature).is_ok())
            }
            Self::V4 { date, region, signature, .. } => {
                let key = signing_key_in(region, secret, date);
                let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).ok();
                mac.is_some_and(|mac| mac.chain_update(policy).verify_slice(signature).is_ok())
            }
        };
        is_right.then_some(()).ok_or_else(mismatch)
    }
}

fn mismatch() -> S3Error {
    s3_error!(
        SignatureDoesNotMatch,
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn check(conditions: &str, fields: &[(&str, &str)], file_type: Option<&str>) -> Result<(), String> {
        let text = format!(r#"{{"expiration":"2026-01-01T00:00:01Z","conditions":[{conditions}]}}"#);
        let policy = FormPolicy::parse(&BASE64_STANDARD.encode(text)).unwrap();
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let checked = policy.check(&fields, file_type, "bucket", NOW.parse().unwrap());
        checked.map_err(|error| error.message().unwrap_or_default().to_owned())
    }

    #[test]
    fn every_field_needs_a_condition() {
        let conditions = r#"["starts-with","$key","in/"],{"bucket":"bucket"}"#;
        let key = ("key", "in/a");
        assert_eq!(
            check(conditions, &[key, ("policy", "x"), ("x-ignore-me", "x")], Some("text/plain")),
            Ok(())
        );
        for extra in ["content-type", "expires", "tagging", "x-amz-meta-a", "x-amz-object-lock-mode"] {
            for file_type in [None, Some("text/plain")] {
                let error = check(conditions, &[key, (extra, "x")], file_type).unwrap_err();
                assert!(error.contains(extra), "{error}");
                // Whatever comes before it by its name.
                let more = [key, ("acl", "private"), ("content-type", "x"), (extra, "x")];
                assert!(check(conditions, &more, file_type).is_err(), "{extra}");
            }
        }
        let images = r#"["starts-with","$key",""],["starts-with","$Content-Type","image/"]"#;
        for (fields, file_type, is_taken) in [
            (&[key, ("content-type", "image/png")][..], Some("text/plain"), true),
            (&[key], Some("image/png"), true),
            (&[key], Some("text/plain"), false),
            (&[key], None, false),
            (&[key, ("content-type", "text/plain")], Some("image/png"), false),
        ] {
            assert_eq!(check(images, fields, file_type).is_ok(), is_taken, "{fields:?} {file_type:?}");
        }
        assert!(check(r#"{"bucket":"other"}"#, &[], None).is_err());
    }
}
