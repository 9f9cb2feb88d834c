//! `docs/METRICS.md`.

use std::fmt::Write as _;

use super::super::alerts::RULES;
use super::super::*;
use super::is_checked_in;

const HEAD: &str = "\
# Metrics and alerts

`GET /metrics` on the control API answers in Prometheus's text format, or in OpenMetrics when `Accept` asks for it. Everything here is generated from
the table in `schemas/src/metrics`: this page, the dashboard [`grafana/forebay.json`](grafana/forebay.json) and the rules
[`grafana/alerts.yml`](grafana/alerts.yml). A test fails when they are not of the code; `FOREBAY_WRITE_SCHEMAS=1 cargo test --lib metrics` writes them.

```yaml
# prometheus.yml
scrape_configs:
  - job_name: forebay
    static_configs: [{ targets: [\"127.0.0.1:7070\"] }]
rule_files: [alerts.yml]
```

- Each metric is read from the same look at the pipeline that the monitor draws, so the two agree. A crate of metrics would keep counters of its own
  beside it, to be registered and updated: a second state that can differ. So the text is written by some sixty lines of our own, and read in the tests
  by the parsers of others.
- Counters begin at 0 with the process. What is not known is absent, never −1.
- Names are those of OpenTelemetry's conventions where a metric means just what they say (`messaging.client.sent.messages`,
  `messaging.client.consumed.messages`); the buckets of all histograms are those of `db.client.operation.duration`, and three below a millisecond.
- Labels are of bounded sets. No run, batch, key or offset is a label.
- A partition's offsets and lag are shown by the process that reads it, so sums over the processes of a pipeline count each partition once.

## Metrics

Each has the label `pipeline`, too.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
";

const ALERTS: &str = "
## Alerts

The rules that Prometheus is given and the alerts in the snapshot (`forebay status`, the monitor) come from the same bounds. A process judges itself
every few seconds; `ForebayDown` only Prometheus can see.

| alert | severity | after | condition | what to do |
| --- | --- | --- | --- | --- |
";

#[test]
fn the_reference_that_is_checked_in_is_the_one_of_the_table() {
    let mut text = HEAD.to_owned();
    for Metric { name, kind, unit, help, labels, .. } in CATALOGUE {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        writeln!(text, "| `{name}` | {} | {unit} | {labels} | {help} |", kind.as_str()).unwrap();
    }
    text.push_str(ALERTS);
    for rule in RULES {
        let (name, severity, hold) = (rule.name, rule.severity.as_str(), rule.hold.as_secs());
        let after = if hold == 0 { "at once".to_owned() } else { format!("{hold} s") };
        writeln!(text, "| {name} | {severity} | {after} | `{}` | {} |", (rule.expr)().replace('|', "\\|"), rule.remedy).unwrap();
    }
    is_checked_in("docs/METRICS.md", &text);
}
