//! A process: its state machines, its ledger and its journal.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Epoch, Offset, Partition};
use rand::Rng;
use uuid::Uuid;

use super::Fault;
use super::api::VALUE;
use super::egress::{Batch, new_consumer};
use super::ingest::{Fetched, Page, Produced, new_fetcher};
use super::invariants::{self, Checked};
use super::journal::{self, Journal};
use super::requests::Asked;
use super::world::Env;
use crate::consumer::state::{Commit, CommitSchedule, State as Consumer};
use crate::fetcher::Schedule;
use crate::fetcher::deliveries::Deliveries;
use crate::fetcher::state::State as Fetcher;
use crate::ledger::{Command, State as Ledger, invalidate_confirmed, is_urgent};
use crate::message::RECORD_OVERHEAD;
use crate::writer::state::WriteQueue;

/// The minimum weight of a record: a value, and no key.
pub(super) const RECORD_WEIGHT: usize = VALUE + RECORD_OVERHEAD;

/// A process, up or down, and its disk.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) journal: Journal,
    pub(super) live: Option<Live>,
    pub(super) paused: bool,
    /// The hashes that [`Fault::SeenWhenFetched`] keeps.
    pub(super) fetched: HashSet<Uuid>,
}

/// A process that is up.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) ledger: Ledger,
    pub(super) consumer: Consumer,
    pub(super) schedule: CommitSchedule,
    /// The next offset that Kafka's client returns.
    pub(super) positions: BTreeMap<Partition, Offset>,
    /// The epoch of each assignment.
    pub(super) epochs: BTreeMap<Partition, Epoch>,
    /// The topic that the records in the batch being filled are really of.
    pub(super) read_from: BTreeMap<(Partition, Offset), u32>,
    /// How often the topic was re-created since the process started, and what it was when the
    /// consumer started.
    pub(super) recreations: u64,
    pub(super) begun_with: u64,
    /// See `Ledger::confirm_topic`.
    pub(super) confirmed: Option<BTreeMap<Partition, Offset>>,
    /// The number of the consumer's incarnation, among all in the history.
    pub(super) incarnation: u64,
    pub(super) generation: u64,
    /// Revoked partitions that are released once they are written and committed.
    pub(super) revoking: Vec<Partition>,
    /// The group has evicted it, and it does not know yet.
    pub(super) fenced: bool,
    pub(super) batches: Vec<Batch>,
    pub(super) queue: WriteQueue<u64>,
    pub(super) answer: Option<(Vec<Commit>, bool)>,
    pub(super) fetcher: Fetcher,
    pub(super) wake_at: Option<Instant>,
    /// The runs whose page is requested.
    pub(super) fetching: Vec<Uuid>,
    /// What the page under way of each run asks for.
    pub(super) asked: HashMap<Uuid, Asked>,
    /// The pages that are with the producer, in the order in which they were sent.
    pub(super) pages: Vec<Page>,
    pub(super) deliveries: Deliveries<Fetched, Produced>,
    /// Up to which offset each partition has records of settled pages of this fetcher.
    pub(super) settled: BTreeMap<(u32, Partition), Offset>,
    /// Rows and dead letters that the store acknowledged.
    pub(super) acknowledged: (u64, u64),
    /// Rows and dead letters in the events.
    pub(super) counted: (u64, u64),
}

impl Process {
    /// Starts from the journal.
    pub(super) fn start(&mut self, who: usize, env: &mut Env) -> Checked {
        let forgotten = env.has(Fault::ForgetEvent).then(|| self.journal.len() / 2);
        let ledger = self.journal.fold(forgotten);
        let open = if env.has(Fault::ForgetOpenRuns) { Vec::new() } else { ledger.runs.unfetched() };
        let schedule = if env.scenario.scheduled { Schedule::Every(Duration::from_secs(2)) } else { Schedule::OnTrigger };
        let fetcher = new_fetcher(env, schedule, &ledger, open);
        self.live = Some(Live {
            ledger,
            consumer: new_consumer(env),
            schedule: CommitSchedule::default(),
            positions: BTreeMap::new(),
            epochs: BTreeMap::new(),
            read_from: BTreeMap::new(),
            recreations: 0,
            begun_with: 0,
            confirmed: None,
            incarnation: env.next_incarnation(),
            generation: 0,
            revoking: Vec::new(),
            fenced: false,
            batches: Vec::new(),
            queue: WriteQueue::default(),
            answer: None,
            fetcher,
            wake_at: None,
            fetching: Vec::new(),
            asked: HashMap::new(),
            pages: Vec::new(),
            deliveries: Deliveries::default(),
            settled: BTreeMap::new(),
            acknowledged: (0, 0),
            counted: (0, 0),
        });
        env.oracle.unacknowledged[who].clear();
        let command = Command::StartProcess { version: "1".into(), roles: vec![], topic: "t".into(), group: "g".into() };
        self.submit(who, env, command)?;
        self.submit(who, env, Command::ActivateSql { sql: "s".into(), fingerprint: "f".into() })?;
        self.wake(who, env)
    }

