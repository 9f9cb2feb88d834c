//! The HTTP client. Guarantee: an answer is read up to its limit and its time, whatever its length says and however it is compressed; it
//! comes from the host the file names; no cookie is kept and no secret is logged. Not guaranteed: that the API says the same twice.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::DateTime;
use forebay_schemas::pipeline::{FetcherTable, Pipeline, Property};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client as Http, Response, Url};

use super::error::FetchError;

/// Redirects followed, all on the same host.
const REDIRECTS: usize = 3;
/// The time-out of making the connection, which is part of the whole.
const CONNECT: Duration = Duration::from_secs(10);
/// How much of an error's body is shown.
const EXCERPT: usize = 200;
/// The longest an API may ask to be left alone; it is asked again after that.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A client of the one API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    url: Url,
    /// The query parameter that a cursor is sent in.
    param: Option<String>,
    api: String,
    timeout: Duration,
    max_page_bytes: usize,
}

impl Client {
    /// A client of the API that `[fetcher]` names. Secrets are revealed here.
    ///
    /// # Errors
    /// When the address, a header or a secret can't be used.
    pub(super) fn new(pipeline: &Pipeline, fetcher: &FetcherTable) -> Result<Self, FetchError> {
        let url = Url::parse(&fetcher.url).map_err(|cause| FetchError::Address(cause.to_string()))?;
        let api = without_query(&url);
        let mut builder = Http::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers(pipeline, fetcher)?)
            .timeout(fetcher.timeout.0)
            .connect_timeout(CONNECT.min(fetcher.timeout.0))
            .redirect(Policy::custom(follow))
            .referer(false)
            .gzip(true);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|cause| FetchError::Client(reasons(cause)))?;
        let param = fetcher.cursor.as_ref().map(|cursor| cursor.param.clone());
        Ok(Self { http, url, param, api, timeout: fetcher.timeout.0, max_page_bytes: fetcher.max_page_bytes.as_usize() })
    }

    /// The API, as messages name it: its address without the query.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Asks for a page, with these query parameters in place of those of the same name, and a cursor if there is one. `wall` is the time by which an HTTP date in `Retry-After` is read.
    ///
    /// # Errors
    /// When no answer comes in time, or it is no success, not JSON by its own account, or too large.
    pub(super) async fn fetch(
        &self,
        wall: SystemTime,
        params: &BTreeMap<String, String>,
        cursor: Option<&str>,
    ) -> Result<Bytes, FetchError> {
        let mut url = params.iter().fold(self.url.clone(), |url, (name, value)| with_param(&url, name, value));
        if let (Some(param), Some(cursor)) = (&self.param, cursor) {
            url = with_param(&url, param, cursor);
        }
        let mut response = self.http.get(url).send().await.map_err(|cause| self.failed(cause))?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, wall));
            let excerpt = excerpt(&mut response).await;
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt, retry_after });
        }
        if let Some(content_type) = not_json(response.headers()) {
            let excerpt = excerpt(&mut response).await;
            return Err(FetchError::ContentType { api: self.api.clone(), content_type, excerpt });
        }
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(announced.min(self.max_page_bytes));
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.failed(cause))? {
            if body.len() + chunk.len() > self.max_page_bytes {
                return Err(FetchError::TooLarge { api: self.api.clone(), most: self.max_page_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        // Boxed, so that the records don't hold the vector's spare room.
        Ok(Bytes::from(body.into_boxed_slice()))
    }

    fn failed(&self, cause: reqwest::Error) -> FetchError {
        let api = self.api.clone();
        if cause.is_timeout() {
            FetchError::TimedOut { api, within: self.timeout }
        } else if cause.is_redirect() {
            FetchError::Redirect { api, cause: cause.source().map_or_else(String::new, ToString::to_string) }
        } else {
            FetchError::Unreachable { api, cause: reasons(cause) }
        }
    }
}

fn headers(pipeline: &Pipeline, fetcher: &FetcherTable) -> Result<HeaderMap, FetchError> {
    let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    for (name, value) in &fetcher.headers {
        let header = |cause: String| FetchError::Header { name: name.clone(), cause };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|cause| header(cause.to_string()))?;
        let value = match value {
            Property::Plain(text) => HeaderValue::from_str(text).map_err(|cause| header(cause.to_string()))?,
            Property::Secret(secret) => {
                let text = secret.reveal(&pipeline.source.path).map_err(|cause| FetchError::Secret { name: name.clone(), cause })?;
                let mut value = HeaderValue::from_str(&text).map_err(|cause| header(cause.to_string()))?;
                value.set_sensitive(true);
                value
            }
        };
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Follows a redirect on the same host, not from TLS to plain text, and not for ever: the file's headers may hold a secret, and they
/// go along.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().first().cloned();
    let to = attempt.url().clone();
    let Some(from) = from else { return attempt.follow() };
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} times"))
    } else if from.host() != to.host() || from.port_or_known_default() != to.port_or_known_default() && from.scheme() == to.scheme() {
        attempt.error(format!("to another host, {}", without_query(&to)))
    } else if from.scheme() == "https" && to.scheme() != "https" {
        attempt.error(format!("to plain text, {}", without_query(&to)))
    } else {
        attempt.follow()
    }
}

