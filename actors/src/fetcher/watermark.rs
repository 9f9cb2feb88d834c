//! Incremental reads: what a fetch asks from, how far its pages get, and which of their records
//! were produced already. Pure.
//!
//! Guarantees:
//! * The watermark moves only when everything that a pass asked for is in Kafka, and never back.
//! * A watermark of time is not later than the first request of its pass: a record that changes
//!   while pages are read, and is missed by them, is behind it.
//! * A record is left out only if the same bytes are in Kafka already.
//! * Memory and the journal hold at most [`MAX_SEEN`] hashes a read.
//!
//! Does not guarantee that no record is produced twice: beyond [`MAX_SEEN`] in the overlap, and
//! after a crash in the middle of a pass, some are. Nor that a record is produced again that
//! changes back, within the overlap, to bytes that it had before, its mark included.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::IncrementalSection;
use forebay_schemas::watermark::{Mark, Pass};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::page_error::PageError;
use super::records::Extracted;
use crate::ledger::{PassProgress, Watermark};
use crate::text::json_lookup::{JsonLookup as _, parse_pointer};

/// The most records of the overlap whose hashes are kept.
const MAX_SEEN: usize = 10_000;
/// The namespace of the hashes.
const HASHES: Uuid = Uuid::from_u128(0x1c5e_80f2_7d34_4be9_a6c1_52d9_03fb_8e47);

/// A hash of a record, of 122 bits.
type RecordHash = Uuid;

/// The hashes of the records that are in Kafka already.
pub(crate) type Seen = Arc<HashSet<RecordHash>>;

/// Reads the marks of records.
#[derive(Debug, Clone)]
pub(super) struct MarkReader {
    section: IncrementalSection,
    field: JsonPointer,
}

/// The marks of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageMarks {
    /// The largest.
    pub reached: Option<Mark>,
    /// The records with their marks.
    pub records: Vec<(Mark, RecordHash)>,
    /// How many records had no mark.
    pub unmarked: u64,
    /// How many records were left out, since they are in Kafka already.
    pub repeated: u64,
}

impl PageMarks {
    /// Adds another part of the same page.
    pub(super) fn merge(&mut self, other: Self) {
        self.reached = self.reached.max(other.reached);
        self.records.extend(other.records);
        self.unmarked += other.unmarked;
        self.repeated += other.repeated;
    }
}

impl MarkReader {
    /// For a section that was checked.
    pub(super) fn new(section: &IncrementalSection) -> Self {
        Self { field: parse_pointer(&section.field), section: section.clone() }
    }

    /// What the pipeline file says.
    pub(super) fn section(&self) -> &IncrementalSection {
        &self.section
    }

    /// Reads the marks of records, and takes those out that were seen. Bad records stay, and have
    /// none.
    ///
    /// # Errors
    /// When `is_first` and no record has a mark: the pointer is wrong, or the format.
    pub(super) fn read(&self, found: &mut Extracted, seen: &HashSet<RecordHash>, is_first: bool) -> Result<PageMarks, PageError> {
        let mut marks = PageMarks::default();
        let is_bad: HashSet<usize> = found.bad.iter().map(|bad| bad.index).collect();
        let mut kept = Vec::with_capacity(found.records.len());
        let mut moved = vec![0; found.records.len()];
        for (at, record) in std::mem::take(&mut found.records).into_iter().enumerate() {
            moved[at] = kept.len();
            if is_bad.contains(&at) {
                kept.push(record);
                continue;
            }
            let Some(mark) = self.mark(&record) else {
                marks.unmarked += 1;
                kept.push(record);
                continue;
            };
            marks.reached = marks.reached.max(Some(mark));
            let hash = Uuid::new_v5(&HASHES, &record);
            marks.records.push((mark, hash));
            if seen.contains(&hash) {
                marks.repeated += 1;
            } else {
                kept.push(record);
            }
        }
        for bad in &mut found.bad {
            bad.index = moved[bad.index];
        }
        found.records = kept;
        match found.records.iter().enumerate().find(|(at, _)| !found.bad.iter().any(|bad| bad.index == *at)) {
            Some((_, record)) if is_first && marks.reached.is_none() => Err(self.no_mark(record)),
            _ => Ok(marks),
        }
    }

    fn mark(&self, record: &[u8]) -> Option<Mark> {
        self.section.format.read(&text_of(self.field.find_first(record)?)?)
    }

    fn no_mark(&self, record: &Bytes) -> PageError {
        let pointer = self.section.field.clone();
        let cause = match self.field.find_first(record) {
            None => self.field.explain(record).replace("the answer", "the record"),
            Some(value) => {
                let text: String = value.get().chars().take(80).collect();
                format!("{text} is not in the format {:?}; set fetcher.incremental.format", self.section.format.as_str())
            }
        };
        PageError::NoMark { pointer, cause }
    }
}

