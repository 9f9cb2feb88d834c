//! What a simulated fetcher asks for and is answered where the API gives only what is new, and what
//! must hold then.

use std::collections::HashSet;

use chrono::TimeDelta;
use forebay_schemas::event::Event;
use forebay_schemas::source_read::{Position, Read, Validators};
use forebay_schemas::watermark::{Mark, MarkFormat};
use uuid::Uuid;

use super::Fault;
use super::api::{Content, READS};
use super::invariants::{Checked, Invariant, Violation, holds, violation};
use super::process::Process;
use super::reads::{read, read_of};
use super::source::{Cursor, Source, Version};
use super::world::{Env, World};
use crate::fetcher::pagination::{NextCursor, PageInfo};
use crate::fetcher::validators;
use crate::fetcher::watermark::{FetchPass, PageMarks, Seen};
use crate::ledger::{Command, State as Ledger};

/// The most runs that a last pass takes: each reads three pages, of one record at least.
const MAX_LAST_RUNS: usize = 12;

/// What a page under way asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    watermark: Option<String>,
    seen: Seen,
    validators: Option<Validators>,
}

impl Process {
    /// A page is requested, as in `Fetcher::fetch`.
    pub(super) fn asks(&mut self, env: &Env, run: Uuid, position: &Position) {
        let live = self.live();
        let mut asked = Asked::default();
        match &env.scenario.source {
            Source::Page | Source::Cursors => return,
            Source::Conditional => asked.validators = live.ledger.validators_of(run).cloned(),
            Source::Incremental(section) => {
                let (is_first, mut known) = (*position == Position::Begin, live.ledger.watermark_of(run).cloned());
                if env.has(Fault::PassAsksFromReached)
                    && let Some(pass) = known.as_mut().and_then(|known| known.pass.as_mut())
                {
                    pass.asked = section.asked(pass.reached.as_deref().and_then(Mark::parse));
                }
                let later = if env.has(Fault::WatermarkPastRequest) { TimeDelta::days(1_000) } else { TimeDelta::zero() };
                let now = env.wall() + later;
                let fetch = live.fetcher.fetch_mut(run).expect("it is under way");
                let pass = fetch.pass(|| FetchPass::of_fetch(section, known, is_first, now));
                (asked.watermark, asked.seen) = (pass.asked().map(str::to_owned), pass.seen());
            }
        }
        live.asked.insert(run, asked);
    }

    /// The API answers a request for what is new.
    pub(super) fn answer_with_changes(&mut self, who: usize, env: &mut Env, run: Uuid) -> Result<(Vec<Content>, PageInfo), Violation> {
        let live = self.live();
        let (asked, read) = (live.asked.remove(&run).unwrap_or_default(), read_of(&live.ledger, run));
        let Source::Incremental(section) = &env.scenario.source else { return self.answer_or_unchanged(who, env, run, &asked) };
        let cursor = live.fetcher.cursor(run).map(Cursor::parse);
        let from = asked.watermark.as_deref().unwrap_or_default();
        if let Some(cursor) = cursor.as_ref().filter(|cursor| cursor.asked != from) {
            violation(Invariant::PassesAskTheSame, || format!("run {run} asks from {from:?} at cursor {cursor} of read {read}"))?;
        }
        let format = section.param_format.unwrap_or_default();
        let (versions, next) = env.changes.page(read, asked.watermark.as_deref(), cursor.as_ref(), format, env.scenario.page);
        let fetched = if env.has(Fault::SeenWhenFetched) && asked.watermark.is_some() { Some(&mut self.fetched) } else { None };
        let (records, marks) = marked(&versions, &asked.seen, fetched);
        let next = next.map_or(NextCursor::Null, |next| NextCursor::Cursor(next.to_string()));
        Ok((records, PageInfo { next, marks, ..PageInfo::default() }))
    }

    fn answer_or_unchanged(&mut self, who: usize, env: &mut Env, run: Uuid, asked: &Asked) -> Result<(Vec<Content>, PageInfo), Violation> {
        let number = read_of(&self.live().ledger, run);
        let records = env.changes.answer(number).to_vec();
        if asked.validators.as_ref().is_some_and(|known| env.changes.is_unchanged(number, known)) {
            is_last_appended(env, (who, number), records.into_iter(), Invariant::UnchangedIsProduced)?;
            return Ok((Vec::new(), PageInfo { is_unchanged: true, ..PageInfo::default() }));
        }
        let (etag, last_modified, date) = env.changes.headers(number, env.now_ms());
        let date = if env.has(Fault::LastModifiedOfThisSecond) { "Fri, 31 Dec 2100 00:00:00 GMT" } else { &date };
        let validators = validators::of_answer(etag, last_modified, Some(date));
        if !env.has(Fault::ValidatorsOutliveTheirAnswer) {
            self.submit(who, env, Command::ForgetValidators { run, answer: validators.clone() })?;
            // Nothing is produced before that is durable.
            env.urgent[who] = true;
            self.sync(who, env);
        }
        if env.has(Fault::ValidatorsWhenFetched)
            && let Some(validators) = validators.clone()
        {
            self.apply(who, env, vec![Event::ValidatorsKept { run, read: read(number), validators }])?;
        }
        Ok((records, PageInfo { validators, ..PageInfo::default() }))
    }

