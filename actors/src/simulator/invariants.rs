//! What must hold, by name. Each invariant is checked where it can first fail: at a write, a commit
//! or an event, after a step, or at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use forebay_schemas::event::{Event, StartOrigin};
use forebay_schemas::offset::Offset;
use forebay_schemas::run::{RunCounts, RunState};
use forebay_schemas::source_read::Read;
use uuid::Uuid;

use super::api::{Content, KEYS, READS};
use super::broker::At;
use super::process::{Live, RECORD_WEIGHT};
use super::reads::{number, page_of, read, read_of};
use super::requests;
use super::world::{Env, World};
use crate::consumer::state::MAX_IN_FLIGHT;
use crate::ledger::State as Ledger;

/// The invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invariant {
    /// A record of a page that was reported as produced is in the topic, and its effect is in the
    /// store. If its topic was re-created, a start from earliest is in a journal.
    NoRecordLost,
    /// The row of a key is its newest record, the one appended last. Where the order between
    /// partitions is not kept ([`Oracle::is_ordered`]) it is the last record of one of the
    /// partitions. After a replay this holds for rows that people deleted or changed by hand, too.
    NoDuplicateEffect,
    /// The cells of a row are of one record, except just after an epoch started whose process did
    /// not know of an earlier write.
    RowsAreWhole,
    /// Within an epoch, the row of a key never returns to an earlier offset.
    ReadsNeverGoBack,
    /// Within an epoch, the group's offset never decreases. It is never past an unwritten record.
    CommitsCoverTheWritten,
    /// A run is produced only when all its records are acknowledged, and succeeds only when all of
    /// them are in the store.
    RunsReportTheTruth,
    /// Every record of the pages before a read's cursor was acknowledged.
    CursorIsProduced,
    /// Only a person moves the cursor of a read back, and no page that was requested before moves
    /// it from there.
    CursorGoesOn,
    /// A page of a read is fetched only when every page before it was produced. For a run that
    /// reads again, these are its own pages, from its start.
    ReadsLeaveNothingOut,
    /// When a watermark moves to a time, the current version of every record that the API has shown
    /// since before that time was acknowledged. It never moves back. At the end, after a last pass,
    /// that holds for all records, and the current version of each is the one appended last.
    WatermarkIsProduced,
    /// The pages of a pass ask from where its first page did, also after a crash.
    PassesAskTheSame,
    /// That an answer has not changed is accepted only when its records were acknowledged, and were
    /// those appended last.
    UnchangedIsProduced,
    /// The pages of a fetcher are in the topic in the order in which they were fetched, as far as
    /// their last appends go.
    PagesKeepTheirOrder,
    /// Batches in flight, records in the forming one, and pages on their way to the topic stay
    /// within their limits.
    MemoryIsBounded,
    /// The fold of the journal's events is the state of the ledger, also by way of a snapshot.
    FoldIsState,
    /// Rows and dead letters in the events of a process are those that the store acknowledged to
    /// it; and no record of a run is counted twice by a process, as long as nobody removes topics
    /// or offsets, or commit_requests for a replay.
    MetricsReconcile,
    /// Without faults, all work finishes: no lag, no open run, and every confirmed run is known.
    Liveness,
}

/// An invariant that does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) what: String,
}

/// The result of a check.
pub(super) type Checked = Result<(), Violation>;

pub(super) fn violation(invariant: Invariant, what: impl FnOnce() -> String) -> Checked {
    Err(Violation { invariant, what: what() })
}

pub(super) fn holds(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { violation(invariant, what) }
}

/// A record of a page that was reported as produced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) run: Uuid,
    pub(super) at: At,
    pub(super) event: u64,
    /// The report: a process, and an event of its journal. `None` after a crash lost it; the run
    /// then starts over and does not wait for this record.
    pub(super) report: Option<(usize, u64)>,
}

