//! The header: pipeline, freshness, position in the journal; then the screens.

use forebay_schemas::desired::DesiredState;
use ratatui::text::{Line, Span};

use super::Canvas;
use crate::state::{Link, Screen, SourceKind};
use crate::text;
use crate::theme::{Role, Theme};

/// The header line; what does not fit is left out, the most important comes first.
pub(crate) fn line(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let (symbol, word, role) = freshness(canvas);
    let mut pieces = vec![(canvas.snapshot().map_or_else(|| "forebay".to_owned(), |snapshot| snapshot.pipeline.clone()), Role::Title)];
    if width >= 40 && canvas.snapshot().is_some() {
        pieces[0].0.insert_str(0, "forebay ");
    }
    pieces.push((format!("{symbol} {word}"), role));
    if let Some(snapshot) = canvas.snapshot() {
        let (at, seq) =
            canvas.model.frozen().map_or((snapshot.at, snapshot.seq.max(canvas.projection.seq)), |frozen| (frozen.at, frozen.seq));
        if let Some((events, passed)) = canvas.model.behind() {
            let passed = text::seconds(passed.as_seconds_f64());
            pieces.push((format!("{} events, {passed} behind", text::count(events)), Role::Warn));
            pieces.push((at.format("%H:%M:%S%.3f").to_string(), Role::Text));
        }
        match snapshot.desired.state {
            DesiredState::Running => {}
            DesiredState::Paused => pieces.push((format!("{} PAUSED", theme.symbols.pause), Role::Warn)),
            DesiredState::Drained => pieces.push(("DRAINED".to_owned(), Role::Warn)),
        }
        if seq > 0 {
            pieces.push((format!("seq {}", text::count(seq)), Role::Text));
        }
        pieces.push((format!("up {}", text::clock(at - snapshot.started_at)), Role::Text));
        if canvas.model.permission().operate {
            let role = canvas.model.permission().role.map_or("?".to_owned(), |role| format!("{role:?}").to_lowercase());
            pieces.push((format!("operate: {role}"), Role::Warn));
        }
        if !snapshot.kafka.is_empty() {
            pieces.push((format!("kafka {}", snapshot.kafka), Role::Muted));
        }
        if !snapshot.cassandra.is_empty() {
            pieces.push((format!("table {}", snapshot.cassandra), Role::Muted));
        }
        if snapshot.memory_bytes > 0 {
            pieces.push((text::bytes(snapshot.memory_bytes), Role::Muted));
        }
        pieces.push((format!("roles {}", snapshot.roles.join(",")), Role::Muted));
        pieces.push((format!("v{}", snapshot.version), Role::Muted));
    }
    let mut spans = Vec::new();
    let mut room = width;
    for (at, (piece, role)) in pieces.into_iter().enumerate() {
        let gap = if at == 0 { 1 } else { 2 };
        // The first two pieces are cut to fit, the others are left out.
        if at > 1 && gap + text::width(&piece) > room {
            continue;
        }
        let piece = text::cut(&piece, room.saturating_sub(gap), theme.symbols.cut);
        room = room.saturating_sub(gap + text::width(&piece));
        spans.push(Span::raw(" ".repeat(gap)));
        spans.push(Span::styled(piece, theme.style(role)));
    }
    Line::from(spans)
}

fn freshness(canvas: &Canvas<'_>) -> (&'static str, String, Role) {
    let symbols = canvas.theme.symbols;
    let model = canvas.model;
    match (&canvas.link, model.kind()) {
        (Link::Connecting(None), _) => (symbols.waiting, "CONNECTING".to_owned(), Role::Warn),
        (Link::Connecting(Some(_)), _) => (symbols.stuck, "NO ANSWER".to_owned(), Role::Bad),
        (Link::Stale(silent, _), _) => (symbols.stuck, format!("STALE {} s", silent.as_secs()), Role::Bad),
        (Link::Live, _) if model.frozen().is_some() => (symbols.pause, "FROZEN".to_owned(), Role::Warn),
        (Link::Live, SourceKind::Process) => (symbols.dot, "LIVE".to_owned(), Role::Good),
        (Link::Live, SourceKind::Journal) => (symbols.elsewhere, "JOURNAL".to_owned(), Role::In),
        (Link::Live, SourceKind::Recording(_)) if model.is_finished() => (symbols.done, "REPLAY over".to_owned(), Role::In),
        (Link::Live, SourceKind::Recording(speed)) => (symbols.head, format!("REPLAY x{}", text::short(speed)), Role::In),
    }
}

/// The screens, with the current one in reverse; then the open detail views.
pub(crate) fn tabs(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let alerts = canvas.snapshot().map_or(0, |snapshot| snapshot.alerts.len());
    let shown = canvas.model.screen;
    let name = |screen: Screen| match screen {
        Screen::Alerts if alerts > 0 => format!("alerts {alerts}"),
        // All names have to fit into 120 columns.
        Screen::DeadLetters => "dlq".to_owned(),
        screen => screen.name().to_owned(),
    };
    let long: usize = Screen::ALL.into_iter().map(|screen| name(screen).len() + 4).sum();
    let trail: String = canvas.model.details.iter().map(|page| format!(" {} {}", theme.symbols.trail, page.title())).collect();
    let mut spans = vec![Span::raw(" ")];
    for screen in Screen::ALL {
        let role = match screen {
            screen if screen == shown => Role::Tab,
            Screen::Alerts if alerts > 0 => Role::Bad,
            _ => Role::Muted,
        };
        let label = if screen == shown || (long < width && trail.is_empty()) {
            format!(" {} {} ", screen.key(), name(screen))
        } else {
            format!(" {} ", screen.key())
        };
        spans.push(Span::styled(label, theme.style(role)));
    }
    let room = width.saturating_sub(spans.iter().map(Span::width).sum());
    spans.push(Span::styled(text::cut(&trail, room, theme.symbols.cut), theme.style(Role::Title)));
    Line::from(spans)
}

/// Appends to a line how many more there are.
pub(crate) fn more(line: &mut Line<'static>, hidden: usize, width: usize, theme: &Theme) {
    let tail = format!("  +{hidden} more (0)");
    let room = width.saturating_sub(text::width(&tail));
    if let Some(span) = line.spans.last_mut() {
        span.content = text::cut(&span.content, room, theme.symbols.cut).into();
    }
    line.spans.push(Span::styled(tail, theme.style(Role::Muted)));
}
