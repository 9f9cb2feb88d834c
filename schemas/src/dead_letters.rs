//! Dead letters as the control API lists them.

use serde::{Deserialize, Serialize};

use crate::api::RecordView;
use crate::offset::{Offset, Partition};

/// A dead letter: the original record, and why it was rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// The record in the dead-letter topic.
    pub record: RecordView,
    /// The stage that rejected it: `produce`, `decode`, `transform`, `write`.
    pub stage: String,
    /// The reason; if `[api] mask` is set, values quoted from the record are `***`.
    pub reason: String,
    /// The fingerprint of the SQL that rejected it; absent if it was rejected earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_fingerprint: Option<String>,
    /// Its partition and offset in the topic; absent if it was never there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<(Partition, Offset)>,
    /// Whether a redrive has produced it to the topic again, or an operator has dropped it.
    #[serde(default)]
    pub handled: bool,
}

/// The answer of `GET /v1/dlq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetters {
    /// The dead-letter topic.
    pub topic: String,
    /// How many dead letters the topic holds.
    pub total: u64,
    /// How many of them were read for this answer, the newest ones. The others may match, too.
    #[serde(default)]
    pub read: u64,
    /// Those that match, newest first.
    pub letters: Vec<DeadLetter>,
}

/// The dead letters with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetterReason {
    /// The stage that rejected them.
    pub stage: String,
    /// The reason, without the records' values and positions.
    pub reason: String,
    /// How many there are.
    pub count: u64,
    /// How many of them were neither redriven nor dropped.
    pub open: u64,
    /// The partition and offset of the newest one in the dead-letter topic.
    pub newest: (Partition, Offset),
    /// The reason of the newest one as it is; if `[api] mask` is set, values quoted from the record
    /// are `***`.
    pub example: String,
}

/// The answer of `GET /v1/dlq/reasons`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetterReasons {
    /// The dead-letter topic.
    pub topic: String,
    /// How many dead letters the topic holds.
    pub total: u64,
    /// How many of them were read for this answer, the newest ones. The others are not counted.
    pub read: u64,
    /// The reasons of those that match, the most frequent first; at most 100, the others are left
    /// out.
    pub reasons: Vec<DeadLetterReason>,
    /// How many of those that match have a reason that is left out.
    pub left_out: u64,
}
