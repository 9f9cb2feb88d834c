//! The HTTP client.
//!
//! Guarantees:
//! * A response of JSON is read up to `max_page_bytes`, whatever its length header says and however
//!   it is compressed; one of lines or rows in parts of that size. A response, and each part after
//!   the first, takes `timeout` at most.
//! * It comes from the host of `fetcher.url`, or from one of `allowed_hosts`, and from a public
//!   address, unless the URL names another one or `fetcher.allow_private` is set.
//! * Secrets are read again before each request, sent to the host of `fetcher.url` only, and never
//!   logged. Cookies are ignored.
//!
//! Does not guarantee that the API answers the same request the same way twice.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_dataplane::tls_client;
use forebay_schemas::http_url::HttpUrl;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::{FetcherSection, FieldSource, FieldTemplate, FileError, Pipeline, Property, Secret};
use forebay_schemas::printable;
use forebay_schemas::source_read::{MAX_CURSOR_BYTES, ReadParams, Validators};
use futures_util::TryStreamExt as _;
use reqwest::dns::Resolve;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::redirect::Policy;
use reqwest::{Client as Http, Method, StatusCode, Url};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::StreamReader;

use super::authorization::{Authorization, sensitive};
use super::body::{self, ACCEPTED_CODINGS, BodyReader, OpenError};
use super::body_format::ConfiguredFormat;
use super::csv_rows::CsvTypes;
use super::echoed_secrets::EchoedSecrets;
use super::error::FetchError;
use super::link_header::next_link;
use super::next_url;
use super::oauth2::TokenSource;
use super::page::{AnswerPlaces, PagePaths, count, text_cursor};
use super::page_error::PageError;
use super::pagination::{NextCursor, PageInfo};
use super::paging_guess::{FirstAnswer, sign_of_more};
use super::public_address::{NotPublic, PublicOnly, SystemResolver};
use super::rate_limit_headers::RateLimit;
use super::record_fields::{MAX_HEADER_BYTES, RecordField, RecordFields};
use super::record_stream::{RecordStream, StreamError};
use super::records::Extracted;
use super::redirects;
use super::request::{NamesUrls, RequestBuilder, with_param};
use super::statuses::{Meaning, Statuses};
use super::tls_failure;
use super::validators;

/// The timeout of connecting, within the timeout of the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an error's body is waited for, within the timeout of the request.
const EXCERPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes of an error's body are shown.
const EXCERPT_BYTES: usize = 200;

/// A client of the one API.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: Http,
    requests: Arc<RequestBuilder>,
    /// What an answer says outside of its body.
    places: Arc<AnswerPlaces>,
    /// Whether requests ask only for what has changed.
    conditional: bool,
    /// What is added to the records.
    added: Arc<Vec<FieldTemplate>>,
    /// Hosts besides that of `fetcher.url`.
    allowed_hosts: Arc<Vec<String>>,
    method: Method,
    api: String,
    timeout: Duration,
    max_page_bytes: usize,
    /// The headers of the pipeline file, with references to secrets.
    headers: Arc<BTreeMap<String, Property>>,
    authorization: Authorization,
    statuses: Statuses,
    format: ConfiguredFormat,
    csv: CsvTypes,
    /// The pointer to the records, empty if the response is their array.
    records: String,
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
    /// The body; empty when there is nothing new, and when there are `rows`.
    pub(super) body: Bytes,
    /// The records, if they arrive one per line or row. See [`Client::next_part`].
    rows: Option<RecordStream>,
    pub(super) status: StatusCode,
    /// The URL that it came from, after redirects.
    url: Url,
    headers: HeaderMap,
    /// The next page that a `Link` header names.
    pub(super) link: Option<Url>,
    /// How long the API asks to get no request.
    pub(super) wait: Option<Duration>,
    /// What its quotes must not contain.
    secrets: EchoedSecrets,
}

impl ApiResponse {
    /// The headers that are text, with names in lower case; the first of each name.
    pub(super) fn text_headers(&self) -> BTreeMap<String, String> {
        let text = |name: &HeaderName| Some((name.as_str().to_owned(), self.headers.get(name)?.to_str().ok()?.to_owned()));
        self.headers.keys().filter_map(text).collect()
    }

