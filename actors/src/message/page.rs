//! A page of records on its way from the API to the topic.

use std::sync::Arc;

use bytes::Bytes;
use forebay_dataplane::Reason;
use forebay_kernel::Credit;
use forebay_schemas::offset::Ranges;
use forebay_schemas::rejects::Rejects;
use uuid::Uuid;

use super::Receipt;

/// A page of records, as the fetcher sends it to the producer.
#[derive(Debug)]
pub(crate) struct Page {
    /// The fetch that found it: a run's identifier, or one created for a scheduled fetch. It goes
    /// into the header [`RUN_HEADER`](forebay_dataplane::run_counts::RUN_HEADER).
    pub run: Uuid,
    /// Its records.
    pub content: Arc<PageContent>,
    /// Settled when Kafka has acknowledged every record.
    pub receipt: Receipt<Result<PageProduced, PageRefused>>,
}

/// The records of a page, and the budget that they hold until everybody has dropped them: the
/// fetcher keeps them until the producer has settled the page.
#[derive(Debug)]
pub(crate) struct PageContent {
    /// Each record's bytes as the API sent them: slices of one buffer, except for bad records.
    pub records: Vec<Bytes>,
    /// The records that are not JSON, in order.
    pub bad: Vec<BadRecord>,
    _credit: Credit,
}

impl PageContent {
    /// Records that hold `credit`.
    pub(crate) fn new(records: Vec<Bytes>, bad: Vec<BadRecord>, credit: Credit) -> Self {
        Self { records, bad, _credit: credit }
    }
}

/// A record of a page that is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRecord {
    /// Its index among the page's records.
    pub index: usize,
    /// What is wrong, and where in the record.
    pub reason: Reason,
}

/// A page whose records Kafka has acknowledged, each in the topic or in the dead-letter topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageProduced {
    /// The offsets in the topic.
    pub ranges: Ranges,
    /// How many records are in the topic.
    pub produced: u64,
    /// How many records are in the dead-letter topic.
    pub rejected: u64,
    /// Why they are.
    pub rejects: Rejects,
}

impl PageProduced {
    /// Adds another part of the same page.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.ranges.merge(&other.ranges);
        self.produced += other.produced;
        self.rejected += other.rejected;
        self.rejects.merge(&other.rejects);
    }
}

/// A page that can't be produced: the same bytes would fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PageRefused(pub String);
