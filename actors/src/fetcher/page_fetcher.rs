//! The two tasks of the fetcher: fetch a page from the API, and deliver it to the producer.
//!
//! Guarantees:
//! * A fetched page holds budget for exactly what it weighs.
//! * A response whose records arrive one per line or row is delivered in parts, each within the
//!   budget, while it arrives. All of them are one page to the fetcher: its last part is returned
//!   when the others are in Kafka.
//! * A page is delivered until one incarnation of the producer has either produced or refused all
//!   of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use uuid::Uuid;

use super::client::{ApiResponse, Client};
use super::error::FetchError;
use super::page::{self, PagePaths};
use super::pagination::PageInfo;
use super::records::Extracted;
use crate::failpoint::point_async;
use crate::ledger::Ledger;
use crate::message::{BadRecord, Page, PageProduced, PageRefused, RECORD_OVERHEAD, Receipt};
use forebay_kernel::{Budget, Credit, Lease, MailboxSlot, SharedClock};

/// The delay before a page is handed to a producer that is being restarted.
const HANDOFF_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Responses of at least this size are parsed on a thread that may block.
const LARGE_BODY_BYTES: usize = 256 << 10;

/// What fetching a page takes.
#[derive(Clone)]
pub(super) struct PageFetcher {
    pub(super) client: Client,
    pub(super) paths: PagePaths,
    /// The first page, where the fetcher counts the pages.
    pub(super) counted_from: Option<String>,
    pub(super) max_page_bytes: usize,
    pub(super) budget: Budget,
    /// Receives the parts of a page before the last.
    pub(super) producer: MailboxSlot<Lease<Page>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) clock: SharedClock,
}

/// The records of a page.
#[derive(Clone, Default)]
pub(super) struct PageRecords {
    pub(super) records: Vec<Bytes>,
    /// Those that are not JSON.
    pub(super) bad: Vec<BadRecord>,
}

/// A page, and the budget it holds.
pub(super) struct FetchedPage {
    pub(super) page: PageRecords,
    /// The parts of the page that are in Kafka already.
    pub(super) earlier: PageProduced,
    pub(super) info: PageInfo,
    /// From the request until the records were extracted.
    pub(super) took: Duration,
    pub(super) credit: Credit,
}

impl PageFetcher {
    /// Waits until the cursor of the next request is durable. Without paging there is nothing to
    /// wait for.
    pub(super) async fn wait_durable(&self) -> Result<(), FetchError> {
        match self.paths.is_paged {
            true => self.ledger.flushed().await.map_err(|error| FetchError::Journal(error.to_string())),
            false => Ok(()),
        }
    }

    /// Requests a page and extracts its records. `credit` covers the largest page, and shrinks to
    /// what this one weighs.
    pub(super) async fn fetch(
        &self,
        run: Uuid,
        mut credit: Credit,
        params: &BTreeMap<String, String>,
        cursor: Option<&str>,
        is_first: bool,
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
                return Ok(FetchedPage { page: PageRecords::default(), earlier: PageProduced::default(), info, took, credit });
            }
            response => response?,
        };
        let wait = response.wait;
        let mut page = match self.client.next_part(&mut response).await {
            Some(part) => self.parts(run, response, part?, credit).await?,
            None => self.whole(response, is_first, credit).await?,
        };
        page.info.wait = wait;
        page.took = self.clock.now().saturating_duration_since(started);
        Ok(page)
    }

    /// Reads a response that has arrived.
    async fn whole(&self, response: ApiResponse, is_first: bool, credit: Credit) -> Result<FetchedPage, FetchError> {
        let bytes = response.body.len();
        let (body, paths, max) = (response.body.clone(), self.paths.clone(), self.max_page_bytes);
        let read = move || page::read(&body, &paths, is_first, max);
        let read = if bytes < LARGE_BODY_BYTES {
            read()
        } else {
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
        };
        let (extracted, info) = self.client.page(&response, read)?;
        drop(response);
        let (page, credit) = self.weighed(extracted, bytes, credit).await;
        Ok(FetchedPage { page, earlier: PageProduced::default(), info, took: Duration::ZERO, credit })
    }

    /// Delivers the parts of a response, except the last.
    async fn parts(
        &self,
        run: Uuid,
        mut response: ApiResponse,
        first: (Extracted, bool),
        mut credit: Credit,
    ) -> Result<FetchedPage, FetchError> {
        let mut info = self.client.page_of_rows(&response, &self.paths)?;
        let mut earlier = PageProduced::default();
        let (mut part, mut is_last) = first;
        loop {
            let bytes = part.records.iter().map(Bytes::len).sum();
            info.digest = info.digest.rotate_left(1) ^ page::digest(&part.records);
            let (page, held) = self.weighed(part, bytes, credit).await;
            if is_last {
                return Ok(FetchedPage { page, earlier, info, took: Duration::ZERO, credit: held });
            }
            let produced = deliver(run, page, held, self.producer.clone(), self.budget.clone()).await;
            earlier.merge(&produced.map_err(|refused| FetchError::Refused(refused.0))?);
            credit = self.budget.reserve(self.max_page_bytes).await;
            let next = self.client.next_part(&mut response).await.expect("a response whose records arrive in parts has a last part");
            (part, is_last) = next?;
        }
    }

    /// The records of a page that has `bytes` in memory, with the budget for them.
    async fn weighed(&self, extracted: Extracted, bytes: usize, mut credit: Credit) -> (PageRecords, Credit) {
        let Extracted { records, bad, body, .. } = extracted;
        drop(body);
        // The records of columns are no slices of the body, and may be longer.
        let bytes = bytes.max(records.iter().map(Bytes::len).sum());
        let page = PageRecords { records, bad };
        // The records are slices of the body, so all of it stays in memory. Bad records are copies
        // of a part of it.
        let copies: usize = page.bad.iter().map(|bad| page.records[bad.index].len()).sum();
        let weight = bytes + copies + page.records.len() * RECORD_OVERHEAD;
        if weight <= credit.bytes() {
            credit.shrink_to(weight);
        } else {
            // Many small records weigh more than their bytes. The credit is returned first: two
            // tasks that each hold some and wait for more would deadlock.
            drop(credit);
            credit = self.budget.reserve(weight).await;
        }
        (page, credit)
    }
}

/// Hands a page to the producer until one of its incarnations has produced or refused it.
pub(super) async fn deliver(
    run: Uuid,
    page: PageRecords,
    credit: Credit,
    producer: MailboxSlot<Lease<Page>>,
    budget: Budget,
) -> Result<PageProduced, PageRefused> {
    let weight = credit.bytes();
    let mut credit = Some(credit);
    loop {
        let held = match credit.take() {
            Some(credit) => credit,
            None => budget.reserve(weight).await,
        };
        let (receipt, outcome) = Receipt::new();
        let PageRecords { records, bad } = page.clone();
        let lease = Lease::new(Page { run, records, bad, receipt }, held);
        if producer.get().post(lease).is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        tracing::debug!(%run, "page was abandoned; handing it over again");
        tokio::time::sleep(HANDOFF_RETRY_INTERVAL).await;
    }
}
