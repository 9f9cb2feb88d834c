//! Plans of operations: a replay, a redrive or a cursor change is planned first, and applied only
//! if it would still do exactly that.
//!
//! Guarantees:
//! * A plan is applied only with its own hash, which covers everything that it would do. If the
//!   state has changed since, the hash differs and the request is rejected.
//! * One plan is applied at a time, and to the end, even if its client disconnects.
//! * [`MAX_PLANS`] plans are stored for [`PLAN_LIFETIME`], in memory only.
//!
//! Does not guarantee a replay of partitions that no process or another process reads. `forebay
//! replay` does that while every process is stopped.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use chrono::{DateTime, Utc};
use forebay_schemas::api::{Applied, ApplyRequest, ChangePlan, PlanRequest, ReplayFrom};
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::json_integer::MAX_INTEGER;
use forebay_schemas::offset::{Offset, Partition, Range, Ranges};
use forebay_schemas::problem::{self, ProblemType};
use forebay_schemas::source_read::{Position, ReadParams};
use uuid::Uuid;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::{Body, Params, reason};
use super::kafka_records::Mask;
use super::pipelines::check_pipeline;
use super::{ApiResult, State};
use crate::consumer::{ResetError, ResetRequest};
use crate::ledger::Command;
use crate::operations::cursor::CursorChange;
use crate::operations::redrive::{self, Redrive, RedriveError, Redriven, Redriver};
use crate::operations::replay;

/// Stored plans.
const MAX_PLANS: usize = 64;
/// How long a plan can be applied after it was made.
const PLAN_LIFETIME: Duration = Duration::from_secs(600);
/// The UUID namespace of the hashes.
const HASH_NAMESPACE: Uuid = Uuid::from_u128(0x5d1f_53d6_1c1e_4c5e_9f0a_7b1d_2c34_9a10);

/// The stored plans, and the lock of the one that is being applied.
#[derive(Default)]
pub(super) struct Plans {
    stored: Mutex<VecDeque<ChangePlan>>,
    applying: Arc<tokio::sync::Mutex<()>>,
}

impl Plans {
    fn store(&self, plan: &ChangePlan) {
        let mut stored = self.stored.lock();
        stored.truncate(MAX_PLANS - 1);
        stored.push_front(plan.clone());
    }

    /// Finds a plan that can be applied now with this hash.
    fn find(&self, id: Uuid, hash: &str, now: DateTime<Utc>) -> Result<ChangePlan, ApiError> {
        let Some(plan) = self.stored.lock().iter().find(|plan| plan.id == id).cloned() else {
            return Err(ApiError::new(&problem::PLAN_UNKNOWN, format!("there is no plan {id}")));
        };
        if plan.expires_at <= now {
            return Err(ApiError::new(&problem::PLAN_EXPIRED, format!("the plan expired at {}", plan.expires_at)));
        }
        if plan.hash != hash {
            return Err(ApiError::new(&problem::PLAN_STALE, format!("the hash {hash:?} is not the plan's, {:?}", plan.hash)));
        }
        Ok(plan)
    }
}

/// What an operation would do.
struct Draft {
    effects: Vec<String>,
    records: u64,
    ranges: Ranges,
    operation: Operation,
}

enum Operation {
    Redrive(Redrive),
    Drop(Redrive),
    /// The offsets that partitions are reset to.
    Replay(BTreeMap<Partition, Offset>),
    Cursor(CursorChange),
}

impl Draft {
    /// The hash of everything that it would do. For a replay it covers the new offsets, since the
    /// number of records grows with each written one. For a cursor it covers the new position,
    /// since the present one changes with each page.
    fn hash(&self, request: &PlanRequest) -> String {
        let all = match &self.operation {
            Operation::Redrive(redrive) | Operation::Drop(redrive) => {
                serde_json::to_vec(&(request, &self.effects, self.records, &redrive.ranges))
            }
            Operation::Replay(to) => serde_json::to_vec(&(request, to)),
            Operation::Cursor(_) => serde_json::to_vec(request),
        };
        Uuid::new_v5(&HASH_NAMESPACE, &all.expect("a plan serializes to JSON")).simple().to_string()
    }
}

