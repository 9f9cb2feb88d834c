//! A micro-batch on its way from the topic to the table.

use std::sync::Arc;
use std::time::Duration;

use forebay_dataplane::{RawBatch, RowBatch};
use forebay_schemas::offset::{Partition, Ranges};
use forebay_schemas::run::RunWritten;

use super::{Receipt, SharedBatch};

/// A micro-batch, as the consumer sends it to the transformer.
#[derive(Debug)]
pub(crate) struct PolledBatch {
    /// Its number in this process, from 1.
    pub id: u64,
    /// Its records.
    pub raw: RawBatch,
    /// The offsets it covers, one range per partition. In a compacted topic there are more than
    /// there are records.
    pub ranges: Ranges,
    /// The time from the first record's arrival until the batch was sealed.
    pub waited: Duration,
    /// Settled when every record has been processed.
    pub receipt: Receipt<BatchDone>,
}

/// A part of a micro-batch after the SQL, as the transformer sends it to the writer: the rows and
/// the rejects of some of its records.
#[derive(Debug)]
pub(crate) struct BatchPart {
    /// The batch, which holds the bytes of dead letters.
    pub batch: Arc<SharedBatch>,
    /// The rows and the rejects of the part's records.
    pub rows: RowBatch,
}

/// A settled micro-batch: each record is a row in the table, was filtered out by the SQL, or is an
/// acknowledged dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BatchDone {
    /// The rows that the table acknowledged.
    pub rows: u64,
    /// The dead letters.
    pub rejected: u64,
    /// Time spent on JSON, SQL and checks.
    pub transform: Duration,
    /// Time until the last acknowledgement.
    pub write: Duration,
    /// What became of the records of open runs, by partition.
    pub runs: Vec<(Partition, RunWritten)>,
}