/// What an observer of the whole history knows.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Records of pages that were reported as produced.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Unacknowledged records of the pages that each process is producing, by run.
    pub(super) unacknowledged: [HashMap<Uuid, usize>; 2],
    /// Requested runs, and the event that must be durable before the answer.
    pub(super) asked: Vec<(usize, Uuid, u64)>,
    /// Runs whose request was answered.
    pub(super) promised: Vec<(usize, Uuid)>,
    /// Partitions that a journal says are read from earliest, since the topic was created.
    pub(super) announced: Vec<bool>,
    /// The event identifiers of all records that were ever acknowledged.
    pub(super) seen: HashSet<u64>,
    /// The records that each process was acknowledged, and the last one that it appended of each
    /// read and key, where the API gives only what is new.
    pub(super) produced: HashSet<(usize, u64)>,
    pub(super) last_appended: HashMap<((usize, usize), Option<u16>), u64>,
    /// The page that each run that reads again has reached, by process.
    pub(super) reached: HashMap<(usize, Uuid), usize>,
    /// Keys whose newest record need not win over those in other partitions.
    pub(super) unordered: BTreeSet<u16>,
    /// Whether a replay was requested; records of a run that was open then count again.
    pub(super) replayed: bool,
    /// Keys whose rows people deleted or changed by hand, and that were not replayed since.
    pub(super) by_hand: BTreeSet<u16>,
    /// The run of each record of the topic.
    pub(super) of_runs: BTreeMap<At, Uuid>,
    /// How many runs succeeded: a history in which nothing happens violates nothing.
    pub(super) succeeded: u64,
}

impl Oracle {
    /// Records were read again. From here on their write timestamps follow their offsets, and no
    /// longer the time at which they were appended.
    pub(super) fn order_is_lost(&mut self) {
        self.unordered.extend(0..KEYS);
    }

    /// Whether the newest record of a key must win over those in other partitions.
    fn is_ordered(&self, key: u16) -> bool {
        !self.unordered.contains(&key)
    }
}

