//! A process: its state machines, its ledger and its journal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_schemas::event::Event;
use forebay_schemas::offset::{Epoch, Offset, Partition};
use rand::Rng;
use uuid::Uuid;

use super::Fault;
use super::api::VALUE;
use super::egress::{Batch, new_consumer};
use super::ingest::{Page, new_fetcher};
use super::invariants::{self, Kept};
use super::journal::{self, Journal};
use super::world::Env;
use crate::consumer::state::{Commit, Pace, State as Consumer};
use crate::fetcher::Schedule;
use crate::fetcher::state::State as Fetcher;
use crate::ledger::{Command, State as Ledger, forget_looks, is_waited_for};
use crate::message::RECORD_OVERHEAD;
use crate::writer::state::WriteQueue;

/// What a record weighs at least: a value, and no key.
pub(super) const RECORD_WEIGHT: usize = VALUE + RECORD_OVERHEAD;

/// A process, up or down, and its disk.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) journal: Journal,
    pub(super) live: Option<Live>,
    pub(super) paused: bool,
}

/// A process that is up.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) ledger: Ledger,
    pub(super) consumer: Consumer,
    pub(super) pace: Pace,
    /// What Kafka's client gives next.
    pub(super) positions: BTreeMap<Partition, Offset>,
    /// The epoch of each assignment.
    pub(super) epochs: BTreeMap<Partition, Epoch>,
    /// Of which topic the records in the forming batch are, in truth.
    pub(super) read_from: BTreeMap<(Partition, Offset), u32>,
    /// How often the topic was found to be another one since the process began, and since before its consumer did.
    pub(super) recreations: u64,
    pub(super) begun_with: u64,
    /// See `Ledger::looked_at_topic`.
    pub(super) looked: Option<BTreeMap<Partition, Offset>>,
    /// Which incarnation of the consumer it is, of all there are in the history.
    pub(super) birth: u64,
    pub(super) generation: u64,
    /// Partitions that are to go when what is in flight of them is written and committed.
    pub(super) revoking: Vec<Partition>,
    /// The group has put it out, and it does not know yet.
    pub(super) fenced: bool,
    pub(super) batches: Vec<Batch>,
    pub(super) queue: WriteQueue<u64>,
    pub(super) answer: Option<(Vec<Commit>, bool)>,
    pub(super) fetcher: Fetcher,
    pub(super) wake_at: Option<Instant>,
    pub(super) fetching: Option<Uuid>,
    pub(super) page: Option<Page>,
    /// Rows and dead letters that the store acknowledged.
    pub(super) acknowledged: (u64, u64),
    /// Rows and dead letters in the events.
    pub(super) counted: (u64, u64),
}

impl Process {
    /// Begins: out of what the journal holds.
    pub(super) fn start(&mut self, who: usize, env: &mut Env) -> Kept {
        let forgotten = env.has(Fault::ForgetEvent).then(|| self.journal.len() / 2);
        let ledger = self.journal.fold(forgotten);
        let open = if env.has(Fault::ForgetOpenRuns) { Vec::new() } else { ledger.runs.unfetched() };
        let schedule = if env.weather.scheduled { Schedule::Every(Duration::from_secs(2)) } else { Schedule::OnTrigger };
        let fetcher = new_fetcher(env, Fetcher::new(schedule, env.now(), open));
        self.live = Some(Live {
            ledger,
            consumer: new_consumer(env),
            pace: Pace::default(),
            positions: BTreeMap::new(),
            epochs: BTreeMap::new(),
            read_from: BTreeMap::new(),
            recreations: 0,
            begun_with: 0,
            looked: None,
            birth: env.fresh_birth(),
            generation: 0,
            revoking: Vec::new(),
            fenced: false,
            batches: Vec::new(),
            queue: WriteQueue::default(),
            answer: None,
            fetcher,
            wake_at: None,
            fetching: None,
            page: None,
            acknowledged: (0, 0),
            counted: (0, 0),
        });
        env.truth.unacknowledged[who] = 0;
        let begin = Command::Begin { version: "1".into(), roles: vec![], topic: "t".into(), group: "g".into() };
        self.submit(who, env, begin)?;
        self.submit(who, env, Command::Activate { sql: "s".into(), fingerprint: "f".into() })?;
        self.wake(who, env)
    }

