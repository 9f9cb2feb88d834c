//! A `Link` header names a next page only if it says so.

use forebay_actors::next_link;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, LINK};

/// Checks one input.
pub fn check(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let requested = Url::parse("https://api.example/people?page=2").expect("a valid URL");
    let found = next_link(&HeaderMap::from_iter([(LINK, value)]), &requested).is_some();
    // In quotes, `ne\xt` is `next`.
    let unescaped: Vec<u8> = bytes.iter().filter(|byte| **byte != b'\\').map(u8::to_ascii_lowercase).collect();
    assert!(!found || unescaped.windows(4).any(|word| word == b"next"));
}
