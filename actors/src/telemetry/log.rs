//! The last lines of the log, for those who ask later.
//!
//! Guarantee: at most [`LINES_MOST`] lines are kept, of [`BYTES_MOST`] bytes together and [`LINE_MOST`] each, as JSON; the oldest go first. They are
//! numbered from 1 in the order in which they came, none is left out, and whoever reads on is told how many have gone meanwhile. To keep a line
//! takes a short lock and waits for nobody. Not guaranteed: that an earlier number has an earlier time; two threads may come at once.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use serde_json::Value;
use tokio::sync::watch;

/// The most lines that are kept.
const LINES_MOST: usize = 2_000;
/// The most bytes of them together.
const BYTES_MOST: usize = 1 << 20;
/// The most bytes of one; of a longer one the longest texts are cut.
const LINE_MOST: usize = 4 << 10;
/// What stands where a text is cut.
const CUT: &str = "…";

static OF_PROCESS: LazyLock<LogRing> = LazyLock::new(|| LogRing::new(Utc::now()));

/// The last lines of a log.
#[derive(Debug)]
pub struct LogRing {
    since: DateTime<Utc>,
    kept: Mutex<Kept>,
    /// The newest line's number.
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Each with its bytes, in sequence and without a gap.
    lines: VecDeque<(usize, LogLine)>,
    bytes: usize,
    last: u64,
}

impl LogRing {
    /// The ring of this process: a process has one log, whatever runs in it.
    pub fn of_process() -> &'static Self {
        &OF_PROCESS
    }

    /// A ring without lines, which counts from a moment on.
    pub fn new(since: DateTime<Utc>) -> Self {
        Self { since, kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Keeps a line. It gets the next number, whatever its own is.
    pub fn keep(&self, line: LogLine) {
        let (bytes, line) = fitting(line);
        let mut kept = self.kept.lock();
        kept.last += 1;
        let seq = kept.last;
        kept.bytes += bytes;
        kept.lines.push_back((bytes, LogLine { seq, ..line }));
        while kept.lines.len() > LINES_MOST || kept.bytes > BYTES_MOST {
            let Some((bytes, _)) = kept.lines.pop_front() else { break };
            kept.bytes -= bytes;
        }
        drop(kept);
        self.newest.send_replace(seq);
    }

    /// The first `most` lines after one, or the last `most` where none is named, of `least` or graver ones, oldest first.
    pub fn read(&self, after: Option<u64>, least: LogLevel, most: usize) -> Logs {
        let kept = self.kept.lock();
        let wanted = kept.lines.iter().map(|(_, line)| line).filter(|line| line.level >= least);
        let first = kept.last + 1 - kept.lines.len() as u64;
        let (lines, lost): (Vec<LogLine>, u64) = match after {
            Some(after) => {
                (wanted.filter(|line| line.seq > after).take(most).cloned().collect(), first.saturating_sub(after.saturating_add(1)))
            }
            None => {
                let mut last: Vec<LogLine> = wanted.rev().take(most).cloned().collect();
                last.reverse();
                (last, 0)
            }
        };
        // Where there may be more of them, it is told up to the last of these only.
        let upto = lines.last().filter(|_| after.is_some() && lines.len() == most).map_or(kept.last, |line| line.seq);
        Logs { lines, upto, lost, since: self.since }
    }

    /// Changes with each line that is kept.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

/// A line cut to [`LINE_MOST`], with its bytes.
fn fitting(mut line: LogLine) -> (usize, LogLine) {
    // As long as a number gets.
    line.seq = u64::MAX;
    loop {
        let bytes = serde_json::to_vec(&line).map_or(0, |json| json.len());
        let Some(over) = bytes.checked_sub(LINE_MOST).filter(|over| *over > 0) else { return (bytes, line) };
        line.cut = true;
        let texts = line.fields.values_mut().filter_map(|value| if let Value::String(text) = value { Some(text) } else { None });
        let longest = texts.fold(&mut line.message, |longest, text| if text.len() > longest.len() { text } else { longest });
        if longest.len() <= CUT.len() {
            return (bytes, line);
        }
        // A sign takes as many bytes in JSON as in the text, or more; `cut` takes some itself.
        let room = longest.len().saturating_sub(over + CUT.len() + 16);
        longest.truncate(longest.floor_char_boundary(room));
        longest.push_str(CUT);
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
        (1..=lines).for_each(|n| ring.keep(line(if n % 10 == 0 { LogLevel::Warn } else { LogLevel::Info }, &format!("line {n}"))));
        ring
    }

    fn seqs(logs: &Logs) -> Vec<u64> {
        logs.lines.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn the_last_lines_are_those_before_now_and_reading_on_gives_each_once() {
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
    fn of_one_level_it_is_told_how_far_one_has_read_all_the_same() {
        let ring = ring(25);
        let grave = ring.read(Some(0), LogLevel::Warn, 10);
        assert_eq!((seqs(&grave), grave.upto), (vec![10, 20], 25));
        let first = ring.read(Some(0), LogLevel::Warn, 1);
        assert_eq!((seqs(&first), first.upto), (vec![10], 10));
        assert_eq!(seqs(&ring.read(None, LogLevel::Warn, 1)), [20]);
        assert_eq!(ring.read(None, LogLevel::Error, 1).upto, 25);
    }

    #[test]
    fn the_oldest_go_by_number_and_whoever_reads_on_is_told_how_many() {
        let ring = ring(LINES_MOST + 50);
        let more = ring.read(Some(10), LogLevel::Info, 1);
        assert_eq!((seqs(&more), more.lost), (vec![51], 40));
        assert_eq!(ring.read(Some(50), LogLevel::Info, 1).lost, 0);
        assert_eq!(ring.read(None, LogLevel::Info, usize::MAX).lines.len(), LINES_MOST);
        let other = ring.read(Some(1 << 40), LogLevel::Info, 10);
        assert_eq!((other.lines.len(), other.upto, other.lost), (0, LINES_MOST as u64 + 50, 0), "a number of another process");
    }

    #[test]
    fn the_oldest_go_by_bytes_and_no_line_is_longer_than_it_may_be() {
        let ring = LogRing::new(DateTime::UNIX_EPOCH);
        for n in 0..1_000 {
            let mut long = line(LogLevel::Error, &"é\n\"".repeat(n % 300));
            long.fields.insert("error".to_owned(), "ü".repeat(n * 7).into());
            long.fields.insert("partition".to_owned(), json!(3));
            ring.keep(long);
        }
        let kept = ring.read(None, LogLevel::Info, usize::MAX);
        let bytes: Vec<usize> = kept.lines.iter().map(|line| serde_json::to_vec(line).unwrap().len()).collect();
        assert!(bytes.iter().sum::<usize>() <= BYTES_MOST && bytes.len() < 1_000);
        assert!(bytes.iter().all(|&bytes| bytes <= LINE_MOST), "{bytes:?}");
        let last = kept.lines.last().unwrap();
        assert!(last.cut && last.fields["error"].as_str().unwrap().ends_with('…') && last.fields["partition"] == 3, "{last:?}");
        assert!(!last.message.ends_with('…'), "the longest text gives way first");
    }

    #[test]
    fn a_line_that_comes_is_seen_by_who_watches() {
        let ring = ring(0);
        let mut newest = ring.watch();
        assert!(!newest.has_changed().unwrap());
        ring.keep(line(LogLevel::Info, "x"));
        assert_eq!(*newest.borrow_and_update(), 1);
    }
}
