//! Why a fetch failed.
//!
//! Guarantees: a message names the API, without the query of its URL, which may hold a key. It says
//! what the API answered and what to do.
//!
//! Does not guarantee that the API's own explanation makes sense.

use std::net::IpAddr;
use std::time::Duration;

use forebay_schemas::pipeline::{HumanDuration, SecretError};
use forebay_schemas::source_read::{Position, ReadParams, quote_cursor};
use forebay_schemas::window::rfc3339;
use reqwest::StatusCode;

use super::page_error::PageError;
use super::rate_limit_headers::RateLimit;
use forebay_dataplane::MASK;
use forebay_schemas::error_class::{Class, Classified};

/// A fetch that gave no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A secret can't be read.
    #[error("fetcher.{key}: {cause}")]
    Secret {
        /// Its key in `[fetcher]`, such as `headers.Authorization`.
        key: String,
        /// Why not.
        cause: SecretError,
    },
    /// A header can't be sent.
    #[error("fetcher.{key} can't be sent: {cause}")]
    Header {
        /// The key of `[fetcher]`.
        key: String,
        /// Why not.
        cause: String,
    },
    /// The request of the page can't be made.
    #[error("{api} is not requested: {cause}")]
    Request {
        /// The API.
        api: String,
        /// What it lacks, and what to do.
        cause: String,
    },
    /// The client can't be created.
    #[error("failed to create the HTTP client: {0}")]
    Client(String),
    /// The server of tokens gives none.
    #[error("no token from {token_url} (fetcher.auth.oauth2): {cause}")]
    Token {
        /// The server.
        token_url: String,
        /// Why not.
        cause: String,
        /// Whether it may give one later.
        retry: bool,
        /// How long it asks to get no request.
        wait: Option<Duration>,
    },
    /// The producer can't produce a part of the page, and neither the same part later.
    #[error("{0}")]
    Refused(String),
    /// The journal can't store the cursor, so the next page is not requested.
    #[error("no page is requested, since the journal failed to store the cursor: {0}")]
    Journal(String),
    /// No response arrived, or not all of it.
    #[error("{api} can't be reached: {cause}")]
    Unreachable {
        /// The API.
        api: String,
        /// Why not.
        cause: String,
    },
    /// The TLS handshake fails.
    #[error("{api} is not requested: {cause}")]
    Tls {
        /// The API.
        api: String,
        /// Why, and the remedy.
        cause: String,
        /// Whether the API's operator can end it, without a change of the pipeline file.
        retry: bool,
    },
    /// Its name leads to an address that is not public, so nothing is sent.
    #[error(
        "{api} is not requested: {host} has the address {address}, which is not public; if that is meant, set fetcher.allow_private = true"
    )]
    NotPublic {
        /// The API.
        api: String,
        /// The name.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// The response took too long.
    #[error("{api} did not answer within {} (fetcher.timeout)", HumanDuration(*.timeout))]
    TimedOut {
        /// The API.
        api: String,
        /// The timeout.
        timeout: Duration,
    },
    /// It did not answer with success.
    #[error("{api} answered {status}: {excerpt}")]
    Status {
        /// The API.
        api: String,
        /// The status.
        status: StatusCode,
        /// The start of the body.
        excerpt: String,
        /// Whether the same request may succeed later, and when.
        limit: RateLimit,
    },
    /// It names the next page by a URL that must not be requested.
    #[error(
        "{api}: the next cursor is a URL that leads {cause}; URLs are followed only on the host and port of fetcher.url, and on those of \
         fetcher.paging.allowed_hosts: add the host there, or point fetcher.url to it"
    )]
    NextUrl {
        /// The API.
        api: String,
        /// Where, and why not.
        cause: String,
    },
    /// It refuses a request with a cursor: the cursor has expired, or it never was one.
    #[error(
        "{api} answered {status} to cursor {}: {excerpt}; if the API no longer accepts this cursor, `forebay cursor reset{flags}` makes the next \
         fetch of this read start at its first page (a run that reads again starts over at its next attempt)", quote_cursor(.cursor)
    )]
    Cursor {
        /// The API.
        api: String,
        /// The status.
        status: StatusCode,
        /// The start of the body.
        excerpt: String,
        /// The cursor.
        cursor: String,
        /// The flags that name the read to the command.
        flags: String,
    },
    /// It redirects to where the client must not go.
    #[error("{api} redirects {cause}; set fetcher.url to the URL that it redirects to")]
    Redirect {
        /// The API.
        api: String,
        /// Where, and why not.
        cause: String,
    },
    /// Its content type can't be JSON.
    #[error("{api} answered {content_type} instead of JSON: {excerpt}")]
    ContentType {
        /// The API.
        api: String,
        /// The content type.
        content_type: String,
        /// The start of the body.
        excerpt: String,
    },
    /// The response can't be decoded.
    #[error("{api}: the answer can't be read: {cause}")]
    Undecodable {
        /// The API.
        api: String,
        /// Why not.
        cause: String,
        /// Whether it broke off, or is damaged.
        retry: bool,
    },
    /// The response is too large.
    #[error("{api} answered more than {max} bytes after decompression; request smaller pages, or raise fetcher.max_page_bytes")]
    TooLarge {
        /// The API.
        api: String,
        /// The limit.
        max: usize,
    },
    /// The response holds no page.
    #[error("{api}: {cause}")]
    Page {
        /// The API.
        api: String,
        /// What is wrong with it.
        cause: PageError,
        /// How long the API asks to get no request.
        wait: Option<Duration>,
    },
}

