//! The kinds of problem that the control API answers with, after RFC 9457: the word for each, its status, and what to do about it.
//!
//! Guarantee: a word means the same for ever, and stands in `docs/API.md` and in the OpenAPI file; nothing else is answered. What was wrong with the
//! very request is the problem's `detail`.

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemType {
    /// The stable word, the problem's `type`.
    pub kind: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, in a line.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

macro_rules! problems {
    ($($name:ident = ($kind:literal, $status:literal, $retryable:literal, $title:literal, $remedy:literal),)*) => {
        $(
            #[doc = $title]
            pub const $name: ProblemType =
                ProblemType { kind: $kind, status: $status, title: $title, remedy: $remedy, retryable: $retryable };
        )*
        /// All of them, in the order of their declaration.
        pub const PROBLEMS: &[&ProblemType] = &[$(&$name),*];
    };
}

problems! {
    BODY = ("body", 400, false, "The body is not what is expected.", "GET /openapi.json says what each path takes"),
    QUERY = ("query", 400, false, "The query is not what is expected.", "GET /openapi.json says what each path takes"),
    PATH = ("path", 400, false, "A part of the path is not what is expected.", "GET /openapi.json says what each path takes"),
    EVENT_ID = ("event.id", 400, false, "Last-Event-ID is no event.", "send the id of the last event that came, a number"),
    TOKEN_MISSING = ("token.missing", 401, false, "This needs a token.", "send the header `Authorization: Bearer TOKEN`; the command line takes it from FOREBAY_TOKEN"),
    TOKEN_WRONG = ("token.wrong", 401, false, "The token is none of this pipeline's.", "use one of those that [api] tokens refers to"),
    ROLE = ("role", 403, false, "The token's role may not do this.", "use a token of the role that is named, see [api] tokens"),
    HOST = ("host", 403, false, "This host name is not served.", "ask 127.0.0.1 or localhost, or add the name to [api] hosts"),
    ORIGIN = ("origin", 403, false, "Pages of this origin are not served.", "add the origin to [api] origins if its pages are yours"),
    PATH_UNKNOWN = ("path.unknown", 404, false, "There is nothing at this path.", "GET /openapi.json lists the paths"),
    PIPELINE_UNKNOWN = ("pipeline.unknown", 404, false, "This process does not run that pipeline.", "GET /v1/pipelines names the one it runs"),
    RUN_UNKNOWN = ("run.unknown", 404, false, "There is no such run.", "GET /v1/runs lists them; of those that have ended the last 10,000 are kept"),
    ACTOR_UNKNOWN = ("actor.unknown", 404, false, "There is no such actor.", "GET /v1/actors lists them"),
    BATCH_UNKNOWN = ("batch.unknown", 404, false, "There is no such batch among the last ones.", "GET /v1/batches lists those that are kept, the last 64 of this process"),
    PLAN_UNKNOWN = ("plan.unknown", 404, false, "There is no such plan.", "make one with POST /v1/pipelines/{pipeline}/plans; plans are gone when the process is"),
    JOURNAL_OFF = ("journal.off", 404, false, "This process keeps no journal.", "look at GET /v1/snapshot instead"),
    METHOD = ("method", 405, false, "This path does not take this method.", "use one that the Allow header names"),
    PIPELINE_PAUSED = ("pipeline.paused", 409, true, "The pipeline is paused or drained, so it takes no new run.", "`forebay resume`, or PUT /v1/pipelines/{pipeline}/state, and ask again"),
    PIPELINE_NO_FETCHER = ("pipeline.no_fetcher", 409, false, "This process does not fetch.", "ask the process that has the role `ingest`, or add [fetcher] and [producer] to the pipeline file"),
    PIPELINE_NO_CONSUMER = ("pipeline.no_consumer", 409, false, "This pipeline ends at the topic.", "add [consumer], [transformer], [writer] and [cassandra] to the pipeline file"),
    RUN_STATE = ("run.state", 409, false, "The run is not in a state for this.", "GET /v1/runs/{id} says where it stands"),
    ACTOR_STATE = ("actor.state", 409, true, "The actor is not up, or carries this API.", "GET /v1/actors says how it is; whole trees are restarted by restarting the process"),
    PLAN_STALE = ("plan.stale", 409, false, "Things have moved on since the plan was made.", "make the plan again, look at it, and apply that one"),
    PLAN_BUSY = ("plan.busy", 409, true, "Another plan is being applied.", "apply it again when the other is done"),
    REPLAY_GROUP = ("replay.group", 409, false, "This process does not read all the partitions that the replay would move.", "stop the other processes of the consumer group and apply it again, or stop all of them and use `forebay replay`"),
    PLAN_EXPIRED = ("plan.expired", 410, false, "The plan is too old.", "make the plan again, look at it, and apply that one"),
    BODY_TOO_LARGE = ("body.too_large", 413, false, "The body is too large.", "64 KiB are taken; send less"),
    RUN_KEY = ("run.key", 422, false, "The key or the attempt is none.", "a key has 1 to 512 characters, and attempts count from 1"),
    RUN_PAYLOAD_MISMATCH = ("run.payload_mismatch", 422, false, "The key means a run that was asked for with another body.", "send what it was asked for with, GET /v1/runs/{id} says it, or use another key"),
    RUN_PARAMS = ("run.params", 422, false, "The run can't set that parameter.", "use those that [fetcher] params names, GET /v1/pipelines lists them"),
    RUN_SPEC = ("run.spec", 422, false, "Something of the run is out of its bounds.", "GET /openapi.json says the bounds"),
    RECORDS_PLACE = ("records.place", 422, false, "That is no place in the topic.", "name one of the topic's partitions, GET /v1/topics lists them, and with it an offset to begin from; or `last` alone"),
    REASON = ("reason", 422, false, "The reason is missing or too long.", "say why in 1 to 500 characters"),
    PLAN_SPEC = ("plan.spec", 422, false, "Something of the plan is out of its bounds.", "GET /openapi.json says the bounds; partitions are those that the topic has"),
    RUN_TOO_MANY = ("run.too_many", 429, true, "Too many runs are open.", "ask again when some have ended"),
    API_BUSY = ("api.busy", 503, true, "Too many are being answered at once.", "ask again in a moment"),
    KAFKA_AWAY = ("kafka.away", 503, true, "Kafka does not answer.", "`forebay doctor` says whether it is there; the pipeline goes on when it is"),
    JOURNAL_FAILED = ("journal.failed", 503, false, "The journal can't be written.", "free the disk, or mend it, and start the pipeline again"),
    REPLAY_BUSY = ("replay.busy", 503, true, "The consumer is not where it could be set back.", "apply it again when GET /v1/actors shows the consumer at work; or stop the pipeline and use `forebay replay`"),
    PIPELINE_NOT_READY = ("pipeline.not_ready", 503, true, "Not every actor is at work.", "the detail says which are not, and why"),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_problem_has_a_word_of_its_own_and_stands_in_the_documentation() {
        let document = include_str!("../../docs/API.md");
        let mut words = BTreeSet::new();
        for problem in PROBLEMS {
            assert!(words.insert(problem.kind), "{} stands twice", problem.kind);
            let row = format!("| `{}` | {} | {} | {} |", problem.kind, problem.status, problem.title, problem.remedy.replace('|', "\\|"));
            assert!(document.contains(&row), "docs/API.md lacks the row\n{row}");
        }
    }
}
