//! The ingest of a simulated process: the states of the fetcher and the producer in a minimal
//! shell.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_schemas::event::Event;
use forebay_schemas::run::{Cancelled, RunSpec};
use forebay_schemas::source_read::{Position, Read, ReadMode};
use rand::Rng;
use rand::seq::SliceRandom;
use uuid::Uuid;

use super::Fault;
use super::api::{Content, READS};
use super::broker::At;
use super::invariants::{self, Acknowledged, Checked};
use super::process::Process;
use super::reads::{begins, number, page_of, params, read, read_of, window};
use super::source::Source;
use super::world::Env;
use crate::fetcher::Schedule;
use crate::fetcher::deliveries::Deliveries;
use crate::fetcher::pagination::{NextCursor, PageInfo, PageLimits};
use crate::fetcher::state::{Effect, Failure, State as Fetcher};
use crate::ledger::{Accepted, Command, State as Ledger};
use crate::message::{PageProduced, PageRefused};
use crate::producer::error::ProduceError;
use crate::producer::state::{DeliveryTracker, Destination};
use forebay_schemas::error_class::Class;

/// A page as the API gave it: its run and its records.
pub(super) type Fetched = (Uuid, Vec<Content>);
/// How an attempt to produce a page ended, and where its records are.
pub(super) type Produced = (Result<PageProduced, PageRefused>, Vec<(At, u64)>);

/// A page on its way to the topic.
#[derive(Debug)]
pub(super) struct Page {
    attempt: u64,
    run: Uuid,
    /// The process, and the read.
    of: (usize, usize),
    records: Vec<Content>,
    appended: usize,
    /// Acknowledgements on their way back.
    pub(super) acks: Vec<(Destination, At, u64)>,
    acknowledged: Vec<(At, u64)>,
    tracker: DeliveryTracker,
}

impl Page {
    fn new(attempt: u64, run: Uuid, of: (usize, usize), records: Vec<Content>) -> Self {
        Self { attempt, run, of, records, appended: 0, acks: Vec::new(), acknowledged: Vec::new(), tracker: DeliveryTracker::default() }
    }

    pub(super) fn to_append(&self) -> usize {
        self.records.len() - self.appended
    }
}

/// A fetcher with these open runs. It reads page after page, where the API gives cursors.
pub(super) fn new_fetcher(env: &Env, schedule: Schedule, ledger: &Ledger, open: Vec<Uuid>) -> Fetcher {
    let open = open.into_iter().map(|run| (run, read_to_wait_for(env, ledger, run)));
    let fetcher = Fetcher::new(schedule, env.now(), open).with_max_active(env.scenario.max_active);
    let restarts = match &env.scenario.source {
        Source::Cursors => env.scenario.restarts,
        Source::Incremental(_) => true,
        Source::Page | Source::Conditional => return fetcher,
    };
    let fetcher = fetcher.with_fetch_ahead(env.scenario.fetch_ahead);
    fetcher.with_cursors(None, PageLimits { max_pages: 3, max_empty_pages: 2, restarts, ..PageLimits::ONE_PAGE })
}

/// The read of a run; a fault makes it one of its own, so that the run waits for no other.
fn read_to_wait_for(env: &Env, ledger: &Ledger, run: Uuid) -> Read {
    match env.has(Fault::FetchReadTwiceAtOnce) {
        true => Read::of(&BTreeMap::from([("run".to_owned(), run.to_string())])),
        false => ledger.read_of(run),
    }
}

impl Process {
    /// A client requests a run.
    pub(super) fn request(&mut self, who: usize, env: &mut Env, key: u32, attempt: u32) -> Checked {
        let fresh = env.fresh();
        let mode = match (key, attempt) {
            (0, 2) | (4, 1) => Some(ReadMode::Again),
            (1, 3) => Some(ReadMode::Continue),
            _ => None,
        };
        let of = key as usize % READS;
        let spec = RunSpec { params: params(of), window: window(of), read: mode, ..RunSpec::default() };
        let key = format!("k{key}");
        let ledger = &self.live().ledger;
        let Ok(accepted) = ledger.runs.request(&key, attempt, &spec, fresh) else { return Ok(()) };
        if let Accepted::New(run) = accepted {
            let requested = ledger.requested(run, (&key, attempt), spec);
            self.apply(who, env, vec![requested])?;
            let (now, fresh) = (env.now(), env.fresh());
            let read = read_to_wait_for(env, &self.live().ledger, run);
            let effects = self.live().fetcher.trigger(run, read, now, fresh);
            self.act(who, env, effects)?;
        }
        let seq = self.live().ledger.seq;
        env.oracle.asked.push((who, accepted.id(), seq));
        Ok(())
    }

