//! A simulator of the core: the real pure state machines, driven by a seeded scheduler through
//! models of Kafka, the table, the API and the disk.
//!
//! A seed is one history of a few hundred steps. Pages of several reads are fetched and produced,
//! records are polled, batched, written and committed, in any possible order. The API gives pages
//! with cursors, for runs with params and windows; or records from a mark on, which change, are
//! shown late and are dated in the future; or one answer with validators, which changes and changes
//! back. Meanwhile processes
//! crash, stall and resume; partitions move; commits are lost; other producers' transactions are
//! opened, committed and aborted; logs are compacted; topics are deleted and re-created while
//! clients continue by name; partitions are added, so that keys move; records have no key; people
//! delete and change rows by hand; and records are read again. At the end the faults stop, all work
//! is finished, and the result is checked. [`invariants`] names what must hold.
//!
//! Real are the ledger's `State` (decide, evolve, due, and its JSON), the consumer's `State` with
//! `BatchBuilder`, `WriteClock`, `CommitSchedule`, the choice of the start offset and the commit
//! metadata, the fetcher's `State` with `Deliveries` and the commands that it records, the
//! producer's delivery tracker and the writer's `WriteQueue`. For what is new these are `FetchPass`
//! and what an answer's headers say. The shells around them are written again in [`ingest`],
//! [`requests`] and [`egress`], as short as possible; a mistake of a real shell is not found here.
//!
//! * `make simulate SEEDS=100000` runs that many seeds; `make simulate SEED=123` prints each step
//!   of one.
//! * A check that can't fail proves nothing: each [`Fault`] breaks one rule, and a test demands
//!   that its invariant is reported.
//!
//! Known not to hold, and therefore left out (docs/RECOVERY.md says what a user sees):
//! * Producers' timestamps in the future, together with a topic that is re-created or a group whose
//!   offsets are removed; and offsets that are removed twice, when the journal's record of the
//!   first time is lost. The write clock may then be behind the table.
//! * Such timestamps, together with the compaction of records that were written and not committed
//!   when a process died.
//! * The order of one key's records in several partitions, where timestamps step back and an added
//!   partition can't know of them, where nothing of the key's former partition was read when the
//!   other one was added, where records have no key, and after they were read again. The row must
//!   then be a whole record of one of the partitions.
//!
//! * An answer that another process has fetched, where requests are conditional: each process knows
//!   its own. So what must hold of watermarks and validators holds for each process.
//! * A record that changes back to the same bytes, its mark included.
//!
//! Not simulated: offsets set by hand, retention of uncommitted records, actors that restart alone
//! in the middle of a message, and the byte budgets, which the kernel's own tests cover.

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
mod perform_steps;
mod process;
mod reads;
mod requests;
mod source;
mod store;
mod tests;
mod world;

/// A rule of the design that a test breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A record is acknowledged that was never appended.
    DropRecord,
    /// A start uses the offset of a commit, but not its write clock.
    ForgetClock,
    /// Rows are written with the wall clock.
    WallClock,
    /// A commit is one offset past the written end.
    CommitOnePast,
    /// A batch is settled when its write begins.
    SettleBeforeWrite,
    /// A start uses the journal, whatever the epoch of the group's commit.
    JournalWins,
    /// A run succeeds when its records are in the topic.
    SucceedAtDraining,
    /// A page is reported as produced at its first acknowledgement.
    ProducedEarly,
    /// Batches are sealed, however many are in flight.
    UnboundedFlights,
    /// The fold at a start skips an event.
    ForgetEvent,
    /// Rows are counted once per attempt.
    CountAttempts,
    /// A run's records are counted when their batch settles, even with an earlier batch in flight.
    CountOutOfTurn,
    /// A commit that failed is not retried.
    NeverRetryCommit,
    /// A fetcher does not start with the open runs.
    ForgetOpenRuns,
    /// A fetcher starts at the page after the ledger's cursor.
    SkipPage,
    /// Of several pages on their way, only the one that was abandoned is sent again.
    ResendAbandonedOnly,
    /// All reads share one cursor.
    ShareCursor,
    /// A run that reads again moves the cursor of its read.
    AgainMovesCursor,
    /// A run that reads again continues at its read's cursor after a restart.
    AgainGoesOnAtCursor,
    /// The window is left out of the identity of a read.
    WindowNotInRead,
    /// The watermark moves with each page.
    WatermarkMovesWithPages,
    /// The watermark is the largest mark of a pass, also one after its first request.
    WatermarkPastRequest,
    /// A pass that continues after a crash asks from the largest mark that it has reached.
    PassAsksFromReached,
    /// The hashes of records are kept when their page is fetched, also where it never gets into the
    /// topic.
    SeenWhenFetched,
    /// Several fetches of one read are under way at the same time.
    FetchReadTwiceAtOnce,
    /// Validators are recorded when their page is fetched.
    ValidatorsWhenFetched,
    /// Validators stay while another answer is produced.
    ValidatorsOutliveTheirAnswer,
    /// A `Last-Modified` counts in the second that it names.
    LastModifiedOfThisSecond,
    /// A page moves its read, although somebody has set its cursor since it was requested.
    PageUndoesSetCursor,
    /// The topic's id is never checked.
    IgnoreTopicId,
    /// The topic's id is checked at assignments only, so a process without partitions does not
    /// notice a re-created topic.
    CheckTopicIdWhenAssignedOnly,
    /// A run succeeds by what was written, without a check of the topic's id since.
    SucceedUnchecked,
    /// The consumer takes the offset after the last record as the end, whatever Kafka's client
    /// reports.
    EndAtLastRecord,
    /// The client returns records of open and of aborted transactions.
    ReadUncommitted,
    /// The consumer waits for every offset, although some hold no record.
    WaitForEveryOffset,
    /// The write clock of an added partition starts at 0.
    NewPartitionClockZero,
    /// All partitions share one lane.
    TieAcrossPartitions,
    /// A replay starts at the largest known write clock, whatever the wall clock.
    ReplayWithoutWallClock,
}
