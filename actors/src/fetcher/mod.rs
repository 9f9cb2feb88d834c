//! The fetcher: reads the pages of an HTTP API, on a schedule and for triggered runs.
//!
//! Guarantees:
//! * At most `max_active_runs` requests at a time, of different reads, and none before the budget
//!   towards the producer has room for the largest page.
//! * Exactly one end of a triggered run is recorded in the ledger. While the API is unavailable it
//!   retries each page for up to `max_wait`.
//! * A scheduled fetch retries with back-off for as long as the API is unavailable, and shows its
//!   error meanwhile.
//! * Records of JSON and NDJSON are the API's own bytes, with what `[fetcher.add]` adds. A response
//!   of JSON is bounded in size, and so is each part of any other; all are bounded in time,
//!   compressed or not.
//! * Where the API paginates, a fetch reads page after page, and requests up to `fetch_ahead` of
//!   them before an earlier one is in Kafka. The stored position is never past a page that is not
//!   in Kafka, so a crash repeats at most `fetch_ahead` requests and one.
//! * The pages of a run reach the topic in the order in which they were fetched.
//! * Each fetch that ends says why, and whether the API has more.
//!
//! Does not guarantee that a page fetched again, after a crash between page and topic, gives the
//! same records. Records that are the same have the same key and event identifier, and change
//! nothing.
//!
//! ```text
//! schedule, triggers ─▶ State ─▶ budget.reserve ─▶ client ─▶ page::read ─▶ Deliveries ─▶ producer
//!                         ▲                                                        │
//!                         └────────── receipt: produced, refused, abandoned ◀──────┘
//! ```

mod active_fetch;
mod actor;
#[cfg(test)]
mod actor_tests;
mod authorization;
mod body;
mod body_format;
mod body_hints;
mod client;
#[cfg(test)]
mod client_auth_tests;
#[cfg(test)]
mod client_response_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod client_tls_tests;
mod columns;
mod csv_rows;
pub(crate) mod deliveries;
mod dry_run;
mod echoed_secrets;
mod error;
mod handle;
mod link_header;
mod malformed_records;
mod ndjson;
mod next_url;
mod oauth2;
mod page;
mod page_error;
mod page_fetcher;
pub(crate) mod pagination;
mod paging_guess;
mod paging_search;
mod public_address;
mod rate_limit_headers;
mod record_fields;
mod record_part;
mod record_stream;
mod records;
mod redirects;
mod request;
mod sample;
mod schedule;
pub(crate) mod state;
mod statuses;
#[cfg(test)]
mod test_server;
mod tls_failure;
mod transcoder;
pub(crate) mod validators;
pub(crate) mod watermark;

pub use dry_run::{Answer, DryRun, FoundRule, ShownRequest, dry_run};

pub(crate) use actor::{Fetcher, FetcherMessage, FetcherParams};
pub(crate) use error::FetchError;
pub(crate) use handle::{FetcherHandle, ScheduledFetches};
pub use paging_guess::{FirstAnswer, PagingGuess, paging_guesses, sign_of_more};
pub(crate) use paging_search::search_paging;
pub use paging_search::{PagingSearch, find_paging};
pub use sample::{FirstResponse, first_response};
pub(crate) use sample::{Sample, sample};
pub(crate) use schedule::Schedule;

pub use link_header::next_link;
pub use rate_limit_headers::RateLimit;