    /// An operator sets the cursor of a read back.
    pub(super) fn set_cursor(&mut self, who: usize, env: &mut Env) -> Checked {
        let read = read(env.rng.random_range(0..READS));
        let to = if env.scenario.source.has_cursors() {
            match env.rng.random_range(0..=page_of(&self.live().ledger.cursors.position(&read))) {
                0 => Position::Begin,
                page => Position::of(Some(&page.to_string())),
            }
        } else {
            Position::Begin
        };
        self.submit(who, env, Command::SetCursor { read, to, by: "admin".into(), reason: "to be read again".into() })
    }

    /// A client cancels a run.
    pub(super) fn cancel(&mut self, who: usize, env: &mut Env) -> Checked {
        let Some(run) = self.live().ledger.runs.recent(2).into_iter().find(|run| !run.terminal) else { return Ok(()) };
        self.submit(who, env, Command::CancelRun { run: run.id, cancelled: Cancelled::default() })?;
        let (now, fresh) = (env.now(), env.fresh());
        let effects = self.live().fetcher.cancel(run.id, now, fresh);
        self.act(who, env, effects)
    }

    /// Starts no more scheduled fetches.
    pub(super) fn stop_schedule(&mut self) {
        self.live().fetcher.stop_schedule();
    }

    pub(super) fn wake(&mut self, who: usize, env: &mut Env) -> Checked {
        let (now, fresh) = (env.now(), env.fresh());
        let live = self.live();
        live.wake_at = None;
        let effects = live.fetcher.wake(now, fresh);
        self.act(who, env, effects)
    }

    fn act(&mut self, who: usize, env: &mut Env, effects: Vec<Effect>) -> Checked {
        for effect in effects {
            match effect {
                Effect::Fetch(run) => {
                    let live = self.live();
                    live.fetching.push(run);
                    let fetch = live.fetcher.fetch_mut(run).expect("it is under way");
                    let position = fetch.position(live.ledger.seq, || begins(env, &live.ledger, run));
                    self.asks(env, run, &position);
                }
                Effect::WakeAt(at) => self.live().wake_at = Some(at),
                Effect::Record(command) => self.record(who, env, command)?,
                Effect::ScheduledFetchEnded(_) | Effect::Failing { .. } | Effect::Recovered => {}
            }
        }
        let live = self.live();
        live.deliveries.retain(|(run, _)| live.fetcher.unsettled(*run) > 0);
        Ok(())
    }

    /// Submits what the fetcher records to the ledger. A fault makes the ledger decide otherwise.
    fn record(&mut self, who: usize, env: &mut Env, command: Command) -> Checked {
        match command {
            Command::PageProduced { run, ranges, produced, rejected, next: Some(Position::Cursor(cursor)), rejects, .. }
                if env.has(Fault::AgainMovesCursor) && self.live().ledger.runs.get(run).is_some_and(|run| run.again) =>
            {
                let moves = Some(read(read_of(&self.live().ledger, run)));
                self.apply(who, env, vec![Event::PageProduced { run, ranges, produced, rejected, cursor: Some(cursor), moves, rejects }])
            }
            mut command => {
                let before = self.journal.len();
                let set = match &command {
                    Command::PageProduced { run, requested, .. } => self.read_set_since(*run, *requested),
                    _ => None,
                };
                self.as_a_fault_records(env, &mut command);
                self.submit(who, env, command)?;
                invariants::set_cursor_stays(set.as_ref(), self.journal.after(before))
            }
        }
    }

    /// The read of a run, if somebody has set its cursor since an event.
    fn read_set_since(&self, run: Uuid, event: u64) -> Option<Read> {
        let of = read(read_of(&self.live.as_ref()?.ledger, run));
        let sets = |event: &Event| matches!(event, Event::CursorSet { read, .. } if *read == of);
        self.journal.after(event as usize).any(sets).then_some(of)
    }

