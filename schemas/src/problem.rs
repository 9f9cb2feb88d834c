//! The problems that the control API answers with, after RFC 9457: type, status, title, remedy.
//!
//! Guarantees:
//! * A type never changes its meaning.
//! * Each one is in `docs/API.md` and in the OpenAPI file, and the API answers with no other.
//!
//! The problem's `detail` says what is wrong with the very request.

/// A type of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct ProblemType {
    /// The stable name, the problem's `type`.
    pub kind: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, in one line.
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
        /// All problems, in the order of their declaration.
        pub const PROBLEMS: &[&ProblemType] = &[$(&$name),*];
    };
}

problems! {
    BODY = ("body", 400, false, "The request body is invalid.", "GET /openapi.json describes each path's body"),
    QUERY = ("query", 400, false, "The query is invalid.", "GET /openapi.json describes each path's query"),
    PATH = ("path", 400, false, "A path parameter is invalid.", "GET /openapi.json describes each path"),
    EVENT_ID = ("event.id", 400, false, "Last-Event-ID is not an event.", "send the id of the last event received, a number"),
    TLS_REQUIRED = ("tls.required", 400, false, "This port speaks HTTPS only.", "write https:// in the URL, and name the CA of the certificate with --ca or FOREBAY_CA; on the machine of the pipeline, `-c` with its file is enough"),
    TOKEN_MISSING = ("token.missing", 401, false, "A token is required.", "send the header `Authorization: Bearer TOKEN`; the command line reads it from FOREBAY_TOKEN"),
    TOKEN_WRONG = ("token.wrong", 401, false, "The token is unknown to this pipeline.", "use one of the tokens that [api] tokens refers to"),
    ROLE = ("role", 403, false, "The token's role is not allowed to do this.", "use a token of the required role, see [api] tokens"),
    HOST = ("host", 403, false, "This host name is not served.", "use 127.0.0.1 or localhost, or add the name to [api] hosts"),
    ORIGIN = ("origin", 403, false, "Pages of this origin are not served.", "add the origin to [api] origins if its pages are yours"),
    PATH_UNKNOWN = ("path.unknown", 404, false, "There is nothing at this path.", "GET /openapi.json lists the paths"),
    PIPELINE_UNKNOWN = ("pipeline.unknown", 404, false, "This process does not run that pipeline.", "GET /v1/pipelines names the one it runs"),
    RUN_UNKNOWN = ("run.unknown", 404, false, "Unknown run.", "GET /v1/runs lists the runs; of those that ended, the last 10,000 are kept"),
    ACTOR_UNKNOWN = ("actor.unknown", 404, false, "Unknown actor.", "GET /v1/actors lists the actors"),
    BATCH_UNKNOWN = ("batch.unknown", 404, false, "Unknown batch, or no longer among the last ones.", "GET /v1/batches lists the batches that are kept, the last 64 of this process"),
    PLAN_UNKNOWN = ("plan.unknown", 404, false, "Unknown plan.", "make one with POST /v1/pipelines/{pipeline}/plans; a plan does not outlive the process"),
    JOURNAL_OFF = ("journal.off", 404, false, "This process has no journal.", "use GET /v1/snapshot instead"),
    METHOD = ("method", 405, false, "This path does not support this method.", "use a method that the Allow header names"),
    PIPELINE_PAUSED = ("pipeline.paused", 409, true, "The pipeline is paused or drained, so it accepts no new run.", "run `forebay resume`, or PUT /v1/pipelines/{pipeline}/state, and request the run again"),
    PIPELINE_NO_FETCHER = ("pipeline.no_fetcher", 409, false, "This process does not fetch.", "use the process with the role `ingest`, or add [fetcher] and [producer] to the pipeline file"),
    PIPELINE_NO_CONSUMER = ("pipeline.no_consumer", 409, false, "This pipeline ends at the topic.", "add [consumer], [transformer], [writer] and [cassandra] to the pipeline file"),
    RUN_STATE = ("run.state", 409, false, "The run's state does not allow this.", "GET /v1/runs/{id} shows its state"),
    ACTOR_STATE = ("actor.state", 409, true, "The actor has ended, or it serves this API.", "GET /v1/actors shows its state; restart the process to restart a whole tree"),
    PLAN_STALE = ("plan.stale", 409, false, "The pipeline has changed since the plan was made.", "make the plan again, check it, and apply that one"),
    PLAN_BUSY = ("plan.busy", 409, true, "Another plan is being applied.", "apply it again once the other one is done"),
    REPLAY_GROUP = ("replay.group", 409, false, "This process does not read all the partitions that the replay would reset.", "stop the other processes of the consumer group and apply it again, or stop all of them and use `forebay replay`"),
    PLAN_EXPIRED = ("plan.expired", 410, false, "The plan has expired.", "make the plan again, check it, and apply that one"),
    BODY_TOO_LARGE = ("body.too_large", 413, false, "The request body is too large.", "the limit is 64 KiB; send less"),
    RUN_KEY = ("run.key", 422, false, "The key or the attempt is invalid.", "a key has 1 to 512 characters; attempts count from 1"),
    RUN_PAYLOAD_MISMATCH = ("run.payload_mismatch", 422, false, "The key belongs to a run that was requested with another body.", "send the original body, GET /v1/runs/{id} shows it, or use another key"),
    RUN_PARAMS = ("run.params", 422, false, "A run must not set that parameter.", "use the parameters in [fetcher] params, GET /v1/pipelines lists them"),
    RUN_WINDOW = ("run.window", 422, false, "The window of the run and the requests of the pipeline don't fit.", "send `window` with `start` and `end` exactly if [fetcher] names {{ window.start }} or {{ window.end }}"),
    RUN_SPEC = ("run.spec", 422, false, "A value of the run is out of range.", "GET /openapi.json lists the limits"),
    RECORDS_PLACE = ("records.place", 422, false, "There is no such position in the topic.", "name a partition of the topic, GET /v1/topics lists them, and an offset to start from; or only `last`"),
    REASON = ("reason", 422, false, "The reason is missing or too long.", "give a reason of 1 to 500 characters"),
    PLAN_SPEC = ("plan.spec", 422, false, "A value of the plan is out of range.", "GET /openapi.json lists the limits; partitions must exist in the topic"),
    RUN_TOO_MANY = ("run.too_many", 429, true, "Too many runs are open.", "request the run again once some have ended"),
    API_BUSY = ("api.busy", 503, true, "Too many requests at once.", "retry in a moment"),
    KAFKA_AWAY = ("kafka.away", 503, true, "Kafka does not answer.", "check it with `forebay doctor`; the pipeline continues once Kafka is reachable"),
    JOURNAL_FAILED = ("journal.failed", 503, false, "The journal can't be written.", "free space on the disk, or repair it, and start the pipeline again"),
    REPLAY_BUSY = ("replay.busy", 503, true, "The consumer can't reset its offsets now.", "apply it again once GET /v1/actors shows a running consumer; or stop the pipeline and use `forebay replay`"),
    PIPELINE_NOT_READY = ("pipeline.not_ready", 503, true, "Not every actor is running.", "the detail names the others, and why"),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_problem_has_its_own_type_and_is_documented() {
        let document = include_str!("../../docs/API.md");
        let mut kinds = BTreeSet::new();
        for problem in PROBLEMS {
            assert!(kinds.insert(problem.kind), "{} is declared twice", problem.kind);
            let row = format!("| `{}` | {} | {} | {} |", problem.kind, problem.status, problem.title, problem.remedy.replace('|', "\\|"));
            assert!(document.contains(&row), "docs/API.md lacks the row\n{row}");
        }
    }
}
