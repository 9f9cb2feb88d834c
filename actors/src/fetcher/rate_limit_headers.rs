//! What a response says about the API's rate limit. Pure.
//!
//! Guarantees: a wait is at most [`MAX_WAIT`], whatever the headers say.
//!
//! Does not guarantee that every API's headers are known. Unknown ones are ignored.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDateTime};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest wait; a request follows after it at the latest. A run waits for less:
/// `fetcher.max_wait`.
const MAX_WAIT: Duration = Duration::from_secs(86_400);
/// A number from here on is a time in seconds since 1970; below, it is a duration.
const EPOCH_SECONDS: f64 = 1e9;
/// A number from here on is a time in milliseconds since 1970.
const EPOCH_MILLIS: f64 = 1e12;

/// What a response asks of its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Whether it says that the same request may succeed later.
    pub retry_later: bool,
    /// How long the API asks to get no request.
    pub wait: Option<Duration>,
}

impl RateLimit {
    /// The rate limit in a response. `excerpt` is the start of its body. Dates are compared with
    /// `wall`.
    pub fn of(status: StatusCode, headers: &HeaderMap, excerpt: &str, wall: SystemTime) -> Self {
        let retry_after = headers.get(RETRY_AFTER).map(|value| value.to_str().ok().and_then(|text| wait_until(text, wall)));
        if let Some(wait) = retry_after {
            return Self { retry_later: true, wait };
        }
        if number(headers, "remaining").is_some_and(|left| left <= 0.0) {
            let reset = fields(headers, "reset").find_map(|text| wait_until(text, wall));
            return Self { retry_later: true, wait: reset };
        }
        let policies = headers.get_all("ratelimit").into_iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
        let used_up: Vec<Option<Duration>> = policies.filter_map(|policy| used_up_policy(policy, wall)).collect();
        if !used_up.is_empty() {
            return Self { retry_later: true, wait: used_up.into_iter().max().flatten() };
        }
        Self { retry_later: status == StatusCode::FORBIDDEN && names_a_limit(excerpt), wait: None }
    }
}

/// The values of a field of the rate limit, from the headers of the draft standard and of its
/// predecessors.
fn fields<'h>(headers: &'h HeaderMap, what: &'static str) -> impl Iterator<Item = &'h str> {
    let names = ["ratelimit-", "x-ratelimit-", "x-rate-limit-", "rate-limit-"];
    let own = names.into_iter().flat_map(move |name| headers.get_all(format!("{name}{what}"))).filter_map(|value| value.to_str().ok());
    // `RateLimit: limit=100, remaining=0, reset=50`
    let joined = headers.get_all("ratelimit").into_iter().filter_map(|value| value.to_str().ok());
    let parts = joined.flat_map(|text| text.split([',', ';'])).filter_map(|part| part.trim().split_once('='));
    own.chain(parts.filter(move |(name, _)| *name == what).map(|(_, value)| value))
}

/// The wait of one policy of the standard's header, `"NAME";r=REMAINING;t=SECONDS`, if it is used
/// up.
fn used_up_policy(policy: &str, wall: SystemTime) -> Option<Option<Duration>> {
    let value =
        |name: &str| policy.split(';').filter_map(|part| part.trim().split_once('=')).find(|(it, _)| *it == name).map(|(_, value)| value);
    let remaining: f64 = value("r")?.trim().parse().ok()?;
    (remaining <= 0.0).then(|| value("t").and_then(|text| wait_until(text, wall)))
}

fn number(headers: &HeaderMap, what: &'static str) -> Option<f64> {
    fields(headers, what).find_map(|text| text.split([',', ';']).next()?.trim().parse().ok())
}

/// The duration until the time in a text: seconds, with or without a fraction, or a date. Seconds
/// and milliseconds since 1970 are told apart by their size. For a time in the past it is zero.
fn wait_until(text: &str, wall: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let seconds = match text.parse::<f64>() {
        Ok(number) if number >= EPOCH_MILLIS => number / 1e3 - now,
        Ok(number) if number >= EPOCH_SECONDS => number - now,
        Ok(number) => number,
        Err(_) => date(text)? - now,
    };
    if !seconds.is_finite() {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.clamp(0.0, MAX_WAIT.as_secs_f64())))
}

