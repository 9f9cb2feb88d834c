//! The alert rules: each as PromQL for Prometheus, and as a condition on snapshots for the monitor
//! and `forebay status`.
//!
//! Guarantees:
//! * Both forms use the same constants as thresholds.
//! * Memory is bounded by [`MAX_SAMPLES`].
//! * Pure: the caller passes the snapshots, ordered by time.
//!
//! Does not guarantee that both fire at the same second: Prometheus evaluates at its own times, and
//! over all processes of a pipeline, whereas a snapshot is of one process.
//!
//! * `mod.rs`: the rules.
//! * `conditions.rs`: their conditions on snapshots.
//! * `evaluator.rs`: [`AlertEvaluator`] evaluates them over a series of snapshots.

mod conditions;
mod evaluator;

use std::time::Duration;

use crate::snapshot::ActorState;
use conditions::Condition;
pub use evaluator::{AlertEvaluator, MAX_SAMPLES};

/// The lag above which growth matters, in records.
const LAG_RECORDS: u64 = 1_000;
/// The maximum age of an unwritten record.
const LAG_SECONDS: u64 = 300;
/// The restarts of an actor that are acceptable in the longest window.
const RESTARTS: u64 = 3;
/// The acceptable share of failed requests to the source.
const FAILING_SHARE: f64 = 0.5;
/// The acceptable share of time that an actor waits for budget.
const BLOCKED_SHARE: f64 = 0.9;
/// The acceptable number of events that are not yet on disk.
const JOURNAL_EVENTS: u64 = 10_000;
/// The acceptable number of write retries.
const RETRIES: u64 = 10;
/// The minimum free space on the disk.
pub const DISK_BYTES: u64 = 1 << 30;
/// The acceptable size of the embedded topics in percent of their retention: unwritten records are
/// kept.
const RETENTION_PERCENT: u64 = 150;
/// Acceptable memory: this many bytes, plus this many times the budgets.
const MEMORY_BYTES: u64 = 1 << 30;
const MEMORY_BUDGETS: u64 = 4;

const MINUTE: Duration = Duration::from_secs(60);
/// The longest window of a rule.
const LONGEST: Duration = Duration::from_secs(600);

