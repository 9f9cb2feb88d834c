//! The poll loop, on a thread of its own: it owns Kafka's client, fills batches, settles them,
//! commits, and answers rebalances.
//!
//! Guarantees:
//! * A polled record is in a batch, or held until there is budget, or its partition was revoked
//!   before it was committed.
//! * The loop polls again within [`BUDGET_WAIT_TIMEOUT`], the time of a drain or a request's
//!   timeout, whatever downstream does. So the consumer stays in its group.
//!
//! Does not guarantee that batches in flight are settled when partitions are lost, or not drained
//! in time. Their next owner reads the records again and writes the same.

mod commit;
mod offset_reset;
mod rebalance;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay_dataplane::arena_headers;
use forebay_kernel::{Cancel, Credit, Lease, Progress};
use forebay_schemas::offset::{Offset, Partition, Ranges};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::oneshot::Receiver;

use self::rebalance::{PendingAssignment, WaitReason};
use super::ConsumerParams;
use super::batch_builder::{Incoming, Limits};
use super::budget_wait::BudgetWait;
use super::client::Client;
use super::commit_thread::Committer;
use super::error::ConsumerError;
use super::state::{Admission, BUDGET_WAIT_TIMEOUT, CommitSchedule, MAX_IN_FLIGHT, State};
use crate::broker::record_headers;
use crate::failpoint::point;
use crate::message::{BatchDone, PolledBatch, Receipt};

/// The number of records polled before the loop does its other work.
const MAX_BURST: usize = 256;
/// The size of a reservation of budget, so that not every record needs one.
const RESERVATION_BYTES: usize = 64 << 10;
/// The longest wait in a poll while the topic has no records. The shortest is a millisecond, the
/// resolution of Kafka's client.
const MAX_POLL_WAIT: Duration = Duration::from_millis(16);
const MIN_POLL_WAIT: Duration = Duration::from_millis(1);
/// How often the offsets of paused partitions are fetched.
const OFFSETS_INTERVAL: Duration = Duration::from_secs(2);

/// Why the loop ends early.
enum LoopExit {
    /// The incarnation was cancelled.
    Cancelled,
    Error(ConsumerError),
}

impl From<ConsumerError> for LoopExit {
    fn from(error: ConsumerError) -> Self {
        Self::Error(error)
    }
}

struct Loop<'a> {
    params: &'a ConsumerParams,
    progress: &'a Progress,
    cancel: &'a Cancel,
    client: &'a Client,
    committer: Committer,
    state: State,
    /// The budget of the batch being filled: at least its weight, unless one record is heavier than
    /// the whole budget.
    credit: Option<Credit>,
    sent: Vec<SentBatch>,
    /// The last event with counts of runs; 0 before the first. What it covers is committed once it
    /// is durable, so that a crash loses no count.
    last_run_event: u64,
    wait: Option<BudgetWait>,
    pending: Option<PendingAssignment>,
    schedule: CommitSchedule,
    waiting_for: Option<WaitReason>,
    /// The number of consecutive polls without a record.
    empty_polls: u32,
    /// Set while the pipeline is paused: when the offsets of the partitions were last fetched.
    paused: Option<Instant>,
    /// How often the topic had been re-created when this incarnation began to read it.
    recreations: u64,
    /// Ends of partitions that Kafka's client has reported and the state does not know yet.
    ends: BTreeMap<Partition, Offset>,
    /// Whether records without a key were logged.
    unkeyed_logged: bool,
}

/// A batch in flight.
struct SentBatch {
    id: u64,
    ranges: Ranges,
    waited: Duration,
    done: Receiver<BatchDone>,
}

/// Reads the topic until `drain` is set, offsets were reset or the topic was re-created, and then
/// settles and commits what is in flight. Returns early on `cancel`.
pub(super) fn run(params: &ConsumerParams, progress: &Progress, drain: &AtomicBool, cancel: &Cancel) -> Result<(), ConsumerError> {
    let client = Client::connect(params)?;
    let _working = progress.working();
    let end = thread::scope(|scope| {
        let mut this = Loop {
            params,
            progress,
            cancel,
            client: &client,
            committer: Committer::start(scope, &client)?,
            state: State::new(Limits::new(&params.batch)),
            credit: None,
            sent: Vec::new(),
            last_run_event: 0,
            wait: None,
            pending: None,
            schedule: CommitSchedule::default(),
            waiting_for: None,
            empty_polls: 0,
            paused: None,
            recreations: params.ledger.recreations(),
            ends: BTreeMap::new(),
            unkeyed_logged: false,
        };
        let end = this.read_until(drain).and_then(|()| this.finish());
        let assigned: Vec<_> = this.state.assigned().collect();
        this.released(&assigned);
        end
    });
    match end {
        Ok(()) | Err(LoopExit::Cancelled) => Ok(()),
        Err(LoopExit::Error(error)) => Err(error),
    }
}

