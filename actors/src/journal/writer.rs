//! The one writer: a thread that takes what has gathered, writes it in one go, waits for the disk once, and then says how far it is.
//!
//! Guarantee: [`Durable::Upto`] comes after `fsync`. After the first failure nothing more is written, and [`Durable::Failed`] says so for good.
//! Events that nobody waits for gather for up to [`LAZY`] before they cost a sync. Bounded: [`QUEUE_MOST`] appends wait; whoever appends
//! beyond waits itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::Disk;
use super::error::JournalError;
use super::frame::{self, FORMAT};
use super::segment::{self, Header};
use super::{reader, snapshot};
use crate::failpoint::point;

/// How many appends may wait.
pub const QUEUE_MOST: usize = 1_024;
/// The bytes after which no more is gathered into one write.
pub const GROUP_BYTES: usize = 256 << 10;
/// How long events that nobody waits for may gather.
pub const LAZY: Duration = Duration::from_millis(50);

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pipeline whose journal it is.
    pub pipeline: String,
    /// The size from which on a snapshot is wanted, after which a new segment begins; in bytes.
    pub segment_bytes: u64,
    /// The bytes of older segments that are kept though snapshots cover them.
    pub keep_bytes: u64,
}

/// How far a journal is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Every event up to this sequence.
    Upto(u64),
    /// It has failed, and takes no more: why.
    Failed(String),
}

enum Job {
    Append { lines: Vec<u8>, count: u64, urgent: bool },
    Snapshot { seq: u64, state: Vec<u8> },
}

/// The writer of a journal. Dropping it waits until all that was appended is on the disk.
pub struct Journal {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    durable: watch::Receiver<Durable>,
    full: Arc<AtomicBool>,
}

impl Journal {
    /// Opens the journal in a folder to append to it, after cutting a torn tail; begins one where there is none. Gives the sequence
    /// that the next event must have. Whoever calls holds the lock that makes it the only writer.
    ///
    /// # Errors
    /// When the journal is damaged, of another pipeline or of a newer format, or the disk refuses.
    pub fn open<D: Disk>(folder: &Path, disk: D, settings: Settings) -> Result<(Self, u64), JournalError> {
        std::fs::create_dir_all(folder).map_err(JournalError::io("make", folder))?;
        let full = Arc::new(AtomicBool::new(false));
        let (tell, durable) = watch::channel(Durable::Upto(0));
        let writer = Writer::open(folder, disk, settings, tell, Arc::clone(&full))?;
        let next = writer.next;
        let (queue, jobs) = sync_channel(QUEUE_MOST);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.serve(&jobs))
            .map_err(JournalError::io("start a thread for", folder))?;
        Ok((Self { queue: Some(queue), thread: Some(thread), durable, full }, next))
    }

    /// Appends `count` events, given as the [lines](frame::encode) that they are in the file. Nobody need wait for them; when somebody
    /// does, `urgent` has them on the disk at once.
    pub fn append(&self, lines: Vec<u8>, count: u64, urgent: bool) {
        self.send(Job::Append { lines, count, urgent });
    }

    /// Whether the segment has come to its size, so that a snapshot is wanted.
    pub fn wants_snapshot(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    /// Keeps the JSON of the state that the events up to `seq` make, which must be the last one appended; then begins a new segment and
    /// removes what is too old.
    pub fn snapshot(&self, seq: u64, state: Vec<u8>) {
        self.send(Job::Snapshot { seq, state });
    }

    /// How far it is on the disk; for those who wait for more.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// A job that finds the writer gone is lost with it; [`Durable`] never says otherwise.
    fn send(&self, job: Job) {
        let _ = self.queue.as_ref().expect("the queue is there until drop").send(job);
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
    tell: watch::Sender<Durable>,
    full: Arc<AtomicBool>,
}

/// Events that wait to be written.
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
        self.since.is_some_and(|since| self.urgent || self.lines.len() >= GROUP_BYTES || since.elapsed() >= LAZY)
    }
}

