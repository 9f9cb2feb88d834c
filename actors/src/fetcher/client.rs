//! The HTTP client.
//!
//! Guarantees:
//! * A response is read up to `max_page_bytes` and `timeout`, whatever its length header says and
//!   however it is compressed.
//! * It comes from the host of `fetcher.url`, and from a public address, unless the URL names
//!   another one or `fetcher.allow_private` is set.
//! * Secrets are read again before each request and never logged. Cookies are ignored.
//!
//! Does not guarantee that the API answers the same request the same way twice.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_schemas::http_url::HttpUrl;
use forebay_schemas::pipeline::{FetcherSection, Pipeline, Property};
use reqwest::dns::Resolve;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client as Http, Response, StatusCode, Url};

use super::echoed_secrets::EchoedSecrets;
use super::error::FetchError;
use super::next_url;
use super::page_error::PageError;
use super::pagination::{NextCursor, PageInfo};
use super::public_address::{NotPublic, PublicOnly, SystemResolver};
use super::rate_limit_headers::RateLimit;
use super::records::Extracted;

/// The most redirects that are followed, all on the same host.
const MAX_REDIRECTS: usize = 3;
/// The timeout of connecting, within the timeout of the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of an error's body are shown.
const EXCERPT_BYTES: usize = 200;

/// A client of the one API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    url: Url,
    /// The query parameter for the cursor.
    param: Option<String>,
    api: String,
    timeout: Duration,
    max_page_bytes: usize,
    /// The headers of the pipeline file, with references to secrets.
    headers: Arc<BTreeMap<String, Property>>,
    /// The pipeline file. Paths of secrets are relative to it.
    file: PathBuf,
}

/// A response of the API.
#[derive(Debug)]
pub(super) struct ApiResponse {
    /// The body; empty when there is nothing new.
    pub(super) body: Bytes,
    /// The URL that it came from, after redirects.
    url: Url,
    /// Whether a `Link` header names a next page.
    pub(super) link: bool,
    /// Whether its content type is newline-delimited JSON.
    pub(super) is_line_delimited: bool,
    /// How long the API asks to get no request.
    pub(super) wait: Option<Duration>,
    /// What its quotes must not contain.
    secrets: EchoedSecrets,
}

impl Client {
    /// A client of the API of `[fetcher]`. Checks that the secrets can be read.
    ///
    /// # Errors
    /// When a header or a secret is unusable.
    pub(super) fn new(pipeline: &Pipeline, fetcher: &FetcherSection) -> Result<Self, FetchError> {
        Self::with_resolver(pipeline, fetcher, Arc::new(SystemResolver))
    }

    /// A client that resolves names with `resolver`.
    pub(super) fn with_resolver(pipeline: &Pipeline, fetcher: &FetcherSection, resolver: Arc<dyn Resolve>) -> Result<Self, FetchError> {
        let url = fetcher.url.reveal().clone();
        let api = fetcher.url.to_string();
        let mut builder = Http::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .timeout(fetcher.timeout.0)
            .connect_timeout(CONNECT_TIMEOUT.min(fetcher.timeout.0))
            .redirect(Policy::custom(follow))
            .dns_resolver(if fetcher.allow_private { resolver } else { Arc::new(PublicOnly::new(&url, resolver)) })
            .referer(false)
            .gzip(true);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|cause| FetchError::Client(with_sources(cause)))?;
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

    /// The API as messages name it: its URL without the query.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Requests a page. `params` replace query parameters of the same name. Dates in `Retry-After`
    /// are compared with `wall`. When the API refuses secrets that have changed meanwhile, the
    /// request is repeated once with the new ones.
    ///
    /// # Errors
    /// When no response arrives in time, or it is not a success, does not claim to be JSON, or is
    /// too large.
    pub(super) async fn fetch(
        &self,
        wall: SystemTime,
        params: &BTreeMap<String, String>,
        cursor: Option<&str>,
    ) -> Result<ApiResponse, FetchError> {
        let url = self.page_url(params, cursor)?;
        let headers = self.headers()?;
        let response = self.request(&url, headers.clone(), wall).await;
        if let Err(FetchError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) = &response
            && let Ok(renewed) = self.headers()
            && renewed != headers
        {
            return self.request(&url, renewed, wall).await;
        }
        response
    }

