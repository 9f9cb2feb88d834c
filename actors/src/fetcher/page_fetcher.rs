//! The two tasks of the fetcher: fetch a page from the API, and deliver it to the producer.
//!
//! Guarantees:
//! * A fetched page holds budget for exactly what it weighs.
//! * No page is requested before all but `fetch_ahead` of the pages of its run before it are in
//!   Kafka, with their cursors on disk.
//! * A response whose records arrive one per line or row is delivered in parts, each within the
//!   budget, while it arrives. All of them are one page to the fetcher: its last part is returned
//!   when the others are in Kafka.
//! * A part is delivered when all earlier pages of its run are settled, until one incarnation of
//!   the producer has either produced or refused all of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_schemas::source_read::{ReadParams, Validators};
use reqwest::StatusCode;
use tokio::sync::watch;
use uuid::Uuid;

use super::client::{ApiResponse, Client};
use super::error::FetchError;
use super::page::{self, PagePaths};
use super::pagination::PageInfo;
use super::record_fields::RecordFields;
use super::records::Extracted;
use super::watermark::{MarkReader, Seen};
use crate::failpoint::point_async;
use crate::ledger::Ledger;
use crate::message::{Page, PageContent, PageProduced, PageRefused, RECORD_OVERHEAD, Receipt};
use forebay_kernel::{Budget, Credit, MailboxSlot, SharedClock};

/// The delay before a page is handed to a producer that is being restarted.
pub(super) const HANDOFF_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Responses of at least this size are parsed on a thread that may block.
const LARGE_BODY_BYTES: usize = 256 << 10;

/// What fetching a page takes.
#[derive(Clone)]
pub(super) struct PageFetcher {
    pub(super) client: Client,
    pub(super) paths: PagePaths,
    /// How to read the watermark, where the source is incremental.
    pub(super) marks: Option<Arc<MarkReader>>,
    /// The first page, where the fetcher counts the pages.
    pub(super) counted_from: Option<String>,
    pub(super) max_page_bytes: usize,
    pub(super) budget: Budget,
    /// Receives the parts of a page before the last.
    pub(super) producer: MailboxSlot<Page>,
    /// The run of each page that is with the producer.
    pub(super) unsettled: watch::Receiver<Vec<Uuid>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) clock: SharedClock,
}

/// A page.
pub(super) struct FetchedPage {
    pub(super) content: PageContent,
    /// The parts of the page that are in Kafka already.
    pub(super) earlier: PageProduced,
    pub(super) info: PageInfo,
    /// From the request until the records were extracted.
    pub(super) took: Duration,
}

impl PageFetcher {
    /// Waits until an event is durable. Without paging there is nothing to wait for.
    pub(super) async fn wait_durable(&self, event: u64) -> Result<(), FetchError> {
        match self.paths.is_paged {
            true => self.ledger.flushed_to(event).await.map_err(|error| FetchError::Journal(error.to_string())),
            false => Ok(()),
        }
    }

    /// Forgets what the answer before this one said of itself, for good: that one is not what is in
    /// Kafka from the first record of this one on, even if nothing more comes of it.
    async fn forget_validators(&self, run: Uuid, answer: Option<Validators>) -> Result<(), FetchError> {
        match self.ledger.forget_validators(run, answer) {
            Some(event) => self.ledger.flushed_to(event).await.map_err(|error| FetchError::Journal(error.to_string())),
            None => Ok(()),
        }
    }

    /// Requests a page and extracts its records. `credit` covers the largest page, and shrinks to
    /// what this one weighs.
    pub(super) async fn fetch(
        &self,
        run: Uuid,
        mut credit: Credit,
        params: &ReadParams,
        cursor: Option<&str>,
        is_first: bool,
        seen: &Seen,
    ) -> Result<FetchedPage, FetchError> {
        point_async("fetcher::before_fetch").await;
        let started = self.clock.now();
        let mut response = match self.client.fetch(self.clock.wall(), params, cursor).await {
            // Where the fetcher counts the pages, some APIs refuse the one after the last.
            Err(FetchError::Status { status: StatusCode::NOT_FOUND, limit, .. })
                if self.counted_from.as_deref().is_some_and(|first| cursor != Some(first)) && !limit.retry_later =>
            {
                credit.shrink_to(0);
                let info = PageInfo { past_end: Some("the API answered 404 Not Found".to_owned()), ..PageInfo::default() };
                let took = self.clock.now().saturating_duration_since(started);
                let content = PageContent::new(Vec::new(), Vec::new(), credit);
                return Ok(FetchedPage { content, earlier: PageProduced::default(), info, took });
            }
            response => response?,
        };
        if self.client.is_conditional() && response.status != StatusCode::NOT_MODIFIED {
            self.forget_validators(run, self.client.validators(&response)).await?;
        }
        let wait = response.wait;
        let fields = self.client.record_fields(params, &response)?;
        let mut page = match self.client.next_part(&mut response).await {
            Some(part) => self.parts(run, (response, fields), part?, credit, is_first, seen).await?,
            None => self.whole((response, fields), is_first, credit, seen).await?,
        };
        page.info.wait = wait;
        page.took = self.clock.now().saturating_duration_since(started);
        Ok(page)
    }

