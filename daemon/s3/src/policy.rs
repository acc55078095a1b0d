//! Bucket policies: the subset that is supported, and refusal of everything else when the policy is set.

use crate::policy_actions::is_known;
use crate::policy_condition::{Condition, check_pattern, conditions, matches_pattern};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use thiserror::Error;

/// Why a policy is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct PolicyError(pub(crate) String);

pub(crate) fn refuse<T>(why: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(why.into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone)]
enum Principals {
    Anybody,
    These(Vec<String>),
}

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    principals: Principals,
    not_principals: bool,
    actions: Vec<String>,
    not_actions: bool,
    resources: Vec<String>,
    not_resources: bool,
    conditions: Vec<Condition>,
}

/// A policy that was understood whole.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    statements: Vec<Statement>,
}

/// What the policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    Silent,
}

/// What a request is, for a policy. Keys of `values` are lower case.
#[derive(Debug, Default)]
pub(crate) struct Asking<'a> {
    /// Canonical id; none without a key.
    pub(crate) caller: Option<&'a str>,
    pub(crate) action: &'a str,
    /// `bucket` or `bucket/key`.
    pub(crate) resource: &'a str,
    pub(crate) values: HashMap<String, Vec<String>>,
}

impl Policy {
    pub(crate) fn parse(text: &str, bucket: &str) -> Result<Self, PolicyError> {
        let whole: Value =
            serde_json::from_str(text).map_err(|error| PolicyError(format!("not JSON: {error}")))?;
        let whole = whole.as_object().ok_or_else(|| PolicyError("a policy is a JSON object".to_owned()))?;
        for key in whole.keys() {
            if !["Version", "Id", "Statement"].contains(&key.as_str()) {
                return refuse(format!("{key} is not known"));
            }
        }
        match whole.get("Version").and_then(Value::as_str) {
            None | Some("2012-10-17" | "2008-10-17") => {}
            Some(other) => return refuse(format!("version {other} is not supported: use 2012-10-17")),
        }
        let statements = match whole.get("Statement") {
            Some(Value::Array(statements)) if !statements.is_empty() => statements.clone(),
            Some(statement @ Value::Object(_)) => vec![statement.clone()],
            _ => return refuse("a policy has at least one statement"),
        };
        let statements = statements.iter().map(|statement| Statement::parse(statement, bucket));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }

    /// What stands for one that is not understood: nobody may do anything, but its owner may set another.
    pub(crate) fn refusing() -> Self {
        let anything = || vec!["*".to_owned()];
        let statement = Statement {
            effect: Effect::Deny,
            principals: Principals::Anybody,
            not_principals: false,
            actions: anything(),
            not_actions: false,
            resources: anything(),
            not_resources: false,
            conditions: Vec::new(),
        };
        Self { statements: vec![statement] }
    }

    pub(crate) fn judge(&self, asking: &Asking<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|statement| statement.applies(asking)) {
            match statement.effect {
                Effect::Deny => return Verdict::Deny,
                Effect::Allow => verdict = Verdict::Allow,
            }
        }
        verdict
    }

    /// Whether it lets anybody in, without a condition that names who or where from.
    pub(crate) fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.effect == Effect::Allow
                && (matches!(statement.principals, Principals::Anybody) || statement.not_principals)
                && !statement.conditions.iter().any(Condition::narrows)
        })
    }
}

