//! The reads of simulated runs, and where a fetch of one starts.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use forebay_schemas::source_read::{Position, Read};
use forebay_schemas::window::Window;
use uuid::Uuid;

use super::Fault;
use super::api::READS;
use super::world::Env;
use crate::ledger::State as Ledger;

/// The params of a run of a read.
pub(super) fn params(read: usize) -> BTreeMap<String, String> {
    if read == 0 { BTreeMap::new() } else { BTreeMap::from([("r".to_owned(), "1".to_owned())]) }
}

/// The window of a run of a read.
pub(super) fn window(read: usize) -> Option<Window> {
    let (start, end) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(1));
    (read == 2).then_some(Window { start, end })
}

/// A read by its number.
pub(super) fn read(number: usize) -> Read {
    Read::in_window(&params(number), window(number))
}

/// The number of the read that a fetch belongs to: by its request, not by the read's text.
pub(super) fn read_of(ledger: &Ledger, run: Uuid) -> usize {
    let spec = ledger.runs.get(run).map(|run| &run.spec);
    spec.map_or(0, |spec| usize::from(!spec.params.is_empty()) + usize::from(spec.window.is_some()))
}

/// The page at a position.
pub(super) fn page_of(position: &Position) -> usize {
    position.cursor().map_or(0, number)
}

/// Where a fetch starts: where the ledger says, or where a fault does.
pub(super) fn begins(env: &Env, ledger: &Ledger, run: Uuid) -> Position {
    let begins = ledger.next_position(run);
    if !env.scenario.source.has_cursors() {
        return begins;
    }
    let at = |page: usize| Position::of(Some(&page.to_string()));
    match begins {
        Position::Cursor(cursor) if env.has(Fault::SkipPage) => at(number(&cursor) + 1),
        _ if env.has(Fault::ShareCursor) => {
            let furthest = (0..READS).map(|read| page_of(&ledger.cursors.position(&self::read(read)))).max();
            furthest.filter(|&page| page > 0).map_or(begins, at)
        }
        _ if env.has(Fault::WindowNotInRead) => {
            let run = ledger.runs.get(run);
            let own = run.filter(|run| run.again || run.counts.pages > 0).and_then(|run| run.position.clone());
            own.unwrap_or_else(|| ledger.cursors.position(&run.map(|run| Read::of(&run.spec.params)).unwrap_or_default()))
        }
        _ if env.has(Fault::AgainGoesOnAtCursor) && ledger.runs.get(run).is_some_and(|run| run.again && run.counts.pages > 0) => {
            ledger.cursors.position(&read(read_of(ledger, run)))
        }
        begins => begins,
    }
}

/// The page of a cursor.
pub(super) fn number(cursor: &str) -> usize {
    cursor.parse().expect("the cursors of this API are numbers")
}
