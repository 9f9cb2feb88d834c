//! A simulator of the core: the real pure state machines, driven through models of Kafka, the table, the API and the disk, by a seeded scheduler.
//!
//! One seed is one history of a hundred to some hundred steps: pages of several reads are fetched, produced, polled, cut, written and
//! committed, in any order that is possible; and processes crash, are paused and come back, partitions move, commits are lost, topics are
//! made anew. Then all is mended, what is left is done, and the end is looked at. What must hold is in [`invariants`], by name.
//!
//! Real are: the ledger's `State` (decide, evolve, due, and its JSON), the consumer's `State` with `Forming`, `WriteClock`, `Pace`, `find` and the
//! commits' metadata, the fetcher's `State`, the producer's `Tally` and the writer's `Desk`. The shells around them are written again in
//! [`ingest`] and [`egress`], as short as can be; what they do wrong on their own is not found here.
//!
//! * `make simulate SEEDS=100000` runs so many seeds, `make simulate SEED=123` one, with each of its steps.
//! * A check that can't fail is worth nothing: [`Fault`] breaks one rule each, and a test asks that its invariant is named.
//!
//! Not simulated, since it is known not to hold:
//! * A client that goes on reading, or producing to, a topic that was removed under it: here everybody learns of a new topic at once.
//! * A topic made anew while a run is open that produced to a partition whose lineage its process does not know, because another process reads it:
//!   nothing tells that process that the offsets mean other records now.
//! * Dates ahead of time together with removed offsets or topics, and offsets removed twice with the journal's word of the first time lost: the
//!   write clock may then be behind what is in the table.
//!
//! Left out: offsets set by hand, retention of what is not committed, compaction, actors that are restarted by themselves in the middle of a message, and the
//! budgets, which the kernel's own tests look at.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a history is a few hundred records long"
)]

mod api;
mod broker;
mod egress;
mod ingest;
mod invariants;
mod journal;
mod process;
mod steps;
mod store;
mod tests;
mod world;

/// A rule of the design that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Some record is reported as acknowledged that was never appended.
    DropRecord,
    /// A start takes the offset of a commit and not its write clock.
    ForgetClock,
    /// Rows are written with the time of day.
    WallClock,
    /// A commit names the offset after the written end.
    CommitOnePast,
    /// A batch is settled when its write begins.
    SettleBeforeWrite,
    /// A start believes the journal, whatever the lineage of the group's commit.
    JournalWins,
    /// A run succeeds when it is in the topic.
    SucceedAtDraining,
    /// A page is reported produced at its first acknowledgement.
    ProducedEarly,
    /// Batches are cut however many are in flight.
    UnboundedFlights,
    /// The fold at a start leaves out an event.
    ForgetEvent,
    /// Rows are counted by attempts.
    CountAttempts,
    /// A commit that was refused is not asked for again.
    NeverAskAgain,
    /// A fetcher does not begin with the runs that were open.
    ForgetOpenRuns,
    /// A fetcher begins at the page after the ledger's cursor.
    SkipPage,
    /// All reads have one cursor.
    ShareCursor,
    /// A run that reads again moves the cursor of its read.
    AgainMovesCursor,
    /// A run that reads again goes on at its read's cursor after a restart.
    AgainGoesOnAtCursor,
}
