//! What can go wrong with a fetch. Guarantee: a message names the API (without the query of its address, which may hold a key), says what
//! it answered and what to do. Not guaranteed: that an API's own explanation makes sense.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_schemas::pipeline::SecretError;
use forebay_schemas::read::{Position, quote_cursor};
use reqwest::StatusCode;

use super::limit::Limit;
use super::page::PageError;
use forebay_dataplane::MASK;
use forebay_schemas::failure::{Class, Classified};

/// A fetch that gave no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address can't be used.
    #[error("fetcher.url is no address that can be asked: {0}")]
    Address(String),
    /// A header's secret can't be had.
    #[error("fetcher.headers.{name}: {cause}")]
    Secret {
        /// The header.
        name: String,
        /// Why not.
        cause: SecretError,
    },
    /// A header can't be sent.
    #[error("fetcher.headers.{name} can't be sent: {cause}")]
    Header {
        /// The header.
        name: String,
        /// Why not.
        cause: String,
    },
    /// The client can't be made.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// What was produced can't be kept, so the next page is not asked for.
    #[error("no page is asked for, since the journal does not keep the cursor: {0}")]
    Journal(String),
    /// No answer came, or not all of it.
    #[error("{api} can't be reached: {cause}")]
    Unreachable {
        /// The API.
        api: String,
        /// Why not.
        cause: String,
    },
    /// The answer took too long.
    #[error("{api} did not answer within {} (fetcher.timeout)", humantime(*.within))]
    TimedOut {
        /// The API.
        api: String,
        /// How long it had.
        within: Duration,
    },
    /// It answered with another status than success.
    #[error("{api} answered {status}: {excerpt}")]
    Status {
        /// The API.
        api: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        excerpt: String,
        /// Whether it says that the same request may be made later, and when.
        limit: Limit,
    },
    /// It names the next page by an address that is not asked.
    #[error(
        "{api}: the next cursor is an address, and leads {cause}; an address is followed on the host and port of fetcher.url alone, since the \
         file's headers go along: set fetcher.cursor.next to a cursor that is sent in fetcher.cursor.param, or fetcher.url to that host"
    )]
    NextAddress {
        /// The API.
        api: String,
        /// Where, and why not.
        cause: String,
    },
    /// It refuses a page that was asked for with a cursor: the cursor is too old for it, or it never was one.
    #[error(
        "{api} answered {status} to cursor {}: {excerpt}; where the API takes that cursor no more, `forebay cursor reset{flags}` has the next \
         fetch of this read begin at its first page (a run that reads again begins over at its next attempt)", quote_cursor(.cursor)
    )]
    Cursor {
        /// The API.
        api: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        excerpt: String,
        /// The cursor.
        cursor: String,
        /// The flags of the command that name the read.
        flags: String,
    },
    /// It sends the client somewhere it won't go.
    #[error("{api} redirects {cause}; write the address it redirects to into fetcher.url")]
    Redirect {
        /// The API.
        api: String,
        /// Where, and why not.
        cause: String,
    },
    /// It answered something that can't be JSON.
    #[error("{api} answered {content_type} instead of JSON: {excerpt}")]
    ContentType {
        /// The API.
        api: String,
        /// What it says it answered.
        content_type: String,
        /// The beginning of the body.
        excerpt: String,
    },
    /// The answer is too large.
    #[error("{api} answered more than {most} bytes after decompression; ask it for smaller pages, or raise fetcher.max_page_bytes")]
    TooLarge {
        /// The API.
        api: String,
        /// The most there may be.
        most: usize,
    },
    /// The answer holds no page.
    #[error("{api}: {cause}")]
    Page {
        /// The API.
        api: String,
        /// What is wrong with it.
        cause: PageError,
        /// How long the API asks to be left alone.
        wait: Option<Duration>,
    },
}

/// Retrying may help when the API is unreachable or busy, or sends an error in place of records, and while
/// the file of a secret is being written. Anything else fails the same way until somebody changes something.
impl Classified for FetchError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Secret { .. } | Self::Header { .. } => Class::Transient,
            Self::Status { status, limit, .. } if limit.passes || is_passing(*status) => Class::Transient,
            Self::Page { cause: PageError::CutShort { .. } | PageError::Failure { .. }, .. } => Class::Transient,
            Self::Address(_) | Self::Client(_) | Self::Journal(_) => Class::Fatal,
            _ => Class::Rejected,
        }
    }
}

