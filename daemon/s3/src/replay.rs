//! Signatures that were taken: what somebody has captured is not done again.
//!
//! A request is remembered when it comes, and forgotten when it fails. The time in a signature has whole seconds, so a client that
//! means the same twice within one sends the same signature twice, and is right to: for some seconds a reading is taken again, and
//! another try of a change where clients number their tries, from the same address. Where they sign the numbers, nothing is; where they
//! have none, a change is told to come again later, with a new signature.
//! Where each is to be signed anew, nothing is taken again, and whoever may have meant it twice is told to come later.
//! What was signed before this server began may have been answered by the one before it, and is refused. Only signatures by header
//! are remembered: a presigned link is made to be used again.

use crate::authorization::Authorization;
use http::{Method, Request};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use s3s::{S3Error, s3_error};
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

/// For so long the same signature may be what its client meant twice within a second (seconds).
const OWN: u32 = 10;
/// For so long a signature can be good: signed a quarter of an hour ahead of this clock, to a quarter of an hour behind it
/// (seconds).
const GOOD: u32 = 30 * 60;
/// So many changes are remembered in each of two halves, and as many readings; of more the oldest are forgotten.
const MOST: usize = 1 << 17;
/// So much of a signature is kept (hexadecimal digits): nobody can make two that begin alike.
const DIGITS: usize = 16;

/// The headers in which SDKs number their requests and the tries of each. Not all sign them (boto3 does not).
const NAMES_OF_TRIES: [&str; 2] = ["amz-sdk-invocation-id", "amz-sdk-request"];

/// What becomes of a signature that comes again so soon that its client may have meant the same twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Repeats {
    /// It is taken where its client would not come again with another one.
    #[default]
    AreMeant,
    /// It never is: whoever meant the same twice is told to come later, with a new one.
    AreRefused,
}

/// The beginning of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Signature(u64);

impl Signature {
    /// What a later try with it is known by.
    fn of_try(self, numbers: u32) -> Self {
        Self(self.0 ^ u64::from(numbers))
    }
}

/// A request that is signed by header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    signature: Signature,
    /// When, by the client's clock.
    signed_at: Timestamp,
    is_reading: bool,
    /// A hash of what tells the try from others of the same client; 0 where it does not say.
    numbers: u32,
    /// Whether another try of the same client would have another signature.
    is_one_try: bool,
}

impl Signed {
    /// `None` for what is not signed by header, or in a way that nobody will find right.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Self> {
        // What asks for leave is answered whatever its signature is.
        if request.method() == Method::OPTIONS {
            return None;
        }
        let authorization = Authorization::of(request.headers())?;
        let date = request.headers().get("x-amz-date")?.to_str().ok()?;
        let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok()?;
        let digits = authorization.signature.get(..DIGITS)?;
        Some(Self {
            signature: Signature(u64::from_str_radix(digits, 16).ok()?),
            signed_at: signed_at.to_zoned(TimeZone::UTC).ok()?.timestamp(),
            is_reading: [Method::GET, Method::HEAD].contains(request.method()),
            numbers: numbers(request),
            is_one_try: NAMES_OF_TRIES.iter().all(|name| authorization.signs(name)),
        })
    }
}

