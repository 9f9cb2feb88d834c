//! Builds the supervision tree from a pipeline file, and the handle of the running pipeline.
//!
//! ```text
//! root            one_for_one   when it gives up: ordered stop, exit code 70
//! ├ ledger        permanent     a journal that fails is fatal
//! ├ broker        permanent     embedded only
//! ├ egress        rest_for_one  writer, transformer, consumer
//! ├ ingest        rest_for_one  producer, fetcher
//! └ observers     one_for_one   alerts, lineage, traces, api; when it gives up the pipeline continues
//! ```
//!
//! Children start in this order and stop in reverse, so a stop ends the fetches first and the
//! writes last. Within `egress` and `ingest` the sink comes first: a failed actor takes down
//! exactly those that hold its mailbox.

mod auto_paging;
mod blueprint;
mod dead_letter_diff;
mod handle;
mod key_warnings;
mod options;
mod outcome;
mod page_probe;
#[cfg(test)]
mod row_tests;
mod shadow;
mod start_plan;
mod startup_commands;
mod tree;
#[cfg(test)]
mod type_tests;

pub use auto_paging::{AutoPagingError, seek_paging, use_found_paging};
pub use blueprint::Blueprint;
pub use dead_letter_diff::{Diff, Difference, diff};
pub use handle::Running;
pub use options::{Options, Role, StartError};
pub use outcome::Outcome;
pub use page_probe::{Probe, first_page, probe};
pub use shadow::{Change, Comparison, shadow};
pub use start_plan::plan_start;
pub use tree::start;

pub use crate::fetcher::{
    Answer, DryRun, FirstAnswer, FirstResponse, FoundRule, PagingGuess, PagingSearch, ShownRequest, dry_run, find_paging, first_response,
    paging_guesses, sign_of_more,
};