/// The text of a string or a number.
fn text_of(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'-' | b'0'..=b'9' => Some(text.to_owned()),
        _ => None,
    }
}

/// The pass of a fetch.
#[derive(Debug, Clone)]
pub(crate) struct FetchPass {
    section: IncrementalSection,
    /// The watermark before it.
    before: Option<Mark>,
    /// What is stored of it; `None` where it is not the first fetch of a pass that nothing is
    /// known of, which moves no watermark.
    pass: Option<Pass>,
    asked: Option<String>,
    reached: Option<Mark>,
    /// The hashes of the last complete pass.
    seen: Seen,
    /// The records of this pass that the next one asks for again.
    records: Vec<(Mark, RecordHash)>,
}

impl FetchPass {
    /// The pass of a fetch that begins `now`: a new one at the first page, else the one that its
    /// read is in. `known` is how far that has got.
    pub(crate) fn of_fetch(section: &IncrementalSection, known: Option<Watermark>, is_first_page: bool, now: DateTime<Utc>) -> Self {
        let known = known.unwrap_or_default();
        let before = known.at.as_deref().and_then(Mark::parse).filter(|mark| matches!(mark, Mark::Time(_)) == section.format.is_time());
        let pass = if is_first_page { Some(Pass { began: now, asked: section.asked(before), reached: None }) } else { known.pass };
        let asked = pass.as_ref().map_or_else(|| section.asked(before), |pass| pass.asked.clone());
        let reached = pass.as_ref().and_then(|pass| Mark::parse(pass.reached.as_deref()?));
        // A pass without a watermark before it asks for everything again, on purpose.
        let hashes = known.seen.iter().filter(|_| before.is_some()).filter_map(|hash| Uuid::try_parse(hash).ok());
        let seen = Arc::new(hashes.collect());
        Self { section: section.clone(), before, pass, asked, reached, seen, records: Vec::new() }
    }

    /// From where on its requests ask; `None` for everything.
    pub(crate) fn asked(&self) -> Option<&str> {
        self.asked.as_deref()
    }

    /// The hashes of the records that are in Kafka already.
    pub(crate) fn seen(&self) -> Seen {
        Arc::clone(&self.seen)
    }

    /// A page is in Kafka, and all before it are. Returns what to store, if that changed.
    /// `is_first` says whether it is the first page of the pass, `is_complete` whether it is the
    /// last one.
    pub(crate) fn produced(&mut self, marks: PageMarks, is_first: bool, is_complete: bool) -> Option<PassProgress> {
        let has_grown = marks.reached > self.reached;
        self.reached = self.reached.max(marks.reached);
        self.records.extend(marks.records);
        if self.records.len() > 2 * MAX_SEEN {
            self.keep_newest(None);
        }
        let pass = self.pass.as_mut()?;
        let before = self.before.map(|mark| mark.to_string());
        if !is_complete {
            pass.reached = self.reached.map(|mark| mark.to_string());
            return (is_first || has_grown).then(|| PassProgress { at: before, pass: Some(pass.clone()), seen: Vec::new() });
        }
        let latest = if self.section.format.is_time() { Some(Mark::Time(pass.began)) } else { None };
        let reached = self.reached.map(|reached| latest.map_or(reached, |latest| reached.min(latest)));
        let watermark = self.before.max(reached);
        self.keep_newest(watermark);
        let mut seen: Vec<RecordHash> = self.records.iter().map(|(_, hash)| *hash).collect();
        seen.sort_unstable();
        let is_known = seen.len() == self.seen.len() && seen.iter().all(|hash| self.seen.contains(hash));
        let has_moved = watermark != self.before || !is_known || !is_first;
        let at = watermark.map(|mark| mark.to_string());
        // The next page would be of another pass.
        self.pass = None;
        has_moved.then(|| PassProgress { at, pass: None, seen: seen.iter().map(|hash| hash.simple().to_string()).collect() })
    }

    /// Keeps the records that the fetch after this one asks for again, the newest if they are too
    /// many.
    fn keep_newest(&mut self, watermark: Option<Mark>) {
        let largest = watermark.or(self.reached);
        if let Some(begin) = self.section.begin(largest).filter(|_| largest.is_some()) {
            self.records.retain(|(mark, _)| *mark >= begin);
        }
        self.records.sort_unstable_by(|one, other| other.cmp(one));
        self.records.dedup();
        self.records.truncate(MAX_SEEN);
    }
}

#[cfg(test)]
#[path = "watermark_tests.rs"]
mod tests;
