//! Computes the state from a journal: the newest snapshot, and the events since.

use std::path::Path;

use forebay_schemas::event::decode;

use super::error::LedgerError;
use super::state::State;
use crate::journal::{self, segment, snapshot};

/// Returns the state after event `at`, or after the last event: the newest snapshot up to there,
/// and the events since.
///
/// A snapshot of another version of the program is used only where the journal no longer has all
/// events: it lacks what this version folds out of them.
///
/// # Errors
/// When the journal is damaged, or does not reach back far enough.
pub fn fold(folder: &Path, at: u64) -> Result<State, LedgerError> {
    let snapshot = snapshot::latest(folder, at)?;
    let covered = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    let is_whole = segment::list(folder)?.first().is_some_and(|segment| segment.first == 1);
    let mut state = snapshot.and_then(|snapshot| restore(&snapshot.state, is_whole)).unwrap_or_default();
    let from = state.seq + 1;
    let mut first = None;
    let end = journal::read(folder, from, |seq, json| {
        first.get_or_insert(seq);
        if seq <= at {
            state.evolve(&decode(json)?);
        }
        Ok::<_, LedgerError>(())
    })?;
    let folder = || folder.display().to_string();
    match first {
        Some(first) if first != from => Err(LedgerError::MissingStart { folder: folder(), first }),
        _ if end.next <= covered => Err(LedgerError::MissingEnd { folder: folder(), last: end.next - 1, snapshot: covered }),
        _ => Ok(state),
    }
}

/// Reads the state in a snapshot. With `only_own` there is none where this version would have
/// written it differently.
pub(super) fn restore(json: &[u8], only_own: bool) -> Option<State> {
    let state: State = serde_json::from_slice(json).ok()?;
    let is_own = || serde_json::to_value(&state).ok() == serde_json::from_slice(json).ok();
    (!only_own || is_own()).then_some(state)
}
