//! Why a response holds no page of records.
//!
//! Guarantees: the same bytes give the same error, and a message names the key of the pipeline file
//! to change.

use forebay_schemas::source_read::MAX_CURSOR_BYTES;

/// A response that holds no page of records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is not JSON.
    #[error("the answer is not JSON: {cause} at line {line}, column {column}, near {excerpt}")]
    NotJson {
        /// The parser's message.
        cause: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 at the end of a line.
        column: usize,
        /// The text around the position.
        excerpt: String,
    },
    /// The pointer leads nowhere.
    #[error("fetcher.records = \"{pointer}\" finds nothing in the answer: {cause}")]
    NotFound {
        /// The pointer.
        pointer: String,
        /// Which token is missing, and what the response has instead.
        cause: String,
    },
    /// It ends before its JSON does.
    #[error("the answer is cut short: its JSON is incomplete after {bytes} bytes, near {excerpt}")]
    CutShort {
        /// Its length.
        bytes: usize,
        /// Its end.
        excerpt: String,
    },
    /// It is newline-delimited JSON, but the pipeline file says otherwise.
    #[error("the answer is NDJSON, one JSON value per line; set fetcher.format = \"ndjson\", and remove fetcher.records")]
    LineDelimited,
    /// It has one record per line or row, but the pipeline file has a pointer to the records.
    #[error("each line or row of the answer is a record, but fetcher.records = \"{pointer}\" leads into one value; remove fetcher.records")]
    PointerIntoLines {
        /// The pointer.
        pointer: String,
    },
    /// It has one record per line or row, but the pipeline file looks for the next page in one
    /// value.
    #[error("each line or row of the answer is a record, so it has no place for fetcher.{key}; page by a header, `Link`, number or offset")]
    NoPlaceInLines {
        /// The key below `[fetcher]`, such as `paging.next`.
        key: String,
    },
    /// A line, or a row of CSV, is too long.
    #[error(
        "line {line} of the answer has more than {max} bytes, the limit of fetcher.max_page_bytes; raise it, and producer.budget with it"
    )]
    LongLine {
        /// The line or row, from 1.
        line: u64,
        /// The limit.
        max: usize,
    },
    /// It is no usable CSV.
    #[error("the answer is no usable CSV: {0}")]
    Csv(String),
    /// The columns make no records.
    #[error("fetcher.records.columns = \"{pointer}\" has no records: {cause}")]
    Columns {
        /// The pointer.
        pointer: String,
        /// Why not.
        cause: String,
    },
    /// It has an error message in place of records.
    #[error("the API answered an error in place of records: {message}")]
    ApiError {
        /// The API's message.
        message: String,
        /// Whether the same request may succeed later.
        retry: bool,
    },
    /// The pointer leads to something other than an array or a record.
    #[error("fetcher.records = \"{pointer}\" leads to {kind}, not to an array of records{remedy}")]
    NotArray {
        /// The pointer.
        pointer: String,
        /// The type that it leads to.
        kind: &'static str,
        /// What to do; empty when that is obvious.
        remedy: String,
    },
    /// The pointer to the next cursor leads nowhere, but a similar one leads to a cursor.
    #[error("fetcher.{key}.next = \"{pointer}\" finds nothing in the first page, which has `{near}`; write {key}.next = \"{near}\"")]
    NearCursor {
        /// The key of `[fetcher]`: `paging` or `cursor`.
        key: &'static str,
        /// The pointer.
        pointer: String,
        /// The similar pointer.
        near: String,
    },
    /// The `has_more` pointer leads to something other than a boolean.
    #[error("fetcher.{key}.has_more = \"{pointer}\" leads to {found}, not to true or false")]
    NotBoolean {
        /// The key of `[fetcher]`.
        key: &'static str,
        /// The pointer.
        pointer: String,
        /// The type that it leads to.
        found: &'static str,
    },
    /// It has more than `max` records: what Forebay keeps per record would outweigh the page.
    #[error("the page has more than {max} records; ask the API for smaller pages, or raise fetcher.max_page_bytes")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// What is added to its records makes it too large.
    #[error("with the fields of fetcher.add, the records of the page have more than {max} bytes; add fewer or shorter ones")]
    TooMuchAdded {
        /// The limit.
        max: usize,
    },
    /// A header that is added to the records is too long.
    #[error("the header {name:?} of fetcher.add has {bytes} bytes; the limit is {max}")]
    LongHeader {
        /// The header.
        name: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The pointer to the total leads to something other than a count.
    #[error("fetcher.{key}.total = \"{pointer}\" leads to {found}, not to a count")]
    NotCount {
        /// The key of `[fetcher]`.
        key: &'static str,
        /// The pointer, or the name of the header.
        pointer: String,
        /// What it leads to.
        found: String,
    },
    /// The last record has no cursor.
    #[error(
        "fetcher.{key}.last = \"{pointer}\" finds nothing in the last record of the page, so the next page can't be requested: {cause}"
    )]
    NoLast {
        /// The key of `[fetcher]`.
        key: &'static str,
        /// The pointer.
        pointer: String,
        /// Which token is missing, and what the record has instead.
        cause: String,
    },
    /// No record of the first page has a mark.
    #[error("fetcher.incremental.field = \"{pointer}\" gives no record of the page a mark, so the watermark would never move: {cause}")]
    NoMark {
        /// The pointer.
        pointer: String,
        /// Which token is missing, or what the record has there.
        cause: String,
    },
    /// The pointer to the next cursor leads to something other than a string or a number.
    #[error("fetcher.{key} = \"{pointer}\" leads to {found}, not to a string or a number")]
    NotCursor {
        /// The key below `[fetcher]`, such as `paging.next`.
        key: String,
        /// The pointer.
        pointer: String,
        /// The type that it leads to.
        found: &'static str,
    },
    /// The next cursor is too long.
    #[error("fetcher.{key} = \"{pointer}\" leads to {bytes} bytes; the limit of a cursor is {MAX_CURSOR_BYTES}")]
    LongCursor {
        /// The key below `[fetcher]`, such as `paging.next`.
        key: String,
        /// The pointer.
        pointer: String,
        /// Its length.
        bytes: usize,
    },
}
