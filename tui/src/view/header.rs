//! The first line: which pipeline, how fresh, since when, what and where.

use ratatui::text::{Line, Span};

use crate::state::{Folded, Link, Model};
use crate::text;
use crate::theme::{Role, Theme};

/// As much as fits, the most needed first.
pub(crate) fn line(model: &Model, folded: &Folded, link: &Link, theme: &Theme, width: usize) -> Line<'static> {
    let (word, role) = freshness(model, link);
    let sign = if role == Role::Good { theme.signs.dot } else { theme.signs.stuck };
    let mut pieces = Vec::new();
    match folded.newest() {
        None => pieces.push(("forebay".to_owned(), Role::Title)),
        Some(look) => {
            pieces.push((look.pipeline.clone(), Role::Title));
            if width >= 40 {
                pieces[0].0 = format!("forebay {}", look.pipeline);
            }
        }
    }
    pieces.push((format!("{sign} {word}"), role));
    if let Some(look) = folded.newest() {
        pieces.push((format!("up {}", text::clock(look.at - look.started_at)), Role::Text));
        pieces.push((format!("roles {}", look.roles.join(",")), Role::Muted));
        pieces.push((format!("kafka {}", look.kafka), Role::Muted));
        pieces.push((format!("table {}", look.cassandra), Role::Muted));
        pieces.push((format!("v{}", look.version), Role::Muted));
    }
    let mut spans = Vec::new();
    let mut room = width;
    for (at, (piece, role)) in pieces.into_iter().enumerate() {
        let gap = if at == 0 { 1 } else { 2 };
        // The name and the freshness are cut, the rest is left out whole.
        if at > 1 && gap + text::width(&piece) > room {
            break;
        }
        let piece = text::cut(&piece, room.saturating_sub(gap), theme.signs.cut);
        room = room.saturating_sub(gap + text::width(&piece));
        spans.push(Span::raw(" ".repeat(gap)));
        spans.push(Span::styled(piece, theme.style(role)));
    }
    Line::from(spans)
}

fn freshness(model: &Model, link: &Link) -> (String, Role) {
    match (model.frozen_for(), link) {
        (_, Link::Connecting(_)) => ("CONNECTING".to_owned(), Role::Warn),
        (_, Link::Stale(silent, _)) => (format!("STALE {} s", silent.as_secs()), Role::Bad),
        (Some(passed), Link::Live) => (format!("FROZEN +{} s", passed.num_seconds()), Role::Warn),
        (None, Link::Live) => ("LIVE".to_owned(), Role::Good),
    }
}