    /// The API answers.
    pub(super) fn answered(&mut self, who: usize, env: &mut Env) -> Checked {
        let fetching = self.live().fetching.len();
        let run = self.live().fetching.swap_remove(env.rng.random_range(0..fetching));
        let (now, fresh) = (env.now(), env.fresh());
        if env.faults_enabled && env.rng.random_ratio(1, 4) {
            let class = if env.rng.random_ratio(1, 8) { Class::Rejected } else { Class::Transient };
            let retry_after = env.rng.random_ratio(1, 3).then(|| Duration::from_secs(env.rng.random_range(1..20)));
            let effects = self.live().fetcher.failed(
                run,
                Failure { class, retryable: class == Class::Transient, retry_after, message: "unavailable".into() },
                0.5,
                now,
                fresh,
            );
            return self.act(who, env, effects);
        }
        let (max, rng) = (env.scenario.page, &mut env.rng);
        let (records, info) = match &env.scenario.source {
            Source::Page => (env.api.page(max, rng), PageInfo::default()),
            Source::Cursors => {
                let live = self.live();
                let at = (read_of(&live.ledger, run), live.fetcher.cursor(run).map_or(0, number));
                let (records, next) = env.api.page_at(at, max, rng);
                (
                    records,
                    PageInfo { next: next.map_or(NextCursor::Absent, |next| NextCursor::Cursor(next.to_string())), ..PageInfo::default() },
                )
            }
            Source::Incremental(_) | Source::Conditional => self.answer_with_changes(who, env, run)?,
        };
        let count = records.len() as u64 + info.marks.repeated;
        let (produce, effects) = self.live().fetcher.fetched(run, count, now, fresh, info);
        if produce {
            self.live().deliveries.push((run, records));
        }
        self.act(who, env, effects)?;
        self.produce(who, env)
    }

    /// Hands pages to the producer, for the first time or again.
    fn produce(&mut self, who: usize, env: &mut Env) -> Checked {
        // A producer does this before it accepts pages.
        if self.live().confirmed.is_none() {
            self.observe_topic(who, env)?;
        }
        for (attempt, (run, records)) in self.live().deliveries.take_unsent() {
            self.send_page(who, env, attempt, run, records)?;
        }
        Ok(())
    }

    fn send_page(&mut self, who: usize, env: &mut Env, attempt: u64, run: Uuid, records: Vec<Content>) -> Checked {
        *env.oracle.unacknowledged[who].entry(run).or_default() += records.len();
        let of = (who, read_of(&self.live().ledger, run));
        let mut page = Page::new(attempt, run, of, records);
        page.records.iter().for_each(|_| page.tracker.sent());
        let end = page.tracker.seal(None);
        self.live().pages.push(page);
        end.map_or(Ok(()), |end| self.page_ended(who, env, attempt, end))
    }

    /// Kafka appends some more of the pages' records, page after page.
    pub(super) fn append(&mut self, env: &mut Env) {
        let pages = &mut self.live.as_mut().expect("up").pages;
        let mut left = env.rng.random_range(0..=pages.iter().map(Page::to_append).sum());
        for page in pages {
            let more = left.min(page.to_append());
            left -= more;
            Self::append_of(page, more, env);
        }
    }

