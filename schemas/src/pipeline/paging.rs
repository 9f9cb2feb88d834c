//! `[fetcher.paging]`: how to get from one page to the next, and from one fetch to the next.
//!
//! Guarantee: [`FetcherSection::paging()`] gives one model, [`Paging`], for this section and for
//! the older `cursor` of `[fetcher]`.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::FetcherSection;

/// `[fetcher.paging]` as it is written. [`Paging`] has its meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagingSection {
    /// How the next page is found.
    pub kind: PagingKind,
    /// `cursor`: where an answer has the next cursor: a JSON pointer (RFC 6901), or
    /// `{ header = "NAME" }`. `next_url`: the JSON pointer to the URL of the next page. Null,
    /// false, empty or absent on the last page.
    pub next: Option<Place>,
    /// `last_record`: JSON pointer into a record. Its value in the last record of a page is the
    /// next cursor.
    pub last: Option<String>,
    /// The query parameter for the cursor, the page number or the offset. Absent: a template has
    /// it, such as `{{ cursor }}`.
    pub param: Option<String>,
    /// The cursor, page number or offset of the first page. Default: no cursor, page 1, offset 0.
    pub start: Option<Scalar>,
    /// `page`: what is added to the number of a page, 1 to 1,000,000. Default 1.
    pub step: Option<u64>,
    /// The number of records on a full page, 1 to 1,000,000. After a full page, one with fewer is
    /// the last.
    pub size: Option<u64>,
    /// The query parameter for `size`.
    pub size_param: Option<String>,
    /// JSON pointer (RFC 6901) to a flag for further pages: false ends a fetch, true continues it.
    pub has_more: Option<String>,
    /// `page` and `offset`: where an answer has the total: a JSON pointer, or
    /// `{ header = "NAME" }`.
    pub total: Option<Place>,
    /// What `total` counts. Default `records`.
    pub total_of: Option<TotalOf>,
    /// The maximum number of consecutive pages without records; 0 to 10,000. 0: such a page ends
    /// the fetch. Default 10; 0 for `page`, `offset` and `last_record`.
    pub max_empty_pages: Option<u32>,
    /// Where the next fetch begins after one that read everything. Default: `continue` for `cursor`
    /// and `last_record`, else `start`.
    pub next_fetch: Option<NextFetch>,
    /// Further hosts, `host` or `host:port`, that the URL of a next page may lead to. Secrets are
    /// not sent there. Default none.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
}

/// `[fetcher] cursor`: the older spelling of `[fetcher.paging]` with `kind = "cursor"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CursorSection {
    /// JSON pointer (RFC 6901) to the next page's cursor in the response: a string or a number;
    /// null, false, empty or absent on the last page. A cursor that is a URL on the same host is
    /// requested as it is.
    pub next: String,
    /// The query parameter that carries the cursor.
    pub param: String,
    /// The cursor of the very first page; absent: that page is requested with the plain url.
    pub start: Option<String>,
    /// JSON pointer (RFC 6901) to a flag for further pages: false ends a fetch, whatever `next`
    /// leads to. Absent: only the next cursor counts.
    pub has_more: Option<String>,
    /// The maximum number of consecutive pages without records; 0 to 10,000. 0: such a page ends
    /// the fetch. Default 10.
    #[serde(default = "max_empty_pages")]
    pub max_empty_pages: u32,
}

/// How the next page is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PagingKind {
    /// As the first answers of the API say. `paging = "auto"` means the same.
    Auto,
    /// By a value that the answer names.
    Cursor,
    /// By a URL in the body.
    NextUrl,
    /// By `Link: <URL>; rel="next"` (RFC 8288).
    Link,
    /// By its number.
    Page,
    /// By the number of records before it.
    Offset,
    /// By a field of the last record.
    LastRecord,
}

impl PagingKind {
    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cursor => "cursor",
            Self::NextUrl => "next_url",
            Self::Link => "link",
            Self::Page => "page",
            Self::Offset => "offset",
            Self::LastRecord => "last_record",
        }
    }
}

/// A location in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a JSON pointer such as \"/meta/next\", or { header = \"NAME\" }")]
pub enum Place {
    /// A JSON pointer (RFC 6901) into the body.
    Body(String),
    /// A header.
    Header(HeaderPlace),
}

/// A header of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderPlace {
    /// Its name.
    pub header: String,
}

