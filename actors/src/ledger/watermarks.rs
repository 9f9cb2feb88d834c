//! The watermark of each incremental read of the source. Pure.
//!
//! Guarantee: the watermark of a read moves only by events that name the read.
//!
//! Does not remember more than [`MAX_CURSORS`] reads. Beyond that, the one that moved first is
//! forgotten, and its next fetch reads everything again. That costs time and loses no record.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use forebay_schemas::snapshot::WatermarkView;
use forebay_schemas::source_read::Read;
use forebay_schemas::watermark::Pass;
use serde::{Deserialize, Serialize};

use super::command::PassProgress;
use super::cursors::MAX_CURSORS;

/// The watermark of every read that has one, or is read for the first time.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watermarks(BTreeMap<Read, Watermark>);

/// How far a read has got.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Everything up to here is in Kafka; absent while the first pass is not complete, and when no
    /// record had a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The pass that is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// Hashes of records that the next pass asks for again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// The event that moved it.
    pub seq: u64,
    /// When that was.
    pub moved: DateTime<Utc>,
}

impl Watermarks {
    /// Returns the watermark of a read.
    pub fn get(&self, read: &Read) -> Option<&Watermark> {
        self.0.get(read)
    }

    /// Returns the reads that have one, or are read for the first time.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Read> {
        self.0.keys()
    }

    /// Returns whether no read has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how far every read has got, for display.
    pub fn views(&self) -> Vec<WatermarkView> {
        let view = |(read, known): (&Read, &Watermark)| WatermarkView {
            read: read.text().to_owned(),
            watermark: known.at.clone(),
            reached: known.pass.as_ref().and_then(|pass| pass.reached.clone()),
            moved_at: known.moved,
        };
        self.0.iter().map(view).collect()
    }

    /// Moves a read, by an event. While a pass goes on, what was seen before it stays.
    pub(super) fn put(&mut self, read: &Read, progress: PassProgress, seq: u64, moved: DateTime<Utc>) {
        let known = self.0.entry(read.clone()).or_default();
        let seen = if progress.pass.is_some() { std::mem::take(&mut known.seen) } else { progress.seen };
        *known = Watermark { at: progress.at, pass: progress.pass, seen, seq, moved };
        if self.0.len() > MAX_CURSORS
            && let Some(first) =
                self.0.iter().filter(|(read, _)| !read.is_plain()).min_by_key(|(_, known)| known.seq).map(|(read, _)| read.clone())
        {
            self.0.remove(&first);
        }
    }

    /// Ends the pass of a read: its next fetch begins a new one, behind the same watermark.
    pub(super) fn end_pass(&mut self, read: &Read) {
        if let Some(known) = self.0.get_mut(read) {
            known.pass = None;
        }
    }

    /// Forgets every read.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