    fn append_of(page: &mut Page, more: usize, env: &mut Env) {
        for &content in &page.records[page.appended..page.appended + more] {
            let roll = env.rng.random();
            let Some(partition) = content.partition(env.broker.partitions(), roll) else {
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
            let at = At { topic, partition, offset };
            env.oracle.of_runs.insert(at, page.run);
            if env.scenario.source.changes() {
                env.oracle.last_appended.insert((page.of, content.key), content.event);
            }
            page.acks.push((Destination::Topic, at, content.event));
        }
        page.appended += more;
    }

    /// Some acknowledgements of one page come, in any order.
    pub(super) fn acked(&mut self, who: usize, env: &mut Env) -> Checked {
        let pages = &mut self.live.as_mut().expect("up").pages;
        let mut pages: Vec<_> = pages.iter_mut().filter(|page| !page.acks.is_empty()).collect();
        let at = env.rng.random_range(0..pages.len());
        let page = pages.swap_remove(at);
        page.acks.shuffle(&mut env.rng);
        let mut end = None;
        for _ in 0..env.rng.random_range(1..=page.acks.len().max(1)) {
            let Some((to, at, event)) = page.acks.pop() else { break };
            *env.oracle.unacknowledged[who].entry(page.run).or_default() -= 1;
            if to == Destination::Topic {
                page.acknowledged.push((at, event));
            }
            end = page.tracker.acked(to, at.partition, at.offset);
        }
        if end.is_none() && env.has(Fault::ProducedEarly) {
            end = Some(Ok(PageProduced::default()));
        }
        let attempt = page.attempt;
        end.map_or(Ok(()), |end| self.page_ended(who, env, attempt, end))
    }

    /// The producer's client fails, or Kafka refuses a record of a page permanently.
    pub(super) fn producer_breaks(&mut self, who: usize, env: &mut Env) -> Checked {
        // What was sent may still arrive.
        self.append(env);
        let refused = env.rng.random_ratio(1, 6);
        let mut pages = std::mem::take(&mut self.live().pages);
        if refused {
            let at = env.rng.random_range(0..pages.len());
            let page = pages.remove(at);
            self.live().pages = pages;
            let end = self.fails(who, env, page, &ProduceError::Refused(PageRefused("too large".into())));
            return end.map_or(Ok(()), |(attempt, end)| self.attempt_ended(who, env, attempt, end.map(|end| (end, Vec::new()))));
        }
        if env.has(Fault::ResendAbandonedOnly) {
            let page = pages.remove(0);
            self.live().pages = pages;
            *env.oracle.unacknowledged[who].entry(page.run).or_default() -= page.to_append() + page.acks.len();
            let Page { attempt, run, records, .. } = page;
            return self.send_page(who, env, attempt, run, records);
        }
        let broken = ProduceError::Broken { topic: "t".into(), cause: "fenced".into() };
        for page in pages {
            if let Some((attempt, end)) = self.fails(who, env, page, &broken) {
                self.attempt_ended(who, env, attempt, end.map(|end| (end, Vec::new())))?;
            }
        }
        Ok(())
    }

    /// Every record of a page that is not acknowledged fails. Returns the outcome of the attempt;
    /// `None` inside: it is abandoned.
    #[allow(clippy::type_complexity, reason = "an attempt and its outcome")]
    fn fails(
        &self,
        who: usize,
        env: &mut Env,
        mut page: Page,
        error: &ProduceError,
    ) -> Option<(u64, Option<Result<PageProduced, PageRefused>>)> {
        let mut end = None;
        for _ in 0..page.to_append() + page.acks.len() {
            *env.oracle.unacknowledged[who].entry(page.run).or_default() -= 1;
            end = page.tracker.failed(error.clone());
        }
        end.map(|end| {
            let outcome = match end {
                Ok(produced) => Some(Ok(produced)),
                Err(ProduceError::Refused(refused)) => Some(Err(refused)),
                Err(_) => None,
            };
            (page.attempt, outcome)
        })
    }

    /// A page of which every record is acknowledged or failed.
    fn page_ended(&mut self, who: usize, env: &mut Env, attempt: u64, end: Result<PageProduced, ProduceError>) -> Checked {
        let pages = &mut self.live().pages;
        let Some(at) = pages.iter().position(|page| page.attempt == attempt) else { return Ok(()) };
        let page = pages.remove(at);
        let outcome = match end {
            Ok(produced) => Some((Ok(produced), page.acknowledged)),
            Err(ProduceError::Refused(refused)) => Some((Err(refused), Vec::new())),
            Err(_) => None,
        };
        self.attempt_ended(who, env, attempt, outcome)
    }

    fn attempt_ended(&mut self, who: usize, env: &mut Env, attempt: u64, outcome: Option<Produced>) -> Checked {
        let live = self.live();
        if live.deliveries.ended(attempt, outcome) {
            live.deliveries.resume();
            return self.produce(who, env);
        }
        while let Some(((run, _), (outcome, acknowledged))) = self.live().deliveries.settled() {
            let (now, fresh) = (env.now(), env.fresh());
            let effects = match outcome {
                Ok(produced) => {
                    invariants::page_settled(self.live(), &acknowledged)?;
                    let report = Some((who, self.live().ledger.seq + 1));
                    env.oracle.seen.extend(acknowledged.iter().map(|&(_, event)| event));
                    if env.scenario.source.changes() {
                        env.oracle.produced.extend(acknowledged.iter().map(|&(_, event)| (who, event)));
                    }
                    env.oracle.acknowledged.extend(acknowledged.iter().map(|&(at, event)| Acknowledged { run, at, event, report }));
                    self.live().fetcher.produced(run, produced, now, fresh)
                }
                Err(refused) => self.live().fetcher.refused(run, refused, now, fresh),
            };
            self.act(who, env, effects)?;
        }
        Ok(())
    }

    /// The fetcher and the producer restart. What the producer has sent may still arrive.
    pub(super) fn restart_fetcher(&mut self, who: usize, env: &mut Env) -> Checked {
        self.append(env);
        let open = self.live().ledger.runs.unfetched();
        let schedule =
            if env.scenario.scheduled && env.faults_enabled { Schedule::Every(Duration::from_secs(2)) } else { Schedule::OnTrigger };
        let live = self.live();
        let fetcher = new_fetcher(env, schedule, &live.ledger, open);
        live.fetching.clear();
        live.asked.clear();
        live.pages.clear();
        live.deliveries = Deliveries::default();
        live.settled.clear();
        live.fetcher = fetcher;
        env.oracle.unacknowledged[who].clear();
        self.wake(who, env)
    }
}
