//! URLs as they may be logged and displayed.
//!
//! Guarantees: the result has no user, password, query or fragment, which may hold secrets.
//!
//! Does not guarantee that the path holds no secret.

use reqwest::Url;

/// The URL without user, password, query and fragment.
pub(crate) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The URL without user, password, query and fragment; empty when `url` is not a URL.
pub fn without_secrets(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| without_query(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_password_query_and_fragment() {
        assert_eq!(without_secrets("https://user:pass@api.example/v1?key=hunter2#x"), "https://api.example/v1");
        assert_eq!(without_secrets("no URL"), "");
    }
}
