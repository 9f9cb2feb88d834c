//! The table of metrics: name, meaning, and how each is read from a snapshot.

use crate::desired::DesiredState;
use crate::snapshot::{ActorState, PartitionView, Snapshot, StageView};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only increases, from 0 at the start of the process.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts in cumulative buckets, with a sum and a count; all only increase.
    Histogram,
}

impl Kind {
    /// Its name in Prometheus's format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name; a counter's ends in `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The unit of its values: a base unit, or what is counted.
    pub unit: &'static str,
    /// Its meaning, in one sentence.
    pub help: &'static str,
    /// Its labels, besides `pipeline`, which every metric has.
    pub labels: &'static [&'static str],
    /// Reads its values from a snapshot.
    pub read: fn(&Snapshot, &mut Samples),
}

/// The values of one metric.
#[derive(Debug, Default)]
pub struct Samples {
    /// Label values, and the value.
    pub plain: Vec<(Vec<String>, f64)>,
    /// Label values, and the histogram.
    pub histograms: Vec<(Vec<String>, StageView)>,
}

impl Samples {
    fn put(&mut self, labels: &[&str], value: f64) {
        self.plain.push((labels.iter().map(|&label| label.to_owned()).collect(), value));
    }

    fn count(&mut self, value: u64) {
        self.put(&[], value as f64);
    }

    fn histogram(&mut self, labels: &[&str], view: &StageView) {
        self.histograms.push((labels.iter().map(|&label| label.to_owned()).collect(), view.clone()));
    }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Snapshot, &mut Samples),
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, help, labels, read }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Snapshot, &mut Samples),
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, help, labels, read }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str, read: fn(&Snapshot, &mut Samples)) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "seconds", help, labels, read }
}

