//! The transformer in its own tree.

use std::sync::Arc;
use std::time::Duration;

use forebay_dataplane::arrow::array::AsArray;
use forebay_dataplane::arrow::datatypes::Int64Type;
use forebay_dataplane::transform::Transform;
use forebay_dataplane::transform::fixtures::pipeline;
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::offset::Ranges;
use forebay_schemas::pipeline::DriftPolicy;

use crate::ledger::Ledger;
use crate::message::{BatchPart, PolledBatch, Receipt};
use crate::telemetry::Telemetry;
use crate::transformer::{DriftReporter, Transformer};
use forebay_kernel::testing::{eventually, with_tree};
use forebay_kernel::{Budget, ChildSpec, Exit, Lease, Mailbox, MailboxSlot, Restart, SystemClock};

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;

fn transform(sql: &str) -> Transform {
    let directory = tempfile::tempdir().unwrap();
    Transform::new(&pipeline(directory.path(), SCHEMA, sql)).unwrap()
}

struct Tree {
    transformer: MailboxSlot<Lease<PolledBatch>>,
    rows: tokio::sync::mpsc::UnboundedReceiver<Lease<BatchPart>>,
    /// The row budget.
    budget: Budget,
    child: ChildSpec,
}

fn tree(sql: &str) -> Tree {
    let transform = Arc::new(transform(sql));
    let budget = Budget::new("transformer -> writer", forebay_dataplane::transform::ROWS_BUDGET_BYTES);
    let row_budget = budget.clone();
    let (writer, rows) = Mailbox::probe();
    let transformer = MailboxSlot::default();
    let slot = transformer.clone();
    let clock = SystemClock::shared();
    let drift = DriftReporter::new(DriftPolicy::Warn, Arc::new(Ledger::in_memory(Arc::clone(&clock))), Arc::new(Telemetry::default()));
    let make = move |mailbox: &Mailbox<Lease<PolledBatch>>| {
        slot.set(mailbox.clone());
        Transformer::new(Arc::clone(&transform), writer.clone(), row_budget.clone(), drift.clone())
    };
    Tree { transformer, rows, budget, child: ChildSpec::actor("transformer", Restart::Permanent, Duration::from_secs(5), make) }
}

fn lease(budget: &Budget, id: i64) -> Lease<PolledBatch> {
    let mut raw = RawBatch::default();
    raw.push(&NewRecord { value: Some(format!(r#"{{"id":{id}}}"#).as_bytes()), ..NewRecord::default() });
    let (ranges, receipt) = (Ranges::default(), Receipt::new().0);
    let batch = PolledBatch { id: 1, raw, ranges, waited: Duration::ZERO, receipt };
    Lease::new(batch, budget.try_reserve(10).unwrap())
}

#[test]
fn batches_keep_their_order_and_their_credit() {
    let Tree { transformer, mut rows, budget: row_budget, child } = tree("SELECT id FROM topic");
    let budget = Budget::new("edge", 1_000);
    let edge = budget.clone();
    let ((), exit) = with_tree(vec![child], async |_, _| {
        let transformer = eventually(|| Some(transformer.get())).await;
        for id in 0..50 {
            transformer.post(lease(&edge, id)).unwrap();
        }
        eventually(|| (rows.len() == 50).then_some(())).await;
    });
    assert_eq!(exit, Exit::Shutdown);
    let mut seen = Vec::new();
    while let Ok(Lease { body, credit }) = rows.try_recv() {
        assert_eq!((credit.bytes(), budget.used()), (8, 10 * (50 - seen.len())));
        seen.extend(body.rows.rows.column(0).as_primitive::<Int64Type>().values().iter().copied());
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert_eq!((budget.used(), row_budget.used()), (0, 0));
}

#[test]
fn unwritten_rows_block_the_transformer_but_not_its_stop() {
    let Tree { transformer, mut rows, budget: row_budget, child } = tree("SELECT id, repeat('x', id) AS text FROM topic");
    let budget = Budget::new("edge", 1_000);
    let edge = budget.clone();
    let ((), exit) = with_tree(vec![child], async |_, _| {
        let transformer = eventually(|| Some(transformer.get())).await;
        // Each is as large as a record may be; two of them exceed the row budget.
        for _ in 0..4 {
            transformer.post(lease(&edge, 8_000_000)).unwrap();
        }
        let first = eventually(|| rows.try_recv().ok()).await;
        eventually(|| (row_budget.blocked() > Duration::ZERO).then_some(())).await;
        assert!(rows.is_empty(), "the second waits for the first");
        drop(first);
        let second = eventually(|| rows.try_recv().ok()).await;
        let waited = row_budget.blocked();
        eventually(|| (row_budget.blocked() > waited).then_some(())).await;
        // Its credit is never returned.
        std::mem::forget(second);
    });
    assert_eq!(exit, Exit::Shutdown);
    assert!(rows.is_empty());
}

#[test]
fn a_writer_that_has_ended_ends_the_incarnation_and_returns_the_credit() {
    let Tree { transformer, rows, child, .. } = tree("SELECT id FROM topic");
    drop(rows);
    let budget = Budget::new("edge", 1_000);
    let edge = budget.clone();
    let (last_exit, _) = with_tree(vec![child], async |_, actor_tree| {
        transformer.get().post(lease(&edge, 1)).unwrap();
        eventually(|| actor_tree.actors().into_iter().find(|actor| actor.incarnation > 1)?.last_exit).await
    });
    assert_eq!(last_exit, Exit::DownstreamClosed.to_string());
    assert_eq!(budget.used(), 0);
}
