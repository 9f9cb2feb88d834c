//! The alert rules: each as PromQL for Prometheus, and as code that judges snapshots for the monitor and `forebay status`.
//!
//! Guarantee: both forms have the same bounds, from the same constants; memory is bounded ([`MAX_SAMPLES`]). Pure: who calls brings the snapshots, in
//! the order of their times. Not guaranteed: that both fire at the same second, for Prometheus looks at its own times, and looks at all processes of a
//! pipeline together, where a snapshot is of one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::desired::DesiredState;
use crate::snapshot::{ActorState, AlertView, EdgeView, Snapshot};

/// Records behind from which on it matters whether they become more.
const LAG_RECORDS: u64 = 1_000;
/// The oldest that a record may be that is not written.
const LAG_SECONDS: u64 = 300;
/// Restarts of an actor that are still taken for chance.
const RESTARTS: u64 = 3;
/// The share of answers that may be none.
const FAILING_SHARE: f64 = 0.5;
/// The share of time that an actor may wait for budget.
const BLOCKED_SHARE: f64 = 0.9;
/// Events that may wait for the disk.
const JOURNAL_EVENTS: u64 = 10_000;
/// Retries of writes that are still taken for chance.
const RETRIES: u64 = 10;
/// Room on the disk from which on somebody should look.
pub const DISK_BYTES: u64 = 1 << 30;
/// How often the embedded topics may be over their retention, in percent: what waits to be written stays.
const RETENTION_PERCENT: u64 = 150;
/// Memory beside the budgets, and how often the budgets may be in it.
const MEMORY_BYTES: u64 = 1 << 30;
const MEMORY_BUDGETS: u64 = 4;

const MINUTE: Duration = Duration::from_secs(60);
/// How far back a rule looks at most.
const LONGEST: Duration = Duration::from_secs(600);
/// How many looks are kept at most: one in 5 s for 10 min, and one beyond.
pub const MAX_SAMPLES: usize = 122;
/// Looks that are closer are not kept.
const APART: Duration = Duration::from_secs(5);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody should look today.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One rule.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How long it must be so.
    pub hold: Duration,
    /// The condition in PromQL.
    pub expr: fn() -> String,
    /// What is wrong, as a template of Prometheus.
    pub summary: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// The condition on snapshots: what is wrong, of whom. None for what a process can't say of itself.
    judge: Option<Judge>,
}

