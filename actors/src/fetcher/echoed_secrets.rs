//! The secrets of a request, which the API's answer may repeat.
//!
//! Guarantees: an error that quotes the answer contains none of them in the form in which it was
//! sent, not even a beginning of four or more characters at its end, where quotes are cut.
//!
//! Does not guarantee that an answer that encodes or splits a secret is recognised.

use std::fmt;

use forebay_dataplane::MASK;
use forebay_schemas::http_url::HttpUrl;
use reqwest::header::HeaderMap;

use super::error::FetchError;

/// Shorter values are no secrets, and occur by chance.
const MIN_CHARS: usize = 4;

/// The secrets of a request.
#[derive(Clone, Default)]
pub(super) struct EchoedSecrets(Vec<String>);

impl EchoedSecrets {
    /// The sensitive headers, with and without their scheme (`Bearer`), and the parameters of the
    /// URL that may be secrets.
    pub(super) fn of(headers: &HeaderMap, url: &HttpUrl) -> Self {
        let headers = headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
        let headers = headers.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()]).map(str::to_owned);
        Self::from_texts(headers.chain(url.secret_values()))
    }

    /// These secrets.
    pub(super) fn from_texts(texts: impl Iterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = texts.filter(|secret| secret.len() >= MIN_CHARS).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// With further secrets.
    pub(super) fn and(self, secrets: impl Iterator<Item = String>) -> Self {
        Self::from_texts(self.0.into_iter().chain(secrets))
    }

    /// The error without these secrets in its quotes.
    pub(super) fn removed_from(&self, error: FetchError) -> FetchError {
        error.with_quotes(|quote| self.masked(&quote))
    }

    fn masked(&self, text: &str) -> String {
        let mut text = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        for secret in &self.0 {
            let begins = |len: &usize| secret.get(..*len).is_some_and(|start| text.ends_with(start));
            if let Some(len) = (MIN_CHARS..secret.len()).rev().find(begins) {
                text.truncate(text.len() - len);
                text.push_str(MASK);
            }
        }
        text
    }
}

/// Prints their number.
impl fmt::Debug for EchoedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EchoedSecrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_that_repeats_a_secret_is_quoted_without_it() {
        let mut token = HeaderValue::from_static("Bearer hunter2-hunter2");
        token.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (reqwest::header::AUTHORIZATION, token),
            (reqwest::header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let url = HttpUrl::parse("http://api.example/?limit=1000&api_key=k%2Fey-1").unwrap();
        let secrets = EchoedSecrets::of(&headers, &url);
        for (answer, quoted) in [
            ("invalid header: Bearer hunter2-hunter2", "invalid header: ***"),
            ("token hunter2-hunter2 has expired", "token *** has expired"),
            ("no access to /?limit=1000&api_key=k%2Fey-1", "no access to /?limit=1000&api_key=***"),
            ("the key k/ey-1 is unknown", "the key *** is unknown"),
            ("your token was hunter2-hun", "your token was ***"),
            ("accepts application/json", "accepts application/json"),
        ] {
            assert_eq!(secrets.masked(answer), quoted);
        }
        assert!(!format!("{secrets:?}").contains("hunter2"));
    }
}
