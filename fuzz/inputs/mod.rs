//! What reads bytes from outside, each with a function that checks one input and panics when a
//! promise does not hold. `tests/fuzz.rs` calls them with random changes of `fuzz/seeds`, and
//! libFuzzer, from `fuzz/fuzz_targets`, with inputs that reach new code.

pub mod api_body;
pub mod commit_metadata;
pub mod cql_name;
pub mod journal;
pub mod link_header;
pub mod paging_guess;
pub mod pipeline_file;
pub mod record;
pub mod retry_after_header;
