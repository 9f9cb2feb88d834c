//! The table of the control API's routes.
//!
//! The router is built from it, requests are checked against it, and the OpenAPI file
//! (`json/openapi.json`) is generated from it, so the three can't differ.

use crate::api::{LogLevel, Role};
use crate::dead_letter_filter::DeadLetterFilter;
use crate::json_integer::MAX_INTEGER;
use crate::problem as p;
use crate::problem::ProblemType;

/// The maximum number of items in one answer.
pub const MAX_LIST_ITEMS: u64 = 1_000;
/// The maximum size of a body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// The method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are HTTP's")]
pub enum Method {
    Get,
    Put,
    Post,
}

impl Method {
    /// As HTTP spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// The type of a parameter of the path or the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of 1 to this many characters.
    Text(usize),
    /// One of these words.
    Enum(&'static [&'static str]),
    /// An integer in this range, both ends included.
    Integer(u64, u64),
    /// A UUID.
    Uuid,
    /// A duration: a number of at most six digits, and `ms`, `s` or `m`.
    Duration,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its description.
    pub what: &'static str,
}

/// The content of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// JSON of this type of the crate.
    Json(&'static str),
    /// JSON of a type outside the crate.
    AnyJson,
    /// Text.
    Text,
    /// Server-sent events.
    Events,
}

/// An answer other than a problem.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its content.
    pub content: Content,
    /// Its description.
    pub what: &'static str,
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// Its type in this crate.
    pub schema: &'static str,
    /// Whether it is required.
    pub required: bool,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; `{name}` is a parameter, and `{path}` may hold slashes.
    pub path: &'static str,
    /// Its name in the OpenAPI file.
    pub operation: &'static str,
    /// Its summary.
    pub summary: &'static str,
    /// The required role; `None`: no token is needed.
    pub role: Option<Role>,
    /// The parameters of its path, in order.
    pub path_params: &'static [Param],
    /// The parameters of its query.
    pub query: &'static [Param],
    /// Its body.
    pub body: Option<Body>,
    /// Its answers.
    pub answers: &'static [Answer],
    /// The problems it may answer with, besides [`ALWAYS`] and those that follow from its
    /// parameters and its body.
    pub problems: &'static [&'static ProblemType],
}

/// Problems that any route may answer with.
pub const ALWAYS: &[&ProblemType] = &[&p::TLS_REQUIRED, &p::HOST, &p::ORIGIN];

impl Route {
    /// Every problem it may answer with.
    pub fn all_problems(&self) -> Vec<&'static ProblemType> {
        let mut all = ALWAYS.to_vec();
        if self.role.is_some() {
            all.extend([&p::TOKEN_MISSING, &p::TOKEN_WRONG]);
        }
        if self.role.is_some_and(|role| role > Role::Viewer) {
            all.push(&p::ROLE);
        }
        if !self.path_params.is_empty() {
            all.push(&p::PATH);
        }
        // An unknown parameter is an error too.
        all.push(&p::QUERY);
        if self.body.is_some() {
            all.extend([&p::BODY, &p::BODY_TOO_LARGE]);
        }
        all.extend(self.problems);
        all
    }
}

const PIPELINE: Param = Param { name: "pipeline", kind: Kind::Text(64), what: "The pipeline's name" };
const RUN: Param = Param { name: "id", kind: Kind::Uuid, what: "The run's identifier" };
const STAGE: Param = Param { name: "stage", kind: Kind::Enum(DeadLetterFilter::STAGES), what: "Only those that this stage rejected" };
const MATCHING: Param = Param { name: "matching", kind: Kind::Text(256), what: "Only those with this text in their reason, in any case" };
const KEY: Param = Param { name: "key", kind: Kind::Text(1_024), what: "Only those of records with this key" };
const LIMIT: Param = Param { name: "limit", kind: Kind::Integer(1, MAX_LIST_ITEMS), what: "The maximum number of items; 100 by default" };

