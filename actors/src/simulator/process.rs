//! A process: the real state machines, and the least of a shell around them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forebay_schemas::event::{Event, Place, Start};
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::pipeline::{BatchTable, Bytes};
use rand::Rng;
use rand::seq::SliceRandom;
use uuid::Uuid;

use super::Fault;
use super::api::Content;
use super::broker::At;
use super::invariants::{self, Acknowledged, Invariant, Kept, broken};
use super::journal::{self, Journal};
use super::store::Write;
use super::world::{Ask, Env};
use crate::consumer::forming::{Incoming, Limits};
use crate::consumer::metadata_of;
use crate::consumer::start::{Found, find};
use crate::consumer::state::{Commit, Fate, MOST_IN_FLIGHT, Pace, State as Consumer};
use crate::fetcher::Schedule;
use crate::fetcher::state::{Effect, Failure, Report, State as Fetcher};
use crate::kernel::Class;
use crate::ledger::{Accepted, Command, State as Ledger, is_waited_for};
use crate::message::{PageProduced, PageRefused, RECORD_OVERHEAD};
use crate::producer::ProduceError;
use crate::producer::state::{Destination, Tally};
use crate::writer::state::Desk;

/// What each record weighs: a key of two bytes, a value of nine.
pub(super) const RECORD_WEIGHT: usize = 2 + 9 + RECORD_OVERHEAD;

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
    /// The lineage and the topic of each assignment.
    lineages: BTreeMap<Partition, (u32, u32)>,
    /// Which incarnation of the consumer it is, of all there are in the history.
    pub(super) birth: u64,
    pub(super) generation: u64,
    /// Partitions that are to go when what is in flight of them is written and committed.
    pub(super) revoking: Vec<Partition>,
    /// The group has put it out, and it does not know yet.
    pub(super) fenced: bool,
    pub(super) batches: Vec<Batch>,
    desk: Desk<u64>,
    pub(super) answer: Option<(Vec<Commit>, bool)>,
    fetcher: Fetcher,
    pub(super) wake_at: Option<Instant>,
    pub(super) fetching: Option<Uuid>,
    pub(super) page: Option<Page>,
    /// Rows and dead letters that the store acknowledged.
    pub(super) acknowledged: (u64, u64),
    /// Rows and dead letters in the events.
    pub(super) counted: (u64, u64),
}

/// A batch in flight.
#[derive(Debug)]
pub(super) struct Batch {
    id: u64,
    ranges: Ranges,
    /// What is not acknowledged yet.
    left: Vec<Write>,
    rows: u64,
    rejected: u64,
    attempts: u64,
    pub(super) stage: Stage,
}

/// Where a batch in flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Raw,
    Waiting,
    UnderWay,
}

/// A page on its way into the topic.
#[derive(Debug)]
pub(super) struct Page {
    run: Uuid,
    records: Vec<Content>,
    appended: usize,
    /// Acknowledgements on their way back.
    pub(super) acks: Vec<(Destination, At, u64)>,
    acknowledged: Vec<(At, u64)>,
    tally: Tally,
}

impl Page {
    fn new(run: Uuid, records: Vec<Content>) -> Self {
        Self { run, records, appended: 0, acks: Vec::new(), acknowledged: Vec::new(), tally: Tally::default() }
    }

    pub(super) fn to_append(&self) -> usize {
        self.records.len() - self.appended
    }
}

fn new_consumer(env: &Env) -> Consumer {
    let table = BatchTable { max_records: env.weather.max_records, max_bytes: Bytes(1 << 16), ..Default::default() };
    Consumer::new(Limits::of(&table))
}

