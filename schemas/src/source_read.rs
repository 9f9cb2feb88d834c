//! A read: one way of reading a source, given by its params and its window, with its position.
//!
//! Guarantees:
//! * Runs with the same params and window share a read; runs with others have another one.
//! * The text of a read has at most [`MAX_READ_BYTES`] bytes.
//!
//! Does not guarantee that the text shows all params: a longer one is cut and ends in a hash.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::window::Window;

/// The maximum length of a read's text, in bytes.
pub const MAX_READ_BYTES: usize = 256;
/// The bytes of a longer text that precede its hash.
const TEXT_KEPT: usize = 200;
/// The maximum length of a cursor, in bytes. It is sent in a URL and journaled with each page.
pub const MAX_CURSOR_BYTES: usize = 4 << 10;
/// The number of characters of a cursor that a message shows.
const MAX_QUOTED_CHARS: usize = 120;
/// The namespace of the hashes.
const HASHES: Uuid = Uuid::from_u128(0x8a3c_1f4e_6b0d_4a5b_9d6e_2c71_f0b8_35e6);

/// What a run sets for the pages that it reads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ReadParams {
    /// Its params by name, out of `[fetcher] params`.
    pub values: BTreeMap<String, String>,
    /// Its window, where the source is read by windows.
    pub window: Option<Window>,
    /// From where on it asks, where the source is incremental, as its requests write it. It is no
    /// part of the read.
    pub watermark: Option<String>,
    /// What the answer that it has already said of itself, where its requests are conditional. They
    /// are no part of the read.
    pub validators: Option<Validators>,
}

/// What an answer says of itself, so that the next request can ask whether it has changed (RFC
/// 9110, section 8.8).
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Validators {
    /// Its `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 1_024)))]
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(length(max = 1_024)))]
    pub last_modified: Option<String>,
}

/// The maximum length of a validator, in bytes. A longer one is not kept.
pub const MAX_VALIDATOR_BYTES: usize = 1 << 10;

impl From<BTreeMap<String, String>> for ReadParams {
    fn from(values: BTreeMap<String, String>) -> Self {
        Self { values, ..Self::default() }
    }
}

/// The window and the params of a run, as a URL query: `window=START/END`, and the params sorted by
/// name and percent-encoded. Empty for scheduled fetches and for runs without either.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Read(String);

impl Read {
    /// The read of a run with these params, and without a window.
    pub fn of(params: &BTreeMap<String, String>) -> Self {
        Self::in_window(params, None)
    }

    /// The read of a run with these params and this window.
    pub fn in_window(params: &BTreeMap<String, String>, window: Option<Window>) -> Self {
        let pairs = params.iter().map(|(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value)));
        // No param has a slash in its value, so none has this text.
        let window = window.map(|window| format!("window={window}"));
        let text = window.into_iter().chain(pairs).collect::<Vec<_>>().join("&");
        if text.len() <= MAX_READ_BYTES {
            return Self(text);
        }
        let hash = Uuid::new_v5(&HASHES, text.as_bytes()).simple().to_string();
        // The text is ASCII, so any byte is a character boundary.
        Self(format!("{}~{hash}", &text[..TEXT_KEPT]))
    }

    /// Whether it is the read without params and without a window.
    pub fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// The text; empty without params.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_plain() { "no params" } else { &self.0 })
    }
}

/// Percent-encodes all but letters, digits and unreserved marks.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The position of a read or a run: what the next page is requested with.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The first page: with `start` of `[fetcher.paging]`, or without a cursor if the file sets
    /// none.
    #[default]
    Begin,
    /// The page of this cursor.
    Cursor(#[cfg_attr(test, schemars(length(min = 1, max = 4_096)))] String),
}

impl Position {
    /// The position of a cursor; without one, the start.
    pub fn of(cursor: Option<&str>) -> Self {
        cursor.map_or(Self::Begin, |cursor| Self::Cursor(cursor.to_owned()))
    }

    /// The cursor; `None` at the start.
    pub fn cursor(&self) -> Option<&str> {
        match self {
            Self::Begin => None,
            Self::Cursor(cursor) => Some(cursor),
        }
    }
}

/// `the start`, or `cursor "300"`, truncated if long.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("the start"),
            Self::Cursor(cursor) => write!(f, "cursor {}", quote_cursor(cursor)),
        }
    }
}

/// A cursor for a message: quoted, control characters escaped, truncated if long.
pub fn quote_cursor(cursor: &str) -> String {
    let cut: String = cursor.chars().take(MAX_QUOTED_CHARS).collect();
    let more = if cut.len() < cursor.len() { format!("… ({} bytes)", cursor.len()) } else { String::new() };
    format!("{cut:?}{more}")
}

/// Whether a run continues its read, or reads again what was already read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// From the read's cursor, which moves with the pages.
    Continue,
    /// From the read's first page. The read's cursor does not move.
    Again,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(params: &[(&str, &str)]) -> Read {
        Read::of(&params.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn a_read_is_its_params_sorted_and_encoded() {
        assert_eq!(of(&[("nat", "ch"), ("day", "2026-01-01")]).text(), "day=2026-01-01&nat=ch");
        assert_eq!(of(&[("q", "a=b&c d/é%")]).text(), "q=a%3Db%26c%20d%2F%C3%A9%25");
        assert!(of(&[]).is_plain() && of(&[]) == Read::default() && of(&[]).to_string() == "no params");
        assert_ne!(of(&[("a", "")]), of(&[]));
    }

    #[test]
    fn a_window_is_a_part_of_the_read_and_no_param_equals_it() {
        let at = |text| crate::window::moment(text).unwrap();
        let window = |start, end| Some(Window { start: at(start), end: at(end) });
        let shop = BTreeMap::from([("shop".to_owned(), "7".to_owned())]);
        let day = Read::in_window(&shop, window("2026-01-01", "2026-01-02"));
        assert_eq!(day.text(), "window=2026-01-01T00:00:00Z/2026-01-02T00:00:00Z&shop=7");
        assert_ne!(day, Read::in_window(&shop, window("2026-01-02", "2026-01-03")));
        let alone = Read::in_window(&BTreeMap::new(), window("2026-01-01", "2026-01-02"));
        assert_ne!(alone, of(&[("window", "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z")]));
        assert!(!alone.is_plain() && Read::in_window(&shop, None) == Read::of(&shop));
    }

    #[test]
    fn long_reads_are_cut_and_distinguished_by_a_hash() {
        let long = |end: &str| of(&[("q", &("x".repeat(1_000) + end))]);
        assert!(long("1").text().len() <= MAX_READ_BYTES && long("1") != long("2"));
        assert_eq!(long("1"), long("1"));
    }

    #[test]
    fn a_long_cursor_is_truncated_with_its_length_and_controls_are_escaped() {
        assert_eq!(quote_cursor("a\u{1b}b"), "\"a\\u{1b}b\"");
        let text = quote_cursor(&"ä".repeat(1_000));
        assert!(text.ends_with("\"… (2000 bytes)") && text.chars().count() < 150, "{text}");
        assert_eq!(Position::Begin.to_string() + &Position::of(Some("3")).to_string(), "the startcursor \"3\"");
    }

    proptest! {
        #[test]
        fn different_params_give_different_reads(
            one in prop::collection::btree_map("[a-z&=%~ ]{1,4}", "[a-z&=%~ ]{0,4}", 0..4),
            other in prop::collection::btree_map("[a-z&=%~ ]{1,4}", "[a-z&=%~ ]{0,4}", 0..4),
        ) {
            prop_assert_eq!(one == other, Read::of(&one) == Read::of(&other));
        }
    }
}
