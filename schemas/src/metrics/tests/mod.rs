//! Tests of the table, and of the checked-in files that are generated from it.

mod alerts;
mod dashboard;
mod promql;
mod reference;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::desired::Desired;
use crate::offset::Offset;
use crate::run::{Stop, StopReason};
use crate::snapshot::Latency;
use crate::snapshot::{
    ActorState, ActorView, BatchView, DiskView, EdgeView, NodeView, PartitionView, RunTotals, Snapshot, SourceView, StageView, StoreView,
    TopicDiskView, Totals,
};

/// Compares a checked-in file with its text, or writes it if asked to.
fn is_checked_in(path: &str, text: &str) {
    let file = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
        std::fs::write(&file, text).unwrap();
        return;
    }
    let have = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(have == text, "{path} is out of date; FOREBAY_WRITE_SCHEMAS=1 writes it");
}

fn stage(name: &str, count: u64) -> StageView {
    let buckets = vec![(100, 0), (1_000, count / 2), (10_000_000, count)];
    StageView { stage: name.to_owned(), count, sum_micros: count * 1_500, buckets, ..StageView::default() }
}

fn actor(path: &str, state: ActorState) -> ActorView {
    let since = DateTime::UNIX_EPOCH;
    ActorView { path: path.to_owned(), state, incarnation: 1, since, last_exit: None, note: None, restarts: 0, mailbox: 2 }
}

fn partition(number: i32) -> PartitionView {
    PartitionView {
        partition: number,
        begin: Offset(0),
        end: Offset(100),
        written: Offset(90),
        committed: Offset(80),
        assigned: true,
        paused: false,
        clamped: 1,
        unkeyed: 2,
        behind_ms: 1_500,
        held_back: 0,
    }
}

/// A pipeline in which every metric has a value, `seconds` after its start.
fn snapshot_at(seconds: i64) -> Snapshot {
    let at: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000 + seconds);
    Snapshot {
        pipeline: "us\"er\\s\n".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: DateTime::UNIX_EPOCH,
        at,
        roles: vec!["ingest".to_owned(), "egress".to_owned()],
        kafka: "127.0.0.1:9092".to_owned(),
        cassandra: "127.0.0.1:9042".to_owned(),
        topic: "users_stream".to_owned(),
        table: "users_stream".to_owned(),
        totals: Totals { pages: 3, fetched: 300, produced: 300, consumed: 290, written: 289, rejected: 1, ..Totals::default() },
        partitions: vec![partition(0), partition(1)],
        latency_ms: Latency::default(),
        batches: vec![BatchView {
            id: 1,
            at,
            records: 1,
            rows: 1,
            rejected: 0,
            wait_micros: 1,
            transform_micros: 1,
            write_micros: 1,
            commit_micros: 0,
            ranges: crate::offset::Ranges::default(),
            retries: 0,
        }],
        actors: vec![actor("root", ActorState::Up), actor("root/egress/writer", ActorState::Up)],
        runs: Vec::new(),
        edges: vec![EdgeView { name: "consumer -> writer".to_owned(), used_bytes: 10, budget_bytes: 100, blocked_micros: 500_000 }],
        seq: 40,
        desired: Desired::default(),
        stages: ["fetch", "produce", "wait", "transform", "write", "commit"].map(|name| stage(name, 4)).into(),
        source: Some(SourceView {
            url: "http://127.0.0.1/".to_owned(),
            statuses: [("2xx".to_owned(), 3), ("429".to_owned(), 1)].into(),
            throttled_micros: 2_000_000,
            stop: Some(Stop { reason: StopReason::NoNext, complete: true, cursor: None, detail: String::new() }),
            ..SourceView::default()
        }),
        store: Some(StoreView {
            kind: "cassandra".to_owned(),
            consistency: "LOCAL_QUORUM".to_owned(),
            in_flight: 1,
            statements: 6,
            retries: [("overloaded".to_owned(), 2)].into(),
            nodes: vec![NodeView { address: "127.0.0.1:9042".to_owned(), datacenter: "dc1".to_owned(), up: true, ..NodeView::default() }],
        }),
        alerts: Vec::new(),
        memory_bytes: 90 << 20,
        end_to_end: stage("end_to_end", 289),
        durable_seq: 39,
        run_totals: RunTotals { open: 1, succeeded: 2, failed: 0, cancelled: 0 },
        trigger_micros: Some(5_000),
        disk: Some(DiskView {
            free_bytes: Some(80 << 30),
            total_bytes: Some(250 << 30),
            journal_bytes: 1_000,
            topic: Some(TopicDiskView { bytes: 2_000, limit_bytes: 1 << 30, removed_records: 3 }),
            table_bytes: Some(4_000),
        }),
        rejects: crate::rejects::Rejects::default(),
        drift: Vec::new(),
    }
}

