//! The last lines of the log, for the API.
//!
//! Guarantees:
//! * The ring holds at most [`MAX_LINES`] lines, [`MAX_TOTAL_BYTES`] in total and
//!   [`MAX_LINE_BYTES`] each, as JSON. The oldest are dropped first.
//! * Lines are numbered from 1 in the order in which they arrive, without gaps. A reader that
//!   continues gets the number of lines dropped in between.
//! * Adding a line takes a short lock and waits for no reader.
//!
//! Does not guarantee that a lower number has an earlier time: two threads may log at once.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use forebay_kernel::Clock as _;
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use serde_json::Value;
use tokio::sync::watch;

use crate::ProcessClock;

/// Lines in the ring.
const MAX_LINES: usize = 2_000;
/// Bytes of all lines in the ring.
const MAX_TOTAL_BYTES: usize = 1 << 20;
/// Bytes of one line. In a longer line the longest strings are truncated.
const MAX_LINE_BYTES: usize = 4 << 10;
/// The end of a truncated string.
const ELLIPSIS: &str = "…";

static GLOBAL: LazyLock<LogRing> = LazyLock::new(|| LogRing::new(ProcessClock.wall().into()));

/// The last lines of a log.
#[derive(Debug)]
pub struct LogRing {
    since: DateTime<Utc>,
    kept: Mutex<Kept>,
    /// The number of the newest line.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each line with its bytes, in sequence and without gaps.
    lines: VecDeque<(usize, LogLine)>,
    bytes: usize,
    last: u64,
}

