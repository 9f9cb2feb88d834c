//! A model of the table: rows by key, upserts with a write timestamp of which the newest wins.

use super::api::KEYS;
use super::broker::At;
use super::invariants::{Invariant, Kept, broken};

/// A write on its way into the table, or into the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) at: At,
    /// The lineage of the assignment that it was read in.
    pub(super) lineage: u32,
    pub(super) key: u16,
    pub(super) event: u64,
    /// A dead letter.
    pub(super) bad: bool,
    pub(super) ts: i64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: Vec<Option<Write>>,
}

impl Store {
    pub(super) fn row(&self, key: u16) -> Option<&Write> {
        self.rows.get(usize::from(key))?.as_ref()
    }

    /// An upsert, and the check of what a reader sees by it: see [`Invariant::ReadsNeverGoBack`].
    pub(super) fn upsert(&mut self, write: Write) -> Kept {
        let key = usize::from(write.key);
        if self.rows.len() <= key {
            self.rows.resize((key + 1).next_multiple_of(KEYS), None);
        }
        let row = &mut self.rows[key];
        if let Some(row) = row {
            if write.ts < row.ts || (write.ts == row.ts && write.event <= row.event) {
                return Ok(());
            }
            if write.lineage == row.lineage && write.at < row.at {
                return broken(Invariant::ReadsNeverGoBack, || {
                    format!("key {key} was read as of {:?}, and is read as of {:?} now, in lineage {}", row.at, write.at, write.lineage)
                });
            }
        }
        *row = Some(write);
        Ok(())
    }
}
