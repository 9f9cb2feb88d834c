//! The supervision tree: who is up, which incarnation, why the one before ended, what it waits for.

use forebay_schemas::snapshot::{ActorState, ActorView, Snapshot};

use super::grid::{Cell, Column, Grid};
use crate::text;
use crate::theme::{Role, Theme};

/// A row an actor, indented as the tree is.
pub(crate) fn grid(look: &Snapshot, theme: &Theme) -> Grid {
    let columns = vec![
        Column::left("actor", 0),
        Column::left("state", 0),
        Column::right("#", 1),
        Column::right("for", 3),
        Column::right("restarts", 4),
        Column::left("why", 2),
    ];
    let row = |(at, actor): (usize, &ActorView)| {
        let (sign, role) = sign(actor.state, theme);
        let name = actor.path.rsplit('/').next().unwrap_or(&actor.path);
        let restarts = actor.incarnation.saturating_sub(1);
        vec![
            Cell::new(indent(&look.actors, at, theme), Role::Muted).and(format!("{sign} "), role).and(name, Role::Text),
            Cell::new(word(actor.state), role),
            Cell::from(format!("#{}", actor.incarnation)),
            Cell::from(text::clock(look.at - actor.since)),
            Cell::new(restarts.to_string(), if restarts > 0 { Role::Warn } else { Role::Muted }),
            why(actor, theme),
        ]
    };
    Grid { columns, least: 12, rows: look.actors.iter().enumerate().map(row).collect() }
}

/// What it says now, then why the incarnation before it ended.
fn why(actor: &ActorView, theme: &Theme) -> Cell {
    let mut cell = Cell::default();
    if let Some(note) = &actor.note {
        cell = cell.and(note.clone(), if actor.state == ActorState::Up { Role::Text } else { Role::Warn });
    }
    if let Some(exit) = &actor.last_exit {
        let gap = if actor.note.is_some() { "  " } else { "" };
        cell = cell.and(format!("{gap}{} {exit}", theme.signs.restart), Role::Muted);
    }
    cell
}

/// The lines of the tree before an actor.
fn indent(actors: &[ActorView], at: usize, theme: &Theme) -> String {
    let parts: Vec<_> = actors[at].path.split('/').collect();
    let mut out = String::new();
    for depth in 1..parts.len() {
        // Whether another child of the same parent comes later.
        let goes_on = actors[at + 1..].iter().map_while(|later| {
            let mut later = later.path.split('/');
            parts[..depth].iter().all(|part| later.next() == Some(part)).then(|| later.next())
        });
        let goes_on = goes_on.flatten().any(|name| name != parts[depth]);
        out.push_str(match (depth + 1 == parts.len(), goes_on) {
            (true, true) => theme.signs.branch,
            (true, false) => theme.signs.last_branch,
            (false, true) => theme.signs.trunk,
            (false, false) => "  ",
        });
    }
    out
}

pub(super) fn word(state: ActorState) -> &'static str {
    match state {
        ActorState::Up => "up",
        ActorState::Waiting => "WAITING",
        ActorState::Stuck => "STUCK",
        ActorState::Restarting => "RESTARTING",
        ActorState::Ended => "ENDED",
    }
}

pub(super) fn sign(state: ActorState, theme: &Theme) -> (&'static str, Role) {
    match state {
        ActorState::Up => (theme.signs.dot, Role::Good),
        ActorState::Waiting => (theme.signs.waiting, Role::Warn),
        ActorState::Stuck => (theme.signs.stuck, Role::Bad),
        ActorState::Restarting => (theme.signs.restart, Role::Bad),
        ActorState::Ended => (theme.signs.ended, Role::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::theme::Options;

    #[test]
    fn the_tree_has_a_branch_for_each_child_and_a_trunk_only_where_more_children_come() {
        let (look, theme) = (fixture::busy(), Theme::new(Options { colour: false, ascii: false }));
        let drawn: Vec<_> =
            (0..look.actors.len()).map(|at| indent(&look.actors, at, &theme) + look.actors[at].path.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            drawn,
            [
                "root",
                "├ ledger",
                "├ broker",
                "├ ingest",
                "│ ├ producer",
                "│ └ fetchers",
                "│   └ fetcher",
                "├ egress",
                "│ ├ writer",
                "│ ├ transformer",
                "│ └ consumer",
                "└ observers",
                "  └ api"
            ]
        );
    }
}
