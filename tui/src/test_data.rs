//! Test data: snapshots of a busy and of a quiet pipeline, logs, and histories of events.

use std::sync::Arc;

use chrono::TimeDelta;
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use forebay_schemas::desired::Desired;
use forebay_schemas::event::{Event, Recorded, Start, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Range, Ranges, WriteTimestamp};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{Run, RunCounts, RunError, RunSpec, RunState};
use forebay_schemas::snapshot::{
    ActorState, ActorView, AlertView, BatchView, DiskView, EdgeView, Latency, NodeView, PartitionView, RunTotals, Snapshot, StageView,
    StoreView, Totals,
};

use proptest::prelude::*;

use crate::state::SnapshotWindow;

/// The window of these snapshots.
pub(crate) fn window(snapshots: impl IntoIterator<Item = Snapshot>) -> SnapshotWindow {
    let mut window = SnapshotWindow::default();
    for snapshot in snapshots {
        window.push(Arc::new(snapshot));
    }
    window
}

/// A firing alert.
pub(crate) fn alert() -> AlertView {
    AlertView {
        name: "ForebayLagGrows".to_owned(),
        severity: "warning".to_owned(),
        summary: "the lag has grown for 4 min: 2,712 records".to_owned(),
        remedy: "check which edge is the bottleneck, and whether Cassandra responds".to_owned(),
        since: time("2026-11-24T10:27:00Z"),
    }
}

/// A log line, one second after the previous one.
pub(crate) fn log_line(seq: u64, message: &str) -> LogLine {
    LogLine {
        seq,
        timestamp: time("2026-11-24T10:30:00Z") + TimeDelta::milliseconds(1_000 * seq.cast_signed() + 123),
        level: LogLevel::Info,
        target: "forebay_actors::kernel::root".to_owned(),
        message: message.to_owned(),
        pipeline: Some("users".to_owned()),
        repeated: 0,
        cut: false,
        fields: serde_json::Map::new(),
    }
}

/// A log with lines of every kind.
pub(crate) fn logs() -> Logs {
    let with = |line: LogLine, level, fields: serde_json::Value| LogLine {
        level,
        fields: fields.as_object().cloned().unwrap_or_default(),
        ..line
    };
    let writer = "root/egress/writer";
    let mut lines = vec![
        with(log_line(4, "topic is ready"), LogLevel::Info, serde_json::json!({ "topic": "users_stream", "partitions": 4 })),
        with(
            log_line(5, "fetcher is up"),
            LogLevel::Info,
            serde_json::json!({ "api": "http://127.0.0.1:8080/api", "schedule": "Every(100ms)" }),
        ),
        with(log_line(6, "fetch failed"), LogLevel::Warn, serde_json::json!({ "error": "http://127.0.0.1:8080/api answered 503" })),
        with(
            log_line(7, "ended"),
            LogLevel::Warn,
            serde_json::json!({ "actor": writer, "incarnation": 2, "exit": "failed: write timed out after 5 s at 127.0.0.1:9042" }),
        ),
        with(log_line(8, "will restart"), LogLevel::Info, serde_json::json!({ "actor": "root/egress", "delay": "200ms" })),
        with(
            log_line(9, "actor stalled: no progress"),
            LogLevel::Error,
            serde_json::json!({ "actor": writer, "silent": "31s", "detail": "waits\nfor ".repeat(20) }),
        ),
        log_line(10, "run succeeded"),
    ];
    lines[2].repeated = 12;
    lines[5].cut = true;
    Logs { lines, upto: 10, lost: 3, since: time("2026-11-24T08:16:58Z") }
}