impl FetchError {
    /// Whether the same run may succeed when it is tried again later, though asking again at once does not help: beside what passes, a secret that is
    /// renewed, and a page for people in place of JSON, as APIs have it that are being mended.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { status, .. } if *status == StatusCode::UNAUTHORIZED => true,
            Self::ContentType { content_type, .. } => content_type.contains("html"),
            error => error.class() == Class::Transient,
        }
    }

    /// The class of status it answered with, of a bounded set: `none` when it did not answer, nothing when it was not asked.
    pub fn status_class(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) | Self::Secret { .. } | Self::Header { .. } | Self::Client(_) | Self::Journal(_) => None,
            Self::Unreachable { .. } | Self::TimedOut { .. } => Some("none"),
            Self::Redirect { .. } => Some("3xx"),
            Self::Status { status, .. } | Self::Cursor { status, .. } => Some(class_of(*status)),
            Self::ContentType { .. } | Self::TooLarge { .. } | Self::Page { .. } | Self::NextAddress { .. } => Some("2xx"),
        }
    }

    /// The same without what it quotes of the answer, where values of records may stand.
    #[must_use]
    pub fn masked(self) -> Self {
        let excerpt = MASK.to_owned();
        match self {
            Self::Status { api, status, limit, .. } => Self::Status { api, status, excerpt, limit },
            Self::Cursor { api, status, cursor, flags, .. } => Self::Cursor { api, status, excerpt, cursor, flags },
            Self::ContentType { api, content_type, .. } => Self::ContentType { api, content_type, excerpt },
            Self::Page { api, cause, wait } => {
                let cause = match cause {
                    PageError::NotJson { cause, line, column, .. } => PageError::NotJson { cause, line, column, excerpt },
                    PageError::CutShort { bytes, .. } => PageError::CutShort { bytes, excerpt },
                    PageError::Failure { .. } => PageError::Failure { said: excerpt },
                    cause => cause,
                };
                Self::Page { api, cause, wait }
            }
            other => other,
        }
    }

    /// The same of a page that was asked for at a position by a fetch with these params: where that may be why, it says so.
    #[must_use]
    pub fn at(self, position: &Position, params: &BTreeMap<String, String>) -> Self {
        match (self, position) {
            (Self::Status { api, status, excerpt, limit }, Position::Cursor(cursor)) if may_mean_a_cursor(status) && !limit.passes => {
                let flag = |(name, value): (&String, &String)| format!(" --param {}", quoted(&format!("{name}={value}")));
                let flags = params.iter().map(flag).collect();
                Self::Cursor { api, status, excerpt, cursor: cursor.clone(), flags }
            }
            (error, _) => error,
        }
    }

    /// How long the API asks to be left alone, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { limit, .. } => limit.wait,
            Self::Page { wait, .. } if self.class() == Class::Transient => *wait,
            _ => None,
        }
    }
}

/// Whether an API may say with it that it does not take a cursor any more.
fn may_mean_a_cursor(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "=-_.,:/@%+".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// 202 is no success of a fetch: the API will have an answer later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(status, StatusCode::ACCEPTED | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY)
}

/// A class of status; those that say something of their own are their own.
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