    pub(super) fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("only a process that is up does anything")
    }

    /// As in `Ledger::submit`.
    pub(super) fn submit(&mut self, who: usize, env: &mut Env, command: Command) -> Kept {
        match self.live().ledger.decide(command) {
            Ok(events) => self.apply(who, env, events),
            Err(rejection) => {
                env.note(|| format!("  rejected: {rejection}"));
                Ok(())
            }
        }
    }

    /// As in `Ledger::saw` and `Ledger::apply`.
    pub(super) fn apply(&mut self, who: usize, env: &mut Env, mut events: Vec<Event>) -> Kept {
        while !events.is_empty() {
            let mut early = Vec::new();
            for event in events {
                env.note(|| format!("  event: {event:?}"));
                invariants::at_event(env, who, &self.live().ledger, &event)?;
                self.live().recreations += u64::from(matches!(event, Event::TopicRecreated { .. }));
                forget_looks(&event, &mut self.live().looked);
                if let Event::RunProduced { run, .. } = event
                    && env.has(Fault::SucceedAtDraining)
                {
                    early.push(Event::RunSucceeded { run });
                }
                let wall = env.wall();
                let live = self.live.as_mut().expect("only a process that is up says anything");
                let recorded = journal::next(&live.ledger, wall, event);
                live.ledger.evolve(&recorded);
                env.urgent[who] |= is_waited_for(&recorded.event);
                self.journal.append(recorded);
            }
            early.extend(self.due(env));
            events = early;
        }
        Ok(())
    }

    fn due(&self, env: &Env) -> Vec<Event> {
        let Some(live) = &self.live else { return Vec::new() };
        live.ledger.due(live.looked.as_ref().filter(|_| !env.has(Fault::SucceedUnlooked)))
    }

    /// As in `Ledger::saw_topic`.
    pub(super) fn saw_topic(&mut self, who: usize, env: &mut Env) -> Kept {
        if env.has(Fault::IgnoreTopicId) {
            return Ok(());
        }
        let id = env.broker.topic_id();
        self.live().looked.get_or_insert_with(BTreeMap::new);
        self.submit(who, env, Command::Identified { id })
    }

    /// As in `Keeper::look` and `Ledger::looked_at_topic`.
    pub(super) fn look(&mut self, who: usize, env: &mut Env) -> Kept {
        let (before, written) = (self.live().recreations, self.live().ledger.written());
        self.saw_topic(who, env)?;
        if self.live().recreations != before {
            return Ok(());
        }
        self.live().looked = Some(written);
        let due = self.due(env);
        self.apply(who, env, due)
    }

    /// Whether there is something to be learned by a look at the topic.
    pub(super) fn wants_a_look(&self, env: &Env) -> bool {
        let Some(live) = &self.live else { return false };
        let another = live.ledger.topic_id != Some(env.broker.topic_id());
        !env.has(Fault::LookWhenAssigned) && (another || !live.ledger.due(None).is_empty()) && !env.has(Fault::IgnoreTopicId)
    }

    /// Some of what was appended becomes durable.
    pub(super) fn sync(&mut self, who: usize, env: &mut Env) {
        let loose = self.journal.loose();
        // Where somebody waits, all of it goes to the disk.
        let more = if env.urgent[who] { loose } else { env.rng.random_range(0..=loose) };
        env.urgent[who] = false;
        self.journal.sync(more);
        let durable = self.journal.durable();
        let truth = &mut env.truth;
        for &(_, run, _) in truth.asked.iter().filter(|&&(asked, _, seq)| asked == who && seq <= durable) {
            truth.promised.push((who, run));
        }
        truth.asked.retain(|&(asked, _, seq)| asked != who || seq > durable);
    }
}