impl Loop<'_> {
    fn now(&self) -> Instant {
        self.params.clock.now()
    }

    fn read_until(&mut self, drain: &AtomicBool) -> Result<(), LoopExit> {
        while !drain.load(Ordering::Relaxed) {
            self.tick()?;
            self.handle_events()?;
            self.commit()?;
            // What was read of a re-created topic is committed under its old id; the next
            // incarnation starts at the start of the new one.
            if self.handle_reset_request()? || self.params.ledger.recreations() != self.recreations {
                return Ok(());
            }
            if self.wait.is_some() {
                self.wait_for_budget()?;
            } else if self.params.ledger.is_paused() {
                self.poll_paused()?;
            } else {
                self.leave_pause()?;
                self.read()?;
            }
        }
        Ok(())
    }

    /// One turn while the pipeline is paused: keeps polling paused partitions, so the consumer
    /// stays in its group.
    fn poll_paused(&mut self) -> Result<(), LoopExit> {
        if self.paused.is_none() {
            self.send()?;
            self.client.pause(self.state.assigned())?;
            self.show_paused(true);
            self.paused = Some(self.now());
            tracing::info!(topic = self.params.topic, "paused");
        }
        // Paused partitions return no records. One that arrives all the same is held.
        if let Some(message) = self.client.poll(MAX_POLL_WAIT) {
            self.wait = Some(BudgetWait::new(&incoming(&message, &mut Vec::new()), &self.params.budget, self.now()));
        } else {
            self.send()?;
        }
        if let Some(fetched) = self.paused {
            self.paused = Some(self.refresh_offsets(fetched));
        }
        Ok(())
    }

    fn leave_pause(&mut self) -> Result<(), LoopExit> {
        if self.paused.take().is_some() {
            self.client.resume(self.state.assigned())?;
            self.show_paused(false);
            tracing::info!(topic = self.params.topic, "resumed");
        }
        Ok(())
    }

    /// Fetches the offsets of paused partitions when it is time: Kafka's client learns them with
    /// fetches only. Returns when they were last fetched.
    fn refresh_offsets(&self, fetched: Instant) -> Instant {
        let now = self.now();
        if now.saturating_duration_since(fetched) < OFFSETS_INTERVAL {
            return fetched;
        }
        for partition in self.state.assigned() {
            let Ok((start_offset, end_offset)) = self.client.offsets(partition) else { break };
            self.params.telemetry.partition(partition, |view| {
                (view.begin, view.end) = (view.begin.max(start_offset), view.end.max(end_offset));
            });
        }
        now
    }

    /// Sends the rest, waits until everything is settled, for as long as the supervisor allows, and
    /// commits.
    fn finish(&mut self) -> Result<(), LoopExit> {
        self.wait = None;
        self.send()?;
        let assigned: Vec<_> = self.state.assigned().collect();
        self.drain(&assigned, None)?;
        self.commit_last(&assigned)
    }

    /// What every inner loop does at each turn.
    fn tick(&mut self) -> Result<(), LoopExit> {
        if self.cancel.is_cancelled() {
            return Err(LoopExit::Cancelled);
        }
        self.progress.tick();
        self.collect()
    }

    /// Polls records into the batch. At the end of the topic the batch is sent at once when nothing
    /// is in flight, else after `max_wait`.
    fn read(&mut self) -> Result<(), LoopExit> {
        let client = self.client;
        let mut headers = Vec::new();
        let mut wait = if self.state.builder().is_empty() { self.poll_wait() } else { Duration::ZERO };
        for _ in 0..MAX_BURST {
            if let Some(message) = client.poll(wait) {
                (self.empty_polls, wait) = (0, Duration::ZERO);
                self.recovered();
                let record = incoming(&message, &mut headers);
                if !self.admit(&record)? {
                    self.wait = Some(BudgetWait::new(&record, &self.params.budget, self.now()));
                    break;
                }
                continue;
            }
            let Some(since) = self.state.builder().since() else {
                self.empty_polls = self.empty_polls.saturating_add(1);
                return Ok(());
            };
            self.collect()?;
            if self.state.in_flight() == 0 || self.now().saturating_duration_since(since) >= self.params.batch.max_wait.0 {
                return self.send();
            }
            wait = MIN_POLL_WAIT;
        }
        Ok(())
    }

    fn poll_wait(&self) -> Duration {
        MAX_POLL_WAIT.min(MIN_POLL_WAIT * 2_u32.saturating_pow(self.empty_polls))
    }

    /// Accepts a record into the batch, or discards it when it is not admitted. Returns false when
    /// there is no room; the batch has been sent then, so that downstream can make room.
    fn admit(&mut self, record: &Incoming<'_>) -> Result<bool, LoopExit> {
        let admission = self.state.admission(record.partition, record.offset);
        if admission != Admission::Accept {
            tracing::debug!(partition = record.partition, offset = record.offset.value(), ?admission, "record discarded");
            return Ok(true);
        }
        if !self.state.builder().fits(record) {
            self.send()?;
        }
        if self.state.in_flight() >= MAX_IN_FLIGHT || !self.reserve(record.weight()) {
            self.send()?;
            self.credit = None;
            return Ok(false);
        }
        let clock = &self.params.clock;
        if let Some(clamped) = self.state.accept(record, || clock.now()) {
            self.show_clamped(record, clamped);
        }
        if self.state.builder().is_full() {
            self.send()?;
        }
        Ok(true)
    }

    /// Reserves budget for one more record of `weight`. A record heavier than the whole budget
    /// takes all of it, alone.
    fn reserve(&mut self, weight: usize) -> bool {
        let budget = &self.params.budget;
        let is_alone = self.state.builder().is_empty();
        let need = self.state.builder().weight() + weight;
        let have = self.credit.as_ref().map_or(0, Credit::bytes);
        let is_enough = |have| have >= need || (have == budget.capacity() && is_alone);
        if is_enough(have) {
            return true;
        }
        let free = budget.capacity().saturating_sub(budget.used());
        let short = need - have;
        let Some(more) = budget.try_reserve(short.max(RESERVATION_BYTES.min(free))).or_else(|| budget.try_reserve(short)) else {
            return false;
        };
        is_enough(add_credit(&mut self.credit, more))
    }

    /// Waits for budget, or for a batch in flight to settle: at first without polling, then with
    /// paused partitions.
    fn wait_for_budget(&mut self) -> Result<(), LoopExit> {
        let Some(mut wait) = self.wait.take() else { return Ok(()) };
        let budget = &self.params.budget;
        if wait.is_empty() {
            return self.end_wait(&wait);
        }
        if self.state.in_flight() < MAX_IN_FLIGHT
            && let Some(credit) = wait.granted()
        {
            add_credit(&mut self.credit, credit);
            while let Some(held) = wait.pop() {
                if !self.admit(&held.record())? {
                    wait.put_back(held, budget);
                    self.wait = Some(wait);
                    return Ok(());
                }
            }
            return self.end_wait(&wait);
        }
        if !wait.paused {
            if self.now().saturating_duration_since(wait.since) < BUDGET_WAIT_TIMEOUT {
                self.wait = Some(wait);
                thread::sleep(MIN_POLL_WAIT);
                return Ok(());
            }
            self.client.pause(self.state.assigned())?;
            self.show_paused(true);
            wait.pause(budget);
            tracing::debug!(topic = self.params.topic, "paused: no budget");
        }
        // Paused partitions return no records. One that arrives all the same is held.
        if let Some(message) = self.client.poll(MAX_POLL_WAIT) {
            wait.push(&incoming(&message, &mut Vec::new()));
        }
        wait.offsets_fetched = self.refresh_offsets(wait.offsets_fetched);
        self.wait = Some(wait);
        Ok(())
    }

    fn end_wait(&mut self, wait: &BudgetWait) -> Result<(), LoopExit> {
        if self.state.builder().is_empty() {
            self.credit = None;
        }
        if wait.paused && self.paused.is_none() {
            self.client.resume(self.state.assigned())?;
            self.show_paused(false);
            tracing::debug!(topic = self.params.topic, "resumed");
        }
        Ok(())
    }

    /// Seals the batch, if it holds anything, and sends it.
    fn send(&mut self) -> Result<(), LoopExit> {
        let now = self.now();
        let Some(sealed) = self.state.seal() else { return Ok(()) };
        point("consumer::before_send");
        let mut credit = self.credit.take().expect("a batch that holds a record holds its budget");
        credit.shrink_to(sealed.contents.weight);
        let (receipt, done) = Receipt::new();
        let waited = now.saturating_duration_since(sealed.since);
        for &partition in sealed.ranges.0.keys() {
            self.show_oldest(partition);
        }
        self.show_unkeyed(&sealed.contents.slices);
        self.sent.push(SentBatch { id: sealed.id, ranges: sealed.ranges.clone(), waited, done });
        let batch = PolledBatch { id: sealed.id, raw: sealed.contents.raw, ranges: sealed.ranges, waited, receipt };
        self.params.to.post(Lease::new(batch, credit)).map_err(|_| ConsumerError::Downstream)?;
        point("consumer::after_send");
        Ok(())
    }
}

/// Adds to the budget of the batch being filled, and returns how much it is.
fn add_credit(credit: &mut Option<Credit>, more: Credit) -> usize {
    match credit {
        Some(credit) => credit.merge(more),
        None => *credit = Some(more),
    }
    credit.as_ref().map_or(0, Credit::bytes)
}

/// Returns the record of a message; `scratch` receives its headers.
fn incoming<'a>(message: &'a BorrowedMessage<'_>, scratch: &'a mut Vec<u8>) -> Incoming<'a> {
    scratch.clear();
    if let Some(all) = message.headers() {
        let unreadable = record_headers::each(all, |name, value| arena_headers::append(name, value, scratch));
        arena_headers::append_unreadable(unreadable, scratch);
    }
    Incoming {
        partition: message.partition(),
        offset: Offset(message.offset()),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: scratch,
    }
}