/// Adds the measurements that events do not contain, and the nodes of Cassandra.
pub(crate) fn measured(mut snapshot: Snapshot) -> Snapshot {
    let stage = |stage: &str, p50_micros: u64| StageView {
        stage: stage.to_owned(),
        count: 48_000,
        sum_micros: 48_000 * p50_micros,
        p50_micros,
        p95_micros: p50_micros * 3,
        p99_micros: p50_micros * 6,
        max_micros: p50_micros * 11,
        buckets: vec![(500, 0), (1_000, 9_000), (2_000, 21_000), (5_000, 44_000), (10_000, 47_500), (50_000, 48_000)],
    };
    snapshot.stages = vec![
        stage("fetch", 84_000),
        stage("produce", 2_100),
        stage("wait", 1_300),
        stage("transform", 420),
        stage("write", 3_400),
        stage("commit", 310),
    ];
    let node = |n: u8, up: bool| NodeView {
        address: format!("10.0.0.{n}:9042"),
        datacenter: "dc1".to_owned(),
        rack: format!("r{n}"),
        up,
        connections: if up { 4 } else { 0 },
    };
    snapshot.store = Some(StoreView {
        kind: "cassandra".to_owned(),
        consistency: "LOCAL_QUORUM".to_owned(),
        in_flight: 12,
        statements: 4_211_000,
        retries: [("write_timeout", 31), ("unavailable", 8), ("overloaded", 2), ("connection", 0), ("other", 0)]
            .map(|(reason, n)| (reason.to_owned(), n))
            .into(),
        nodes: vec![node(1, true), node(2, true), node(3, false)],
    });
    snapshot.alerts = vec![alert()];
    snapshot
}

/// The first `events` events of a small pipeline: it starts, fetches and writes, and its writer
/// fails now and then.
pub(crate) fn history(events: usize) -> Vec<Recorded> {
    let mut all = Vec::with_capacity(events);
    let start = time("2026-11-24T08:16:58Z");
    let mut add = |event: Event| {
        let seq = all.len() as u64 + 1;
        let at = start + TimeDelta::milliseconds(100 * (seq.cast_signed() - 1));
        all.push(Recorded::new(seq, at, event));
    };
    add(Event::PipelineStarted {
        version: "0.1.0".to_owned(),
        roles: ["ingest", "egress", "api"].map(str::to_owned).to_vec(),
        topic: "users_stream".to_owned(),
        group: "users".to_owned(),
    });
    add(Event::TransformActivated { sql: "SELECT id, name\nFROM input\nWHERE id IS NOT NULL".to_owned(), fingerprint: "9f2c".to_owned() });
    let actors = ["root", "root/ingest", "root/ingest/producer", "root/egress", "root/egress/writer", "root/egress/consumer"];
    actors.iter().for_each(|actor| add(Event::ChildStarted { actor: (*actor).to_owned(), incarnation: 1 }));
    let checkpoint = |offset| Checkpoint { offset: Offset(offset), write_clock: WriteTimestamp::default(), epoch: Epoch::new(1) };
    add(Event::PartitionsAssigned {
        starts: [0, 1].map(|p| (p, Start { checkpoint: checkpoint(0), origin: StartOrigin::Earliest })).into_iter().collect(),
    });
    let (mut offsets, mut batch, mut incarnation) = ([0_i64; 2], 0, 1);
    for round in 0_u128.. {
        let run = uuid_of(round / 3 + 1);
        if round % 3 == 0 {
            add(Event::RunRequested {
                run,
                key: format!("manual {}", round / 3),
                attempt: 1,
                spec: RunSpec::default(),
                from: None,
                began: None,
            });
            add(Event::RunStarted { run, at: None });
        }
        let (p, partition) = if round % 2 == 1 { (1, 1) } else { (0_usize, 0_i32) };
        let range = Range { from: Offset(offsets[p]), to: Offset(offsets[p] + 25) };
        offsets[p] += 25;
        let ranges: Ranges = [(partition, range)].into_iter().collect();
        add(Event::PageFetched { run, records: 25, cursor: None });
        add(Event::PageProduced {
            run,
            ranges: ranges.clone(),
            produced: 25,
            rejected: 0,
            cursor: None,
            moves: None,
            rejects: Rejects::default(),
        });
        batch += 1;
        add(Event::BatchWritten {
            batch,
            ranges,
            rows: 24,
            rejected: 1,
            wait_micros: 1_000 + batch * 37 % 900,
            transform_micros: 400,
            write_micros: 2_000 + batch * 911 % 5_000,
            written: [(partition, checkpoint(offsets[p]))].into_iter().collect(),
            runs: Vec::new(),
        });
        add(Event::OffsetsCommitted { offsets: [(partition, Offset(offsets[p]))].into_iter().collect() });
        if round % 3 == 2 {
            add(Event::RunProduced { run, stop: None });
            add(Event::RunSucceeded { run });
        }
        if round % 7 == 6 {
            let actor = "root/egress/writer".to_owned();
            add(Event::ChildExited { actor: actor.clone(), incarnation, exit: "failed: write timed out after 5 s".to_owned() });
            add(Event::RestartScheduled { actor: "root/egress".to_owned(), delay_millis: 200, affected: vec!["writer".to_owned()] });
            incarnation += 1;
            add(Event::ChildStarted { actor, incarnation });
        }
        if round as usize > events {
            break;
        }
    }
    all.truncate(events);
    all
}

