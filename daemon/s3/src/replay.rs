//! Signatures that were answered: what somebody has captured is not answered again.
//!
//! The time in a signature has whole seconds. A client that asks for the same twice within one sends the same signature twice, and
//! so does one that tries again because its connection broke; so the same signature is taken for some seconds more from the same
//! address, and refused from then on, and from any other address at once. A change is refused at once from everywhere where the
//! client gives each try a name of its own, which it signs. What was signed
//! before this server began may have been answered by the one before it, and is refused. Only signatures by header are
//! remembered: a presigned link is made to be used again.

use http::header::AUTHORIZATION;
use http::{Method, Request};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use parking_lot::{Mutex, MutexGuard};
use s3s::{S3Error, s3_error};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

/// For so long the same signature from the same address is the client's own (seconds).
const OWN: u32 = 10;
/// For so long a signature can be good: signed a quarter of an hour ahead of this clock, to a quarter of an hour behind it
/// (seconds).
const GOOD: u32 = 30 * 60;
/// So many changes are remembered in each of two halves, and as many readings; of more the oldest are forgotten.
const MOST: usize = 1 << 17;
/// So much of a signature is kept (hexadecimal digits): nobody can make two that begin alike.
const DIGITS: usize = 16;

/// The headers in which SDKs number their requests and the tries of each.
const NAMES_OF_TRIES: [&str; 2] = ["amz-sdk-invocation-id", "amz-sdk-request"];

/// The beginning of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Signature(u64);

/// A request that is signed by header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    signature: Signature,
    /// When, by the client's clock.
    signed_at: Timestamp,
    is_reading: bool,
    /// Whether another try of the same client would have another signature.
    is_one_try: bool,
}

impl Signed {
    /// `None` for what is not signed by header, or in a way that nobody will find right.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        let text = |name: &str| request.headers().get(name)?.to_str().ok();
        let header = text(AUTHORIZATION.as_str())?;
        let digits = header.split("Signature=").nth(1)?.get(..DIGITS)?;
        let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", text("x-amz-date")?).ok()?;
        let names = header.split("SignedHeaders=").nth(1)?.split(',').next()?;
        let is_signed = |wanted: &&str| names.split(';').any(|name| name.trim() == *wanted);
        Some(Self {
            signature: Signature(u64::from_str_radix(digits, 16).ok()?),
            signed_at: signed_at.to_zoned(TimeZone::UTC).ok()?.timestamp(),
            is_reading: [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()),
            is_one_try: NAMES_OF_TRIES.iter().all(is_signed),
        })
    }
}

/// When a request was answered first, in seconds from the beginning, and the hash of the address it came from.
#[derive(Debug, Clone, Copy)]
struct First {
    at: u32,
    from: u32,
}

/// The requests that were answered, each by its signature.
#[derive(Debug)]
pub(crate) struct Answered {
    begin: Instant,
    began_at: Timestamp,
    addresses: RandomState,
    changes: Mutex<Halves>,
    /// Apart, so that many of these let no change be forgotten.
    readings: Mutex<Halves>,
}

/// The first answer of each. The older half is thrown away when the younger one is full, or has
/// been filled for long enough.
#[derive(Debug, Default)]
struct Halves {
    since: u32,
    younger: HashMap<Signature, First>,
    older: HashMap<Signature, First>,
}

impl Answered {
    /// Nothing was answered yet; `now` and `time` are the same moment.
    pub(crate) fn new(now: Instant, time: Timestamp) -> Self {
        let addresses = RandomState::new();
        Self { begin: now, began_at: time, addresses, changes: Mutex::default(), readings: Mutex::default() }
    }