const fn json(status: u16, schema: &'static str, what: &'static str) -> Answer {
    Answer { status, content: Content::Json(schema), what }
}

const fn get(path: &'static str, operation: &'static str, summary: &'static str, answers: &'static [Answer]) -> Route {
    Route {
        method: Method::Get,
        path,
        operation,
        summary,
        role: Some(Role::Viewer),
        path_params: &[],
        query: &[],
        body: None,
        answers,
        problems: &[],
    }
}

/// All routes.
pub const ROUTES: &[Route] = &[
    Route {
        method: Method::Put,
        role: Some(Role::Operator),
        path_params: &[PIPELINE, Param { name: "key", kind: Kind::Text(512), what: "The client's name for the run" }],
        body: Some(Body { schema: "RunRequest", required: false }),
        problems: &[
            &p::PIPELINE_UNKNOWN,
            &p::PIPELINE_PAUSED,
            &p::PIPELINE_NO_FETCHER,
            &p::RUN_KEY,
            &p::RUN_PAYLOAD_MISMATCH,
            &p::RUN_PARAMS,
            &p::RUN_SPEC,
            &p::RUN_TOO_MANY,
            &p::JOURNAL_FAILED,
        ],
        ..get(
            "/v1/pipelines/{pipeline}/runs/{key}",
            "requestRun",
            "Request a run. The same key and attempt always mean the same run; a higher attempt joins an open run, or starts a new one after it ended.",
            &[json(200, "Run", "The existing run of this key and attempt"), json(201, "Run", "A new run")],
        )
    },
    Route {
        query: &[
            Param {
                name: "state",
                kind: Kind::Enum(&["requested", "running", "draining", "succeeded", "failed", "cancelled"]),
                what: "Only runs in this state",
            },
            LIMIT,
        ],
        problems: &[&p::JOURNAL_FAILED],
        ..get("/v1/runs", "listRuns", "The runs, newest first.", &[json(200, "Runs", "The runs")])
    },
    Route {
        path_params: &[RUN],
        query: &[Param { name: "wait", kind: Kind::Duration, what: "Wait up to this long for the run to change, at most a minute" }],
        problems: &[&p::RUN_UNKNOWN, &p::JOURNAL_FAILED],
        ..get("/v1/runs/{id}", "getRun", "One run, now or once it changes.", &[json(200, "Run", "The run")])
    },
    Route {
        method: Method::Post,
        role: Some(Role::Operator),
        path_params: &[RUN],
        body: Some(Body { schema: "Reason", required: false }),
        problems: &[&p::RUN_UNKNOWN, &p::REASON, &p::JOURNAL_FAILED],
        ..get(
            "/v1/runs/{id}/cancel",
            "cancelRun",
            "Cancel a run. Records already in the topic are still written; a run that has ended does not change.",
            &[json(200, "Run", "The run")],
        )
    },
    Route {
        query: &[LIMIT],
        problems: &[&p::JOURNAL_FAILED],
        ..get(
            "/v1/cursors",
            "listCursors",
            "The cursor of each read of the source, last moved first; a read at its start is omitted.",
            &[json(200, "Cursors", "The reads")],
        )
    },
    get("/v1/pipelines", "listPipelines", "The pipelines of this process: one.", &[json(200, "Pipelines", "The pipelines")]),
    Route {
        path_params: &[PIPELINE],
        problems: &[&p::PIPELINE_UNKNOWN],
        ..get("/v1/pipelines/{pipeline}", "getPipeline", "One pipeline.", &[json(200, "PipelineView", "The pipeline")])
    },
    Route {
        method: Method::Put,
        role: Some(Role::Operator),
        path_params: &[PIPELINE],
        body: Some(Body { schema: "StateRequest", required: true }),
        problems: &[&p::PIPELINE_UNKNOWN, &p::REASON, &p::JOURNAL_FAILED],
        ..get(
            "/v1/pipelines/{pipeline}/state",
            "setState",
            "Pause, drain or resume the pipeline. The state outlives the process.",
            &[json(200, "PipelineView", "The pipeline with its new state")],
        )
    },
    Route {
        method: Method::Post,
        role: Some(Role::Admin),
        path_params: &[PIPELINE],
        body: Some(Body { schema: "PlanRequest", required: true }),
        problems: &[&p::PIPELINE_UNKNOWN, &p::PIPELINE_NO_CONSUMER, &p::PIPELINE_NO_FETCHER, &p::PLAN_SPEC, &p::KAFKA_AWAY],
        ..get(
            "/v1/pipelines/{pipeline}/plans",
            "makePlan",
            "Plan a replay, a redrive or a change of a cursor, without doing it.",
            &[json(201, "Plan", "The plan")],
        )
    },
    Route {
        method: Method::Post,
        role: Some(Role::Admin),
        path_params: &[Param { name: "id", kind: Kind::Uuid, what: "The plan's identifier" }],
        body: Some(Body { schema: "ApplyRequest", required: true }),
        problems: &[
            &p::PLAN_UNKNOWN,
            &p::PLAN_EXPIRED,
            &p::PLAN_STALE,
            &p::PLAN_BUSY,
            &p::REPLAY_GROUP,
            &p::REPLAY_BUSY,
            &p::PIPELINE_NO_CONSUMER,
            &p::PIPELINE_NO_FETCHER,
            &p::PLAN_SPEC,
            &p::REASON,
            &p::KAFKA_AWAY,
            &p::JOURNAL_FAILED,
        ],
        ..get(
            "/v1/plans/{id}/apply",
            "applyPlan",
            "Apply a plan, if it would still do exactly what it says.",
            &[json(200, "Applied", "The result")],
        )
    },
    get("/v1/snapshot", "getSnapshot", "The state of the whole pipeline at one moment.", &[json(200, "Snapshot", "The pipeline")]),
    Route {
        query: &[Param { name: "from", kind: Kind::Integer(0, MAX_INTEGER), what: "The first event; by default the next one to happen" }],
        problems: &[&p::EVENT_ID, &p::JOURNAL_OFF, &p::API_BUSY],
        ..get(
            "/v1/events",
            "followEvents",
            "Stream the journal's events as server-sent events; the header Last-Event-ID resumes after an event.",
            &[Answer { status: 200, content: Content::Events, what: "Events, with their sequence numbers as ids" }],
        )
    },
    Route {
        query: &[LIMIT],
        ..get("/v1/batches", "listBatches", "The last micro-batches of this process, newest first.", &[json(200, "Batches", "The batches")])
    },
    Route {
        path_params: &[Param { name: "id", kind: Kind::Integer(0, MAX_INTEGER), what: "The batch's number in this process" }],
        problems: &[&p::BATCH_UNKNOWN, &p::KAFKA_AWAY, &p::API_BUSY],
        ..get(
            "/v1/batches/{id}",
            "getBatch",
            "One batch: its stages, its SQL, and the first records that it rejected.",
            &[json(200, "BatchTrace", "The batch")],
        )
    },
    Route {
        problems: &[&p::KAFKA_AWAY],
        ..get("/v1/topics", "listTopics", "The topic and the dead-letter topic.", &[json(200, "Topics", "The topics")])
    },
    get("/v1/actors", "listActors", "The supervision tree, parents before their children.", &[json(200, "Actors", "The actors")]),
    Route {
        method: Method::Post,
        role: Some(Role::Admin),
        path_params: &[Param { name: "path", kind: Kind::Text(256), what: "The actor's path in the tree, such as root/egress/writer" }],
        body: Some(Body { schema: "Reason", required: true }),
        problems: &[&p::ACTOR_UNKNOWN, &p::ACTOR_STATE, &p::REASON, &p::JOURNAL_FAILED],
        ..get(
            "/v1/actors/{path}/restart",
            "restartActor",
            "Restart an actor: its supervisor starts the next incarnation, and those of the actors that depend on it, after its back-off. \
             If it is being restarted already, nothing changes.",
            &[json(202, "ActorView", "The actor before its restart; `restarting` if it is being restarted already")],
        )
    },
    Route {
        query: &[
            Param { name: "partition", kind: Kind::Integer(0, 1_000_000), what: "Only this partition" },
            Param { name: "from", kind: Kind::Integer(0, MAX_INTEGER), what: "From this offset of the partition" },
            Param { name: "last", kind: Kind::Integer(1, MAX_LIST_ITEMS), what: "The last records instead, this many" },
            LIMIT,
        ],
        problems: &[&p::RECORDS_PLACE, &p::KAFKA_AWAY, &p::API_BUSY],
        ..get(
            "/v1/records",
            "readRecords",
            "Records of the topic, the last ones by default; fields in [api] mask are hidden.",
            &[json(200, "Records", "The records, by partition and offset")],
        )
    },
    Route {
        query: &[
            STAGE,
            MATCHING,
            KEY,
            Param { name: "partition", kind: Kind::Integer(0, 1_000_000), what: "Only the dead letter at `offset` of this partition" },
            Param { name: "offset", kind: Kind::Integer(0, MAX_INTEGER), what: "Its offset in the dead-letter topic" },
            LIMIT,
        ],
        problems: &[&p::RECORDS_PLACE, &p::KAFKA_AWAY, &p::API_BUSY],
        ..get(
            "/v1/dlq",
            "readDeadLetters",
            "Dead letters, newest first. With a filter, at most the newest 10,000 or 4 MiB of them are read; `read` says how many.",
            &[json(200, "DeadLetters", "The dead letters")],
        )
    },
    Route {
        query: &[STAGE, MATCHING, KEY],
        problems: &[&p::KAFKA_AWAY, &p::API_BUSY],
        ..get(
            "/v1/dlq/reasons",
            "countDeadLetters",
            "The reasons of the newest dead letters, with counts and an example; at most 10,000 or 4 MiB of them are read.",
            &[json(200, "DeadLetterReasons", "The reasons, the most frequent first")],
        )
    },
    Route {
        query: &[
            Param {
                name: "after",
                kind: Kind::Integer(0, MAX_INTEGER),
                what: "Lines after this one, oldest first; by default the last ones",
            },
            Param { name: "level", kind: Kind::Enum(LogLevel::NAMES), what: "Only lines of this level and above" },
            Param { name: "wait", kind: Kind::Duration, what: "Wait up to this long for a line, at most a minute" },
            LIMIT,
        ],
        ..get(
            "/v1/logs",
            "readLogs",
            "The last log lines of this process, of level info and above; with `after`, the lines since then and how many were lost.",
            &[json(200, "Logs", "The lines, oldest first")],
        )
    },
    get("/v1/alerts", "listAlerts", "The alerts that are firing.", &[json(200, "Alerts", "The alerts")]),
    get("/v1/version", "getVersion", "The program and its version.", &[json(200, "Version", "The version")]),
    get("/v1/whoami", "whoAmI", "The caller's role.", &[json(200, "WhoAmI", "The caller")]),
    Route {
        role: None,
        ..get(
            "/healthz",
            "healthz",
            "Whether the process answers.",
            &[Answer { status: 200, content: Content::Text, what: "The process answers" }],
        )
    },
    Route {
        problems: &[&p::PIPELINE_NOT_READY],
        ..get(
            "/readyz",
            "readyz",
            "Whether the topics and the table exist and every actor is running.",
            &[Answer { status: 200, content: Content::Text, what: "The pipeline is ready" }],
        )
    },
    get(
        "/metrics",
        "metrics",
        "Metrics for Prometheus.",
        &[Answer { status: 200, content: Content::Text, what: "Prometheus text format" }],
    ),
    get("/openapi.json", "openapi", "This document.", &[Answer { status: 200, content: Content::AnyJson, what: "OpenAPI 3.1" }]),
];
