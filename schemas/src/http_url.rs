//! HTTP URLs of the pipeline file and from outside, which may hold secrets.
//!
//! Guarantees: as text, in `Debug` output and as JSON, a URL has no user, password, query and
//! fragment.
//!
//! Does not guarantee that the path holds no secret.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

use crate::secret_name::may_be_secret;
use crate::template::in_url;

/// An `http` or `https` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

/// The text is not an HTTP URL. Does not repeat the text, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an HTTP URL; write the full URL, such as \"https://api.example.org/users?limit=100\"")]
pub struct NotHttpUrl;

impl HttpUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// When it is not a URL, or its scheme is another one.
    pub fn parse(text: &str) -> Result<Self, NotHttpUrl> {
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).map(Self).ok_or(NotHttpUrl)
    }

    /// The whole URL, for a request. The caller must not print it.
    pub fn reveal(&self) -> &Url {
        &self.0
    }

    /// The names and values, as written, of the query parameters whose names say that they may be
    /// secrets.
    pub(crate) fn secret_parameters(&self) -> impl Iterator<Item = (String, &str)> {
        let written = self.0.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = self.0.query_pairs().zip(written.map(|pair| pair.split_once('=').map_or("", |(_, value)| value)));
        pairs.filter(|((name, _), _)| may_be_secret(name)).map(|((name, _), value)| (name.into_owned(), value))
    }

    /// The values of these parameters, as written and decoded.
    pub fn secret_values(&self) -> impl Iterator<Item = String> {
        let decoded = self.0.query_pairs().filter(|(name, _)| may_be_secret(name)).map(|(_, value)| value.into_owned());
        decoded.chain(self.secret_parameters().map(|(_, value)| value.to_owned()))
    }

    /// The URL with its query: `***` in place of the values of the `hidden` parameters, and of
    /// those whose names say that they may be secrets unless they are among the `shown`.
    pub fn masked(&self, hidden: &[&str], shown: &[&str]) -> String {
        let pairs = self.0.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let name = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default();
            let is_secret = may_be_secret(&name) && !shown.contains(&name.as_str());
            let written = pair.split_once('=').map_or(pair, |(written, _)| written);
            if hidden.contains(&name.as_str()) || is_secret { format!("{written}=***") } else { pair.to_owned() }
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { self.to_string() } else { format!("{self}?{query}") }
    }

    /// Whether it has a user or a password.
    pub fn has_user(&self) -> bool {
        !self.0.username().is_empty() || self.0.password().is_some()
    }
}

impl From<Url> for HttpUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // Fails only for a URL without a host, which has neither.
        let _ = (shown.set_username(""), shown.set_password(None));
        f.write_str(&in_url(shown.as_str()))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_password_query_and_fragment() {
        let url = HttpUrl::parse("https://user:pass@api.example/v1?key=hunter2#x").unwrap();
        let shown = "https://api.example/v1";
        assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        assert_eq!(url.reveal().as_str(), "https://user:pass@api.example/v1?key=hunter2#x");
    }

    #[test]
    fn a_url_with_its_query_has_stars_in_place_of_secrets() {
        let url = HttpUrl::parse("https://api.example/v1?page=2&api%5Fkey=hunter2&next_token=abc&k=hunter3&flag#x").unwrap();
        assert_eq!(url.masked(&["k"], &["next_token"]), "https://api.example/v1?page=2&api%5Fkey=***&next_token=abc&k=***&flag");
        assert_eq!(HttpUrl::parse("https://api.example/v1?").unwrap().masked(&[], &[]), "https://api.example/v1");
    }

    #[test]
    fn other_schemes_and_incomplete_urls_are_refused_without_repeating_them() {
        for text in ["", "api.example", "127.0.0.1:4318", "localhost:5000", "http://", "ftp://hunter2@api.example/", "http://hunter2:x:y"] {
            assert!(!HttpUrl::parse(text).expect_err(text).to_string().contains("hunter2"));
        }
    }
}
