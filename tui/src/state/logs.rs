//! Log lines from the API: filter, level and gaps. Pure.
//!
//! Guarantees:
//! * At most [`MAX_LINES`] lines are stored; the oldest are dropped first.
//! * Each line is stored once.
//! * The lines of a restarted process follow those of the previous one.
//!
//! Does not guarantee that all lines are present. The line after a gap says how many are missing.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use serde_json::Value;

use super::RowId;
use super::prompt::matches_filter;

/// The maximum number of stored lines, the same as in the process.
const MAX_LINES: usize = 2_000;

/// What precedes a line other than the previous line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    /// This many lost lines.
    Lost(u64),
    /// The lines of another process.
    OtherProcess,
}

/// A stored line.
#[derive(Debug, Clone)]
pub(crate) struct StoredLine {
    /// When its process started to count lines.
    pub(crate) since: DateTime<Utc>,
    pub(crate) line: LogLine,
    pub(crate) before: Option<Gap>,
}

impl StoredLine {
    pub(crate) fn id(&self) -> RowId {
        RowId::Log(self.since, self.line.seq)
    }

    /// The detail view of the actor or run that the line is about.
    pub(crate) fn linked_detail(&self) -> Option<RowId> {
        let field = |name: &str| self.line.fields.get(name).and_then(Value::as_str);
        let run = || field("run")?.parse().ok().map(RowId::Run);
        field("actor").map(|path| RowId::Actor(path.to_owned())).or_else(run)
    }
}

/// The fields of a line as text: `error=… actor=…`.
pub(crate) fn fields(line: &LogLine) -> String {
    let field = |(name, value): (&String, &Value)| format!("{name}={}", plain(value));
    line.fields.iter().map(field).collect::<Vec<_>>().join("  ")
}

/// A value as text; strings without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The stored lines, and which of them are visible.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    lines: VecDeque<StoredLine>,
    /// The number of dropped lines. A line's index counts them, so it never changes.
    dropped: u64,
    /// The indexes of the lines that match filter and level.
    visible: VecDeque<u64>,
    filter: String,
    level: LogLevel,
    /// The process of the last response, and the last line that it covered.
    read: Option<(DateTime<Utc>, u64)>,
    /// Why the last request failed.
    pub(crate) error: Option<String>,
    /// Whether a request is due, and whether one is pending.
    due: bool,
    requested: bool,
}

impl Default for LogBuffer {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            dropped: 0,
            visible: VecDeque::new(),
            filter: String::new(),
            level: LogLevel::Info,
            read: None,
            error: None,
            due: false,
            requested: false,
        }
    }
}

impl LogBuffer {
    /// Makes a request due, because a snapshot arrived.
    pub(super) fn snapshot_received(&mut self) {
        self.due = true;
    }

    /// The line after which to request, if a request is due.
    pub(super) fn next_request(&mut self) -> Option<u64> {
        let ask = self.due && !self.requested;
        if ask {
            (self.due, self.requested) = (false, true);
        }
        ask.then(|| self.read.map_or(0, |(_, upto)| upto))
    }

    /// Handles the response to a request.
    pub(super) fn response_received(&mut self, logs: Result<Logs, String>) {
        self.requested = false;
        match logs {
            Ok(logs) => self.take(logs),
            Err(why) => self.error = Some(why),
        }
    }

    fn take(&mut self, logs: Logs) {
        self.error = None;
        let before = self.read.filter(|(since, _)| *since == logs.since);
        let begins = logs.lines.first().is_some_and(|first| first.seq == logs.lost + 1);
        if before.is_none() && self.read.is_some() && !begins {
            // Another process answered a request that continued the lines of the previous one.
            // Start at its first line.
            (self.read, self.due) = (Some((logs.since, 0)), true);
            return;
        }
        let seen = before.map_or(0, |(_, upto)| upto);
        let other = self.lines.back().is_some_and(|last| last.since != logs.since);
        let mut gap = match logs.lost {
            0 => other.then_some(Gap::OtherProcess),
            lost => Some(Gap::Lost(lost)),
        };
        for line in logs.lines.into_iter().filter(|line| line.seq > seen) {
            self.push(StoredLine { since: logs.since, line, before: gap.take() });
        }
        self.read = Some((logs.since, logs.upto.max(seen)));
    }

