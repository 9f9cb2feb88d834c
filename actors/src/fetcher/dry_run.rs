//! What a fetch would request, for `forebay fetch --dry-run`.
//!
//! Guarantees:
//! * The request is that of a fetch, and so are the limits and the rules of its pages.
//! * Nothing is produced, and no cursor moves.
//! * Secrets are shown as `***`, and headers by their names only.
//!
//! Does not guarantee that the API answers a fetch in the same way.

use std::collections::BTreeMap;
use std::time::SystemTime;

use forebay_schemas::http_url::HttpUrl;
use forebay_schemas::pipeline::{FetcherSection, PagingSection, Pipeline};
use forebay_schemas::run::Stop;
use forebay_schemas::source_read::ReadParams;
use serde::Serialize;

use super::client::{Client, PageRequest};
use super::error::FetchError;
use super::pagination::{NextStep, PageHistory, PageLimits};
use super::paging_search::{PagingSearch, search_paging};
use super::sample::{ReadPage, read_page};

/// What a fetch would do with the first page.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// The request of the first page.
    pub request: ShownRequest,
    /// What the API answered; absent if no page arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why no page arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The request of the next page; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<ShownRequest>,
    /// Why no further page would be requested; absent if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The rule by which the next page is found.
    pub rule: String,
    /// What `paging = "auto"` finds now, a sentence each, and the lines of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundRule>,
    /// The limits of a fetch, by their keys in the pipeline file.
    pub limits: BTreeMap<&'static str, String>,
}

/// What `paging = "auto"` finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FoundRule {
    /// What was found, and what was tried.
    pub notes: Vec<String>,
    /// The lines of `[fetcher.paging]`; empty when there is no rule.
    pub lines: Vec<String>,
}

/// A request without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownRequest {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The names of its headers.
    pub headers: Vec<String>,
    /// The body; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// An answer, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The size of the body, decompressed; of lines or rows, that of the first part's records.
    pub bytes: usize,
    /// The records on the page; of lines or rows, in the first part.
    pub records: usize,
    /// Those of them that become dead letters: not JSON, or without a place for `[fetcher.add]`.
    pub malformed: usize,
}

/// Requests the first page with these params, and says what would follow.
///
/// # Errors
/// When the request can't be made.
pub async fn dry_run(pipeline: &Pipeline, section: &FetcherSection, params: &ReadParams, wall: SystemTime) -> Result<DryRun, FetchError> {
    let (section, found) = with_found_rule(pipeline, section, params, wall).await;
    let section = &section;
    let (start, limits) = PageLimits::of(section);
    let client = Client::new(pipeline, section)?;
    let request = shown(section, &client.page_request(params, start.as_deref())?);
    let rule = section.paging().map_or_else(|| "a fetch is one page".to_owned(), |paging| paging.describe());
    let rule = section.incremental.iter().fold(rule, |rule, section| format!("{rule}; {}", section.describe()));
    let outcome = DryRun { request, answer: None, error: None, next: None, stop: None, rule, found, limits: limits_of(section) };
    let answer = async {
        let ReadPage { status, bytes, extracted, info } = read_page(&client, section, params, start.as_deref(), true, wall).await?;
        let (records, malformed) = (extracted.records.len(), extracted.bad.len());
        Ok::<_, FetchError>((Answer { status: status.as_u16(), bytes, records, malformed }, info))
    };
    let (answer, info) = match answer.await {
        Ok(answer) => answer,
        Err(error) => {
            let error = if pipeline.api.mask.is_empty() { error } else { error.masked() };
            return Ok(DryRun { error: Some(error.to_string()), ..outcome });
        }
    };
    let (next, stop) = match PageHistory::default().next_step(limits, start.as_deref(), answer.records as u64, info) {
        NextStep::Continue(cursor) => (Some(shown(section, &client.page_request(params, Some(&cursor))?)), None),
        NextStep::Stop(stop, _) => (None, Some(stop)),
    };
    Ok(DryRun { answer: Some(answer), next, stop, ..outcome })
}

/// The section with the rule that `paging = "auto"` finds now, and what it finds. A failure is that
/// of the first page, which is requested next.
async fn with_found_rule(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &ReadParams,
    wall: SystemTime,
) -> (FetcherSection, Option<FoundRule>) {
    let mut section = section.clone();
    if !section.seeks_paging() {
        return (section, None);
    }
    let Ok(PagingSearch { found, notes, .. }) = search_paging(pipeline, &section, params, wall).await else { return (section, None) };
    let lines = found.map(|guess| guess.lines).unwrap_or_default();
    if let Ok(paging) = PagingSection::from_toml(&lines.join("\n")) {
        section.paging = Some(paging);
    }
    (section, Some(FoundRule { notes, lines }))
}

fn shown(section: &FetcherSection, request: &PageRequest) -> ShownRequest {
    let hidden: Vec<&str> = request.secrets.iter().map(|(name, _)| name.as_str()).collect();
    let param = section.paging().and_then(|paging| paging.param);
    let watermark = section.incremental.as_ref().and_then(|section| section.param.as_deref());
    let shown: Vec<&str> = param.as_deref().into_iter().chain(watermark).collect();
    let mut headers: Vec<String> = request.headers.keys().map(ToString::to_string).collect();
    headers.sort_unstable();
    headers.dedup();
    ShownRequest {
        method: request.method.to_string(),
        url: HttpUrl::from(request.url.clone()).masked(&hidden, &shown),
        headers,
        body: request.body.clone(),
    }
}

fn limits_of(section: &FetcherSection) -> BTreeMap<&'static str, String> {
    let mut limits = BTreeMap::from([
        ("fetcher.max_page_bytes", section.max_page_bytes.to_string()),
        ("fetcher.max_pages", section.max_pages.to_string()),
        ("fetcher.timeout", section.timeout.to_string()),
    ]);
    if let Some(paging) = section.paging() {
        let key = if paging.key == "cursor" { "fetcher.cursor.max_empty_pages" } else { "fetcher.paging.max_empty_pages" };
        limits.insert(key, paging.max_empty_pages.to_string());
    }
    if let Some(max) = section.max_rejected {
        limits.insert("fetcher.max_rejected", max.to_string());
    }
    limits
}
