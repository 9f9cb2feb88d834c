//! The poll loop, on a thread of its own: it owns Kafka's client, fills batches, collects receipts, commits, answers rebalances.
//!
//! Guarantee: a record read is in a batch, or held until there is room, or its partition was taken away and nobody has committed it. The loop comes
//! back to polling within [`PATIENCE`], the time of a drain or a question's time-out, whatever downstream does, so the group keeps this member.
//! Not guaranteed: that batches in flight are done when partitions are lost, or not drained in time; who reads them again writes the same.

mod commit;
mod offset_reset;
mod rebalance;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay_schemas::offset::{Offset, Partition, Ranges};
use rdkafka::message::{BorrowedMessage, Message as _};
use tokio::sync::oneshot::Receiver;

use self::rebalance::{Note, Unanswered};
use super::ConsumerParams;
use super::backpressure::Wait;
use super::batch_builder::{Incoming, Limits};
use super::client::Client;
use super::committer::Committer;
use super::error::ConsumerError;
use super::state::{Fate, MOST_IN_FLIGHT, PATIENCE, Pace, State};
use crate::broker::client_headers;
use crate::failpoint::point;
use crate::message::{BatchDone, PolledBatch, Receipt};
use forebay_dataplane::arena_headers;
use forebay_kernel::{Cancel, Credit, Lease, Progress};

/// Records read before the loop looks at everything else again.
const BURST: usize = 256;
/// Budget is reserved in pieces of this size, so that not every record costs a reservation.
const CHUNK: usize = 64 << 10;
/// The longest sleep in poll when nothing comes; the shortest is a millisecond, Kafka's client knows none between that and none at all.
const LONGEST_QUIET: Duration = Duration::from_millis(16);
const STEP: Duration = Duration::from_millis(1);
/// How often the ends of paused partitions are asked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the loop ends before it is asked to.
enum End {
    /// The incarnation has ended.
    Cancelled,
    Error(ConsumerError),
}

impl From<ConsumerError> for End {
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
    /// The budget of the forming batch; not less than its weight, unless one record is heavier than the whole budget.
    credit: Option<Credit>,
    sent: Vec<Sent>,
    /// The last event that tells what became of records of runs; 0 before the first. What it covers is committed once it is on the disk, so that a
    /// crash takes no count.
    told: u64,
    wait: Option<Wait>,
    unanswered: Option<Unanswered>,
    pace: Pace,
    note: Option<Note>,
    /// How often in a row there was nothing to read.
    quiet: u32,
    /// While the pipeline is paused: when the ends of the partitions were last asked for.
    held: Option<Instant>,
    /// How often the topic had been recreated when this incarnation began to read it.
    recreations: u64,
    /// Ends of partitions that Kafka's client has reported and the state does not know yet.
    ends: BTreeMap<Partition, Offset>,
    /// Whether it was said that records have no key.
    said_unkeyed: bool,
}

/// A batch in flight.
struct Sent {
    id: u64,
    ranges: Ranges,
    waited: Duration,
    end: Receiver<BatchDone>,
}

/// Reads the topic until `drain` is true, partitions were set back or the topic was recreated, and all that was taken is settled and committed; or until
/// `cancel`.
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
            state: State::new(Limits::of(&params.batch)),
            credit: None,
            sent: Vec::new(),
            told: 0,
            wait: None,
            unanswered: None,
            pace: Pace::default(),
            note: None,
            quiet: 0,
            held: None,
            recreations: params.ledger.recreations(),
            ends: BTreeMap::new(),
            said_unkeyed: false,
        };
        let end = this.read_until(drain).and_then(|()| this.finish());
        let assigned: Vec<_> = this.state.assigned().collect();
        this.gone(&assigned);
        end
    });
    match end {
        Ok(()) | Err(End::Cancelled) => Ok(()),
        Err(End::Error(error)) => Err(error),
    }
}

