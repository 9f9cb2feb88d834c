//! One snapshot as plain text for `forebay status`: what is wrong first, then the same facts as the
//! monitor.
//!
//! Guarantees:
//! * Nothing is cut, and columns are aligned.
//! * There are no escapes unless colour was requested, and then no others than those of colour.

use std::sync::Arc;

use forebay_schemas::printable;
use forebay_schemas::snapshot::{DiskView, Snapshot};
use ratatui::text::{Line, Span};

use crate::state::{SnapshotWindow, plain_findings};
use crate::text;
use crate::theme::{Options, Palette, Role, Theme, escaped};
use crate::view;

/// The maximum number of batches.
const MAX_BATCHES: usize = 10;
/// The maximum number of cursors.
const MAX_CURSORS: usize = 3;

/// Formats one snapshot, without a newline at the end. There are no rates, because they need two
/// snapshots.
pub fn status_text(snapshot: &Snapshot, options: Options) -> String {
    // Patterns distinguish the stages where a pager strips the colours.
    let theme = Theme { solid: false, ..Theme::new(options) };
    let mut snapshot = snapshot.clone();
    snapshot.batches.truncate(MAX_BATCHES);
    let window = SnapshotWindow::single(Arc::new(snapshot));
    let Some(snapshot) = window.newest() else { return String::new() };
    let styled = |text: String, role| Line::from(Span::styled(text, theme.style(role)));

    let up = text::clock(snapshot.at - snapshot.started_at);
    let mut lines = vec![styled(
        format!("forebay {}  up {up}  roles {}  v{}", snapshot.pipeline, snapshot.roles.join(","), snapshot.version),
        Role::Title,
    )];
    let wrong = plain_findings(&window);
    lines.extend(wrong.iter().map(|finding| {
        let (symbol, role) = if finding.bad { (theme.symbols.ended, Role::Bad) } else { (theme.symbols.stuck, Role::Warn) };
        styled(format!("{symbol} {}", finding.text), role)
    }));
    if wrong.is_empty() {
        lines.push(styled(format!("{} nothing is wrong", theme.symbols.done), Role::Good));
    }
    let mut section = |name: &str, body: Vec<Line<'static>>| {
        lines.push(Line::default());
        lines.push(styled(name.to_owned(), Role::Title));
        lines.extend(body.into_iter().map(|mut line| {
            line.spans.insert(0, Span::raw("  "));
            line
        }));
    };
    section("path", totals(&window, snapshot, &theme));
    section("partitions", view::partitions(&window, &theme).lines(None, &theme));
    section("actors", view::actors(snapshot, &theme).lines(None, &theme));
    for (name, grid) in [("runs", view::runs(snapshot, &theme)), ("last batches", view::batches(snapshot, &theme))] {
        let body = if grid.rows.is_empty() { vec![styled("none yet".to_owned(), Role::Muted)] } else { grid.lines(None, &theme) };
        section(name, body);
    }
    if !snapshot.rejects.is_empty() {
        let mut reasons: Vec<_> = snapshot.rejects.iter().map(|each| styled(each.to_string(), Role::Warn)).collect();
        reasons.push(styled("forebay dlq shows them".to_owned(), Role::Muted));
        section("dead letters", reasons);
    }
    if !snapshot.drift.is_empty() {
        let mut fields: Vec<_> = snapshot.drift.iter().map(|each| styled(each.to_string(), Role::Warn)).collect();
        fields.push(styled("forebay schema diff compares".to_owned(), Role::Muted));
        section("fields that the schema does not have", fields);
    }
    lines.iter().map(|line| print(line, options.palette != Palette::Mono)).collect::<Vec<_>>().join("\n")
}

/// Whether a script may continue: no alert fires and nothing is broken.
pub fn is_healthy(snapshot: &Snapshot) -> bool {
    let window = SnapshotWindow::single(Arc::new(snapshot.clone()));
    snapshot.alerts.is_empty() && !plain_findings(&window).iter().any(|finding| finding.bad)
}