/// A text or a whole number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected text or a whole number")]
pub enum Scalar {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What a total counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TotalOf {
    /// All records of the read.
    #[default]
    Records,
    /// All pages of the read.
    Pages,
}

/// Where the next fetch begins after one that read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextFetch {
    /// At the first page.
    Start,
    /// Where the last one ended.
    Continue,
}

/// How an API paginates. A fetch ends in any case at `fetcher.max_pages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// How the next page is found.
    pub next: NextPage,
    /// The query parameter for the cursor, the page number or the offset.
    pub param: Option<String>,
    /// The cursor, page number or offset of the first page.
    pub start: Option<String>,
    /// The number of records on a full page.
    pub size: Option<u64>,
    /// The query parameter for it.
    pub size_param: Option<String>,
    /// JSON pointer to a flag for further pages.
    pub has_more: Option<String>,
    /// Where an answer has the total, and what it counts.
    pub total: Option<(Place, TotalOf)>,
    /// The maximum number of consecutive pages without records.
    pub max_empty_pages: u32,
    /// Where the next fetch begins after one that read everything.
    pub next_fetch: NextFetch,
    /// Further hosts that the URL of a next page may lead to.
    pub allowed_hosts: Vec<String>,
    /// The key of `[fetcher]` that it is written in, for messages: `paging` or `cursor`.
    pub key: &'static str,
}

/// How the next page is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextPage {
    /// By the cursor here.
    Cursor(Place),
    /// By the URL at this JSON pointer.
    Url(String),
    /// By the `Link` header.
    Link,
    /// By the number of the page, to which this is added.
    Page {
        /// The number of the first page.
        start: u64,
        /// The distance between two pages; at least 1.
        step: u64,
    },
    /// By the number of records before it.
    Offset,
    /// By the value at this JSON pointer into the last record.
    LastRecord(String),
}

impl NextPage {
    /// Whether pages are counted by the fetcher, so that an answer need not name the next one.
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Offset)
    }

    /// What a request carries to name its page; `None` when it is a URL.
    pub fn carries(&self) -> Option<&'static str> {
        match self {
            Self::Cursor(_) | Self::LastRecord(_) => Some("cursor"),
            Self::Page { .. } => Some("page"),
            Self::Offset => Some("offset"),
            Self::Url(_) | Self::Link => None,
        }
    }
}

impl Paging {
    /// The rule in words, for `forebay check`.
    pub fn describe(&self) -> String {
        let place = |place: &Place| match place {
            Place::Body(pointer) => format!("at {pointer}"),
            Place::Header(HeaderPlace { header }) => format!("in the header {header}"),
        };
        let sent = match (&self.param, self.next.carries()) {
            (Some(param), _) => format!(", sent as `{param}`"),
            (None, Some(name)) => format!(", sent as {{{{ {name} }}}}"),
            (None, None) => String::new(),
        };
        let (by, end) = match &self.next {
            NextPage::Cursor(at) => (format!("the cursor {}", place(at)), "a page without one"),
            NextPage::Url(at) => (format!("the URL at {at}"), "a page without one"),
            NextPage::Link => ("the Link header with rel=\"next\"".to_owned(), "a page without one"),
            NextPage::Page { start, step } => (format!("its number, from {start} in steps of {step}"), "a page without records"),
            NextPage::Offset => (format!("its offset, from {}", self.start.as_deref().unwrap_or("0")), "a page without records"),
            NextPage::LastRecord(at) => (format!("{at} of the last record"), "a page without records"),
        };
        let more = self.has_more.as_ref().map(|at| format!(", or when {at} is false")).unwrap_or_default();
        let total = self.total.as_ref().map(|(at, _)| format!(", or at the total {}", place(at))).unwrap_or_default();
        let short = self.size.map(|size| format!(", or after full pages one with fewer than {size} records")).unwrap_or_default();
        let next = match self.next_fetch {
            NextFetch::Start => "the next fetch begins at the first page",
            NextFetch::Continue => "the next fetch continues where this one ended",
        };
        format!("the next page is found by {by}{sent}; the last is {end}{short}{more}{total}; {next}")
    }
}

