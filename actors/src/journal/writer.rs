//! The one writer: a thread that takes what has gathered, writes it in one go, waits for the disk once, and then acknowledges all of it.
//!
//! Guarantee: an acknowledgement comes after `fsync`. After the first failure every append fails, this one and all later ones.
//! Bounded: [`QUEUE_MOST`] appends wait, [`GROUP_BYTES`] go in one write.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::disk::Disk;
use super::error::JournalError;
use super::segment::{self, FORMAT, Header, Segment};
use super::{frame, reader};

/// How many appends may wait; whoever appends beyond waits itself.
pub const QUEUE_MOST: usize = 1_024;
/// The bytes after which no more is gathered into one write.
pub const GROUP_BYTES: usize = 256 << 10;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pipeline whose journal it is.
    pub pipeline: String,
    /// The size at which a new segment is begun, in bytes.
    pub segment_bytes: u64,
}

/// What an append comes to.
pub type Ack = oneshot::Receiver<Result<(), JournalError>>;

struct Append {
    events: Vec<Vec<u8>>,
    ack: oneshot::Sender<Result<(), JournalError>>,
}

/// The writer of a journal. Dropping it waits until all that was appended is on the disk.
pub struct Journal {
    queue: Option<SyncSender<Append>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal in a folder to append to it, after cutting a torn tail; begins one where there is none. Gives the sequence
    /// that the next event must have. Whoever calls holds the lock that makes it the only writer.
    ///
    /// # Errors
    /// When the journal is damaged, of another pipeline or of a newer format, or the disk refuses.
    pub fn open<D: Disk>(folder: &Path, disk: D, settings: Settings) -> Result<(Self, u64), JournalError> {
        std::fs::create_dir_all(folder).map_err(JournalError::io("make", folder))?;
        let writer = Writer::open(folder, disk, settings)?;
        let next = writer.next;
        let (queue, appends) = sync_channel(QUEUE_MOST);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.serve(&appends))
            .map_err(JournalError::io("start a thread for", folder))?;
        Ok((Self { queue: Some(queue), thread: Some(thread) }, next))
    }

    /// Appends events, each as one line of JSON with its `seq`. The acknowledgement says when they are on the disk; nobody need wait for it.
    pub fn append(&self, events: Vec<Vec<u8>>) -> Ack {
        let (ack, acknowledged) = oneshot::channel();
        let queue = self.queue.as_ref().expect("the queue is there until drop");
        if let Err(refused) = queue.send(Append { events, ack }) {
            let _ = refused.0.ack.send(Err(JournalError::Closed("its writer is gone".into())));
        }
        acknowledged
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
}

impl<D: Disk> Writer<D> {
    fn open(folder: &Path, disk: D, settings: Settings) -> Result<Self, JournalError> {
        let end = reader::read::<JournalError>(folder, u64::MAX, |_| Ok(()))?;
        if let Some(header) = end.header.as_ref().filter(|header| header.pipeline != settings.pipeline) {
            return Err(JournalError::Foreign { path: folder.into(), theirs: header.pipeline.clone(), ours: settings.pipeline });
        }
        let segments = segment::list(folder)?;
        let number = end.header.as_ref().map_or(0, |header| header.segment);
        match segments.last() {
            Some(last) => match Self::sound_length(last)? {
                // Its first line was torn: nothing in it was ever acknowledged.
                0 => {
                    disk.remove(&last.path).map_err(JournalError::io("remove", &last.path))?;
                    Self::begin(folder, disk, settings, number + 1, end.next)
                }
                length => {
                    if end.torn > 0 {
                        tracing::warn!(file = %last.path.display(), bytes = end.torn, "a torn tail of the journal is cut");
                    }
                    let file = disk.open(&last.path, length).map_err(JournalError::io("open", &last.path))?;
                    Ok(Self {
                        folder: folder.into(),
                        disk,
                        settings,
                        file,
                        path: last.path.clone(),
                        segment: number,
                        length,
                        next: end.next,
                    })
                }
            },
            None => Self::begin(folder, disk, settings, 1, end.next),
        }
    }

    fn sound_length(last: &Segment) -> Result<u64, JournalError> {
        Ok(segment::load(last, true)?.sound)
    }

    fn begin(folder: &Path, disk: D, settings: Settings, segment: u64, first: u64) -> Result<Self, JournalError> {
        let (file, path, length) = begin_segment(folder, &disk, &settings, segment, first)?;
        Ok(Self { folder: folder.into(), disk, settings, file, path, segment, length, next: first })
    }

    fn serve(mut self, appends: &Receiver<Append>) {
        let mut failed: Option<String> = None;
        while let Ok(first) = appends.recv() {
            let mut bytes = Vec::new();
            let mut acks = Vec::new();
            let mut count = 0;
            let mut take = |append: Append| {
                count += append.events.len() as u64;
                append.events.iter().for_each(|json| frame::encode(json, &mut bytes));
                acks.push(append.ack);
                bytes.len() < GROUP_BYTES
            };
            let mut more = take(first);
            while more && let Ok(append) = appends.try_recv() {
                more = take(append);
            }
            if failed.is_none() {
                failed = self.write(&bytes, count).err().map(|error| {
                    tracing::error!(%error, "the journal has failed");
                    error.to_string()
                });
            }
            for ack in acks {
                let _ = ack.send(failed.clone().map_or(Ok(()), |why| Err(JournalError::Closed(why))));
            }
        }
    }

    fn write(&mut self, bytes: &[u8], count: u64) -> Result<(), JournalError> {
        self.disk.append(&mut self.file, bytes).map_err(JournalError::io("write", &self.path))?;
        self.disk.sync(&self.file).map_err(JournalError::io("sync", &self.path))?;
        self.length += bytes.len() as u64;
        self.next += count;
        if self.length >= self.settings.segment_bytes {
            self.roll()?;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        self.segment += 1;
        (self.file, self.path, self.length) = begin_segment(&self.folder, &self.disk, &self.settings, self.segment, self.next)?;
        Ok(())
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
