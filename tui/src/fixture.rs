//! Looks for tests: one pipeline with much to say, one with nothing wrong.

use std::sync::Arc;

use forebay_schemas::api::Desired;
use forebay_schemas::offset::{Range, Ranges};
use forebay_schemas::run::{Run, RunCounts, RunError, RunSpec, RunState};
use forebay_schemas::snapshot::{ActorState, ActorView, BatchView, EdgeView, PartitionView, RunTotals, Snapshot, StageView, Totals};
use forebay_schemas::summary::Latency;

use crate::state::Folded;

/// What these looks come to, one after the other.
pub(crate) fn folded(looks: impl IntoIterator<Item = Snapshot>) -> Folded {
    let mut folded = Folded::default();
    for look in looks {
        folded.fold(Arc::new(look));
    }
    folded
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
        counts: RunCounts { pages: 50, fetched: 5_000, produced: 5_000, rejected: 0 },
        kept: RunCounts::default(),
        ranges: Ranges::default(),
        error: None,
        requested_at: time(requested_at),
        ended_at: None,
        spec: RunSpec::default(),
        cancelled: None,
    }
}

fn uuid_of<T: std::str::FromStr<Err: std::fmt::Debug>>(n: u128) -> T {
    format!("01900000-0000-7000-8000-{n:012x}").parse().unwrap()
}

/// A pipeline whose writer waits for Cassandra and holds the rest back.
pub(crate) fn busy() -> Snapshot {
    later(0)
}

/// The same, so many milliseconds later.
pub(crate) fn later(ms: i64) -> Snapshot {
    let n = |per_second: i64| u64::try_from(ms * per_second / 1_000).unwrap();
    let partition = |partition, end: i64, behind: i64| PartitionView {
        partition,
        begin: 0,
        end: end + ms * 310 / 1_000,
        written: end - behind + ms * 300 / 1_000,
        committed: end - behind - 20 + ms * 300 / 1_000,
        assigned: partition != 3,
        paused: partition == 1,
        clamped: 0,
        behind_ms: behind * 1_000 / 300,
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
    let mut look = Snapshot {
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
    };
    let writer = &mut look.actors[8];
    writer.last_exit = Some("failed: write timed out after 5 s at 127.0.0.1:9042".to_owned());
    writer.note = Some("waiting for cassandra 127.0.0.1:9042: connection refused (attempt 4, next in 2.1 s)".to_owned());
    look.actors[10].last_exit = Some("failed: group rebalance".to_owned());
    look.runs[0].ranges.add(0, Range { from: 210_030, to: 210_050 });
    look.runs[1].ended_at = Some(time("2026-11-24T10:20:08Z"));
    look.runs[2].counts = RunCounts { pages: 1, fetched: 0, produced: 0, rejected: 0 };
    look.runs[2].ended_at = Some(time("2026-11-24T10:10:31Z"));
    look.runs[2].error =
        Some(RunError { stage: "fetch".to_owned(), message: "http://127.0.0.1:8080/api answered 503".to_owned(), retryable: true });
    look
}

/// A pipeline with nothing wrong and nothing to do.
pub(crate) fn quiet() -> Snapshot {
    let mut look = busy();
    look.actors.retain(|actor| actor.incarnation == 1);
    look.edges.truncate(1);
    look.runs.clear();
    look.batches.clear();
    look.totals = Totals::default();
    look.partitions.clear();
    look
}
