//! Plans: what a replay, a redrive or setting a cursor would do, said first, and done only when it still would do exactly that.
//!
//! Guarantee: a plan is applied only with its own hash, which is of all that it would do; what has moved on since makes another one, and that is refused. One
//! is applied at a time, and goes on when its client has gone. Bounded: [`KEPT_MOST`] plans, [`FRESH`] long; they are gone when the process is.
//! Not guaranteed: a replay of partitions that another process reads, or that nobody does; `forebay replay` does it when all are stopped.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use forebay_schemas::api::{Applied, ApplyRequest, ChangePlan, PlanRequest, ReplayFrom};
use forebay_schemas::json_number::MAX_INTEGER;
use forebay_schemas::offset::{Offset, Partition, Ranges};
use forebay_schemas::problem::{self, ProblemType};
use forebay_schemas::read::Position;
use uuid::Uuid;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Asked, Body, reason};
use super::pipelines::this_one;
use super::{Answer, State};
use crate::consumer::{ResetError, ResetRequest};
use crate::ledger::Command;
use crate::operations::cursor::Setting;
use crate::operations::redrive::{self, Redrive, RedriveError, Redriven, Redriver};
use crate::operations::replay;

/// How many plans are kept.
const KEPT_MOST: usize = 64;
/// How long a plan can be applied.
const FRESH: Duration = Duration::from_secs(600);
/// The name space of the hashes.
const HASHES: Uuid = Uuid::from_u128(0x5d1f_53d6_1c1e_4c5e_9f0a_7b1d_2c34_9a10);

/// The plans that were made, and the one that is being applied.
#[derive(Default)]
pub(super) struct Plans {
    kept: Mutex<VecDeque<ChangePlan>>,
    applying: Arc<tokio::sync::Mutex<()>>,
}

impl Plans {
    fn keep(&self, plan: &ChangePlan) {
        let mut kept = self.kept.lock();
        kept.truncate(KEPT_MOST - 1);
        kept.push_front(plan.clone());
    }

    /// A plan that can be applied with this hash now.
    fn find(&self, id: Uuid, hash: &str, now: DateTime<Utc>) -> Result<ChangePlan, ApiError> {
        let Some(plan) = self.kept.lock().iter().find(|plan| plan.id == id).cloned() else {
            return Err(ApiError::new(&problem::PLAN_UNKNOWN, format!("no plan has the id {id}")));
        };
        if plan.expires_at <= now {
            return Err(ApiError::new(&problem::PLAN_EXPIRED, format!("it could be applied until {}", plan.expires_at)));
        }
        if plan.hash != hash {
            return Err(ApiError::new(&problem::PLAN_STALE, format!("the hash {hash:?} is not the plan's, {:?}", plan.hash)));
        }
        Ok(plan)
    }
}

/// What would be done.
struct Draft {
    effects: Vec<String>,
    records: u64,
    ranges: Ranges,
    work: Work,
}

enum Work {
    Redrive(Redrive),
    /// The places that partitions are set back to.
    Replay(BTreeMap<Partition, Offset>),
    Cursor(Setting),
}

impl Draft {
    /// Of all that it would do; for a replay of where it goes back to, since how far that is changes with each record that is written, and
    /// for a cursor of where it is set to, since where it is changes with each page.
    fn hash(&self, request: &PlanRequest) -> String {
        let all = match &self.work {
            Work::Redrive(_) => serde_json::to_vec(&(request, &self.effects, self.records, &self.ranges)),
            Work::Replay(to) => serde_json::to_vec(&(request, to)),
            Work::Cursor(_) => serde_json::to_vec(request),
        };
        Uuid::new_v5(&HASHES, &all.expect("a plan is JSON")).simple().to_string()
    }
}

pub(super) async fn make(state: web::Data<State>, asked: Asked, body: Body<PlanRequest>) -> Answer {
    this_one(&state, &asked)?;
    let Body(request) = body;
    let draft = draft(&state, &request).await?;
    let expires_at = now(&state) + FRESH;
    let hash = draft.hash(&request);
    let Draft { effects, records, ranges, .. } = draft;
    let plan = ChangePlan { id: Uuid::now_v7(), request, hash, effects, records, ranges, expires_at };
    state.plans.keep(&plan);
    Ok(HttpResponse::Created().json(plan))
}

pub(super) async fn apply(state: web::Data<State>, asked: Asked, caller: web::ReqData<Caller>, body: Body<ApplyRequest>) -> Answer {
    let Body(ApplyRequest { hash, reason: why }) = body;
    let why = reason(&why)?;
    let plan = state.plans.find(asked.id(), &hash, now(&state))?;
    let Ok(_one) = Arc::clone(&state.plans.applying).try_lock_owned() else {
        return Err(ApiError::new(&problem::PLAN_BUSY, "plans are applied one at a time"));
    };
    let draft = draft(&state, &plan.request).await?;
    if draft.hash(&plan.request) != plan.hash {
        return Err(ApiError::new(&problem::PLAN_STALE, format!("now it would: {}", draft.effects.join("; "))));
    }
    let by = caller.name();
    let work = {
        let state = state.clone();
        async move {
            let _one = _one;
            do_it(&state, draft, by, why).await
        }
    };
    // A task of its own, so that it is not left half done when its client goes away.
    let Redriven { records, cut } = match tokio::spawn(work).await {
        Ok(end) => end?,
        Err(failed) => return Err(ApiError::new(&problem::KAFKA_AWAY, format!("it broke off: {failed}"))),
    };
    Ok(HttpResponse::Ok().json(Applied { plan: plan.id, records, cut }))
}

