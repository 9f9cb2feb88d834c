//! Reads a journal, in this process or another, also while it is written.
//!
//! Guarantee: events come in sequence, each as it was written, or an error says where they are not. A reader never changes a file. Under a
//! writer it may see events whose append is not acknowledged yet.

use std::path::Path;

use super::error::JournalError;
use super::segment::{self, Header};

/// One event, as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence, from 1.
    pub seq: u64,
    /// Its JSON.
    pub json: Vec<u8>,
}

/// Where a journal ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// The sequence that the next event gets.
    pub next: u64,
    /// The first line of the last segment that has one.
    pub header: Option<Header>,
    /// Bytes of a torn tail in the last segment.
    pub torn: u64,
}

/// Gives each event from sequence `from` on to `take`, and says where the journal ends. Segments that end before `from` are not opened.
///
/// # Errors
/// When a file can't be read, a line elsewhere than at the end is damaged, or a segment is missing; and whatever `take` fails with.
pub fn read<E: From<JournalError>>(folder: &Path, from: u64, mut take: impl FnMut(Entry) -> Result<(), E>) -> Result<End, E> {
    let segments = segment::list(folder)?;
    let begin = segments.iter().rposition(|segment| segment.first <= from).unwrap_or(0);
    let mut end = End { next: segments.get(begin).map_or(1, |segment| segment.first), ..End::default() };
    for (at, segment) in segments.iter().enumerate().skip(begin) {
        if segment.first != end.next {
            return Err(JournalError::Gap { path: folder.into(), from: end.next, to: segment.first }.into());
        }
        let is_last = at + 1 == segments.len();
        let contents = segment::load(segment, is_last)?;
        for json in contents.events() {
            if end.next >= from {
                take(Entry { seq: end.next, json: json.to_vec() })?;
            }
            end.next += 1;
        }
        if is_last {
            let length = std::fs::metadata(&segment.path).map_err(JournalError::io("read", &segment.path))?.len();
            end.torn = length.saturating_sub(contents.sound);
        }
        end.header = contents.header.or(end.header);
    }
    Ok(end)
}