/// An error is transient while the API is unavailable, busy or answers an error in place of
/// records, and while the file of a secret is being written. Any other recurs until a person
/// changes something.
impl Classified for FetchError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Secret { .. } | Self::Header { .. } => Class::Transient,
            Self::Status { limit, .. } if limit.retry_later => Class::Transient,
            Self::Token { retry, .. } | Self::Tls { retry, .. } | Self::Undecodable { retry, .. } if *retry => Class::Transient,
            Self::Page { cause: PageError::CutShort { .. } | PageError::ApiError { retry: true, .. }, .. } => Class::Transient,
            Self::Client(_) | Self::Journal(_) => Class::Fatal,
            _ => Class::Rejected,
        }
    }
}

impl FetchError {
    /// Whether the same run may succeed later, even if an immediate retry does not help. Besides
    /// transient errors, that is a secret that will be renewed, and an HTML page in place of JSON,
    /// as APIs under maintenance answer.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } if *status == StatusCode::UNAUTHORIZED => true,
            Self::ContentType { content_type, .. } => content_type.contains("html"),
            error => error.class() == Class::Transient,
        }
    }

    /// The status class for metrics, out of a bounded set: `none` when no response arrived, `None`
    /// when no request was sent.
    pub fn status_class(&self) -> Option<&'static str> {
        match self {
            Self::Secret { .. } | Self::Header { .. } | Self::Request { .. } | Self::Client(_) | Self::Journal(_) | Self::Token { .. } => {
                None
            }
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NotPublic { .. } | Self::Tls { .. } => Some("none"),
            Self::Redirect { .. } => Some("3xx"),
            Self::Status { status, .. } | Self::Cursor { status, .. } => Some(class_of(*status)),
            Self::ContentType { .. } | Self::TooLarge { .. } | Self::Page { .. } | Self::NextUrl { .. } => Some("2xx"),
            Self::Undecodable { .. } | Self::Refused(_) => Some("2xx"),
        }
    }

    /// The same error without its quotes of the response, which may contain values of records.
    #[must_use]
    pub fn masked(self) -> Self {
        // The server of tokens has no records.
        if matches!(self, Self::Token { .. }) { self } else { self.with_quotes(|_| MASK.to_owned()) }
    }

    /// The same error with other quotes of the response.
    pub(super) fn with_quotes(mut self, other: impl Fn(String) -> String) -> Self {
        match &mut self {
            Self::Status { excerpt, .. } | Self::Cursor { excerpt, .. } | Self::ContentType { excerpt, .. } => {
                *excerpt = other(std::mem::take(excerpt));
            }
            Self::Page { cause: PageError::NotJson { excerpt, .. } | PageError::CutShort { excerpt, .. }, .. } => {
                *excerpt = other(std::mem::take(excerpt));
            }
            Self::Page { cause: PageError::ApiError { message, .. }, .. } => *message = other(std::mem::take(message)),
            Self::Token { cause, .. } => *cause = other(std::mem::take(cause)),
            _ => {}
        }
        self
    }

    /// The error of a request at a position, by a fetch with these params. Names the cursor where
    /// it may be the cause.
    #[must_use]
    pub fn at(self, position: &Position, params: &ReadParams) -> Self {
        match (self, position) {
            (Self::Status { api, status, excerpt, limit }, Position::Cursor(cursor)) if may_reject_cursor(status) && !limit.retry_later => {
                let flag = |(name, value): (&String, &String)| format!(" --param {}", quoted(&format!("{name}={value}")));
                let window = params.window.map(|window| format!(" --from {} --to {}", rfc3339(window.start), rfc3339(window.end)));
                let flags = params.values.iter().map(flag).chain(window).collect();
                Self::Cursor { api, status, excerpt, cursor: cursor.clone(), flags }
            }
            (error, _) => error,
        }
    }

    /// How long the API asks to get no request, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { limit, .. } => limit.wait,
            Self::Token { wait, .. } => *wait,
            Self::Page { wait, .. } if self.class() == Class::Transient => *wait,
            _ => None,
        }
    }
}

