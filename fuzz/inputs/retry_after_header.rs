//! No header makes Forebay wait for longer than a day.

use std::time::{Duration, SystemTime};

use forebay_actors::RateLimit;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

const MAX_WAIT: Duration = Duration::from_secs(86_400);
const NAMES: [&str; 5] = ["retry-after", "ratelimit", "ratelimit-reset", "x-ratelimit-reset", "x-ratelimit-remaining"];

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let (excerpt, wall) = (String::from_utf8_lossy(bytes), SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480));
    for name in NAMES {
        let used_up = (HeaderName::from_static("x-rate-limit-remaining"), HeaderValue::from_static("0"));
        let headers = HeaderMap::from_iter([used_up, (HeaderName::from_static(name), value.clone())]);
        let limit = RateLimit::of(StatusCode::TOO_MANY_REQUESTS, &headers, &excerpt, wall);
        assert!(limit.wait.is_none_or(|wait| wait <= MAX_WAIT), "{name}: {limit:?}");
    }
}
