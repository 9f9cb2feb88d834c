//! The desired state of a pipeline: what an operator asked for. The journal keeps it, so it
//! outlives the process.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a pipeline is meant to do. It outlives the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// Fetch and write.
    #[default]
    Running,
    /// Fetch nothing and read nothing: the fetcher requests no page; the consumer keeps its
    /// partitions but reads none of them.
    Paused,
    /// Fetch nothing, and write what the topic holds.
    Drained,
}

/// The desired state, and who set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Desired {
    /// The desired state.
    pub state: DesiredState,
    /// Who set it; empty if nobody ever has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}
