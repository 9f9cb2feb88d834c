//! Counting rejects by what is wrong with them.

use forebay_schemas::rejects::Rejects;

use crate::{Reason, Stage};

/// Counts a record that is a dead letter for a reason.
pub fn count(rejects: &mut Rejects, stage: Stage, reason: &Reason) {
    rejects.add(stage.word(), &reason.kind(), 1);
}