/// The totals from API to table, lag, latency, disk and edges.
fn totals(window: &SnapshotWindow, snapshot: &Snapshot, theme: &Theme) -> Vec<Line<'static>> {
    let t = &snapshot.totals;
    let to = theme.symbols.to;
    let mut rows = vec![
        ("api", format!("{} pages, {} records, {} failed", text::count(t.pages), text::count(t.fetched), text::count(t.fetch_failures))),
        (
            "topic",
            format!("{} at {}: {} produced, {} consumed", snapshot.topic, snapshot.kafka, text::count(t.produced), text::count(t.consumed)),
        ),
        (
            "table",
            format!(
                "{} at {}: {} written, {} rejected, {} retries",
                snapshot.table,
                snapshot.cassandra,
                text::count(t.written),
                text::count(t.rejected),
                text::count(t.write_retries)
            ),
        ),
        ("lag", text::count(window.lag())),
        ("latency", format!("p50 {}, p99 {}", text::millis(snapshot.latency_ms.p50), text::millis(snapshot.latency_ms.p99))),
        ("restarts", text::count(t.restarts)),
    ];
    if let Some(source) = snapshot.source.as_ref().filter(|source| source.reads > 0) {
        let shown = source.cursors.iter().take(MAX_CURSORS);
        let each: Vec<String> =
            shown.map(|at| format!("{} at {:?}", if at.read.is_empty() { "no params" } else { &at.read }, at.cursor)).collect();
        rows.push(("cursors", format!("{} reads; last advanced: {}", text::count(source.reads), each.join(", "))));
    }
    if let Some(disk) = &snapshot.disk {
        rows.push(("disk", on_disk(disk)));
    }
    for edge in &snapshot.edges {
        let name = edge.name.replace("->", to);
        let used = format!(
            "{} of {} ({})",
            text::bytes(edge.used_bytes),
            text::bytes(edge.budget_bytes),
            text::percent(edge.used_bytes, edge.budget_bytes)
        );
        rows.push(("edge", format!("{name}: {used}, blocked {} since the start", text::micros(edge.blocked_micros))));
    }
    let line =
        |(name, value): (&str, String)| Line::from(vec![Span::styled(format!("{name:<9}"), theme.style(Role::Muted)), Span::raw(value)]);
    rows.into_iter().map(line).collect()
}

fn on_disk(disk: &DiskView) -> String {
    let mut parts = vec![format!("journal {}", text::bytes(disk.journal_bytes))];
    if let Some(topic) = disk.topic {
        let removed = match topic.removed_records {
            0 => String::new(),
            records => format!(", {} removed", text::count(records)),
        };
        parts.push(format!("topics {} (retention {}{removed})", text::bytes(topic.bytes), text::bytes(topic.limit_bytes)));
    }
    parts.extend(disk.table_bytes.map(|bytes| format!("table {}", text::bytes(bytes))));
    parts.extend(disk.free_bytes.map(|free| format!("{} free", text::bytes(free))));
    parts.join(", ")
}

fn print(line: &Line<'_>, colour: bool) -> String {
    let piece = |span: &Span<'_>| {
        let text = printable(&span.content);
        if colour { escaped(&text, span.style) } else { text.into_owned() }
    };
    let text: String = line.spans.iter().map(piece).collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn the_status_shows_what_is_wrong_first() {
        insta::assert_snapshot!(status_text(&test_data::busy(), Options::default()));
    }

    #[test]
    fn the_status_of_a_quiet_pipeline_is_short_and_ascii_if_requested() {
        let text = status_text(&test_data::quiet(), Options { ascii: true, ..Options::default() });
        assert!(text.is_ascii(), "{text}");
        assert!(text.contains("+ nothing is wrong\n"), "{text}");
    }

    #[test]
    fn the_status_shows_the_reasons_of_dead_letters_most_frequent_first() {
        let mut snapshot = test_data::quiet();
        assert!(!status_text(&snapshot, Options::default()).contains("forebay dlq"));
        snapshot.rejects.add("decode", "not JSON", 2);
        snapshot.rejects.add("write", "null in the key", 7);
        let text = status_text(&snapshot, Options::default());
        assert!(text.ends_with("dead letters\n  7 at write: null in the key\n  2 at decode: not JSON\n  forebay dlq shows them"), "{text}");
    }

    #[test]
    fn an_alert_or_a_broken_part_is_not_healthy() {
        assert!(is_healthy(&test_data::quiet()) && !is_healthy(&test_data::busy()));
        let mut snapshot = test_data::quiet();
        snapshot.alerts.push(test_data::alert());
        assert!(!is_healthy(&snapshot));
    }

    #[test]
    fn colour_only_adds_escapes() {
        let colour = status_text(&test_data::busy(), Options { palette: Palette::Dark, ascii: false });
        assert!(colour.contains("\x1b[1;31m"));
        let mut bare = String::new();
        let mut rest = colour.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            bare += before;
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(bare + rest, status_text(&test_data::busy(), Options::default()));
    }
}
