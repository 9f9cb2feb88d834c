//! Fetches pages without producing them, for `forebay doctor`, `forebay fetch --dry-run` and
//! `forebay init --from`.
//!
//! Guarantees:
//! * URL, headers, redirects, limits and pointers are those of a fetch.
//! * Nothing is produced and no cursor moves.
//!
//! Does not guarantee that a later page looks like the first.

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use bytes::Bytes;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};
use forebay_schemas::source_read::ReadParams;
use reqwest::StatusCode;

use super::client::Client;
use super::error::FetchError;
use super::page::{self, PagePaths};
use super::pagination::{NextStep, PageHistory, PageInfo, PageLimits};
use super::records::Extracted;
use super::watermark::MarkReader;
use crate::message::BadRecord;

/// The first page of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The API: its URL without the query.
    pub(crate) api: String,
    /// The records of the page.
    pub(crate) records: Vec<Bytes>,
    /// Those that become dead letters already, in order.
    pub(crate) bad: Vec<BadRecord>,
    /// The cursor of the next page, if there is one.
    pub(crate) next: Option<String>,
}

/// A page of an API; of one that arrives in parts, the first part.
pub(super) struct ReadPage {
    pub(super) status: StatusCode,
    /// The size of the body, decompressed; of a part, that of its records.
    pub(super) bytes: usize,
    pub(super) extracted: Extracted,
    pub(super) info: PageInfo,
}

/// Fetches the page with this cursor.
pub(super) async fn read_page(
    client: &Client,
    section: &FetcherSection,
    params: &ReadParams,
    cursor: Option<&str>,
    is_first: bool,
    wall: SystemTime,
) -> Result<ReadPage, FetchError> {
    let mut response = client.fetch(wall, params, cursor).await?;
    let (status, paths) = (response.status, PagePaths::of(section));
    let fields = client.record_fields(params, &response)?;
    let marks = section.incremental.as_ref().map(MarkReader::new);
    let has_marks =
        |extracted: &mut Extracted| marks.as_ref().map_or(Ok(()), |reader| reader.read(extracted, &HashSet::new(), is_first).map(drop));
    if let Some(part) = client.next_part(&mut response).await {
        let (mut extracted, _) = part?;
        has_marks(&mut extracted).map_err(|cause| client.page_error(&response, cause))?;
        let bytes = extracted.records.iter().map(Bytes::len).sum();
        client.add_fields(&response, &fields, &mut extracted)?;
        let info = client.page_of_rows(&response, &paths)?;
        return Ok(ReadPage { status, bytes, extracted, info });
    }
    let read = page::read(&response.body, &paths, is_first, section.max_page_bytes.as_usize());
    let (mut extracted, info) = client.page(&response, read)?;
    has_marks(&mut extracted).map_err(|cause| client.page_error(&response, cause))?;
    client.add_fields(&response, &fields, &mut extracted)?;
    Ok(ReadPage { status, bytes: response.body.len(), extracted, info })
}

/// Fetches the first page with these params.
///
/// # Errors
/// As of a fetch.
pub(crate) async fn sample(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &ReadParams,
    wall: SystemTime,
) -> Result<Sample, FetchError> {
    first_of(&Client::new(pipeline, section)?, section, params, wall).await
}

async fn first_of(client: &Client, section: &FetcherSection, params: &ReadParams, wall: SystemTime) -> Result<Sample, FetchError> {
    let api = client.api().to_owned();
    let (start, limits) = PageLimits::of(section);
    let ReadPage { extracted, info, .. } = read_page(client, section, params, start.as_deref(), true, wall).await?;
    let next = match PageHistory::default().next_step(limits, start.as_deref(), extracted.records.len() as u64, info) {
        NextStep::Continue(next) => Some(next),
        NextStep::Stop(stop, _) => stop.cursor,
    };
    Ok(Sample { api, records: extracted.records, bad: extracted.bad, next })
}

/// The first response of an API of which nothing else is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirstResponse {
    /// The body as JSON; the records of lines or rows as an array.
    pub body: Bytes,
    /// Whether it has rows of CSV.
    pub has_rows: bool,
    /// The headers, with names in lower case; the first of each name.
    pub headers: BTreeMap<String, String>,
    /// Whether a `Link` header names a next page.
    pub links_next: bool,
}

/// Requests the URL of `[fetcher]` with these params, as it is.
///
/// # Errors
/// As of a fetch.
pub async fn first_response(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &ReadParams,
    wall: SystemTime,
) -> Result<FirstResponse, FetchError> {
    let one_page = FetcherSection { paging: None, cursor: None, ..section.clone() };
    let client = Client::new(pipeline, &one_page)?;
    let mut response = client.fetch(wall, params, None).await?;
    let (links_next, headers, has_rows) = (response.link.is_some(), response.text_headers(), response.has_rows());
    let body = match client.next_part(&mut response).await {
        Some(part) => [b"[".as_slice(), &part?.0.records.join(&b','), b"]"].concat().into(),
        None => response.body.clone(),
    };
    Ok(FirstResponse { body, has_rows, headers, links_next })
}

/// Fetches the first page with these params, and the next one if the pipeline file leads to one.
///
/// # Errors
/// As of a fetch.
pub(crate) async fn two_pages(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &ReadParams,
    wall: SystemTime,
) -> Result<(Vec<Bytes>, Option<Vec<Bytes>>), FetchError> {
    let client = Client::new(pipeline, section)?;
    let Sample { records, next, .. } = first_of(&client, section, params, wall).await?;
    let Some(next) = next else { return Ok((records, None)) };
    match read_page(&client, section, params, Some(&next), false, wall).await {
        Ok(page) => Ok((records, Some(page.extracted.records))),
        // Some APIs refuse the page after the last one.
        Err(FetchError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok((records, Some(Vec::new()))),
        Err(error) => Err(error),
    }
}