/// All metrics. Two have names of OpenTelemetry's messaging conventions, because they mean exactly
/// the same; the others are Forebay's own.
pub const CATALOGUE: &[Metric] = &[
    // The process
    gauge("forebay_build_info", "1", &["version"], "Always 1; the label is the version of the program.", |s, to| {
        to.put(&[&s.version], 1.0);
    }),
    gauge("forebay_start_time_seconds", "seconds", &[], "When the process started, in seconds since 1970.", |s, to| {
        to.put(&[], s.started_at.timestamp_millis() as f64 / 1e3);
    }),
    gauge("forebay_role", "1", &["role"], "1 for each role of this process.", |s, to| {
        s.roles.iter().for_each(|role| to.put(&[role], 1.0));
    }),
    gauge("forebay_desired_state", "1", &["state"], "1 for the desired state of the pipeline, 0 for the other states.", |s, to| {
        let states = [(DesiredState::Running, "running"), (DesiredState::Paused, "paused"), (DesiredState::Drained, "drained")];
        states.iter().for_each(|(state, word)| to.put(&[word], truth(s.desired.state == *state)));
    }),
    gauge(
        "forebay_memory_resident_bytes",
        "bytes",
        &[],
        "Resident memory of the process; absent if the system does not report it.",
        |s, to| {
            if s.memory_bytes > 0 {
                to.count(s.memory_bytes);
            }
        },
    ),
    // The source
    counter(
        "forebay_http_responses_total",
        "responses",
        &["status_class"],
        "Responses of the source by status class: 2xx, 304, 3xx, 4xx, 429, 5xx, and none for requests without a response.",
        |s, to| {
            for (class, &count) in s.source.iter().flat_map(|source| &source.statuses) {
                to.put(&[class], count as f64);
            }
        },
    ),
    counter(
        "forebay_http_throttled_seconds_total",
        "seconds",
        &[],
        "Time for which fetching was suspended, because the source asked for it or failed.",
        |s, to| {
            if let Some(source) = &s.source {
                to.put(&[], seconds(source.throttled_micros));
            }
        },
    ),
    gauge(
        "forebay_fetch_complete",
        "1",
        &["reason"],
        "1 if the last fetch read everything that the source had, 0 if it was cut short; the label is why it requested no further page.",
        |s, to| {
            if let Some(stop) = s.source.as_ref().and_then(|source| source.stop.as_ref()) {
                to.put(&[stop.reason.as_str()], truth(stop.complete));
            }
        },
    ),
    counter("forebay_pages_total", "pages", &[], "Pages that the source answered.", |s, to| to.count(s.totals.pages)),
    counter("forebay_fetch_failures_total", "fetches", &[], "Fetches that did not return a usable page.", |s, to| {
        to.count(s.totals.fetch_failures);
    }),
    counter("forebay_records_fetched_total", "records", &[], "Records found in pages.", |s, to| to.count(s.totals.fetched)),
    counter(
        "forebay_records_repeated_total",
        "records",
        &[],
        "Records of those that were left out, since the overlap of an incremental read had them in an earlier fetch.",
        |s, to| to.count(s.totals.repeated),
    ),
    // Kafka
    counter("messaging_client_sent_messages_total", "records", &["topic"], "Records that Kafka acknowledged in the topic.", |s, to| {
        to.put(&[&s.topic], s.totals.produced as f64);
    }),
    counter(
        "messaging_client_consumed_messages_total",
        "records",
        &["topic"],
        "Records read from the topic and settled: written, filtered out by the SQL, or dead letters.",
        |s, to| {
            to.put(&[&s.topic], s.totals.consumed as f64);
        },
    ),
    gauge(
        "forebay_kafka_lag_records",
        "records",
        &["topic", "partition"],
        "Records of an assigned partition that are not yet written.",
        |s, to| {
            assigned(s, to, |view| Some(view.lag() as f64));
        },
    ),
    gauge(
        "forebay_kafka_lag_seconds",
        "seconds",
        &["topic", "partition"],
        "Age of the oldest unwritten record in the topic; 0 without lag, absent until it is read.",
        |s, to| {
            assigned(s, to, |view| known(view.behind_ms).map(|millis| millis / 1e3));
        },
    ),
    gauge("forebay_kafka_begin_offset", "offset", &["topic", "partition"], "The first offset that Kafka holds.", |s, to| {
        assigned(s, to, |view| known(view.begin.value()));
    }),
    gauge("forebay_kafka_end_offset", "offset", &["topic", "partition"], "The offset of the next record.", |s, to| {
        assigned(s, to, |view| known(view.end.value()));
    }),
    gauge(
        "forebay_kafka_written_offset",
        "offset",
        &["topic", "partition"],
        "Everything before it is in the table or a dead letter; absent if this process does not know.",
        |s, to| {
            assigned(s, to, |view| known(view.written.value()));
        },
    ),
    gauge(
        "forebay_kafka_committed_offset",
        "offset",
        &["topic", "partition"],
        "The committed offset of the consumer group; absent without one.",
        |s, to| {
            assigned(s, to, |view| known(view.committed.value()));
        },
    ),
    gauge(
        "forebay_kafka_partition_assigned",
        "1",
        &["topic", "partition"],
        "1 while the partition is assigned to this process, 0 if it was before.",
        |s, to| {
            partitions(s, to, |view| Some(truth(view.assigned)));
        },
    ),
    gauge(
        "forebay_kafka_partition_paused",
        "1",
        &["topic", "partition"],
        "1 while an assigned partition is paused for lack of budget.",
        |s, to| {
            assigned(s, to, |view| Some(truth(view.paused)));
        },
    ),
    counter(
        "forebay_kafka_clamped_timestamps_total",
        "records",
        &["topic", "partition"],
        "Records whose timestamp lies before the year 2000 or after 2099, and is ignored.",
        |s, to| {
            partitions(s, to, |view| Some(view.clamped as f64));
        },
    ),
    counter(
        "forebay_kafka_unkeyed_records_total",
        "records",
        &["topic", "partition"],
        "Records without a key; those of one row may be in several partitions, so the newest of them is unknown.",
        |s, to| {
            partitions(s, to, |view| Some(view.unkeyed as f64));
        },
    ),
    // Batches
    counter("forebay_batches_total", "batches", &[], "Micro-batches written.", |s, to| {
        if let Some(write) = s.stages.iter().find(|stage| stage.stage == "write") {
            to.count(write.count);
        }
    }),
    gauge(
        "forebay_last_batch_timestamp_seconds",
        "seconds",
        &[],
        "When the last micro-batch was written, in seconds since 1970; absent before the first.",
        |s, to| {
            if let Some(batch) = s.batches.first() {
                to.put(&[], batch.at.timestamp_millis() as f64 / 1e3);
            }
        },
    ),
    histogram(
        "forebay_stage_duration_seconds",
        &["stage"],
        "Duration of a stage: fetch and produce for a page; wait, transform, write and commit for a micro-batch.",
        |s, to| {
            s.stages.iter().for_each(|stage| to.histogram(&[&stage.stage], stage));
        },
    ),
    histogram(
        "forebay_end_to_end_latency_seconds",
        &[],
        "From a record's timestamp in the topic until its row was acknowledged.",
        |s, to| {
            if !s.end_to_end.buckets.is_empty() {
                to.histogram(&[], &s.end_to_end);
            }
        },
    ),
    counter("forebay_rows_written_total", "rows", &[], "Rows that the table acknowledged.", |s, to| to.count(s.totals.written)),
    gauge(
        "forebay_drifted_fields",
        "fields",
        &[],
        "Fields of records that the schema does not have, since the start; at most 100.",
        |s, to| {
            to.count(s.drift.len() as u64);
        },
    ),
    counter("forebay_records_rejected_total", "records", &[], "Records that went to the dead-letter topic.", |s, to| {
        to.count(s.totals.rejected);
    }),
    // The store
    counter(
        "forebay_db_statements_total",
        "statements",
        &["db_system"],
        "Statements that the store acknowledged; a CQL batch counts as one, and so does a transaction of the embedded store.",
        |s, to| {
            s.store.iter().for_each(|store| to.put(&[&store.kind], store.statements as f64));
        },
    ),
    gauge("forebay_db_in_flight_statements", "statements", &["db_system"], "Statements that were sent and not yet answered.", |s, to| {
        s.store.iter().for_each(|store| to.put(&[&store.kind], store.in_flight as f64));
    }),
    counter(
        "forebay_db_retries_total",
        "attempts",
        &["db_system", "reason"],
        "Retries of writes by reason: write_timeout, unavailable, overloaded, connection, policy, disk_full, other.",
        |s, to| {
            if let Some(store) = &s.store {
                store.retries.iter().for_each(|(reason, &count)| to.put(&[&store.kind, reason], count as f64));
            }
        },
    ),
    gauge(
        "forebay_db_node_up",
        "1",
        &["node", "datacenter"],
        "1 while a Cassandra node is connected; absent for the embedded store.",
        |s, to| {
            for node in s.store.iter().filter(|store| store.kind == "cassandra").flat_map(|store| &store.nodes) {
                to.put(&[&node.address, &node.datacenter], truth(node.up));
            }
        },
    ),
    // Actors
    gauge(
        "forebay_actor_state",
        "1",
        &["actor", "state"],
        "1 for the state of an actor, 0 for the other states: up, waiting (for a server), stuck, restarting, ended.",
        |s, to| {
            let states = [
                (ActorState::Up, "up"),
                (ActorState::Waiting, "waiting"),
                (ActorState::Stuck, "stuck"),
                (ActorState::Restarting, "restarting"),
                (ActorState::Ended, "ended"),
            ];
            for actor in &s.actors {
                states.iter().for_each(|(state, word)| to.put(&[&actor.path, word], truth(actor.state == *state)));
            }
        },
    ),
    counter("forebay_actor_restarts_total", "restarts", &["actor"], "Restarts of an actor.", |s, to| {
        s.actors.iter().for_each(|actor| to.put(&[&actor.path], actor.restarts as f64));
    }),
    gauge("forebay_actor_mailbox_messages", "messages", &["actor"], "Messages waiting in an actor's mailbox.", |s, to| {
        s.actors.iter().for_each(|actor| to.put(&[&actor.path], actor.mailbox as f64));
    }),
    // Edges
    gauge("forebay_edge_used_bytes", "bytes", &["edge"], "Bytes in flight between two actors.", |s, to| {
        s.edges.iter().for_each(|edge| to.put(&[&edge.name], edge.used_bytes as f64));
    }),
    gauge("forebay_edge_budget_bytes", "bytes", &["edge"], "The budget of bytes in flight between two actors.", |s, to| {
        s.edges.iter().for_each(|edge| to.put(&[&edge.name], edge.budget_bytes as f64));
    }),
    counter("forebay_backpressure_seconds_total", "seconds", &["edge"], "Time that the upstream actor has waited for budget.", |s, to| {
        s.edges.iter().for_each(|edge| to.put(&[&edge.name], seconds(edge.blocked_micros)));
    }),
    // The disk
    gauge(
        "forebay_disk_free_bytes",
        "bytes",
        &[],
        "Space available to the process on the file system of its data directory; absent if the system does not report it.",
        |s, to| {
            if let Some(free) = s.disk.as_ref().and_then(|disk| disk.free_bytes) {
                to.count(free);
            }
        },
    ),
    gauge(
        "forebay_disk_used_bytes",
        "bytes",
        &["part"],
        "Disk usage of the journal, the embedded topics and the embedded table; absent for parts that are not embedded.",
        |s, to| {
            let Some(disk) = &s.disk else { return };
            let parts =
                [("journal", Some(disk.journal_bytes)), ("topics", disk.topic.map(|topic| topic.bytes)), ("table", disk.table_bytes)];
            parts.iter().filter_map(|(part, bytes)| Some((part, (*bytes)?))).for_each(|(part, bytes)| to.put(&[part], bytes as f64));
        },
    ),
    gauge("forebay_disk_retention_bytes", "bytes", &[], "The size limit of the embedded topics; absent with a real broker.", |s, to| {
        if let Some(topic) = s.disk.as_ref().and_then(|disk| disk.topic) {
            to.count(topic.limit_bytes);
        }
    }),
    counter(
        "forebay_records_expired_total",
        "records",
        &[],
        "Records removed from the embedded topics because they exceeded their retention; absent with a real broker.",
        |s, to| {
            if let Some(topic) = s.disk.as_ref().and_then(|disk| disk.topic) {
                to.count(topic.removed_records);
            }
        },
    ),
    // Runs and the journal
    gauge("forebay_runs_open", "runs", &[], "Runs that have not ended.", |s, to| to.count(s.run_totals.open)),
    counter("forebay_runs_ended_total", "runs", &["state"], "Runs that ended since the process started, by state.", |s, to| {
        let ended = &s.run_totals;
        let by_state = [("succeeded", ended.succeeded), ("failed", ended.failed), ("cancelled", ended.cancelled)];
        by_state.iter().for_each(|(state, count)| to.put(&[state], *count as f64));
    }),
    gauge("forebay_journal_last_sequence", "events", &[], "The last event decided.", |s, to| to.count(s.seq)),
    gauge("forebay_journal_durable_sequence", "events", &[], "The last event on disk; absent without a journal.", |s, to| {
        if s.durable_seq > 0 {
            to.count(s.durable_seq);
        }
    }),
];

fn truth(so: bool) -> f64 {
    f64::from(u8::from(so))
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// In a snapshot, −1 means unknown.
fn known(number: i64) -> Option<f64> {
    (number >= 0).then_some(number as f64)
}

fn partitions(s: &Snapshot, to: &mut Samples, read: fn(&PartitionView) -> Option<f64>) {
    for view in &s.partitions {
        if let Some(value) = read(view) {
            to.put(&[&s.topic, &view.partition.to_string()], value);
        }
    }
}

/// For a partition that is not assigned, this process knows only old values.
fn assigned(s: &Snapshot, to: &mut Samples, read: fn(&PartitionView) -> Option<f64>) {
    for view in s.partitions.iter().filter(|view| view.assigned) {
        if let Some(value) = read(view) {
            to.put(&[&s.topic, &view.partition.to_string()], value);
        }
    }
}
