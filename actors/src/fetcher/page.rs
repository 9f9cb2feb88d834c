//! Reads a page from the bytes of a response: its records, and what it says about the next page.
//!
//! Guarantees: the same bytes give the same page. See [`records`](super::records) for the records,
//! and [`response_hints`] for what a response says in other words.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::{FetcherSection, HeaderPlace, NextPage, Place, RecordsSection};
use forebay_schemas::source_read::MAX_CURSOR_BYTES;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body_hints;
use super::ndjson;
use super::page_error::PageError;
use super::pagination::{NextCursor, PageInfo};
use super::paging_guess::{FirstAnswer, sign_of_more};
use super::records::{BOM, Extracted, Shape, extract};
use crate::text::json_lookup::{JsonLookup as _, kind, parse_pointer};

/// Where the pipeline file says that a body has its parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct PagePaths {
    /// The records.
    pub records: JsonPointer,
    /// What they are in.
    pub shape: Shape,
    /// The error of a request that failed with a good status, and whether it may succeed later.
    pub error: Option<(JsonPointer, bool)>,
    /// Whether the response may have one record per line.
    pub lines: bool,
    /// The next cursor or URL, if the body names it.
    pub next: Option<JsonPointer>,
    /// The next cursor, in the last record.
    pub last: Option<JsonPointer>,
    /// Whether there is a further page, if the pipeline file names such a field.
    pub has_more: Option<JsonPointer>,
    /// The total, if the pipeline file names such a field.
    pub total: Option<JsonPointer>,
    /// Whether the API is read in pages.
    pub is_paged: bool,
    /// Whether an answer that says that there is more is a sign of a rule that was not found.
    pub seeks_paging: bool,
    /// The key of `[fetcher]` with these paths, for messages.
    pub key: &'static str,
}

impl PagePaths {
    /// The paths of a pipeline file.
    pub(crate) fn of(section: &FetcherSection) -> Self {
        let all = Self {
            records: parse_pointer(section.records.pointer()),
            shape: match section.records {
                RecordsSection::At(_) => Shape::List,
                RecordsSection::Object(_) => Shape::Object,
                RecordsSection::Columns(_) => Shape::Columns,
            },
            error: section.error.as_ref().map(|error| (parse_pointer(&error.at), error.retry)),
            lines: section.format.is_none() && section.records == RecordsSection::default(),
            seeks_paging: section.seeks_paging(),
            key: "paging",
            ..Self::default()
        };
        let Some(paging) = section.paging() else { return all };
        let (next, last) = match &paging.next {
            NextPage::Cursor(Place::Body(pointer)) | NextPage::Url(pointer) => (Some(parse_pointer(pointer)), None),
            NextPage::LastRecord(pointer) => (None, Some(parse_pointer(pointer))),
            _ => (None, None),
        };
        let total = match &paging.total {
            Some((Place::Body(pointer), _)) => Some(parse_pointer(pointer)),
            _ => None,
        };
        let has_more = paging.has_more.as_deref().map(parse_pointer);
        Self { next, last, has_more, total, is_paged: true, key: paging.key, ..all }
    }

    /// The key of `[fetcher]` for a place in the body that a response of lines or rows does not
    /// have.
    pub(crate) fn place_outside_records(&self) -> Option<String> {
        let places = [
            ("next", self.next.is_some()),
            ("last", self.last.is_some()),
            ("has_more", self.has_more.is_some()),
            ("total", self.total.is_some()),
        ];
        places.iter().find(|(_, is_set)| *is_set).map(|(name, _)| format!("{}.{name}", self.key))
    }
}

/// Where the pipeline file says that an answer has something outside of its body.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerPlaces {
    /// The header with the next cursor.
    pub next_header: Option<String>,
    /// The header with the total.
    pub total_header: Option<String>,
    /// Whether the `Link` header names the next page.
    pub is_link: bool,
    /// As of [`PagePaths`].
    pub seeks_paging: bool,
    /// The key of `[fetcher]` with these places, for messages.
    pub key: &'static str,
}