#[test]
fn names_and_labels_follow_prometheus_and_are_unique() {
    let word = |text: &str| text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut names = BTreeSet::new();
    for metric in CATALOGUE {
        assert!(names.insert(metric.name), "{} is declared twice", metric.name);
        assert!(word(metric.name) && metric.labels.iter().all(|label| word(label) && *label != "pipeline"), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.help);
        for unit in ["seconds", "bytes"] {
            let named = metric.name.trim_end_matches("_total").ends_with(unit);
            assert_eq!(named, metric.unit == unit, "{} is in {}", metric.name, metric.unit);
        }
        assert!(metric.name.starts_with("forebay_") || metric.name.starts_with("messaging_client_"), "{}", metric.name);
        let bounded =
            ["version", "role", "state", "status_class", "topic", "partition", "stage", "db_system", "reason", "node", "datacenter"];
        let bounded = bounded.iter().chain(&["actor", "edge", "part"]).collect::<BTreeSet<_>>();
        assert!(metric.labels.iter().all(|label| bounded.contains(label)), "{:?} of {}", metric.labels, metric.name);
    }
}

#[test]
fn every_metric_of_a_full_snapshot_has_a_value_for_each_of_its_labels() {
    for metric in CATALOGUE {
        let mut samples = Samples::default();
        (metric.read)(&snapshot_at(0), &mut samples);
        assert_eq!(samples.histograms.is_empty(), metric.kind != Kind::Histogram, "{}", metric.name);
        assert_eq!(samples.plain.is_empty(), metric.kind == Kind::Histogram, "{}", metric.name);
        let values = samples.plain.iter().map(|(labels, _)| labels).chain(samples.histograms.iter().map(|(labels, _)| labels));
        let mut seen = BTreeSet::new();
        for labels in values {
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            assert!(seen.insert(labels), "{} has {labels:?} twice", metric.name);
        }
    }
}

#[test]
fn unknown_values_are_absent() {
    let mut snapshot = snapshot_at(0);
    snapshot.partitions = vec![
        PartitionView { written: Offset::UNKNOWN, committed: Offset::UNKNOWN, behind_ms: -1, ..partition(0) },
        PartitionView { assigned: false, ..partition(1) },
    ];
    (snapshot.source, snapshot.store, snapshot.memory_bytes, snapshot.durable_seq) = (None, None, 0, 0);
    snapshot.batches.clear();
    let text = render(&snapshot, Format::Prometheus);
    let absent = [
        "forebay_kafka_written_offset",
        "forebay_kafka_committed_offset",
        "forebay_kafka_lag_seconds",
        "forebay_http_responses_total",
        "forebay_fetch_complete",
        "forebay_db_statements_total",
        "forebay_memory_resident_bytes",
        "forebay_journal_durable_sequence",
        "forebay_last_batch_timestamp_seconds",
    ];
    for name in absent {
        assert!(!text.contains(name), "{name}");
    }
    assert!(!text.contains(" -1"), "{text}");
    assert_eq!(text.matches("forebay_kafka_lag_records{").count(), 1, "only assigned partitions have a current lag");
}

#[test]
fn the_text_is_valid_prometheus_and_openmetrics() {
    let text = render(&snapshot_at(0), Format::Prometheus);
    let pipeline = r#"pipeline="us\"er\\s\n""#;
    for line in [
        "# TYPE forebay_rows_written_total counter".to_owned(),
        format!("forebay_rows_written_total{{{pipeline}}} 289"),
        format!("forebay_kafka_lag_seconds{{{pipeline},topic=\"users_stream\",partition=\"1\"}} 1.5"),
        format!("forebay_stage_duration_seconds_bucket{{{pipeline},stage=\"write\",le=\"0.0001\"}} 0"),
        format!("forebay_stage_duration_seconds_bucket{{{pipeline},stage=\"write\",le=\"10.0\"}} 4"),
        format!("forebay_stage_duration_seconds_bucket{{{pipeline},stage=\"write\",le=\"+Inf\"}} 4"),
        format!("forebay_stage_duration_seconds_sum{{{pipeline},stage=\"write\"}} 0.006"),
        format!("forebay_actor_state{{{pipeline},actor=\"root\",state=\"up\"}} 1"),
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    let open = render(&snapshot_at(0), Format::OpenMetrics);
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE forebay_rows_written counter\n"), "{open}");
    assert_eq!(Format::accepted("application/openmetrics-text;version=1.0.0,*/*;q=0.1"), Format::OpenMetrics);
    assert_eq!(Format::accepted("*/*"), Format::Prometheus);
}
