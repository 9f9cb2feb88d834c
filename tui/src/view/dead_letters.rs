//! Dead letters: the records that cannot become rows, the stage that rejected them, and the reason.

use forebay_schemas::dead_letters::DeadLetter;
use forebay_schemas::offset::{Offset, Partition};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Line;

use super::aligned_rows::{Cell, Column, Grid};
use super::fields::{fact, wrapped};
use super::{Canvas, Size, chart, draw_lines, records, split_columns, split_rows};
use crate::state::List;
use crate::text;
use crate::theme::Role;

pub(crate) fn draw(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    let [head, rest] = split_rows(area, [Constraint::Length(1), Constraint::Min(0)]);
    let rejected = canvas.snapshot().map_or(0, |snapshot| snapshot.totals.rejected);
    let line = match &canvas.model.api_data.dead_letters {
        None if !canvas.model.has_api() => {
            (format!(" {} in all; dead letters are read from the API of a running pipeline", text::count(rejected)), Role::Muted)
        }
        None => (" loading".to_owned(), Role::Muted),
        Some(Err(why)) => (format!(" {why}"), Role::Warn),
        Some(Ok(letters)) if letters.total == 0 => (format!(" {} {} is empty", canvas.theme.symbols.done, letters.topic), Role::Good),
        Some(Ok(letters)) => (
            format!(
                " {} in {}; the last {} here, newest first; enter shows why, B redrives",
                text::count(letters.total),
                letters.topic,
                letters.letters.len()
            ),
            Role::Text,
        ),
    };
    draw_lines(frame, head, vec![canvas.styled(text::cut(&line.0, usize::from(area.width), canvas.theme.symbols.cut), line.1)]);
    if canvas.size == Size::Full && !canvas.model.dead_letters().is_empty() {
        let [left, right] = split_columns(rest, [Constraint::Min(0), Constraint::Length(40)]);
        canvas.panel(frame, right, "reasons", |width| reasons(canvas, width));
        return list(frame, left, canvas);
    }
    list(frame, rest, canvas);
}

fn list(frame: &mut Frame<'_>, area: Rect, canvas: &Canvas<'_>) {
    canvas.list(frame, area, List::DeadLetters, |order, _| {
        let columns = vec![
            Column::left("time", 3),
            Column::left("stage", 0),
            Column::right("was at", 2),
            Column::left("key", 1),
            Column::left("reason", 0),
        ];
        let row = |letter: &DeadLetter| {
            vec![
                Cell::new(records::time(letter.record.timestamp_ms), Role::Muted),
                Cell::new(letter.stage.clone(), chart::stage_style(&letter.stage, canvas.theme).1),
                Cell::from(letter.origin.map_or_else(|| "-".to_owned(), |(partition, offset)| format!("p{partition} {offset}"))),
                Cell::from(letter.record.key.clone().unwrap_or_default()),
                Cell::new(letter.reason.clone(), Role::Warn),
            ]
        };
        Grid { columns, min_last: 16, rows: order.iter().filter_map(|&at| canvas.model.dead_letters().get(at)).map(row).collect() }
    });
}

/// The number of dead letters per reason, most frequent first. Digits are masked, so that similar
/// reasons count as one.
fn reasons(canvas: &Canvas<'_>, width: usize) -> Vec<Line<'static>> {
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for letter in canvas.model.dead_letters() {
        let plain: String = letter.reason.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        *counts.entry(format!("{}: {plain}", letter.stage)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let lines = |(reason, n): (String, u64)| {
        let head = |at: usize| if at == 0 { format!("{n:>5}  ") } else { " ".repeat(7) };
        let wrapped = text::wrap(&reason, width.saturating_sub(7)).into_iter().enumerate();
        wrapped.map(|(at, part)| canvas.styled(format!("{}{part}", head(at)), Role::Text)).collect::<Vec<_>>()
    };
    counts.into_iter().flat_map(lines).collect()
}

/// The detail view of a dead letter.
pub(super) fn detail(canvas: &Canvas<'_>, partition: Partition, offset: Offset, width: usize) -> Vec<Line<'static>> {
    let Some(letter) =
        canvas.model.dead_letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (partition, offset))
    else {
        return vec![canvas.styled("this dead letter is not in memory".to_owned(), Role::Warn)];
    };
    let mut lines = wrapped(canvas, "why", &letter.reason, width);
    lines.push(fact(canvas, "found at", &letter.stage, chart::stage_style(&letter.stage, canvas.theme).1));
    if let Some(fingerprint) = &letter.sql_fingerprint {
        lines.push(fact(canvas, "SQL", fingerprint, Role::Text));
    }
    lines.push(fact(canvas, "key", letter.record.key.as_deref().unwrap_or("none"), Role::Text));
    if let Some((partition, offset)) = letter.origin {
        lines.push(fact(canvas, "was at", &format!("partition {partition}, offset {offset}; enter shows its path"), Role::Text));
    }
    lines.extend(letter.record.headers.iter().map(|(name, value)| fact(canvas, &format!("header {name}"), value, Role::Muted)));
    lines.extend(records::headers_left_out(canvas, &letter.record));
    lines.push(Line::default());
    lines.push(canvas.styled("the record as it was".to_owned(), Role::Title));
    lines.extend(records::pretty(canvas, &letter.record.value, width));
    lines
}