impl Loop<'_> {
    fn now(&self) -> Instant {
        self.params.clock.now()
    }

    fn read_until(&mut self, drain: &AtomicBool) -> Result<(), End> {
        while !drain.load(Ordering::Relaxed) {
            self.look_around()?;
            self.handle_events()?;
            self.commit()?;
            // What was read of a topic that was recreated is committed as of that one, and the next incarnation begins at the new one's begin.
            if self.asked_back()? || self.params.ledger.recreations() != self.recreations {
                return Ok(());
            }
            if self.wait.is_some() {
                self.wait_for_room()?;
            } else if self.params.ledger.is_paused() {
                self.hold()?;
            } else {
                self.go_on_reading()?;
                self.read()?;
            }
        }
        Ok(())
    }

    /// The pipeline is paused: what was read is sent, and the partitions stay with this member, which polls on and reads none of them.
    fn hold(&mut self) -> Result<(), End> {
        if self.held.is_none() {
            self.send()?;
            self.client.pause(self.state.assigned())?;
            self.show_paused(true);
            self.held = Some(self.now());
            tracing::info!(topic = self.params.topic, "paused");
        }
        // Nothing comes of paused partitions; what does all the same is kept.
        if let Some(message) = self.client.poll(LONGEST_QUIET) {
            self.wait = Some(Wait::new(&incoming(&message, &mut Vec::new()), &self.params.budget, self.now()));
        } else {
            self.send()?;
        }
        if let Some(looked) = self.held {
            self.held = Some(self.look_at_ends(looked));
        }
        Ok(())
    }

    /// The pipeline is not paused any more.
    fn go_on_reading(&mut self) -> Result<(), End> {
        if self.held.take().is_some() {
            self.client.resume(self.state.assigned())?;
            self.show_paused(false);
            tracing::info!(topic = self.params.topic, "resumed");
        }
        Ok(())
    }

    /// Asks for the ends of paused partitions, which Kafka's client does not learn without fetches, when it is time to. Gives when that was last.
    fn look_at_ends(&self, looked: Instant) -> Instant {
        let now = self.now();
        if now.saturating_duration_since(looked) < LOOK_EVERY {
            return looked;
        }
        for partition in self.state.assigned() {
            let Ok((begin, end)) = self.client.ends(partition) else { break };
            self.params.telemetry.partition(partition, |view| (view.begin, view.end) = (view.begin.max(begin), view.end.max(end)));
        }
        now
    }

    /// Sends the rest, waits until it is settled, for as long as the supervisor lets it, and commits.
    fn finish(&mut self) -> Result<(), End> {
        self.wait = None;
        self.send()?;
        let assigned: Vec<_> = self.state.assigned().collect();
        self.drain(&assigned, None)?;
        self.commit_last(&assigned)
    }

    /// What each turn of any loop does.
    fn look_around(&mut self) -> Result<(), End> {
        if self.cancel.is_cancelled() {
            return Err(End::Cancelled);
        }
        self.progress.tick();
        self.collect()
    }

    /// Reads records into the forming batch. When the topic has nothing more it is sent at once if nothing is in flight, else after a wait for more.
    fn read(&mut self) -> Result<(), End> {
        let client = self.client;
        let mut headers = Vec::new();
        let mut wait = if self.state.forming().is_empty() { self.quiet() } else { Duration::ZERO };
        for _ in 0..BURST {
            if let Some(message) = client.poll(wait) {
                (self.quiet, wait) = (0, Duration::ZERO);
                self.all_is_well();
                let record = incoming(&message, &mut headers);
                if !self.admit(&record)? {
                    self.wait = Some(Wait::new(&record, &self.params.budget, self.now()));
                    break;
                }
                continue;
            }
            let Some(since) = self.state.forming().since() else {
                self.quiet = self.quiet.saturating_add(1);
                return Ok(());
            };
            self.collect()?;
            if self.state.in_flight() == 0 || self.now().saturating_duration_since(since) >= self.params.batch.max_wait.0 {
                return self.send();
            }
            wait = STEP;
        }
        Ok(())
    }

    fn quiet(&self) -> Duration {
        LONGEST_QUIET.min(STEP * 2_u32.saturating_pow(self.quiet))
    }

    /// Takes a record into the forming batch, or throws it away when it is not to be taken. False when there is no room for it; then all there is has
    /// been sent, so that downstream can make room.
    fn admit(&mut self, record: &Incoming<'_>) -> Result<bool, End> {
        let fate = self.state.fate(record.partition, record.offset);
        if fate != Fate::Take {
            tracing::debug!(partition = record.partition, offset = record.offset, ?fate, "a record is not taken");
            return Ok(true);
        }
        if !self.state.forming().fits(record) {
            self.send()?;
        }
        if self.state.in_flight() >= MOST_IN_FLIGHT || !self.reserve(record.weight()) {
            self.send()?;
            self.credit = None;
            return Ok(false);
        }
        let clock = &self.params.clock;
        if let Some(clamped) = self.state.take(record, || clock.now()) {
            self.show_clamped(record, clamped);
        }
        if self.state.forming().is_full() {
            self.send()?;
        }
        Ok(true)
    }

    /// Makes sure that the forming batch holds budget for one more record of `weight`. A record heavier than the whole budget takes all of it, alone.
    fn reserve(&mut self, weight: usize) -> bool {
        let budget = &self.params.budget;
        let alone = self.state.forming().is_empty();
        let need = self.state.forming().weight() + weight;
        let have = self.credit.as_ref().map_or(0, Credit::bytes);
        let enough = |have| have >= need || (have == budget.capacity() && alone);
        if enough(have) {
            return true;
        }
        let free = budget.capacity().saturating_sub(budget.used());
        let short = need - have;
        let Some(more) = budget.try_reserve(short.max(CHUNK.min(free))).or_else(|| budget.try_reserve(short)) else { return false };
        enough(add(&mut self.credit, more))
    }

    /// Waits for budget, or for a batch in flight to settle: first a little without polling, then with paused partitions.
    fn wait_for_room(&mut self) -> Result<(), End> {
        let Some(mut wait) = self.wait.take() else { return Ok(()) };
        let budget = &self.params.budget;
        if wait.is_empty() {
            return self.go_on(&wait);
        }
        if self.state.in_flight() < MOST_IN_FLIGHT
            && let Some(credit) = wait.granted()
        {
            add(&mut self.credit, credit);
            while let Some(held) = wait.pop() {
                if !self.admit(&held.record())? {
                    wait.put_back(held, budget);
                    self.wait = Some(wait);
                    return Ok(());
                }
            }
            return self.go_on(&wait);
        }
        if !wait.paused {
            if self.now().saturating_duration_since(wait.since) < PATIENCE {
                self.wait = Some(wait);
                thread::sleep(STEP);
                return Ok(());
            }
            self.client.pause(self.state.assigned())?;
            self.show_paused(true);
            wait.pause(budget);
            tracing::debug!(topic = self.params.topic, "paused for want of budget");
        }
        // Nothing comes of paused partitions; what does all the same is kept.
        if let Some(message) = self.client.poll(LONGEST_QUIET) {
            wait.push(&incoming(&message, &mut Vec::new()));
        }
        wait.looked = self.look_at_ends(wait.looked);
        self.wait = Some(wait);
        Ok(())
    }

    /// There is room again.
    fn go_on(&mut self, wait: &Wait) -> Result<(), End> {
        if self.state.forming().is_empty() {
            self.credit = None;
        }
        if wait.paused && self.held.is_none() {
            self.client.resume(self.state.assigned())?;
            self.show_paused(false);
            tracing::debug!(topic = self.params.topic, "resumed");
        }
        Ok(())
    }

    /// Cuts the forming batch, if it holds anything, and sends it.
    fn send(&mut self) -> Result<(), End> {
        let now = self.now();
        let Some(cut) = self.state.cut() else { return Ok(()) };
        point("consumer::before_send");
        let mut credit = self.credit.take().expect("a batch that holds a record holds its budget");
        credit.shrink_to(cut.filled.weight);
        let (receipt, end) = Receipt::new();
        let waited = now.saturating_duration_since(cut.since);
        for &partition in cut.ranges.0.keys() {
            self.show_oldest(partition);
        }
        self.show_unkeyed(&cut.filled.pieces);
        self.sent.push(Sent { id: cut.id, ranges: cut.ranges.clone(), waited, end });
        let batch = PolledBatch { id: cut.id, raw: cut.filled.raw, ranges: cut.ranges, waited, sealed_at: now, receipt };
        self.params.to.post(Lease::new(batch, credit)).map_err(|_| ConsumerError::Downstream)?;
        point("consumer::after_send");
        Ok(())
    }
}

/// Adds to the budget of the forming batch, and says how much it is.
fn add(credit: &mut Option<Credit>, more: Credit) -> usize {
    match credit {
        Some(credit) => credit.merge(more),
        None => *credit = Some(more),
    }
    credit.as_ref().map_or(0, Credit::bytes)
}

/// The record of a message; `scratch` holds its headers.
fn incoming<'a>(message: &'a BorrowedMessage<'_>, scratch: &'a mut Vec<u8>) -> Incoming<'a> {
    scratch.clear();
    if let Some(all) = message.headers() {
        let unreadable = client_headers::each(all, |name, value| arena_headers::append(name, value, scratch));
        arena_headers::append_unreadable(unreadable, scratch);
    }
    Incoming {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: scratch,
    }
}