/// Whether the status may mean that the API no longer accepts a cursor.
fn may_reject_cursor(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY)
}

/// A word, quoted for a shell if it has to be.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "=-_.,:/@%+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// The class of a status. 304 and 429 are classes of their own.
fn class_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        304 => "304",
        429 => "429",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "2xx",
    }
}

#[cfg(test)]
mod tests {
    use forebay_schemas::window::Window;

    use super::*;

    #[test]
    fn status_classes_are_a_bounded_set() {
        let classes: std::collections::BTreeSet<_> =
            (100..1_000).map(|status| class_of(StatusCode::from_u16(status).expect("a status has three digits"))).collect();
        assert_eq!(classes.into_iter().collect::<Vec<_>>(), ["2xx", "304", "3xx", "429", "4xx", "5xx"]);
        assert_eq!(class_of(StatusCode::TOO_MANY_REQUESTS), "429");
        let api = String::new();
        assert_eq!(FetchError::TimedOut { api: api.clone(), timeout: Duration::ZERO }.status_class(), Some("none"));
        assert_eq!(FetchError::TooLarge { api, max: 1 }.status_class(), Some("2xx"));
        assert_eq!(FetchError::Journal(String::new()).status_class(), None, "no request was sent");
    }

    #[test]
    fn a_refused_cursor_is_named_with_the_command_that_resets_its_read() {
        let answered = |status: u16, position: &Position, params: &[(&str, &str)]| {
            let status = StatusCode::from_u16(status).unwrap();
            let values = params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let at = |text| forebay_schemas::window::moment(text).unwrap();
            let window = params.is_empty().then(|| Window { start: at("2026-01-01"), end: at("2026-01-02") });
            let params = ReadParams { values, window, ..ReadParams::default() };
            let error = FetchError::Status { api: "http://api.example/".into(), status, excerpt: "no".into(), limit: RateLimit::default() };
            let error = error.at(position, &params);
            (error.class(), error.to_string())
        };
        let at = Position::of(Some(&"x".repeat(1_000)));
        for status in [400, 404, 410, 422] {
            let (class, text) = answered(status, &at, &[("day", "2026-01-01"), ("q", "it's a")]);
            assert_eq!(class, Class::Rejected);
            assert!(
                text.contains(&format!("answered {status} ")) && text.contains("\"xxx") && text.contains("(1000 bytes): no;"),
                "{text}"
            );
            let command = "`forebay cursor reset --param day=2026-01-01 --param 'q=it'\\''s a'`";
            assert!(text.contains(command) && text.len() < 600, "{text}");
        }
        assert!(answered(410, &at, &[]).1.contains("`forebay cursor reset --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z`"));
        assert!(!answered(404, &Position::Begin, &[]).1.contains("cursor"), "it had no cursor, or that of the file");
        for (status, class) in [(401, Class::Rejected), (403, Class::Rejected), (500, Class::Rejected)] {
            let (found, text) = answered(status, &at, &[]);
            assert!(found == class && !text.contains("cursor"), "{text}");
        }
    }

