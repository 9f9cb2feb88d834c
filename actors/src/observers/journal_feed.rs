//! Reads the journal after the fact, for the exporters of lineage and traces.
//!
//! Guarantees:
//! * Events arrive in sequence, and only once they are on disk.
//! * Nothing of the data path waits for an exporter, and nothing is queued in memory.
//!
//! Does not guarantee events that `[journal] keep` removed before they were read. The log names
//! them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_schemas::event::{Recorded, decode};
use tokio::sync::watch;

use crate::journal::{Durable, Follower, JournalError};
use crate::ledger::Ledger;

/// The most items of one chunk.
const MAX_CHUNK_ITEMS: usize = 256;
/// How long events are gathered once there is one.
const GATHER: Duration = Duration::from_millis(50);
/// The pause when nothing new could be read.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// A position in the journal, and the events after it.
pub(super) struct JournalExporter {
    durable: watch::Receiver<Durable>,
    /// Taken while a thread reads.
    reader: Option<Reader>,
    position: u64,
}

impl JournalExporter {
    /// The events of the journal in `folder` from sequence `from` on.
    pub(super) fn new(ledger: &Ledger, folder: &Path, from: u64) -> Self {
        let reader = Reader::new(folder, from);
        Self { durable: ledger.durable(), position: reader.read, reader: Some(reader) }
    }

    /// The sequence of the last event that was read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Continues after `position`, after an error or to leave events out.
    pub(super) fn seek(&mut self, position: u64) {
        if let Some(reader) = &mut self.reader {
            *reader = Reader::new(&reader.folder, position + 1);
        }
        self.position = position;
    }

    /// Waits until more is on disk, and returns what `pick` makes of it, at most
    /// [`MAX_CHUNK_ITEMS`]. The result is empty when `pick` took nothing. It never returns once the
    /// journal is closed or has failed, since the process ends then.
    ///
    /// # Errors
    /// When the journal is damaged, or holds an event that this version does not know.
    pub(super) async fn next<T: Send + 'static>(&mut self, pick: fn(Recorded) -> Option<T>) -> Result<Vec<T>, String> {
        let upto = durable_after(&mut self.durable, self.position).await;
        let before = self.position;
        let mut reader = self.reader.take().expect("the reader is back when the future that took it has ended");
        let reading = tokio::task::spawn_blocking(move || (reader.next(upto, pick), reader));
        // It is cancelled at the end of the process only.
        let Ok((found, reader)) = reading.await else { return std::future::pending().await };
        self.position = reader.read;
        self.reader = Some(reader);
        if found.is_ok() && self.position == before {
            tokio::time::sleep(IDLE_PAUSE).await;
        }
        found
    }
}

/// Reads files, on a thread that may block.
struct Reader {
    folder: PathBuf,
    follower: Follower,
    /// The sequence of the last event that was read.
    read: u64,
}

/// Why reading stops.
enum Stop {
    /// The chunk is full, or what is on disk has been read.
    Enough,
    Journal(JournalError),
    Event(String),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl Reader {
    fn new(folder: &Path, from: u64) -> Self {
        Self { folder: folder.to_owned(), follower: Follower::new(folder, from), read: from.saturating_sub(1) }
    }

    fn next<T>(&mut self, upto: u64, pick: fn(Recorded) -> Option<T>) -> Result<Vec<T>, String> {
        let mut found = Vec::new();
        let read = &mut self.read;
        let before = *read;
        let end = self.follower.read_new(|seq, json| {
            if seq > upto || found.len() >= MAX_CHUNK_ITEMS {
                return Err(Stop::Enough);
            }
            if *read == before && seq > before + 1 {
                tracing::warn!(from = before + 1, to = seq, "journal retention removed events before they were exported");
            }
            *read = seq;
            found.extend(pick(decode(json).map_err(|error| Stop::Event(error.to_string()))?));
            Ok(())
        });
        match end {
            Ok(()) | Err(Stop::Enough) => Ok(found),
            // The segment was removed while it was read: continue with the first one left.
            Err(Stop::Journal(JournalError::Gap { .. })) => {
                self.follower = Follower::new(&self.folder, self.read + 1);
                Ok(found)
            }
            Err(Stop::Journal(error)) => Err(error.to_string()),
            Err(Stop::Event(error)) => Err(error),
        }
    }
}

/// Waits until an event after `position` is on disk, and a little longer to gather more. Returns
/// the last sequence on disk.
async fn durable_after(durable: &mut watch::Receiver<Durable>, position: u64) -> u64 {
    let grown = {
        let more = durable.wait_for(|durable| !matches!(durable, Durable::UpTo(upto) if *upto <= position)).await;
        matches!(more.as_deref(), Ok(Durable::UpTo(_)))
    };
    if !grown {
        return std::future::pending().await;
    }
    tokio::time::sleep(GATHER).await;
    match &*durable.borrow_and_update() {
        Durable::UpTo(upto) => *upto,
        Durable::Failed(_) => position,
    }
}
