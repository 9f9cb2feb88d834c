//! `docs/grafana/forebay.json` and `docs/grafana/alerts.yml`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::alerts::RULES;
use super::is_checked_in;
use super::promql;

/// How a panel draws its queries.
#[derive(Clone, Copy, PartialEq)]
enum Shows {
    Line,
    Stacked,
    Number,
    Heat,
}

/// Title, Grafana unit, drawing, and queries with their legends. `$p` is the matcher of the chosen
/// pipelines.
type Panel = (&'static str, &'static str, Shows, &'static [(&'static str, &'static str)]);

use Shows::{Heat, Line, Number, Stacked};

const ROWS: &[(&str, &[Panel])] = &[
    (
        "Overview",
        &[
            ("Rows written", "rowsps", Number, &[("sum(rate(forebay_rows_written_total{$p}[1m]))", "rows")]),
            ("Lag", "short", Number, &[("sum(forebay_kafka_lag_records{$p})", "records")]),
            ("Lag in time", "s", Number, &[("max(forebay_kafka_lag_seconds{$p})", "seconds")]),
            ("Last batch", "s", Number, &[("time() - max(forebay_last_batch_timestamp_seconds{$p})", "ago")]),
            ("Rejected per hour", "short", Number, &[("sum(increase(forebay_records_rejected_total{$p}[1h]))", "records")]),
            ("Actors not running", "short", Number, &[("sum(1 - forebay_actor_state{$p,state=\"up\"})", "actors")]),
            (
                "Records by stage",
                "recps",
                Line,
                &[
                    ("sum by (pipeline) (rate(forebay_records_fetched_total{$p}[$__rate_interval]))", "{{pipeline}} fetched"),
                    ("sum by (pipeline) (rate(forebay_records_repeated_total{$p}[$__rate_interval]))", "{{pipeline}} repeated, left out"),
                    ("sum by (pipeline) (rate(messaging_client_sent_messages_total{$p}[$__rate_interval]))", "{{pipeline}} produced"),
                    ("sum by (pipeline) (rate(messaging_client_consumed_messages_total{$p}[$__rate_interval]))", "{{pipeline}} consumed"),
                    ("sum by (pipeline) (rate(forebay_rows_written_total{$p}[$__rate_interval]))", "{{pipeline}} written"),
                    ("sum by (pipeline) (rate(forebay_records_rejected_total{$p}[$__rate_interval]))", "{{pipeline}} rejected"),
                ],
            ),
            (
                "End-to-end latency",
                "s",
                Heat,
                &[("sum by (le) (increase(forebay_end_to_end_latency_seconds_bucket{$p}[$__rate_interval]))", "{{le}}")],
            ),
            ("Fields that the schema does not have", "short", Line, &[("sum by (pipeline) (forebay_drifted_fields{$p})", "{{pipeline}}")]),
            (
                "Responses of the source",
                "short",
                Stacked,
                &[("sum by (status_class) (rate(forebay_http_responses_total{$p}[$__rate_interval]))", "{{status_class}}")],
            ),
            (
                "Fetching suspended",
                "percentunit",
                Line,
                &[("sum by (pipeline) (rate(forebay_http_throttled_seconds_total{$p}[$__rate_interval]))", "{{pipeline}}")],
            ),
            ("Memory", "bytes", Line, &[("forebay_memory_resident_bytes{$p}", "{{pipeline}} {{instance}}")]),
            (
                "Disk",
                "bytes",
                Line,
                &[
                    ("forebay_disk_used_bytes{$p}", "{{pipeline}} {{part}}"),
                    ("forebay_disk_retention_bytes{$p}", "{{pipeline}} retention of the topics"),
                    ("forebay_disk_free_bytes{$p}", "{{pipeline}} left"),
                ],
            ),
            (
                "Records removed by retention",
                "recps",
                Line,
                &[("rate(forebay_records_expired_total{$p}[$__rate_interval])", "{{pipeline}}")],
            ),
            (
                "Fetch failures",
                "short",
                Line,
                &[("sum by (pipeline) (increase(forebay_fetch_failures_total{$p}[$__rate_interval]))", "{{pipeline}}")],
            ),
        ],
    ),
    (
        "Kafka",
        &[
            (
                "Lag in records",
                "short",
                Stacked,
                &[("sum by (topic, partition) (forebay_kafka_lag_records{$p})", "{{topic}}[{{partition}}]")],
            ),
            ("Lag in seconds", "s", Line, &[("max by (topic, partition) (forebay_kafka_lag_seconds{$p})", "{{topic}}[{{partition}}]")]),
            (
                "In and out",
                "recps",
                Line,
                &[
                    ("sum by (topic) (rate(forebay_kafka_end_offset{$p}[$__rate_interval]))", "{{topic}} in"),
                    ("sum by (topic) (rate(forebay_kafka_written_offset{$p}[$__rate_interval]))", "{{topic}} written"),
                    ("sum by (topic) (rate(forebay_kafka_committed_offset{$p}[$__rate_interval]))", "{{topic}} committed"),
                ],
            ),
            (
                "Partitions",
                "short",
                Line,
                &[
                    ("sum by (instance) (forebay_kafka_partition_assigned{$p})", "{{instance}} assigned"),
                    ("sum by (instance) (forebay_kafka_partition_paused{$p})", "{{instance}} paused"),
                ],
            ),
        ],
    ),
    (
        "Batches",
        &[
            ("Batches", "short", Line, &[("sum by (pipeline) (rate(forebay_batches_total{$p}[$__rate_interval]))", "{{pipeline}}")]),
            (
                "Mean stage duration",
                "s",
                Stacked,
                &[(
                    "sum by (stage) (rate(forebay_stage_duration_seconds_sum{$p}[$__rate_interval])) / sum by (stage) (rate(forebay_stage_duration_seconds_count{$p}[$__rate_interval]))",
                    "{{stage}}",
                )],
            ),
            (
                "99th percentile of each stage",
                "s",
                Line,
                &[(
                    "histogram_quantile(0.99, sum by (le, stage) (rate(forebay_stage_duration_seconds_bucket{$p}[$__rate_interval])))",
                    "{{stage}}",
                )],
            ),
            (
                "Bytes in flight",
                "bytes",
                Line,
                &[
                    ("sum by (edge) (forebay_edge_used_bytes{$p})", "{{edge}}"),
                    ("sum by (edge) (forebay_edge_budget_bytes{$p})", "{{edge}} budget"),
                ],
            ),
            (
                "Waiting for budget",
                "percentunit",
                Line,
                &[("sum by (edge) (rate(forebay_backpressure_seconds_total{$p}[$__rate_interval]))", "{{edge}}")],
            ),
        ],
    ),
    (
        "Cassandra",
        &[
            (
                "Statements",
                "reqps",
                Line,
                &[("sum by (db_system) (rate(forebay_db_statements_total{$p}[$__rate_interval]))", "{{db_system}}")],
            ),
            (
                "Batch write time",
                "s",
                Line,
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(forebay_stage_duration_seconds_bucket{$p,stage=\"write\"}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (le) (rate(forebay_stage_duration_seconds_bucket{$p,stage=\"write\"}[$__rate_interval])))",
                        "p95",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(forebay_stage_duration_seconds_bucket{$p,stage=\"write\"}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            ("Retries", "short", Stacked, &[("sum by (reason) (increase(forebay_db_retries_total{$p}[$__rate_interval]))", "{{reason}}")]),
            ("In flight", "short", Line, &[("sum by (pipeline) (forebay_db_in_flight_statements{$p})", "{{pipeline}}")]),
            ("Nodes up", "short", Line, &[("min by (node, datacenter) (forebay_db_node_up{$p})", "{{datacenter}} {{node}}")]),
        ],
    ),
    (
        "Actors",
        &[
            (
                "Not running",
                "short",
                Stacked,
                &[("sum by (actor, state) (forebay_actor_state{$p,state!=\"up\"}) > 0", "{{actor}} {{state}}")],
            ),
            (
                "Restarts",
                "short",
                Stacked,
                &[("sum by (actor) (increase(forebay_actor_restarts_total{$p}[$__rate_interval]))", "{{actor}}")],
            ),
            ("Mailboxes", "short", Line, &[("max by (actor) (forebay_actor_mailbox_messages{$p})", "{{actor}}")]),
            (
                "Events not yet on disk",
                "short",
                Line,
                &[("forebay_journal_last_sequence{$p} - forebay_journal_durable_sequence{$p}", "{{pipeline}} {{instance}}")],
            ),
        ],
    ),
    (
        "Runs",
        &[
            ("Open", "short", Line, &[("sum by (pipeline) (forebay_runs_open{$p})", "{{pipeline}}")]),
            ("Ended", "short", Stacked, &[("sum by (state) (increase(forebay_runs_ended_total{$p}[$__rate_interval]))", "{{state}}")]),
            ("Desired state", "short", Line, &[("max by (pipeline, state) (forebay_desired_state{$p}) > 0", "{{pipeline}} {{state}}")]),
        ],
    ),
];

/// The label matcher of every query.
const CHOSEN: &str = "pipeline=~\"$pipeline\"";

fn panel(id: usize, &(title, unit, shows, queries): &Panel, at: (usize, usize), size: (usize, usize)) -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let target = |(number, (query, legend)): (usize, &(&str, &str))| {
        let format = if shows == Heat { "heatmap" } else { "time_series" };
        json!({ "refId": char::from(b'A' + u8::try_from(number).unwrap()).to_string(), "datasource": source, "expr": query.replace("$p", CHOSEN), "legendFormat": legend, "format": format })
    };
    let kind = match shows {
        Line | Stacked => "timeseries",
        Number => "stat",
        Heat => "heatmap",
    };
    let stacking = if shows == Stacked { "normal" } else { "none" };
    json!({
        "id": id, "type": kind, "title": title, "datasource": source,
        "gridPos": { "x": at.0, "y": at.1, "w": size.0, "h": size.1 },
        "targets": queries.iter().enumerate().map(target).collect::<Vec<_>>(),
        "fieldConfig": { "defaults": { "unit": unit, "min": 0, "custom": { "stacking": { "mode": stacking } } }, "overrides": [] },
        "options": if shows == Heat { json!({ "calculate": false, "yAxis": { "unit": unit } }) } else { json!({}) },
    })
}

fn dashboard() -> Value {
    let (mut panels, mut y, mut id) = (Vec::new(), 0, 0);
    for (title, row) in ROWS {
        id += 1;
        panels.push(json!({ "id": id, "type": "row", "title": title, "collapsed": false, "panels": [], "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 } }));
        y += 1;
        let (mut x, mut height) = (0, 0);
        for each in *row {
            let size = if each.2 == Number { (4, 4) } else { (8, 8) };
            if x + size.0 > 24 || (x > 0 && size.1 != height) {
                (x, y) = (0, y + height);
            }
            id += 1;
            panels.push(panel(id, each, (x, y), size));
            (x, height) = (x + size.0, size.1);
        }
        y += height;
    }
    json!({
        "title": "Forebay", "uid": "forebay", "schemaVersion": 39, "version": 1, "editable": true, "tags": ["forebay"],
        "time": { "from": "now-1h", "to": "now" }, "refresh": "10s", "timezone": "browser",
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus" },
            {
                "name": "pipeline", "type": "query", "label": "Pipeline", "multi": true, "includeAll": true, "refresh": 2, "sort": 1,
                "datasource": { "type": "prometheus", "uid": "${datasource}" },
                "definition": "label_values(forebay_build_info, pipeline)",
                "query": { "query": "label_values(forebay_build_info, pipeline)", "refId": "pipelines" },
                "current": { "text": "All", "value": "$__all" },
            },
        ] },
        "annotations": { "list": [{
            "name": "Starts", "enable": true, "iconColor": "blue", "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "expr": format!("changes(forebay_start_time_seconds{{{CHOSEN}}}[1m]) > 0"), "titleFormat": "{{pipeline}} started",
        }] },
        "panels": panels,
    })
}

fn alert_rules() -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut text = "# Generated from schemas/src/metrics/alerts; see docs/METRICS.md.\ngroups:\n  - name: forebay\n    rules:\n".to_owned();
    for rule in RULES {
        writeln!(text, "      - alert: {}", rule.name).unwrap();
        writeln!(text, "        expr: {}", quoted(&(rule.expr)())).unwrap();
        if !rule.hold.is_zero() {
            writeln!(text, "        for: {}s", rule.hold.as_secs()).unwrap();
        }
        writeln!(text, "        labels: {{ severity: {} }}", rule.severity.as_str()).unwrap();
        writeln!(text, "        annotations:").unwrap();
        writeln!(text, "          summary: {}", quoted(rule.summary)).unwrap();
        writeln!(text, "          description: {}", quoted(rule.remedy)).unwrap();
    }
    text
}

#[test]
fn the_checked_in_dashboard_matches_the_code() {
    is_checked_in("docs/grafana/forebay.json", &(serde_json::to_string_pretty(&dashboard()).unwrap() + "\n"));
}

#[test]
fn the_checked_in_alert_rules_match_the_code() {
    is_checked_in("docs/grafana/alerts.yml", &alert_rules());
}

/// Collects every text under the key `expr`, at any depth.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| queries(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// Reads the files as they are, so that a query added by hand is checked too.
#[test]
fn every_query_of_the_dashboard_and_the_alerts_uses_existing_metrics() {
    let mut found = Vec::new();
    let file = |name: &str| std::fs::read_to_string(format!("{}/../docs/grafana/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    queries(&serde_json::from_str(&file("forebay.json")).unwrap(), &mut found);
    assert!(found.len() > 40, "{}", found.len());
    let rules = file("alerts.yml");
    let rules: Vec<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: '"))
        .map(|line| line.trim_end_matches('\'').replace("''", "'"))
        .collect();
    assert_eq!(rules.len(), RULES.len());
    for query in found.iter().chain(&rules) {
        promql::check(query);
    }
}

/// A metric that is nowhere is noise, or a panel is missing.
#[test]
fn every_metric_is_on_the_dashboard_or_in_a_rule() {
    let mut found = Vec::new();
    queries(&dashboard(), &mut found);
    found.extend(RULES.iter().map(|rule| (rule.expr)()));
    let text = found.join("\n");
    let aside = [
        "forebay_role",
        "forebay_pages_total",
        "forebay_kafka_begin_offset",
        "forebay_kafka_clamped_timestamps_total",
        "forebay_kafka_unkeyed_records_total",
    ];
    for metric in super::CATALOGUE {
        assert!(text.contains(metric.name) != aside.contains(&metric.name), "{}", metric.name);
    }
}
