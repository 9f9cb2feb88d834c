//! The shell: transforms one batch at a time, part by part, on the blocking pool, in arrival order.
//!
//! A part is sent once its rows hold their bytes of the row budget. Only the transformer reserves
//! from that budget, and only the writer's progress returns bytes to it, so the two can't deadlock.

use std::collections::VecDeque;
use std::sync::Arc;

use forebay_dataplane::transform::{Parts, Transform, row_bytes};

use super::drift::DriftReporter;
use crate::failpoint::point;
use crate::message::{BatchPart, PolledBatch, SharedBatch};
use forebay_kernel::{Actor, Budget, Closed, Credit, Cx, Exit, Lease, Mailbox, Working};

/// The transformer. Its queue is bounded by the budget that the consumer reserved for the leases in
/// it.
pub(crate) struct Transformer {
    transform: Arc<Transform>,
    writer: Mailbox<Lease<BatchPart>>,
    /// The budget of rows on their way to the table.
    rows: Budget,
    drift: DriftReporter,
    queue: VecDeque<Lease<PolledBatch>>,
    /// Set while a part is being computed.
    working: Option<Working>,
    /// Whether a part waits for budget.
    waiting: bool,
}

impl Transformer {
    /// A transformer that sends its rows to `writer` and has at most `rows` of them in flight, plus
    /// one part.
    pub(crate) fn new(transform: Arc<Transform>, writer: Mailbox<Lease<BatchPart>>, rows: Budget, drift: DriftReporter) -> Self {
        Self { transform, writer, rows, drift, queue: VecDeque::new(), working: None, waiting: false }
    }

    fn next(&mut self, cx: &mut Cx<'_, Self>) {
        if self.working.is_some() || self.waiting {
            return;
        }
        if let Some(batch) = self.queue.pop_front() {
            self.compute(SharedBatch::new(batch), Parts::default(), cx);
        }
    }

    fn compute(&mut self, batch: Arc<SharedBatch>, mut parts: Parts, cx: &mut Cx<'_, Self>) {
        self.working = Some(cx.progress().working());
        let (transform, progress) = (Arc::clone(&self.transform), cx.progress());
        let work = move || {
            point("transformer::before_transform");
            let rows = parts.next(&transform, &batch, &|| progress.tick());
            batch.part_sent(parts.is_done());
            point("transformer::after_transform");
            (parts, BatchPart { batch, rows })
        };
        cx.compute(work, |this, (parts, part), cx| this.computed(parts, part, cx));
    }

    fn computed(&mut self, parts: Parts, part: BatchPart, cx: &mut Cx<'_, Self>) {
        self.working = None;
        cx.progress().tick();
        self.drift.report(&part.rows.new_fields, &part.batch);
        let bytes = usize::try_from(row_bytes(&part.rows.rows)).unwrap_or(usize::MAX);
        if let Some(credit) = self.rows.try_reserve(bytes) {
            return self.send(parts, part, credit, cx);
        }
        self.waiting = true;
        let rows = self.rows.clone();
        cx.spawn(async move { rows.reserve(bytes).await }, |this, credit, cx| {
            this.waiting = false;
            this.send(parts, part, credit, cx);
        });
    }

    fn send(&mut self, parts: Parts, part: BatchPart, credit: Credit, cx: &mut Cx<'_, Self>) {
        let batch = Arc::clone(&part.batch);
        match self.writer.post(Lease::new(part, credit)) {
            Ok(()) if parts.is_done() => self.next(cx),
            Ok(()) => self.compute(batch, parts, cx),
            Err(Closed(_)) => cx.exit(Exit::DownstreamClosed),
        }
    }
}

impl Actor for Transformer {
    type Message = Lease<PolledBatch>;

    fn handle(&mut self, batch: Lease<PolledBatch>, cx: &mut Cx<'_, Self>) {
        self.queue.push_back(batch);
        self.next(cx);
    }

    /// The consumer has stopped before this actor. It either waited for everything it sent or
    /// abandoned it, and then what is left here is read again and commits nothing. So there is
    /// nothing to finish.
    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        cx.exit(Exit::Shutdown);
    }
}