/// Arbitrary events of every type, in sequence.
pub(crate) fn any_events(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Recorded>> {
    proptest::collection::vec((any_event(), 1..4_u64, -1_000..100_000_i64), len).prop_map(|all| {
        let mut seq = 0;
        let recorded = |(event, gap, ms): (Event, u64, i64)| {
            seq += gap;
            Recorded::new(seq, chrono::DateTime::from_timestamp_millis(1_764_000_000_000 + ms).unwrap(), event)
        };
        all.into_iter().map(recorded).collect()
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let offset = || prop_oneof![Just(i64::MIN), Just(-1_i64), 0..1_000_000_i64, Just(i64::MAX)].prop_map(Offset);
    let number = || prop_oneof![0..10_000_u64, Just(u64::MAX)];
    let ranges = || {
        let range = (offset(), offset()).prop_map(|(from, to)| Range { from, to });
        proptest::collection::btree_map(-1..70_i32, range, 0..4).prop_map(forebay_schemas::offset::ByPartition)
    };
    let checkpoints = || {
        let checkpoint = offset().prop_map(|offset| Checkpoint { offset, write_clock: WriteTimestamp::default(), epoch: Epoch::new(1) });
        proptest::collection::btree_map(0..70_i32, checkpoint, 0..4).prop_map(forebay_schemas::offset::ByPartition)
    };
    let run = || (1..9_u128).prop_map(uuid_of::<uuid::Uuid>);
    let actor = || prop_oneof!["root", "root/egress/writer", "root/egress", "", "/", "[a-c/]{0,6}"];
    let text = || "[a-z \\n日]{0,12}";
    prop_oneof![
        text().prop_map(|topic| Event::PipelineStarted { version: "1".to_owned(), roles: vec![], topic: topic.clone(), group: topic }),
        any::<bool>().prop_map(|clean| Event::PipelineStopped { clean }),
        (run(), text()).prop_map(|(run, key)| Event::RunRequested {
            run,
            key,
            attempt: 1,
            spec: RunSpec::default(),
            from: None,
            began: None
        }),
        run().prop_map(|run| Event::RunStarted { run, at: None }),
        (run(), number()).prop_map(|(run, records)| Event::PageFetched { run, records, cursor: None }),
        (run(), ranges(), number()).prop_map(|(run, ranges, produced)| Event::PageProduced {
            run,
            ranges,
            produced,
            rejected: 1,
            cursor: None,
            moves: None,
            rejects: Rejects::default(),
        }),
        run().prop_map(|run| Event::RunProduced { run, stop: None }),
        run().prop_map(|run| Event::RunSucceeded { run }),
        (run(), text())
            .prop_map(|(run, message)| Event::RunFailed { run, error: RunError { stage: "fetch".to_owned(), message, retryable: true } }),
        (run(), text()).prop_map(|(run, reason)| Event::RunCancelled {
            run,
            cancelled: forebay_schemas::run::Cancelled { by: "operator".to_owned(), reason }
        }),
        number().prop_map(|millis| Event::SourceThrottled { millis, reason: "429".to_owned() }),
        (number(), ranges(), number(), checkpoints()).prop_map(|(batch, ranges, micros, written)| Event::BatchWritten {
            batch,
            ranges,
            rows: micros,
            rejected: micros,
            wait_micros: micros,
            transform_micros: micros,
            write_micros: micros,
            written,
            runs: Vec::new(),
        }),
        checkpoints().prop_map(|to| Event::OffsetsReset { by: "x".to_owned(), reason: "y".to_owned(), from: Default::default(), to }),
        checkpoints().prop_map(|checkpoints| Event::PartitionsSeen { checkpoints }),
        (checkpoints()).prop_map(|checkpoints| Event::OffsetsCommitted {
            offsets: checkpoints.0.into_iter().map(|(p, checkpoint)| (p, checkpoint.offset)).collect()
        }),
        checkpoints().prop_map(|checkpoints| Event::PartitionsAssigned {
            starts: checkpoints.0.into_iter().map(|(p, checkpoint)| (p, Start { checkpoint, origin: StartOrigin::Group })).collect()
        }),
        proptest::collection::vec(0..70_i32, 0..4).prop_map(|partitions| Event::PartitionsRevoked { partitions }),
        (actor(), number()).prop_map(|(actor, incarnation)| Event::ChildStarted { actor, incarnation }),
        (actor(), number(), text()).prop_map(|(actor, incarnation, exit)| Event::ChildExited { actor, incarnation, exit }),
        (actor(), number()).prop_map(|(actor, silent_millis)| Event::ChildStuck { actor, silent_millis }),
        (actor(), actor()).prop_map(|(actor, other)| Event::RestartScheduled { actor, delay_millis: 1, affected: vec![other] }),
        (actor(), number()).prop_map(|(actor, restarts)| Event::IntensityExceeded { actor, restarts, within_millis: 1 }),
        (actor(), text()).prop_map(|(actor, reason)| Event::Escalated { actor, reason }),
        text().prop_map(|reason| Event::StateDesired { state: forebay_schemas::desired::DesiredState::Paused, by: "x".to_owned(), reason }),
        (offset(), offset()).prop_map(|(from, to)| Event::RangeLost { partition: 0, range: Range { from, to }, reason: String::new() }),
    ]
}

fn time(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

fn actor(path: &str, state: ActorState, incarnation: u64, since: &str) -> ActorView {
    ActorView { path: path.to_owned(), state, incarnation, since: time(since), last_exit: None, note: None, restarts: 0, mailbox: 0 }
}

fn run(n: u128, key: &str, state: RunState, requested_at: &str) -> Run {
    Run {
        id: uuid_of(n),
        key: key.to_owned(),
        attempt: 1,
        state,
        terminal: state.is_terminal(),
        counts: RunCounts { pages: 50, fetched: 5_000, produced: 5_000, written: 5_000, rows: 5_000, ..RunCounts::default() },
        kept: RunCounts::default(),
        rejects: Rejects::default(),
        kept_rejects: Rejects::default(),
        ranges: Ranges::default(),
        stop: None,
        again: false,
        began: None,
        position: None,
        error: None,
        requested_at: time(requested_at),
        ended_at: None,
        spec: RunSpec::default(),
        cancelled: None,
    }
}

pub(crate) fn uuid_of<T: std::str::FromStr<Err: std::fmt::Debug>>(n: u128) -> T {
    format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap()
}

/// A pipeline whose writer waits for Cassandra and is the bottleneck.
pub(crate) fn busy() -> Snapshot {
    later(0)
}

/// The busy pipeline, `ms` milliseconds later.
pub(crate) fn later(ms: i64) -> Snapshot {
    let n = |per_second: i64| u64::try_from(ms * per_second / 1_000).unwrap();
    let partition = |partition, end: i64, behind: i64| PartitionView {
        partition,
        begin: Offset(0),
        end: Offset(end + ms * 310 / 1_000),
        written: Offset(end - behind + ms * 300 / 1_000),
        committed: Offset(end - behind - 20 + ms * 300 / 1_000),
        assigned: partition != 3,
        paused: partition == 1,
        clamped: 0,
        unkeyed: 0,
        behind_ms: behind * 1_000 / 300,
        held_back: 0,
    };
    let edge = |name: &str, used_bytes, budget_bytes, blocked: i64| EdgeView {
        name: name.to_owned(),
        used_bytes,
        budget_bytes,
        blocked_micros: 4_000_000 + n(blocked),
    };
    let batch = |id: u64, records: u64, rejected, wait_micros, transform_micros, write_micros| BatchView {
        id,
        at: time("2026-11-24T10:31:06Z"),
        records,
        rows: records - rejected,
        rejected,
        wait_micros,
        transform_micros,
        write_micros,
        commit_micros: 300,
        ranges: Ranges::default(),
        retries: 0,
    };
    let mut snapshot = Snapshot {
        pipeline: "users".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: time("2026-11-24T08:16:58Z"),
        at: time("2026-11-24T10:31:07Z") + chrono::TimeDelta::milliseconds(ms),
        roles: vec!["ingest".to_owned(), "egress".to_owned(), "api".to_owned()],
        kafka: "embedded (127.0.0.1:41555)".to_owned(),
        cassandra: "127.0.0.1:9042".to_owned(),
        topic: "users_stream".to_owned(),
        table: "forebay.users_stream".to_owned(),
        totals: Totals {
            pages: 84_121 + n(12),
            fetch_failures: 3,
            fetched: 8_412_100 + n(1_240),
            repeated: 0,
            produced: 8_412_100 + n(1_240),
            consumed: 8_411_788 + n(1_200),
            written: 8_411_776 + n(1_200),
            rejected: 12,
            write_retries: 41,
            restarts: 2,
        },
        partitions: vec![partition(0, 210_113, 73), partition(1, 209_871, 81), partition(2, 210_402, 72), partition(3, 209_990, 86)],
        latency_ms: Latency { p50: 5.1, p99: 22.0 },
        batches: vec![
            batch(4_711, 27, 0, 1_100, 400, 3_200),
            batch(4_710, 29, 1, 1_600, 500, 3_800),
            batch(4_709, 1_204, 0, 5_000, 2_400, 21_000),
            batch(4_708, 30, 0, 900, 300, 2_900),
        ],
        actors: vec![
            actor("root", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/ledger", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/broker", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/ingest", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/ingest/producer", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/ingest/fetchers", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/ingest/fetchers/fetcher", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/egress", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/egress/writer", ActorState::Waiting, 3, "2026-11-24T10:27:56Z"),
            actor("root/egress/transformer", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/egress/consumer", ActorState::Up, 2, "2026-11-24T10:30:55Z"),
            actor("root/observers", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
            actor("root/observers/api", ActorState::Up, 1, "2026-11-24T08:16:58Z"),
        ],
        runs: vec![
            run(3, "manual 10:30", RunState::Draining, "2026-11-24T10:30:00Z"),
            run(2, "manual 10:20", RunState::Succeeded, "2026-11-24T10:20:00Z"),
            run(1, "manual 10:10", RunState::Failed, "2026-11-24T10:10:00Z"),
        ],
        edges: vec![
            edge("fetcher -> producer", 1 << 20, 8 << 20, 0),
            edge("consumer -> transformer", 31 << 20, 32 << 20, 900_000),
            edge("transformer -> writer", 30 << 20, 32 << 20, 800_000),
        ],
        seq: 18_204,
        desired: Desired::default(),
        stages: Vec::new(),
        source: None,
        store: None,
        alerts: Vec::new(),
        memory_bytes: 96 << 20,
        end_to_end: StageView::default(),
        durable_seq: 18_204,
        run_totals: RunTotals { open: 1, succeeded: 1, failed: 1, cancelled: 0 },
        trigger_micros: Some(5_000),
        disk: Some(DiskView {
            free_bytes: Some(80 << 30),
            total_bytes: Some(250 << 30),
            journal_bytes: 12 << 20,
            topic: None,
            table_bytes: None,
        }),
        rejects: Rejects::default(),
        drift: Vec::new(),
    };
    let writer = &mut snapshot.actors[8];
    writer.last_exit = Some("failed: write timed out after 5 s at 127.0.0.1:9042".to_owned());
    writer.note = Some("waiting for cassandra 127.0.0.1:9042: connection refused (attempt 4, next in 2.1 s)".to_owned());
    snapshot.actors[10].last_exit = Some("failed: group rebalance".to_owned());
    snapshot.runs[0].ranges.add(0, Range { from: Offset(210_030), to: Offset(210_050) });
    snapshot.runs[1].ended_at = Some(time("2026-11-24T10:20:08Z"));
    snapshot.runs[2].counts = RunCounts { pages: 1, ..RunCounts::default() };
    snapshot.runs[2].ended_at = Some(time("2026-11-24T10:10:31Z"));
    snapshot.runs[2].error =
        Some(RunError { stage: "fetch".to_owned(), message: "http://127.0.0.1:8080/api answered 503".to_owned(), retryable: true });
    snapshot
}

/// An idle pipeline without problems.
pub(crate) fn quiet() -> Snapshot {
    let mut snapshot = busy();
    snapshot.actors.retain(|actor| actor.incarnation == 1);
    snapshot.edges.truncate(1);
    snapshot.runs.clear();
    snapshot.batches.clear();
    snapshot.totals = Totals::default();
    snapshot.partitions.clear();
    snapshot
}
