//! Reads the journal on behind the pipeline, for those who tell others of it.
//!
//! Guarantee: events come in sequence, only once they are on the disk, and nothing waits for who reads. Not guaranteed: events that `[journal] keep` has
//! removed before they were read; the log names them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_schemas::event::{Recorded, decode};
use tokio::sync::watch;

use crate::journal::{Durable, Follower, JournalError};

/// How many things are read ahead of what is done with them.
const AHEAD: usize = 256;
/// How long it waits for more once there is something.
const GATHER: Duration = Duration::from_millis(50);

/// A place in the journal, and what follows it.
pub(crate) struct Tail {
    folder: PathBuf,
    follower: Follower,
    /// The last event that was read.
    read: u64,
}

/// Why reading stops.
enum Halt {
    /// There is enough for now.
    Enough,
    Journal(JournalError),
    Event(String),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl Tail {
    /// The events of the journal in a folder from `from` on.
    pub(crate) fn new(folder: &Path, from: u64) -> Self {
        Self { folder: folder.to_owned(), follower: Follower::new(folder, from), read: from.saturating_sub(1) }
    }

    /// The last event that was read.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// What `pick` makes of the next events up to `upto`, at most [`AHEAD`] things; reads files. Afterwards [`Tail::read`] is at `upto` when there
    /// was less.
    ///
    /// # Errors
    /// When the journal is damaged or holds an event that is not known here.
    pub(crate) fn next<T>(&mut self, upto: u64, pick: impl Fn(Recorded) -> Option<T>) -> Result<Vec<T>, String> {
        let mut found = Vec::new();
        let read = &mut self.read;
        let before = *read;
        let end = self.follower.read_on(|seq, json| {
            if seq > upto || found.len() >= AHEAD {
                return Err(Halt::Enough);
            }
            if *read == before && seq > before + 1 {
                tracing::warn!(from = before + 1, to = seq, "these events are gone from the journal before others were told of them");
            }
            *read = seq;
            found.extend(pick(decode(json).map_err(|error| Halt::Event(error.to_string()))?));
            Ok(())
        });
        match end {
            Ok(()) | Err(Halt::Enough) => Ok(found),
            // The segment it was at is removed: on with the first there is.
            Err(Halt::Journal(JournalError::Gap { .. })) => {
                self.follower = Follower::new(&self.folder, self.read + 1);
                Ok(found)
            }
            Err(Halt::Journal(error)) => Err(error.to_string()),
            Err(Halt::Event(why)) => Err(why),
        }
    }
}

/// Waits until more than `read` is on the disk, a little longer so that things come together, and says how much is. Never comes back once the
/// journal is closed or has failed: the process ends then.
pub(crate) async fn upto(durable: &mut watch::Receiver<Durable>, read: u64) -> u64 {
    let grown = {
        let more = durable.wait_for(|durable| !matches!(durable, Durable::Upto(upto) if *upto <= read)).await;
        matches!(more.as_deref(), Ok(Durable::Upto(_)))
    };
    if !grown {
        return std::future::pending().await;
    }
    tokio::time::sleep(GATHER).await;
    match &*durable.borrow_and_update() {
        Durable::Upto(upto) => *upto,
        Durable::Failed(_) => read,
    }
}