impl FetcherSection {
    /// How the API paginates; `None`: a fetch is one page. So it is with `paging = "auto"` as long
    /// as no rule is found.
    pub fn paging(&self) -> Option<Paging> {
        let paging = match &self.paging {
            Some(section) => section.paging(),
            None => self.cursor.as_ref().map(CursorSection::paging),
        };
        // The cursors of an incremental fetch are those of what it asks for.
        let next_fetch = self.incremental.as_ref().map(|_| NextFetch::Start);
        paging.map(|paging| Paging { next_fetch: next_fetch.unwrap_or(paging.next_fetch), ..paging })
    }
}

impl FetcherSection {
    /// Whether how the API paginates is still to be found.
    pub fn seeks_paging(&self) -> bool {
        self.paging.as_ref().is_some_and(|section| section.kind == PagingKind::Auto)
    }
}

/// Reads `paging`: a table, or `"auto"`.
pub(super) fn section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PagingSection>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = PagingSection;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"auto\", or a table such as { kind = \"link\" }")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<PagingSection, E> {
            match text {
                "auto" => Ok(PagingSection::AUTO),
                other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
            }
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PagingSection, A::Error> {
            PagingSection::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Either).map(Some)
}

/// The default of `max_empty_pages` where an answer names the next page.
fn max_empty_pages() -> u32 {
    10
}

impl CursorSection {
    /// Its meaning.
    fn paging(&self) -> Paging {
        Paging {
            next: NextPage::Cursor(Place::Body(self.next.clone())),
            param: Some(self.param.clone()),
            start: self.start.clone(),
            size: None,
            size_param: None,
            has_more: self.has_more.clone(),
            total: None,
            max_empty_pages: self.max_empty_pages,
            next_fetch: NextFetch::Continue,
            allowed_hosts: Vec::new(),
            key: "cursor",
        }
    }
}

impl PagingSection {
    /// `paging = "auto"`.
    const AUTO: Self = Self {
        kind: PagingKind::Auto,
        next: None,
        last: None,
        param: None,
        start: None,
        step: None,
        size: None,
        size_param: None,
        has_more: None,
        total: None,
        total_of: None,
        max_empty_pages: None,
        next_fetch: None,
        allowed_hosts: Vec::new(),
    };

    /// Parses the lines of a `[fetcher.paging]`.
    ///
    /// # Errors
    /// As of a pipeline file.
    pub fn from_toml(lines: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(lines)
    }

    /// What the section means, once it is checked; `None` if it is still to be found.
    fn paging(&self) -> Option<Paging> {
        let pointer = |place: &Option<Place>| match place {
            Some(Place::Body(pointer)) => pointer.clone(),
            _ => String::new(),
        };
        let number = |default: u64| match &self.start {
            Some(Scalar::Number(number)) => *number,
            _ => default,
        };
        let text = match &self.start {
            Some(Scalar::Number(number)) => Some(number.to_string()),
            Some(Scalar::Text(text)) => Some(text.clone()),
            None => None,
        };
        let (next, start) = match self.kind {
            PagingKind::Auto => return None,
            PagingKind::Cursor => (NextPage::Cursor(self.next.clone().unwrap_or(Place::Body(String::new()))), text),
            PagingKind::NextUrl => (NextPage::Url(pointer(&self.next)), None),
            PagingKind::Link => (NextPage::Link, None),
            PagingKind::Page => (NextPage::Page { start: number(1), step: self.step.unwrap_or(1).max(1) }, Some(number(1).to_string())),
            PagingKind::Offset => (NextPage::Offset, Some(number(0).to_string())),
            PagingKind::LastRecord => (NextPage::LastRecord(self.last.clone().unwrap_or_default()), text),
        };
        let follows = matches!(self.kind, PagingKind::Cursor | PagingKind::NextUrl | PagingKind::Link);
        let continues = matches!(self.kind, PagingKind::Cursor | PagingKind::LastRecord);
        Some(Paging {
            next,
            param: self.param.clone(),
            start,
            size: self.size,
            size_param: self.size_param.clone(),
            has_more: self.has_more.clone(),
            total: self.total.clone().map(|total| (total, self.total_of.unwrap_or_default())),
            max_empty_pages: self.max_empty_pages.unwrap_or(if follows { max_empty_pages() } else { 0 }),
            next_fetch: self.next_fetch.unwrap_or(if continues { NextFetch::Continue } else { NextFetch::Start }),
            allowed_hosts: self.allowed_hosts.clone(),
            key: "paging",
        })
    }
}
