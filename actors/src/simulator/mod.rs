//! A simulator of the core: the real pure state machines, driven through models of Kafka, the table, the API and the disk, by a seeded scheduler.
//!
//! One seed is one history of a hundred to some hundred steps: pages of several reads are fetched, produced, polled, cut, written and committed, in any order that is
//! possible; and processes crash, are paused and come back, partitions move, commits are lost, other producers' transactions are opened, committed and
//! aborted, logs are compacted, topics are deleted and created again while clients go on reading and producing by name, partitions are added so that keys
//! move, records have no key, people delete and change rows by hand, and records are read again. Then all is mended, what is left is done, and the end
//! is looked at. What must hold is in [`invariants`], by name.
//!
//! Real are: the ledger's `State` (decide, evolve, due, and its JSON), the consumer's `State` with `BatchBuilder`, `WriteClock`, `CommitSchedule`, `find` and the
//! commits' metadata, the fetcher's `State`, the producer's `Tally` and the writer's `WriteQueue`. The shells around them are written again in
//! [`ingest`] and [`egress`], as short as can be; what they do wrong on their own is not found here.
//!
//! * `make simulate SEEDS=100000` runs so many seeds, `make simulate SEED=123` one, with each of its steps.
//! * A check that can't fail is worth nothing: [`Fault`] breaks one rule each, and a test asks that its invariant is named.
//!
//! Known not to hold, and so left out; docs/RECOVERY.md says what a user sees of it:
//! * Producers' own dates that are ahead of time, together with a topic that is recreated or a group whose offsets are removed; and offsets that are
//!   removed twice with the journal's word of the first time lost: the write clock may then be behind what is in the table.
//! * The same dates, or a clock ahead of all dates as after a replay, together with compaction of records that were written and not committed when a
//!   process died.
//! * The order of records of one key in several partitions, where records are dated back and forth and a partition that was added can't know of them, where
//!   they have no key, and after they were read again: then the row must be that of one of the partitions, whole.
//!
//! Left out: offsets set by hand, retention of what is not committed, actors that are restarted by themselves in the middle of a message, and the
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
    /// A start believes the journal, whatever the epoch of the group's commit.
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
    /// What became of a run's records is told when their batch settles, whatever is in flight before it.
    CountOutOfTurn,
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
    /// Nobody looks at the topic's id.
    IgnoreTopicId,
    /// The topic's id is looked at when partitions are assigned only, so that a process that reads none does not learn of another topic.
    LookWhenAssigned,
    /// A run succeeds by what was written, whether the topic was looked at since or not.
    SucceedUnlooked,
    /// The consumer takes the offset after the last record for the end, whatever Kafka's client says of it.
    EndAtLastRecord,
    /// The client gives out the records of open and of aborted transactions.
    ReadUncommitted,
    /// The consumer waits for the very next offset.
    WaitForEveryOffset,
    /// The write clock of a partition that was added begins at 0.
    NewPartitionClockZero,
    /// All partitions have one lane.
    TieAcrossPartitions,
    /// A replay begins at the largest write clock that is known, whatever the time of day.
    ReplayWithoutWallClock,
}