    /// Whether its body is CSV.
    pub(super) fn has_rows(&self) -> bool {
        self.rows.as_ref().is_some_and(RecordStream::has_rows)
    }
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
        let hosts = &allowed_hosts;
        let http = build(pipeline, fetcher, (&url, hosts), Arc::clone(&resolver), redirects::policy(fetcher.body.is_some()))?;
        let file = pipeline.source.path.clone();
        let tokens = match fetcher.auth.as_ref().and_then(|auth| auth.oauth2.as_ref()) {
            None => None,
            Some(oauth2) => {
                let http = build(pipeline, fetcher, (oauth2.token_url.reveal(), &[]), resolver, Policy::none())?;
                Some(TokenSource::new(oauth2, http, fetcher.timeout.0, file.clone()))
            }
        };
        let client = Self {
            http,
            requests: Arc::new(RequestBuilder::new(fetcher)),
            places: Arc::new(AnswerPlaces::of(fetcher)),
            conditional: fetcher.conditional,
            added: Arc::new(FieldTemplate::of(fetcher).expect("the check of the pipeline file compiles its fields")),
            allowed_hosts: Arc::new(allowed_hosts),
            method: match fetcher.method {
                forebay_schemas::pipeline::Method::Get => Method::GET,
                forebay_schemas::pipeline::Method::Post => Method::POST,
            },
            api,
            timeout: fetcher.timeout.0,
            max_page_bytes: fetcher.max_page_bytes.as_usize(),
            headers: Arc::new(fetcher.headers.clone()),
            authorization: Authorization::new(fetcher.auth.as_ref(), tokens, file.clone()),
            statuses: Statuses::of(&fetcher.statuses),
            format: ConfiguredFormat::of(fetcher),
            csv: CsvTypes::of_pipeline(pipeline),
            records: fetcher.records.pointer().to_owned(),
            file,
        };
        client.headers(&ReadParams::default(), None)?;
        client.secrets()?;
        Ok(client)
    }

    /// Whether requests ask only for what has changed.
    pub(super) fn is_conditional(&self) -> bool {
        self.conditional
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
    pub(super) async fn fetch(&self, wall: SystemTime, params: &ReadParams, cursor: Option<&str>) -> Result<ApiResponse, FetchError> {
        let mut request = self.page_request(params, cursor)?;
        self.add_token(&mut request, wall).await?;
        let response = self.request(request.clone(), wall).await;
        if let Err(FetchError::Status { status, .. }) = &response
            && let Some(renewed) = self.renewed(&request, *status, params, cursor, wall).await?
        {
            return self.request(renewed, wall).await;
        }
        response
    }

    /// Adds the token of OAuth, unless the request goes to another host than that of `fetcher.url`.
    async fn add_token(&self, request: &mut PageRequest, wall: SystemTime) -> Result<(), FetchError> {
        match next_url::check_same_host(self.requests.file_url(), &request.url) {
            Ok(()) => self.authorization.add_token(&mut request.headers, wall).await,
            Err(_) => Ok(()),
        }
    }

    /// The request for a second attempt after the API has refused the first with this status;
    /// `None` when it would be the same.
    async fn renewed(
        &self,
        request: &PageRequest,
        status: StatusCode,
        params: &ReadParams,
        cursor: Option<&str>,
        wall: SystemTime,
    ) -> Result<Option<PageRequest>, FetchError> {
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(None);
        }
        // The file of a secret may be being written. The refusal says more then.
        let Ok(mut renewed) = self.page_request(params, cursor) else { return Ok(None) };
        if self.authorization.has_tokens() {
            if status == StatusCode::UNAUTHORIZED {
                self.authorization.forget_token().await;
            }
            self.add_token(&mut renewed, wall).await?;
        }
        Ok((renewed != *request).then_some(renewed))
    }

    /// The request of a page, with the current secrets.
    ///
    /// # Errors
    /// When a secret can't be read, a value is missing or can't be sent, or the cursor is a URL
    /// that must not be requested.
    pub(super) fn page_request(&self, params: &ReadParams, cursor: Option<&str>) -> Result<PageRequest, FetchError> {
        let file = self.requests.file_url();
        let refused = |cause| FetchError::Request { api: self.api.clone(), cause };
        self.requests.check(params).map_err(refused)?;
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
            Err(cause) => Err(FetchError::Secret { key: format!("query.{name}"), cause }),
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
        let (extracted, mut info) = read.map_err(|cause| self.page_error(response, cause))?;
        self.add_headers(response, &mut info)?;
        if self.places.seeks_paging && info.more.is_none() {
            info.more = sign_in_headers(response, extracted.records.len()).map(|sign| (sign, true));
        }
        if let NextCursor::Cursor(next) = info.next {
            info.next = NextCursor::Cursor(self.next_cursor(response, next)?);
        }
        Ok((extracted, info))
    }

    /// What a response whose records arrive one per line or row says besides them.
    ///
    /// # Errors
    /// When the pipeline file looks for the next page in its body.
    pub(super) fn page_of_rows(&self, response: &ApiResponse, paths: &PagePaths) -> Result<PageInfo, FetchError> {
        match paths.place_outside_records() {
            Some(key) => Err(self.page_error(response, PageError::NoPlaceInLines { key })),
            None => self.page(response, Ok((Extracted::default(), PageInfo::default()))).map(|(_, info)| info),
        }
    }

    /// What the records of a response get from outside.
    ///
    /// # Errors
    /// When a header is too long for each record to have it.
    pub(super) fn record_fields(&self, params: &ReadParams, response: &ApiResponse) -> Result<RecordFields, FetchError> {
        let values = self.requests.values(params, None);
        let mut fields = Vec::new();
        for FieldTemplate { name, source, replace } in &*self.added {
            let header = |name: &str| response.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            let Some(value) = source.value(&values, header) else { continue };
            let json = value.to_string();
            if let FieldSource::Header(header) = source
                && json.len() > MAX_HEADER_BYTES
            {
                let cause = PageError::LongHeader { name: header.clone(), bytes: json.len(), max: MAX_HEADER_BYTES };
                return Err(self.page_error(response, cause));
            }
            fields.push(RecordField { name: name.clone(), json, replace: *replace });
        }
        Ok(RecordFields::new(fields))
    }

    /// Adds fields to the records of a part of a response.
    ///
    /// # Errors
    /// When the part grows too large by it.
    pub(super) fn add_fields(&self, response: &ApiResponse, fields: &RecordFields, part: &mut Extracted) -> Result<(), FetchError> {
        fields.add_to(part, self.max_page_bytes).map_err(|cause| self.page_error(response, cause))
    }

    /// What a response says of itself, where requests are conditional.
    pub(super) fn validators(&self, response: &ApiResponse) -> Option<Validators> {
        let header = |name| response.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let of_answer = || validators::of_answer(header(ETAG), header(LAST_MODIFIED), header(DATE).as_deref());
        self.conditional.then(of_answer).flatten()
    }

    /// Adds what the headers of a response say about its page.
    fn add_headers(&self, response: &ApiResponse, info: &mut PageInfo) -> Result<(), FetchError> {
        let places = &*self.places;
        let header = |name: &str| response.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let wrong = |cause| FetchError::Page { api: self.api.clone(), cause, wait: response.wait };
        if let Some(name) = &places.next_header {
            info.next = header(name).map_or(Ok(NextCursor::Absent), |text| text_cursor(&text, name, places.key)).map_err(wrong)?;
        }
        if let Some(name) = &places.total_header {
            info.total = header(name).map(|text| count(&text, name, places.key)).transpose().map_err(wrong)?;
        }
        if self.conditional {
            info.is_unchanged = response.status == StatusCode::NOT_MODIFIED;
            info.validators = self.validators(response).filter(|_| !info.is_unchanged);
        }
        match (&response.link, places.is_link) {
            (Some(url), true) => info.next = NextCursor::Cursor(url.to_string()),
            (None, true) => info.next = NextCursor::Absent,
            (link, false) => info.link = link.is_some(),
        }
        Ok(())
    }

    pub(super) fn page_error(&self, response: &ApiResponse, cause: PageError) -> FetchError {
        response.secrets.removed_from(FetchError::Page { api: self.api.clone(), cause, wait: response.wait })
    }

    /// The next part of the records that arrive one per line or row, and whether it is the last;
    /// `None` when they don't.
    ///
    /// # Errors
    /// When the response breaks off, or holds no records.
    pub(super) async fn next_part(&self, response: &mut ApiResponse) -> Option<Result<(Extracted, bool), FetchError>> {
        let part = tokio::time::timeout(self.timeout, response.rows.as_mut()?.next_part()).await;
        Some(match part {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(StreamError::Read(cause))) => Err(self.failed_read(cause)),
            Ok(Err(StreamError::Page(cause))) => Err(self.page_error(response, cause)),
            Err(_) => Err(self.timed_out()),
        })
    }

    async fn request(&self, request: PageRequest, wall: SystemTime) -> Result<ApiResponse, FetchError> {
        let in_query = request.secrets.iter().map(|(_, value)| value.clone());
        let secrets = EchoedSecrets::of(&request.headers, &HttpUrl::from(request.url.clone())).and(in_query);
        let response = tokio::time::timeout(self.timeout, self.response(request, wall)).await;
        match response.unwrap_or_else(|_| Err(self.timed_out())) {
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
        let response = request.send().await.map_err(|cause| self.failed(cause))?;
        let (status, url, headers) = (response.status(), response.url().clone(), response.headers().clone());
        let api_response = |body: Bytes, rows, wait| ApiResponse {
            body,
            rows,
            status,
            link: next_link(&headers, &url),
            url: url.clone(),
            headers: headers.clone(),
            wait,
            secrets: EchoedSecrets::default(),
        };
        let limit = RateLimit::of(status, &headers, "", wall);
        let meaning = self.statuses.meaning(status, is_conditional, limit.retry_later);
        if meaning == Meaning::Empty {
            return Ok(api_response(Bytes::new(), None, limit.wait));
        }
        let raw: BodyReader = Box::pin(StreamReader::new(response.bytes_stream().map_err(io::Error::other)));
        if meaning != Meaning::Answer {
            let excerpt = async { excerpt(body::open(raw, &headers).await.ok()).await };
            let excerpt = tokio::time::timeout(EXCERPT_TIMEOUT, excerpt).await.unwrap_or_default();
            let mut limit = RateLimit::of(status, &headers, &excerpt, wall);
            limit.retry_later = self.statuses.meaning(status, is_conditional, limit.retry_later) == Meaning::Failure { retry: true };
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt: or_no_body(excerpt), limit });
        }
        let mut body = body::open(raw, &headers).await.map_err(|error| self.unopened(error))?;
        if let Some(content_type) = self.format.refused(&headers) {
            let excerpt = excerpt(Some(body)).await;
            // Some servers send a content type with an empty response.
            if !excerpt.is_empty() || status == StatusCode::ACCEPTED {
                return Err(FetchError::ContentType { api: self.api.clone(), content_type, excerpt: or_no_body(excerpt) });
            }
            return Ok(api_response(Bytes::new(), None, limit.wait));
        }
        let format = self.format.of_response(&headers).expect("other content types are refused above");
        body = match RecordStream::new(body, format, &self.csv, self.max_page_bytes) {
            Err(body) => body,
            Ok(_) if !self.records.is_empty() => {
                let cause = PageError::PointerIntoLines { pointer: self.records.clone() };
                return Err(FetchError::Page { api: self.api.clone(), cause, wait: limit.wait });
            }
            Ok(rows) => return Ok(api_response(Bytes::new(), Some(rows), limit.wait)),
        };
        let announced = headers.get(CONTENT_LENGTH).filter(|_| !headers.contains_key(CONTENT_ENCODING));
        let announced: usize = announced.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        let mut whole = Vec::with_capacity(announced.min(self.max_page_bytes));
        body.take(self.max_page_bytes as u64 + 1).read_to_end(&mut whole).await.map_err(|cause| self.failed_read(cause))?;
        if whole.len() > self.max_page_bytes {
            return Err(FetchError::TooLarge { api: self.api.clone(), max: self.max_page_bytes });
        }
        if status == StatusCode::ACCEPTED && (limit.retry_later || whole.trim_ascii().is_empty()) {
            let limit = RateLimit { retry_later: true, ..limit };
            return Err(FetchError::Status { api: self.api.clone(), status, excerpt: or_no_body(excerpt_of(&whole)), limit });
        }
        // Boxed, so that the records don't keep the vector's spare capacity in memory.
        Ok(api_response(Bytes::from(whole.into_boxed_slice()), None, limit.wait))
    }

    /// The headers of a request, with the current secrets.
    fn headers(&self, params: &ReadParams, cursor: Option<&str>) -> Result<HeaderMap, FetchError> {
        let accepted = [(ACCEPT, self.format.accepted()), (ACCEPT_ENCODING, ACCEPTED_CODINGS)];
        let mut headers = HeaderMap::from_iter(accepted.map(|(name, value)| (name, HeaderValue::from_static(value))));
        for (name, value) in &*self.headers {
            let key = format!("headers.{name}");
            let header = |cause: String| FetchError::Header { key: key.clone(), cause };
            let header_name = HeaderName::from_bytes(name.as_bytes()).map_err(|cause| header(cause.to_string()))?;
            let value = match value {
                Property::Plain(_) => match self.requests.header(name, params, cursor) {
                    Some(text) => HeaderValue::from_str(&text).map_err(|_| {
                        let cause = format!("fetcher.headers.{name} would have a character that a header can't have, such as a line break");
                        FetchError::Request { api: self.api.clone(), cause }
                    })?,
                    None => continue,
                },
                Property::Secret(secret) => {
                    let text = secret.reveal(&self.file).map_err(|cause| FetchError::Secret { key: key.clone(), cause })?;
                    sensitive(&key, &text)?
                }
            };
            headers.insert(header_name, value);
        }
        for (name, value) in
            params.validators.iter().flat_map(|known| [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)])
        {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.entry(name).or_insert(value);
            }
        }
        self.authorization.add_secret(&mut headers)?;
        Ok(headers)
    }

    fn timed_out(&self) -> FetchError {
        FetchError::TimedOut { api: self.api.clone(), timeout: self.timeout }
    }

    fn unopened(&self, error: OpenError) -> FetchError {
        match error {
            OpenError::Read(cause) => self.failed_read(cause),
            error => FetchError::Undecodable { api: self.api.clone(), cause: error.to_string(), retry: false },
        }
    }

    /// The error of a body that did not arrive, or can't be decoded.
    fn failed_read(&self, cause: io::Error) -> FetchError {
        match cause.downcast::<reqwest::Error>() {
            Ok(cause) => self.failed(cause),
            Err(cause) => {
                FetchError::Undecodable { api: self.api.clone(), cause: format!("{cause}; it broke off, or is damaged"), retry: true }
            }
        }
    }

    fn failed(&self, cause: reqwest::Error) -> FetchError {
        let api = self.api.clone();
        if cause.is_timeout() {
            self.timed_out()
        } else if cause.is_redirect() {
            FetchError::Redirect { api, cause: cause.source().map_or_else(String::new, ToString::to_string) }
        } else if let Some(NotPublic { host, address }) = not_public(&cause) {
            FetchError::NotPublic { api, host, address }
        } else if let Some((cause, retry)) = tls_failure::of(&cause) {
            FetchError::Tls { api, cause, retry }
        } else {
            FetchError::Unreachable { api, cause: with_sources(cause) }
        }
    }
}

