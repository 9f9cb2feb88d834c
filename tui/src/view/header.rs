//! The first lines: which pipeline, how fresh, where in its history; then the screens.

use forebay_schemas::api::DesiredState;
use ratatui::text::{Line, Span};

use super::Canvas;
use crate::state::{Kind, Link, Screen};
use crate::text;
use crate::theme::{Role, Theme};

/// As much as fits, the most needed first.
pub(crate) fn line(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let (sign, word, role) = freshness(canvas);
    let mut pieces = vec![(canvas.look().map_or_else(|| "forebay".to_owned(), |look| look.pipeline.clone()), Role::Title)];
    if width >= 40 && canvas.look().is_some() {
        pieces[0].0.insert_str(0, "forebay ");
    }
    pieces.push((format!("{sign} {word}"), role));
    if let Some(look) = canvas.look() {
        let (at, seq) = canvas.model.then().map_or((look.at, look.seq.max(canvas.world.seq)), |then| (then.at, then.seq));
        if let Some((events, passed)) = canvas.model.behind() {
            let passed = text::seconds(passed.as_seconds_f64());
            pieces.push((format!("{} events, {passed} behind", text::count(events)), Role::Warn));
            pieces.push((at.format("%H:%M:%S%.3f").to_string(), Role::Text));
        }
        match look.desired.state {
            DesiredState::Running => {}
            DesiredState::Paused => pieces.push((format!("{} PAUSED", theme.signs.pause), Role::Warn)),
            DesiredState::Drained => pieces.push(("DRAINED".to_owned(), Role::Warn)),
        }
        if seq > 0 {
            pieces.push((format!("seq {}", text::count(seq)), Role::Text));
        }
        pieces.push((format!("up {}", text::clock(at - look.started_at)), Role::Text));
        if canvas.model.permission().operate {
            let role = canvas.model.permission().role.map_or("?".to_owned(), |role| format!("{role:?}").to_lowercase());
            pieces.push((format!("operate: {role}"), Role::Warn));
        }
        if !look.kafka.is_empty() {
            pieces.push((format!("kafka {}", look.kafka), Role::Muted));
        }
        if !look.cassandra.is_empty() {
            pieces.push((format!("table {}", look.cassandra), Role::Muted));
        }
        if look.memory_bytes > 0 {
            pieces.push((text::bytes(look.memory_bytes), Role::Muted));
        }
        pieces.push((format!("roles {}", look.roles.join(",")), Role::Muted));
        pieces.push((format!("v{}", look.version), Role::Muted));
    }
    let mut spans = Vec::new();
    let mut room = width;
    for (at, (piece, role)) in pieces.into_iter().enumerate() {
        let gap = if at == 0 { 1 } else { 2 };
        // The name and the freshness are cut, the rest is left out whole.
        if at > 1 && gap + text::width(&piece) > room {
            continue;
        }
        let piece = text::cut(&piece, room.saturating_sub(gap), theme.signs.cut);
        room = room.saturating_sub(gap + text::width(&piece));
        spans.push(Span::raw(" ".repeat(gap)));
        spans.push(Span::styled(piece, theme.style(role)));
    }
    Line::from(spans)
}

fn freshness(canvas: &Canvas<'_>) -> (&'static str, String, Role) {
    let signs = canvas.theme.signs;
    let model = canvas.model;
    match (&canvas.link, model.kind()) {
        (Link::Connecting(None), _) => (signs.waiting, "CONNECTING".to_owned(), Role::Warn),
        (Link::Connecting(Some(_)), _) => (signs.stuck, "NO ANSWER".to_owned(), Role::Bad),
        (Link::Stale(silent, _), _) => (signs.stuck, format!("STALE {} s", silent.as_secs()), Role::Bad),
        (Link::Live, _) if model.then().is_some() => (signs.pause, "FROZEN".to_owned(), Role::Warn),
        (Link::Live, Kind::Process) => (signs.dot, "LIVE".to_owned(), Role::Good),
        (Link::Live, Kind::Folder) => (signs.elsewhere, "JOURNAL".to_owned(), Role::In),
        (Link::Live, Kind::Recording(_)) if model.is_over() => (signs.done, "REPLAY over".to_owned(), Role::In),
        (Link::Live, Kind::Recording(speed)) => (signs.head, format!("REPLAY x{}", text::short(speed)), Role::In),
    }
}

/// The screens, that which is shown in reverse; then the pages that are open.
pub(crate) fn tabs(canvas: &Canvas<'_>, width: usize) -> Line<'static> {
    let theme = canvas.theme;
    let alerts = canvas.look().map_or(0, |look| look.alerts.len());
    let shown = canvas.model.screen;
    let name = |screen: Screen| match screen {
        Screen::Alerts if alerts > 0 => format!("alerts {alerts}"),
        // All of them are to fit into 120 columns.
        Screen::Letters => "letters".to_owned(),
        screen => screen.name().to_owned(),
    };
    let long: usize = Screen::ALL.into_iter().map(|screen| name(screen).len() + 4).sum();
    let trail: String = canvas.model.pages.iter().map(|page| format!(" {} {}", theme.signs.trail, page.title())).collect();
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
    spans.push(Span::styled(text::cut(&trail, room, theme.signs.cut), theme.style(Role::Title)));
    Line::from(spans)
}

/// Says at the end of a line how many more there are.
pub(crate) fn more(line: &mut Line<'static>, hidden: usize, width: usize, theme: &Theme) {
    let tail = format!("  +{hidden} more (0)");
    let room = width.saturating_sub(text::width(&tail));
    if let Some(span) = line.spans.last_mut() {
        span.content = text::cut(&span.content, room, theme.signs.cut).into();
    }
    line.spans.push(Span::styled(tail, theme.style(Role::Muted)));
}
