//! Whether a fetch continues with a further page, and why it stops. Pure.
//!
//! Guarantees:
//! * Every fetch stops, after [`PageLimits::max_pages`] pages at the latest, and says why.
//! * A fetch that stops while the API names a further page, or that follows a cycle of cursors, is
//!   not complete.
//! * A cycle of any length is found when its first cursor recurs; where the fetcher counts the
//!   pages, when the records of a page recur.
//! * A short page ends a fetch only after a full one: an API may give smaller pages than it is
//!   asked for.
//! * Memory is bounded: 24 bytes a page, of at most [`MAX_SEEN_CURSORS`].
//!
//! Does not guarantee that a cycle is found across a restart of the fetcher before it has been
//! followed once more.

use std::collections::HashSet;
use std::time::Duration;

use forebay_schemas::pipeline::{FetcherSection, NextFetch, NextPage, TotalOf};
use forebay_schemas::run::{Stop, StopReason};
use forebay_schemas::source_read::Validators;
use uuid::Uuid;

use super::watermark::PageMarks;

/// The most cursors, and the most pages, that are remembered. A fetch that continues one cut short
/// with more than these starts with none.
const MAX_SEEN_CURSORS: usize = 100_000;

/// The bounds and the rules of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageLimits {
    /// The most pages; at least 1.
    pub max_pages: u32,
    /// The most pages without records in a row that are followed. With 0 such a page is the last.
    pub max_empty_pages: u32,
    /// How the fetcher counts the pages; `None` where a page names the next one.
    pub counted: Option<Counted>,
    /// The records on a full page, if the pipeline file says so.
    pub size: Option<u64>,
    /// What the total counts.
    pub total_of: TotalOf,
    /// Whether the fetch after a complete one begins at the first page.
    pub restarts: bool,
    /// The key of `[fetcher]` with these rules, for messages.
    pub key: &'static str,
}

/// Pages that the fetcher counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// By their number.
    Page {
        /// That of the first page.
        start: u64,
        /// The distance between two pages.
        step: u64,
    },
    /// By the records before them.
    Offset {
        /// That of the first page.
        start: u64,
    },
}

impl PageLimits {
    /// For an API that is not read in pages.
    pub(crate) const ONE_PAGE: Self =
        Self { max_pages: 1, max_empty_pages: 0, counted: None, size: None, total_of: TotalOf::Records, restarts: false, key: "paging" };

    /// The rules of a pipeline file, and the cursor of the first page.
    pub(crate) fn of(section: &FetcherSection) -> (Option<String>, Self) {
        let Some(paging) = section.paging() else { return (None, Self::ONE_PAGE) };
        let start = || paging.start.as_ref().and_then(|start| start.parse().ok()).unwrap_or_default();
        let counted = match paging.next {
            NextPage::Page { start, step } => Some(Counted::Page { start, step }),
            NextPage::Offset => Some(Counted::Offset { start: start() }),
            _ => None,
        };
        let limits = Self {
            max_pages: section.max_pages,
            max_empty_pages: paging.max_empty_pages,
            counted,
            size: paging.size,
            total_of: paging.total.as_ref().map(|(_, of)| *of).unwrap_or_default(),
            restarts: paging.next_fetch == NextFetch::Start,
            key: paging.key,
        };
        (paging.start, limits)
    }
}

/// What a page says besides its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageInfo {
    /// The cursor of the next page.
    pub next: NextCursor,
    /// Whether it says that there are more, and the name of the field that says so.
    pub more: Option<(String, bool)>,
    /// The total that it names.
    pub total: Option<u64>,
    /// Whether a `Link` header names a next page that is not followed.
    pub link: bool,
    /// A hash of its records, where the API is read in pages.
    pub digest: u64,
    /// The API's refusal of a page after the last one.
    pub past_end: Option<String>,
    /// How long the next request has to wait, for a rate limit.
    pub wait: Option<Duration>,
    /// The marks of its records, where the source is incremental.
    pub marks: PageMarks,
    /// What it says of itself, where requests are conditional.
    pub validators: Option<Validators>,
    /// Whether the API says that nothing has changed since the last fetch.
    pub is_unchanged: bool,
}

/// What a page says about the next cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum NextCursor {
    /// The pipeline file does not say where the cursor is.
    #[default]
    NotConfigured,
    /// The response does not have the field.
    Absent,
    /// The field is null, false or empty: there is no further page.
    Null,
    /// The cursor.
    Cursor(String),
}

/// What follows from a page once it is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Request the next page with this cursor.
    Continue(String),
    /// Request no further page. The next fetch continues at the cursor if there is one, else where
    /// this one ended.
    Stop(Stop, Option<String>),
}

/// The pages of a fetch so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageHistory {
    pages: u32,
    records: u64,
    empty: u32,
    /// The most records on a page.
    largest: u64,
    /// Whether the first of them was the first page of the read.
    from_start: bool,
    seen: HashSet<Uuid>,
    digest: Option<u64>,
    /// Hashes of the pages with records, where the fetcher counts the pages.
    contents: HashSet<u64>,
}