impl AnswerPlaces {
    /// The places of a pipeline file.
    pub(crate) fn of(section: &FetcherSection) -> Self {
        let Some(paging) = section.paging() else {
            return Self { seeks_paging: section.seeks_paging(), ..Self::default() };
        };
        let header = |place: &Place| match place {
            Place::Header(HeaderPlace { header }) => Some(header.clone()),
            Place::Body(_) => None,
        };
        let next_header = match &paging.next {
            NextPage::Cursor(place) => header(place),
            _ => None,
        };
        let total_header = paging.total.as_ref().and_then(|(place, _)| header(place));
        Self { next_header, total_header, is_link: paging.next == NextPage::Link, seeks_paging: false, key: paging.key }
    }
}

/// Reads a page. A response that is empty, or that has null in place of the array, is a page
/// without records.
///
/// In the first page of a fetch, a next cursor under nearly the name of the pipeline file is an
/// error.
///
/// # Errors
/// When the response holds no page.
pub(crate) fn read(body: &Bytes, paths: &PagePaths, is_first: bool, max_page_bytes: usize) -> Result<(Extracted, PageInfo), PageError> {
    let json = body.strip_prefix(BOM).unwrap_or(body);
    let is_named = paths.next.is_some() || paths.last.is_some();
    let mut info = PageInfo { next: if is_named { NextCursor::Absent } else { NextCursor::NotConfigured }, ..PageInfo::default() };
    if json.trim_ascii().is_empty() {
        return Ok((Extracted::default(), info));
    }
    if let Some((pointer, retry)) = &paths.error
        && let Some(error) = pointer.find_first(json).filter(|value| body_hints::has_error(value))
    {
        let message = body_hints::text(error).unwrap_or_else(|| error.get().to_owned());
        return Err(PageError::ApiError { message: body_hints::short(&message), retry: *retry });
    }
    // A pointer to the error, or to one object, says what is none.
    let is_guessed = paths.error.is_none() && paths.shape != Shape::Object;
    let api_error = |message| PageError::ApiError { message, retry: true };
    let found = match extract(body.clone(), &paths.records, paths.shape, max_page_bytes) {
        Err(PageError::LineDelimited) if paths.lines => ndjson::read(json, max_page_bytes)?,
        Err(error @ (PageError::NotFound { .. } | PageError::NotArray { .. } | PageError::Columns { .. })) => {
            let message = body_hints::error_of(json).or_else(|| body_hints::message_of(json));
            return Err(message.map_or(error, api_error));
        }
        other => other?,
    };
    let may_be_error = found.records.is_empty() || found.is_object;
    if is_guessed
        && may_be_error
        && let Some(message) = body_hints::error_of(json)
    {
        return Err(api_error(message));
    }
    let json = found.body.as_ref();
    if let Some(pointer) = &paths.next {
        info.next = next_cursor(json, pointer, paths.key)?;
        if info.next == NextCursor::Absent
            && is_first
            && let Some(near) = body_hints::similar_cursor(pointer, &paths.records, json)
        {
            return Err(PageError::NearCursor { key: paths.key, pointer: pointer.to_string(), near });
        }
    }
    if let Some(pointer) = &paths.last {
        info.next = last_cursor(&found, pointer, paths.key)?;
    }
    if paths.is_paged {
        let beside = paths.next.clone().unwrap_or_else(|| paths.records.clone());
        info.more = match &paths.has_more {
            Some(has_more) => more(json, has_more, paths.key)?.map(|more| (has_more.to_string(), more)),
            None if matches!(info.next, NextCursor::Cursor(_)) => None,
            None => body_hints::more_field(&beside, json).map(|name| (name, true)),
        };
        info.total = paths.total.as_ref().and_then(|pointer| total(json, pointer, paths.key).transpose()).transpose()?;
        info.digest = digest(&found.records);
    }
    if paths.seeks_paging {
        let body: Value = serde_json::from_slice(json).unwrap_or_default();
        let (headers, key) = (BTreeMap::new(), JsonPointer::default());
        let count = found.records.len();
        let answer =
            FirstAnswer { body: &body, headers: &headers, links_next: false, url: None, records: &paths.records, count, key: &key };
        info.more = sign_of_more(&answer).map(|sign| (sign, true));
    }
    Ok((found, info))
}

/// A hash of the records, to compare a page with the one before it.
pub(super) fn digest(records: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    records.iter().for_each(|record| record.hash(&mut hasher));
    hasher.finish()
}

