//! The conditions of the rules on snapshots.

use super::evaluator::{History, Sample, lag};
use super::{
    BLOCKED_SHARE, DISK_BYTES, FAILING_SHARE, JOURNAL_EVENTS, LAG_RECORDS, LAG_SECONDS, LONGEST, MEMORY_BUDGETS, MEMORY_BYTES, MINUTE,
    RESTARTS, RETENTION_PERCENT, RETRIES,
};
use std::time::Duration;

use crate::desired::DesiredState;
use crate::snapshot::{ActorState, EdgeView, Snapshot};

/// The subjects for which a condition holds, such as an actor, and what is wrong with each.
pub(super) type Condition = fn(&History, &Snapshot) -> Vec<(String, String)>;

/// The condition of a whole pipeline.
fn pipeline(holds: bool, summary: impl FnOnce() -> String) -> Vec<(String, String)> {
    if holds { vec![(String::new(), summary())] } else { Vec::new() }
}

pub(super) fn lag_grows(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let (lag, before) = (lag(now), history.lag_since(now.at, LONGEST).map(|(lag, _)| lag));
    pipeline(lag > LAG_RECORDS && before.is_some_and(|before| lag > before), || {
        format!("{lag} records behind, {} more than 10 minutes ago", lag.saturating_sub(before.unwrap_or(0)))
    })
}

pub(super) fn lag_old(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let behind = |view: &&crate::snapshot::PartitionView| {
        view.assigned && u64::try_from(view.behind_ms).is_ok_and(|millis| millis > LAG_SECONDS * 1_000)
    };
    let views = now.partitions.iter().filter(behind);
    views
        .map(|view| (view.partition.to_string(), format!("{}[{}] is {} s behind", now.topic, view.partition, view.behind_ms / 1_000)))
        .collect()
}

pub(super) fn nothing_written(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let batches = Sample::of(now).batches;
    let still = history.lag_since(now.at, 2 * MINUTE).is_some_and(|(lag, before)| before == batches && lag > 0);
    let lag = lag(now);
    pipeline(lag > 0 && still && now.desired.state != DesiredState::Paused, || format!("{lag} records to write, but none is being written"))
}

/// The increase of a count in the window.
fn rise(history: &History, now: &Snapshot, window: Duration, read: fn(&Sample) -> u64) -> u64 {
    history.since(now.at, window).map_or(0, |before| read(&Sample::of(now)).saturating_sub(read(before)))
}

pub(super) fn dead_letters(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let rejected = rise(history, now, 5 * MINUTE, |sample| sample.rejected);
    let most = now.rejects.most_frequent().map(|most| format!("; most often, {most}")).unwrap_or_default();
    pipeline(rejected > 0, || {
        format!("{rejected} records became dead letters in the last 5 minutes, {} since the process started{most}", now.totals.rejected)
    })
}

pub(super) fn actor_restarts(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let Some(before) = history.since(now.at, LONGEST) else { return Vec::new() };
    let risen = now.actors.iter().map(|actor| {
        let restarts = actor.restarts.saturating_sub(before.restarts.get(&actor.path).copied().unwrap_or(0));
        (actor, restarts)
    });
    let often = risen.filter(|(_, restarts)| *restarts > RESTARTS);
    often
        .map(|(actor, restarts)| {
            let why = actor.last_exit.as_ref().map_or_else(String::new, |why| format!("; last exit: {why}"));
            (actor.path.clone(), format!("{} was restarted {restarts} times in the last 10 minutes{why}", actor.path))
        })
        .collect()
}

pub(super) fn actors(now: &Snapshot, state: ActorState, what: &str) -> Vec<(String, String)> {
    let affected = now.actors.iter().filter(|actor| actor.state == state);
    affected
        .map(|actor| {
            let more = actor.note.as_ref().or(actor.last_exit.as_ref()).map_or_else(String::new, |more| format!(": {more}"));
            (actor.path.clone(), format!("{} {what}{more}", actor.path))
        })
        .collect()
}

pub(super) fn source_fails(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let (answers, failures) =
        (rise(history, now, 5 * MINUTE, |sample| sample.answers), rise(history, now, 5 * MINUTE, |sample| sample.failures));
    pipeline(answers > 0 && failures as f64 / answers as f64 > FAILING_SHARE, || {
        format!("{failures} of the last {answers} requests to the source failed")
    })
}

pub(super) fn fetch_cut_short(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let stop = now.source.as_ref().and_then(|source| source.stop.as_ref()).filter(|stop| !stop.complete);
    stop.map(|stop| (stop.reason.as_str().to_owned(), format!("the last fetch was {stop}"))).into_iter().collect()
}

pub(super) fn budget_exhausted(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let Some(before) = history.since(now.at, 5 * MINUTE) else { return Vec::new() };
    let passed = (now.at - before.at).as_seconds_f64();
    let share = |edge: &EdgeView| {
        let blocked = edge.blocked_micros.saturating_sub(before.blocked.get(&edge.name).copied().unwrap_or(0));
        if passed > 0.0 { blocked as f64 / 1e6 / passed } else { 0.0 }
    };
    let full = now.edges.iter().map(|edge| (edge, share(edge))).filter(|(_, share)| *share > BLOCKED_SHARE);
    full.map(|(edge, share)| (edge.name.clone(), format!("{} waited for budget {:.0} % of the time", edge.name, share * 100.0))).collect()
}

pub(super) fn store_retries(history: &History, now: &Snapshot) -> Vec<(String, String)> {
    let retries = rise(history, now, 5 * MINUTE, |sample| sample.retries);
    pipeline(retries > RETRIES, || format!("writes were retried {retries} times in the last 5 minutes"))
}

pub(super) fn journal_behind(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let waiting = if now.durable_seq == 0 { 0 } else { now.seq.saturating_sub(now.durable_seq) };
    pipeline(waiting > JOURNAL_EVENTS, || format!("{waiting} events are not yet on disk"))
}

pub(super) fn disk_fills(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let free = now.disk.as_ref().and_then(|disk| disk.free_bytes).unwrap_or(u64::MAX);
    pipeline(free < DISK_BYTES, || format!("{} MiB left on the disk of the data directory", free >> 20))
}

pub(super) fn retention_exceeded(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let Some(topic) = now.disk.as_ref().and_then(|disk| disk.topic) else { return Vec::new() };
    let over = topic.bytes.saturating_mul(100) > topic.limit_bytes.saturating_mul(RETENTION_PERCENT);
    pipeline(over, || {
        let (takes, limit) = (topic.bytes >> 20, topic.limit_bytes >> 20);
        format!("the embedded topics take {takes} MiB, more than their retention of {limit} MiB; {} records are not yet written", lag(now))
    })
}

pub(super) fn memory(_: &History, now: &Snapshot) -> Vec<(String, String)> {
    let limit = MEMORY_BUDGETS * now.edges.iter().map(|edge| edge.budget_bytes).sum::<u64>() + MEMORY_BYTES;
    pipeline(now.memory_bytes > limit, || format!("{} MiB in use, more than {} MiB", now.memory_bytes >> 20, limit >> 20))
}