impl PageHistory {
    /// Whether no page has arrived.
    pub(crate) fn is_first(&self) -> bool {
        self.pages == 0
    }

    /// The history of a fetch that continues where this one was cut short, so that a cycle across
    /// both is found.
    pub(crate) fn continued(self) -> Self {
        if self.seen.len() >= MAX_SEEN_CURSORS { Self::default() } else { Self { seen: self.seen, ..Self::default() } }
    }

    /// A page with this many records arrived for `cursor`. Returns what follows from it.
    pub(crate) fn next_step(&mut self, limits: PageLimits, cursor: Option<&str>, records: u64, info: PageInfo) -> NextStep {
        let was_full = limits.size.is_some_and(|size| self.largest >= size);
        self.pages = self.pages.saturating_add(1);
        self.records = self.records.saturating_add(records);
        self.largest = self.largest.max(records);
        self.seen.extend(cursor.map(hash));
        let before = self.digest.replace(info.digest);
        self.empty = if records == 0 { self.empty.saturating_add(1) } else { 0 };
        let is_short = was_full && limits.size.is_some_and(|size| records < size) && !matches!(info.more, Some((_, true)));
        if let Some(counted) = limits.counted {
            return self.next_counted(limits, counted, cursor, records, is_short, &info);
        }
        let NextCursor::Cursor(next) = info.next else { return NextStep::Stop(no_next(&info, limits.key), None) };
        let stop = |reason, complete, cursor: &str, detail: String| Stop { reason, complete, cursor: Some(cursor.to_owned()), detail };
        if let Some((name, false)) = info.more {
            let detail = if info.link { format!("`{name}` is false, although a Link header names a next page") } else { String::new() };
            return NextStep::Stop(stop(StopReason::HasMoreFalse, true, &next, detail), Some(next));
        }
        if cursor == Some(&*next) {
            let ignored = records > 0 && before == Some(info.digest);
            let detail = if ignored { ignored_cursor(&next, limits.key) } else { String::new() };
            return NextStep::Stop(stop(StopReason::SameCursor, !ignored, &next, detail), None);
        }
        if self.seen.contains(&hash(&next)) {
            let detail = format!(
                "page {} names {next:?} as the next cursor, with which an earlier page was requested: the API's cursors form a cycle; ask its owner where \
                 it should end, or check whether fetcher.{} names the wrong field",
                self.pages, limits.key
            );
            // The cursor stays, so that the next fetch requests one page and sees whether the cycle
            // is still there.
            return NextStep::Stop(stop(StopReason::CursorCycle, false, &next, detail), None);
        }
        if is_short {
            return NextStep::Stop(stop(StopReason::ShortPage, true, &next, String::new()), Some(next));
        }
        if self.empty > limits.max_empty_pages {
            let complete = limits.max_empty_pages == 0;
            let detail = if complete { String::new() } else { empty_pages(self.empty, limits.key) };
            return NextStep::Stop(stop(StopReason::EmptyPage, complete, &next, detail), Some(next));
        }
        if self.pages >= limits.max_pages {
            return NextStep::Stop(stop(StopReason::MaxPages, false, &next, self.max_pages()), Some(next));
        }
        NextStep::Continue(next)
    }

    /// What follows from a page that the fetcher counts.
    fn next_counted(
        &mut self,
        limits: PageLimits,
        counted: Counted,
        cursor: Option<&str>,
        records: u64,
        is_short: bool,
        info: &PageInfo,
    ) -> NextStep {
        let (start, step) = match counted {
            Counted::Page { start, step } => (start, step),
            // A page without records is skipped by its size.
            Counted::Offset { start } => (start, if records > 0 { records } else { limits.size.unwrap_or_default() }),
        };
        let at: u64 = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(start);
        self.from_start |= self.pages == 1 && at == start;
        let Some(next) = at.checked_add(step).filter(|next| *next != at || records == 0).map(|next| next.to_string()) else {
            return NextStep::Stop(Stop { reason: StopReason::NoNext, complete: true, cursor: None, detail: String::new() }, None);
        };
        let stop = |reason, complete, detail: String| {
            NextStep::Stop(Stop { reason, complete, cursor: (!complete).then(|| next.clone()), detail }, (!complete).then(|| next.clone()))
        };
        if let Some(refusal) = &info.past_end {
            return stop(StopReason::EmptyPage, true, format!("{refusal}, which is taken as the end of the pages"));
        }
        if matches!(info.more, Some((_, false))) {
            return stop(StopReason::HasMoreFalse, true, String::new());
        }
        if records > 0 && !self.contents.insert(info.digest) {
            let detail = format!(
                "the page for {at} has the same records as an earlier page: the API seems to ignore the parameter that fetcher.{}.param \
                 names, or its pages form a cycle",
                limits.key
            );
            // The position stays, as after a cycle of cursors.
            return NextStep::Stop(Stop { reason: StopReason::SamePage, complete: false, cursor: Some(next), detail }, None);
        }
        // A total of nothing, on a page with records, is none.
        let total = info.total.filter(|total| *total > 0 || records == 0);
        let left = total.map(|total| total.saturating_sub(self.passed(limits, counted, at, records)));
        if left == Some(0) {
            return stop(StopReason::Total, true, String::new());
        }
        let says_more = matches!(info.more, Some((_, true)));
        if self.empty > limits.max_empty_pages || records == 0 && next == at.to_string() {
            let of = if limits.total_of == TotalOf::Pages { "pages" } else { "records" };
            let detail = match (left, says_more) {
                (Some(left), _) if self.from_start => {
                    format!(
                        "the page for {at} has no records, and by fetcher.{}.total {left} {of} are missing; remove `total` if it is an estimate",
                        limits.key
                    )
                }
                (_, true) => {
                    format!("the page for {at} has no records, but says that there are more: {}", empty_pages(self.empty, limits.key))
                }
                _ => String::new(),
            };
            if !detail.is_empty() {
                return stop(StopReason::EmptyPage, false, detail);
            }
            // The last page with records may get more of them.
            let back = matches!(counted, Counted::Page { .. }).then(|| at.saturating_sub(step).max(start).to_string());
            return NextStep::Stop(Stop { reason: StopReason::EmptyPage, complete: true, cursor: None, detail }, back);
        }
        if is_short && total.is_none() {
            return stop(StopReason::ShortPage, true, String::new());
        }
        if self.pages >= limits.max_pages {
            return stop(StopReason::MaxPages, false, self.max_pages());
        }
        NextStep::Continue(next)
    }

