//! Snapshots: the state that the events up to a sequence make, so that a start need not fold all of history.
//!
//! Guarantee: a snapshot has its name only when it is whole and on the disk; one that is damaged all the same is passed over for the one before
//! it, or for the whole history where that is still there. History is removed only where the last two snapshots both cover it.
//!
//! A snapshot is a file `SEQ.snap` of one line like those of a segment, `{"snapshot":1,"seq":SEQ,"pipeline":NAME,"state":…}`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::disk::Disk;
use super::error::JournalError;
use super::{frame, segment};

/// The format this version writes and reads.
const FORMAT: u64 = 1;
/// How many snapshots are kept.
const KEPT: usize = 2;

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    snapshot: u64,
    seq: u64,
    pipeline: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// A state out of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event in it.
    pub seq: u64,
    /// Its JSON.
    pub state: Vec<u8>,
}

/// The snapshots of a folder, oldest first.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    segment::numbered(folder, "snap")
}

/// The newest snapshot that is sound and not of a later event than `at`.
///
/// # Errors
/// When the folder can't be read, or the newest one is of a format that this version does not know.
pub fn latest(folder: &Path, at: u64) -> Result<Option<Snapshot>, JournalError> {
    for (seq, path) in list(folder)?.into_iter().rev().filter(|(seq, _)| *seq <= at) {
        let bytes = fs::read(&path).map_err(JournalError::io("read", &path))?;
        match parse(&bytes) {
            Ok(body) if body.snapshot > FORMAT => return Err(JournalError::Newer { path, format: body.snapshot }),
            Ok(body) if body.seq == seq => return Ok(Some(Snapshot { seq, state: body.state.get().as_bytes().to_vec() })),
            Ok(body) => {
                tracing::warn!(file = %path.display(), says = body.seq, "a snapshot is not of the event its name says; passed over");
            }
            Err(what) => tracing::warn!(file = %path.display(), what, "a snapshot is damaged; passed over"),
        }
    }
    Ok(None)
}

fn parse(bytes: &[u8]) -> Result<Body<'_>, String> {
    let line = bytes.strip_suffix(b"\n").ok_or("it has no end")?;
    serde_json::from_slice(frame::decode(line)?).map_err(|cause| format!("it is no snapshot: {cause}"))
}

/// Writes a snapshot: under another name first, so that no half of one is ever found.
pub(super) fn write<D: Disk>(folder: &Path, disk: &D, pipeline: &str, seq: u64, state: &[u8]) -> Result<(), JournalError> {
    let state = std::str::from_utf8(state).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let state = state.expect("a state is JSON");
    let body = Body { snapshot: FORMAT, seq, pipeline: pipeline.to_owned(), state: &state };
    let mut line = Vec::new();
    frame::encode(&serde_json::to_vec(&body).expect("a snapshot is JSON"), &mut line);
    let path = folder.join(format!("{seq:020}.snap"));
    let half = path.with_extension("half");
    if half.exists() {
        disk.remove(&half).map_err(JournalError::io("remove", &half))?;
    }
    let mut file = disk.create(&half).map_err(JournalError::io("make", &half))?;
    disk.append(&mut file, &line).map_err(JournalError::io("write", &half))?;
    disk.sync(&file).map_err(JournalError::io("sync", &half))?;
    disk.rename(&half, &path).map_err(JournalError::io("rename", &half))?;
    disk.sync_folder(folder).map_err(JournalError::io("sync", folder))
}

/// Removes all but the newest snapshots, and the oldest segments that they cover, down to `keep_bytes` of covered ones.
pub(super) fn retire<D: Disk>(folder: &Path, disk: &D, keep_bytes: u64) -> Result<(), JournalError> {
    let remove = |path: &Path| disk.remove(path).map_err(JournalError::io("remove", path));
    let snapshots = list(folder)?;
    let old = snapshots.len().saturating_sub(KEPT);
    for (_, path) in &snapshots[..old] {
        remove(path)?;
    }
    let Some((covered, _)) = snapshots.get(old).filter(|_| snapshots.len() >= KEPT) else { return Ok(()) };
    let segments = segment::list(folder)?;
    // A segment ends where the next one begins; the last one is being written.
    let ended = segments.windows(2).filter(|pair| pair[1].first <= covered + 1).map(|pair| &pair[0].path);
    let mut kept = 0;
    for path in ended.rev() {
        kept += fs::metadata(path).map_err(JournalError::io("read", path))?.len();
        if kept > keep_bytes {
            remove(path)?;
        }
    }
    Ok(())
}
