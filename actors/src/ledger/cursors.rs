//! The cursor of each read of the source. Pure.
//!
//! Guarantees:
//! * The cursor of a read moves only by events that name the read.
//! * The cursor of the read without params is always remembered.
//!
//! Does not remember more than [`MAX_CURSORS`] reads with params. Beyond that, an event says that
//! the read which moved first is forgotten, and its next fetch starts at the first page. That costs
//! time and loses no record.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use forebay_schemas::source_read::{Position, Read};
use serde::{Deserialize, Serialize};

/// The number of reads with params that are remembered.
pub const MAX_CURSORS: usize = 1_000;
/// The number of earlier sources whose reads are remembered.
pub const MAX_PREVIOUS_SOURCES: usize = 3;

/// The current source, and the reads of earlier ones: an address that is changed and changed back
/// finds its cursors again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name; empty when no process has named it.
    pub name: String,
    /// When it became the current one; absent when it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Earlier sources and the cursors of their reads, the latest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    before: VecDeque<(String, Cursors)>,
}

impl Source {
    /// Switches to another source, and swaps the cursors for those that it had. Returns whether
    /// there was a source before.
    pub(super) fn switch(&mut self, name: &str, at: DateTime<Utc>, cursors: &mut Cursors) -> bool {
        let before = std::mem::replace(&mut self.name, name.to_owned());
        // A journal without a named source belongs to the one in the pipeline file.
        if before.is_empty() {
            return false;
        }
        let known = self.before.iter().position(|(known, _)| *known == name).and_then(|at| self.before.remove(at));
        let left = std::mem::replace(cursors, known.map(|(_, cursors)| cursors).unwrap_or_default());
        self.before.push_front((before, left));
        self.before.truncate(MAX_PREVIOUS_SOURCES);
        self.since = Some(at);
        true
    }
}

/// The cursor of every read that is past its first page.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Cursors(BTreeMap<Read, Cursor>);

/// What requests the next page of a read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The API's cursor.
    pub cursor: String,
    /// The event that moved it.
    pub seq: u64,
    /// When it moved; absent in a journal of a version that stored no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
}

/// The last event by which an operator set the cursor of each read, at most of [`MAX_CURSORS`]
/// reads. What a page that was requested before that says of its read does not count any more.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredSets")]
pub struct CursorsSet(BTreeMap<Read, u64>);

/// Earlier versions had the last one of all reads.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredSets {
    Of(BTreeMap<Read, u64>),
    One((Read, u64)),
}

impl From<StoredSets> for CursorsSet {
    fn from(stored: StoredSets) -> Self {
        match stored {
            StoredSets::Of(sets) => Self(sets),
            StoredSets::One(set) => Self(BTreeMap::from([set])),
        }
    }
}

impl CursorsSet {
    /// Returns whether the cursor of a read was set after an event.
    pub(super) fn since(&self, read: &Read, event: u64) -> bool {
        self.0.get(read).is_some_and(|set| *set > event)
    }

    /// Returns whether none was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cursor of a read was set, by an event.
    pub(super) fn put(&mut self, read: &Read, event: u64) {
        self.0.insert(read.clone(), event);
        if self.0.len() > MAX_CURSORS
            && let Some(first) = self.0.iter().min_by_key(|(_, event)| **event).map(|(read, _)| read.clone())
        {
            self.0.remove(&first);
        }
    }

    /// No page is under way any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Cursors in a snapshot. Early versions had one cursor for all fetches, which is that of the read
/// without params.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Of(BTreeMap<Read, Cursor>),
    One(Option<String>),
}

impl From<Stored> for Cursors {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Of(cursors) => Self(cursors),
            Stored::One(cursor) => Self(cursor.map(|cursor| (Read::default(), Cursor { cursor, seq: 0, at: None })).into_iter().collect()),
        }
    }
}

impl Cursors {
    /// Returns the position of a read.
    pub fn position(&self, read: &Read) -> Position {
        Position::of(self.0.get(read).map(|known| known.cursor.as_str()))
    }

    /// Returns the number of reads past their first page.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether every read is at its first page.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns every read past its first page, the one that moved last first.
    pub fn newest_first(&self) -> Vec<(&Read, &Cursor)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, cursor)| std::cmp::Reverse(cursor.seq));
        all
    }

    /// Sets the position of a read, by an event.
    pub(super) fn put(&mut self, read: &Read, to: &Position, seq: u64, at: DateTime<Utc>) {
        match to.cursor() {
            Some(cursor) => drop(self.0.insert(read.clone(), Cursor { cursor: cursor.to_owned(), seq, at: Some(at) })),
            None => drop(self.0.remove(read)),
        }
    }

    /// Returns the read that moved first, when there are too many.
    pub(super) fn excess(&self) -> Option<(&Read, &Cursor)> {
        // A cheap check first: this runs after every event.
        if self.0.len() <= MAX_CURSORS {
            return None;
        }
        let with_params = || self.0.iter().filter(|(read, _)| !read.is_plain());
        (with_params().count() > MAX_CURSORS).then(|| with_params().min_by_key(|(_, cursor)| cursor.seq)).flatten()
    }
}