    /// Changes what is recorded of a page as a fault has it.
    pub(super) fn as_a_fault_records(&self, env: &Env, command: &mut Command) {
        let Command::PageProduced { requested, progress, .. } = command else { return };
        if env.has(Fault::PageUndoesSetCursor) {
            *requested = u64::MAX;
        }
        if let Some(progress) = progress.as_mut().filter(|_| env.has(Fault::WatermarkMovesWithPages))
            && let Some(reached) = progress.pass.as_ref().and_then(|pass| pass.reached.clone())
        {
            progress.at = Some(reached);
        }
    }
}

/// The records of a page that were not seen, and its marks, as `MarkReader::read` has them.
fn marked(versions: &[Version], seen: &Seen, mut fetched: Option<&mut HashSet<Uuid>>) -> (Vec<Content>, PageMarks) {
    let (mut records, mut marks) = (Vec::new(), PageMarks::default());
    for version in versions {
        let (mark, hash) = (version.mark(), Uuid::from_u128(version.content.event.into()));
        marks.reached = marks.reached.max(Some(mark));
        marks.records.push((mark, hash));
        let is_known = fetched.as_mut().is_some_and(|fetched| !fetched.insert(hash));
        if seen.contains(&hash) || is_known {
            marks.repeated += 1;
        } else {
            records.push(version.content);
        }
    }
    (records, marks)
}

/// [`Invariant::WatermarkIsProduced`], when a watermark moves.
pub(super) fn watermark_moves(env: &Env, who: usize, ledger: &Ledger, read: &Read, at: &str) -> Checked {
    let Some(number) = (0..READS).find(|&number| self::read(number) == *read) else { return Ok(()) };
    let before = ledger.watermarks.get(read).and_then(|known| known.at.as_deref()).and_then(Mark::parse);
    let to = Mark::parse(at);
    holds(Invariant::WatermarkIsProduced, before <= to, || format!("the watermark of read {number} goes back from {before:?} to {at}"))?;
    let shown = |version: &&Version| MarkFormat::UnixMs.read(&version.shown.to_string()) < to;
    let missing = env.changes.current(number).filter(shown).find(|version| is_missing(env, who, &version.content));
    holds(Invariant::WatermarkIsProduced, missing.is_none(), || format!("read {number} is at {at}, and {missing:?} was never acknowledged"))
}

fn is_missing(env: &Env, who: usize, record: &Content) -> bool {
    record.key.is_some() && !env.oracle.produced.contains(&(who, record.event))
}

/// Checks that the records of a read were acknowledged, and that what was appended last of their
/// keys are they.
fn is_last_appended(env: &Env, of: (usize, usize), mut records: impl Iterator<Item = Content>, invariant: Invariant) -> Checked {
    let is_older = |record: &Content| record.key.is_some() && env.oracle.last_appended.get(&(of, record.key)) != Some(&record.event);
    let missing = records.find(|record| is_missing(env, of.0, record) || is_older(record));
    holds(invariant, missing.is_none(), || {
        let last = missing.and_then(|record| env.oracle.last_appended.get(&(of, record.key)));
        format!("{missing:?} of process and read {of:?} is not the last one of its key, which is {last:?}")
    })
}

impl World {
    /// Reads every source that gives only what is new to its end, and checks that everything is in
    /// the topic.
    pub(super) fn read_what_is_new(&mut self) -> Checked {
        let who = self.env.scenario.processes - 1;
        // A pass that is under way has begun before the faults stopped.
        let under_way = self.passes_under_way(who, (0..READS).collect());
        for mut left in [(0..READS).collect(), under_way] {
            let mut runs = 0;
            while !left.is_empty() {
                holds(Invariant::Liveness, runs < MAX_LAST_RUNS, || format!("the passes of reads {left:?} do not end"))?;
                runs += 1;
                for &read in &left {
                    self.request_last(who, read)?;
                }
                self.rest()?;
                left = self.passes_under_way(who, left);
            }
        }
        let env = &self.env;
        for number in 0..READS {
            let of = (who, number);
            is_last_appended(env, of, env.changes.answer(number).iter().copied(), Invariant::UnchangedIsProduced)?;
            is_last_appended(env, of, env.changes.current(number).map(|version| version.content), Invariant::WatermarkIsProduced)?;
        }
        Ok(())
    }

    /// Requests a run that continues a read, with a key of its own.
    fn request_last(&mut self, who: usize, read: usize) -> Checked {
        let key = u32::try_from(READS * (1_000 + self.taken as usize) + read).expect("it is small");
        self.processes[who].request(who, &mut self.env, key, 1)
    }

    fn passes_under_way(&mut self, who: usize, mut reads: Vec<usize>) -> Vec<usize> {
        let cursors = &self.processes[who].live().ledger.cursors;
        reads.retain(|&number| cursors.position(&read(number)) != Position::Begin);
        reads
    }
}
