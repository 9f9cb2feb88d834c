//! The shell: one batch at a time through [`Plan::run`] on the blocking pool, in the order they came.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Plan;
use crate::failpoint::point;
use crate::kernel::{Actor, Closed, Cx, Exit, Lease, Mailbox, Working};
use crate::message::{RawBatch, RowBatch};

/// The transformer. Its queue holds no more than the budget of the leases in it, which the consumer reserved.
pub struct Transformer {
    plan: Arc<Plan>,
    writer: Mailbox<Lease<RowBatch>>,
    queue: VecDeque<Lease<RawBatch>>,
    /// Held while a batch is being computed.
    working: Option<Working>,
    stopping: bool,
}

impl Transformer {
    /// A transformer that sends its rows to `writer`.
    pub fn new(plan: Arc<Plan>, writer: Mailbox<Lease<RowBatch>>) -> Self {
        Self { plan, writer, queue: VecDeque::new(), working: None, stopping: false }
    }

    fn next(&mut self, cx: &mut Cx<'_, Self>) {
        if self.working.is_some() {
            return;
        }
        let Some(batch) = self.queue.pop_front() else {
            if self.stopping {
                cx.exit(Exit::Shutdown);
            }
            return;
        };
        self.working = Some(cx.progress().working());
        let plan = Arc::clone(&self.plan);
        let work = move || {
            point("transformer::before_transform");
            let rows = batch.map(|raw| plan.run(raw));
            point("transformer::after_transform");
            rows
        };
        cx.compute(work, Self::computed);
    }

    fn computed(&mut self, rows: Lease<RowBatch>, cx: &mut Cx<'_, Self>) {
        self.working = None;
        cx.progress().tick();
        match self.writer.post(rows) {
            Ok(()) => self.next(cx),
            Err(Closed(_)) => cx.exit(Exit::DownstreamClosed),
        }
    }
}

impl Actor for Transformer {
    type Message = Lease<RawBatch>;

    fn handle(&mut self, batch: Lease<RawBatch>, cx: &mut Cx<'_, Self>) {
        self.queue.push_back(batch);
        self.next(cx);
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        self.stopping = true;
        self.next(cx);
    }
}
