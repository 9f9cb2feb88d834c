//! Batches and runs as OpenTelemetry spans, in the JSON encoding of OTLP
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
//!
//! Guarantees:
//! * Pure: the same event gives the same spans.
//! * Ids are lower-case hex and never zero; times are whole nanoseconds as text.
//! * Names and attributes follow the conventions for messaging and databases.
//! * A run with a valid label `traceparent` (W3C) is a span of that trace, below the task that
//!   requested it.
//!
//! Does not guarantee the gaps between the stages of a batch: the journal stores only durations, so
//! the stages are laid end to end.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::{Event, Recorded};
use crate::offset::Ranges;
use crate::run::{Run, RunState};

/// The label with the trace of a run.
const TRACEPARENT: &str = "traceparent";
/// Span kinds.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;
const CONSUMER: u8 = 5;

/// The part that all spans of a pipeline share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracer {
    /// The pipeline's name.
    pub pipeline: String,
    /// The version of the program.
    pub version: String,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The store's kind: `cassandra`, or `embedded`.
    pub store: String,
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
}

impl Tracer {
    /// The spans of a written micro-batch: one for the batch, and one for each of its stages. None
    /// for other events.
    pub fn batch(&self, recorded: &Recorded) -> Vec<Value> {
        let Event::BatchWritten { batch, ranges, rows, rejected, wait_micros, transform_micros, write_micros, .. } = &recorded.event else {
            return Vec::new();
        };
        let seed = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}\n{}\n{}", self.pipeline, recorded.seq, recorded.at).as_bytes());
        let (trace, root) = (hex(seed.as_bytes()), span_id(seed, "batch"));
        let stages = [("wait", *wait_micros), ("transform", *transform_micros), ("write", *write_micros)];
        let micros = |micros: u64| TimeDelta::microseconds(i64::try_from(micros).unwrap_or(i64::MAX / 2_000));
        let start = stages.iter().fold(recorded.at, |at, (_, took)| at - micros(*took));

        let name = format!("process {}", self.topic);
        let mut spans = vec![span(
            &trace,
            &root,
            None,
            &name,
            CONSUMER,
            (start, recorded.at),
            &self.of_batch(recorded.seq, *batch, ranges, *rows, *rejected),
        )];
        let mut at = start;
        for (stage, took) in stages {
            let end = at + micros(took);
            let (name, kind, attributes) = match stage {
                "write" => (format!("INSERT {}.{}", self.keyspace, self.table), CLIENT, self.of_write(*rows)),
                stage => (stage.to_owned(), INTERNAL, Vec::new()),
            };
            spans.push(span(&trace, &span_id(seed, stage), Some(&root), &name, kind, (at, end), &attributes));
            at = end;
        }
        spans
    }

    fn of_batch(&self, seq: u64, batch: u64, ranges: &Ranges, rows: u64, rejected: u64) -> Vec<(&'static str, Value)> {
        vec![
            ("messaging.system", text("kafka")),
            ("messaging.operation.name", text("process")),
            ("messaging.operation.type", text("process")),
            ("messaging.destination.name", text(&self.topic)),
            ("messaging.consumer.group.name", text(&self.group)),
            ("messaging.batch.message_count", number(ranges.0.values().map(crate::offset::Range::len).sum())),
            ("forebay.pipeline", text(&self.pipeline)),
            ("forebay.batch", number(batch)),
            ("forebay.event", number(seq)),
            (
                "forebay.offsets",
                text(&ranges.0.iter().map(|(partition, range)| format!("{partition}{range}")).collect::<Vec<_>>().join(" ")),
            ),
            ("forebay.rows", number(rows)),
            ("forebay.rejected", number(rejected)),
        ]
    }

    fn of_write(&self, rows: u64) -> Vec<(&'static str, Value)> {
        let system = if self.store == "embedded" { "sqlite" } else { "cassandra" };
        vec![
            ("db.system.name", text(system)),
            ("db.namespace", text(&self.keyspace)),
            ("db.collection.name", text(&self.table)),
            ("db.operation.name", text("INSERT")),
            ("db.operation.batch.size", number(rows)),
        ]
    }

    /// The span of a run that has ended.
    pub fn run(&self, run: &Run, ended: DateTime<Utc>) -> Value {
        let parent = run.spec.labels.get(TRACEPARENT).and_then(|label| parent(label));
        let trace = parent.as_ref().map_or_else(|| hex(run.id.as_bytes()), |(trace, _)| trace.clone());
        let attributes = [
            ("forebay.pipeline", text(&self.pipeline)),
            ("forebay.run", text(&run.id.to_string())),
            ("forebay.run.key", text(&run.key)),
            ("forebay.run.attempt", number(run.attempt.into())),
            ("forebay.run.pages", number(run.counts.pages)),
            ("forebay.run.produced", number(run.counts.produced)),
        ];
        let id = span_id(run.id, "run");
        let parent = parent.as_ref().map(|(_, span)| span.as_str());
        let mut span = span(&trace, &id, parent, &format!("run {}", self.pipeline), INTERNAL, (run.requested_at, ended), &attributes);
        span["status"] = match (&run.error, run.state) {
            (Some(error), _) => json!({ "code": 2, "message": format!("{}: {}", error.stage, error.message) }),
            (None, RunState::Succeeded) => json!({ "code": 1 }),
            _ => json!({}),
        };
        span
    }

    /// The body of an export request.
    pub fn request(&self, spans: &[Value]) -> Value {
        let resource = [("service.name", text("forebay")), ("service.version", text(&self.version))];
        json!({ "resourceSpans": [{
            "resource": { "attributes": attributes(&resource) },
            "scopeSpans": [{ "scope": { "name": "forebay", "version": self.version }, "spans": spans }],
        }] })
    }
}

