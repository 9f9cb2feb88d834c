//! Charts as lines of text. Pure.

use ratatui::text::{Line, Span};

use crate::state::{Point, SnapshotWindow};
use crate::text;
use crate::theme::{Role, Theme};

/// The maximum of the known values; 0 if there are none.
pub(crate) fn max_of(columns: &[Option<f64>]) -> f64 {
    columns.iter().flatten().copied().fold(0.0, f64::max)
}

/// One bar per column, relative to `scale`; a gap for an unknown value. A small value still gets
/// the lowest bar.
pub(crate) fn sparkline(columns: &[Option<f64>], scale: f64, theme: &Theme) -> String {
    bar_rows(columns, scale, 1, theme).pop().unwrap_or_default()
}

/// A bar chart of `height` rows, top row first.
pub(crate) fn bar_rows(columns: &[Option<f64>], scale: f64, height: usize, theme: &Theme) -> Vec<String> {
    let symbols = &theme.symbols.bars;
    let levels = symbols.len() * height;
    let level = |value: f64| {
        let part = if scale > 0.0 { value / scale } else { 0.0 };
        // The number of levels that the value reaches, at least one.
        1 + (1..levels).filter(|&level| part * levels as f64 > level as f64).count()
    };
    let row = |row: usize| {
        let below = (height - 1 - row) * symbols.len();
        let symbol = |column: &Option<f64>| match column.map(level) {
            Some(level) if level > below => symbols[(level - below).min(symbols.len()) - 1],
            _ => " ",
        };
        columns.iter().map(symbol).collect()
    };
    (0..height).map(row).collect()
}

/// A horizontal bar that fills `part` of `width`, and the rest of the width.
pub(crate) fn horizontal_bar(part: f64, width: usize, theme: &Theme) -> (String, String) {
    let parts = &theme.symbols.parts;
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most eight times the width of a terminal")]
    let eighths = (part * (width * parts.len()) as f64).round() as usize;
    let mut bar = parts[parts.len() - 1].repeat(eighths / parts.len());
    if !eighths.is_multiple_of(parts.len()) {
        bar += parts[eighths % parts.len() - 1];
    }
    let left = width.saturating_sub(text::width(&bar));
    (bar, theme.symbols.rest.repeat(left))
}

/// A line with name, current value and sparkline.
pub(crate) fn trend(name: &str, number: &str, columns: &[Option<f64>], scale: f64, role: Role, theme: &Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name:<4}"), theme.style(Role::Muted)),
        Span::styled(format!("{number:>9}  "), theme.style(if role == Role::Lag { Role::Title } else { Role::Text })),
        Span::styled(sparkline(columns, scale, theme), theme.style(role)),
    ])
}

/// The columns that [`trend`] leaves for the sparkline.
pub(crate) fn trend_columns(width: usize) -> usize {
    width.saturating_sub(15)
}

/// Records in and rows out on a common scale, and the lag on its own.
pub(crate) fn flow(window: &SnapshotWindow, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let (received, written) = (window.received(), window.rate(|snapshot| snapshot.totals.written));
    let columns = |pick: fn(&Point) -> f64| window.history().columns(trend_columns(width), pick);
    let (ins, outs, lags) = (columns(|point| point.received), columns(|point| point.written), columns(|point| point.lag));
    let scale = max_of(&ins).max(max_of(&outs));
    vec![
        trend("in", &text::rate(received), &ins, scale, Role::In, theme),
        trend("out", &text::rate(written), &outs, scale, Role::Out, theme),
        trend("lag", &text::short(window.lag() as f64), &lags, max_of(&lags).max(10.0), Role::Lag, theme),
    ]
}

/// The symbol and the role of a stage.
pub(crate) fn stage_style(name: &str, theme: &Theme) -> (&'static str, Role) {
    // Colour distinguishes the stages if there is any, else their density.
    let solid = theme.symbols.parts[7];
    let symbols = if theme.solid { [solid; 4] } else { theme.symbols.stages };
    let [wait, transform, write, commit] = symbols;
    match name {
        "fetch" | "produce" => (wait, Role::Fetch),
        "wait" => (wait, Role::Wait),
        "transform" => (transform, Role::Transform),
        "write" => (write, Role::Write),
        _ => (commit, Role::Commit),
    }
}

/// A stacked bar; `longest` fills the whole width. The end of each part is rounded, not its length,
/// so that the total length is right.
pub(crate) fn stacked_bar(parts: &[(&str, u64)], longest: u64, width: usize, theme: &Theme) -> Vec<(String, Role)> {
    let (mut passed, mut drawn) = (0_u128, 0);
    let mut pieces = Vec::new();
    for (name, micros) in parts {
        passed += u128::from(*micros);
        let end = (passed * width as u128 + u128::from(longest) / 2).checked_div(u128::from(longest)).unwrap_or(0);
        let end = usize::try_from(end).unwrap_or(width).min(width);
        let (symbol, role) = stage_style(name, theme);
        pieces.push((symbol.repeat(end.saturating_sub(drawn)), role));
        drawn = end.max(drawn);
    }
    pieces
}

/// A histogram with one bucket per power of two, from the lowest to the highest that has values:
/// the lower bound and the count.
pub(crate) fn histogram(values: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut counts = [0_u64; 64];
    for value in values {
        counts[value.max(1).ilog2() as usize] += 1;
    }
    let (first, last) = (counts.iter().position(|&n| n > 0), counts.iter().rposition(|&n| n > 0));
    match (first, last) {
        (Some(first), Some(last)) => (first..=last).map(|at| (1 << at, counts[at])).collect(),
        _ => Vec::new(),
    }
}

