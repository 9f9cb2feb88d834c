//! The fetcher: an HTTP API's pages, on a schedule and when somebody asks.
//!
//! Guarantee: one request at a time; none before the budget towards the producer has room for the largest page; a triggered run ends in
//! one report, after an API that was away for up to five minutes; a scheduled fetch is tried again and again, with back-off, and its trouble
//! is shown as long as it lasts. Records are the API's own bytes. An answer is bounded in size and time, compressed or not. Where the API gives
//! cursors a fetch goes page after page, and the cursor it goes on from is on the disk and never past a page that is not in Kafka, so a crash
//! asks for one page again at most. Each fetch that ends says why, and whether the API has more than was read.
//!
//! Not guaranteed: that a page fetched again, after a crash between page and topic, gives the same records. Those that are the same have
//! the same key and event identifier and change nothing.
//!
//! ```text
//! schedule, triggers ─▶ State ─▶ budget.reserve ─▶ client ─▶ page::read ─▶ Lease<Page> ─▶ producer
//!                         ▲                                                        │
//!                         └────────── receipt: produced, refused, abandoned ◀──────┘
//! ```

mod actor;
#[cfg(test)]
mod actor_tests;
#[cfg(test)]
mod answers;
mod client;
mod error;
mod handle;
mod hints;
mod limit;
mod next;
pub(crate) mod page;
pub(crate) mod paging;
pub(crate) mod pointer;
mod sample;
mod split;
pub(crate) mod state;
#[cfg(test)]
mod tests;

pub use actor::{Fetcher, FetcherMessage, FetcherParams};
pub(crate) use client::without_query;
pub use client::without_secrets;
pub use error::FetchError;
pub use handle::{FetcherHandle, ScheduledFetches};
pub use limit::Limit;
pub(crate) use sample::sample;
pub use state::{MOST_WAITING, RUN_PATIENCE, Schedule};