type Judge = fn(&Past, &Snapshot) -> Vec<(String, String)>;

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        name: "ForebayDown",
        severity: Severity::Critical,
        hold: Duration::from_secs(120),
        expr: || "absent(forebay_build_info)".to_owned(),
        summary: "No Forebay process is scraped",
        remedy: "Look whether the process runs and whether Prometheus reaches its API; its last log lines say why it ended.",
        judge: None,
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
        summary: "{{ $labels.pipeline }} is {{ $value }} records behind, and falls further behind",
        remedy: "See which stage takes longest; write with more in_flight, make the SQL cheaper, or run more processes with --roles egress.",
        judge: Some(lag_grows),
    },
    Rule {
        name: "ForebayLagOld",
        severity: Severity::Critical,
        hold: Duration::from_secs(120),
        expr: || format!("max by (pipeline, topic, partition) (forebay_kafka_lag_seconds) > {LAG_SECONDS}"),
        summary: "{{ $labels.topic }}[{{ $labels.partition }}] is {{ $value | humanizeDuration }} behind",
        remedy: "If one partition only: its records may share a key. If all: see ForebayLagGrows and ForebayNothingWritten.",
        judge: Some(lag_old),
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
        remedy: "An actor that waits or is stuck says what for: forebay status. Mostly Cassandra or Kafka is away.",
        judge: Some(nothing_written),
    },
    Rule {
        name: "ForebayDeadLetters",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline) (increase(forebay_records_rejected_total[{}])) > 0", span(5 * MINUTE)),
        summary: "{{ $labels.pipeline }} rejected {{ $value | humanize }} records in 5 minutes",
        remedy: "forebay dlq shows them with their reasons, forebay status the most frequent ones; mend the schema, the SQL or the source.",
        judge: Some(dead_letters),
    },
    Rule {
        name: "ForebayActorRestarts",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline, actor) (increase(forebay_actor_restarts_total[{}])) > {RESTARTS}", span(LONGEST)),
        summary: "{{ $labels.actor }} was restarted {{ $value | humanize }} times in 10 minutes",
        remedy: "forebay status and the log say why its last incarnation ended.",
        judge: Some(actor_restarts),
    },
    Rule {
        name: "ForebayActorStuck",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"stuck\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} owes progress and makes none",
        remedy: "It is restarted by the watchdog; if it stays stuck, keep the log and the journal, and restart the process.",
        judge: Some(|_, look| actors(look, ActorState::Stuck, "owes progress and makes none")),
    },
    Rule {
        name: "ForebayActorWaits",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"waiting\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} waits for a server",
        remedy: "Bring the server back that its note names; it goes on by itself.",
        judge: Some(|_, look| actors(look, ActorState::Waiting, "waits for a server")),
    },
    Rule {
        name: "ForebayActorEnded",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || "max by (pipeline, actor) (forebay_actor_state{state=\"ended\"}) == 1".to_owned(),
        summary: "{{ $labels.actor }} is down for good",
        remedy: "Its supervisor gave up on it: the log says why. Restart the process once that is mended.",
        judge: Some(|_, look| actors(look, ActorState::Ended, "is down for good")),
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
        summary: "{{ $value | humanizePercentage }} of the API's answers to {{ $labels.pipeline }} are failures",
        remedy: "forebay status names the answer; 4xx wants a mended pipeline file, 429 a longer every, the rest the API's owner.",
        judge: Some(source_fails),
    },
    Rule {
        name: "ForebayFetchCutShort",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || "min by (pipeline, reason) (forebay_fetch_complete) == 0".to_owned(),
        summary: "The last fetch of {{ $labels.pipeline }} was cut short: {{ $labels.reason }}",
        remedy: "forebay status and the run say what is left; raise max_pages, or mend [fetcher] cursor. A cursor_cycle is the API's.",
        judge: Some(fetch_cut_short),
    },
    Rule {
        name: "ForebayBudgetExhausted",
        severity: Severity::Warning,
        hold: Duration::from_secs(300),
        expr: || format!("sum by (pipeline, edge) (rate(forebay_backpressure_seconds_total[{}])) > {BLOCKED_SHARE}", span(5 * MINUTE)),
        summary: "{{ $labels.edge }} waited for budget {{ $value | humanizePercentage }} of the time",
        remedy: "What comes after it is the bottleneck; a larger budget helps only when batches are small.",
        judge: Some(budget_exhausted),
    },
    Rule {
        name: "ForebayStoreRetries",
        severity: Severity::Warning,
        hold: Duration::ZERO,
        expr: || format!("sum by (pipeline) (increase(forebay_db_retries_total[{}])) > {RETRIES}", span(5 * MINUTE)),
        summary: "{{ $labels.pipeline }} wrote again {{ $value | humanize }} times in 5 minutes",
        remedy: "forebay_db_retries_total says for what reason: overloaded wants less in_flight, the rest a look at the cluster.",
        judge: Some(store_retries),
    },
    Rule {
        name: "ForebayJournalBehind",
        severity: Severity::Critical,
        hold: MINUTE,
        expr: || format!("forebay_journal_last_sequence - on (pipeline, instance) forebay_journal_durable_sequence > {JOURNAL_EVENTS}"),
        summary: "{{ $value }} events of {{ $labels.pipeline }} wait for the disk",
        remedy: "The disk of data_dir is slow or full.",
        judge: Some(journal_behind),
    },
    Rule {
        name: "ForebayDiskFills",
        severity: Severity::Critical,
        hold: Duration::ZERO,
        expr: || format!("min by (pipeline, instance) (forebay_disk_free_bytes) < {DISK_BYTES}"),
        summary: "{{ $labels.pipeline }} has {{ $value | humanize1024 }}B left on its disk",
        remedy: "Make room on the disk of data_dir before it ends: the process stops when its journal can't be written. With embedded ends, lower [kafka] retention.",
        judge: Some(disk_fills),
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
        summary: "The embedded topics of {{ $labels.pipeline }} take more than their retention",
        remedy: "What is not written yet is kept: see why the lag does not shrink. The file keeps the size of its largest backlog.",
        judge: Some(retention_exceeded),
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
        remedy: "Lower the budgets and max_page_bytes; if it goes on rising, keep a snapshot and restart the process.",
        judge: Some(memory),
    },
];

/// A length of time as PromQL has it.
fn span(span: Duration) -> String {
    format!("{}s", span.as_secs())
}

/// What is remembered of a snapshot.
#[derive(Debug, Clone)]
struct Look {
    at: DateTime<Utc>,
    /// Unknown of the start of the process, when everything else was 0.
    lag: Option<u64>,
    batches: u64,
    rejected: u64,
    retries: u64,
    answers: u64,
    failures: u64,
    restarts: BTreeMap<String, u64>,
    blocked: BTreeMap<String, u64>,
}

