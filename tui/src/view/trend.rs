//! What passed in the last five minutes, as bars.

use forebay_schemas::snapshot::BatchView;
use ratatui::text::{Line, Span};

use crate::state::{Folded, Point};
use crate::text;
use crate::theme::{Role, Theme};

/// Records in and rows out, on one scale so that they can be compared.
pub(crate) fn flow(folded: &Folded, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let (received, written) = (folded.received(), folded.rate(|look| look.totals.written));
    let columns = width.saturating_sub(16);
    let received_bars = folded.history().columns(columns, |point| point.received);
    let written_bars = folded.history().columns(columns, |point| point.written);
    let scale = greatest(&received_bars).max(greatest(&written_bars));
    vec![
        row("in ", &text::rate(received), &bars(&received_bars, scale, theme), Role::In, theme),
        row("out", &text::rate(written), &bars(&written_bars, scale, theme), Role::Out, theme),
    ]
}

/// Percentiles with their history, and where the time of the last batches went.
pub(crate) fn latency(folded: &Folded, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let Some(look) = folded.newest() else { return vec![Line::default(), Line::default()] };
    let name = format!("p50 {}  p99 {}", text::millis(look.latency_ms.p50), text::millis(look.latency_ms.p99));
    let columns = width.saturating_sub(text::width(&name) + 2);
    let p99 = folded.history().columns(columns, |point: &Point| point.p99);
    let first = Line::from(vec![Span::raw(format!("{name}  ")), Span::raw(bars(&p99, greatest(&p99), theme))]);
    let n = look.batches.len().max(1) as u64;
    let mean = |micros: fn(&BatchView) -> u64| text::micros(look.batches.iter().map(micros).sum::<u64>() / n);
    let wide = width >= 56;
    let mut second = Vec::new();
    let stages = [
        ("wait", mean(|batch| batch.wait_micros), Role::Wait),
        ("transform", mean(|batch| batch.transform_micros), Role::Transform),
        ("write", mean(|batch| batch.write_micros), Role::Write),
    ];
    for ((name, mean, role), sign) in stages.into_iter().zip(theme.signs.stages) {
        second.push(Span::styled(sign, theme.style(role)));
        second.push(Span::raw(format!("{name} {mean}{}", if wide { "  " } else { " " })));
    }
    if wide {
        second.push(Span::styled("a batch", theme.style(Role::Muted)));
    }
    vec![first, Line::from(second)]
}

fn row(name: &'static str, number: &str, bars: &str, role: Role, theme: &Theme) -> Line<'static> {
    Line::from(vec![
        Span::styled(format!("{name} "), theme.style(Role::Muted)),
        Span::raw(format!("{number:>10}  ")),
        Span::styled(bars.to_owned(), theme.style(role)),
    ])
}

fn greatest(columns: &[Option<f64>]) -> f64 {
    columns.iter().flatten().copied().fold(0.0, f64::max)
}

/// A sign a column, as high as its part of `scale`; a gap where nothing is known. What is small but there is not drawn as nothing.
fn bars(columns: &[Option<f64>], scale: f64, theme: &Theme) -> String {
    let signs = &theme.signs.bars;
    let levels = signs.len();
    let bar = |value: f64| {
        let part = if scale > 0.0 { value / scale } else { 0.0 };
        // As many levels as reach it.
        let level = (1..levels).filter(|&level| part * levels as f64 > level as f64).count();
        signs[level]
    };
    columns.iter().map(|column| column.map_or(" ", bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::Options;

    #[test]
    fn bars_are_as_high_as_their_part_of_the_scale_and_gaps_are_gaps() {
        let theme = Theme::new(Options { colour: false, ascii: false });
        assert_eq!(bars(&[Some(0.0), None, Some(0.5), Some(1.0)], 1.0, &theme), "▁ ▄█");
        assert_eq!(bars(&[Some(0.0), Some(0.0)], 0.0, &theme), "▁▁");
    }
}
