//! Reads a journal, in this process or another, also while it is written.
//!
//! Guarantee: events come in sequence, each as it was written, or an error says where they are not. A reader never changes a file. Under a
//! writer it may see events whose append is not acknowledged yet.

use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::segment::{self, Cursor, Header, Segment};

/// Where a journal ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// The sequence that the next event gets.
    pub next: u64,
    /// The first line of the last segment that has one.
    pub header: Option<Header>,
    /// How many bytes of the last segment can be believed.
    pub sound: u64,
    /// Bytes of a torn tail in the last segment.
    pub torn: u64,
}

/// Gives each event from sequence `from` on to `take`, and says where the journal ends. Segments that end before `from` are not opened.
///
/// # Errors
/// When a file can't be read, a line elsewhere than at the end is damaged, or a segment is missing; and whatever `take` fails with.
pub fn read<E: From<JournalError>>(folder: &Path, from: u64, take: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<End, E> {
    let mut follower = Follower::new(folder, from);
    follower.read_on(take)?;
    let Follower { at, header, torn, .. } = follower;
    Ok(match at {
        Some((_, cursor)) => End { next: cursor.next, header, sound: cursor.byte, torn },
        None => End { next: 1, ..End::default() },
    })
}

/// Reads a journal on and on, while another process writes it.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    from: u64,
    at: Option<(Segment, Cursor)>,
    header: Option<Header>,
    torn: u64,
}

impl Follower {
    /// A reader of the events from `from` on; where history begins later, from there on.
    pub fn new(folder: &Path, from: u64) -> Self {
        Self { folder: folder.into(), from, at: None, header: None, torn: 0 }
    }

    /// Gives each event that has come since to `take`, with its sequence.
    ///
    /// # Errors
    /// As [`read`]; also when the segment it has yet to read is gone.
    pub fn read_on<E: From<JournalError>>(&mut self, mut take: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        loop {
            // What follows is looked for before the segment is read: one that has a successor is whole.
            let segments = segment::list(&self.folder)?;
            if self.at.is_none() {
                let begin = segments.iter().rposition(|segment| segment.first <= self.from).unwrap_or(0);
                let Some(first) = segments.get(begin) else { return Ok(()) };
                self.at = Some((first.clone(), Cursor::at(first)));
            }
            let Some((segment, cursor)) = &mut self.at else { return Ok(()) };
            let from = self.from;
            self.torn = segment::scan(segment, cursor, |seq, json| if seq >= from { take(seq, json) } else { Ok(()) })?;
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
