//! Reads a journal, in this process or another, even while it is written.
//!
//! Guarantees:
//! * Events arrive in sequence and as they were written; otherwise an error names the position.
//! * A reader never changes a file.
//!
//! A reader beside a writer may see events whose append is not acknowledged yet.

use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::segment::{self, Cursor, Header, Segment};

/// The end of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// The sequence of the next event.
    pub next: u64,
    /// The header of the last segment that has one.
    pub header: Option<Header>,
    /// The number of valid bytes in the last segment.
    pub valid: u64,
    /// The number of bytes of a torn tail in the last segment.
    pub torn: u64,
}

/// Passes each event from sequence `from` on to `visit`, and returns the end of the journal.
/// Segments that end before `from` are not opened.
///
/// # Errors
/// When a file can't be read, a line is damaged, or a segment is missing; and any error of `visit`.
pub fn read<E: From<JournalError>>(folder: &Path, from: u64, visit: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<End, E> {
    let mut follower = Follower::new(folder, from);
    follower.read_new(visit)?;
    let Follower { at, header, torn, .. } = follower;
    Ok(match at {
        Some((_, cursor)) => End { next: cursor.next, header, valid: cursor.byte, torn },
        None => End { next: 1, ..End::default() },
    })
}

/// Follows a journal while it is written.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    from: u64,
    at: Option<(Segment, Cursor)>,
    header: Option<Header>,
    torn: u64,
}

impl Follower {
    /// Reads the events from `from` on, or from the first one that there is.
    pub fn new(folder: &Path, from: u64) -> Self {
        Self { folder: folder.into(), from, at: None, header: None, torn: 0 }
    }

    /// Passes each new event to `visit`, with its sequence.
    ///
    /// # Errors
    /// As [`read`], and when the next segment was removed.
    pub fn read_new<E: From<JournalError>>(&mut self, mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        loop {
            // List the segments before reading one: a segment with a successor is complete.
            let segments = segment::list(&self.folder)?;
            if self.at.is_none() {
                let start = segments.iter().rposition(|segment| segment.first <= self.from).unwrap_or(0);
                let Some(first) = segments.get(start) else { return Ok(()) };
                self.at = Some((first.clone(), Cursor::at(first)));
            }
            let Some((segment, cursor)) = &mut self.at else { return Ok(()) };
            let from = self.from;
            self.torn = segment::scan(segment, cursor, |seq, json| if seq >= from { visit(seq, json) } else { Ok(()) })?;
            self.header = cursor.header.clone().or(self.header.take());
            let Some(next) = segments.iter().find(|other| other.first > segment.first) else { return Ok(()) };
            if self.torn > 0 {
                return Err(cursor.damage(segment, "it has no end").into());
            }
            if next.first != cursor.next {
                return Err(JournalError::Gap { path: self.folder.clone(), from: cursor.next, to: next.first }.into());
            }
            self.at = Some((next.clone(), Cursor::at(next)));
        }
    }
}