fn span(
    trace: &str,
    id: &str,
    parent: Option<&str>,
    name: &str,
    kind: u8,
    (start, end): (DateTime<Utc>, DateTime<Utc>),
    with: &[(&'static str, Value)],
) -> Value {
    let nanos = |at: DateTime<Utc>| at.timestamp_nanos_opt().unwrap_or_default().max(0).to_string();
    let mut span = json!({
        "traceId": trace, "spanId": id, "name": name, "kind": kind,
        "startTimeUnixNano": nanos(start), "endTimeUnixNano": nanos(end.max(start)), "attributes": attributes(with),
    });
    if let Some(parent) = parent {
        span["parentSpanId"] = parent.into();
    }
    span
}

fn attributes(of: &[(&'static str, Value)]) -> Vec<Value> {
    of.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn text(text: &str) -> Value {
    json!({ "stringValue": text })
}

/// Protobuf's JSON encoding has 64-bit integers as text.
fn number(number: u64) -> Value {
    json!({ "intValue": number.to_string() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn span_id(of: Uuid, name: &str) -> String {
    hex(&Uuid::new_v5(&of, name.as_bytes()).as_bytes()[..8])
}

/// Trace and span ids of a `traceparent` of version 00.
fn parent(label: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = label.split('-').collect();
    let [version, trace, span, _] = parts[..] else { return None };
    let sound = |text: &str, length| {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        text.len() == length && hex && text.bytes().any(|b| b != b'0')
    };
    (version == "00" && sound(trace, 32) && sound(span, 16)).then(|| (trace.to_owned(), span.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::offset::{Offset, Range};
    use crate::run::{RunCounts, RunError, RunSpec};

    fn tracer() -> Tracer {
        Tracer {
            pipeline: "users".into(),
            version: "0.1.0".into(),
            topic: "users_stream".into(),
            group: "users".into(),
            store: "cassandra".into(),
            keyspace: "forebay".into(),
            table: "users_stream".into(),
        }
    }

    fn batch(seq: u64) -> Recorded {
        let event = Event::BatchWritten {
            batch: 3,
            ranges: [(0, Range { from: Offset(5), to: Offset(15) }), (2, Range::of(Offset(0)))].into_iter().collect(),
            rows: 10,
            rejected: 1,
            wait_micros: 1_000,
            transform_micros: 2_000,
            write_micros: 4_000,
            written: crate::event::Checkpoints::default(),
            runs: Vec::new(),
        };
        Recorded::new(seq, DateTime::UNIX_EPOCH + TimeDelta::seconds(1), event)
    }

    fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
        let all = span["attributes"].as_array().unwrap();
        &all.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("{key}: {span:#}"))["value"]
    }

    fn is_id(value: &Value, length: usize) -> bool {
        let text = value.as_str().unwrap();
        text.len() == length && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) && text.chars().any(|c| c != '0')
    }

    #[test]
    fn a_batch_is_a_span_and_its_stages_fill_it() {
        let spans = tracer().batch(&batch(9));
        let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        let times: Vec<_> = spans.iter().map(|span| (time(span, "startTimeUnixNano"), time(span, "endTimeUnixNano"))).collect();
        let at = |micros: u64| 1_000_000_000 - 7_000_000 + micros * 1_000;
        assert_eq!(times, [(at(0), at(7_000)), (at(0), at(1_000)), (at(1_000), at(3_000)), (at(3_000), at(7_000))]);
        assert!(spans.iter().all(|span| is_id(&span["traceId"], 32) && is_id(&span["spanId"], 16)));
        assert!(spans[1..].iter().all(|span| span["parentSpanId"] == spans[0]["spanId"]) && spans[0].get("parentSpanId").is_none());
        let ids: BTreeSet<_> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 4);
        assert_eq!(attribute(&spans[0], "messaging.batch.message_count"), &json!({ "intValue": "11" }));
        assert_eq!(attribute(&spans[0], "forebay.offsets"), &json!({ "stringValue": "0[5..15) 2[0..1)" }));
        assert_eq!((&spans[3]["name"], &spans[3]["kind"]), (&"INSERT forebay.users_stream".into(), &3.into()));
        assert_eq!(attribute(&spans[3], "db.operation.batch.size"), &json!({ "intValue": "10" }));
        assert_eq!(spans, tracer().batch(&batch(9)), "the same event gives the same spans");
        assert_ne!(spans[0]["traceId"], tracer().batch(&batch(10))[0]["traceId"]);
        assert!(tracer().batch(&Recorded::new(1, DateTime::UNIX_EPOCH, Event::PipelineStopped { clean: true })).is_empty());
    }

    fn run(labels: &[(&str, &str)], error: Option<RunError>) -> Run {
        let labels: BTreeMap<_, _> = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Run {
            id: "0192f0c1-7a00-7000-8000-000000000001".parse().unwrap(),
            key: "daily".into(),
            attempt: 2,
            spec: RunSpec { labels, ..RunSpec::default() },
            state: if error.is_some() { RunState::Failed } else { RunState::Succeeded },
            terminal: true,
            counts: RunCounts { pages: 1, fetched: 7, produced: 7, ..RunCounts::default() },
            kept: RunCounts::default(),
            rejects: crate::rejects::Rejects::default(),
            kept_rejects: crate::rejects::Rejects::default(),
            ranges: Ranges::default(),
            stop: None,
            again: false,
            began: None,
            position: None,
            error,
            requested_at: DateTime::UNIX_EPOCH,
            ended_at: None,
            cancelled: None,
        }
    }

    #[test]
    fn a_run_is_a_span_below_its_task_or_a_trace_of_its_own() {
        let end = DateTime::UNIX_EPOCH + TimeDelta::seconds(2);
        let alone = tracer().run(&run(&[], None), end);
        assert_eq!((&alone["traceId"], alone.get("parentSpanId")), (&"0192f0c17a0070008000000000000001".into(), None));
        assert_eq!((&alone["status"], &alone["endTimeUnixNano"]), (&json!({ "code": 1 }), &"2000000000".into()));
        let label = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let under = tracer().run(&run(&[("traceparent", label)], None), end);
        assert_eq!((&under["traceId"], &under["parentSpanId"]), (&"4bf92f3577b34da6a3ce929d0e0e4736".into(), &"00f067aa0ba902b7".into()));
        let error = RunError { stage: "fetch".into(), message: "answered 404".into(), retryable: false };
        assert_eq!(tracer().run(&run(&[], Some(error)), end)["status"], json!({ "code": 2, "message": "fetch: answered 404" }));
        for nonsense in
            ["", "00-0-0-0", &label.to_uppercase(), &label.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), &label[3..]]
        {
            assert_eq!(parent(nonsense), None, "{nonsense}");
        }
    }
}
