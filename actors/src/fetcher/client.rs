//! The HTTP client.
//!
//! Guarantees:
//! * A response is read up to `max_page_bytes` and `timeout`, whatever its length header says and
//!   however it is compressed.
//! * It comes from the host of `fetcher.url`, or from one of `allowed_hosts`, and from a public
//!   address, unless the URL names another one or `fetcher.allow_private` is set.
//! * Secrets are read again before each request, sent to the host of `fetcher.url` only, and never
//!   logged. Cookies are ignored.
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
use forebay_schemas::pipeline::{FetcherSection, Pipeline, Property, Secret};
use forebay_schemas::source_read::MAX_CURSOR_BYTES;
use reqwest::dns::Resolve;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::{Client as Http, Method, Response, StatusCode, Url};

use super::echoed_secrets::EchoedSecrets;
use super::error::FetchError;
use super::link_header::next_link;
use super::next_url;
use super::page::{AnswerPlaces, count, text_cursor};
use super::page_error::PageError;
use super::pagination::{NextCursor, PageInfo};
use super::public_address::{NotPublic, PublicOnly, SystemResolver};
use super::rate_limit_headers::RateLimit;
use super::records::Extracted;
use super::redirects;
use super::request::{NamesUrls, RequestBuilder, with_param};

/// The timeout of connecting, within the timeout of the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of an error's body are shown.
const EXCERPT_BYTES: usize = 200;

/// A client of the one API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    requests: Arc<RequestBuilder>,
    /// What an answer says outside of its body.
    places: Arc<AnswerPlaces>,
    /// Hosts besides that of `fetcher.url`.
    allowed_hosts: Arc<Vec<String>>,
    method: Method,
    api: String,
    timeout: Duration,
    max_page_bytes: usize,
    /// The headers of the pipeline file, with references to secrets.
    headers: Arc<BTreeMap<String, Property>>,
    /// The pipeline file. Paths of secrets are relative to it.
    file: PathBuf,
}

/// The request of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
    /// The values of the query parameters that are secrets.
    pub(super) secrets: Vec<(String, String)>,
}

