//! Recordings: writes the updates of a monitor to a file and plays them back.
//!
//! A recording is a file of JSON lines. The first is `{"forebay_recording":1,"version":…}`. Then
//! follow, in the order of arrival:
//! * `{"look":…}`: a snapshot, at most one a second,
//! * `{"event":…}`: an event,
//! * `{"logs":…}`, `{"records":…}`, `{"letters":…}`, `{"trace":…}`: responses of the API.
//!
//! An incomplete line at the end of the file, left by a killed recorder, is ignored.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_schemas::api::{BatchTrace, Logs, Records};
use forebay_schemas::dead_letters::DeadLetters;
use forebay_schemas::event::decode;
use forebay_schemas::snapshot::Snapshot;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::error::SourceError;
use crate::state::{ApiResponse, Update};

/// The version of the file format.
const FORMAT: u32 = 1;
/// The minimum time between two recorded snapshots.
const SNAPSHOT_INTERVAL: TimeDelta = TimeDelta::milliseconds(900);
/// The maximum number of events per update.
const MAX_EVENTS_PER_UPDATE: usize = 1_000;
/// The maximum pause between two lines during playback.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Writes a recording.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: BufWriter<File>,
    last: Option<DateTime<Utc>>,
}

impl Recorder {
    /// Creates the file and writes the header.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create_new(path)?);
        writeln!(file, r#"{{"forebay_recording":{FORMAT},"version":"{}"}}"#, env!("CARGO_PKG_VERSION"))?;
        Ok(Self { file, last: None })
    }

    /// Writes an update, unless it is one that recordings omit.
    pub(crate) fn write(&mut self, update: &Update) -> io::Result<()> {
        match update {
            Update::Snapshot(snapshot) if self.last.is_none_or(|last| (snapshot.at - last).abs() >= SNAPSHOT_INTERVAL) => {
                self.last = Some(snapshot.at);
                self.line("look", snapshot.as_ref())
            }
            Update::Events(events) => events.iter().try_for_each(|event| self.line("event", event.as_ref())),
            Update::Response(ApiResponse::Records(Ok(records))) => self.line("records", records),
            Update::Response(ApiResponse::DeadLetters(Ok(letters))) => self.line("letters", letters),
            Update::Response(ApiResponse::Logs(Ok(logs))) if !logs.lines.is_empty() => self.line("logs", logs),
            Update::Response(ApiResponse::Batch(_, Ok(trace))) => self.line("trace", trace),
            _ => Ok(()),
        }
    }

    fn line(&mut self, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
        write!(self.file, "{{\"{name}\":")?;
        serde_json::to_writer(&mut self.file, value)?;
        self.file.write_all(b"}\n")
    }

    /// Flushes to the operating system, so that a kill loses little.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads a recording.
pub(crate) struct Player {
    path: PathBuf,
    lines: BufReader<File>,
}

#[derive(Deserialize)]
struct Header {
    forebay_recording: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    #[serde(rename = "look")]
    Snapshot(Box<Snapshot>),
    Event(Box<serde_json::value::RawValue>),
    Records(Box<Records>),
    Letters(Box<DeadLetters>),
    Logs(Box<Logs>),
    Trace(Box<BatchTrace>),
}

impl Player {
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let invalid = |why: String| SourceError::Recording { path: path.to_owned(), why };
        let mut lines = BufReader::new(File::open(path).map_err(|error| invalid(error.to_string()))?);
        let mut first = String::new();
        lines.read_line(&mut first).map_err(|error| invalid(error.to_string()))?;
        match serde_json::from_str::<Header>(&first) {
            Ok(header) if header.forebay_recording == FORMAT => Ok(Self { path: path.to_owned(), lines }),
            Ok(header) => Err(invalid(format!("format {}; this version reads format {FORMAT}", header.forebay_recording))),
            Err(_) => Err(invalid("not a recording: unexpected first line".to_owned())),
        }
    }

