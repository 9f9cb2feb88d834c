//! The shell in a tree of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_dataplane::arrow::array::AsArray;
use forebay_dataplane::arrow::datatypes::Int64Type;
use forebay_dataplane::transform::Transform;
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::offset::Ranges;
use forebay_schemas::pipeline::parse;

use crate::message::{BatchPart, PolledBatch, Receipt};
use crate::transformer::Transformer;
use forebay_kernel::testing::{eventually, with_tree};
use forebay_kernel::{Budget, ChildSpec, Exit, Lease, Mailbox, Restart, Slot};

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;

const PIPELINE: &str = r#"
[pipeline]
name = "test"
[kafka]
bootstrap = "embedded"
topic = "topic"
[cassandra]
contact_points = "embedded"
keyspace = "forebay"
[consumer]
group = "test"
[writer]
table = "rows"
primary_key = ["id"]
[transformer]
schema = "record.schema.json"
"#;

fn plan(sql: &str) -> Transform {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("record.schema.json"), SCHEMA).unwrap();
    Transform::new(&parse(&directory.path().join("forebay.toml"), format!("{PIPELINE}sql = '''{sql}'''\n")).unwrap()).unwrap()
}

struct Tree {
    transformer: Slot<Mailbox<Lease<PolledBatch>>>,
    rows: tokio::sync::mpsc::UnboundedReceiver<Lease<BatchPart>>,
    /// Of the rows on their way.
    budget: Budget,
    child: ChildSpec,
}

fn tree(sql: &str) -> Tree {
    let plan = Arc::new(plan(sql));
    let budget = Budget::new("transformer -> writer", forebay_dataplane::transform::ROWS_BUDGET_BYTES);
    let of_rows = budget.clone();
    let (writer, rows) = Mailbox::probe();
    let transformer = Slot::default();
    let hand = transformer.clone();
    let make = move |mailbox: &Mailbox<Lease<PolledBatch>>| {
        hand.set(mailbox.clone());
        Transformer::new(Arc::clone(&plan), writer.clone(), of_rows.clone())
    };
    Tree { transformer, rows, budget, child: ChildSpec::actor("transformer", Restart::Permanent, Duration::from_secs(5), make) }
}

fn lease(budget: &Budget, id: i64) -> Lease<PolledBatch> {
    let mut raw = RawBatch::default();
    raw.push(&NewRecord { value: Some(format!(r#"{{"id":{id}}}"#).as_bytes()), ..NewRecord::default() });
    let (ranges, receipt) = (Ranges::default(), Receipt::new().0);
    let batch = PolledBatch { id: 1, raw, ranges, waited: Duration::ZERO, sealed_at: Instant::now(), receipt };
    Lease::new(batch, budget.try_reserve(10).unwrap())
}

#[test]
fn batches_keep_their_order_and_their_credit() {
    let Tree { transformer, mut rows, budget: of_rows, child } = tree("SELECT id FROM topic");
    let budget = Budget::new("edge", 1_000);
    let held = budget.clone();
    let ((), exit) = with_tree(vec![child], async |_, _| {
        let transformer = eventually(|| Some(transformer.get())).await;
        for id in 0..50 {
            transformer.post(lease(&held, id)).unwrap();
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
    assert_eq!((budget.used(), of_rows.used()), (0, 0));
}

#[test]
fn rows_that_wait_to_be_written_hold_the_transformer_up_and_a_stop_does_not_wait_for_them() {
    let Tree { transformer, mut rows, budget: of_rows, child } = tree("SELECT id, repeat('x', id) AS text FROM topic");
    let budget = Budget::new("edge", 1_000);
    let held = budget.clone();
    let ((), exit) = with_tree(vec![child], async |_, _| {
        let transformer = eventually(|| Some(transformer.get())).await;
        // Each as large as a record may be: two of them are more than the budget of rows.
        for _ in 0..4 {
            transformer.post(lease(&held, 8_000_000)).unwrap();
        }
        let first = eventually(|| rows.try_recv().ok()).await;
        eventually(|| (of_rows.blocked() > Duration::ZERO).then_some(())).await;
        assert!(rows.is_empty(), "the second waits for the first");
        drop(first);
        let second = eventually(|| rows.try_recv().ok()).await;
        let waited = of_rows.blocked();
        eventually(|| (of_rows.blocked() > waited).then_some(())).await;
        // Nobody ever gives it back.
        std::mem::forget(second);
    });
    assert_eq!(exit, Exit::Shutdown);
    assert!(rows.is_empty());
}

#[test]
fn a_writer_that_is_gone_ends_the_incarnation_and_gives_the_credit_back() {
    let Tree { transformer, rows, child, .. } = tree("SELECT id FROM topic");
    drop(rows);
    let budget = Budget::new("edge", 1_000);
    let held = budget.clone();
    let (last_exit, _) = with_tree(vec![child], async |_, actor_tree| {
        transformer.get().post(lease(&held, 1)).unwrap();
        eventually(|| actor_tree.actors().into_iter().find(|actor| actor.incarnation > 1)?.last_exit).await
    });
    assert_eq!(last_exit, Exit::DownstreamClosed.to_string());
    assert_eq!(budget.used(), 0);
}