/// Checks an event of process `who` before its ledger has it, and records what it says.
pub(super) fn at_event(env: &mut Env, who: usize, ledger: &Ledger, event: &Event) -> Checked {
    match event {
        Event::RunRequested { run, from: Some(from), .. } if env.scenario.source.has_cursors() => {
            env.oracle.reached.insert((who, *run), page_of(from));
            Ok(())
        }
        Event::PageFetched { run, cursor, .. } if env.scenario.source.has_cursors() => {
            let (of, page) = (read_of(ledger, *run), cursor.as_deref().map_or(0, number));
            if let Some(&reached) = env.oracle.reached.get(&(who, *run)) {
                return holds(Invariant::ReadsLeaveNothingOut, page <= reached, || {
                    format!("run {run} reads again, has come to page {reached}, and goes on at {page}")
                });
            }
            let missing = missing_before(env, of, page);
            holds(Invariant::ReadsLeaveNothingOut, missing.is_none(), || {
                format!("page {page} of read {of} is fetched, and {missing:?} before it was never acknowledged")
            })
        }
        Event::PageProduced { run, cursor: Some(cursor), moves, .. } if env.scenario.source.has_cursors() => {
            let to = number(cursor);
            if let Some(reached) = env.oracle.reached.get_mut(&(who, *run)) {
                *reached = (*reached).max(to);
            }
            let before = moves.as_ref().map_or(0, |read| page_of(&ledger.cursors.position(read)));
            holds(Invariant::CursorGoesOn, moves.is_none() || before < to, || {
                format!("the cursor of read {moves:?} goes from page {before} back to {to} by run {run}")
            })
        }
        Event::WatermarkMoved { read, at: Some(at), .. } => requests::watermark_moves(env, who, ledger, read, at),
        Event::RunProduced { run, .. } => {
            let missing = env.oracle.unacknowledged[who].get(run).copied().unwrap_or_default();
            holds(Invariant::RunsReportTheTruth, missing == 0, || {
                format!("run {run} is said to be in the topic, and {missing} records of it are not")
            })
        }
        Event::RunSucceeded { run } => {
            env.oracle.succeeded += 1;
            let of_run = env.oracle.acknowledged.iter().filter(|record| record.run == *run && record.report.is_some());
            let missing = of_run.map(|record| record.at).find(|&at| !env.broker.was_done(at));
            holds(Invariant::RunsReportTheTruth, missing.is_none(), || {
                format!("run {run} has succeeded, and {:?} of it is not written", missing.unwrap_or_default())
            })
        }
        Event::PartitionsAssigned { starts } => {
            for (&partition, start) in &starts.0 {
                if matches!(start.origin, StartOrigin::Earliest | StartOrigin::Reset) {
                    env.oracle.announced.resize(env.broker.partitions().max(env.oracle.announced.len()), false);
                    env.oracle.announced[partition as usize] = true;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// [`Invariant::CursorGoesOn`], when a page is produced of a read whose cursor was `set` since it
/// was requested.
pub(super) fn set_cursor_stays<'a>(set: Option<&Read>, mut events: impl Iterator<Item = &'a Event>) -> Checked {
    let moved = events.find(|event| matches!(event, Event::PageProduced { moves, .. } if set.is_some() && moves.as_ref() == set));
    holds(Invariant::CursorGoesOn, moved.is_none(), || format!("its cursor was set since the page was requested: {moved:?}"))
}

/// [`Invariant::MetricsReconcile`].
pub(super) fn metrics(live: &Live) -> Checked {
    holds(Invariant::MetricsReconcile, live.counted == live.acknowledged, || {
        format!("the events say {:?} rows and dead letters, the store acknowledged {:?}", live.counted, live.acknowledged)
    })
}

/// [`Invariant::MetricsReconcile`], for runs.
fn counts(env: &Env, live: &Live) -> Checked {
    if env.scenario.operator || env.oracle.replayed {
        return Ok(());
    }
    for run in live.ledger.runs.recent(1_000) {
        let RunCounts { written, filtered, rejected, refused, .. } = run.counts;
        let (counted, in_topic) =
            (written + filtered + rejected - refused, env.oracle.of_runs.values().filter(|&&of| of == run.id).count());
        holds(Invariant::MetricsReconcile, counted <= in_topic as u64, || {
            format!("run {} has {in_topic} records in the topic, and {counted} of it are counted", run.id)
        })?;
    }
    Ok(())
}

/// [`Invariant::PagesKeepTheirOrder`]: a page is settled, with the offsets of its last appends.
pub(super) fn page_settled(live: &mut Live, page: &[(At, u64)]) -> Checked {
    let before = live.settled.clone();
    for &(at, event) in page {
        let end = before.get(&(at.topic, at.partition)).copied().unwrap_or_default();
        holds(Invariant::PagesKeepTheirOrder, at.offset >= end, || {
            format!("record {event} is at {at:?}, and an earlier page goes up to {end}")
        })?;
        let settled = live.settled.entry((at.topic, at.partition)).or_default();
        *settled = (*settled).max(Offset(at.offset.0 + 1));
    }
    Ok(())
}

/// [`Invariant::MemoryIsBounded`].
pub(super) fn memory(env: &Env, live: &Live) -> Checked {
    let flights = live.consumer.in_flight();
    holds(Invariant::MemoryIsBounded, flights <= MAX_IN_FLIGHT + 1, || format!("{flights} batches are in flight"))?;
    let (pages, most) = (live.deliveries.pages().count(), env.scenario.max_active * (env.scenario.fetch_ahead + 1));
    holds(Invariant::MemoryIsBounded, pages <= most, || format!("{pages} pages are on their way to the topic"))?;
    let records = live.consumer.builder().weight() / (RECORD_WEIGHT + 2);
    holds(Invariant::MemoryIsBounded, records <= env.scenario.max_records, || format!("{records} records are in the batch being filled"))
}

/// Checks the end, when the faults have stopped and all work is finished.
pub(super) fn at_the_end(world: &World) -> Checked {
    no_record_lost(&world.env)?;
    no_duplicate_effect(&world.env)?;
    for process in &world.processes {
        if let Some(live) = &process.live {
            metrics(live)?;
            counts(&world.env, live)?;
            if world.env.scenario.source.has_cursors() {
                cursor(&world.env, live)?;
            }
            process.journal.check(&live.ledger, world.env.scenario.bytes.then(|| process.journal.len() / 2))?;
        }
    }
    liveness(world)
}

/// [`Invariant::CursorIsProduced`].
fn cursor(env: &Env, live: &Live) -> Checked {
    for number in 0..READS {
        let before = page_of(&live.ledger.cursors.position(&read(number)));
        let missing = missing_before(env, number, before);
        holds(Invariant::CursorIsProduced, missing.is_none(), || {
            format!("the cursor of read {number} is at page {before}, and {missing:?} before it was never acknowledged")
        })?;
    }
    Ok(())
}

/// A record that was never acknowledged, of the pages before `page` of a read.
fn missing_before(env: &Env, read: usize, page: usize) -> Option<u64> {
    let missing = |record: &&Content| record.key.is_some() && !env.oracle.seen.contains(&record.event);
    env.api.before(read, page).find(missing).map(|record| record.event)
}

/// [`Invariant::NoRecordLost`].
fn no_record_lost(env: &Env) -> Checked {
    for &Acknowledged { run, at, event, .. } in &env.oracle.acknowledged {
        if at.topic == env.broker.topic() {
            let log = env.broker.log(at.partition);
            let there = log.at(at.offset).is_some_and(|stored| stored.content.event == event);
            holds(Invariant::NoRecordLost, there, || format!("record {event} of run {run} was acknowledged at {at:?} and is not there"))?;
            holds(Invariant::NoRecordLost, log.is_done(at.offset), || format!("record {event} of run {run}, at {at:?}, has no effect"))?;
        } else {
            let announced = env.oracle.announced.get(at.partition as usize).copied().unwrap_or_default();
            holds(Invariant::NoRecordLost, announced, || format!("{at:?} went with its topic, and no journal speaks of it"))?;
        }
    }
    Ok(())
}

/// [`Invariant::NoDuplicateEffect`].
fn no_duplicate_effect(env: &Env) -> Checked {
    for key in (0..KEYS).filter(|key| !env.oracle.by_hand.contains(key)) {
        // From the first offset ever: records that retention has removed have an effect, too.
        let good = env.broker.records_of(key).filter(|(.., stored)| !stored.content.bad);
        let last: BTreeMap<_, _> = good.map(|(partition, offset, stored)| (partition, (offset, stored))).collect();
        // Records without a key are in any partition.
        let ordered = env.oracle.is_ordered(key) && !env.broker.records_of(key).any(|(.., stored)| stored.content.unkeyed);
        let Some(newest) = last.values().map(|(_, stored)| stored.nth).max() else { continue };
        let row = env.store.row(key);
        let is_one_of = row.record().is_some_and(|row| {
            last.get(&row.at.partition).is_some_and(|&(offset, stored)| {
                let may_be = last.len() == 1 || stored.nth == newest || !ordered;
                may_be
                    && (row.at, row.event) == (At { topic: env.broker.topic(), partition: row.at.partition, offset }, stored.content.event)
            })
        });
        holds(Invariant::NoDuplicateEffect, is_one_of, || {
            format!("key {key}: its last records by partition are {last:?}, ordered {ordered}; its row is {row:?}")
        })?;
    }
    Ok(())
}

/// [`Invariant::Liveness`].
fn liveness(world: &World) -> Checked {
    let env = &world.env;
    for partition in env.broker.each() {
        let lag = env.broker.lag(partition);
        holds(Invariant::Liveness, lag == 0, || format!("[{partition}] lags by {lag}"))?;
    }
    for (who, process) in world.processes.iter().enumerate().take(env.scenario.processes) {
        let Some(live) = &process.live else { return violation(Invariant::Liveness, || format!("process {who} is not up")) };
        let open = live.ledger.runs.recent(1_000).into_iter().find(|run| !run.terminal);
        holds(Invariant::Liveness, open.is_none(), || format!("process {who} has an open run: {open:?}"))?;
    }
    for &(who, run) in &env.oracle.promised {
        let state = world.processes[who].live.as_ref().and_then(|live| live.ledger.runs.get(run)).map(|run| run.state);
        holds(Invariant::Liveness, state.is_some_and(RunState::is_terminal), || {
            format!("process {who} answered for run {run}, which is {state:?}")
        })?;
    }
    Ok(())
}
