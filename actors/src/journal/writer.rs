//! The writer: a thread that collects appends, writes them together, syncs once, and reports how
//! far the journal is durable.
//!
//! Guarantees:
//! * [`Durable::UpTo`] is reported after `fsync`.
//! * After the first failure nothing more is written, and [`Durable::Failed`] stays.
//! * Events that no caller waits for are synced within [`MAX_GROUP_DELAY`].
//! * At most [`QUEUE_CAPACITY`] appends are queued; further callers block.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay_dataplane::private_file;
use tokio::sync::watch;

use super::disk::Disk;
use super::error::JournalError;
use super::frame::{self, FORMAT};
use super::segment::{self, Header};
use super::{reader, snapshot};
use crate::failpoint::point;

/// The number of appends that may be queued.
pub const QUEUE_CAPACITY: usize = 1_024;
/// How long a caller waits for a full queue before a warning; the next one follows after twice
/// that, and so on.
const STALL_NOTICE: Duration = Duration::from_secs(2);
/// How often a caller looks again whether a full queue has room.
const STALL_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The size after which a group of appends is written.
pub const MAX_GROUP_BYTES: usize = 256 << 10;
/// How long events that no caller waits for may be collected.
pub const MAX_GROUP_DELAY: Duration = Duration::from_millis(50);

/// The settings of a journal.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pipeline that it belongs to.
    pub pipeline: String,
    /// The size of a segment that requests a snapshot, after which a new segment starts.
    pub segment_bytes: u64,
    /// The bytes of older segments that are retained although snapshots cover them.
    pub keep_bytes: u64,
}

/// How far a journal is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Every event up to this sequence.
    UpTo(u64),
    /// It has failed, and accepts no more events.
    Failed(String),
}

enum Job {
    Append { lines: Vec<u8>, count: u64, urgent: bool },
    Snapshot { seq: u64, state: Vec<u8> },
}

