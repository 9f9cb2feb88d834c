//! The table of the control API's routes. The router is built from it, requests are checked against it, and the OpenAPI file
//! (`json/openapi.json`) is written from it, so the three can't differ.

use crate::api::{LogLevel, Role};
use crate::problem as p;
use crate::problem::ProblemType;

/// The largest whole number in the API: what every client of JSON can tell from its neighbour.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The most rows that one answer lists.
pub const MAX_LIST_ITEMS: u64 = 1_000;
/// The largest body, bytes.
pub const MAX_BODY_BYTES: usize = 64 << 10;

/// How a path is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are HTTP's")]
pub enum Method {
    Get,
    Put,
    Post,
}

impl Method {
    /// As HTTP has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

/// What a parameter of the path or the query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of 1 to so many characters.
    Text(usize),
    /// One of these words.
    Enum(&'static [&'static str]),
    /// A whole number from and up to.
    Integer(u64, u64),
    /// A UUID.
    Uuid,
    /// A length of time: a number of six digits at most, and `ms`, `s` or `m`.
    Duration,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means.
    pub what: &'static str,
}

/// What an answer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// JSON of a type of this crate.
    Json(&'static str),
    /// JSON of no type of this crate.
    AnyJson,
    /// Text.
    Text,
    /// Server-sent events.
    Events,
}

/// An answer that is no problem.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub content: Content,
    /// When.
    pub what: &'static str,
}

/// A body that is taken.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// The type of this crate.
    pub schema: &'static str,
    /// Whether it must be there.
    pub required: bool,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// How it is asked.
    pub method: Method,
    /// Its path; `{name}` is a parameter, and `{path}` may hold slashes.
    pub path: &'static str,
    /// Its name in the OpenAPI file.
    pub operation: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// Who may; none: everybody who reaches it.
    pub role: Option<Role>,
    /// The parameters of its path, in order.
    pub path_params: &'static [Param],
    /// Those of its query.
    pub query: &'static [Param],
    /// Its body.
    pub body: Option<Body>,
    /// Its answers.
    pub answers: &'static [Answer],
    /// The problems it may answer with, beside [`ALWAYS`] and those that follow from its parameters and its body.
    pub problems: &'static [&'static ProblemType],
}

/// The problems that any route may answer with.
pub const ALWAYS: &[&ProblemType] = &[&p::HOST, &p::ORIGIN];

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
        // An unknown parameter is refused too.
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
const LIMIT: Param = Param { name: "limit", kind: Kind::Integer(1, MAX_LIST_ITEMS), what: "How many at most; 100 when left out" };

const fn json(status: u16, schema: &'static str, what: &'static str) -> Answer {
    Answer { status, content: Content::Json(schema), what }
}

