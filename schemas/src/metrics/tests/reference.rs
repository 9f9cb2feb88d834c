//! `docs/METRICS.md`.

use std::fmt::Write as _;

use super::super::alerts::RULES;
use super::super::*;
use super::is_checked_in;

const HEAD: &str = "\
# Metrics and alerts

`GET /metrics` on the control API answers in Prometheus's text format, or in OpenMetrics if `Accept`
requests it. The tables in `schemas/src/metrics` generate this page, the dashboard
[`grafana/forebay.json`](grafana/forebay.json) and the rules
[`grafana/alerts.yml`](grafana/alerts.yml). A test fails if they are out of date;
`FOREBAY_WRITE_SCHEMAS=1 cargo test -p forebay-schemas --lib metrics` writes them.

```yaml
# prometheus.yml
scrape_configs:
  - job_name: forebay
    static_configs: [{ targets: [\"127.0.0.1:7070\"] }]
rule_files: [alerts.yml]
```

- Metrics are read from the same snapshot as the monitor, so the two agree. A metrics crate would
  keep its own counters, a second state that can differ. The text format takes about sixty lines of
  code, which the tests check with independent parsers.
- Counters start at 0 with the process. Unknown values are absent, never −1.
- A metric has a name of OpenTelemetry's conventions if it means exactly the same
  (`messaging.client.sent.messages`, `messaging.client.consumed.messages`). All histograms have the
  buckets of `db.client.operation.duration`, and three below a millisecond.
- Labels have bounded sets of values. No run, batch, key or offset is a label.
- Only the process that reads a partition reports its offsets and lag, so sums over the processes of
  a pipeline count each partition once.

## Metrics

Each metric also has the label `pipeline`.

| name | type | unit | labels | meaning |
| --- | --- | --- | --- | --- |
";

const ALERTS: &str = "
## Alerts

The Prometheus rules and the alerts in the snapshot (`forebay status`, the monitor) use the same
thresholds. A process evaluates its own alerts every few seconds; only Prometheus can detect
`ForebayDown`.

| alert | severity | after | condition | what to do |
| --- | --- | --- | --- | --- |
";

#[test]
fn the_checked_in_reference_matches_the_code() {
    let mut text = HEAD.to_owned();
    for Metric { name, kind, unit, help, labels, .. } in CATALOGUE {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        writeln!(text, "| `{name}` | {} | {unit} | {labels} | {help} |", kind.as_str()).unwrap();
    }
    text.push_str(ALERTS);
    for rule in RULES {
        let (name, severity, hold) = (rule.name, rule.severity.as_str(), rule.hold.as_secs());
        let after = if hold == 0 { "immediately".to_owned() } else { format!("{hold} s") };
        writeln!(text, "| {name} | {severity} | {after} | `{}` | {} |", (rule.expr)().replace('|', "\\|"), rule.remedy).unwrap();
    }
    is_checked_in("docs/METRICS.md", &text);
}