    fn push(&mut self, stored: StoredLine) {
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.dropped += 1;
            if self.visible.front().is_some_and(|&index| index < self.dropped) {
                self.visible.pop_front();
            }
        }
        if self.passes(&stored.line) {
            self.visible.push_back(self.dropped + self.lines.len() as u64);
        }
        self.lines.push_back(stored);
    }

    fn passes(&self, line: &LogLine) -> bool {
        let text = || format!("{} {} {} {}", line.level.as_str(), line.target, line.message, fields(line));
        line.level >= self.level && (self.filter.is_empty() || matches_filter(&text(), &self.filter))
    }

    fn refilter(&mut self) {
        let indexed = (self.dropped..).zip(&self.lines);
        self.visible = indexed.filter(|(_, stored)| self.passes(&stored.line)).map(|(index, _)| index).collect();
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        if self.filter != filter {
            self.filter = filter;
            self.refilter();
        }
    }

    /// Raises the minimum level; from the highest back to the lowest.
    pub(super) fn cycle_level(&mut self) {
        let next = LogLevel::ALL.into_iter().find(|level| *level > self.level);
        self.level = next.unwrap_or(LogLevel::Info);
        self.refilter();
    }

    pub(crate) fn level(&self) -> LogLevel {
        self.level
    }

    fn at(&self, index: u64) -> Option<&StoredLine> {
        self.lines.get(usize::try_from(index.checked_sub(self.dropped)?).ok()?)
    }

    /// The number of visible lines up to `until`.
    pub(crate) fn rows(&self, until: Option<DateTime<Utc>>) -> usize {
        let Some(until) = until else { return self.visible.len() };
        self.visible.partition_point(|&index| self.at(index).is_some_and(|stored| stored.line.timestamp <= until))
    }

    /// The visible line in a row; the newest is in the last row.
    pub(crate) fn row(&self, row: usize) -> Option<&StoredLine> {
        self.at(*self.visible.get(row)?)
    }

    /// The row of a line, or of the last visible one before it.
    pub(super) fn row_of(&self, since: DateTime<Utc>, seq: u64) -> Option<usize> {
        let index = self.dropped + self.lines.iter().position(|stored| stored.is(since, seq))? as u64;
        self.visible.partition_point(|&visible| visible <= index).checked_sub(1)
    }

    pub(crate) fn find(&self, since: DateTime<Utc>, seq: u64) -> Option<&StoredLine> {
        self.lines.iter().rev().find(|stored| stored.is(since, seq))
    }

    /// Whether no lines are stored, regardless of filter and level.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl StoredLine {
    fn is(&self, since: DateTime<Utc>, seq: u64) -> bool {
        self.line.seq == seq && self.since == since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{log_line, logs};

    fn since(n: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(n)
    }

    fn answer(of: i64, seqs: std::ops::RangeInclusive<u64>, lost: u64) -> Result<Logs, String> {
        let upto = *seqs.end();
        Ok(Logs { lines: seqs.map(|seq| log_line(seq, "message")).collect(), upto, lost, since: since(of) })
    }

    fn rows(book: &LogBuffer) -> Vec<(u64, Option<Gap>)> {
        (0..book.rows(None)).map(|row| book.row(row).unwrap()).map(|stored| (stored.line.seq, stored.before)).collect()
    }

    /// The request that the next snapshot makes due.
    fn requests(book: &mut LogBuffer) -> Option<u64> {
        book.snapshot_received();
        book.next_request()
    }

    #[test]
    fn lines_are_requested_once_per_snapshot_after_the_last_line() {
        let mut book = LogBuffer::default();
        assert_eq!((book.next_request(), requests(&mut book), requests(&mut book)), (None, Some(0), None), "not before the response");
        book.response_received(answer(1, 1..=3, 0));
        assert_eq!(requests(&mut book), Some(3));
        book.response_received(Err("away".to_owned()));
        assert_eq!(book.error.as_deref(), Some("away"));
        assert_eq!(requests(&mut book), Some(3));
        book.response_received(answer(1, 2..=4, 0));
        assert_eq!(rows(&book).iter().map(|row| row.0).collect::<Vec<_>>(), [1, 2, 3, 4], "each once");
        assert_eq!(book.error, None);
    }

    #[test]
    fn the_line_after_a_gap_says_how_many_are_lost() {
        let mut book = LogBuffer::default();
        book.response_received(answer(1, 1..=2, 0));
        book.response_received(answer(1, 10..=11, 7));
        assert_eq!(rows(&book), [(1, None), (2, None), (10, Some(Gap::Lost(7))), (11, None)]);
    }

    #[test]
    fn the_lines_of_a_new_process_follow_from_its_first_line() {
        let mut book = LogBuffer::default();
        book.response_received(answer(1, 1..=5, 0));
        let _ = requests(&mut book);
        book.response_received(answer(2, 6..=7, 0));
        assert_eq!((rows(&book).len(), book.next_request()), (5, Some(0)), "all lines are requested at once");
        book.response_received(answer(2, 1..=7, 0));
        assert_eq!((rows(&book).len(), rows(&book)[5]), (12, (1, Some(Gap::OtherProcess))));
        assert_eq!(book.row_of(since(1), 1), Some(0));
        assert_eq!(book.row_of(since(2), 1), Some(5));
    }

    #[test]
    fn level_and_filter_also_apply_to_new_lines() {
        let mut book = LogBuffer::default();
        book.response_received(Ok(logs()));
        let all = book.rows(None);
        book.cycle_level();
        assert!((0..book.rows(None)).all(|row| book.row(row).unwrap().line.level >= LogLevel::Warn));
        book.cycle_level();
        assert_eq!((book.level(), book.rows(None)), (LogLevel::Error, 1));
        book.cycle_level();
        assert_eq!(book.rows(None), all);
        book.set_filter("writer !restart".to_owned());
        let before = book.rows(None);
        assert!(before > 0 && before < all);
        let upto = logs().upto;
        let come = vec![log_line(upto + 1, "the writer waits"), log_line(upto + 2, "something else")];
        book.response_received(Ok(Logs { lines: come, upto: upto + 2, ..logs() }));
        assert_eq!(book.rows(None), before + 1);
    }

    #[test]
    fn lines_after_the_shown_moment_are_hidden() {
        let mut book = LogBuffer::default();
        book.response_received(Ok(logs()));
        let moment = book.row(2).unwrap().line.timestamp;
        assert_eq!(book.rows(Some(moment)), 3);
        assert_eq!(book.rows(Some(moment - chrono::TimeDelta::microseconds(1))), 2);
    }

    #[test]
    fn stored_lines_are_bounded_and_keep_their_rows() {
        let mut book = LogBuffer::default();
        book.set_filter("message".to_owned());
        for n in 0..10 {
            book.response_received(answer(1, n * 300 + 1..=n * 300 + 300, 0));
        }
        assert_eq!((book.lines.len(), book.visible.len()), (MAX_LINES, MAX_LINES));
        assert_eq!((rows(&book)[0].0, book.row_of(since(1), 3_000), book.row_of(since(1), 1)), (1_001, Some(MAX_LINES - 1), None));
        assert_eq!(book.find(since(1), 1_001).unwrap().line.seq, 1_001);
    }
}
