//! Where each read of the source is, pure.
//!
//! Guarantee: the cursor of a read moves only by events that name the read; [`CURSORS_MOST`] reads with params are remembered, and the one
//! without params always is. Not guaranteed: that a read is always remembered; of too many the one that moved first is forgotten, which
//! an event says, and its next fetch begins at its begin. That costs time and loses no record.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use forebay_schemas::read::{Position, Read};
use serde::{Deserialize, Serialize};

/// How many reads with params are remembered.
pub const CURSORS_MOST: usize = 1_000;
/// Of how many sources before the one of now reads are remembered.
pub const SOURCES_MOST: usize = 3;

/// The source of now, and the reads of those before it: an address that is changed, and changed back, finds them again.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which it is; empty when no process has said so.
    pub name: String,
    /// When it became the one; absent when there was none before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Those before it, and where their reads were, the last one first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    before: VecDeque<(String, Cursors)>,
}

impl Source {
    /// Becomes another one, and changes the cursors for those that it had; says whether there was one before.
    pub(super) fn turn(&mut self, name: &str, at: DateTime<Utc>, cursors: &mut Cursors) -> bool {
        let before = std::mem::replace(&mut self.name, name.to_owned());
        // A journal in which no source has a name is of the one that the file has.
        if before.is_empty() {
            return false;
        }
        let known = self.before.iter().position(|(known, _)| *known == name).and_then(|at| self.before.remove(at));
        let left = std::mem::replace(cursors, known.map(|(_, cursors)| cursors).unwrap_or_default());
        self.before.push_front((before, left));
        self.before.truncate(SOURCES_MOST);
        self.since = Some(at);
        true
    }
}

/// The cursor of every read that is not at its begin.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Cursors(BTreeMap<Read, Cursor>);

/// What the next page of a read is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Itself.
    pub cursor: String,
    /// The event that moved it here.
    pub seq: u64,
    /// When; absent when a version of the program did that which kept no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime<Utc>>,
}

/// Cursors as a snapshot has them. Before there was one a read there was one for all fetches, which was that of the read without params.
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
    /// Where a read is.
    pub fn position(&self, read: &Read) -> Position {
        Position::of(self.0.get(read).map(|known| known.cursor.as_str()))
    }

    /// How many reads are not at their begin.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every read is at its begin.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every read that is not at its begin, the one that moved last first.
    pub fn newest_first(&self) -> Vec<(&Read, &Cursor)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, cursor)| std::cmp::Reverse(cursor.seq));
        all
    }

    /// Puts a read somewhere, by an event.
    pub(super) fn put(&mut self, read: &Read, to: &Position, seq: u64, at: DateTime<Utc>) {
        match to.cursor() {
            Some(cursor) => drop(self.0.insert(read.clone(), Cursor { cursor: cursor.to_owned(), seq, at: Some(at) })),
            None => drop(self.0.remove(read)),
        }
    }

    /// Of too many, the read that moved first.
    pub(super) fn one_too_many(&self) -> Option<(&Read, &Cursor)> {
        // Only after an event that moved one are there more than before, so this is looked for rarely.
        if self.0.len() <= CURSORS_MOST {
            return None;
        }
        let with_params = || self.0.iter().filter(|(read, _)| !read.is_plain());
        (with_params().count() > CURSORS_MOST).then(|| with_params().min_by_key(|(_, cursor)| cursor.seq)).flatten()
    }
}
