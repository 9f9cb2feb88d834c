//! A model of the table: rows of two cells by key. Of writes of a cell the newest timestamp wins,
//! and of equal ones the greater value, as in Cassandra; people write into it, too, with the time
//! of day.

use super::api::KEYS;
use super::broker::At;
use super::invariants::{Checked, Invariant, violation};
use forebay_schemas::offset::Epoch;

/// A write on its way into the table, or into the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) at: At,
    /// The epoch of the assignment that it was read in.
    pub(super) epoch: Epoch,
    pub(super) key: u16,
    pub(super) event: u64,
    /// A dead letter.
    pub(super) bad: bool,
    pub(super) ts: i64,
}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    ts: i64,
    value: u64,
    /// The record it is of; none when it was written by hand.
    of: Option<Write>,
}

/// A row. One cell rises with the event and the other falls, so that a tie takes them from
/// different records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    cells: [Option<Cell>; 2],
    /// What was written until then is deleted.
    deleted: i64,
}

impl Row {
    fn put(&mut self, at: usize, cell: Cell) {
        let older = |have: Cell| (have.ts, have.value) < (cell.ts, cell.value);
        if cell.ts > self.deleted && self.cells[at].is_none_or(older) {
            self.cells[at] = Some(cell);
        }
    }

    /// The record that the row is of, whole; none when there is no row, or people wrote into it.
    pub(super) fn record(&self) -> Option<Write> {
        match self.cells.map(|cell| cell.and_then(|cell| cell.of)) {
            [Some(first), Some(second)] if first.event == second.event => Some(first),
            _ => None,
        }
    }
}

/// Whether two writes of a partition are of two epochs, of which the later knew nothing of the
/// earlier one's write: then they may tie until the record is read in the later epoch, too. In the
/// end no row is so.
fn are_strangers(first: &Write, second: &Write) -> bool {
    first.at.partition == second.at.partition && first.epoch != second.epoch
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Store {
    rows: [Row; KEYS as usize],
}

impl Store {
    pub(super) fn row(&self, key: u16) -> &Row {
        &self.rows[usize::from(key)]
    }

    /// An upsert, and the checks of what a reader sees by it: see [`Invariant::ReadsNeverGoBack`]
    /// and [`Invariant::RowsAreWhole`].
    pub(super) fn upsert(&mut self, write: Write) -> Checked {
        let row = &mut self.rows[usize::from(write.key)];
        let before = row.record();
        row.put(0, Cell { ts: write.ts, value: write.event, of: Some(write) });
        row.put(1, Cell { ts: write.ts, value: u64::MAX - write.event, of: Some(write) });
        if let [Some(Cell { of: Some(first), .. }), Some(Cell { of: Some(second), .. })] = row.cells
            && first.event != second.event
            && !are_strangers(&first, &second)
        {
            return violation(Invariant::RowsAreWhole, || format!("key {} has a cell of {first:?} and one of {second:?}", write.key));
        }
        if let (Some(before), Some(now)) = (before, row.record())
            && (before.epoch, before.at.partition) == (now.epoch, now.at.partition)
            && now.at < before.at
        {
            return violation(Invariant::ReadsNeverGoBack, || {
                format!("key {} was read as of {:?}, and is read as of {:?} now, in epoch {}", now.key, before.at, now.at, now.epoch)
            });
        }
        Ok(())
    }

    /// Somebody changes one cell of a row by hand.
    pub(super) fn change(&mut self, key: u16, ts: i64) {
        self.rows[usize::from(key)].put(1, Cell { ts, value: 0, of: None });
    }

    /// Somebody deletes a row by hand.
    pub(super) fn delete(&mut self, key: u16, ts: i64) {
        let row = &mut self.rows[usize::from(key)];
        row.deleted = row.deleted.max(ts);
        for cell in &mut row.cells {
            *cell = cell.filter(|cell| cell.ts > ts);
        }
    }
}