const fn look(path: &'static str, operation: &'static str, summary: &'static str, answers: &'static [Answer]) -> Route {
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

/// Every route there is.
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
        ..look(
            "/v1/pipelines/{pipeline}/runs/{key}",
            "requestRun",
            "Ask for a run. The same key and attempt is the same run for ever; a higher attempt attaches to an open run and starts anew after an \
             ended one.",
            &[json(200, "Run", "The run that the key and attempt mean already"), json(201, "Run", "A new run")],
        )
    },
    Route {
        query: &[
            Param {
                name: "state",
                kind: Kind::Enum(&["requested", "running", "draining", "succeeded", "failed", "cancelled"]),
                what: "Only those in this state",
            },
            LIMIT,
        ],
        problems: &[&p::JOURNAL_FAILED],
        ..look("/v1/runs", "listRuns", "The runs, newest first.", &[json(200, "Runs", "The runs")])
    },
    Route {
        path_params: &[RUN],
        query: &[Param { name: "wait", kind: Kind::Duration, what: "Wait so long for the run to change, a minute at most" }],
        problems: &[&p::RUN_UNKNOWN, &p::JOURNAL_FAILED],
        ..look("/v1/runs/{id}", "getRun", "One run, now or when it changes.", &[json(200, "Run", "The run")])
    },
    Route {
        method: Method::Post,
        role: Some(Role::Operator),
        path_params: &[RUN],
        body: Some(Body { schema: "Reason", required: false }),
        problems: &[&p::RUN_UNKNOWN, &p::REASON, &p::JOURNAL_FAILED],
        ..look(
            "/v1/runs/{id}/cancel",
            "cancelRun",
            "Call a run off. What is in the topic stays there and is written; a run that has ended stays as it is.",
            &[json(200, "Run", "The run as it is now")],
        )
    },
    Route {
        query: &[LIMIT],
        problems: &[&p::JOURNAL_FAILED],
        ..look(
            "/v1/cursors",
            "listCursors",
            "Where each read of the source is, the one that moved last first; a read at its begin is left out.",
            &[json(200, "Cursors", "The reads")],
        )
    },
    look("/v1/pipelines", "listPipelines", "The pipelines of this process: one.", &[json(200, "Pipelines", "The pipelines")]),
    Route {
        path_params: &[PIPELINE],
        problems: &[&p::PIPELINE_UNKNOWN],
        ..look("/v1/pipelines/{pipeline}", "getPipeline", "One pipeline.", &[json(200, "PipelineView", "The pipeline")])
    },
    Route {
        method: Method::Put,
        role: Some(Role::Operator),
        path_params: &[PIPELINE],
        body: Some(Body { schema: "StateRequest", required: true }),
        problems: &[&p::PIPELINE_UNKNOWN, &p::REASON, &p::JOURNAL_FAILED],
        ..look(
            "/v1/pipelines/{pipeline}/state",
            "setState",
            "Pause, drain or resume the pipeline. It outlives the process.",
            &[json(200, "PipelineView", "The pipeline as it is meant to be now")],
        )
    },
    Route {
        method: Method::Post,
        role: Some(Role::Admin),
        path_params: &[PIPELINE],
        body: Some(Body { schema: "PlanRequest", required: true }),
        problems: &[&p::PIPELINE_UNKNOWN, &p::PIPELINE_NO_CONSUMER, &p::PIPELINE_NO_FETCHER, &p::PLAN_SPEC, &p::KAFKA_AWAY],
        ..look(
            "/v1/pipelines/{pipeline}/plans",
            "makePlan",
            "Say what a replay, a redrive or setting a cursor would do. Nothing is done.",
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
        ..look(
            "/v1/plans/{id}/apply",
            "applyPlan",
            "Do what a plan says, if it still would do exactly that.",
            &[json(200, "Applied", "What it came to")],
        )
    },
    look("/v1/snapshot", "getSnapshot", "The whole pipeline at one moment.", &[json(200, "Snapshot", "The pipeline")]),
    Route {
        query: &[Param {
            name: "from",
            kind: Kind::Integer(0, MAX_INTEGER),
            what: "The first event; when left out, the next that happens",
        }],
        problems: &[&p::EVENT_ID, &p::JOURNAL_OFF, &p::API_BUSY],
        ..look(
            "/v1/events",
            "followEvents",
            "The journal as it grows, as server-sent events; the header Last-Event-ID goes on after an event.",
            &[Answer { status: 200, content: Content::Events, what: "Events, each with its sequence as id" }],
        )
    },
    Route {
        query: &[LIMIT],
        ..look(
            "/v1/batches",
            "listBatches",
            "The last micro-batches of this process, newest first.",
            &[json(200, "Batches", "The batches")],
        )
    },
    Route {
        path_params: &[Param { name: "id", kind: Kind::Integer(0, MAX_INTEGER), what: "The batch's number in this process" }],
        problems: &[&p::BATCH_UNKNOWN, &p::KAFKA_AWAY, &p::API_BUSY],
        ..look(
            "/v1/batches/{id}",
            "getBatch",
            "One batch: its stages, its SQL, and the first records it rejected.",
            &[json(200, "BatchTrace", "The batch")],
        )
    },
    Route {
        problems: &[&p::KAFKA_AWAY],
        ..look("/v1/topics", "listTopics", "The topic and the dead-letter topic.", &[json(200, "Topics", "The topics")])
    },
    look("/v1/actors", "listActors", "The supervision tree, a parent before its children.", &[json(200, "Actors", "The actors")]),
    Route {
        method: Method::Post,
        role: Some(Role::Admin),
        path_params: &[Param { name: "path", kind: Kind::Text(256), what: "The actor's path in the tree, such as root/egress/writer" }],
        body: Some(Body { schema: "Reason", required: true }),
        problems: &[&p::ACTOR_UNKNOWN, &p::ACTOR_STATE, &p::REASON, &p::JOURNAL_FAILED],
        ..look(
            "/v1/actors/{path}/restart",
            "restartActor",
            "End an actor's incarnation; its supervisor starts the next one, and those that hang on it, after its back-off.",
            &[json(202, "ActorView", "The actor as it was")],
        )
    },
    Route {
        query: &[
            Param { name: "partition", kind: Kind::Integer(0, 1_000_000), what: "Only this partition" },
            Param { name: "from", kind: Kind::Integer(0, MAX_INTEGER), what: "From this offset of the partition on" },
            Param { name: "last", kind: Kind::Integer(1, MAX_LIST_ITEMS), what: "The last so many instead" },
            LIMIT,
        ],
        problems: &[&p::RECORDS_PLACE, &p::KAFKA_AWAY, &p::API_BUSY],
        ..look(
            "/v1/records",
            "readRecords",
            "Records of the topic, the last ones where nothing else is said; what [api] mask names is hidden.",
            &[json(200, "Records", "The records, by partition and offset")],
        )
    },
    Route {
        query: &[LIMIT],
        problems: &[&p::KAFKA_AWAY, &p::API_BUSY],
        ..look("/v1/dlq", "readDeadLetters", "The last dead letters, newest first.", &[json(200, "DeadLetters", "The dead letters")])
    },
    Route {
        query: &[
            Param {
                name: "after",
                kind: Kind::Integer(0, MAX_INTEGER),
                what: "Those after this line, oldest first; when left out, the last ones",
            },
            Param { name: "level", kind: Kind::Enum(LogLevel::NAMES), what: "Only those of this level or a graver one" },
            Param { name: "wait", kind: Kind::Duration, what: "While there is none, wait so long for one, a minute at most" },
            LIMIT,
        ],
        ..look(
            "/v1/logs",
            "readLogs",
            "The last log lines of this process, from info on; with `after` those that came since, and how many are lost.",
            &[json(200, "Logs", "The lines, oldest first")],
        )
    },
    look("/v1/alerts", "listAlerts", "What is wrong now.", &[json(200, "Alerts", "The alerts")]),
    look("/v1/version", "getVersion", "The program and its version.", &[json(200, "Version", "The version")]),
    look("/v1/whoami", "whoAmI", "What the caller may do.", &[json(200, "WhoAmI", "The caller")]),
    Route {
        role: None,
        ..look("/healthz", "healthz", "Whether the process answers.", &[Answer { status: 200, content: Content::Text, what: "It does" }])
    },
    Route {
        problems: &[&p::PIPELINE_NOT_READY],
        ..look(
            "/readyz",
            "readyz",
            "Whether the topics and the table are there and every actor is at work.",
            &[Answer { status: 200, content: Content::Text, what: "They are" }],
        )
    },
    look(
        "/metrics",
        "metrics",
        "Numbers for Prometheus.",
        &[Answer { status: 200, content: Content::Text, what: "The text format of Prometheus" }],
    ),
    look("/openapi.json", "openapi", "This document.", &[Answer { status: 200, content: Content::AnyJson, what: "OpenAPI 3.1" }]),
];
