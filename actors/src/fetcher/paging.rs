//! Whether a fetch goes on to a further page, and why it stops. Pure.
//!
//! Guarantee: every fetch stops, after [`Limits::max_pages`] pages at the latest, and says why; one that stops while the source names a further page,
//! or leads in a circle, is not complete. A circle of any length is found when its first cursor comes again. Memory is bounded: 16 bytes a cursor
//! that was asked with, of [`SEEN_MOST`] at most. Not guaranteed: that a circle is found over a restart of the fetcher before it is gone round once more.

use std::collections::HashSet;

use forebay_schemas::run::{Stop, StopReason};
use uuid::Uuid;

/// The most cursors that are remembered. A fetch cut short by then begins with none when it goes on.
const SEEN_MOST: usize = 100_000;

/// How far a fetch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Pages in one fetch, at most; from 1.
    pub max_pages: u32,
    /// Pages without records that are followed in a row; 0: such a page is the end.
    pub max_empty_pages: u32,
}

impl Limits {
    /// Those of an API that is not read in pages.
    pub(crate) const ONE: Self = Self { max_pages: 1, max_empty_pages: 0 };
}

/// What a page says beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// What the next page is asked with.
    pub next: Next,
    /// Whether it says that there are more, and the name it says it by.
    pub more: Option<(String, bool)>,
    /// Whether a header names a next page, which is not followed.
    pub link: bool,
    /// A hash of its records, where it is read in pages.
    pub digest: u64,
}

/// What a page says of the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Next {
    /// The pipeline file does not say where a next cursor is.
    #[default]
    NotSought,
    /// There is none in the answer.
    Absent,
    /// It is null, false or empty: there is no further page.
    Nothing,
    /// It is this.
    Cursor(String),
}

/// What follows from a page once it is in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The next page is asked for with this.
    On(String),
    /// No further page is asked for. The next fetch goes on with the cursor, if there is one; else where this one ended.
    Stop(Stop, Option<String>),
}

/// The pages of a fetch so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    pages: u32,
    empty: u32,
    seen: HashSet<Uuid>,
    digest: Option<u64>,
}

impl Trail {
    /// Whether no page has come yet.
    pub(crate) fn is_first(&self) -> bool {
        self.pages == 0
    }

    /// The trail of a fetch that goes on where this one was cut short: a circle over both is found.
    pub(crate) fn gone_on(self) -> Self {
        if self.seen.len() >= SEEN_MOST { Self::default() } else { Self { seen: self.seen, ..Self::default() } }
    }

    /// A page of so many records came, asked for with `cursor`; what follows from what it says.
    pub(crate) fn turn(&mut self, limits: Limits, cursor: Option<&str>, records: u64, said: Said) -> Turn {
        self.pages = self.pages.saturating_add(1);
        self.seen.extend(cursor.map(hash));
        let before = self.digest.replace(said.digest);
        self.empty = if records == 0 { self.empty.saturating_add(1) } else { 0 };
        let Next::Cursor(next) = said.next else { return Turn::Stop(no_next(&said), None) };
        let stop = |reason, complete, cursor: &str, detail: String| Stop { reason, complete, cursor: Some(cursor.to_owned()), detail };
        if let Some((name, false)) = said.more {
            let detail = if said.link { format!("`{name}` is false, although a Link header names a next page") } else { String::new() };
            return Turn::Stop(stop(StopReason::HasMoreFalse, true, &next, detail), Some(next));
        }
        if cursor == Some(&*next) {
            let ignored = records > 0 && before == Some(said.digest);
            let detail = if ignored { ignored_cursor(&next) } else { String::new() };
            return Turn::Stop(stop(StopReason::SameCursor, !ignored, &next, detail), None);
        }
        if self.seen.contains(&hash(&next)) {
            let detail = format!(
                "page {} names {next:?} as the next cursor, which an earlier page was asked with: the API leads in a circle; its owner knows where \
                 it is to end, or fetcher.cursor names the wrong field",
                self.pages
            );
            // Where it goes on is left where it is, so that the next fetch asks for one page and sees whether it still is so.
            return Turn::Stop(stop(StopReason::CursorCycle, false, &next, detail), None);
        }
        if self.empty > limits.max_empty_pages {
            let complete = limits.max_empty_pages == 0;
            let detail = if complete {
                String::new()
            } else {
                format!(
                    "{} in a row had no records, and the last of them names a further one; what is after it is not read: the next fetch \
                     goes on there; raise fetcher.cursor.max_empty_pages, or set it to 0 where an empty page is the end",
                    pages(self.empty)
                )
            };
            return Turn::Stop(stop(StopReason::EmptyPage, complete, &next, detail), Some(next));
        }
        if self.pages >= limits.max_pages {
            let detail = format!(
                "{} read, the most that fetcher.max_pages allows, and the last of them names a further one; how many are left is not \
                 known: the next fetch goes on there; raise fetcher.max_pages to read more in one",
                if self.pages == 1 { "1 page was".to_owned() } else { format!("{} were", pages(self.pages)) }
            );
            return Turn::Stop(stop(StopReason::MaxPages, false, &next, detail), Some(next));
        }
        Turn::On(next)
    }
}

/// The end of a fetch whose last page names no next cursor.
fn no_next(said: &Said) -> Stop {
    let (complete, detail) = match (&said.next, said.link, &said.more) {
        (Next::NotSought, true, _) => (
            false,
            "the answer has a Link header with rel=\"next\": there are more pages than the one that was read; set [fetcher] cursor, if the \
             answer itself says how to ask for the next page, or ask for larger pages by fetcher.url"
                .to_owned(),
        ),
        (Next::Absent, true, _) => (
            false,
            "fetcher.cursor.next finds nothing in the last page, and its Link header names a next page (rel=\"next\"), which is not followed: \
             look where the answer has its next cursor"
                .to_owned(),
        ),
        (Next::Absent | Next::Nothing, _, Some((name, true))) => (
            false,
            format!(
                "the last page says by `{name}` that there is more, and fetcher.cursor.next finds no cursor in it: look where the answer has \
                 its next cursor"
            ),
        ),
        (Next::Nothing, true, _) => {
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
        "the page that was asked for with the cursor {cursor:?} is the page before it, record by record: the API seems not to know the parameter \
         that fetcher.cursor.param names, and what is after its first page is not read"
    )
}

fn hash(cursor: &str) -> Uuid {
    Uuid::new_v5(&Uuid::nil(), cursor.as_bytes())
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