    /// The records, or the pages, of the read up to the end of a page; at least so many, where a
    /// fetch did not begin at the first page.
    fn passed(&self, limits: PageLimits, counted: Counted, at: u64, records: u64) -> u64 {
        match (counted, limits.total_of) {
            (Counted::Page { start, step }, TotalOf::Pages) => (at.saturating_sub(start) / step).saturating_add(1),
            (Counted::Offset { start }, TotalOf::Records) => at.saturating_sub(start).saturating_add(records),
            (Counted::Page { .. }, TotalOf::Records) if self.from_start => self.records,
            (Counted::Page { start, step }, TotalOf::Records) => {
                (at.saturating_sub(start) / step).saturating_mul(self.largest).saturating_add(records)
            }
            (Counted::Offset { .. }, TotalOf::Pages) => u64::from(self.pages),
        }
    }

    fn max_pages(&self) -> String {
        format!(
            "{} read, the limit of fetcher.max_pages, and the last of them names a further one; how many are left is unknown: \
             the next fetch continues there; raise fetcher.max_pages to read more in one fetch",
            if self.pages == 1 { "1 page was".to_owned() } else { format!("{} were", pages(self.pages)) }
        )
    }
}

/// Why a fetch stops whose last page names no next cursor.
fn no_next(info: &PageInfo, key: &str) -> Stop {
    let (complete, detail) = match (&info.next, info.link, &info.more) {
        (NextCursor::NotConfigured, _, Some((sign, true))) => (
            false,
            format!(
                "paging = \"auto\" found one page when the pipeline started, and now {sign}: there are more pages than the one that was read; \
                 start again to find out how, or write [fetcher.paging]"
            ),
        ),
        (NextCursor::NotConfigured, true, _) => (
            false,
            "the response has a Link header with rel=\"next\": there are more pages than the one that was read; set paging = { kind = \"link\" } \
             in [fetcher], or request larger pages in fetcher.url"
                .to_owned(),
        ),
        (NextCursor::Absent, true, _) => (
            false,
            format!(
                "fetcher.{key}.next finds nothing in the last page, and its Link header names a next page (rel=\"next\"), which is not followed: \
                 check where the response has its next cursor, or use kind = \"link\""
            ),
        ),
        (NextCursor::Absent | NextCursor::Null, _, Some((name, true))) => (
            false,
            format!(
                "`{name}` of the last page says that there is more, but fetcher.{key}.next finds no cursor in it: check where the \
                 response has its next cursor"
            ),
        ),
        (NextCursor::Null, true, _) => {
            (true, "the last page has no next cursor, although its Link header names a next page (rel=\"next\")".to_owned())
        }
        _ => (true, String::new()),
    };
    Stop { reason: StopReason::NoNext, complete, cursor: None, detail }
}

fn pages(count: u32) -> String {
    format!("{count} page{}", if count == 1 { "" } else { "s" })
}

fn empty_pages(count: u32, key: &str) -> String {
    format!(
        "{} in a row had no records, and the last of them names a further one, which was not read: the next fetch \
         continues there; raise fetcher.{key}.max_empty_pages, or set it to 0 where an empty page is the last",
        pages(count)
    )
}

fn ignored_cursor(cursor: &str, key: &str) -> String {
    format!(
        "the page for cursor {cursor:?} has the same records as the page before it: the API seems to ignore the parameter \
         that fetcher.{key}.param names, and nothing after its first page was read"
    )
}

fn hash(cursor: &str) -> Uuid {
    Uuid::new_v5(&Uuid::nil(), cursor.as_bytes())
}

#[cfg(test)]
#[path = "pagination_tests.rs"]
mod tests;
