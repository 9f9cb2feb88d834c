//! Counting rejects by stage and reason.

use forebay_schemas::rejects::Rejects;

use crate::{Reason, RejectStage};

/// Adds one reject to the counts, under the part of its reason that similar rejects share.
pub fn add(counts: &mut Rejects, stage: RejectStage, reason: &Reason) {
    counts.add(stage.as_str(), &reason.kind(), 1);
}
