//! The screens, their lists, and the identity of a row.

use chrono::{DateTime, Utc};
use forebay_schemas::offset::{Offset, Partition};
use uuid::Uuid;

/// A screen, in the order of the keys.
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

    /// The key that shows the screen.
    pub(crate) fn key(self) -> char {
        ['1', '2', '3', '4', '5', '6', '7', '8', '9', '0', 'L'][self as usize]
    }

    /// The name, as the palette accepts it.
    pub(crate) fn name(self) -> &'static str {
        ["overview", "topics", "batches", "cassandra", "actors", "runs", "records", "dead letters", "journal", "alerts", "logs"]
            [self as usize]
    }

    /// A description.
    pub(crate) fn about(self) -> &'static str {
        [
            "the flow from the API to the table, with rates, lag and back-pressure; problems first",
            "each partition: offsets, lag in records and seconds, and lag history",
            "the last micro-batches: time per stage, and total durations",
            "the table's store: inserts, latency, statements in flight, retries, nodes",
            "the supervision tree: incarnations, restarts and their reasons, mailboxes, budgets",
            "requested fetches and their progress",
            "the newest records of the topic, and the path of one from API page to row",
            "records that cannot become rows, and why",
            "every event, and time travel to it",
            "what is wrong, since when, and what to do",
            "the last log lines of the process",
        ][self as usize]
    }

    /// The lists; the first has the focus at first.
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

/// A list of rows.
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

    /// Whether the newest row is the last.
    pub(crate) fn newest_last(self) -> bool {
        matches!(self, Self::Events | Self::Logs)
    }

    /// The sort orders; the first is the natural one.
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

/// The item in a row. It identifies the selection while rows come and go, and the detail view of
/// the item.
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
    /// When the process started to count lines, and the line.
    Log(DateTime<Utc>, u64),
}

impl RowId {
    /// The title of the detail view.
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