/// The writer of a journal. Dropping it blocks until everything appended is durable.
pub struct Journal {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    durable: watch::Receiver<Durable>,
    full: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal in a folder, after cutting a torn tail, or creates one. Returns it with
    /// the sequence of the next event. The caller holds the lock that makes it the only writer.
    ///
    /// # Errors
    /// When the journal is damaged, belongs to another pipeline, has a newer format, or can't be
    /// written.
    pub fn open<D: Disk>(folder: &Path, disk: D, settings: Settings) -> Result<(Self, u64), JournalError> {
        private_file::create_dir(folder).map_err(JournalError::io("create", folder))?;
        let full = Arc::new(AtomicBool::new(false));
        let (progress, durable) = watch::channel(Durable::UpTo(0));
        let writer = Writer::open(folder, disk, settings, progress, Arc::clone(&full))?;
        let next = writer.next;
        let (queue, jobs) = sync_channel(QUEUE_CAPACITY);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.serve(&jobs))
            .map_err(JournalError::io("start a thread for", folder))?;
        Ok((Self { queue: Some(queue), thread: Some(thread), durable, full }, next))
    }

    /// Appends `count` events, encoded as [lines](frame::encode). `urgent` syncs them at once,
    /// since a caller waits for them.
    pub fn append(&self, lines: Vec<u8>, count: u64, urgent: bool) {
        self.send(Job::Append { lines, count, urgent });
    }

    /// Returns whether the segment has reached its size since the last call, so that a snapshot is
    /// needed.
    pub fn needs_snapshot(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    /// Writes a snapshot: the state, as JSON, after event `seq`, the last one appended. Then it
    /// starts a new segment and removes old files.
    pub fn snapshot(&self, seq: u64, state: Vec<u8>) {
        self.send(Job::Snapshot { seq, state });
    }

    /// Watches how far it is durable.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// A job is lost when the writer has exited; [`Durable`] does not advance then. Waits while the
    /// queue is full, and logs a warning when that takes long.
    fn send(&self, mut job: Job) {
        let queue = self.queue.as_ref().expect("the queue exists until drop");
        let (since, mut notice) = (Instant::now(), STALL_NOTICE);
        while let Err(TrySendError::Full(back)) = queue.try_send(job) {
            job = back;
            if since.elapsed() >= notice {
                tracing::warn!(
                    seconds = since.elapsed().as_secs(),
                    events = QUEUE_CAPACITY,
                    "the disk of the journal accepts nothing, and everything waits for it"
                );
                notice *= 2;
            }
            std::thread::sleep(STALL_POLL_INTERVAL);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer<D: Disk> {
    folder: PathBuf,
    disk: D,
    settings: Settings,
    file: D::File,
    path: PathBuf,
    segment: u64,
    length: u64,
    next: u64,
    progress: watch::Sender<Durable>,
    full: Arc<AtomicBool>,
}

/// Events that are not written yet.
#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    count: u64,
    since: Option<Instant>,
    urgent: bool,
}

impl Pending {
    fn add(&mut self, lines: &[u8], count: u64, urgent: bool) {
        self.lines.extend_from_slice(lines);
        self.count += count;
        self.urgent |= urgent;
        self.since.get_or_insert_with(Instant::now);
    }

    fn is_due(&self) -> bool {
        self.since.is_some_and(|since| self.urgent || self.lines.len() >= MAX_GROUP_BYTES || since.elapsed() >= MAX_GROUP_DELAY)
    }
}

impl<D: Disk> Writer<D> {
    fn open(
        folder: &Path,
        disk: D,
        settings: Settings,
        progress: watch::Sender<Durable>,
        full: Arc<AtomicBool>,
    ) -> Result<Self, JournalError> {
        let end = reader::read::<JournalError>(folder, u64::MAX, |_, _| Ok(()))?;
        if let Some(header) = end.header.as_ref().filter(|header| header.pipeline != settings.pipeline) {
            return Err(JournalError::Foreign { path: folder.into(), theirs: header.pipeline.clone(), ours: settings.pipeline });
        }
        let number = end.header.as_ref().map_or(0, |header| header.segment);
        let last = segment::list(folder)?.pop();
        let (file, path, segment, length) = match (last, end.valid) {
            // Its header is torn: nothing in it was acknowledged.
            (Some(last), 0) => {
                disk.remove(&last.path).map_err(JournalError::io("remove", &last.path))?;
                let (file, path, length) = start_segment(folder, &disk, &settings, number + 1, end.next)?;
                (file, path, number + 1, length)
            }
            (Some(last), length) => {
                if end.torn > 0 {
                    tracing::warn!(file = %last.path.display(), bytes = end.torn, "cut a torn tail of the journal");
                }
                let file = disk.open(&last.path, length).map_err(JournalError::io("open", &last.path))?;
                (file, last.path, number, length)
            }
            (None, _) => {
                let (file, path, length) = start_segment(folder, &disk, &settings, 1, end.next)?;
                (file, path, 1, length)
            }
        };
        progress.send_replace(Durable::UpTo(end.next - 1));
        Ok(Self { folder: folder.into(), disk, settings, file, path, segment, length, next: end.next, progress, full })
    }

    fn serve(mut self, jobs: &Receiver<Job>) {
        if let Err(error) = self.work(jobs) {
            tracing::error!(%error, "the journal failed and accepts no more events");
            self.progress.send_replace(Durable::Failed(error.to_string()));
            // Keep the queue empty, so that callers do not block.
            while jobs.recv().is_ok() {}
        }
    }

    fn work(&mut self, jobs: &Receiver<Job>) -> Result<(), JournalError> {
        let mut pending = Pending::default();
        loop {
            let job = match pending.since {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) if pending.is_due() => jobs.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                }),
                Some(since) => jobs.recv_timeout(MAX_GROUP_DELAY.saturating_sub(since.elapsed())),
            };
            match job {
                Ok(Job::Append { lines, count, urgent }) => {
                    pending.add(&lines, count, urgent);
                    if pending.lines.len() < MAX_GROUP_BYTES {
                        continue;
                    }
                    self.write(&mut pending)?;
                }
                Ok(Job::Snapshot { seq, state }) => {
                    self.write(&mut pending)?;
                    self.write_snapshot(seq, &state)?;
                }
                Err(RecvTimeoutError::Timeout) => self.write(&mut pending)?,
                Err(RecvTimeoutError::Disconnected) => return self.write(&mut pending),
            }
        }
    }

    fn write(&mut self, pending: &mut Pending) -> Result<(), JournalError> {
        let Pending { lines, count, .. } = std::mem::take(pending);
        if count == 0 {
            return Ok(());
        }
        point("journal::before_append");
        self.disk.append(&mut self.file, &lines).map_err(JournalError::io("write", &self.path))?;
        point("journal::after_append");
        self.disk.sync(&self.file).map_err(JournalError::io("sync", &self.path))?;
        point("journal::after_sync");
        self.length += lines.len() as u64;
        self.next += count;
        self.progress.send_replace(Durable::UpTo(self.next - 1));
        if self.length >= self.settings.segment_bytes {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_snapshot(&mut self, seq: u64, state: &[u8]) -> Result<(), JournalError> {
        debug_assert_eq!(seq + 1, self.next, "a snapshot covers everything appended");
        point("journal::before_snapshot");
        snapshot::write(&self.folder, &self.disk, &self.settings.pipeline, seq, state)?;
        point("journal::after_snapshot");
        self.segment += 1;
        (self.file, self.path, self.length) = start_segment(&self.folder, &self.disk, &self.settings, self.segment, self.next)?;
        self.full.store(false, Ordering::Relaxed);
        snapshot::retire(&self.folder, &self.disk, self.settings.keep_bytes)
    }
}

/// Starts a segment. The file, its header and its name are durable before anything refers to them.
fn start_segment<D: Disk>(
    folder: &Path,
    disk: &D,
    settings: &Settings,
    segment: u64,
    first: u64,
) -> Result<(D::File, PathBuf, u64), JournalError> {
    let path = folder.join(segment::file_name(first));
    let mut file = disk.create(&path).map_err(JournalError::io("create", &path))?;
    let header = Header { segment, format: FORMAT, first, pipeline: settings.pipeline.clone() };
    let mut line = Vec::new();
    frame::encode(&serde_json::to_vec(&header).expect("a header serializes"), &mut line);
    disk.append(&mut file, &line).map_err(JournalError::io("write", &path))?;
    disk.sync(&file).map_err(JournalError::io("sync", &path))?;
    disk.sync_folder(folder).map_err(JournalError::io("sync", folder))?;
    Ok((file, path, line.len() as u64))
}
