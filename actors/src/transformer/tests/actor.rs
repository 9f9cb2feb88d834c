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
    child: ChildSpec,
}

fn tree() -> Tree {
    let plan = Arc::new(plan(SCHEMA, "SELECT id FROM topic"));
    let (writer, rows) = Mailbox::probe();
    let transformer = Handover::default();
    let hand = transformer.clone();
    let make = move |mailbox: &Mailbox<Lease<RawBatch>>| {
        hand.set(mailbox.clone());
        Transformer::new(Arc::clone(&plan), writer.clone())
    };
    Tree { transformer, rows, child: ChildSpec::actor("transformer", Restart::Permanent, Duration::from_secs(5), make) }
}

fn lease(budget: &Budget, id: i64) -> Lease<RawBatch> {
    Lease::new(texts(&[&json!({ "id": id }).to_string()]), budget.try_reserve(10).unwrap())
}

#[test]
fn batches_keep_their_order_and_their_credit_and_a_stop_finishes_them() {
    let Tree { transformer, mut rows, child } = tree();
    let budget = Budget::new("edge", 1_000);
    let held = budget.clone();
    let ((), exit) = with_tree(vec![child], async |_, _| {
        let transformer = eventually(|| Some(transformer.get())).await;
        for id in 0..50 {
            transformer.post(lease(&held, id)).unwrap();
        }
        eventually(|| (!rows.is_empty()).then_some(())).await;
    });
    assert_eq!(exit, Exit::Shutdown);
    let mut seen = Vec::new();
    while let Ok(Lease { body, credit }) = rows.try_recv() {
        assert_eq!(credit.bytes(), 10);
        seen.extend(super::rows(&body).into_iter().map(|(_, row)| row["id"].as_i64().unwrap()));
    }
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_writer_that_is_gone_ends_the_incarnation_and_gives_the_credit_back() {
    let Tree { transformer, rows, child } = tree();
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