fn humantime(span: Duration) -> String {
    forebay_schemas::pipeline::HumanDuration(span).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_falls_into_a_class_of_a_bounded_set() {
        let classes: std::collections::BTreeSet<_> =
            (100..1_000).map(|status| class_of(StatusCode::from_u16(status).expect("a status has three digits"))).collect();
        assert_eq!(classes.into_iter().collect::<Vec<_>>(), ["2xx", "304", "3xx", "429", "4xx", "5xx"]);
        assert_eq!(class_of(StatusCode::TOO_MANY_REQUESTS), "429");
        let api = String::new();
        assert_eq!(FetchError::TimedOut { api: api.clone(), within: Duration::ZERO }.status_class(), Some("none"));
        assert_eq!(FetchError::TooLarge { api, most: 1 }.status_class(), Some("2xx"));
        assert_eq!(FetchError::Journal(String::new()).status_class(), None, "it was not asked");
    }

    #[test]
    fn a_cursor_that_the_api_refuses_is_named_with_the_command_that_resets_its_read() {
        let answered = |status: u16, position: &Position, params: &[(&str, &str)]| {
            let status = StatusCode::from_u16(status).unwrap();
            let params = params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let error = FetchError::Status { api: "http://api.example/".into(), status, excerpt: "no".into(), limit: Limit::default() };
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
        assert!(answered(410, &at, &[]).1.contains("`forebay cursor reset`"));
        assert!(!answered(404, &Position::Begin, &[]).1.contains("cursor"), "it was asked for with none, or with the file's own");
        for (status, class) in [(401, Class::Rejected), (429, Class::Transient), (500, Class::Transient)] {
            let (found, text) = answered(status, &at, &[]);
            assert!(found == class && !text.contains("cursor"), "{text}");
        }
    }

    #[test]
    fn masked_it_quotes_nothing_of_the_answer() {
        let (api, excerpt) = ("http://api.example/".to_owned(), "{\"name\":\"secret\"".to_owned());
        let not_json = PageError::NotJson { cause: "expected `,`".into(), line: 1, column: 17, excerpt: excerpt.clone() };
        let page = |cause| FetchError::Page { api: api.clone(), cause, wait: Some(Duration::from_secs(7)) };
        for error in [
            FetchError::Status { api: api.clone(), status: StatusCode::BAD_REQUEST, excerpt: excerpt.clone(), limit: Limit::default() },
            FetchError::Status { api: api.clone(), status: StatusCode::GONE, excerpt: excerpt.clone(), limit: Limit::default() }
                .at(&Position::of(Some("7")), &BTreeMap::new()),
            FetchError::ContentType { api: api.clone(), content_type: "text/csv".into(), excerpt: excerpt.clone() },
            page(not_json),
            page(PageError::CutShort { bytes: 16, excerpt: excerpt.clone() }),
            page(PageError::Failure { said: excerpt.clone() }),
        ] {
            assert!(error.to_string().contains("secret"), "{error}");
            let (class, wait, masked) = (error.class(), error.retry_after(), error.masked());
            assert_eq!((masked.class(), masked.retry_after()), (class, wait));
            assert!(masked.to_string().contains(MASK) && !masked.to_string().contains("secret"), "{masked}");
        }
    }

    #[test]
    fn what_passes_is_retryable_and_what_comes_back_the_same_is_not() {
        let api = || "http://api.example/".to_owned();
        let status = |status, passes| FetchError::Status {
            api: api(),
            status: StatusCode::from_u16(status).expect("a status"),
            excerpt: String::new(),
            limit: Limit { passes, wait: None },
        };
        let page = |cause| FetchError::Page { api: api(), cause, wait: None };
        let content = |kind: &str| FetchError::ContentType { api: api(), content_type: kind.to_owned(), excerpt: String::new() };
        for (error, class, retryable) in [
            (status(403, true), Class::Transient, true),
            (status(403, false), Class::Rejected, false),
            (status(404, true), Class::Transient, true),
            (status(404, false), Class::Rejected, false),
            (status(401, false), Class::Rejected, true),
            (status(202, false), Class::Transient, true),
            (status(503, false), Class::Transient, true),
            (status(501, false), Class::Rejected, false),
            (page(PageError::CutShort { bytes: 1, excerpt: String::new() }), Class::Transient, true),
            (page(PageError::Failure { said: "busy".into() }), Class::Transient, true),
            (page(PageError::LineDelimited), Class::Rejected, false),
            (content("text/html"), Class::Rejected, true),
            (content("text/csv"), Class::Rejected, false),
            (FetchError::NextAddress { api: api(), cause: "to another host".into() }, Class::Rejected, false),
            (FetchError::Header { name: "x".into(), cause: "no".into() }, Class::Transient, true),
        ] {
            assert_eq!((error.class(), error.is_retryable()), (class, retryable), "{error}");
        }
    }
}