    /// The URL of a page.
    fn page_url(&self, params: &BTreeMap<String, String>, cursor: Option<&str>) -> Result<Url, FetchError> {
        if let Some(cursor) = cursor
            && let Some(url) = next_url::parse(cursor, &self.url, &self.url)
        {
            return Ok(next_url::from_stored(&self.checked(url)?, &self.url));
        }
        let url = params.iter().fold(self.url.clone(), |url, (name, value)| with_param(&url, name, value));
        Ok(match (&self.param, cursor) {
            (Some(param), Some(cursor)) => with_param(&url, param, cursor),
            _ => url,
        })
    }

    /// A URL of the API, if it may be requested.
    fn checked(&self, url: Result<Url, String>) -> Result<Url, FetchError> {
        let refused = |cause| FetchError::NextUrl { api: self.api.clone(), cause };
        let url = url.map_err(|cause| refused(format!("nowhere: {cause}")))?;
        next_url::check_same_host(&self.url, &url).map_err(refused)?;
        Ok(url)
    }

    /// The next cursor of a response, in the form in which it is stored. A URL becomes absolute,
    /// without what belongs to `fetcher.url`.
    ///
    /// # Errors
    /// When it is a URL that must not be requested.
    pub(super) fn next_cursor(&self, response: &ApiResponse, cursor: String) -> Result<String, FetchError> {
        match next_url::parse(&cursor, &self.url, &response.url) {
            Some(url) => Ok(next_url::to_stored(&self.checked(url)?, &self.url)),
            None => Ok(cursor),
        }
    }

    /// Completes the page that was read from a response: the next cursor in its stored form, and
    /// the context of an error.
    ///
    /// # Errors
    /// When it is not a page, or names a next one that must not be requested.
    pub(super) fn page(
        &self,
        response: &ApiResponse,
        read: Result<(Extracted, PageInfo), PageError>,
    ) -> Result<(Extracted, PageInfo), FetchError> {
        let (extracted, mut info) = read.map_err(|cause| {
            let is_line_delimited = response.is_line_delimited
                && matches!(cause, PageError::NotJson { .. } | PageError::NotFound { .. } | PageError::NotArray { .. });
            let cause = if is_line_delimited { PageError::LineDelimited } else { cause };
            response.secrets.removed_from(FetchError::Page { api: self.api.clone(), cause, wait: response.wait })
        })?;
        info.link = response.link;
        if let NextCursor::Cursor(next) = info.next {
            info.next = NextCursor::Cursor(self.next_cursor(response, next)?);
        }
        Ok((extracted, info))
    }

    async fn request(&self, url: &Url, headers: HeaderMap, wall: SystemTime) -> Result<ApiResponse, FetchError> {
        let secrets = EchoedSecrets::of(&headers, &HttpUrl::from(url.clone()));
        match self.response(url, headers, wall).await {
            Ok(response) => Ok(ApiResponse { secrets, ..response }),
            Err(error) => Err(secrets.removed_from(error)),
        }
    }

    async fn response(&self, url: &Url, headers: HeaderMap, wall: SystemTime) -> Result<ApiResponse, FetchError> {
        let is_conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
        let mut response = self.http.get(url.clone()).headers(headers).send().await.map_err(|cause| self.failed(cause))?;
        let status = response.status();
        let api_response = |response: &Response, body: Bytes, wait| ApiResponse {
            body,
            url: response.url().clone(),
            link: next_url::links_next(response.headers(), response.url()),
            is_line_delimited: is_line_delimited(response.headers()),
            wait,
            secrets: EchoedSecrets::default(),
        };
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) || status == StatusCode::NOT_MODIFIED && is_conditional {
            return Ok(api_response(&response, Bytes::new(), None));
        }
        if !status.is_success() {
            let headers = response.headers().clone();
            let excerpt = excerpt(&mut response).await;
            let limit = RateLimit::of(status, &headers, &excerpt, wall);
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt: or_no_body(excerpt), limit });
        }
        let limit = RateLimit::of(status, response.headers(), "", wall);
        if let Some(content_type) = not_json(response.headers()) {
            let excerpt = excerpt(&mut response).await;
            // Some servers send a content type with an empty response.
            if !excerpt.is_empty() || status == StatusCode::ACCEPTED {
                return Err(FetchError::ContentType { api: self.api.clone(), content_type, excerpt: or_no_body(excerpt) });
            }
            return Ok(api_response(&response, Bytes::new(), limit.wait));
        }
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(announced.min(self.max_page_bytes));
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.failed(cause))? {
            if body.len() + chunk.len() > self.max_page_bytes {
                return Err(FetchError::TooLarge { api: self.api.clone(), max: self.max_page_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::ACCEPTED && (limit.retry_later || body.trim_ascii().is_empty()) {
            let excerpt = or_no_body(on_one_line(&body[..body.len().min(EXCERPT_BYTES)]));
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt, limit });
        }
        // Boxed, so that the records don't keep the vector's spare capacity in memory.
        Ok(api_response(&response, Bytes::from(body.into_boxed_slice()), limit.wait))
    }

    /// The headers of a request, with the current secrets.
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
            FetchError::TimedOut { api, timeout: self.timeout }
        } else if cause.is_redirect() {
            FetchError::Redirect { api, cause: cause.source().map_or_else(String::new, ToString::to_string) }
        } else if let Some(NotPublic { host, address }) = not_public(&cause) {
            FetchError::NotPublic { api, host, address }
        } else {
            FetchError::Unreachable { api, cause: with_sources(cause) }
        }
    }
}

