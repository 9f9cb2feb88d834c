//! One page, asked for as the fetcher asks. Guarantee: the same address, headers, redirects, limits and pointers as a fetch; nothing is
//! produced and no cursor moves. Not guaranteed: that the next page is like it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};

use super::client::Client;
use super::error::FetchError;
use super::page::{self, Ways};
use super::paging::Next;

/// The first page of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The API, without the query of its address.
    pub(crate) api: String,
    /// The records of the page.
    pub(crate) records: Vec<Bytes>,
    /// What the next page is asked with, if there is one.
    pub(crate) next: Option<String>,
}

/// Asks for the first page.
///
/// # Errors
/// As a fetch fails.
pub(crate) async fn sample(pipeline: &Pipeline, table: &FetcherSection, wall: SystemTime) -> Result<Sample, FetchError> {
    let client = Client::new(pipeline, table)?;
    let api = client.api().to_owned();
    let start = table.cursor.as_ref().and_then(|cursor| cursor.start.as_deref());
    let answer = client.fetch(wall, &BTreeMap::new(), start).await?;
    let read = page::read(&answer.body, &Ways::of(table), true, table.max_page_bytes.as_usize());
    let (found, said) = client.page(&answer, read)?;
    let next = match said.next {
        Next::Cursor(next) => Some(next),
        _ => None,
    };
    Ok(Sample { api, records: found.records, next })
}