impl<D: Disk> Writer<D> {
    fn open(folder: &Path, disk: D, settings: Settings, tell: watch::Sender<Durable>, full: Arc<AtomicBool>) -> Result<Self, JournalError> {
        let end = reader::read::<JournalError>(folder, u64::MAX, |_, _| Ok(()))?;
        if let Some(header) = end.header.as_ref().filter(|header| header.pipeline != settings.pipeline) {
            return Err(JournalError::Foreign { path: folder.into(), theirs: header.pipeline.clone(), ours: settings.pipeline });
        }
        let number = end.header.as_ref().map_or(0, |header| header.segment);
        let last = segment::list(folder)?.pop();
        let (file, path, segment, length) = match (last, end.sound) {
            // Its first line was torn: nothing in it was ever acknowledged.
            (Some(last), 0) => {
                disk.remove(&last.path).map_err(JournalError::io("remove", &last.path))?;
                let (file, path, length) = begin_segment(folder, &disk, &settings, number + 1, end.next)?;
                (file, path, number + 1, length)
            }
            (Some(last), length) => {
                if end.torn > 0 {
                    tracing::warn!(file = %last.path.display(), bytes = end.torn, "a torn tail of the journal is cut");
                }
                let file = disk.open(&last.path, length).map_err(JournalError::io("open", &last.path))?;
                (file, last.path, number, length)
            }
            (None, _) => {
                let (file, path, length) = begin_segment(folder, &disk, &settings, 1, end.next)?;
                (file, path, 1, length)
            }
        };
        tell.send_replace(Durable::Upto(end.next - 1));
        Ok(Self { folder: folder.into(), disk, settings, file, path, segment, length, next: end.next, tell, full })
    }

    fn serve(mut self, jobs: &Receiver<Job>) {
        if let Err(error) = self.work(jobs) {
            tracing::error!(%error, "the journal has failed, and takes no more");
            self.tell.send_replace(Durable::Failed(error.to_string()));
            // Whoever appends must not wait for room.
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
                Some(since) => jobs.recv_timeout(LAZY.saturating_sub(since.elapsed())),
            };
            match job {
                Ok(Job::Append { lines, count, urgent }) => {
                    pending.add(&lines, count, urgent);
                    if pending.lines.len() < GROUP_BYTES {
                        continue;
                    }
                    self.write(&mut pending)?;
                }
                Ok(Job::Snapshot { seq, state }) => {
                    self.write(&mut pending)?;
                    self.keep(seq, &state)?;
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
        self.tell.send_replace(Durable::Upto(self.next - 1));
        if self.length >= self.settings.segment_bytes {
            self.full.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn keep(&mut self, seq: u64, state: &[u8]) -> Result<(), JournalError> {
        debug_assert_eq!(seq + 1, self.next, "a snapshot is of all that was appended");
        point("journal::before_snapshot");
        snapshot::write(&self.folder, &self.disk, &self.settings.pipeline, seq, state)?;
        point("journal::after_snapshot");
        self.segment += 1;
        (self.file, self.path, self.length) = begin_segment(&self.folder, &self.disk, &self.settings, self.segment, self.next)?;
        self.full.store(false, Ordering::Relaxed);
        snapshot::retire(&self.folder, &self.disk, self.settings.keep_bytes)
    }
}

/// Begins a segment: the file, its first line and its name are on the disk before anything refers to it.
fn begin_segment<D: Disk>(
    folder: &Path,
    disk: &D,
    settings: &Settings,
    segment: u64,
    first: u64,
) -> Result<(D::File, PathBuf, u64), JournalError> {
    let path = folder.join(segment::file_name(first));
    let mut file = disk.create(&path).map_err(JournalError::io("make", &path))?;
    let header = Header { segment, format: FORMAT, first, pipeline: settings.pipeline.clone() };
    let mut line = Vec::new();
    frame::encode(&serde_json::to_vec(&header).expect("a header is JSON"), &mut line);
    disk.append(&mut file, &line).map_err(JournalError::io("write", &path))?;
    disk.sync(&file).map_err(JournalError::io("sync", &path))?;
    disk.sync_folder(folder).map_err(JournalError::io("sync", folder))?;
    Ok((file, path, line.len() as u64))
}
