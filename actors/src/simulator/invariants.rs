//! What must hold, by name. Checked where it can first be seen to fail: at a write, a commit, an event, after a step, or at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use forebay_schemas::event::{Event, StartOrigin};
use forebay_schemas::run::{RunCounts, RunState};
use uuid::Uuid;

use super::api::{Content, KEYS, READS};
use super::broker::At;
use super::ingest::{number, page_of, read, read_of};
use super::process::{Live, RECORD_WEIGHT};
use super::world::{Env, World};
use crate::consumer::state::MAX_IN_FLIGHT;
use crate::ledger::State as Ledger;

/// The invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invariant {
    /// A record that was acknowledged to a page that was reported produced is in the topic, and its effect in the store, unless its topic was recreated;
    /// and then a start from the begin says so in a journal.
    NoRecordLost,
    /// The row of a key is its newest record: the one appended last. Where the order between partitions is not kept ([`Truth::is_ordered`]) it is the
    /// record of the highest offset of one of the partitions. After a replay that is so of rows that people had deleted or changed by hand, too.
    NoDuplicateEffect,
    /// The cells of a row are never of two records, except for the moment after an epoch began whose process did not know of a write before it.
    RowsAreWhole,
    /// The row of a key never goes back to an earlier offset within an epoch.
    ReadsNeverGoBack,
    /// The group's offset never goes back within an epoch, and is never past a record that is not written.
    CommitsCoverTheWritten,
    /// A run is in the topic only when all its records are acknowledged, and has succeeded only when all of them are in the store.
    RunsAreHonest,
    /// Every record of a page before the cursor that a ledger has of a read was acknowledged.
    CursorIsProduced,
    /// The cursor of a read goes back by nobody's word but a person's.
    CursorGoesOn,
    /// A page of a read is fetched only when every page before it was produced; by the run itself, from where it began, when that reads
    /// again.
    ReadsLeaveNothingOut,
    /// Batches in flight, and records in the one that is being filled, are never more than allowed.
    MemoryIsBounded,
    /// The fold of the journal's events is the state of the ledger, by way of a snapshot too.
    FoldIsState,
    /// Rows and dead letters in the events of a process are those that the store acknowledged to it; and no record of a run is counted twice by a
    /// process, as long as nobody removes topics or offsets, or asks for a replay.
    MetricsReconcile,
    /// When all is well again nothing is left to do: no lag, no open run, and every run that was promised is known.
    Liveness,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) invariant: Invariant,
    pub(super) what: String,
}

/// Whether all holds.
pub(super) type Kept = Result<(), Broken>;

pub(super) fn broken(invariant: Invariant, what: impl FnOnce() -> String) -> Kept {
    Err(Broken { invariant, what: what() })
}

fn holds(invariant: Invariant, holds: bool, what: impl FnOnce() -> String) -> Kept {
    if holds { Ok(()) } else { broken(invariant, what) }
}

/// A record that was acknowledged to a page that was reported produced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged {
    pub(super) run: Uuid,
    pub(super) at: At,
    pub(super) event: u64,
    /// The report: a process, and an event of its journal. None after a crash that lost it; then the run begins again and does not wait for it.
    pub(super) report: Option<(usize, u64)>,
}

/// What an onlooker who sees everything remembers.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Records acknowledged to pages that were reported produced.
    pub(super) acknowledged: Vec<Acknowledged>,
    /// How many records of the page that a process is producing are not acknowledged.
    pub(super) unacknowledged: [usize; 2],
    /// Runs that were asked for, and the event of the journal that must be durable before the answer.
    pub(super) asked: Vec<(usize, Uuid, u64)>,
    /// Runs that were answered for.
    pub(super) promised: Vec<(usize, Uuid)>,
    /// Partitions of which a journal says since the topic was made that they are read from their begin.
    pub(super) announced: Vec<bool>,
    /// The events of all records that were ever acknowledged.
    pub(super) seen: HashSet<u64>,
    /// The page that each run which reads again has come to, of each process.
    pub(super) reached: HashMap<(usize, Uuid), usize>,
    /// Keys of which the newest record need not win over those in other partitions.
    pub(super) unordered: BTreeSet<u16>,
    /// Whether somebody asked for records to be read again; those of a run that was open count once more then.
    pub(super) replayed: bool,
    /// Keys whose rows people deleted or changed by hand, and whose records were not read again since.
    pub(super) by_hand: BTreeSet<u16>,
    /// The run that each record of the topic is of.
    pub(super) of_runs: BTreeMap<At, Uuid>,
    /// How often events of each kind that the checks depend on were seen; a simulator that does nothing breaks nothing.
    pub(super) succeeded: u64,
}