pub(super) async fn make(state: web::Data<State>, params: Params, body: Body<PlanRequest>) -> ApiResult {
    check_pipeline(&state, &params)?;
    let Body(request) = body;
    let draft = draft(&state, &request).await?;
    let expires_at = now(&state) + PLAN_LIFETIME;
    let hash = draft.hash(&request);
    let Draft { effects, records, ranges, .. } = draft;
    let plan = ChangePlan { id: Uuid::now_v7(), request, hash, effects, records, ranges, expires_at };
    state.plans.store(&plan);
    Ok(HttpResponse::Created().json(plan))
}

pub(super) async fn apply(state: web::Data<State>, params: Params, caller: web::ReqData<Caller>, body: Body<ApplyRequest>) -> ApiResult {
    let Body(ApplyRequest { hash, reason: why }) = body;
    let why = reason(&why)?;
    let plan = state.plans.find(params.id(), &hash, now(&state))?;
    let Ok(_one) = Arc::clone(&state.plans.applying).try_lock_owned() else {
        return Err(ApiError::new(&problem::PLAN_BUSY, "another plan is being applied"));
    };
    let draft = draft(&state, &plan.request).await?;
    if draft.hash(&plan.request) != plan.hash {
        return Err(ApiError::new(&problem::PLAN_STALE, format!("the operation would now do: {}", draft.effects.join("; "))));
    }
    let by = caller.name();
    let task = {
        let state = state.clone();
        async move {
            let _one = _one;
            execute(&state, draft, by, why).await
        }
    };
    // A task of its own, so that it completes when the client disconnects.
    let Redriven { records, cut } = match tokio::spawn(task).await {
        Ok(outcome) => outcome?,
        Err(error) => return Err(ApiError::new(&problem::KAFKA_AWAY, format!("aborted: {error}"))),
    };
    Ok(HttpResponse::Ok().json(Applied { plan: plan.id, records, cut }))
}