/// An HTTP date in any of its three forms, or an RFC 3339 date, in seconds since 1970.
fn date(text: &str) -> Option<f64> {
    let aware = DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_rfc3339(text)).map(|date| date.timestamp_millis());
    let naive = || {
        let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
        forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(|date| date.and_utc().timestamp_millis())
    };
    Some(aware.ok().or_else(naive)? as f64 / 1e3)
}

/// Whether the text of a refusal mentions a rate limit.
fn names_a_limit(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    ["ratelimit", "toomanyrequests", "throttl"].iter().any(|word| letters.contains(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// 21 October 2015, 07:28:00.
    const WALL: u64 = 1_445_412_480;

    fn limit(status: u16, headers: &[(&'static str, &str)], body: &str) -> RateLimit {
        let header = |&(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(WALL);
        RateLimit::of(StatusCode::from_u16(status).unwrap(), &headers.iter().map(header).collect(), body, wall)
    }
    fn after(text: &str) -> Option<f64> {
        let limit = limit(403, &[("retry-after", text)], "");
        assert!(limit.retry_later, "{text}: a Retry-After of any value means that the request may succeed later");
        limit.wait.map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_in_any_form_and_at_most_a_day() {
        for (text, wait) in [
            ("7", 7.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("1.5", 1.5),
            ("3600", 3600.0),
            ("99999999", 86_400.0),
            ("-3", 0.0),
            ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
            ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
            ("Wed Oct 21 07:28:30 2015", 30.0),
            ("2015-10-21T07:28:30Z", 30.0),
            ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ] {
            assert_eq!(after(text), Some(wait), "{text}");
        }
        for text in ["soon", "", "NaN", "inf"] {
            assert_eq!(after(text), None, "{text}");
        }
    }

    #[test]
    fn an_exhausted_limit_waits_until_it_is_reset() {
        let remaining = |name, left| (name, left);
        for (headers, wait) in [
            (vec![remaining("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1445412490")], Some(10)),
            (vec![remaining("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1445412490000")], Some(10)),
            (vec![remaining("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1445412000")], Some(0)),
            (vec![remaining("ratelimit-remaining", "0"), ("ratelimit-reset", "5")], Some(5)),
            (vec![remaining("x-rate-limit-remaining", " 0 "), ("x-rate-limit-reset", "1445412483")], Some(3)),
            (vec![remaining("x-ratelimit-remaining", "0")], None),
            (vec![("ratelimit", "limit=100, remaining=0, reset=50")], Some(50)),
            (vec![("ratelimit", "\"default\";r=0;t=20")], Some(20)),
            (vec![("ratelimit", "\"burst\";r=99;t=1, \"hour\";r=0;t=30, \"day\"; r=0; t=40")], Some(40)),
            (vec![("ratelimit", "\"burst\";r=0")], None),
        ] {
            let limit = limit(403, &headers, "");
            assert_eq!((limit.retry_later, limit.wait), (true, wait.map(Duration::from_secs)), "{headers:?}");
        }
    }

    #[test]
    fn a_refusal_without_a_rate_limit_is_final() {
        assert!(!limit(403, &[("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "1445412490")], "Forbidden").retry_later);
        assert!(!limit(403, &[], "you may not read this").retry_later);
        assert!(!limit(404, &[], "no rate limit of that name").retry_later, "only a 403 is about the client");
        assert!(limit(403, &[], "{\"message\": \"You have exceeded a secondary rate limit.\"}").retry_later);
        assert!(limit(403, &[], "{\"reason\": \"userRateLimitExceeded\"}").retry_later);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_wait_for_longer_than_the_limit(
            text in "[-+.0-9eEinfaNTZ:, GMTSuJ=;\"]{0,24}|[ -~]{0,24}", name in prop::sample::select(vec![
                "retry-after", "ratelimit", "ratelimit-reset", "x-ratelimit-reset", "x-ratelimit-remaining",
            ]),
        ) {
            let mut headers = HeaderMap::new();
            headers.insert("x-rate-limit-remaining", "0".parse().unwrap());
            headers.insert(name, text.parse().unwrap());
            let found = RateLimit::of(StatusCode::TOO_MANY_REQUESTS, &headers, &text, SystemTime::UNIX_EPOCH + Duration::from_secs(WALL));
            prop_assert!(found.wait.is_none_or(|wait| wait <= MAX_WAIT), "{found:?}");
        }
    }
}
