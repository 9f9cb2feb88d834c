//! The shell in a tree of its own.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::fetcher::rig::{eventually, with_tree};
use crate::kernel::{Budget, ChildSpec, Exit, Handover, Lease, Mailbox, Restart};
use crate::transformer::Transformer;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}"#;

struct Tree {
    transformer: Handover<Mailbox<Lease<RawBatch>>>,
    rows: tokio::sync::mpsc::UnboundedReceiver<Lease<RowBatch>>,
    /// Of the rows on their way.
    budget: Budget,
    child: ChildSpec,
}

fn tree(sql: &str) -> Tree {
    let plan = Arc::new(plan(SCHEMA, sql));
    let budget = Budget::new("transformer -> writer", crate::transformer::ROWS_BUDGET);
    let of_rows = budget.clone();
    let (writer, rows) = Mailbox::probe();
    let transformer = Handover::default();
    let hand = transformer.clone();
    let make = move |mailbox: &Mailbox<Lease<RawBatch>>| {
        hand.set(mailbox.clone());
        Transformer::new(Arc::clone(&plan), writer.clone(), of_rows.clone())
    };
    Tree { transformer, rows, budget, child: ChildSpec::actor("transformer", Restart::Permanent, Duration::from_secs(5), make) }
}

fn lease(budget: &Budget, id: i64) -> Lease<RawBatch> {
    Lease::new(texts(&[&json!({ "id": id }).to_string()]), budget.try_reserve(10).unwrap())
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
        seen.extend(super::rows(&body).into_iter().map(|(_, row)| row["id"].as_i64().unwrap()));
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
    let (last_exit, _) = with_tree(vec![child], async |_, registry| {
        transformer.get().post(lease(&held, 1)).unwrap();
        eventually(|| registry.actors().into_iter().find(|actor| actor.incarnation > 1)?.last_exit).await
    });
    assert_eq!(last_exit, Exit::DownstreamClosed.to_string());
    assert_eq!(budget.used(), 0);
}