/// Extends a [`histogram`] with empty buckets to the one of `value`, unless that needs more than
/// `max` buckets.
pub(crate) fn extend_to(buckets: Vec<(u64, u64)>, value: u64, max: usize) -> Vec<(u64, u64)> {
    let (Some(&(first, _)), Some(&(last, _))) = (buckets.first(), buckets.last()) else { return buckets };
    let power = value.max(1).ilog2();
    let empty = |powers: std::ops::Range<u32>| powers.map(|power| (1 << power, 0));
    let extended: Vec<_> = empty(power..first.ilog2()).chain(buckets.iter().copied()).chain(empty(last.ilog2() + 1..power + 1)).collect();
    if extended.len() <= max { extended } else { buckets }
}

/// A histogram of microseconds, one line per bucket. The bucket of `marked` has a mark.
pub(crate) fn histogram_lines(
    buckets: &[(u64, u64)],
    marked: Option<u64>,
    width: usize,
    height: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    // Join neighbouring buckets if there are more than rows.
    let each = buckets.len().div_ceil(height.max(1)).max(1);
    let joined: Vec<(u64, u64)> = buckets.chunks(each).map(|chunk| (chunk[0].0, chunk.iter().map(|(_, n)| n).sum())).collect();
    let max = joined.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    let room = width.saturating_sub(20);
    let end = buckets.last().map_or(0, |(from, _)| from.saturating_mul(2));
    let ends = joined.iter().skip(1).map(|(from, _)| *from).chain([end]);
    let line = |((from, n), end): (&(u64, u64), u64)| {
        let (bar, _) = horizontal_bar(*n as f64 / max as f64, room, theme);
        let role = if *n == 0 { Role::Muted } else { Role::Text };
        let mark = if marked.is_some_and(|marked| (*from..end).contains(&marked)) { theme.symbols.focus } else { " " };
        Line::from(vec![
            Span::styled(mark, theme.style(Role::Key)),
            Span::styled(format!("{:>8} ", text::micros(*from)), theme.style(Role::Muted)),
            Span::styled(bar, theme.style(Role::Write)),
            Span::styled(format!(" {}", text::count(*n)), theme.style(role)),
        ])
    };
    joined.iter().zip(ends).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::Options;

    fn theme() -> Theme {
        Theme::new(Options::default())
    }

    #[test]
    fn bars_show_their_part_of_the_scale_and_gaps_stay_gaps() {
        assert_eq!(sparkline(&[Some(0.0), None, Some(0.5), Some(1.0)], 1.0, &theme()), "▁ ▄█");
        assert_eq!(sparkline(&[Some(0.0), Some(0.0)], 0.0, &theme()), "▁▁");
        assert_eq!(bar_rows(&[Some(0.0), None, Some(0.75), Some(1.0)], 1.0, 2, &theme()), ["  ▄█", "▁ ██"]);
    }

    #[test]
    fn a_horizontal_bar_and_its_rest_fill_the_width() {
        for part in [0.0, 0.01, 0.33, 0.5, 0.99, 1.0, 7.0, f64::NAN] {
            let (bar, rest) = horizontal_bar(part, 10, &theme());
            assert_eq!(text::width(&bar) + text::width(&rest), 10, "{part}");
        }
        assert_eq!(horizontal_bar(0.55, 10, &theme()).0, "█████▌");
    }

    #[test]
    fn stacked_parts_end_where_the_whole_ends() {
        let pieces = stacked_bar(&[("wait", 1), ("transform", 1), ("write", 1)], 3, 10, &theme());
        assert_eq!(pieces.iter().map(|(piece, _)| text::width(piece)).sum::<usize>(), 10);
        assert_eq!(stacked_bar(&[("wait", u64::MAX), ("write", u64::MAX)], u64::MAX, 4, &theme()).len(), 2);
        assert_eq!(stacked_bar(&[("wait", 0)], 0, 4, &theme())[0].0, "");
    }

    #[test]
    fn a_histogram_has_one_bucket_per_power_of_two() {
        assert_eq!(histogram([0, 1, 5, 5, 9]), [(1, 2), (2, 0), (4, 2), (8, 1)]);
        assert_eq!(histogram([]), []);
        assert_eq!(histogram_lines(&histogram([1, 5, 9, u64::MAX]), None, 40, 3, &theme()).len(), 3);
    }

    #[test]
    fn the_mark_is_at_the_bucket_of_its_value_or_nowhere() {
        let marked = |value: u64, height: usize| {
            let lines = histogram_lines(&histogram([1, 5, 9]), Some(value), 40, height, &theme());
            lines.iter().position(|line| line.to_string().starts_with(theme().symbols.focus))
        };
        assert_eq!(
            [0, 1, 3, 4, 7, 8, 15, 16].map(|value| marked(value, 4)),
            [None, Some(0), Some(1), Some(2), Some(2), Some(3), Some(3), None]
        );
        assert_eq!([1, 3, 4, 15].map(|value| marked(value, 2)), [Some(0), Some(0), Some(1), Some(1)], "two buckets a line");
    }

    #[test]
    fn a_histogram_extends_to_a_value_if_there_is_room() {
        let buckets = histogram([5, 9]);
        assert_eq!(extend_to(buckets.clone(), 1, 4), [(1, 0), (2, 0), (4, 1), (8, 1)]);
        assert_eq!(extend_to(buckets.clone(), 1, 3), buckets);
        assert_eq!(extend_to(buckets.clone(), 20, 4), [(4, 1), (8, 1), (16, 0)]);
        assert_eq!(extend_to(buckets.clone(), 6, 2), buckets);
        assert_eq!(extend_to(histogram([u64::MAX]), u64::MAX, 9), [(1 << 63, 1)]);
        assert_eq!(extend_to(Vec::new(), 5, 9), []);
    }
}