/// The address with a parameter in its query, in place of those of the same name. The others stay as they are, byte for byte.
fn with_param(url: &Url, name: &str, value: &str) -> Url {
    let mut url = url.clone();
    let query = url.query().unwrap_or_default().to_owned();
    let is_same = |pair: &str| {
        let mut alone = url.clone();
        alone.set_query(Some(pair));
        alone.query_pairs().next().is_some_and(|(other, _)| other == name)
    };
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty() && !is_same(pair)).map(str::to_owned).collect();
    url.set_query(None);
    url.query_pairs_mut().append_pair(name, value);
    // A form's `+` is a space to most servers, `%20` to all; a plus itself is `%2B` here.
    pairs.extend(url.query().map(|pair| pair.replace('+', "%20")));
    url.set_query(Some(&pairs.join("&")));
    url
}

/// The address less user, password, query and fragment, which may hold secrets.
pub(crate) fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// An address without user, password and query, as it may be shown.
pub fn without_secrets(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| without_query(&url))
}

fn is_loopback(url: &Url) -> bool {
    forebay_schemas::pipeline::is_loopback(url.host_str().unwrap_or_default().trim_matches(['[', ']']))
}

/// An error with its reasons, without the address in it.
fn reasons(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What the answer says it is, if that can't be JSON. Many APIs say `text/plain`, or nothing.
fn not_json(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let may_be = kind.is_empty()
        || kind.contains("json")
        || kind.contains("javascript")
        || matches!(kind.as_str(), "text/plain" | "application/octet-stream");
    (!may_be).then_some(kind)
}

/// How long the API asks to be left alone: seconds, or until a date.
fn retry_after(value: &HeaderValue, wall: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => SystemTime::from(DateTime::parse_from_rfc2822(text).ok()?).duration_since(wall).unwrap_or_default(),
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// The beginning of a body, on one line, as far as it comes.
async fn excerpt(response: &mut Response) -> String {
    let mut body = Vec::new();
    while body.len() < EXCERPT {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(EXCERPT)]),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(EXCERPT);
    if body.is_empty() {
        return "no body".to_owned();
    }
    let text = String::from_utf8_lossy(&body);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_ten_minutes_at_most() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_480);
        let wait = |text| retry_after(&HeaderValue::from_static(text), wall);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("86400"), Some(Duration::from_secs(600)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_cursor_takes_the_place_of_its_parameter_and_leaves_the_others_as_they_are() {
        let with = |url: &str, cursor: &str| with_param(&Url::parse(url).unwrap(), "since", cursor).to_string();
        assert_eq!(with("http://api.example/users", "7"), "http://api.example/users?since=7");
        assert_eq!(
            with("http://api.example/?since=1&q=a%20b+c&&s%69nce=2&sincere=3#top", "7"),
            "http://api.example/?q=a%20b+c&sincere=3&since=7#top"
        );
        assert_eq!(with("http://api.example/", "a b+c&d=é/"), "http://api.example/?since=a%20b%2Bc%26d%3D%C3%A9%2F");
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let url = Url::parse("https://user:pass@api.example/v1?key=hunter2#x").unwrap();
        assert_eq!(without_query(&url), "https://api.example/v1");
    }
}
