//! Whether a fetch continues with a further page, and why it stops. Pure.
//!
//! Guarantees:
//! * Every fetch stops, after [`PageLimits::max_pages`] pages at the latest, and says why.
//! * A fetch that stops while the API names a further page, or that follows a cycle of cursors, is
//!   not complete.
//! * A cycle of any length is found when its first cursor recurs.
//! * Memory is bounded: 16 bytes a cursor, of at most [`MAX_SEEN_CURSORS`].
//!
//! Does not guarantee that a cycle is found across a restart of the fetcher before it has been
//! followed once more.

use std::collections::HashSet;

use forebay_schemas::run::{Stop, StopReason};
use uuid::Uuid;

/// The most cursors that are remembered. A fetch that continues one cut short with more than these
/// starts with none.
const MAX_SEEN_CURSORS: usize = 100_000;

/// The bounds of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageLimits {
    /// The most pages; at least 1.
    pub max_pages: u32,
    /// The most pages without records in a row that are followed. With 0 such a page is the last.
    pub max_empty_pages: u32,
}

impl PageLimits {
    /// For an API that is not read in pages.
    pub(crate) const ONE_PAGE: Self = Self { max_pages: 1, max_empty_pages: 0 };
}

/// What a page says besides its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageInfo {
    /// The cursor of the next page.
    pub next: NextCursor,
    /// Whether it says that there are more, and the name of the field that says so.
    pub more: Option<(String, bool)>,
    /// Whether a `Link` header names a next page. It is not followed.
    pub link: bool,
    /// A hash of its records, where the API is read in pages.
    pub digest: u64,
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
    empty: u32,
    seen: HashSet<Uuid>,
    digest: Option<u64>,
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
        self.pages = self.pages.saturating_add(1);
        self.seen.extend(cursor.map(hash));
        let before = self.digest.replace(info.digest);
        self.empty = if records == 0 { self.empty.saturating_add(1) } else { 0 };
        let NextCursor::Cursor(next) = info.next else { return NextStep::Stop(no_next(&info), None) };
        let stop = |reason, complete, cursor: &str, detail: String| Stop { reason, complete, cursor: Some(cursor.to_owned()), detail };
        if let Some((name, false)) = info.more {
            let detail = if info.link { format!("`{name}` is false, although a Link header names a next page") } else { String::new() };
            return NextStep::Stop(stop(StopReason::HasMoreFalse, true, &next, detail), Some(next));
        }
        if cursor == Some(&*next) {
            let ignored = records > 0 && before == Some(info.digest);
            let detail = if ignored { ignored_cursor(&next) } else { String::new() };
            return NextStep::Stop(stop(StopReason::SameCursor, !ignored, &next, detail), None);
        }
        if self.seen.contains(&hash(&next)) {
            let detail = format!(
                "page {} names {next:?} as the next cursor, with which an earlier page was requested: the API's cursors form a cycle; ask its owner where \
                 it should end, or check whether fetcher.cursor names the wrong field",
                self.pages
            );
            // The cursor stays, so that the next fetch requests one page and sees whether the cycle
            // is still there.
            return NextStep::Stop(stop(StopReason::CursorCycle, false, &next, detail), None);
        }
        if self.empty > limits.max_empty_pages {
            let complete = limits.max_empty_pages == 0;
            let detail = if complete {
                String::new()
            } else {
                format!(
                    "{} in a row had no records, and the last of them names a further one, which was not read: the next fetch \
                     continues there; raise fetcher.cursor.max_empty_pages, or set it to 0 where an empty page is the last",
                    pages(self.empty)
                )
            };
            return NextStep::Stop(stop(StopReason::EmptyPage, complete, &next, detail), Some(next));
        }
        if self.pages >= limits.max_pages {
            let detail = format!(
                "{} read, the limit of fetcher.max_pages, and the last of them names a further one; how many are left is unknown: \
                 the next fetch continues there; raise fetcher.max_pages to read more in one fetch",
                if self.pages == 1 { "1 page was".to_owned() } else { format!("{} were", pages(self.pages)) }
            );
            return NextStep::Stop(stop(StopReason::MaxPages, false, &next, detail), Some(next));
        }
        NextStep::Continue(next)
    }
}

/// Why a fetch stops whose last page names no next cursor.
fn no_next(info: &PageInfo) -> Stop {
    let (complete, detail) = match (&info.next, info.link, &info.more) {
        (NextCursor::NotConfigured, true, _) => (
            false,
            "the response has a Link header with rel=\"next\": there are more pages than the one that was read; set [fetcher] cursor, \
             if the body says how to request the next page, or request larger pages in fetcher.url"
                .to_owned(),
        ),
        (NextCursor::Absent, true, _) => (
            false,
            "fetcher.cursor.next finds nothing in the last page, and its Link header names a next page (rel=\"next\"), which is not followed: \
             check where the response has its next cursor"
                .to_owned(),
        ),
        (NextCursor::Absent | NextCursor::Null, _, Some((name, true))) => (
            false,
            format!(
                "`{name}` of the last page says that there is more, but fetcher.cursor.next finds no cursor in it: check where the \
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

fn ignored_cursor(cursor: &str) -> String {
    format!(
        "the page for cursor {cursor:?} has the same records as the page before it: the API seems to ignore the parameter \
         that fetcher.cursor.param names, and nothing after its first page was read"
    )
}

fn hash(cursor: &str) -> Uuid {
    Uuid::new_v5(&Uuid::nil(), cursor.as_bytes())
}

#[cfg(test)]
#[path = "pagination_tests.rs"]
mod tests;