/// A response of the API.
#[derive(Debug)]
pub(super) struct ApiResponse {
    /// The body; empty when there is nothing new.
    pub(super) body: Bytes,
    pub(super) status: StatusCode,
    /// The URL that it came from, after redirects.
    url: Url,
    headers: HeaderMap,
    /// The next page that a `Link` header names.
    pub(super) link: Option<Url>,
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
        let allowed_hosts = fetcher.paging().map(|paging| paging.allowed_hosts).unwrap_or_default();
        let api = fetcher.url.to_string();
        let mut builder = Http::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .timeout(fetcher.timeout.0)
            .connect_timeout(CONNECT_TIMEOUT.min(fetcher.timeout.0))
            .redirect(redirects::policy(fetcher.body.is_some()))
            .dns_resolver(if fetcher.allow_private { resolver } else { Arc::new(PublicOnly::new(&url, resolver).and(&allowed_hosts)) })
            .referer(false)
            .gzip(true);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|cause| FetchError::Client(with_sources(cause)))?;
        let client = Self {
            http,
            requests: Arc::new(RequestBuilder::new(fetcher)),
            places: Arc::new(AnswerPlaces::of(fetcher)),
            allowed_hosts: Arc::new(allowed_hosts),
            method: match fetcher.method {
                forebay_schemas::pipeline::Method::Get => Method::GET,
                forebay_schemas::pipeline::Method::Post => Method::POST,
            },
            api,
            timeout: fetcher.timeout.0,
            max_page_bytes: fetcher.max_page_bytes.as_usize(),
            headers: Arc::new(fetcher.headers.clone()),
            file: pipeline.source.path.clone(),
        };
        client.headers(&BTreeMap::new(), None)?;
        client.secrets()?;
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
        let request = self.page_request(params, cursor)?;
        let response = self.request(request.clone(), wall).await;
        if let Err(FetchError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }) = &response
            && let Ok(renewed) = self.page_request(params, cursor)
            && renewed != request
        {
            return self.request(renewed, wall).await;
        }
        response
    }

    /// The request of a page, with the current secrets.
    ///
    /// # Errors
    /// When a secret can't be read, a value is missing or can't be sent, or the cursor is a URL
    /// that must not be requested.
    pub(super) fn page_request(&self, params: &BTreeMap<String, String>, cursor: Option<&str>) -> Result<PageRequest, FetchError> {
        let file = self.requests.file_url();
        let refused = |cause| FetchError::Request { api: self.api.clone(), cause };
        let secrets = self.secrets()?;
        let named = cursor.and_then(|cursor| self.named_url(cursor, file));
        let url = match named {
            Some(url) => next_url::from_stored(&self.checked(url)?, file, &secrets),
            None => {
                let url = self.requests.url(params, cursor).map_err(refused)?;
                secrets.iter().fold(url, |url, (name, value)| with_param(&url, name, &[value]))
            }
        };
        let body = self.requests.body(params, cursor).map_err(refused)?;
        let mut headers = self.headers(params, cursor)?;
        if let Some(kind) = self.requests.content_type().filter(|_| !headers.contains_key(CONTENT_TYPE)) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if next_url::check_same_host(file, &url).is_err() {
            let secret: Vec<HeaderName> = headers.iter().filter(|(_, value)| value.is_sensitive()).map(|(name, _)| name.clone()).collect();
            secret.iter().for_each(|name| drop(headers.remove(name)));
        }
        Ok(PageRequest { method: self.method.clone(), url, headers, body, secrets })
    }

    /// The URL that a cursor is, if it is one.
    fn named_url(&self, cursor: &str, base: &Url) -> Option<Result<Url, String>> {
        match self.requests.names_urls() {
            NamesUrls::Always => Some(base.join(cursor.trim()).map_err(|cause| cause.to_string())),
            NamesUrls::Sometimes => next_url::parse(cursor, self.requests.file_url(), base),
            NamesUrls::Never => None,
        }
    }

    /// A URL of the API, if it may be requested.
    fn checked(&self, url: Result<Url, String>) -> Result<Url, FetchError> {
        let refused = |cause| FetchError::NextUrl { api: self.api.clone(), cause };
        let url = url.map_err(|cause| refused(format!("nowhere: {cause}")))?;
        next_url::check_allowed(self.requests.file_url(), &url, &self.allowed_hosts).map_err(refused)?;
        Ok(url)
    }

    /// The current values of the query parameters that are secrets.
    fn secrets(&self) -> Result<Vec<(String, String)>, FetchError> {
        let read = |(name, secret): (&str, &Secret)| match secret.reveal(&self.file) {
            Ok(value) => Ok((name.to_owned(), value)),
            Err(cause) => Err(FetchError::Secret { name: format!("query.{name}"), cause }),
        };
        self.requests.secrets().map(read).collect()
    }

    /// The next cursor of a response, in the form in which it is stored. A URL becomes absolute,
    /// without what belongs to `fetcher.url`.
    ///
    /// # Errors
    /// When it is a URL that must not be requested.
    pub(super) fn next_cursor(&self, response: &ApiResponse, cursor: String) -> Result<String, FetchError> {
        let Some(url) = self.named_url(&cursor, &response.url) else { return Ok(cursor) };
        let secrets: Vec<&str> = self.requests.secrets().map(|(name, _)| name).collect();
        let stored = next_url::to_stored(&self.checked(url)?, self.requests.file_url(), &secrets);
        if stored.len() > MAX_CURSOR_BYTES {
            let cause = format!("to a URL of {} bytes; the limit is {MAX_CURSOR_BYTES}", stored.len());
            return Err(FetchError::NextUrl { api: self.api.clone(), cause });
        }
        Ok(stored)
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
        let places = &*self.places;
        let header = |name: &String| response.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let wrong = |cause| FetchError::Page { api: self.api.clone(), cause, wait: response.wait };
        if let Some(name) = &places.next_header {
            info.next = header(name).map_or(Ok(NextCursor::Absent), |text| text_cursor(&text, name, places.key)).map_err(wrong)?;
        }
        if let Some(name) = &places.total_header {
            info.total = header(name).map(|text| count(&text, name, places.key)).transpose().map_err(wrong)?;
        }
        match (&response.link, places.is_link) {
            (Some(url), true) => info.next = NextCursor::Cursor(url.to_string()),
            (None, true) => info.next = NextCursor::Absent,
            (link, false) => info.link = link.is_some(),
        }
        if let NextCursor::Cursor(next) = info.next {
            info.next = NextCursor::Cursor(self.next_cursor(response, next)?);
        }
        Ok((extracted, info))
    }

    async fn request(&self, request: PageRequest, wall: SystemTime) -> Result<ApiResponse, FetchError> {
        let in_query = request.secrets.iter().map(|(_, value)| value.clone());
        let secrets = EchoedSecrets::of(&request.headers, &HttpUrl::from(request.url.clone())).and(in_query);
        match self.response(request, wall).await {
            Ok(response) => Ok(ApiResponse { secrets, ..response }),
            Err(error) => Err(secrets.removed_from(error)),
        }
    }

    async fn response(&self, request: PageRequest, wall: SystemTime) -> Result<ApiResponse, FetchError> {
        let PageRequest { method, url, headers, body, .. } = request;
        let is_conditional = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
        let mut request = self.http.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|cause| self.failed(cause))?;
        let status = response.status();
        let api_response = |response: &Response, body: Bytes, wait| ApiResponse {
            body,
            status: response.status(),
            url: response.url().clone(),
            headers: response.headers().clone(),
            link: next_link(response.headers(), response.url()),
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
    fn headers(&self, params: &BTreeMap<String, String>, cursor: Option<&str>) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        for (name, value) in &*self.headers {
            let header = |cause: String| FetchError::Header { name: name.clone(), cause };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|cause| header(cause.to_string()))?;
            let value = match value {
                Property::Plain(_) => match self.requests.header(name, params, cursor) {
                    Some(text) => HeaderValue::from_str(&text).map_err(|_| {
                        let cause = format!("fetcher.headers.{name} would have a character that a header can't have, such as a line break");
                        FetchError::Request { api: self.api.clone(), cause }
                    })?,
                    None => continue,
                },
                Property::Secret(secret) => {
                    let text = secret.reveal(&self.file).map_err(|cause| FetchError::Secret { name: format!("headers.{name}"), cause })?;
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
