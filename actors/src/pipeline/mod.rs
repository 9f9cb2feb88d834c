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
pub mod cursor;
mod keys;
mod links;
mod outlook;
mod probe;
pub mod redrive;
pub mod replay;
mod running;
#[cfg(test)]
mod stale_tests;
mod view;

pub use blueprint::Blueprint;
pub use outlook::outlook;
pub use probe::{Probe, probe};
pub use running::{DataDirLock, Options, Role, Running, StartError, is_running, journal_dir, start};
pub use view::{Viewer, cursors_of};
