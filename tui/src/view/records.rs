//! The newest records of the topic, and the path of one record from API page to row.

use chrono::DateTime;
use forebay_schemas::api::RecordView;
use forebay_schemas::offset::{Offset, Partition};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::fact;
use super::{Canvas, draw_lines, split_rows};
use crate::state::{List, record_path};
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let answers = &canvas.model.api_data;
    let why = match &answers.records_error {
        _ if !canvas.model.has_api() && answers.records.is_empty() => {
            Some("records are read from the API of a running pipeline".to_owned())
        }
        Some(why) => Some(why.clone()),
        None => None,
    };
    let [head, rest] = split_rows(area, [Constraint::Length(1), Constraint::Min(0)]);
    let line = match why {
        Some(why) => canvas.styled(text::cut(&format!(" {why}"), usize::from(area.width), canvas.theme.symbols.cut), Role::Warn),
        None => {
            let following = if canvas.model.follow { "following, f stops" } else { "not following, f following" };
            canvas.styled(format!(" newest records, masked by [api] mask; / finds a key; {following}"), Role::Muted)
        }
    };
    draw_lines(frame, head, vec![line]);
    canvas.list(frame, rest, List::Records, |order, _| {
        let columns = vec![
            Column::right("p", 0),
            Column::right("offset", 0),
            Column::left("time", 2),
            Column::left("key", 0),
            Column::right("bytes", 3),
            Column::left("value", 1),
        ];
        Grid { columns, min_last: 16, rows: order.iter().filter_map(|&at| answers.records.get(at)).map(row).collect() }
    });
}

pub(super) fn row(record: &RecordView) -> Vec<Cell> {
    vec![
        Cell::from(record.partition.to_string()),
        Cell::from(text::offset(record.offset)),
        Cell::new(time(record.timestamp_ms), Role::Muted),
        Cell::from(record.key.clone().unwrap_or_default()),
        Cell::from(text::count(record.value_bytes)),
        Cell::new(record.value.to_string(), Role::Muted),
    ]
}

pub(super) fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).filter(|_| ms >= 0).map_or_else(|| "-".to_owned(), |at| at.format("%H:%M:%S%.3f").to_string())
}

/// A JSON value, one line per field.
pub(super) fn pretty(canvas: &Canvas<'_>, value: &Value, width: usize) -> Vec<Line<'static>> {
    let text = match value {
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    };
    let line = |line: &str| {
        // Field names stand out from their values.
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().split_once(": ").filter(|(name, _)| name.starts_with('"')) {
            Some((name, value)) => Line::from(vec![
                Span::styled(format!("{}{name}: ", " ".repeat(indent)), canvas.theme.style(Role::Key)),
                Span::raw(text::cut(value, width.saturating_sub(indent + text::width(name) + 2), canvas.theme.symbols.cut)),
            ]),
            None => canvas.styled(text::cut(line, width, canvas.theme.symbols.cut), Role::Text),
        }
    };
    text.lines().take(500).map(line).collect()
}

/// The detail view of a record: its metadata, its path and its value.
pub(super) fn detail(canvas: &Canvas<'_>, partition: Partition, offset: Offset, width: usize) -> Vec<Line<'static>> {
    let record = canvas.model.api_data.records.iter().find(|record| (record.partition, record.offset) == (partition, offset));
    let mut lines = Vec::new();
    if let Some(record) = record {
        lines.push(fact(canvas, "key", record.key.as_deref().unwrap_or("none"), Role::Title));
        lines.push(fact(canvas, "timestamp", &time(record.timestamp_ms), Role::Text));
        lines.push(fact(
            canvas,
            "bytes",
            &format!("{}{}", text::count(record.value_bytes), if record.truncated { ", cut here" } else { "" }),
            Role::Text,
        ));
        lines.extend(record.headers.iter().map(|(name, value)| fact(canvas, &format!("header {name}"), value, Role::Muted)));
        lines.extend(headers_left_out(canvas, record));
    }
    lines.push(Line::default());
    lines.push(canvas.styled("path".to_owned(), Role::Title));
    lines.extend(path(canvas, partition, offset, width));
    lines.push(Line::default());
    lines.push(canvas.styled("value".to_owned(), Role::Title));
    match record {
        Some(record) => lines.extend(pretty(canvas, &record.value, width)),
        None => lines.push(canvas.styled("not in memory; 7 reads the newest records".to_owned(), Role::Muted)),
    }
    lines
}

/// A line about headers that cannot be shown.
pub(super) fn headers_left_out(canvas: &Canvas<'_>, record: &RecordView) -> Option<Line<'static>> {
    let count = record.headers_left_out?;
    Some(fact(canvas, "headers left out", &format!("{}, whose names are not UTF-8", text::count(count)), Role::Warn))
}

/// The path of a record, one line per step with the time since the previous one.
pub(super) fn path(canvas: &Canvas<'_>, partition: Partition, offset: Offset, width: usize) -> Vec<Line<'static>> {
    let path = record_path(canvas.model.timeline(), partition, offset);
    let view = canvas.snapshot().and_then(|snapshot| snapshot.partitions.iter().find(|view| view.partition == partition));
    let mut lines = Vec::new();
    let mut before: Option<DateTime<chrono::Utc>> = None;
    let theme = canvas.theme;
    for (what, event) in [("in the topic", &path.page), ("in the table", &path.batch), ("committed", &path.committed)] {
        let (symbol, text, role) = match event {
            Some(event) => {
                let after = before
                    .map(|before| format!("  +{}", text::millis((event.at - before).num_microseconds().unwrap_or(0) as f64 / 1000.0)))
                    .unwrap_or_default();
                before = Some(event.at);
                (theme.symbols.done, format!("{}{after}  {}", event.at.format("%H:%M:%S%.3f"), event.event), Role::Good)
            }
            None => {
                let passed = match what {
                    "in the topic" => true,
                    "in the table" => view.is_some_and(|view| view.written > offset),
                    _ => view.is_some_and(|view| view.committed > offset),
                };
                if passed {
                    (theme.symbols.done, "before the oldest event in memory".to_owned(), Role::Muted)
                } else {
                    (theme.symbols.waiting, "not yet".to_owned(), Role::Warn)
                }
            }
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{symbol} {what:<13}"), theme.style(role)),
            Span::raw(text::cut(&text, width.saturating_sub(15), theme.symbols.cut)),
        ]));
    }
    lines
}