    pub(super) fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("only a process that is up does anything")
    }

    /// As in `Ledger::submit`.
    pub(super) fn submit(&mut self, who: usize, env: &mut Env, command: Command) -> Checked {
        match self.live().ledger.decide(command) {
            Ok(events) => self.apply(who, env, events),
            Err(rejection) => {
                env.note(|| format!("  rejected: {rejection}"));
                Ok(())
            }
        }
    }

    /// As in `Ledger::record` and `Ledger::apply`.
    pub(super) fn apply(&mut self, who: usize, env: &mut Env, mut events: Vec<Event>) -> Checked {
        while !events.is_empty() {
            let mut early = Vec::new();
            for event in events {
                env.note(|| format!("  event: {event:?}"));
                invariants::at_event(env, who, &self.live().ledger, &event)?;
                self.live().recreations += u64::from(matches!(event, Event::TopicRecreated { .. }));
                invalidate_confirmed(&event, &mut self.live().confirmed);
                if let Event::RunProduced { run, .. } = event
                    && env.has(Fault::SucceedAtDraining)
                {
                    early.push(Event::RunSucceeded { run });
                }
                let wall = env.wall();
                let live = self.live.as_mut().expect("only a process that is up says anything");
                let recorded = journal::next(&live.ledger, wall, event);
                live.ledger.evolve(&recorded);
                env.urgent[who] |= is_urgent(&recorded.event);
                self.journal.append(recorded);
            }
            early.extend(self.due(env));
            events = early;
        }
        Ok(())
    }

    fn due(&self, env: &Env) -> Vec<Event> {
        let Some(live) = &self.live else { return Vec::new() };
        live.ledger.due(live.confirmed.as_ref().filter(|_| !env.has(Fault::SucceedUnchecked)))
    }

    /// As in `Ledger::observe_topic`.
    pub(super) fn observe_topic(&mut self, who: usize, env: &mut Env) -> Checked {
        if env.has(Fault::IgnoreTopicId) {
            return Ok(());
        }
        let id = env.broker.topic_id();
        self.live().confirmed.get_or_insert_with(BTreeMap::new);
        self.submit(who, env, Command::IdentifyTopic { id })
    }

    /// As in `LedgerMonitor::check` and `Ledger::confirm_topic`.
    pub(super) fn check_topic(&mut self, who: usize, env: &mut Env) -> Checked {
        let (before, written) = (self.live().recreations, self.live().ledger.written());
        self.observe_topic(who, env)?;
        if self.live().recreations != before {
            return Ok(());
        }
        self.live().confirmed = Some(written);
        let due = self.due(env);
        self.apply(who, env, due)
    }

    /// Returns whether a check of the topic would change something.
    pub(super) fn wants_topic_check(&self, env: &Env) -> bool {
        let Some(live) = &self.live else { return false };
        let another = live.ledger.topic_id != Some(env.broker.topic_id());
        !env.has(Fault::CheckTopicIdWhenAssignedOnly) && (another || !live.ledger.due(None).is_empty()) && !env.has(Fault::IgnoreTopicId)
    }

    /// Makes some of the appended events durable.
    pub(super) fn sync(&mut self, who: usize, env: &mut Env) {
        let loose = self.journal.loose();
        // When a caller waits, everything is synced.
        let more = if env.urgent[who] { loose } else { env.rng.random_range(0..=loose) };
        env.urgent[who] = false;
        self.journal.sync(more);
        let durable = self.journal.durable();
        let oracle = &mut env.oracle;
        for &(_, run, _) in oracle.asked.iter().filter(|&&(asked, _, seq)| asked == who && seq <= durable) {
            oracle.promised.push((who, run));
        }
        oracle.asked.retain(|&(asked, _, seq)| asked != who || seq > durable);
    }
}
