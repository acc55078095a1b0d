//! Cross-origin requests: which page of which site may ask what, by the bucket's own rules.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{CORSConfiguration, CORSRule};
use s3s::{S3Result, s3_error};

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];
const MAX_RULES: usize = 100;

/// Refuses rules that S3 doesn't allow.
pub(crate) fn check(configuration: &CORSConfiguration) -> S3Result<()> {
    if configuration.cors_rules.is_empty() || configuration.cors_rules.len() > MAX_RULES {
        return Err(s3_error!(MalformedXML, "1 to {MAX_RULES} rules"));
    }
    for rule in &configuration.cors_rules {
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        let patterns = rule.allowed_origins.iter().chain(rule.allowed_headers.iter().flatten());
        if let Some(pattern) = patterns.clone().find(|pattern| pattern.matches('*').count() > 1) {
            return Err(s3_error!(InvalidRequest, "{pattern:?} can not have more than one wildcard."));
        }
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(s3_error!(MalformedXML, "a rule has methods and origins"));
        }
    }
    Ok(())
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

/// The requested headers of a preflight.
fn asked_headers(headers: &HeaderMap) -> Vec<String> {
    let text =
        headers.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

fn allows_headers(rule: &CORSRule, asked: &[String]) -> bool {
    let allowed: Vec<String> =
        rule.allowed_headers.iter().flatten().map(|name| name.to_ascii_lowercase()).collect();
    asked.iter().all(|name| allowed.iter().any(|pattern| matches(pattern, name)))
}

/// The headers of a reply to a request with an `Origin`; none where no rule fits.
pub(crate) fn reply(
    rules: &[CORSRule],
    method: &str,
    headers: &HeaderMap,
    is_preflight: bool,
) -> Option<HeaderMap> {
    let origin = headers.get(ORIGIN)?.to_str().ok()?;
    // A method that is asked for counts, also where the request isn't a preflight.
    let method = match headers.get(ACCESS_CONTROL_REQUEST_METHOD) {
        Some(asked) => asked.to_str().ok()?,
        None if is_preflight => return None,
        None => method,
    };
    let asked = asked_headers(headers);
    let rule = rules.iter().find(|rule| {
        rule.allowed_origins.iter().any(|pattern| matches(pattern, origin))
            && rule.allowed_methods.iter().any(|allowed| allowed == method)
            && (!is_preflight || allows_headers(rule, &asked))
    })?;
    let is_for_all = rule.allowed_origins.iter().any(|pattern| pattern == "*");
    let mut reply = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            reply.insert(name, value);
        }
    };
    set(ACCESS_CONTROL_ALLOW_ORIGIN, if is_for_all { "*" } else { origin });
    if !is_for_all {
        set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    set(ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
    set(VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    if let Some(exposed) = rule.expose_headers.as_ref().filter(|exposed| !exposed.is_empty()) {
        set(ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
    }
    if is_preflight {
        if !asked.is_empty() {
            set(ACCESS_CONTROL_ALLOW_HEADERS, &asked.join(", "));
        }
        if let Some(seconds) = rule.max_age_seconds {
            set(ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
    }
    Some(reply)
}
