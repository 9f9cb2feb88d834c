//! Builds the supervision tree out of a pipeline file, and lets others look at it.
//!
//! ```text
//! root            one_for_one   gives up: ordered stop, exit code 70
//! ├ ledger        permanent     a journal that fails is fatal
//! ├ broker        permanent     embedded only
//! ├ egress        rest_for_one  writer, transformer, consumer
//! ├ ingest        rest_for_one  producer, fetcher
//! └ observers     one_for_one   alerts, lineage, traces, api; when it gives up the pipeline goes on
//! ```
//!
//! Children start in this order and stop in the reverse one, so a stop ends the fetches first and the table last.
//! Within `egress` and `ingest` the sink comes first: whoever dies takes those with it that hold its address, and no others.

mod blueprint;
mod handle;
mod key_warnings;
mod options;
mod plan;
mod probe;
#[cfg(test)]
mod row_tests;
mod start_commands;
mod tree;

pub use blueprint::Blueprint;
pub use handle::Running;
pub use options::{Options, Role, StartError};
pub use plan::plan;
pub use probe::{Probe, probe};
pub use tree::start;