/// Says how many records are read or produced again.
async fn do_it(state: &State, draft: Draft, by: &str, why: String) -> Result<Redriven, ApiError> {
    let parts = &state.parts;
    match draft.work {
        Work::Redrive(redrive) => {
            let redriver = Redriver {
                access: &parts.access,
                dead_letter_topic: &parts.pipeline.kafka.dead_letter_topic(),
                topic: &parts.pipeline.kafka.topic,
                ledger: &parts.ledger,
                by,
                reason: &why,
            };
            redriver.apply(&redrive).await.map_err(|error| match error {
                RedriveError::Journal(error) => error.into(),
                error => ApiError::new(&problem::KAFKA_AWAY, error.to_string()),
            })
        }
        Work::Cursor(Setting { read, to, .. }) => {
            parts.ledger.submit(Command::SetCursor { read, to, by: by.to_owned(), reason: why })?;
            parts.ledger.flushed().await?;
            Ok(Redriven::default())
        }
        Work::Replay(to) if to.is_empty() => Ok(Redriven::default()),
        Work::Replay(to) => {
            let Some(resets) = &parts.resets else {
                return Err(ApiError::new(&problem::REPLAY_GROUP, "it has not the role `egress`, so it reads none"));
            };
            let end = resets.ask(ResetRequest { to, by: by.to_owned(), reason: why }).await;
            end.map(|_| Redriven { records: draft.records, cut: 0 })
                .map_err(|error| ApiError::new(reset_problem(&error), error.to_string()))
        }
    }
}

fn reset_problem(error: &ResetError) -> &'static ProblemType {
    match error {
        ResetError::NotAssigned(_) => &problem::REPLAY_GROUP,
        ResetError::NotReading | ResetError::InFlight => &problem::REPLAY_BUSY,
        ResetError::Removed { .. } => &problem::PLAN_STALE,
        ResetError::Unanswered(_) | ResetError::Unconfirmed(_) => &problem::KAFKA_AWAY,
        ResetError::Journal(_) => &problem::JOURNAL_FAILED,
    }
}

fn now(state: &State) -> DateTime<Utc> {
    state.parts.clock.wall().into()
}

async fn draft(state: &State, request: &PlanRequest) -> Result<Draft, ApiError> {
    match request {
        PlanRequest::Replay { from } => draft_replay(state, from).await,
        PlanRequest::Redrive { letters } => draft_redrive(state, letters.as_ref()).await,
        PlanRequest::Cursor { params, to } => draft_cursor(state, params, to),
    }
}

fn draft_cursor(state: &State, params: &BTreeMap<String, String>, to: &Position) -> Result<Draft, ApiError> {
    let parts = &state.parts;
    if parts.fetcher.is_none() {
        return Err(ApiError::new(&problem::PIPELINE_NO_FETCHER, "it has no [fetcher], or runs without the role `ingest`"));
    }
    let setting = Setting::plan(&parts.pipeline, &parts.ledger.cursors(), params, to.clone());
    let setting = setting.map_err(|error| ApiError::new(&problem::PLAN_SPEC, error.to_string()))?;
    Ok(Draft { effects: setting.effects(), records: 0, ranges: Ranges::default(), work: Work::Cursor(setting) })
}

async fn draft_replay(state: &State, from: &ReplayFrom) -> Result<Draft, ApiError> {
    let parts = &state.parts;
    let Some(consumer) = &parts.pipeline.consumer else {
        return Err(ApiError::new(&problem::PIPELINE_NO_CONSUMER, "it has no [consumer] whose offsets could be moved"));
    };
    let topic = &parts.pipeline.kafka.topic;
    let moves = replay::plan_all(&parts.access, (&consumer.group, topic), &parts.ledger.checkpoints(), from).await?;
    if let ReplayFrom::Offsets(offsets) = from {
        let there = |partition: &Partition| moves.iter().any(|each| each.partition == *partition);
        named_are_there(topic, offsets.0.keys(), there)?;
        if let Some((partition, offset)) = offsets.0.iter().find(|(_, offset)| !is_offset(**offset)) {
            return Err(ApiError::new(&problem::PLAN_SPEC, format!("{offset} of partition {partition} is not in 0 to {MAX_INTEGER}")));
        }
    }
    let range = |each: &replay::Move| each.to.map(|from| (each.partition, forebay_schemas::offset::Range { from, to: each.end }));
    let mut effects: Vec<String> = moves.iter().map(ToString::to_string).collect();
    if moves.iter().any(|each| each.to.is_some()) {
        effects.push(replay::FOLLOWS.to_owned());
    }
    Ok(Draft {
        effects,
        records: moves.iter().map(|each| each.again).sum(),
        ranges: moves.iter().filter_map(range).collect(),
        work: Work::Replay(moves.iter().filter_map(|each| Some((each.partition, each.to?))).collect()),
    })
}