/// Executes an operation. Returns how many records are read or produced again.
async fn execute(state: &State, draft: Draft, by: &str, why: String) -> Result<Redriven, ApiError> {
    let api = &state.api;
    let redriver = Redriver {
        access: &api.access,
        dead_letter_topic: &api.pipeline.kafka.dead_letter_topic(),
        topic: &api.pipeline.kafka.topic,
        ledger: &api.ledger,
        by,
        reason: &why,
    };
    match draft.operation {
        Operation::Redrive(redrive) => redriver.apply(&redrive).await.map_err(|error| match error {
            RedriveError::Journal(error) => error.into(),
            error => ApiError::new(&problem::KAFKA_AWAY, error.to_string()),
        }),
        Operation::Drop(redrive) => Ok(Redriven { records: redriver.drop_all(&redrive).await?, cut: 0 }),
        Operation::Cursor(CursorChange { read, to, .. }) => {
            api.ledger.submit(Command::SetCursor { read, to, by: by.to_owned(), reason: why })?;
            api.ledger.flushed().await?;
            Ok(Redriven::default())
        }
        Operation::Replay(to) if to.is_empty() => Ok(Redriven::default()),
        Operation::Replay(to) => {
            let Some(resets) = &api.resets else {
                return Err(ApiError::new(&problem::REPLAY_GROUP, "this process runs without the role `egress`, so it reads no partition"));
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
    state.api.clock.wall().into()
}

async fn draft(state: &State, request: &PlanRequest) -> Result<Draft, ApiError> {
    match request {
        PlanRequest::Replay { from } => draft_replay(state, from).await,
        PlanRequest::Redrive { letters, only } => {
            let redrive = plan_redrive(state, letters.as_ref(), only).await?;
            Ok(draft_redrive(state, redrive, only))
        }
        PlanRequest::Drop { letters, only } => {
            let redrive = plan_redrive(state, letters.as_ref(), only).await?;
            Ok(draft_drop(state, redrive, only))
        }
        PlanRequest::Cursor { params, window, to } => {
            draft_cursor(state, &ReadParams { values: params.clone(), window: *window, ..ReadParams::default() }, to)
        }
    }
}

fn draft_cursor(state: &State, params: &ReadParams, to: &Position) -> Result<Draft, ApiError> {
    let api = &state.api;
    if api.fetcher.is_none() {
        return Err(ApiError::new(&problem::PIPELINE_NO_FETCHER, "the pipeline has no [fetcher], or runs without the role `ingest`"));
    }
    let setting = CursorChange::plan(&api.pipeline, &api.ledger.cursors(), params, to.clone());
    let setting = setting.map_err(|error| ApiError::new(&problem::PLAN_SPEC, error.to_string()))?;
    Ok(Draft { effects: setting.effects(), records: 0, ranges: Ranges::default(), operation: Operation::Cursor(setting) })
}

async fn draft_replay(state: &State, from: &ReplayFrom) -> Result<Draft, ApiError> {
    let api = &state.api;
    let Some(consumer) = &api.pipeline.consumer else {
        return Err(ApiError::new(&problem::PIPELINE_NO_CONSUMER, "the pipeline has no [consumer], and so no offsets"));
    };
    let topic = &api.pipeline.kafka.topic;
    let moves = replay::plan_all(&api.access, (&consumer.group, topic), &api.ledger.checkpoints(), from).await?;
    if let ReplayFrom::Offsets(offsets) = from {
        let exists = |partition: &Partition| moves.iter().any(|each| each.partition == *partition);
        ensure_partitions_exist(topic, offsets.0.keys(), exists)?;
        if let Some((partition, offset)) = offsets.0.iter().find(|(_, offset)| !is_offset(**offset)) {
            return Err(ApiError::new(
                &problem::PLAN_SPEC,
                format!("offset {offset} of partition {partition} is not within 0 to {MAX_INTEGER}"),
            ));
        }
    }
    let range = |each: &replay::Move| each.to.map(|from| (each.partition, Range { from, to: each.end }));
    let mut effects: Vec<String> = moves.iter().map(ToString::to_string).collect();
    if moves.iter().any(|each| each.to.is_some()) {
        effects.push(replay::FOLLOWS.to_owned());
    }
    Ok(Draft {
        effects,
        records: moves.iter().map(|each| each.again).sum(),
        ranges: moves.iter().filter_map(range).collect(),
        operation: Operation::Replay(moves.iter().filter_map(|each| Some((each.partition, each.to?))).collect()),
    })
}

/// The dead letters that a redrive or a drop is about.
async fn plan_redrive(state: &State, wanted: Option<&Ranges>, only: &DeadLetterFilter) -> Result<Redrive, ApiError> {
    let api = &state.api;
    let dead = api.pipeline.kafka.dead_letter_topic();
    if let Some((partition, range)) =
        wanted.and_then(|wanted| wanted.0.iter().find(|(_, range)| !is_offset(range.from) || !is_offset(range.to) || range.to < range.from))
    {
        return Err(ApiError::new(&problem::PLAN_SPEC, format!("{range} of partition {partition} is not a range of offsets")));
    }
    let mask = Mask::of(state);
    let matches = (!only.is_empty()).then_some(|letter: &_| mask.matches(letter, only));
    let redrive = redrive::plan(&api.access, &dead, &api.ledger, wanted, matches).await?;
    if let Some(wanted) = wanted {
        ensure_partitions_exist(&dead, wanted.0.keys(), |partition| redrive.existing.contains_key(partition))?;
    }
    Ok(redrive)
}

/// What happens to the dead letters of each partition, and how many remain.
fn letters_effects(dead: &str, redrive: &Redrive, only: &DeadLetterFilter, what: &str) -> Vec<String> {
    let which = if only.is_empty() { String::new() } else { format!(", those {only}") };
    let by_partition = redrive.by_partition();
    let effect = |(partition, ranges): (&Partition, &Vec<Range>)| {
        let (first, last) = (ranges[0], ranges[ranges.len() - 1]);
        let hull = Range { from: first.from, to: last.to };
        let count: u64 = ranges.iter().map(|range| range.len()).sum();
        format!("{dead} p{partition}: {what} dead letters {hull}{which}, at most {count}")
    };
    let mut effects: Vec<String> = by_partition.iter().map(effect).collect();
    if redrive.is_empty() {
        effects.push(format!("nothing: no matching dead letter is left to {what}"));
    }
    effects
}

fn draft_of(mut effects: Vec<String>, redrive: Redrive, operation: impl FnOnce(Redrive) -> Operation) -> Draft {
    if redrive.remaining > 0 {
        effects.push(format!("{} more remain for another plan", redrive.remaining));
    }
    let mut ranges = Ranges::default();
    redrive.ranges.iter().for_each(|&(partition, range)| ranges.add(partition, range));
    Draft { effects, records: redrive.len(), ranges, operation: operation(redrive) }
}

fn draft_redrive(state: &State, redrive: Redrive, only: &DeadLetterFilter) -> Draft {
    let (dead, topic) = (state.api.pipeline.kafka.dead_letter_topic(), &state.api.pipeline.kafka.topic);
    let mut effects = letters_effects(&dead, &redrive, only, "redrive");
    if !redrive.is_empty() {
        effects.push(format!("each is a new record of {topic}: it overwrites what was written for its key since"));
        effects.push(format!("the dead letters stay in {dead}, and the journal records that they were redriven"));
        effects.push(format!("a dead letter with a truncated value is replaced by its record in {topic}, or skipped if that is gone"));
    }
    draft_of(effects, redrive, Operation::Redrive)
}

fn draft_drop(state: &State, redrive: Redrive, only: &DeadLetterFilter) -> Draft {
    let dead = state.api.pipeline.kafka.dead_letter_topic();
    let mut effects = letters_effects(&dead, &redrive, only, "drop");
    if !redrive.is_empty() {
        effects.push(format!("they stay in {dead} until Kafka removes them, and are never redriven"));
    }
    draft_of(effects, redrive, Operation::Drop)
}

fn is_offset(offset: Offset) -> bool {
    u64::try_from(offset.value()).is_ok_and(|offset| offset <= MAX_INTEGER)
}

fn ensure_partitions_exist<'a>(
    topic: &str,
    mut partitions: impl Iterator<Item = &'a Partition>,
    exists: impl Fn(&Partition) -> bool,
) -> Result<(), ApiError> {
    match partitions.find(|partition| !exists(partition)) {
        Some(partition) => Err(ApiError::new(&problem::PLAN_SPEC, format!("{topic} has no partition {partition}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;

    use super::*;

    fn plan(n: u128, expires_at: DateTime<Utc>) -> ChangePlan {
        let request = PlanRequest::Redrive { letters: None, only: DeadLetterFilter::default() };
        ChangePlan { id: Uuid::from_u128(n), request, hash: "h".into(), effects: vec![], records: 0, ranges: Ranges::default(), expires_at }
    }

    fn status(found: Result<ChangePlan, ApiError>) -> u16 {
        found.map_or_else(|refusal| refusal.status_code().as_u16(), |_| 200)
    }

    #[test]
    fn a_plan_is_found_with_its_hash_until_it_expires_and_is_bounded() {
        let (plans, start) = (Plans::default(), DateTime::UNIX_EPOCH);
        plans.store(&plan(1, start + PLAN_LIFETIME));
        let find = |n, hash, now| status(plans.find(Uuid::from_u128(n), hash, now));
        assert_eq!(find(1, "h", start), 200);
        assert_eq!(find(1, "other", start), 409);
        assert_eq!(find(1, "h", start + PLAN_LIFETIME), 410);
        assert_eq!(find(2, "h", start), 404);
        (2..2 + MAX_PLANS as u128).for_each(|n| plans.store(&plan(n, start + PLAN_LIFETIME)));
        assert_eq!(find(1, "h", start), 404, "the oldest is dropped");
        assert_eq!(plans.stored.lock().len(), MAX_PLANS);
    }

    #[test]
    fn the_hash_covers_the_request_and_everything_that_would_be_done() {
        let draft =
            |effects: &str, records, operation| Draft { effects: vec![effects.into()], records, ranges: Ranges::default(), operation };
        let redrive = || Operation::Redrive(Redrive { existing: BTreeMap::new(), ranges: vec![], remaining: 0 });
        let request = PlanRequest::Redrive { letters: None, only: DeadLetterFilter::default() };
        let hash = draft("a", 1, redrive()).hash(&request);
        assert_eq!(hash, draft("a", 1, redrive()).hash(&request));
        assert_ne!(hash, draft("b", 1, redrive()).hash(&request));
        assert_ne!(hash, draft("a", 2, redrive()).hash(&request));

        let replay = |to| Operation::Replay(BTreeMap::from([(0, Offset(to))]));
        let request = PlanRequest::Replay { from: ReplayFrom::Earliest };
        let hash = draft("a", 1, replay(0)).hash(&request);
        assert_ne!(hash, draft("a", 1, replay(1)).hash(&request));
        assert_eq!(
            hash,
            draft("b", 2, replay(0)).hash(&request),
            "the number of records is not part of it: it grows while the pipeline runs"
        );
    }
}
