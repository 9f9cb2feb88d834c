//! The screens, their lists and what a row is.

use chrono::{DateTime, Utc};
use forebay_schemas::offset::{Offset, Partition};
use uuid::Uuid;

/// A screen, by its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Screen {
    #[default]
    Overview,
    Topics,
    Batches,
    Store,
    Actors,
    Runs,
    Records,
    DeadLetters,
    Journal,
    Alerts,
    Logs,
}

impl Screen {
    pub(crate) const ALL: [Self; 11] = [
        Self::Overview,
        Self::Topics,
        Self::Batches,
        Self::Store,
        Self::Actors,
        Self::Runs,
        Self::Records,
        Self::DeadLetters,
        Self::Journal,
        Self::Alerts,
        Self::Logs,
    ];

    /// The key that shows it.
    pub(crate) fn key(self) -> char {
        ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0', 'L'][self as usize]
    }

    /// Its name, which the palette takes.
    pub(crate) fn name(self) -> &'static str {
        ["overview", "topics", "batches", "cassandra", "actors", "runs", "records", "dead letters", "journal", "alerts", "logs"]
            [self as usize]
    }

    /// What it shows.
    pub(crate) fn about(self) -> &'static str {
        [
            "the way from the API to the table, with rates, lag and pressure; what is wrong first",
            "each partition: its offsets, its lag in records and seconds, and how the lag went",
            "the last micro-batches: where their time went, and how long they take",
            "inserts, latency, what is in flight, retries and nodes of the table's store",
            "the supervision tree: incarnations, restarts and their reasons, mailboxes, budgets",
            "fetches that somebody asked for, and how far they are",
            "records of the topic as they come, and one followed from its page to its row",
            "records that are no rows, and why",
            "every decision, and the way back to it",
            "what is wrong now, since when, and what to do",
            "the last log lines of the process, and those that come",
        ][self as usize]
    }

    /// Its lists, the first being the one that keys act on at first.
    pub(crate) fn lists(self) -> &'static [List] {
        match self {
            Self::Overview => &[List::Partitions, List::Actors, List::Runs, List::Batches],
            Self::Topics => &[List::Partitions],
            Self::Batches => &[List::Batches],
            Self::Store => &[List::Nodes],
            Self::Actors => &[List::Actors],
            Self::Runs => &[List::Runs],
            Self::Records => &[List::Records],
            Self::DeadLetters => &[List::DeadLetters],
            Self::Journal => &[List::Events],
            Self::Alerts => &[List::Alerts],
            Self::Logs => &[List::Logs],
        }
    }
}

/// Something with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Partitions,
    Actors,
    Runs,
    Batches,
    Nodes,
    Records,
    DeadLetters,
    Events,
    Alerts,
    Logs,
}

impl List {
    pub(crate) const COUNT: usize = 10;

    pub(crate) fn name(self) -> &'static str {
        ["partitions", "actors", "runs", "batches", "nodes", "records", "dead letters", "events", "alerts", "log lines"][self as usize]
    }

    /// Whether its newest row is the last.
    pub(crate) fn newest_last(self) -> bool {
        matches!(self, Self::Events | Self::Logs)
    }

    /// By what its rows can be sorted; the first is how they come.
    pub(crate) fn sorts(self) -> &'static [&'static str] {
        match self {
            Self::Partitions => &["partition", "lag", "behind", "rate"],
            Self::Actors => &["tree", "restarts", "mailbox", "youngest"],
            Self::Runs => &["newest", "state", "produced"],
            Self::Batches => &["newest", "took", "records", "rejected"],
            Self::Nodes | Self::Records | Self::DeadLetters | Self::Events | Self::Alerts | Self::Logs => &["newest"],
        }
    }
}

/// What a row is, so that a cursor stays on it while rows come and go; also a page that shows it alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowId {
    Partition(Partition),
    Actor(String),
    Run(Uuid),
    Batch(u64),
    Node(String),
    Record(Partition, Offset),
    DeadLetter(Partition, Offset),
    Event(u64),
    Alert(String),
    /// Of the process that counts its lines since then.
    Log(DateTime<Utc>, u64),
}

impl RowId {
    /// As it stands in the trail of pages.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Partition(partition) => format!("partition {partition}"),
            Self::Actor(path) => path.clone(),
            Self::Run(id) => format!("run {id}"),
            Self::Batch(id) => format!("batch {id}"),
            Self::Node(address) => format!("node {address}"),
            Self::Record(partition, offset) => format!("record {partition}/{offset}"),
            Self::DeadLetter(partition, offset) => format!("dead letter {partition}/{offset}"),
            Self::Event(seq) => format!("event {seq}"),
            Self::Alert(name) => name.clone(),
            Self::Log(_, seq) => format!("log line {seq}"),
        }
    }
}
