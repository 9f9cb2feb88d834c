//! Fields of records that the schema does not have.
//!
//! Guarantee: at most [`MAX_DRIFTED_FIELDS`] fields are kept of a pipeline, each once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::offset::{Offset, Partition};

/// The most fields that are kept of a pipeline. Further ones are not reported.
pub const MAX_DRIFTED_FIELDS: usize = 100;
/// The most characters of a field's JSON pointer that are kept.
pub const MAX_DRIFTED_CHARS: usize = 200;

/// A field that the schema does not have, with the first record in which it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DriftedField {
    /// The JSON pointer to it, with `*` for the items of an array; cut after
    /// [`MAX_DRIFTED_CHARS`] characters.
    pub field: String,
    /// The JSON type of its first value: `boolean`, `number`, `string`, `array` or `object`.
    pub kind: String,
    /// The partition of that record.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
}

/// `/note (string), first in p0 at 17`.
impl fmt::Display for DriftedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, kind, partition, offset } = self;
        write!(f, "{field} ({kind}), first in p{partition} at {offset}")
    }
}