    #[test]
    fn a_masked_error_quotes_nothing_of_the_response() {
        let (api, excerpt) = ("http://api.example/".to_owned(), "{\"name\":\"secret\"".to_owned());
        let not_json = PageError::NotJson { cause: "expected `,`".into(), line: 1, column: 17, excerpt: excerpt.clone() };
        let page = |cause| FetchError::Page { api: api.clone(), cause, wait: Some(Duration::from_secs(7)) };
        for error in [
            FetchError::Status { api: api.clone(), status: StatusCode::BAD_REQUEST, excerpt: excerpt.clone(), limit: RateLimit::default() },
            FetchError::Status { api: api.clone(), status: StatusCode::GONE, excerpt: excerpt.clone(), limit: RateLimit::default() }
                .at(&Position::of(Some("7")), &ReadParams::default()),
            FetchError::ContentType { api: api.clone(), content_type: "text/csv".into(), excerpt: excerpt.clone() },
            page(not_json),
            page(PageError::CutShort { bytes: 16, excerpt: excerpt.clone() }),
            page(PageError::ApiError { message: excerpt.clone(), retry: true }),
        ] {
            assert!(error.to_string().contains("secret"), "{error}");
            let (class, wait, masked) = (error.class(), error.retry_after(), error.masked());
            assert_eq!((masked.class(), masked.retry_after()), (class, wait));
            assert!(masked.to_string().contains(MASK) && !masked.to_string().contains("secret"), "{masked}");
        }
    }

    #[test]
    fn transient_errors_are_retryable_and_recurring_ones_are_not() {
        let api = || "http://api.example/".to_owned();
        let status = |status, retry_later| FetchError::Status {
            api: api(),
            status: StatusCode::from_u16(status).expect("a status"),
            excerpt: String::new(),
            limit: RateLimit { retry_later, wait: None },
        };
        let page = |cause| FetchError::Page { api: api(), cause, wait: None };
        let content = |kind: &str| FetchError::ContentType { api: api(), content_type: kind.to_owned(), excerpt: String::new() };
        for (error, class, retryable) in [
            (status(403, true), Class::Transient, true),
            (status(403, false), Class::Rejected, false),
            (status(404, true), Class::Transient, true),
            (status(404, false), Class::Rejected, false),
            (status(401, false), Class::Rejected, true),
            (status(202, true), Class::Transient, true),
            (status(503, true), Class::Transient, true),
            (status(503, false), Class::Rejected, false),
            (page(PageError::CutShort { bytes: 1, excerpt: String::new() }), Class::Transient, true),
            (page(PageError::ApiError { message: "busy".into(), retry: true }), Class::Transient, true),
            (page(PageError::ApiError { message: "no such day".into(), retry: false }), Class::Rejected, false),
            (page(PageError::LineDelimited), Class::Rejected, false),
            (content("text/html"), Class::Rejected, true),
            (content("text/csv"), Class::Rejected, false),
            (FetchError::NextUrl { api: api(), cause: "to another host".into() }, Class::Rejected, false),
            (FetchError::Header { key: "x".into(), cause: "no".into() }, Class::Transient, true),
        ] {
            assert_eq!((error.class(), error.is_retryable()), (class, retryable), "{error}");
        }
    }
}