fn numbers<B>(request: &Request<B>) -> u32 {
    let numbers = NAMES_OF_TRIES.map(|name| request.headers().get(name));
    if numbers.contains(&None) {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    numbers.hash(&mut hasher);
    ((hasher.finish() >> 32) as u32).max(1)
}

/// When a request came first, in seconds from the beginning, the hash of the address it came from, and which try it was.
#[derive(Debug, Clone, Copy)]
struct First {
    at: u32,
    from: u32,
    numbers: u32,
    /// Whether a later try with its signature was done.
    is_done: bool,
}

/// The requests that were taken, each by its signature.
#[derive(Debug)]
pub(crate) struct Taken {
    begin: Instant,
    began_at: Timestamp,
    addresses: RandomState,
    changes: Mutex<Halves>,
    /// Apart, so that many of these let no change be forgotten.
    readings: Mutex<Halves>,
}

/// The first of each. The older half is thrown away when the younger one is full, or has been filled for long enough.
#[derive(Debug, Default)]
struct Halves {
    since: u32,
    younger: HashMap<Signature, First>,
    older: HashMap<Signature, First>,
}

impl Halves {
    /// When it came first; `None` for what comes now for the first time, which is remembered.
    fn first(&mut self, signature: Signature, now: First) -> Option<First> {
        if let Some(first) = self.younger.get(&signature).or_else(|| self.older.get(&signature)) {
            return Some(*first);
        }
        if self.younger.len() >= MOST || now.at.saturating_sub(self.since) > GOOD {
            self.older = std::mem::take(&mut self.younger);
            self.since = now.at;
        }
        self.younger.insert(signature, now);
        None
    }

    /// Whether a try was not seen before that has the signature of an earlier one. It is remembered beside that.
    fn is_new_try(&mut self, signature: Signature, first: First, now: First) -> bool {
        let own = signature.of_try(now.numbers);
        now.numbers == 0 || (now.numbers != first.numbers && self.first(own, now).is_none())
    }

    fn get(&mut self, signature: Signature) -> Option<&mut First> {
        self.younger.get_mut(&signature).or_else(|| self.older.get_mut(&signature))
    }

    fn remove(&mut self, signature: Signature) {
        self.younger.remove(&signature);
        self.older.remove(&signature);
    }
}

/// Whether a request is the first with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is.
    First,
    /// Its client may have meant the same twice.
    Again,
}

impl Taken {
    /// Nothing was taken yet; `now` and `time` are the same moment.
    pub(crate) fn new(now: Instant, time: Timestamp) -> Self {
        let addresses = RandomState::new();
        Self { begin: now, began_at: time, addresses, changes: Mutex::default(), readings: Mutex::default() }
    }