impl Process {
    /// Begins: out of what the journal holds.
    pub(super) fn start(&mut self, who: usize, env: &mut Env) -> Kept {
        let forgotten = env.has(Fault::ForgetEvent).then(|| self.journal.len() / 2);
        let ledger = self.journal.fold(forgotten);
        let open = if env.has(Fault::ForgetOpenRuns) { Vec::new() } else { ledger.runs.unfetched() };
        let schedule = if env.weather.scheduled { Schedule::Every(Duration::from_secs(2)) } else { Schedule::OnTrigger };
        self.live = Some(Live {
            ledger,
            consumer: new_consumer(env),
            pace: Pace::default(),
            positions: BTreeMap::new(),
            lineages: BTreeMap::new(),
            birth: env.fresh_birth(),
            generation: 0,
            revoking: Vec::new(),
            fenced: false,
            batches: Vec::new(),
            desk: Desk::default(),
            answer: None,
            fetcher: Fetcher::new(schedule, env.now(), open),
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

    fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("only a process that is up does anything")
    }

    // --- the ledger, as in `Ledger::submit`, `Ledger::saw` and `Ledger::apply`

    fn submit(&mut self, who: usize, env: &mut Env, command: Command) -> Kept {
        match self.live().ledger.decide(command) {
            Ok(events) => self.apply(who, env, events),
            Err(rejection) => {
                env.note(|| format!("  rejected: {rejection}"));
                Ok(())
            }
        }
    }

    fn apply(&mut self, who: usize, env: &mut Env, mut events: Vec<Event>) -> Kept {
        while !events.is_empty() {
            let mut early = Vec::new();
            for event in events {
                env.note(|| format!("  event: {event:?}"));
                invariants::at_event(env, who, &event)?;
                if let Event::RunProduced { run } = event
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
            early.extend(self.live().ledger.due());
            events = early;
        }
        Ok(())
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

    // --- the fetcher and the producer

    /// Somebody asks for a run.
    pub(super) fn request(&mut self, who: usize, env: &mut Env, key: &str, attempt: u32) -> Kept {
        let fresh = env.fresh();
        let Ok(accepted) = self.live().ledger.runs.request(key, attempt, fresh) else { return Ok(()) };
        if let Accepted::New(run) = accepted {
            self.apply(who, env, vec![Event::RunRequested { run, key: key.to_owned(), attempt }])?;
            let (now, fresh) = (env.now(), env.fresh());
            let effects = self.live().fetcher.trigger(run, now, fresh);
            self.act(who, env, effects)?;
        }
        let seq = self.live().ledger.seq;
        env.truth.asked.push((who, accepted.id(), seq));
        Ok(())
    }

    /// Somebody calls a run off.
    pub(super) fn cancel(&mut self, who: usize, env: &mut Env) -> Kept {
        let Some(run) = self.live().ledger.runs.recent(2).into_iter().find(|run| !run.terminal) else { return Ok(()) };
        self.submit(who, env, Command::Cancel { run: run.id })?;
        let (now, fresh) = (env.now(), env.fresh());
        let effects = self.live().fetcher.cancel(run.id, now, fresh);
        self.act(who, env, effects)
    }

    /// No more scheduled fetches.
    pub(super) fn hold(&mut self) {
        self.live().fetcher.hold();
    }

    pub(super) fn wake(&mut self, who: usize, env: &mut Env) -> Kept {
        let (now, fresh) = (env.now(), env.fresh());
        let live = self.live();
        live.wake_at = None;
        let effects = live.fetcher.wake(now, fresh);
        self.act(who, env, effects)
    }

    fn act(&mut self, who: usize, env: &mut Env, effects: Vec<Effect>) -> Kept {
        for effect in effects {
            match effect {
                Effect::Fetch(run) => self.live().fetching = Some(run),
                Effect::WakeAt(at) => self.live().wake_at = Some(at),
                Effect::Report(report) => self.report(who, env, report)?,
                Effect::Trouble(_) | Effect::Well => {}
            }
        }
        Ok(())
    }

    fn report(&mut self, who: usize, env: &mut Env, report: Report) -> Kept {
        let command = match report {
            Report::Started(run) => Command::Start { run },
            Report::Fetched(run, records) => Command::PageFetched { run, records },
            Report::Produced(run, PageProduced { ranges, produced, rejected }) => Command::PageProduced { run, ranges, produced, rejected },
            Report::Finished(run) => Command::AllProduced { run },
            Report::Failed(run, error) => Command::Fail { run, error },
            Report::Throttled(wait, reason) => {
                return self.apply(who, env, vec![Event::SourceThrottled { millis: wait.as_millis() as u64, reason }]);
            }
            Report::ScheduledDone | Report::ScheduledFailed(_) => return Ok(()),
        };
        self.submit(who, env, command)
    }

    /// The API answers.
    pub(super) fn answered(&mut self, who: usize, env: &mut Env) -> Kept {
        let Some(run) = self.live().fetching.take() else { return Ok(()) };
        let (now, fresh) = (env.now(), env.fresh());
        if env.trouble && env.rng.random_ratio(1, 4) {
            let class = if env.rng.random_ratio(1, 8) { Class::Rejected } else { Class::Transient };
            let retry_after = env.rng.random_ratio(1, 3).then(|| Duration::from_secs(env.rng.random_range(1..20)));
            let effects = self.live().fetcher.failed(Failure { class, retry_after, message: "away".into() }, 0.5, now, fresh);
            return self.act(who, env, effects);
        }
        let partitions = env.broker.partitions();
        let records = env.api.page(env.weather.page, partitions, &mut env.rng);
        let (produce, effects) = self.live().fetcher.fetched(records.len() as u64, now, fresh);
        self.act(who, env, effects)?;
        if produce { self.produce(who, env, run, records) } else { Ok(()) }
    }

    /// A page is handed to the producer, for the first time or again.
    fn produce(&mut self, who: usize, env: &mut Env, run: Uuid, records: Vec<Content>) -> Kept {
        env.truth.unacknowledged[who] = records.len();
        let mut page = Page::new(run, records);
        page.records.iter().for_each(|_| page.tally.sent());
        let end = page.tally.seal(None);
        self.live().page = Some(page);
        end.map_or(Ok(()), |end| self.page_ended(who, env, end))
    }

    /// Kafka appends some more of the page's records.
    pub(super) fn append(&mut self, env: &mut Env) {
        let Some(page) = &mut self.live.as_mut().expect("up").page else { return };
        let more = env.rng.random_range(0..=page.to_append());
        for &content in &page.records[page.appended..page.appended + more] {
            let Some(partition) = content.partition() else {
                page.acks.push((Destination::DeadLetters, At::default(), content.event));
                continue;
            };
            let (now, roll) = (env.now_ms(), env.rng.random());
            let topic = env.broker.topic();
            let offset = if env.has(Fault::DropRecord) && env.rng.random_ratio(1, 4) {
                env.broker.log(partition).end()
            } else {
                env.broker.append(partition, content, now, roll)
            };
            env.note(|| format!("  [{partition}] {offset} is {content:?}"));
            page.acks.push((Destination::Topic, At { topic, partition, offset }, content.event));
        }
        page.appended += more;
    }

    /// Some acknowledgements come, in any order.
    pub(super) fn acked(&mut self, who: usize, env: &mut Env) -> Kept {
        let Some(page) = &mut self.live.as_mut().expect("up").page else { return Ok(()) };
        page.acks.shuffle(&mut env.rng);
        let mut end = None;
        for _ in 0..env.rng.random_range(1..=page.acks.len().max(1)) {
            let Some((to, at, event)) = page.acks.pop() else { break };
            env.truth.unacknowledged[who] -= 1;
            if to == Destination::Topic {
                page.acknowledged.push((at, event));
            }
            end = page.tally.acked(to, at.partition, at.offset);
        }
        if end.is_none() && env.has(Fault::ProducedEarly) {
            end = Some(Ok(PageProduced::default()));
        }
        end.map_or(Ok(()), |end| self.page_ended(who, env, end))
    }

    /// The producer's client breaks, or Kafka refuses a record of the page for good.
    pub(super) fn producer_breaks(&mut self, who: usize, env: &mut Env) -> Kept {
        // What is on its way may arrive all the same.
        self.append(env);
        let refused = env.rng.random_ratio(1, 6);
        let Some(page) = &mut self.live().page else { return Ok(()) };
        let mut end = None;
        for _ in 0..page.to_append() + page.acks.len() {
            end = page.tally.failed(match refused {
                true => ProduceError::Refused(PageRefused("too large".into())),
                false => ProduceError::Broken { topic: "t".into(), cause: "fenced".into() },
            });
        }
        end.map_or(Ok(()), |end| self.page_ended(who, env, end))
    }

    fn page_ended(&mut self, who: usize, env: &mut Env, end: Result<PageProduced, ProduceError>) -> Kept {
        let (now, fresh) = (env.now(), env.fresh());
        let Some(page) = self.live().page.take() else { return Ok(()) };
        let effects = match end {
            Ok(produced) => {
                let (run, report) = (page.run, Some((who, self.live().ledger.seq + 1)));
                env.truth.acknowledged.extend(page.acknowledged.iter().map(|&(at, event)| Acknowledged { run, at, event, report }));
                self.live().fetcher.produced(produced, now, fresh)
            }
            Err(ProduceError::Refused(refused)) => self.live().fetcher.refused(refused, now, fresh),
            // The receipt says abandoned, and the fetcher hands the page to the producer's next incarnation.
            Err(_) => return self.produce(who, env, page.run, page.records),
        };
        self.act(who, env, effects)
    }

    /// The producer's client broke, and nothing of the page counts: it is handed over again.
    pub(super) fn hand_over_again(&mut self, who: usize, env: &mut Env) -> Kept {
        match self.live().page.take() {
            Some(page) => self.produce(who, env, page.run, page.records),
            None => Ok(()),
        }
    }

    /// The fetcher and the producer begin anew; what the producer has sent may arrive.
    pub(super) fn restart_fetcher(&mut self, who: usize, env: &mut Env) -> Kept {
        self.append(env);
        let open = self.live().ledger.runs.unfetched();
        let schedule = if env.weather.scheduled && env.trouble { Schedule::Every(Duration::from_secs(2)) } else { Schedule::OnTrigger };
        let now = env.now();
        let live = self.live();
        (live.page, live.fetching) = (None, None);
        live.fetcher = Fetcher::new(schedule, now, open);
        self.wake(who, env)
    }

    // --- the consumer

    /// Partitions are given to it, as in `Loop::assigned` and `Client::find`.
    pub(super) fn assigned(&mut self, who: usize, env: &mut Env, partitions: &[Partition]) -> Kept {
        let (known, topic) = (self.live().ledger.places(), env.broker.topic());
        let mut starts = BTreeMap::new();
        for &partition in partitions {
            let log = env.broker.log(partition);
            let (begin, end, committed) = (log.begin(), log.end(), env.broker.committed(partition));
            let fresh = env.rng.random();
            let known = known.get(&partition).copied();
            let found = match find(committed, known, (begin, end), fresh) {
                Ok(found) => found,
                Err(out) => return broken(Invariant::Liveness, || format!("[{partition}] has no start: {out:?}, of {begin}..{end}")),
            };
            let Found { mut start, committed } = self.as_the_fault_has_it(env, found, known);
            if committed.is_none() {
                env.broker.commit(partition, start.place, metadata_of(&start.place))?;
            }
            if env.has(Fault::ForgetClock) {
                start.place.clock = 0;
            }
            env.note(|| format!("  [{partition}] starts at {start:?}"));
            let live = self.live();
            live.consumer.assign(partition, start.place, committed.unwrap_or(start.place.offset));
            live.positions.insert(partition, start.place.offset);
            live.lineages.insert(partition, (start.place.lineage, topic));
            env.broker.owners[partition as usize] = Some(who);
            starts.insert(partition, start);
        }
        self.submit(who, env, Command::Assigned { starts: starts.into_iter().collect() })
    }

    fn as_the_fault_has_it(&self, env: &Env, found: Found, known: Option<Place>) -> Found {
        match known {
            Some(place) if env.has(Fault::JournalWins) && place.offset > found.start.place.offset => {
                Found { start: Start { place, ..found.start }, ..found }
            }
            _ => found,
        }
    }

    /// Reads some records of a partition, as in `Loop::read`.
    pub(super) fn poll(&mut self, env: &mut Env) {
        for _ in 0..env.rng.random_range(1..=env.weather.burst) {
            let live = self.live.as_mut().expect("up");
            let ready = |(partition, position): (&Partition, &Offset)| {
                env.broker.log(*partition).next(*position).map(|(offset, stored)| (*partition, offset, stored))
            };
            let count = live.positions.len().max(1);
            let skip = env.rng.random_range(0..count);
            let Some((partition, offset, stored)) = live.positions.iter().cycle().skip(skip).take(count).find_map(ready) else { return };
            let key = stored.content.key.expect("a record in the topic has a key").to_be_bytes();
            let value = stored.content.value();
            let record = Incoming { partition, offset, timestamp_ms: stored.stamp, key: Some(&key), value: Some(&value), headers: &[] };
            if !self.admit(env, &record) {
                return;
            }
            // Now and then the client gives a record again.
            let again = env.rng.random_ratio(1, 32);
            self.live().positions.insert(partition, if again { offset } else { offset + 1 });
        }
    }

    /// As in `Loop::admit`, with all the budget there can be.
    fn admit(&mut self, env: &mut Env, record: &Incoming<'_>) -> bool {
        let live = self.live();
        if live.consumer.fate(record.partition, record.offset) != Fate::Take {
            return true;
        }
        if !live.consumer.forming().fits(record) {
            self.send(env);
        }
        if self.live().consumer.in_flight() >= MOST_IN_FLIGHT && !env.has(Fault::UnboundedFlights) {
            self.send(env);
            return false;
        }
        let now = env.now();
        let _ = self.live().consumer.take(record, || now);
        if self.live().consumer.forming().is_full() {
            self.send(env);
        }
        true
    }

    /// Cuts the forming batch, and hands it on.
    pub(super) fn send(&mut self, env: &mut Env) {
        let live = self.live();
        let Some(cut) = live.consumer.cut() else { return };
        let bytes = |at: &Option<std::ops::Range<u32>>| {
            let at = at.as_ref().expect("a record in the topic has a key and a value");
            &cut.filled.arena[at.start as usize..at.end as usize]
        };
        let writes = cut.filled.records.iter().map(|record| {
            let content = Content::read(bytes(&record.key), bytes(&record.value));
            let (lineage, topic) = live.lineages.get(&record.partition).copied().unwrap_or_default();
            let at = At { topic, partition: record.partition, offset: record.offset };
            let key = content.key.unwrap_or_default();
            Write { at, lineage, key, event: content.event, bad: content.bad, ts: record.write_ts }
        });
        let left: Vec<_> = writes.collect();
        env.note(|| format!("  batch {} is cut: {:?}", cut.id, cut.ranges.0));
        live.batches.push(Batch { id: cut.id, ranges: cut.ranges, left, rows: 0, rejected: 0, attempts: 0, stage: Stage::Raw });
    }

    /// The transformer is done with a batch, and the writer begins it when it may.
    pub(super) fn transform(&mut self) {
        let live = self.live();
        if let Some(batch) = live.batches.iter_mut().find(|batch| batch.stage == Stage::Raw) {
            batch.stage = Stage::Waiting;
            live.desk.arrive(batch.id);
        }
        live.begin_writes();
    }

    /// Some writes of a batch that is under way arrive, and some of the acknowledgements.
    pub(super) fn write(&mut self, who: usize, env: &mut Env) -> Kept {
        let live = self.live.as_mut().expect("up");
        let under_way = || live.batches.iter().enumerate().filter(|(_, batch)| batch.stage == Stage::UnderWay).map(|(at, _)| at);
        let count = under_way().count();
        let Some(at) = (count > 0).then(|| env.rng.random_range(0..count)).and_then(|nth| under_way().nth(nth)) else { return Ok(()) };
        let batch = &mut live.batches[at];
        if env.has(Fault::SettleBeforeWrite) {
            env.zombies.extend(batch.left.drain(..).map(|write| (who, write)));
        }
        batch.left.shuffle(&mut env.rng);
        for _ in 0..env.rng.random_range(0..=batch.left.len()) {
            let Some(&write) = batch.left.last() else { break };
            env.write(write)?;
            batch.attempts += u64::from(!write.bad);
            if env.trouble && env.rng.random_ratio(1, 12) {
                // The acknowledgement is lost: it is written again.
                break;
            }
            batch.left.pop();
            if write.bad {
                batch.rejected += 1;
            } else {
                batch.rows += 1;
            }
        }
        if !batch.left.is_empty() {
            return Ok(());
        }
        let batch = live.batches.remove(at);
        live.desk.done();
        live.begin_writes();
        self.settle(who, env, batch)
    }

    /// As in `Loop::settled`.
    fn settle(&mut self, who: usize, env: &mut Env, batch: Batch) -> Kept {
        let live = self.live();
        let settled = live.consumer.settled(batch.id);
        let rows = if env.has(Fault::CountAttempts) { batch.attempts } else { batch.rows };
        live.acknowledged = (live.acknowledged.0 + batch.rows, live.acknowledged.1 + batch.rejected);
        live.counted = (live.counted.0 + rows, live.counted.1 + batch.rejected);
        let written = settled.moved.into_iter().collect();
        let event = Event::BatchWritten {
            batch: batch.id,
            ranges: batch.ranges,
            rows,
            rejected: batch.rejected,
            wait_micros: 0,
            transform_micros: 0,
            write_micros: 0,
            written,
        };
        self.apply(who, env, vec![event])?;
        invariants::metrics(self.live())
    }

    /// What is to be committed now: of partitions that go, once what is in flight of them is done, or of all when it is time.
    pub(super) fn to_commit(&self, env: &Env) -> Vec<Commit> {
        let Some(live) = self.live.as_ref().filter(|live| !live.pace.is_outstanding()) else { return Vec::new() };
        if !live.revoking.is_empty() {
            return if live.consumer.flies_of(&live.revoking) { Vec::new() } else { live.consumer.unconfirmed(&live.revoking) };
        }
        let due = live.pace.is_due(env.now(), live.consumer.in_flight() == 0);
        if due { live.consumer.to_commit() } else { Vec::new() }
    }

    /// Asks for a commit.
    pub(super) fn ask(&mut self, who: usize, env: &mut Env) {
        let mut commits = self.to_commit(env);
        if commits.is_empty() {
            return;
        }
        let now = env.now();
        let live = self.live();
        live.consumer.asked(&commits);
        live.pace.sent(now);
        if env.has(Fault::CommitOnePast) {
            commits.iter_mut().for_each(|commit| commit.place.offset += 1);
        }
        env.asks.push(Ask { who, birth: live.birth, generation: live.generation, commits });
    }

    /// The answer to a commit comes, as in `Loop::committed`.
    pub(super) fn committed(&mut self, who: usize, env: &mut Env) -> Kept {
        let now = env.now();
        let live = self.live();
        let Some((commits, confirmed)) = live.answer.take() else { return Ok(()) };
        if !confirmed {
            if !env.has(Fault::NeverAskAgain) {
                live.consumer.refused();
            }
            live.pace.failed(now, 0.5);
            return Ok(());
        }
        for commit in &commits {
            live.consumer.confirmed(commit.partition, commit.place.offset);
        }
        live.pace.confirmed();
        let offsets = commits.iter().map(|commit| (commit.partition, commit.place.offset)).collect();
        self.apply(who, env, vec![Event::OffsetsCommitted { offsets }])
    }

    /// Partitions are to go: nothing more is read until they have.
    pub(super) fn revoke(&mut self, env: &mut Env, partitions: Vec<Partition>) {
        if self.live().consumer.forms_of(&partitions) {
            self.send(env);
        }
        self.live().revoking = partitions;
    }

    /// Whether what is in flight of the partitions that go is written and committed.
    pub(super) fn is_drained(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            !live.revoking.is_empty() && !live.consumer.flies_of(&live.revoking) && live.consumer.unconfirmed(&live.revoking).is_empty()
        })
    }

    /// The partitions that were to go are gone, drained or not.
    pub(super) fn revoked(&mut self, who: usize, env: &mut Env) -> Kept {
        let partitions = std::mem::take(&mut self.live().revoking);
        self.gone(who, env, &partitions)
    }

    /// All its partitions were given to others already.
    pub(super) fn lost(&mut self, who: usize, env: &mut Env) -> Kept {
        let partitions: Vec<_> = self.live().consumer.assigned().collect();
        if self.live().consumer.forms_of(&partitions) {
            self.send(env);
        }
        self.live().revoking.clear();
        self.gone(who, env, &partitions)
    }

    fn gone(&mut self, who: usize, env: &mut Env, partitions: &[Partition]) -> Kept {
        let live = self.live();
        live.consumer.revoke(partitions);
        for partition in partitions {
            live.positions.remove(partition);
            let owner = &mut env.broker.owners[*partition as usize];
            *owner = owner.filter(|&owner| owner != who);
        }
        if partitions.is_empty() {
            Ok(())
        } else {
            self.apply(who, env, vec![Event::PartitionsRevoked { partitions: partitions.to_vec() }])
        }
    }

    /// The consumer begins anew, alone or with what is behind it; what is in flight is written all the same, or not.
    pub(super) fn restart_consumer(&mut self, who: usize, env: &mut Env) -> Kept {
        self.abandon(who, env);
        let partitions: Vec<_> = self.live().consumer.assigned().collect();
        let consumer = new_consumer(env);
        let birth = env.fresh_birth();
        let live = self.live();
        (live.consumer, live.birth, live.pace, live.answer, live.desk) = (consumer, birth, Pace::default(), None, Desk::default());
        live.revoking.clear();
        live.positions.clear();
        for partition in &partitions {
            let owner = &mut env.broker.owners[*partition as usize];
            *owner = owner.filter(|&owner| owner != who);
        }
        if partitions.is_empty() { Ok(()) } else { self.apply(who, env, vec![Event::PartitionsRevoked { partitions }]) }
    }

    /// Nobody waits any more for the batches in flight; some of their writes are on their way.
    pub(super) fn abandon(&mut self, who: usize, env: &mut Env) {
        for batch in self.live().batches.drain(..) {
            for write in batch.left {
                if env.rng.random_bool(0.5) {
                    env.zombies.push((who, write));
                }
            }
        }
    }
}

impl Live {
    fn begin_writes(&mut self) {
        while let Some(id) = self.desk.begin() {
            if let Some(batch) = self.batches.iter_mut().find(|batch| batch.id == id) {
                batch.stage = Stage::UnderWay;
            }
        }
    }

    /// Whether a record is to be had.
    pub(super) fn may_poll(&self, env: &Env) -> bool {
        let bounded = self.consumer.in_flight() < MOST_IN_FLIGHT || env.has(Fault::UnboundedFlights);
        bounded
            && self.revoking.is_empty()
            && self.positions.iter().any(|(&partition, &position)| env.broker.log(partition).next(position).is_some())
    }
}