impl Look {
    fn of(snapshot: &Snapshot) -> Self {
        let statuses = || snapshot.source.iter().flat_map(|source| &source.statuses);
        let fails = |class: &str| !matches!(class, "2xx" | "304");
        Self {
            at: snapshot.at,
            lag: Some(lag(snapshot)),
            batches: snapshot.stages.iter().find(|stage| stage.stage == "write").map_or(0, |stage| stage.count),
            rejected: snapshot.totals.rejected,
            retries: snapshot.totals.write_retries,
            answers: statuses().map(|(_, count)| count).sum(),
            failures: statuses().filter(|(class, _)| fails(class)).map(|(_, count)| count).sum(),
            restarts: snapshot.actors.iter().map(|actor| (actor.path.clone(), actor.restarts)).collect(),
            blocked: snapshot.edges.iter().map(|edge| (edge.name.clone(), edge.blocked_micros)).collect(),
        }
    }

    /// The start of the process.
    fn start(at: DateTime<Utc>) -> Self {
        let (restarts, blocked) = (BTreeMap::new(), BTreeMap::new());
        Self { at, lag: None, batches: 0, rejected: 0, retries: 0, answers: 0, failures: 0, restarts, blocked }
    }
}

fn lag(snapshot: &Snapshot) -> u64 {
    snapshot.partitions.iter().filter(|view| view.assigned).map(|view| view.lag()).sum()
}

/// The looks of the last minutes.
#[derive(Debug, Default)]
struct Past(VecDeque<Look>);

impl Past {
    /// The oldest look of the last so much time.
    fn since(&self, now: DateTime<Utc>, window: Duration) -> Option<&Look> {
        self.0.iter().find(|look| (now - look.at).to_std().is_ok_and(|age| age <= window))
    }

    /// Lag and batches at the oldest look of the last so much time that knows of both.
    fn lag_since(&self, now: DateTime<Utc>, window: Duration) -> Option<(u64, u64)> {
        let mut looks = self.0.iter().filter(|look| (now - look.at).to_std().is_ok_and(|age| age <= window));
        looks.find_map(|look| Some((look.lag?, look.batches)))
    }

    fn keep(&mut self, look: Look) {
        let now = look.at;
        let close = |last: &Look| (now - last.at).to_std().is_ok_and(|age| age < APART);
        if self.0.back().is_some_and(close) {
            return;
        }
        self.0.push_back(look);
        while self.0.len() > MAX_SAMPLES || self.0.front().is_some_and(|first| (now - first.at).to_std().is_ok_and(|age| age > LONGEST)) {
            self.0.pop_front();
        }
    }
}

/// Judges one snapshot after the other.
#[derive(Debug, Default)]
pub struct AlertEvaluator {
    past: Past,
    /// Since when each condition is met, by rule and by whom it is about.
    since: BTreeMap<(usize, String), DateTime<Utc>>,
}

impl AlertEvaluator {
    /// How many looks are kept.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.past.0.len()
    }

    /// What is wrong as of a snapshot, in the order of the rules.
    pub fn evaluate(&mut self, snapshot: &Snapshot) -> Vec<AlertView> {
        if self.past.0.is_empty() {
            self.past.keep(Look::start(snapshot.started_at));
        }
        let mut since = BTreeMap::new();
        let mut alerts = Vec::new();
        for (at, rule) in RULES.iter().enumerate() {
            let Some(judge) = rule.judge else { continue };
            for (whom, summary) in judge(&self.past, snapshot) {
                let key = (at, whom);
                let began = self.since.get(&key).copied().unwrap_or(snapshot.at);
                if (snapshot.at - began).to_std().is_ok_and(|held| held >= rule.hold) {
                    alerts.push(AlertView {
                        name: rule.name.to_owned(),
                        severity: rule.severity.as_str().to_owned(),
                        summary,
                        remedy: rule.remedy.to_owned(),
                        since: began,
                    });
                }
                since.insert(key, began);
            }
        }
        self.since = since;
        self.past.keep(Look::of(snapshot));
        alerts
    }
}

fn whole(so: bool, summary: impl FnOnce() -> String) -> Vec<(String, String)> {
    if so { vec![(String::new(), summary())] } else { Vec::new() }
}

fn lag_grows(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let (lag, before) = (lag(now), past.lag_since(now.at, LONGEST).map(|(lag, _)| lag));
    whole(lag > LAG_RECORDS && before.is_some_and(|before| lag > before), || {
        format!("{lag} records behind, {} more than before", lag.saturating_sub(before.unwrap_or(0)))
    })
}

fn lag_old(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let behind = |view: &&crate::snapshot::PartitionView| {
        view.assigned && u64::try_from(view.behind_ms).is_ok_and(|millis| millis > LAG_SECONDS * 1_000)
    };
    let views = now.partitions.iter().filter(behind);
    views
        .map(|view| (view.partition.to_string(), format!("{}[{}] is {} s behind", now.topic, view.partition, view.behind_ms / 1_000)))
        .collect()
}

fn nothing_written(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let batches = Look::of(now).batches;
    let still = past.lag_since(now.at, 2 * MINUTE).is_some_and(|(lag, before)| before == batches && lag > 0);
    let lag = lag(now);
    whole(lag > 0 && still && now.desired.state != DesiredState::Paused, || format!("{lag} records to write, and none is written"))
}

