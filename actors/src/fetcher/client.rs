//! The HTTP client. Guarantee: an answer is read up to its limit and its time, whatever its length says and however it is compressed; it
//! comes from the host the file names; secrets are read again before each request; no cookie is kept and no secret is logged. Not guaranteed: that
//! the API says the same twice.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_schemas::pipeline::{FetcherSection, Pipeline, Property};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client as Http, Response, StatusCode, Url};

use super::error::FetchError;
use super::limit::Limit;
use super::next;
use super::page::{Extracted, PageError};
use super::paging::{Next, Said};

/// Redirects followed, all on the same host.
const REDIRECTS: usize = 3;
/// The time-out of making the connection, which is part of the whole.
const CONNECT: Duration = Duration::from_secs(10);
/// How much of an error's body is shown.
const EXCERPT: usize = 200;

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
    /// The file's headers; secrets as references.
    headers: Arc<BTreeMap<String, Property>>,
    /// The pipeline file, beside which secrets lie.
    file: PathBuf,
}

/// What the API answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The body; empty where there is nothing new.
    pub(super) body: Bytes,
    /// The address that the answer is from.
    url: Url,
    /// Whether a header names a next page.
    pub(super) link: bool,
    /// Whether it says that it is JSON line by line.
    pub(super) lines: bool,
    /// How long the API asks to be left alone.
    pub(super) wait: Option<Duration>,
}

impl Client {
    /// A client of the API that `[fetcher]` names. That secrets can be had is seen here.
    ///
    /// # Errors
    /// When the address, a header or a secret can't be used.
    pub(super) fn new(pipeline: &Pipeline, fetcher: &FetcherSection) -> Result<Self, FetchError> {
        let url = Url::parse(&fetcher.url).map_err(|cause| FetchError::Address(cause.to_string()))?;
        let api = without_query(&url);
        let mut builder = Http::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .timeout(fetcher.timeout.0)
            .connect_timeout(CONNECT.min(fetcher.timeout.0))
            .redirect(Policy::custom(follow))
            .referer(false)
            .gzip(true);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|cause| FetchError::Client(reasons(cause)))?;
        let client = Self {
            http,
            url,
            param: fetcher.cursor.as_ref().map(|cursor| cursor.param.clone()),
            api,
            timeout: fetcher.timeout.0,
            max_page_bytes: fetcher.max_page_bytes.as_usize(),
            headers: Arc::new(fetcher.headers.clone()),
            file: pipeline.source.path.clone(),
        };
        client.headers()?;
        Ok(client)
    }

    /// The API, as messages name it: its address without the query.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Asks for a page, with these query parameters in place of those of the same name, and a cursor if there is one. `wall` is the time by which an
    /// HTTP date in `Retry-After` is read. A refusal of secrets that have changed meanwhile is followed by one more request, with the new ones.
    ///
    /// # Errors
    /// When no answer comes in time, or it is no success, not JSON by its own account, or too large.
    pub(super) async fn fetch(
        &self,
        wall: SystemTime,
        params: &BTreeMap<String, String>,
        cursor: Option<&str>,
    ) -> Result<Answer, FetchError> {
        let url = self.address(params, cursor)?;
        let headers = self.headers()?;
        let answer = self.ask(&url, headers.clone(), wall).await;
        if let Err(FetchError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) = &answer
            && let Ok(renewed) = self.headers()
            && renewed != headers
        {
            return self.ask(&url, renewed, wall).await;
        }
        answer
    }

    /// The address of a page.
    fn address(&self, params: &BTreeMap<String, String>, cursor: Option<&str>) -> Result<Url, FetchError> {
        if let Some(cursor) = cursor
            && let Some(address) = next::address(cursor, &self.url, &self.url)
        {
            return Ok(next::whole(&self.checked(address)?, &self.url));
        }
        let url = params.iter().fold(self.url.clone(), |url, (name, value)| with_param(&url, name, value));
        Ok(match (&self.param, cursor) {
            (Some(param), Some(cursor)) => with_param(&url, param, cursor),
            _ => url,
        })
    }

    /// An address that the API gave, if it may be asked.
    fn checked(&self, address: Result<Url, String>) -> Result<Url, FetchError> {
        let refused = |cause| FetchError::NextAddress { api: self.api.clone(), cause };
        let url = address.map_err(|cause| refused(format!("nowhere: {cause}")))?;
        next::same_host(&self.url, &url).map_err(refused)?;
        Ok(url)
    }

    /// The next cursor of an answer, as it is kept and asked with; an address is whole, whatever it was relative to, but for what is the file's own.
    ///
    /// # Errors
    /// When it is an address that must not be asked.
    pub(super) fn next(&self, answer: &Answer, cursor: String) -> Result<String, FetchError> {
        match next::address(&cursor, &self.url, &answer.url) {
            Some(address) => Ok(next::kept(&self.checked(address)?, &self.url)),
            None => Ok(cursor),
        }
    }

    /// What was read of an answer: its records, and what it says of the next page, as that is kept and asked with.
    ///
    /// # Errors
    /// When it was no page, or names a next one that must not be asked.
    pub(super) fn page(&self, answer: &Answer, read: Result<(Extracted, Said), PageError>) -> Result<(Extracted, Said), FetchError> {
        let (found, mut said) = read.map_err(|cause| {
            let is_lines =
                answer.lines && matches!(cause, PageError::NotJson { .. } | PageError::NotFound { .. } | PageError::NotArray { .. });
            let cause = if is_lines { PageError::LineDelimited } else { cause };
            FetchError::Page { api: self.api.clone(), cause, wait: answer.wait }
        })?;
        said.link = answer.link;
        if let Next::Cursor(next) = said.next {
            said.next = Next::Cursor(self.next(answer, next)?);
        }
        Ok((found, said))
    }

    async fn ask(&self, url: &Url, headers: HeaderMap, wall: SystemTime) -> Result<Answer, FetchError> {
        let is_conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
        let mut response = self.http.get(url.clone()).headers(headers).send().await.map_err(|cause| self.failed(cause))?;
        let status = response.status();
        let answer = |response: &Response, body: Bytes, wait| Answer {
            body,
            url: response.url().clone(),
            link: next::links_next(response.headers(), response.url()),
            lines: is_lines(response.headers()),
            wait,
        };
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) || status == StatusCode::NOT_MODIFIED && is_conditional {
            return Ok(answer(&response, Bytes::new(), None));
        }
        if !status.is_success() {
            let headers = response.headers().clone();
            let excerpt = excerpt(&mut response).await;
            let limit = Limit::of(status, &headers, &excerpt, wall);
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt: or_no_body(excerpt), limit });
        }
        let limit = Limit::of(status, response.headers(), "", wall);
        if let Some(content_type) = not_json(response.headers()) {
            let excerpt = excerpt(&mut response).await;
            // Some servers give a type to an answer that is none.
            if !excerpt.is_empty() || status == StatusCode::ACCEPTED {
                return Err(FetchError::ContentType { api: self.api.clone(), content_type, excerpt: or_no_body(excerpt) });
            }
            return Ok(answer(&response, Bytes::new(), limit.wait));
        }
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(announced.min(self.max_page_bytes));
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.failed(cause))? {
            if body.len() + chunk.len() > self.max_page_bytes {
                return Err(FetchError::TooLarge { api: self.api.clone(), most: self.max_page_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::ACCEPTED && (limit.passes || body.trim_ascii().is_empty()) {
            let excerpt = or_no_body(on_a_line(&body[..body.len().min(EXCERPT)]));
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt, limit });
        }
        // Boxed, so that the records don't hold the vector's spare room.
        Ok(answer(&response, Bytes::from(body.into_boxed_slice()), limit.wait))
    }

    /// The headers of a request, with the secrets as they are now.
    fn headers(&self) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        for (name, value) in &*self.headers {
            let header = |cause: String| FetchError::Header { name: name.clone(), cause };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|cause| header(cause.to_string()))?;
            let value = match value {
                Property::Plain(text) => HeaderValue::from_str(text).map_err(|cause| header(cause.to_string()))?,
                Property::Secret(secret) => {
                    let text = secret.reveal(&self.file).map_err(|cause| FetchError::Secret { name: name.clone(), cause })?;
                    let mut value = HeaderValue::from_str(&text).map_err(|cause| header(cause.to_string()))?;
                    value.set_sensitive(true);
                    value
                }
            };
            headers.insert(key, value);
        }
        Ok(headers)
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