impl Statement {
    fn parse(value: &Value, bucket: &str) -> Result<Self, PolicyError> {
        let map = value.as_object().ok_or_else(|| PolicyError("a statement is a JSON object".to_owned()))?;
        for key in map.keys() {
            let known = [
                "Sid",
                "Effect",
                "Principal",
                "NotPrincipal",
                "Action",
                "NotAction",
                "Resource",
                "NotResource",
                "Condition",
            ];
            if !known.contains(&key.as_str()) {
                return refuse(format!("{key} is not known in a statement"));
            }
        }
        let effect = match map.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return refuse("Effect is Allow or Deny"),
        };
        let (principals, not_principals) = either(map, "Principal", "NotPrincipal")?;
        if not_principals && effect == Effect::Allow {
            return refuse("NotPrincipal goes with Deny only");
        }
        let (actions, not_actions) = either(map, "Action", "NotAction")?;
        let (resources, not_resources) = either(map, "Resource", "NotResource")?;
        let actions = strings(actions, "Action")?;
        if let Some(other) = actions.iter().find(|action| !is_known(action)) {
            return refuse(format!("{other} is no action of S3"));
        }
        let resources = strings(resources, "Resource")?.into_iter().map(|resource| {
            let path = resource.strip_prefix("arn:aws:s3:::").or_else(|| after_colons(&resource));
            let path = path.ok_or_else(|| PolicyError(format!("{resource} is no resource of S3")))?;
            has_no_variable(&resource)?;
            check_pattern(&resource)?;
            let owner = path.split('/').next().unwrap_or_default();
            match matches_pattern(owner, bucket) {
                true => Ok(path.to_owned()),
                false => refuse(format!("{resource} is not in the bucket {bucket}")),
            }
        });
        Ok(Self {
            effect,
            principals: principals_of(principals)?,
            not_principals,
            actions,
            not_actions,
            resources: resources.collect::<Result<_, _>>()?,
            not_resources,
            conditions: conditions(map.get("Condition"))?,
        })
    }

    fn applies(&self, asking: &Asking<'_>) -> bool {
        let is_caller = match &self.principals {
            Principals::Anybody => true,
            Principals::These(names) => {
                asking.caller.is_some_and(|caller| names.iter().any(|name| names_caller(name, caller)))
            }
        };
        let action = asking.action.to_ascii_lowercase();
        let is_action =
            self.actions.iter().any(|known| matches_pattern(&known.to_ascii_lowercase(), &action));
        let is_resource = self.resources.iter().any(|known| matches_pattern(known, asking.resource));
        is_caller != self.not_principals
            && is_action != self.not_actions
            && is_resource != self.not_resources
            && self.conditions.iter().all(|condition| condition.holds(&asking.values))
    }
}

/// The path of a resource that names a region or an account: `arn:aws:s3:region:account:path`.
fn after_colons(resource: &str) -> Option<&str> {
    let mut fields = resource.splitn(6, ':');
    let is_s3 = fields.next() == Some("arn") && fields.next().is_some() && fields.next() == Some("s3");
    let (_, _, path) = (fields.next(), fields.next(), fields.next()?);
    is_s3.then_some(path)
}

/// Refuses what stands for something else in AWS' policies: taken as it is written it would mean another thing.
pub(crate) fn has_no_variable(text: &str) -> Result<(), PolicyError> {
    match text.contains("${") {
        true => refuse(format!("policy variables are not supported: {text}")),
        false => Ok(()),
    }
}

/// Refuses what names nobody who could ask: neither an id nor the ARN of an account or a user.
fn check_principal(name: &str) -> Result<(), PolicyError> {
    let is_id = |text: &str| !text.is_empty() && !text.contains(['*', '?', ':', '/']);
    let is_name = match name.strip_prefix("arn:aws:iam::") {
        None => name == "*" || is_id(name),
        Some(rest) => rest.split_once(':').is_some_and(|(account, user)| {
            let is_account = is_id(account) && user == "root";
            is_account || user.strip_prefix("user/").is_some_and(is_id)
        }),
    };
    match is_name {
        true => has_no_variable(name),
        false => refuse(format!(
            "the principal {name} is not supported: name *, an id, arn:aws:iam::ID:root or arn:aws:iam:::user/ID"
        )),
    }
}

