//! A `Link` header names a next page only if it says so.

use forebay_actors::next_link;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, LINK};

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let requested = Url::parse("https://api.example/people?page=2").expect("a valid URL");
    let found = next_link(&HeaderMap::from_iter([(LINK, value)]), &requested).is_some();
    assert!(!found || bytes.to_ascii_lowercase().windows(4).any(|word| word == b"next"));
}