async fn draft_redrive(state: &State, wanted: Option<&Ranges>) -> Result<Draft, ApiError> {
    let parts = &state.parts;
    let (dead, topic) = (parts.pipeline.kafka.dead_letter_topic(), &parts.pipeline.kafka.topic);
    if let Some((partition, range)) =
        wanted.and_then(|wanted| wanted.0.iter().find(|(_, range)| !is_offset(range.from) || !is_offset(range.to) || range.to < range.from))
    {
        return Err(ApiError::new(&problem::PLAN_SPEC, format!("{range} of partition {partition} is no range of offsets")));
    }
    let redrive = redrive::plan(&parts.access, &dead, &parts.ledger, wanted).await?;
    if let Some(wanted) = wanted {
        named_are_there(&dead, wanted.0.keys(), |partition| redrive.held.contains_key(partition))?;
    }
    let mut effects: Vec<String> = redrive
        .letters
        .iter()
        .map(|(partition, range)| format!("{dead} p{partition}: letters {range} into {topic} again, {} of them at most", range.len()))
        .collect();
    if redrive.is_empty() {
        effects.push("nothing: there is no such letter that was not redriven already".into());
    } else {
        effects.push("each counts as a new record: it wins over what was written since for its key".into());
        effects.push(format!("the letters stay in {dead}, and the journal keeps that they were redriven"));
        effects
            .push(format!("of a letter whose value is cut the record is taken from {topic}, or left where that does not hold it any more"));
    }
    if redrive.left > 0 {
        effects.push(format!("{} more are left for another plan", redrive.left));
    }
    let mut ranges = Ranges::default();
    redrive.letters.iter().for_each(|&(partition, range)| ranges.add(partition, range));
    Ok(Draft { effects, records: redrive.len(), ranges, work: Work::Redrive(redrive) })
}

fn is_offset(offset: i64) -> bool {
    u64::try_from(offset).is_ok_and(|offset| offset <= MAX_INTEGER)
}

fn named_are_there<'a>(
    topic: &str,
    mut named: impl Iterator<Item = &'a Partition>,
    there: impl Fn(&Partition) -> bool,
) -> Result<(), ApiError> {
    match named.find(|partition| !there(partition)) {
        Some(partition) => Err(ApiError::new(&problem::PLAN_SPEC, format!("{topic} has no partition {partition}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;

    use super::*;

    fn plan(n: u128, expires_at: DateTime<Utc>) -> ChangePlan {
        let request = PlanRequest::Redrive { letters: None };
        ChangePlan { id: Uuid::from_u128(n), request, hash: "h".into(), effects: vec![], records: 0, ranges: Ranges::default(), expires_at }
    }

    fn status(found: Result<ChangePlan, ApiError>) -> u16 {
        found.map_or_else(|refusal| refusal.status_code().as_u16(), |_| 200)
    }

    #[test]
    fn a_plan_is_found_with_its_hash_until_it_expires_and_is_bounded() {
        let (plans, start) = (Plans::default(), DateTime::UNIX_EPOCH);
        plans.keep(&plan(1, start + FRESH));
        let find = |n, hash, now| status(plans.find(Uuid::from_u128(n), hash, now));
        assert_eq!(find(1, "h", start), 200);
        assert_eq!(find(1, "other", start), 409);
        assert_eq!(find(1, "h", start + FRESH), 410);
        assert_eq!(find(2, "h", start), 404);
        (2..2 + KEPT_MOST as u128).for_each(|n| plans.keep(&plan(n, start + FRESH)));
        assert_eq!(find(1, "h", start), 404, "the oldest goes");
        assert_eq!(plans.kept.lock().len(), KEPT_MOST);
    }

    #[test]
    fn the_hash_is_of_the_request_and_of_all_that_would_be_done() {
        let draft = |effects: &str, records, work| Draft { effects: vec![effects.into()], records, ranges: Ranges::default(), work };
        let redrive = || Work::Redrive(Redrive { held: BTreeMap::new(), letters: vec![], left: 0 });
        let request = PlanRequest::Redrive { letters: None };
        let hash = draft("a", 1, redrive()).hash(&request);
        assert_eq!(hash, draft("a", 1, redrive()).hash(&request));
        assert_ne!(hash, draft("b", 1, redrive()).hash(&request));
        assert_ne!(hash, draft("a", 2, redrive()).hash(&request));

        let replay = |to| Work::Replay(BTreeMap::from([(0, to)]));
        let request = PlanRequest::Replay { from: ReplayFrom::Earliest };
        let hash = draft("a", 1, replay(0)).hash(&request);
        assert_ne!(hash, draft("a", 1, replay(1)).hash(&request));
        assert_eq!(
            hash,
            draft("b", 2, replay(0)).hash(&request),
            "how many records follow is no part of it: while the pipeline runs that grows"
        );
    }
}