/// Follows a redirect on the same host, not from TLS to plain text, and at most [`MAX_REDIRECTS`]
/// times. The headers of the pipeline file are sent along, and may hold a secret.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().first().cloned();
    let to = attempt.url().clone();
    let Some(from) = from else { return attempt.follow() };
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} times"))
    } else if let Err(cause) = next_url::check_same_host(&from, &to) {
        attempt.error(cause)
    } else {
        attempt.follow()
    }
}

/// The URL with a query parameter in place of those of the same name. The others stay as they are,
/// byte for byte.
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
    // Most servers read `+` as a space, and all read `%20` as one. A plus is `%2B` here.
    pairs.extend(url.query().map(|pair| pair.replace('+', "%20")));
    url.set_query(Some(&pairs.join("&")));
    url
}

fn is_loopback(url: &Url) -> bool {
    forebay_schemas::pipeline::is_loopback(url.host_str().unwrap_or_default().trim_matches(['[', ']']))
}

/// The refusal of an address, if that is the cause.
fn not_public(error: &reqwest::Error) -> Option<NotPublic> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<NotPublic>() {
            return Some(refusal.clone());
        }
        source = cause.source();
    }
    None
}

/// An error with its sources, without the URL.
fn with_sources(error: reqwest::Error) -> String {
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

/// The content type, in lower case and without parameters; empty when there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the content type is newline-delimited JSON.
fn is_line_delimited(headers: &HeaderMap) -> bool {
    let kind = content_type(headers);
    ["ndjson", "jsonl", "jsonlines", "json-lines", "json-seq", "stream+json"].iter().any(|word| kind.contains(word))
}

/// The content type, if it can't be JSON. Many APIs send `text/plain`, or none.
fn not_json(headers: &HeaderMap) -> Option<String> {
    let kind = content_type(headers);
    let may_be = kind.is_empty()
        || kind.contains("json")
        || kind.contains("javascript")
        || matches!(kind.as_str(), "text/plain" | "application/octet-stream");
    (!may_be).then_some(kind)
}

/// The start of a body on one line, as far as it arrives.
async fn excerpt(response: &mut Response) -> String {
    let mut body = Vec::new();
    while body.len() < EXCERPT_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(EXCERPT_BYTES)]),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(EXCERPT_BYTES);
    on_one_line(&body)
}

fn on_one_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An excerpt for a message.
fn or_no_body(excerpt: String) -> String {
    if excerpt.is_empty() { "no body".to_owned() } else { excerpt }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_replaces_its_parameter_and_leaves_the_others_as_they_are() {
        let with = |url: &str, cursor: &str| with_param(&Url::parse(url).unwrap(), "since", cursor).to_string();
        assert_eq!(with("http://api.example/users", "7"), "http://api.example/users?since=7");
        assert_eq!(
            with("http://api.example/?since=1&q=a%20b+c&&s%69nce=2&sincere=3#top", "7"),
            "http://api.example/?q=a%20b+c&sincere=3&since=7#top"
        );
        assert_eq!(with("http://api.example/", "a b+c&d=é/"), "http://api.example/?since=a%20b%2Bc%26d%3D%C3%A9%2F");
    }
}