impl LogRing {
    /// The ring of this process.
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// An empty ring that starts at `since`.
    pub fn new(since: DateTime<Utc>) -> Self {
        Self { since, kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Adds a line under the next number; its own number is ignored.
    pub fn push(&self, line: LogLine) {
        let (bytes, line) = truncate(line);
        let mut kept = self.kept.lock();
        kept.last += 1;
        let seq = kept.last;
        kept.bytes += bytes;
        kept.lines.push_back((bytes, LogLine { seq, ..line }));
        while kept.lines.len() > MAX_LINES || kept.bytes > MAX_TOTAL_BYTES {
            let Some((bytes, _)) = kept.lines.pop_front() else { break };
            kept.bytes -= bytes;
        }
        drop(kept);
        self.newest.send_replace(seq);
    }

    /// Reads lines of level `min_level` or above, oldest first: the first `limit` after number
    /// `after`, or the last `limit` without it.
    pub fn read(&self, after: Option<u64>, min_level: LogLevel, limit: usize) -> Logs {
        let kept = self.kept.lock();
        let wanted = kept.lines.iter().map(|(_, line)| line).filter(|line| line.level >= min_level);
        let first = kept.last + 1 - kept.lines.len() as u64;
        let (lines, lost): (Vec<LogLine>, u64) = match after {
            Some(after) => {
                (wanted.filter(|line| line.seq > after).take(limit).cloned().collect(), first.saturating_sub(after.saturating_add(1)))
            }
            None => {
                let mut last: Vec<LogLine> = wanted.rev().take(limit).cloned().collect();
                last.reverse();
                (last, 0)
            }
        };
        // A full page may not be the last one: the reader continues after its last line.
        let upto = lines.last().filter(|_| after.is_some() && lines.len() == limit).map_or(kept.last, |line| line.seq);
        Logs { lines, upto, lost, since: self.since }
    }

    /// The number of the newest line, which changes with each line.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

/// Truncates a line to [`MAX_LINE_BYTES`] and returns its bytes.
fn truncate(mut line: LogLine) -> (usize, LogLine) {
    // The longest number that it may get.
    line.seq = u64::MAX;
    loop {
        let bytes = serde_json::to_vec(&line).map_or(0, |json| json.len());
        let Some(over) = bytes.checked_sub(MAX_LINE_BYTES).filter(|over| *over > 0) else { return (bytes, line) };
        line.cut = true;
        let texts = line.fields.values_mut().filter_map(|value| if let Value::String(text) = value { Some(text) } else { None });
        let longest = texts.fold(&mut line.message, |longest, text| if text.len() > longest.len() { text } else { longest });
        if longest.len() <= ELLIPSIS.len() {
            return (bytes, line);
        }
        // A character takes at least as many bytes in JSON as in the string; `cut` takes some
        // itself.
        let room = longest.len().saturating_sub(over + ELLIPSIS.len() + 16);
        longest.truncate(longest.floor_char_boundary(room));
        longest.push_str(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn line(level: LogLevel, message: &str) -> LogLine {
        LogLine {
            seq: 0,
            timestamp: DateTime::UNIX_EPOCH,
            level,
            target: "forebay_actors::writer".to_owned(),
            message: message.to_owned(),
            pipeline: Some("users".to_owned()),
            repeated: 0,
            cut: false,
            fields: Map::new(),
        }
    }

    fn ring(lines: usize) -> LogRing {
        let ring = LogRing::new(DateTime::UNIX_EPOCH);
        (1..=lines).for_each(|n| ring.push(line(if n % 10 == 0 { LogLevel::Warn } else { LogLevel::Info }, &format!("line {n}"))));
        ring
    }

    fn seqs(logs: &Logs) -> Vec<u64> {
        logs.lines.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn a_reader_that_continues_gets_each_line_once() {
        let ring = ring(25);
        let last = ring.read(None, LogLevel::Info, 3);
        assert_eq!((seqs(&last), last.upto, last.lost), (vec![23, 24, 25], 25, 0));
        let mut all = Vec::new();
        let mut after = 0;
        while after < 25 {
            let more = ring.read(Some(after), LogLevel::Info, 10);
            all.extend(seqs(&more));
            after = more.upto;
        }
        assert_eq!(all, (1..=25).collect::<Vec<_>>());
        assert_eq!(ring.read(Some(25), LogLevel::Info, 10).lines, []);
    }

    #[test]
    fn a_reader_of_one_level_continues_after_the_lines_of_other_levels() {
        let ring = ring(25);
        let warnings = ring.read(Some(0), LogLevel::Warn, 10);
        assert_eq!((seqs(&warnings), warnings.upto), (vec![10, 20], 25));
        let first = ring.read(Some(0), LogLevel::Warn, 1);
        assert_eq!((seqs(&first), first.upto), (vec![10], 10));
        assert_eq!(seqs(&ring.read(None, LogLevel::Warn, 1)), [20]);
        assert_eq!(ring.read(None, LogLevel::Error, 1).upto, 25);
    }

    #[test]
    fn the_oldest_lines_are_dropped_and_a_reader_gets_their_number() {
        let ring = ring(MAX_LINES + 50);
        let more = ring.read(Some(10), LogLevel::Info, 1);
        assert_eq!((seqs(&more), more.lost), (vec![51], 40));
        assert_eq!(ring.read(Some(50), LogLevel::Info, 1).lost, 0);
        assert_eq!(ring.read(None, LogLevel::Info, usize::MAX).lines.len(), MAX_LINES);
        let other = ring.read(Some(1 << 40), LogLevel::Info, 10);
        assert_eq!((other.lines.len(), other.upto, other.lost), (0, MAX_LINES as u64 + 50, 0), "a number of another process");
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_and_so_is_each_line() {
        let ring = LogRing::new(DateTime::UNIX_EPOCH);
        for n in 0..1_000 {
            let mut long = line(LogLevel::Error, &"é\n\"".repeat(n % 300));
            long.fields.insert("error".to_owned(), "ü".repeat(n * 7).into());
            long.fields.insert("partition".to_owned(), json!(3));
            ring.push(long);
        }
        let kept = ring.read(None, LogLevel::Info, usize::MAX);
        let bytes: Vec<usize> = kept.lines.iter().map(|line| serde_json::to_vec(line).unwrap().len()).collect();
        assert!(bytes.iter().sum::<usize>() <= MAX_TOTAL_BYTES && bytes.len() < 1_000);
        assert!(bytes.iter().all(|&bytes| bytes <= MAX_LINE_BYTES), "{bytes:?}");
        let last = kept.lines.last().unwrap();
        assert!(last.cut && last.fields["error"].as_str().unwrap().ends_with('…') && last.fields["partition"] == 3, "{last:?}");
        assert!(!last.message.ends_with('…'), "the longest string is truncated first");
    }

    #[test]
    fn a_watcher_sees_a_new_line() {
        let ring = ring(0);
        let mut newest = ring.watch();
        assert!(!newest.has_changed().unwrap());
        ring.push(line(LogLevel::Info, "x"));
        assert_eq!(*newest.borrow_and_update(), 1);
    }
}