    /// Reads a response that has arrived, and adds the fields to its records.
    async fn whole(
        &self,
        (response, fields): (ApiResponse, RecordFields),
        is_first: bool,
        credit: Credit,
        seen: &Seen,
    ) -> Result<FetchedPage, FetchError> {
        let bytes = response.body.len();
        let (body, paths, max) = (response.body.clone(), self.paths.clone(), self.max_page_bytes);
        let (marks, seen) = (self.marks.clone(), Arc::clone(seen));
        let read = move || {
            let (mut extracted, mut info) = page::read(&body, &paths, is_first, max)?;
            if let Some(reader) = marks {
                info.marks = reader.read(&mut extracted, &seen, is_first)?;
            }
            fields.add_to(&mut extracted, max)?;
            Ok((extracted, info))
        };
        let read = if bytes < LARGE_BODY_BYTES {
            read()
        } else {
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
        };
        let (extracted, info) = self.client.page(&response, read)?;
        drop(response);
        let content = self.weighed(extracted, bytes, credit).await;
        Ok(FetchedPage { content, earlier: PageProduced::default(), info, took: Duration::ZERO })
    }

    /// Delivers the parts of a response, except the last.
    async fn parts(
        &self,
        run: Uuid,
        (mut response, fields): (ApiResponse, RecordFields),
        first: (Extracted, bool),
        mut credit: Credit,
        is_first: bool,
        seen: &Seen,
    ) -> Result<FetchedPage, FetchError> {
        let mut info = self.client.page_of_rows(&response, &self.paths)?;
        let mut earlier = PageProduced::default();
        let (mut part, mut is_last) = first;
        loop {
            info.digest = info.digest.rotate_left(1) ^ page::digest(&part.records);
            if let Some(reader) = &self.marks {
                let is_first = is_first && info.marks.reached.is_none() && earlier == PageProduced::default();
                let marks = reader.read(&mut part, seen, is_first);
                info.marks.merge(marks.map_err(|cause| self.client.page_error(&response, cause))?);
            }
            self.client.add_fields(&response, &fields, &mut part)?;
            let bytes = part.records.iter().map(Bytes::len).sum();
            let content = self.weighed(part, bytes, credit).await;
            if is_last {
                return Ok(FetchedPage { content, earlier, info, took: Duration::ZERO });
            }
            // An error means that the fetcher has ended, and this task with it.
            let _ = self.unsettled.clone().wait_for(|runs| !runs.contains(&run)).await;
            let produced = deliver(run, Arc::new(content), &self.producer).await;
            earlier.merge(&produced.map_err(|refused| FetchError::Refused(refused.0))?);
            credit = self.budget.reserve(self.max_page_bytes).await;
            let next = self.client.next_part(&mut response).await.expect("a response whose records arrive in parts has a last part");
            (part, is_last) = next?;
        }
    }

    /// The records of a page that has `bytes` in memory, with the budget for them.
    async fn weighed(&self, extracted: Extracted, bytes: usize, mut credit: Credit) -> PageContent {
        let Extracted { records, bad, body, .. } = extracted;
        drop(body);
        // The records of columns are no slices of the body, and may be longer.
        let bytes = bytes.max(records.iter().map(Bytes::len).sum());
        // The records are slices of the body, so all of it stays in memory. Bad records are copies
        // of a part of it.
        let copies: usize = bad.iter().map(|bad| records[bad.index].len()).sum();
        let weight = bytes + copies + records.len() * RECORD_OVERHEAD;
        if weight <= credit.bytes() {
            credit.shrink_to(weight);
        } else {
            // Many small records weigh more than their bytes. The credit is returned first: two
            // tasks that each hold some and wait for more would deadlock.
            drop(credit);
            credit = self.budget.reserve(weight).await;
        }
        PageContent::new(records, bad, credit)
    }
}

/// Hands a part of a page to the producer until one of its incarnations has produced or refused it.
async fn deliver(run: Uuid, content: Arc<PageContent>, producer: &MailboxSlot<Page>) -> Result<PageProduced, PageRefused> {
    loop {
        let (receipt, outcome) = Receipt::new();
        if producer.get().post(Page { run, content: Arc::clone(&content), receipt }).is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        tracing::debug!(%run, "part of a page was abandoned; handing it over again");
        tokio::time::sleep(HANDOFF_RETRY_INTERVAL).await;
    }
}