    /// Returns the next update; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Update>, String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).map_err(|error| error.to_string())? == 0 || !line.ends_with('\n') {
            return Ok(None);
        }
        let entry: Entry = serde_json::from_str(&line).map_err(|error| format!("{}: {error}", self.path.display()))?;
        Ok(Some(match entry {
            Entry::Snapshot(snapshot) => Update::Snapshot(Arc::from(snapshot)),
            Entry::Records(records) => Update::Response(ApiResponse::Records(Ok(*records))),
            Entry::Letters(letters) => Update::Response(ApiResponse::DeadLetters(Ok(letters))),
            Entry::Logs(logs) => Update::Response(ApiResponse::Logs(Ok(*logs))),
            Entry::Trace(trace) => Update::Response(ApiResponse::Batch(trace.batch.id, Ok(trace))),
            Entry::Event(json) => Update::Events(vec![Arc::new(decode(json.get().as_bytes()).map_err(|error| error.to_string())?)]),
        }))
    }

    /// Plays the recording at `speed` times its pace.
    pub(super) async fn play(mut self, speed: f64, updates: mpsc::Sender<Update>) {
        let mut last: Option<DateTime<Utc>> = None;
        let mut started = false;
        let mut events = Vec::new();
        let end = loop {
            // Reading a line takes a few kilobytes from the page cache, which is not worth a
            // thread.
            let update = match self.next() {
                Ok(Some(update)) => update,
                Ok(None) => break Update::Finished,
                Err(why) => break Update::SourceFailed(why),
            };
            let at = match &update {
                Update::Snapshot(snapshot) => Some(snapshot.at),
                Update::Events(events) => events.first().map(|event| event.at),
                _ => None,
            };
            // Events before the first snapshot are sent at once: they were history when the
            // recording began.
            let due = last.zip(at).map_or(TimeDelta::zero(), |(last, at)| at - last);
            let wait = due.to_std().unwrap_or_default().div_f64(speed.clamp(0.01, 1_000.0)).min(MAX_WAIT);
            let waits = started && wait > Duration::from_millis(1);
            if started && (waits || last.is_none()) || !matches!(update, Update::Events(_)) {
                last = at.or(last);
            }
            if (waits || !matches!(update, Update::Events(_)) || events.len() >= MAX_EVENTS_PER_UPDATE)
                && !events.is_empty()
                && updates.send(Update::Events(std::mem::take(&mut events))).await.is_err()
            {
                return;
            }
            if waits {
                tokio::time::sleep(wait).await;
            }
            match update {
                Update::Events(new) => events.extend(new),
                snapshot => {
                    started = true;
                    if updates.send(snapshot).await.is_err() {
                        return;
                    }
                }
            }
        };
        if !events.is_empty() && updates.send(Update::Events(events)).await.is_err() {
            return;
        }
        // The receiver may be gone.
        let _ = updates.send(end).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    async fn played(path: &Path) -> (usize, Vec<u64>, bool) {
        let (sender, mut updates) = mpsc::channel(4);
        tokio::spawn(Player::open(path).unwrap().play(1_000.0, sender));
        let (mut snapshots, mut seqs, mut finished) = (0, Vec::new(), false);
        while let Some(update) = updates.recv().await {
            match update {
                Update::Snapshot(_) => snapshots += 1,
                Update::Events(events) => seqs.extend(events.iter().map(|event| event.seq)),
                Update::Finished => finished = true,
                other => panic!("{other:?}"),
            }
        }
        (snapshots, seqs, finished)
    }

    #[test]
    fn log_lines_are_recorded_and_empty_responses_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs.ndjson");
        let mut recorder = Recorder::create(&path).unwrap();
        let none = Logs { lines: Vec::new(), ..test_data::logs() };
        for logs in [none, test_data::logs()] {
            recorder.write(&Update::Response(ApiResponse::Logs(Ok(logs)))).unwrap();
        }
        recorder.flush().unwrap();
        let mut player = Player::open(&path).unwrap();
        let Ok(Some(Update::Response(ApiResponse::Logs(Ok(logs))))) = player.next() else { panic!("no log lines") };
        assert_eq!(logs, test_data::logs());
        assert!(player.next().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_recording_plays_back_what_was_recorded_and_ignores_a_cut_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo.ndjson");
        let mut recorder = Recorder::create(&path).unwrap();
        let history = test_data::history(40);
        recorder.write(&Update::Events(history[..20].iter().cloned().map(Arc::new).collect())).unwrap();
        for n in 0..6 {
            recorder.write(&Update::Snapshot(Arc::new(test_data::later(n * 500)))).unwrap();
        }
        recorder.write(&Update::Events(history[20..].iter().cloned().map(Arc::new).collect())).unwrap();
        recorder.write(&Update::Finished).unwrap();
        recorder.flush().unwrap();
        let all: Vec<u64> = (1..=40).collect();
        assert_eq!(played(&path).await, (3, all, true), "snapshots are a second apart");
        assert!(Recorder::create(&path).is_err(), "a recording is not overwritten");

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 20]).unwrap();
        assert_eq!(played(&path).await.1.len(), 39);
        std::fs::write(&path, "{\"something\":1}\n").unwrap();
        assert!(Player::open(&path).is_err_and(|error| error.to_string().contains("not a recording")));
    }
}