/// An account id, a user's ARN, or an account's.
fn names_caller(name: &str, caller: &str) -> bool {
    let Some(rest) = name.strip_prefix("arn:aws:iam::") else { return name == caller };
    match rest.split_once(':') {
        Some((account, "root")) => account == caller,
        Some((_, user)) => user.strip_prefix("user/") == Some(caller),
        None => false,
    }
}

fn either<'m>(map: &'m Map<String, Value>, name: &str, not: &str) -> Result<(&'m Value, bool), PolicyError> {
    match (map.get(name), map.get(not)) {
        (Some(value), None) => Ok((value, false)),
        (None, Some(value)) => Ok((value, true)),
        _ => refuse(format!("a statement has {name} or {not}")),
    }
}

pub(crate) fn strings(value: &Value, what: &str) -> Result<Vec<String>, PolicyError> {
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        _ => refuse(format!("{what} is a string or a list of strings")),
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn principals_of(value: &Value) -> Result<Principals, PolicyError> {
    let names = match value {
        Value::String(text) if text == "*" => return Ok(Principals::Anybody),
        Value::Object(map) => {
            let mut names = Vec::new();
            for (kind, value) in map {
                match kind.as_str() {
                    "AWS" | "CanonicalUser" => names.extend(strings(value, kind)?),
                    other => return refuse(format!("principals of kind {other} are not supported")),
                }
            }
            names
        }
        _ => return refuse("Principal is \"*\" or an object with AWS or CanonicalUser"),
    };
    names.iter().try_for_each(|name| check_principal(name))?;
    match names.iter().any(|name| name == "*") {
        true => Ok(Principals::Anybody),
        false => Ok(Principals::These(names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_condition::is_in_network;

    fn policy(statement: &str) -> Result<Policy, PolicyError> {
        Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#), "b")
    }

    fn asking<'a>(caller: Option<&'a str>, action: &'a str, resource: &'a str) -> Asking<'a> {
        Asking { caller, action, resource, values: HashMap::new() }
    }

    #[test]
    fn a_denial_wins_and_silence_is_no_permission() {
        let text = r#"{"Effect":"Allow","Principal":"*","Action":"s3:Get*","Resource":"arn:aws:s3:::b/*"},
            {"Effect":"Deny","Principal":{"AWS":"arn:aws:iam:::user/eve"},"Action":"*","Resource":"arn:aws:s3:::b/secret*"}"#;
        let policy = policy(text).unwrap();
        assert_eq!(policy.judge(&asking(None, "s3:GetObject", "b/secret")), Verdict::Allow);
        assert_eq!(policy.judge(&asking(Some("eve"), "s3:GetObject", "b/secret")), Verdict::Deny);
        assert_eq!(policy.judge(&asking(None, "s3:PutObject", "b/x")), Verdict::Silent);
        assert!(policy.is_public());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let with = |condition: &str| {
            policy(&format!(
                r#"{{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b","Condition":{condition}}}"#
            ))
        };
        assert!(with(r#"{"StringEquals":{"s3:prefix":"a"}}"#).is_ok());
        assert!(with(r#"{"BinaryEquals":{"s3:prefix":"a"}}"#).unwrap_err().0.contains("BinaryEquals"));
        assert!(
            with(r#"{"StringEquals":{"aws:PrincipalOrgID":"a"}}"#).unwrap_err().0.contains("PrincipalOrgID")
        );
        assert!(
            policy(r#"{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::other/*"}"#)
                .is_err()
        );
        assert!(policy(r#"{"Effect":"Allow","Principal":{"Service":"x"},"Action":"s3:*","Resource":"arn:aws:s3:::b"}"#).is_err());
        // What would be taken for something else, or apply to nothing.
        for (condition, named) in [
            (r#"{"StringLike":{"s3:prefix":"${aws:username}/*"}}"#, "${aws:username}"),
            (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/33"}}"#, "10.0.0.0/33"),
            (r#"{"NotIpAddress":{"aws:SourceIp":["10.0.0.1","10.0.0"]}}"#, "10.0.0"),
            (r#"{"NumericLessThan":{"s3:max-keys":"ten"}}"#, "ten"),
            (r#"{"Bool":{"aws:SecureTransport":"yes"}}"#, "yes"),
            (r#"{"Null":{"s3:prefix":"1"}}"#, "1"),
        ] {
            assert!(with(condition).unwrap_err().0.contains(named), "{condition}");
        }
        let of = |principal: &str, action: &str, resource: &str| {
            let principal = format!(r#"{{"AWS":"{principal}"}}"#);
            let what = format!(r#""Action":"{action}","Resource":"arn:aws:s3:::b/{resource}""#);
            policy(&format!(r#"{{"Effect":"Deny","Principal":{principal},{what}}}"#))
        };
        for principal in
            ["*", "eve", "arn:aws:iam::eve:root", "arn:aws:iam:::user/eve", "arn:aws:iam::a:user/eve"]
        {
            assert!(of(principal, "s3:Get*", "*").is_ok(), "{principal}");
        }
        for principal in [
            "arn:aws:iam:::role/eve",
            "arn:aws:sts::1:assumed-role/eve/x",
            "arn:aws:iam:::user/*",
            "arn:aws:iam:::root",
            "arn:aws:iam::eve",
            "e*",
            "",
        ] {
            assert!(of(principal, "s3:Get*", "*").is_err(), "{principal}");
        }
        assert!(of("*", "s3:GetObjet", "*").unwrap_err().0.contains("GetObjet"));
        assert!(of("*", "s3:GetObject", "${aws:userid}/*").unwrap_err().0.contains("userid"));
        let all = Policy::refusing();
        assert_eq!(all.judge(&asking(Some("eve"), "s3:GetObject", "b/x")), Verdict::Deny);
        assert!(!all.is_public());
    }

    #[test]
    fn patterns_and_networks() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a?c", "abc", true),
            ("a*", "b", false),
            ("*a*b", "xaxb", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("a*?", "ab", true),
            ("a*?", "a", false),
            ("a*b?d*e", "aXbcdYbZde", true),
            ("*b?d", "bcdbcd", true),
            ("a*a", "a", false),
            ("\u{e9}*?", "\u{e9}\u{e9}", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
        assert!(is_in_network("10.0.0.0/8", "10.1.2.3") && !is_in_network("10.0.0.0/8", "11.1.2.3"));
        assert!(is_in_network("::1", "::1") && !is_in_network("10.0.0.0/8", "::1"));
    }

    #[test]
    fn what_lets_nearly_everybody_in_is_public() {
        let with = |operator: &str, network: &str| {
            let condition = format!(r#""Condition":{{"{operator}":{{"aws:SourceIp":"{network}"}}}}"#);
            let statement =
                r#""Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*""#;
            policy(&format!("{{{statement},{condition}}}")).unwrap()
        };
        for (operator, network, is_public) in [
            ("IpAddress", "192.0.2.0/24", false),
            ("IpAddress", "2001:db8::/32", false),
            ("IpAddress", "192.0.2.1", false),
            ("IpAddress", "0.0.0.0/0", true),
            ("IpAddress", "2000::/3", true),
            ("IpAddressIfExists", "192.0.2.0/24", true),
            ("NotIpAddress", "192.0.2.1/32", true),
        ] {
            assert_eq!(with(operator, network).is_public(), is_public, "{operator} {network}");
        }
    }

    #[test]
    fn a_condition_on_what_nobody_tells_is_refused() {
        for key in
            ["aws:username", "aws:CurrentTime", "s3:authType", "s3:object-lock-remaining-retention-days"]
        {
            let statement = format!(
                r#"{{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/*","Condition":{{"StringEquals":{{"{key}":"x"}}}}}}"#
            );
            assert!(policy(&statement).is_err_and(|error| error.0.contains(key)), "{key}");
        }
    }
}