    fn halves(&self, request: Signed) -> MutexGuard<'_, Halves> {
        if request.is_reading { self.readings.lock() } else { self.changes.lock() }
    }

    /// This moment and this address, as they are remembered.
    fn first(&self, from: Option<IpAddr>, now: Instant) -> First {
        let at = u32::try_from(now.duration_since(self.begin).as_secs()).unwrap_or(u32::MAX);
        // Half of the hash: an address that is taken for another one is only not refused at once.
        First { at, from: (self.addresses.hash_one(from) >> 32) as u32 }
    }

    /// Remembers what was answered with success.
    pub(crate) fn note(&self, request: Signed, from: Option<IpAddr>, now: Instant) {
        let (now, signature, mut halves) = (self.first(from, now), request.signature, self.halves(request));
        if halves.older.contains_key(&signature) {
            return;
        }
        if halves.younger.len() >= MOST || now.at.saturating_sub(halves.since) > GOOD {
            halves.older = std::mem::take(&mut halves.younger);
            halves.since = now.at;
        }
        halves.younger.entry(signature).or_insert(now);
    }

    /// Refuses what was answered, unless it may be the client's own second try, and what may have been answered by an earlier run.
    pub(crate) fn check(&self, request: Signed, from: Option<IpAddr>, now: Instant) -> Result<(), S3Error> {
        // Of all codes the one that clients answer with a new signature.
        if self.began_at.duration_since(request.signed_at).as_secs() > i64::from(OWN) {
            return Err(s3_error!(
                RequestTimeTooSkewed,
                "This request was signed before this server began: sign it again."
            ));
        }
        let (now, halves) = (self.first(from, now), self.halves(request));
        let first = halves.younger.get(&request.signature).or_else(|| halves.older.get(&request.signature));
        let may_not_repeat = request.is_one_try && !request.is_reading;
        let is_own = |first: &First| first.from == now.from && now.at.saturating_sub(first.at) <= OWN;
        match first.is_some_and(|first| may_not_repeat || !is_own(first)) {
            true => Err(s3_error!(
                RequestTimeTooSkewed,
                "This very request was answered already: what is meant again is signed again."
            )),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const TIME: &str = "2026-01-01T00:00:00Z";

    fn signed(method: &str, authorization: &str) -> Request<()> {
        let request = Request::builder().method(method).header(AUTHORIZATION, authorization);
        request.header("x-amz-date", "20260101T000000Z").body(()).unwrap()
    }

    fn by(headers: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=K/20260101/r/s3/aws4_request, SignedHeaders={headers}, Signature={signature}"
        )
    }

    fn change(signature: u64) -> Signed {
        Signed {
            signature: Signature(signature),
            signed_at: TIME.parse().unwrap(),
            is_reading: false,
            is_one_try: false,
        }
    }

    #[test]
    fn only_what_is_signed_by_header_is_known() {
        let whole = by("host", &format!("00000000000000ff{}", "0".repeat(48)));
        assert_eq!(Signed::of(&signed("PUT", &whole)), Some(change(255)));
        assert_eq!(Signed::of(&signed("GET", &whole)), Some(Signed { is_reading: true, ..change(255) }));
        for authorization in [by("host", ""), "Basic x".to_owned(), by("host", "zz")] {
            assert_eq!(Signed::of(&signed("PUT", &authorization)), None, "{authorization}");
        }
        for (names, is_one_try) in [
            ("amz-sdk-invocation-id;amz-sdk-request;host", true),
            ("host;amz-sdk-request; amz-sdk-invocation-id", true),
            ("amz-sdk-invocation-id;host", false),
            ("x-amz-sdk-invocation-id;amz-sdk-request", false),
        ] {
            let found = Signed::of(&signed("PUT", &by(names, &"0".repeat(64))));
            assert_eq!(found.map(|change| change.is_one_try), Some(is_one_try), "{names}");
        }
    }

    #[test]
    fn what_was_answered_is_refused_once_it_can_not_be_a_second_try() {
        let begin = Instant::now();
        let answered = Answered::new(begin, TIME.parse().unwrap());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (one, other) = (change(1), change(2));
        answered.note(one, HERE, begin);
        assert!(answered.check(one, HERE, at(9)).is_ok());
        assert!(answered.check(Signed { is_one_try: true, ..one }, HERE, at(1)).is_err());
        for elsewhere in [None, Some("127.0.0.2".parse().unwrap()), Some("::1".parse().unwrap())] {
            assert!(answered.check(one, elsewhere, at(0)).is_err(), "{elsewhere:?} is not who was answered");
        }
        let reading = Signed { is_reading: true, is_one_try: true, ..one };
        assert!(answered.check(reading, HERE, at(11)).is_ok(), "readings are known apart");
        answered.note(reading, HERE, begin);
        assert!(
            answered.check(reading, HERE, at(9)).is_ok() && answered.check(reading, HERE, at(11)).is_err()
        );
        // A second try does not give a third one more time.
        answered.note(one, HERE, at(9));
        assert!(answered.check(one, HERE, at(11)).is_err());
        assert!(answered.check(other, HERE, at(11)).is_ok());
        // As long as it may be good by its own time, however many come after it.
        answered.note(other, HERE, at(29 * 60));
        answered.note(change(3), HERE, at(31 * 60));
        assert!(answered.check(one, HERE, at(31 * 60)).is_err());
        answered.note(change(4), HERE, at(62 * 60));
        assert!(answered.check(one, HERE, at(62 * 60)).is_ok(), "it is forgotten");
    }

    #[test]
    fn what_an_earlier_run_may_have_answered_is_refused() {
        let begin = Instant::now();
        for (seconds, is_taken) in [(-900, false), (-11, false), (-10, true), (0, true), (900, true)] {
            let time = TIME.parse::<Timestamp>().unwrap() - jiff::SignedDuration::from_secs(seconds);
            let answered = Answered::new(begin, time);
            assert_eq!(answered.check(change(1), HERE, begin).is_ok(), is_taken, "{seconds}");
        }
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let begin = Instant::now();
        let answered = Answered::new(begin, TIME.parse().unwrap());
        for number in 0..3 * MOST as u64 {
            answered.note(change(number), HERE, begin);
        }
        let halves = answered.changes.lock();
        assert!(halves.younger.len() + halves.older.len() <= 2 * MOST);
    }
}
