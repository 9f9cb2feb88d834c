//! Records of the topic as they come; and one of them, from its page of the API to its row.

use chrono::DateTime;
use forebay_schemas::api::RecordView;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::fields::fact;
use super::grid::{Cell, Column, Grid};
use super::{Canvas, draw_lines, split_rows};
use crate::state::{List, record_path};
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let answers = &canvas.model.api_data;
    let why = match &answers.records_error {
        _ if !canvas.model.has_api() && answers.records.is_empty() => {
            Some("records are read from the API of a running pipeline; this is none".to_owned())
        }
        Some(why) => Some(why.clone()),
        None => None,
    };
    let [head, rest] = split_rows(area, [Constraint::Length(1), Constraint::Min(0)]);
    let line = match why {
        Some(why) => canvas.styled(text::cut(&format!(" {why}"), usize::from(area.width), canvas.theme.symbols.cut), Role::Warn),
        None => {
            let follows = if canvas.model.follow { "follows the newest; f stops" } else { "holds; f follows the newest" };
            canvas.styled(format!(" the newest of the topic, masked as [api] mask says; / finds a key; {follows}"), Role::Muted)
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

/// A value with its structure, a line a field.
pub(super) fn pretty(canvas: &Canvas<'_>, value: &Value, width: usize) -> Vec<Line<'static>> {
    let text = match value {
        Value::String(text) => text.clone(),
        value => format!("{value:#}"),
    };
    let line = |line: &str| {
        // A field's name stands out from its value.
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

/// All that is known of one record: where it came from, what wrote it, what it says.
pub(super) fn detail(canvas: &Canvas<'_>, partition: i32, offset: i64, width: usize) -> Vec<Line<'static>> {
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
    lines.push(canvas.styled("its way".to_owned(), Role::Title));
    lines.extend(way(canvas, partition, offset, width));
    lines.push(Line::default());
    lines.push(canvas.styled("its value".to_owned(), Role::Title));
    match record {
        Some(record) => lines.extend(pretty(canvas, &record.value, width)),
        None => lines.push(canvas.styled("not among the records that are held; 7 reads the newest".to_owned(), Role::Muted)),
    }
    lines
}

/// A line about headers that can't be shown.
pub(super) fn headers_left_out(canvas: &Canvas<'_>, record: &RecordView) -> Option<Line<'static>> {
    let count = record.headers_left_out?;
    Some(fact(canvas, "headers left out", &format!("{}, whose names are not UTF-8", text::count(count)), Role::Warn))
}

/// From the page to the row: a line a step, with how long after the one before.
pub(super) fn way(canvas: &Canvas<'_>, partition: i32, offset: i64, width: usize) -> Vec<Line<'static>> {
    let way = record_path(canvas.model.timeline(), partition, offset);
    let view = canvas.snapshot().and_then(|snapshot| snapshot.partitions.iter().find(|view| view.partition == partition));
    let mut lines = Vec::new();
    let mut before: Option<DateTime<chrono::Utc>> = None;
    let theme = canvas.theme;
    for (what, event) in [("in the topic", &way.page), ("in the table", &way.batch), ("committed", &way.committed)] {
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
                    (theme.symbols.done, "before the events that are held".to_owned(), Role::Muted)
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