/// How much a count has risen over the last so much time.
fn rise(past: &Past, now: &Snapshot, window: Duration, read: fn(&Look) -> u64) -> u64 {
    past.since(now.at, window).map_or(0, |before| read(&Look::of(now)).saturating_sub(read(before)))
}

fn dead_letters(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let rejected = rise(past, now, 5 * MINUTE, |look| look.rejected);
    let most = now.rejects.most_frequent().map(|most| format!("; most often, {most}")).unwrap_or_default();
    whole(rejected > 0, || {
        format!("{rejected} records became dead letters in the last 5 minutes, {} since the start{most}", now.totals.rejected)
    })
}

fn actor_restarts(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let Some(before) = past.since(now.at, LONGEST) else { return Vec::new() };
    let risen = now.actors.iter().map(|actor| {
        let restarts = actor.restarts.saturating_sub(before.restarts.get(&actor.path).copied().unwrap_or(0));
        (actor, restarts)
    });
    let often = risen.filter(|(_, restarts)| *restarts > RESTARTS);
    often
        .map(|(actor, restarts)| {
            let why = actor.last_exit.as_ref().map_or_else(String::new, |why| format!("; the last time: {why}"));
            (actor.path.clone(), format!("{} was restarted {restarts} times in the last 10 minutes{why}", actor.path))
        })
        .collect()
}

fn actors(now: &Snapshot, state: ActorState, what: &str) -> Vec<(String, String)> {
    let such = now.actors.iter().filter(|actor| actor.state == state);
    such.map(|actor| {
        let more = actor.note.as_ref().or(actor.last_exit.as_ref()).map_or_else(String::new, |more| format!(": {more}"));
        (actor.path.clone(), format!("{} {what}{more}", actor.path))
    })
    .collect()
}

fn source_fails(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let (answers, failures) = (rise(past, now, 5 * MINUTE, |look| look.answers), rise(past, now, 5 * MINUTE, |look| look.failures));
    whole(answers > 0 && failures as f64 / answers as f64 > FAILING_SHARE, || {
        format!("{failures} of the last {answers} answers of the API were failures")
    })
}

fn fetch_cut_short(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let stop = now.source.as_ref().and_then(|source| source.stop.as_ref()).filter(|stop| !stop.complete);
    stop.map(|stop| (stop.reason.as_str().to_owned(), format!("the last fetch was {stop}"))).into_iter().collect()
}

fn budget_exhausted(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let Some(before) = past.since(now.at, 5 * MINUTE) else { return Vec::new() };
    let passed = (now.at - before.at).as_seconds_f64();
    let share = |edge: &EdgeView| {
        let blocked = edge.blocked_micros.saturating_sub(before.blocked.get(&edge.name).copied().unwrap_or(0));
        if passed > 0.0 { blocked as f64 / 1e6 / passed } else { 0.0 }
    };
    let full = now.edges.iter().map(|edge| (edge, share(edge))).filter(|(_, share)| *share > BLOCKED_SHARE);
    full.map(|(edge, share)| (edge.name.clone(), format!("{} waited for budget {:.0} % of the time", edge.name, share * 100.0))).collect()
}

fn store_retries(past: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let retries = rise(past, now, 5 * MINUTE, |look| look.retries);
    whole(retries > RETRIES, || format!("writes were tried again {retries} times in the last 5 minutes"))
}

fn journal_behind(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let waiting = if now.durable_seq == 0 { 0 } else { now.seq.saturating_sub(now.durable_seq) };
    whole(waiting > JOURNAL_EVENTS, || format!("{waiting} events wait for the disk"))
}

fn disk_fills(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let free = now.disk.as_ref().and_then(|disk| disk.free_bytes).unwrap_or(u64::MAX);
    whole(free < DISK_BYTES, || format!("{} MiB are left on the disk of the data directory", free >> 20))
}

fn retention_exceeded(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let Some(topic) = now.disk.as_ref().and_then(|disk| disk.topic) else { return Vec::new() };
    let over = topic.bytes.saturating_mul(100) > topic.limit_bytes.saturating_mul(RETENTION_PERCENT);
    whole(over, || {
        let (takes, limit) = (topic.bytes >> 20, topic.limit_bytes >> 20);
        format!("the embedded topics take {takes} MiB, over their retention of {limit} MiB; {} records are not written yet", lag(now))
    })
}

fn memory(_: &Past, now: &Snapshot) -> Vec<(String, String)> {
    let most = MEMORY_BUDGETS * now.edges.iter().map(|edge| edge.budget_bytes).sum::<u64>() + MEMORY_BYTES;
    whole(now.memory_bytes > most, || format!("{} MiB are in use, over {} MiB", now.memory_bytes >> 20, most >> 20))
}