/// Whether there is a further page; `None` when the pointer leads nowhere or to null.
fn more(json: &[u8], pointer: &JsonPointer, key: &'static str) -> Result<Option<bool>, PageError> {
    let Some(value) = pointer.find_first(json) else { return Ok(None) };
    let text = value.get().trim_matches('"').to_ascii_lowercase();
    match (text.as_str(), kind(value.get().as_bytes())) {
        ("null" | "", _) => Ok(None),
        ("true" | "1", _) => Ok(Some(true)),
        ("false" | "0", _) => Ok(Some(false)),
        (_, found) => Err(PageError::NotBoolean { key, pointer: pointer.to_string(), found }),
    }
}

/// The total that a response names; `None` when the pointer leads nowhere or to null.
fn total(json: &[u8], pointer: &JsonPointer, key: &'static str) -> Result<Option<u64>, PageError> {
    let Some(value) = pointer.find_first(json).filter(|value| value.get() != "null") else { return Ok(None) };
    count(value.get().trim_matches('"'), &pointer.to_string(), key).map(Some)
}

/// A count that an answer gives as text.
pub(super) fn count(text: &str, pointer: &str, key: &'static str) -> Result<u64, PageError> {
    // Some APIs write their counts as floats.
    let digits = text.trim().trim_end_matches(".0");
    let found = || format!("{:?}", text.chars().take(40).collect::<String>());
    digits.parse().map_err(|_| PageError::NotCount { key, pointer: pointer.to_owned(), found: found() })
}

/// Reads the cursor of the next page from a response that [`extract`] found to be JSON. A number is
/// kept as the API wrote it.
///
/// This reads the response a second time, up to the cursor. Compared with the network that costs
/// nothing.
///
/// # Errors
/// When the pointer leads to anything else than a string or a number.
fn next_cursor(json: &[u8], pointer: &JsonPointer, key: &str) -> Result<NextCursor, PageError> {
    let Some(value) = pointer.find_first(json) else {
        return Ok(if pointer.meets_null(json) { NextCursor::Null } else { NextCursor::Absent });
    };
    cursor_of(value, &pointer.to_string(), &format!("{key}.next"))
}

/// Reads the cursor in the last record of a page that is JSON; absent without records.
///
/// # Errors
/// When the record has none.
fn last_cursor(found: &Extracted, pointer: &JsonPointer, key: &'static str) -> Result<NextCursor, PageError> {
    let is_bad = |at: usize| found.bad.iter().any(|bad| bad.index == at);
    let Some((_, last)) = found.records.iter().enumerate().rev().find(|(at, _)| !is_bad(*at)) else { return Ok(NextCursor::Absent) };
    let missing = |cause| PageError::NoLast { key, pointer: pointer.to_string(), cause };
    let value = pointer.find_first(last).ok_or_else(|| missing(pointer.explain(last).replace("the answer", "the record")))?;
    match cursor_of(value, &pointer.to_string(), &format!("{key}.last"))? {
        NextCursor::Cursor(cursor) => Ok(NextCursor::Cursor(cursor)),
        _ => Err(missing("it is null, false or empty there".to_owned())),
    }
}

fn cursor_of(value: &RawValue, pointer: &str, key: &str) -> Result<NextCursor, PageError> {
    let not_cursor = |found| Err(PageError::NotCursor { key: key.to_owned(), pointer: pointer.to_owned(), found });
    let text = value.get();
    match kind(text.as_bytes()) {
        "null" => Ok(NextCursor::Null),
        "a boolean" if text == "false" => Ok(NextCursor::Null),
        "a number" => bounded(text.trim().to_owned(), pointer, key),
        "a string" => match serde_json::from_str::<String>(text) {
            Ok(cursor) => bounded(cursor, pointer, key),
            Err(_) => not_cursor("a string that is not Unicode"),
        },
        other => not_cursor(other),
    }
}

/// A cursor that an answer has as text, in a header.
pub(super) fn text_cursor(text: &str, header: &str, key: &str) -> Result<NextCursor, PageError> {
    bounded(text.trim().to_owned(), header, &format!("{key}.next"))
}

fn bounded(cursor: String, pointer: &str, key: &str) -> Result<NextCursor, PageError> {
    if cursor.len() > MAX_CURSOR_BYTES {
        return Err(PageError::LongCursor { key: key.to_owned(), pointer: pointer.to_owned(), bytes: cursor.len() });
    }
    Ok(if cursor.trim().is_empty() { NextCursor::Null } else { NextCursor::Cursor(cursor) })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