/// Follows a redirect on the same host, not from TLS to plain text, and not for ever: the file's headers may hold a secret, and they
/// go along.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().first().cloned();
    let to = attempt.url().clone();
    let Some(from) = from else { return attempt.follow() };
    if attempt.previous().len() > REDIRECTS {
        attempt.error(format!("more than {REDIRECTS} times"))
    } else if let Err(cause) = next::same_host(&from, &to) {
        attempt.error(cause)
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

/// What the answer says it is, in lower case and without parameters; empty when it says nothing.
fn content_type(headers: &HeaderMap) -> String {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether it says that it is JSON line by line.
fn is_lines(headers: &HeaderMap) -> bool {
    let kind = content_type(headers);
    ["ndjson", "jsonl", "jsonlines", "json-lines", "json-seq", "stream+json"].iter().any(|word| kind.contains(word))
}

/// What the answer says it is, if that can't be JSON. Many APIs say `text/plain`, or nothing.
fn not_json(headers: &HeaderMap) -> Option<String> {
    let kind = content_type(headers);
    let may_be = kind.is_empty()
        || kind.contains("json")
        || kind.contains("javascript")
        || matches!(kind.as_str(), "text/plain" | "application/octet-stream");
    (!may_be).then_some(kind)
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
    on_a_line(&body)
}

fn on_a_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An excerpt as a message has it.
fn or_no_body(excerpt: String) -> String {
    if excerpt.is_empty() { "no body".to_owned() } else { excerpt }
}

#[cfg(test)]
mod tests {
    use super::*;

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