/// What the headers of a response say about further pages.
fn sign_in_headers(response: &ApiResponse, count: usize) -> Option<String> {
    let (headers, nowhere) = (response.text_headers(), JsonPointer::default());
    sign_of_more(&FirstAnswer {
        body: &Value::Null,
        headers: &headers,
        links_next: response.link.is_some(),
        url: None,
        records: &nowhere,
        count,
        key: &nowhere,
    })
}

/// Builds a client for the host of a URL, and further ones.
fn build(
    pipeline: &Pipeline,
    fetcher: &FetcherSection,
    (url, hosts): (&Url, &[String]),
    resolver: Arc<dyn Resolve>,
    redirects: Policy,
) -> Result<Http, FetchError> {
    let resolver: Arc<dyn Resolve> = if fetcher.allow_private { resolver } else { Arc::new(PublicOnly::new(url, resolver).and(hosts)) };
    // Bodies are decoded by `body`, part by part.
    let builder = Http::builder().user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION"))).referer(false).gzip(false);
    let builder = builder.connect_timeout(CONNECT_TIMEOUT.min(fetcher.timeout.0)).redirect(redirects).dns_resolver(resolver);
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    let unusable = |error: FileError| FetchError::Client(format!("{error}; {}", error.remedy().unwrap_or_default()));
    let builder = match &fetcher.tls {
        Some(tls) => builder.tls_backend_preconfigured(tls_client::source_config(pipeline, tls).map_err(unusable)?),
        None => builder,
    };
    builder.build().map_err(|cause| FetchError::Client(with_sources(cause)))
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
pub(super) fn with_sources(error: reqwest::Error) -> String {
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

/// The start of a body on one line, as far as it arrives.
async fn excerpt(body: Option<BodyReader>) -> String {
    let mut start = Vec::new();
    if let Some(body) = body {
        // What has arrived before an error is shown.
        let _ = body.take(EXCERPT_BYTES as u64).read_to_end(&mut start).await;
    }
    excerpt_of(&start)
}

/// The start of a text, printable and on one line.
pub(super) fn excerpt_of(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES)]);
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

/// An excerpt for a message.
fn or_no_body(excerpt: String) -> String {
    if excerpt.is_empty() { "no body".to_owned() } else { excerpt }
}
