//! Tests of the recorded state.

use std::sync::Arc;

use super::*;
use forebay_kernel::{Clock as _, ManualClock};

#[test]
fn the_delay_of_a_partition_is_the_age_of_its_oldest_unwritten_record() {
    let clock = Arc::new(ManualClock::default());
    let telemetry = Telemetry::new(clock.clone());
    clock.advance(Duration::from_secs(100));
    let behind = || telemetry.partitions()[0].behind_ms;

    telemetry.partition(0, |view| (view.assigned, view.end, view.written) = (true, Offset(10), Offset(10)));
    assert_eq!(behind(), 0, "nothing is unwritten");
    telemetry.partition(0, |view| view.end = Offset(15));
    assert_eq!(behind(), -1, "an unread record has no known age");
    telemetry.oldest_unwritten(0, Some(98_500));
    assert_eq!(behind(), 1_500);
    clock.advance(Duration::from_secs(1));
    assert_eq!(behind(), 2_500);
    telemetry.oldest_unwritten(0, Some(999_999));
    assert_eq!(behind(), 0, "a record from the future has no delay");
    telemetry.revoked(&[0]);
    assert_eq!(behind(), -1, "another process knows");
}

#[test]
fn a_commit_sets_the_duration_of_its_batch_and_of_the_stage() {
    let clock = Arc::new(ManualClock::default());
    let telemetry = Telemetry::new(clock.clone());
    let ranges = [(0, forebay_schemas::offset::Range { from: Offset(0), to: Offset(10) })].into_iter().collect();
    telemetry.batch(BatchView {
        id: 1,
        at: clock.wall().into(),
        records: 10,
        rows: 9,
        rejected: 1,
        wait_micros: 2_000,
        transform_micros: 3_000,
        write_micros: 4_000,
        commit_micros: 0,
        ranges,
        retries: 0,
    });
    clock.advance(Duration::from_millis(20));
    telemetry.committed([(0, Offset(10))]);
    assert_eq!(telemetry.batches()[0].commit_micros, 20_000);
    let sums: Vec<_> = telemetry.stages().into_iter().map(|stage| (stage.stage, stage.sum_micros)).collect();
    let expected = [("fetch", 0), ("produce", 0), ("wait", 2_000), ("transform", 3_000), ("write", 4_000), ("commit", 20_000)];
    assert_eq!(sums, expected.map(|(stage, sum)| (stage.to_owned(), sum)));
}

#[test]
fn a_need_is_missing_until_it_is_found() {
    let telemetry = Telemetry::default();
    assert_eq!(telemetry.missing(), [], "a process without roles needs nothing");
    telemetry.needs(Need::Topics);
    telemetry.needs(Need::Table);
    telemetry.found(Need::Table);
    assert_eq!(telemetry.missing(), [Need::Topics]);
    telemetry.found(Need::Topics);
    telemetry.needs(Need::Topics);
    assert_eq!(telemetry.missing(), [], "a found need stays found");
}

#[test]
fn a_closed_store_shows_its_counts_and_no_nodes() {
    let telemetry = Telemetry::default();
    assert_eq!(telemetry.store_view(), None);
    telemetry.writes_to("embedded", "");
    telemetry.connected(Arc::new(|| None));
    telemetry.statements(3);
    telemetry.retried("overloaded");
    let view = telemetry.store_view().unwrap();
    assert_eq!((view.statements, view.nodes.len(), view.retries["overloaded"]), (3, 0, 1));
    assert_eq!(telemetry.totals().write_retries, 1);
}