    fn halves(&self, request: Signed) -> MutexGuard<'_, Halves> {
        if request.is_reading { self.readings.lock() } else { self.changes.lock() }
    }

    /// This moment, this address and this try, as they are remembered.
    fn moment(&self, request: Signed, from: Option<IpAddr>, now: Instant) -> First {
        let at = u32::try_from(now.duration_since(self.begin).as_secs()).unwrap_or(u32::MAX);
        // Half of the hash: an address that is taken for another one is only not refused at once.
        First {
            at,
            from: (self.addresses.hash_one(from) >> 32) as u32,
            numbers: request.numbers,
            is_done: false,
        }
    }

    /// Takes a request and remembers it. Refuses what was taken before, unless its client may have meant it twice, and what may have
    /// been answered by an earlier run.
    pub(crate) fn take(
        &self,
        repeats: Repeats,
        request: Signed,
        from: Option<IpAddr>,
        now: Instant,
    ) -> Result<Use, S3Error> {
        // Of all codes the one that clients answer with a new signature and the right time.
        let grace = match repeats {
            Repeats::AreMeant => SignedDuration::from_secs(OWN.into()),
            Repeats::AreRefused => SignedDuration::ZERO,
        };
        if self.began_at.duration_since(request.signed_at) > grace {
            return Err(s3_error!(
                RequestTimeTooSkewed,
                "This request was signed before this server began: sign it again."
            ));
        }
        let (now, mut halves) = (self.moment(request, from, now), self.halves(request));
        let Some(first) = halves.first(request.signature, now) else { return Ok(Use::First) };
        // Many machines may read the same with one key in the same second.
        let is_own = request.is_reading || first.from == now.from;
        let may_be_meant = !request.is_one_try && is_own && now.at.saturating_sub(first.at) <= OWN;
        let are_numbered = now.numbers != 0 && first.numbers != 0;
        if may_be_meant && (repeats == Repeats::AreRefused || !request.is_reading && !are_numbered) {
            return Err(s3_error!(
                SlowDown,
                "This very request was taken just now: sign it again, a second later."
            ));
        }
        match may_be_meant && halves.is_new_try(request.signature, first, now) {
            true => Ok(Use::Again),
            false => Err(s3_error!(
                RequestTimeTooSkewed,
                "This very request was taken already: what is meant again is signed again."
            )),
        }
    }

    /// Forgets a request that has failed: it may be sent again. What a later try with its signature has done stays.
    pub(crate) fn has_failed(&self, request: Signed, taken: Use) {
        let mut halves = self.halves(request);
        match taken {
            Use::First if halves.get(request.signature).is_some_and(|first| first.is_done) => {}
            Use::First => halves.remove(request.signature),
            Use::Again if request.numbers == 0 => {}
            Use::Again => halves.remove(request.signature.of_try(request.numbers)),
        }
    }

    /// Keeps what a later try has done, though the first with its signature fails or has failed.
    pub(crate) fn is_done(&self, request: Signed, from: Option<IpAddr>, now: Instant) {
        let (now, mut halves) = (self.moment(request, from, now), self.halves(request));
        halves.first(request.signature, now);
        if let Some(first) = halves.get(request.signature) {
            first.is_done = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const REFUSED: &str = "RequestTimeTooSkewed";
    const LATER: &str = "SlowDown";
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
            numbers: 0,
            is_one_try: false,
        }
    }

    #[test]
    fn only_what_is_signed_by_header_is_known() {
        let whole = by("host", &format!("00000000000000ff{}", "0".repeat(48)));
        assert_eq!(Signed::of(&signed("PUT", &whole)), Some(change(255)));
        assert_eq!(Signed::of(&signed("GET", &whole)), Some(Signed { is_reading: true, ..change(255) }));
        assert_eq!(Signed::of(&signed("OPTIONS", &whole)), None);
        for authorization in [by("host", ""), "Basic x".to_owned(), by("host", "zz")] {
            assert_eq!(Signed::of(&signed("PUT", &authorization)), None, "{authorization}");
        }
        for (names, is_one_try) in [
            ("amz-sdk-invocation-id;amz-sdk-request;host", true),
            ("host;amz-sdk-request;amz-sdk-invocation-id", true),
            ("host;amz-sdk-request; amz-sdk-invocation-id", false),
            ("amz-sdk-invocation-id;host", false),
            ("x-amz-sdk-invocation-id;amz-sdk-request", false),
        ] {
            let found = Signed::of(&signed("PUT", &by(names, &"0".repeat(64))));
            assert_eq!(found.map(|change| change.is_one_try), Some(is_one_try), "{names}");
        }
    }

    fn code(found: Result<Use, S3Error>) -> String {
        found.map_or_else(|error| error.code().as_str().to_owned(), |found| format!("{found:?}"))
    }

    #[test]
    fn what_was_taken_is_refused_once_it_can_not_be_meant_twice() {
        let begin = Instant::now();
        let taken = Taken::new(begin, TIME.parse().unwrap());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let take = |request, from, seconds| code(taken.take(Repeats::AreMeant, request, from, at(seconds)));
        let (one, other) = (change(1), change(2));
        assert_eq!(take(one, HERE, 0), "First");
        // Its client signs it anew when it means it again.
        assert_eq!((take(one, HERE, 0), take(one, HERE, 10)), (LATER.to_owned(), LATER.to_owned()));
        assert_eq!(take(one, HERE, 11), REFUSED);
        assert_eq!(take(Signed { is_one_try: true, ..one }, HERE, 1), REFUSED);
        for elsewhere in [None, Some("127.0.0.2".parse().unwrap()), Some("::1".parse().unwrap())] {
            assert_eq!(take(one, elsewhere, 0), REFUSED, "{elsewhere:?} is not who sent it");
        }
        let reading = Signed { is_reading: true, ..one };
        assert_eq!(take(reading, HERE, 11), "First", "readings are known apart");
        assert_eq!(take(reading, HERE, 21), "Again");
        // The second does not give a third more time.
        assert_eq!(take(reading, None, 21), "Again", "many machines may have one key");
        assert_eq!(take(reading, None, 22), REFUSED);
        // What failed was not done.
        assert_eq!(take(other, HERE, 1), "First");
        taken.has_failed(other, Use::First);
        assert_eq!(take(other, HERE, 29 * 60), "First");
        // As long as it may be good by its own time, however many come after it.
        assert_eq!(take(change(3), HERE, 31 * 60), "First");
        assert_eq!(take(one, HERE, 31 * 60), REFUSED);
        taken.has_failed(other, Use::First);
        assert_eq!(take(other, HERE, 31 * 60), "First", "it was in the older half");
        assert_eq!(take(change(4), HERE, 62 * 60), "First");
        assert_eq!(take(one, HERE, 62 * 60), "First", "it is no longer known");
    }

    #[test]
    fn no_try_is_taken_twice() {
        let begin = Instant::now();
        let taken = Taken::new(begin, TIME.parse().unwrap());
        let take =
            |numbers| code(taken.take(Repeats::AreMeant, Signed { numbers, ..change(1) }, HERE, begin));
        assert_eq!((take(7), take(7)), ("First".to_owned(), REFUSED.to_owned()));
        assert_eq!((take(8), take(8), take(7)), ("Again".to_owned(), REFUSED.to_owned(), REFUSED.to_owned()));
        // Whoever can change what is not signed has ten seconds, where the client numbers its tries.
        assert_eq!(take(9), "Again");
        assert_eq!(take(0), LATER);
        let plain =
            |numbers| code(taken.take(Repeats::AreMeant, Signed { numbers, ..change(2) }, HERE, begin));
        assert_eq!((plain(0), plain(0), plain(7)), ("First".to_owned(), LATER.to_owned(), LATER.to_owned()));
    }

    #[test]
    fn where_each_is_signed_anew_nothing_is_taken_again() {
        let begin = Instant::now();
        let taken = Taken::new(begin, TIME.parse().unwrap());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let take = |request, from, seconds| code(taken.take(Repeats::AreRefused, request, from, at(seconds)));
        let reading = Signed { is_reading: true, ..change(1) };
        let numbered = |numbers| Signed { numbers, ..change(2) };
        for (first, again) in [(change(1), change(1)), (reading, reading), (numbered(7), numbered(8))] {
            assert_eq!(take(first, HERE, 0), "First");
            assert_eq!((take(again, HERE, 0), take(again, HERE, 10)), (LATER.to_owned(), LATER.to_owned()));
            assert_eq!(take(again, HERE, 11), REFUSED);
        }
        // What failed was not done.
        assert_eq!(take(change(3), HERE, 0), "First");
        taken.has_failed(change(3), Use::First);
        assert_eq!(take(change(3), HERE, 1), "First");
        let early = Signed { signed_at: change(4).signed_at - SignedDuration::from_millis(1), ..change(4) };
        assert_eq!(take(early, HERE, 0), REFUSED, "an earlier run may have answered it");
    }

    #[test]
    fn what_failed_is_forgotten_alone() {
        let begin = Instant::now();
        let taken = Taken::new(begin, TIME.parse().unwrap());
        let request = |numbers| Signed { numbers, ..change(1) };
        let take = |numbers| code(taken.take(Repeats::AreMeant, request(numbers), HERE, begin));
        assert_eq!((take(7), take(8)), ("First".to_owned(), "Again".to_owned()));
        taken.has_failed(request(8), Use::Again);
        assert_eq!(take(8), "Again");
        // The second has done what the first could not, whichever ends first.
        for is_first_to_end in [true, false] {
            if is_first_to_end {
                taken.has_failed(request(7), Use::First);
            }
            taken.is_done(request(8), HERE, begin);
            taken.has_failed(request(7), Use::First);
            let elsewhere = taken.take(Repeats::AreMeant, request(9), None, begin);
            assert_eq!(code(elsewhere), REFUSED);
        }
        // Nobody fills the memory with what fails.
        for numbers in 10..1000 {
            assert_eq!(take(numbers), "Again");
            taken.has_failed(request(numbers), Use::Again);
        }
        assert_eq!(taken.changes.lock().younger.len(), 2);
    }

    #[test]
    fn what_an_earlier_run_may_have_answered_is_refused() {
        let begin = Instant::now();
        for (seconds, is_taken) in [(-900, false), (-11, false), (-10, true), (0, true), (900, true)] {
            let time = TIME.parse::<Timestamp>().unwrap() - SignedDuration::from_secs(seconds);
            let taken = Taken::new(begin, time);
            assert_eq!(taken.take(Repeats::AreMeant, change(1), HERE, begin).is_ok(), is_taken, "{seconds}");
        }
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let begin = Instant::now();
        let taken = Taken::new(begin, TIME.parse().unwrap());
        for number in 0..3 * MOST as u64 {
            assert_eq!(taken.take(Repeats::AreMeant, change(number), HERE, begin).unwrap(), Use::First);
        }
        let halves = taken.changes.lock();
        assert!(halves.younger.len() + halves.older.len() <= 2 * MOST);
    }
}