impl Truth {
    /// Records were read again: from here on their timestamps follow their places in the partitions, and no longer the time they were appended at.
    pub(super) fn order_is_lost(&mut self) {
        self.unordered.extend(0..KEYS);
    }

    /// Whether the newest record of a key must win over those in other partitions.
    fn is_ordered(&self, key: u16) -> bool {
        !self.unordered.contains(&key)
    }
}

/// What must hold at an event of process `who`, before its ledger has it; and what else is to be learned from it.
pub(super) fn at_event(env: &mut Env, who: usize, ledger: &Ledger, event: &Event) -> Kept {
    match event {
        Event::RunRequested { run, from: Some(from), .. } => {
            env.truth.reached.insert((who, *run), page_of(from));
            Ok(())
        }
        Event::PageFetched { run, cursor, .. } if env.weather.cursors => {
            let (of, page) = (read_of(ledger, *run), cursor.as_deref().map_or(0, number));
            if let Some(&reached) = env.truth.reached.get(&(who, *run)) {
                return holds(Invariant::ReadsLeaveNothingOut, page <= reached, || {
                    format!("run {run} reads again, has come to page {reached}, and goes on at {page}")
                });
            }
            let missing = missing_before(env, of, page);
            holds(Invariant::ReadsLeaveNothingOut, missing.is_none(), || {
                format!("page {page} of read {of} is fetched, and {missing:?} before it was never acknowledged")
            })
        }
        Event::PageProduced { run, cursor: Some(cursor), moves, .. } if env.weather.cursors => {
            let to = number(cursor);
            if let Some(reached) = env.truth.reached.get_mut(&(who, *run)) {
                *reached = (*reached).max(to);
            }
            let before = moves.as_ref().map_or(0, |read| page_of(&ledger.cursors.position(read)));
            holds(Invariant::CursorGoesOn, moves.is_none() || before < to, || {
                format!("the cursor of read {moves:?} goes from page {before} back to {to} by run {run}")
            })
        }
        Event::RunProduced { run, .. } => {
            let missing = env.truth.unacknowledged[who];
            holds(Invariant::RunsAreHonest, missing == 0, || {
                format!("run {run} is said to be in the topic, and {missing} records of it are not")
            })
        }
        Event::RunSucceeded { run } => {
            env.truth.succeeded += 1;
            let of_run = env.truth.acknowledged.iter().filter(|record| record.run == *run && record.report.is_some());
            let missing = of_run.map(|record| record.at).find(|&at| !env.broker.was_done(at));
            holds(Invariant::RunsAreHonest, missing.is_none(), || {
                format!("run {run} has succeeded, and {:?} of it is not written", missing.unwrap_or_default())
            })
        }
        Event::PartitionsAssigned { starts } => {
            for (&partition, start) in &starts.0 {
                if matches!(start.origin, StartOrigin::Earliest | StartOrigin::Reset) {
                    env.truth.announced.resize(env.broker.partitions().max(env.truth.announced.len()), false);
                    env.truth.announced[partition as usize] = true;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// [`Invariant::MetricsReconcile`].
pub(super) fn metrics(live: &Live) -> Kept {
    holds(Invariant::MetricsReconcile, live.counted == live.acknowledged, || {
        format!("the events say {:?} rows and dead letters, the store acknowledged {:?}", live.counted, live.acknowledged)
    })
}

/// [`Invariant::MetricsReconcile`], of runs.
fn counts(env: &Env, live: &Live) -> Kept {
    if env.weather.operator || env.truth.replayed {
        return Ok(());
    }
    for run in live.ledger.runs.recent(1_000) {
        let RunCounts { written, filtered, rejected, refused, .. } = run.counts;
        let (counted, in_topic) = (written + filtered + rejected - refused, env.truth.of_runs.values().filter(|&&of| of == run.id).count());
        holds(Invariant::MetricsReconcile, counted <= in_topic as u64, || {
            format!("run {} has {in_topic} records in the topic, and {counted} of it are counted", run.id)
        })?;
    }
    Ok(())
}

/// [`Invariant::MemoryIsBounded`].
pub(super) fn memory(env: &Env, live: &Live) -> Kept {
    let flights = live.consumer.in_flight();
    holds(Invariant::MemoryIsBounded, flights <= MAX_IN_FLIGHT + 1, || format!("{flights} batches are in flight"))?;
    let records = live.consumer.builder().weight() / (RECORD_WEIGHT + 2);
    holds(Invariant::MemoryIsBounded, records <= env.weather.max_records, || format!("{records} records are in the batch being filled"))
}

/// What must hold at the end, when all is well again.
pub(super) fn at_the_end(world: &World) -> Kept {
    no_record_lost(&world.env)?;
    no_duplicate_effect(&world.env)?;
    for process in &world.processes {
        if let Some(live) = &process.live {
            metrics(live)?;
            counts(&world.env, live)?;
            cursor(&world.env, live)?;
            process.journal.check(&live.ledger, world.env.weather.bytes.then(|| process.journal.len() / 2))?;
        }
    }
    liveness(world)
}

/// [`Invariant::CursorIsProduced`].
fn cursor(env: &Env, live: &Live) -> Kept {
    for number in 0..READS {
        let before = page_of(&live.ledger.cursors.position(&read(number)));
        let missing = missing_before(env, number, before);
        holds(Invariant::CursorIsProduced, missing.is_none(), || {
            format!("the cursor of read {number} is at page {before}, and {missing:?} before it was never acknowledged")
        })?;
    }
    Ok(())
}

/// A record of the pages of a read before one that was never acknowledged.
fn missing_before(env: &Env, read: usize, page: usize) -> Option<u64> {
    let missing = |record: &&Content| record.key.is_some() && !env.truth.seen.contains(&record.event);
    env.api.before(read, page).find(missing).map(|record| record.event)
}

/// [`Invariant::NoRecordLost`].
fn no_record_lost(env: &Env) -> Kept {
    for &Acknowledged { run, at, event, .. } in &env.truth.acknowledged {
        if at.topic == env.broker.topic() {
            let log = env.broker.log(at.partition);
            let there = log.at(at.offset).is_some_and(|stored| stored.content.event == event);
            holds(Invariant::NoRecordLost, there, || format!("record {event} of run {run} was acknowledged at {at:?} and is not there"))?;
            holds(Invariant::NoRecordLost, log.is_done(at.offset), || format!("record {event} of run {run}, at {at:?}, has no effect"))?;
        } else {
            let announced = env.truth.announced.get(at.partition as usize).copied().unwrap_or_default();
            holds(Invariant::NoRecordLost, announced, || format!("{at:?} went with its topic, and no journal speaks of it"))?;
        }
    }
    Ok(())
}

/// [`Invariant::NoDuplicateEffect`].
fn no_duplicate_effect(env: &Env) -> Kept {
    for key in (0..KEYS).filter(|key| !env.truth.by_hand.contains(key)) {
        // From the very begin: what retention has removed has its effect too.
        let good = env.broker.records_of(key).filter(|(.., stored)| !stored.content.bad);
        let last: BTreeMap<_, _> = good.map(|(partition, offset, stored)| (partition, (offset, stored))).collect();
        // Without a key in the topic, a row's records are in any partition.
        let ordered = env.truth.is_ordered(key) && !env.broker.records_of(key).any(|(.., stored)| stored.content.unkeyed);
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
fn liveness(world: &World) -> Kept {
    let env = &world.env;
    for partition in env.broker.each() {
        let lag = env.broker.lag(partition);
        holds(Invariant::Liveness, lag == 0, || format!("[{partition}] lags by {lag}"))?;
    }
    for (who, process) in world.processes.iter().enumerate().take(env.weather.processes) {
        let Some(live) = &process.live else { return broken(Invariant::Liveness, || format!("process {who} is not up")) };
        let open = live.ledger.runs.recent(1_000).into_iter().find(|run| !run.terminal);
        holds(Invariant::Liveness, open.is_none(), || format!("process {who} has an open run: {open:?}"))?;
    }
    for &(who, run) in &env.truth.promised {
        let state = world.processes[who].live.as_ref().and_then(|live| live.ledger.runs.get(run)).map(|run| run.state);
        holds(Invariant::Liveness, state.is_some_and(RunState::is_terminal), || {
            format!("process {who} answered for run {run}, which is {state:?}")
        })?;
    }
    Ok(())
}
