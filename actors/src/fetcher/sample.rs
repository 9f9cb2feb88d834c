//! Fetches one page without producing it, for `forebay doctor` and for checks.
//!
//! Guarantees:
//! * URL, headers, redirects, limits and pointers are those of a fetch.
//! * Nothing is produced and no cursor moves.
//!
//! Does not guarantee that the next page looks like it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};

use super::client::Client;
use super::error::FetchError;
use super::page::{self, PagePaths};
use super::pagination::{NextStep, PageHistory, PageLimits};

/// The first page of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The API: its URL without the query.
    pub(crate) api: String,
    /// The records of the page.
    pub(crate) records: Vec<Bytes>,
    /// The cursor of the next page, if there is one.
    pub(crate) next: Option<String>,
}

/// Fetches the first page with these params.
///
/// # Errors
/// As of a fetch.
pub(crate) async fn sample(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &BTreeMap<String, String>,
    wall: SystemTime,
) -> Result<Sample, FetchError> {
    let client = Client::new(pipeline, section)?;
    let api = client.api().to_owned();
    let (start, limits) = PageLimits::of(section);
    let mut response = client.fetch(wall, params, start.as_deref()).await?;
    if let Some(part) = client.next_part(&mut response).await {
        return Ok(Sample { api, records: part?.0.records, next: None });
    }
    let read = page::read(&response.body, &PagePaths::of(section), true, section.max_page_bytes.as_usize());
    let (extracted, info) = client.page(&response, read)?;
    let next = match PageHistory::default().next_step(limits, start.as_deref(), extracted.records.len() as u64, info) {
        NextStep::Continue(next) => Some(next),
        NextStep::Stop(stop, _) => stop.cursor,
    };
    Ok(Sample { api, records: extracted.records, next })
}