/// The severity of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Needs attention today.
    Warning,
    /// Needs attention now.
    Critical,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An alert rule.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// How long the condition must hold.
    pub hold: Duration,
    /// The condition in PromQL.
    pub expr: fn() -> String,
    /// What is wrong, as a Prometheus template.
    pub summary: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// The condition on snapshots. `None` if a process can't evaluate it for itself.
    condition: Option<Condition>,
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        name: "ForebayDown",
        severity: Severity::Critical,
        hold: Duration::from_secs(120),
        expr: || "absent(forebay_build_info)".to_owned(),
        summary: "No Forebay process is scraped",
        remedy: "Check that the process runs and that Prometheus reaches its API; the last log lines say why it exited.",
        condition: None,
    },
    Rule {
        name: "ForebayLagGrows",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || {
            format!(
                "sum by (pipeline) (forebay_kafka_lag_records) > {LAG_RECORDS} and on (pipeline) sum by (pipeline) (delta(forebay_kafka_lag_records[{}])) > 0",
                span(LONGEST)
            )
        },
        summary: "{{ $labels.pipeline }} is {{ $value }} records behind and falling further behind",
        remedy: "Find the slowest stage; raise [writer] in_flight, simplify the SQL, or run more processes with --roles egress.",
        condition: Some(conditions::lag_grows),
    },
    Rule {
        name: "ForebayLagOld",
        severity: Severity::Critical,
        hold: Duration::from_secs(120),
        expr: || format!("max by (pipeline, topic, partition) (forebay_kafka_lag_seconds) > {LAG_SECONDS}"),
        summary: "{{ $labels.topic }}[{{ $labels.partition }}] is {{ $value | humanizeDuration }} behind",
        remedy: "If it is one partition, its records may share a key. If it is all of them, see ForebayLagGrows and ForebayNothingWritten.",
        condition: Some(conditions::lag_old),
    },
    Rule {
        name: "ForebayNothingWritten",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || {
            format!(
                "sum by (pipeline) (forebay_kafka_lag_records) > 0 and on (pipeline) sum by (pipeline) (increase(forebay_batches_total[{}])) == 0 and on (pipeline) max by (pipeline) (forebay_desired_state{{state=\"paused\"}}) == 0",
                span(2 * MINUTE)
            )
        },
        summary: "{{ $labels.pipeline }} has {{ $value }} records to write and writes none",
        remedy: "forebay status shows what an actor waits for; usually Cassandra or Kafka is unreachable.",
        condition: Some(conditions::nothing_written),
    },
    Rule {
        name: "ForebayDeadLetters",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline) (increase(forebay_records_rejected_total[{}])) > 0", span(5 * MINUTE)),
        summary: "{{ $labels.pipeline }} rejected {{ $value | humanize }} records in 5 minutes",
        remedy: "forebay dlq shows them with their reasons, forebay status the most frequent reasons; fix the schema, the SQL or the source.",
        condition: Some(conditions::dead_letters),
    },
    Rule {
        name: "ForebayActorRestarts",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline, actor) (increase(forebay_actor_restarts_total[{}])) > {RESTARTS}", span(LONGEST)),
        summary: "{{ $labels.actor }} was restarted {{ $value | humanize }} times in 10 minutes",
        remedy: "forebay status and the log say why its last incarnation exited.",
        condition: Some(conditions::actor_restarts),
    },
    Rule {
        name: "ForebayActorStuck",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"stuck\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} is stalled",
        remedy: "The watchdog restarts it; if it stays stalled, save the log and the journal, and restart the process.",
        condition: Some(|_, now| conditions::actors(now, ActorState::Stuck, "is stalled")),
    },
    Rule {
        name: "ForebayActorWaits",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"waiting\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} waits for a server",
        remedy: "Bring back the server that its note names; the actor then continues by itself.",
        condition: Some(|_, now| conditions::actors(now, ActorState::Waiting, "waits for a server")),
    },
    Rule {
        name: "ForebayActorEnded",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"ended\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} is down for good",
        remedy: "Its supervisor gave up, the log says why. Fix the cause and restart the process.",
        condition: Some(|_, now| conditions::actors(now, ActorState::Ended, "is down for good")),
    },
    Rule {
        name: "ForebaySourceFails",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || {
            let over = span(5 * MINUTE);
            format!(
                "sum by (pipeline) (increase(forebay_http_responses_total{{status_class=~\"3xx|4xx|429|5xx|none\"}}[{over}])) / sum by (pipeline) (increase(forebay_http_responses_total[{over}])) > {FAILING_SHARE}"
            )
        },
        summary: "{{ $value | humanizePercentage }} of the requests of {{ $labels.pipeline }} to its source fail",
        remedy: "forebay status shows the response; for 4xx fix the pipeline file, for 429 raise [fetcher] every, otherwise contact the API's owner.",
        condition: Some(conditions::source_fails),
    },
    Rule {
        name: "ForebayFetchCutShort",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || "min by (pipeline, reason) (forebay_fetch_complete) == 0".to_owned(),
        summary: "The last fetch of {{ $labels.pipeline }} was cut short: {{ $labels.reason }}",
        remedy: "forebay status and the run say what is left; raise max_pages, or fix [fetcher] cursor. A cursor_cycle is a bug of the API.",
        condition: Some(conditions::fetch_cut_short),
    },
    Rule {
        name: "ForebayBudgetExhausted",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || format!("sum by (pipeline, edge) (rate(forebay_backpressure_seconds_total[{}])) > {BLOCKED_SHARE}", span(5 * MINUTE)),
        summary: "{{ $labels.edge }} waited for budget {{ $value | humanizePercentage }} of the time",
        remedy: "The downstream actor is the bottleneck; a larger budget only helps if batches are small.",
        condition: Some(conditions::budget_exhausted),
    },
    Rule {
        name: "ForebayStoreRetries",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline) (increase(forebay_db_retries_total[{}])) > {RETRIES}", span(5 * MINUTE)),
        summary: "{{ $labels.pipeline }} retried writes {{ $value | humanize }} times in 5 minutes",
        remedy: "forebay_db_retries_total has the reason: for overloaded lower [writer] in_flight, otherwise check the cluster.",
        condition: Some(conditions::store_retries),
    },
    Rule {
        name: "ForebayJournalBehind",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || format!("forebay_journal_last_sequence - on (pipeline, instance) forebay_journal_durable_sequence > {JOURNAL_EVENTS}"),
        summary: "{{ $value }} events of {{ $labels.pipeline }} are not yet on disk",
        remedy: "The disk of data_dir is slow or full.",
        condition: Some(conditions::journal_behind),
    },
    Rule {
        name: "ForebayDiskFills",
        severity: Severity::Critical,
        hold: Duration::ZERO,
        expr: || format!("min by (pipeline, instance) (forebay_disk_free_bytes) < {DISK_BYTES}"),
        summary: "{{ $labels.pipeline }} has {{ $value | humanize1024 }}B left on its disk",
        remedy: "Free space on the disk of data_dir: the process stops if it can't write its journal. With the embedded broker, lower [kafka] retention.",
        condition: Some(conditions::disk_fills),
    },
    Rule {
        name: "ForebayRetentionExceeded",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || {
            format!(
                "forebay_disk_used_bytes{{part=\"topics\"}} * 100 > on (pipeline, instance) {RETENTION_PERCENT} * forebay_disk_retention_bytes"
            )
        },
        summary: "The embedded topics of {{ $labels.pipeline }} exceed their retention",
        remedy: "Unwritten records are kept: find out why the lag does not shrink. The file does not shrink after its largest backlog.",
        condition: Some(conditions::retention_exceeded),
    },
    Rule {
        name: "ForebayMemory",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || {
            format!(
                "forebay_memory_resident_bytes > on (pipeline, instance) {MEMORY_BUDGETS} * sum by (pipeline, instance) (forebay_edge_budget_bytes) + {MEMORY_BYTES}"
            )
        },
        summary: "{{ $labels.pipeline }} has {{ $value | humanize1024 }}B in use",
        remedy: "Lower the budgets and max_page_bytes; if it keeps rising, save a snapshot and restart the process.",
        condition: Some(conditions::memory),
    },
];

/// A duration in PromQL.
fn span(span: Duration) -> String {
    format!("{}s", span.as_secs())
}
