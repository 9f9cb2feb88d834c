//! Reads a page from the bytes of a response: its records, and what it says about the next page.
//!
//! Guarantees: the same bytes give the same page. See [`records`](super::records) for the records,
//! and [`response_hints`] for what a response says in other words.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::FetcherSection;
use forebay_schemas::source_read::MAX_CURSOR_BYTES;

use super::body_hints;
use super::page_error::PageError;
use super::pagination::{NextCursor, PageInfo};
use super::records::{BOM, Extracted, extract};
use crate::text::json_lookup::{JsonLookup as _, kind, parse_pointer};

/// Where the pipeline file says that a response has its parts.
#[derive(Debug, Clone)]
pub(crate) struct PagePaths {
    /// The array of records.
    pub records: JsonPointer,
    /// The next cursor, if the API gives cursors.
    pub next: Option<JsonPointer>,
    /// Whether there is a further page, if the pipeline file names such a field.
    pub has_more: Option<JsonPointer>,
}

impl PagePaths {
    /// The paths of a pipeline file.
    pub(crate) fn of(section: &FetcherSection) -> Self {
        let cursor = section.cursor.as_ref();
        Self {
            records: parse_pointer(&section.records),
            next: cursor.map(|cursor| parse_pointer(&cursor.next)),
            has_more: cursor.and_then(|cursor| cursor.has_more.as_deref()).map(parse_pointer),
        }
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
    let mut info =
        PageInfo { next: if paths.next.is_some() { NextCursor::Absent } else { NextCursor::NotConfigured }, ..PageInfo::default() };
    if json.trim_ascii().is_empty() {
        return Ok((Extracted::default(), info));
    }
    let found = match extract(body.clone(), &paths.records, max_page_bytes) {
        Err(error @ (PageError::NotFound { .. } | PageError::NotArray { .. })) => {
            let message = body_hints::error_of(json).or_else(|| body_hints::message_of(json));
            return Err(message.map_or(error, |message| PageError::ApiError { message }));
        }
        other => other?,
    };
    if found.records.is_empty()
        && let Some(message) = body_hints::error_of(json)
    {
        return Err(PageError::ApiError { message });
    }
    let json = found.body.as_ref();
    if let Some(pointer) = &paths.next {
        info.next = next_cursor(json, pointer)?;
        if info.next == NextCursor::Absent
            && is_first
            && let Some(near) = body_hints::similar_cursor(pointer, &paths.records, json)
        {
            return Err(PageError::NearCursor { pointer: pointer.to_string(), near });
        }
        info.more = match &paths.has_more {
            Some(has_more) => more(json, has_more)?.map(|more| (has_more.to_string(), more)),
            None if matches!(info.next, NextCursor::Cursor(_)) => None,
            None => body_hints::more_field(pointer, json).map(|name| (name, true)),
        };
        info.digest = digest(&found.records);
    }
    Ok((found, info))
}

/// A hash of the records, to compare a page with the one before it.
fn digest(records: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    records.iter().for_each(|record| record.hash(&mut hasher));
    hasher.finish()
}

/// Whether there is a further page; `None` when the pointer leads nowhere or to null.
fn more(json: &[u8], pointer: &JsonPointer) -> Result<Option<bool>, PageError> {
    let Some(value) = pointer.find_first(json) else { return Ok(None) };
    let text = value.get().trim_matches('"').to_ascii_lowercase();
    match (text.as_str(), kind(value.get().as_bytes())) {
        ("null" | "", _) => Ok(None),
        ("true" | "1", _) => Ok(Some(true)),
        ("false" | "0", _) => Ok(Some(false)),
        (_, found) => Err(PageError::NotBoolean { pointer: pointer.to_string(), found }),
    }
}

/// Reads the cursor of the next page from a response that [`extract`] found to be JSON. A number is
/// kept as the API wrote it.
///
/// This reads the response a second time, up to the cursor. Compared with the network that costs
/// nothing.
///
/// # Errors
/// When the pointer leads to anything else than a string or a number.
fn next_cursor(json: &[u8], pointer: &JsonPointer) -> Result<NextCursor, PageError> {
    let Some(value) = pointer.find_first(json) else {
        return Ok(if pointer.meets_null(json) { NextCursor::Null } else { NextCursor::Absent });
    };
    let not_cursor = |found| Err(PageError::NotCursor { pointer: pointer.to_string(), found });
    let text = value.get();
    let cursor = match kind(text.as_bytes()) {
        "null" => return Ok(NextCursor::Null),
        "a boolean" if text == "false" => return Ok(NextCursor::Null),
        "a number" => text.trim().to_owned(),
        "a string" => match serde_json::from_str::<String>(text) {
            Ok(cursor) => cursor,
            Err(_) => return not_cursor("a string that is not Unicode"),
        },
        other => return not_cursor(other),
    };
    if cursor.len() > MAX_CURSOR_BYTES {
        return Err(PageError::LongCursor { pointer: pointer.to_string(), bytes: cursor.len() });
    }
    Ok(if cursor.trim().is_empty() { NextCursor::Null } else { NextCursor::Cursor(cursor) })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
