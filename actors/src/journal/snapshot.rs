//! Snapshots: the state after an event, so that a start need not fold the whole history.
//!
//! Guarantees:
//! * A snapshot gets its name only when it is complete and durable.
//! * A damaged snapshot is skipped for the one before it, or for the whole history where that still
//!   exists.
//! * Events are removed only when the last two snapshots cover them.
//!
//! A snapshot is a file `SEQ.snap` with one line in the format of a segment:
//! `{"snapshot":1,"seq":SEQ,"pipeline":NAME,"state":…}`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::disk::Disk;
use super::error::JournalError;
use super::{frame, segment};

/// The format this version writes and reads.
const FORMAT: u64 = 1;
/// The number of snapshots that are retained.
const RETAINED: usize = 2;

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    snapshot: u64,
    seq: u64,
    pipeline: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// A snapshot of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event in it.
    pub seq: u64,
    /// The state as JSON.
    pub state: Vec<u8>,
}

/// Returns the snapshots of a folder, oldest first.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    segment::numbered(folder, "snap")
}

/// Returns the newest undamaged snapshot up to event `at`.
///
/// # Errors
/// When the folder can't be read, or the newest snapshot has an unknown format.
pub fn latest(folder: &Path, at: u64) -> Result<Option<Snapshot>, JournalError> {
    for (seq, path) in list(folder)?.into_iter().rev().filter(|(seq, _)| *seq <= at) {
        let bytes = fs::read(&path).map_err(JournalError::io("read", &path))?;
        match parse(&bytes) {
            Ok(body) if body.snapshot > FORMAT => return Err(JournalError::Newer { path, format: body.snapshot }),
            Ok(body) if body.seq == seq => return Ok(Some(Snapshot { seq, state: body.state.get().as_bytes().to_vec() })),
            Ok(body) => {
                tracing::warn!(file = %path.display(), seq = body.seq, "snapshot skipped: it is not of the event in its name");
            }
            Err(error) => tracing::warn!(file = %path.display(), error, "snapshot skipped: it is damaged"),
        }
    }
    Ok(None)
}

fn parse(bytes: &[u8]) -> Result<Body<'_>, String> {
    let line = bytes.strip_suffix(b"\n").ok_or("it has no end")?;
    serde_json::from_slice(frame::decode(line)?).map_err(|cause| format!("it is not a snapshot: {cause}"))
}

/// Writes a snapshot, under a temporary name first, so that an incomplete one is never read.
pub(super) fn write<D: Disk>(folder: &Path, disk: &D, pipeline: &str, seq: u64, state: &[u8]) -> Result<(), JournalError> {
    let state = std::str::from_utf8(state).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok());
    let state = state.expect("the state is JSON");
    let body = Body { snapshot: FORMAT, seq, pipeline: pipeline.to_owned(), state: &state };
    let mut line = Vec::new();
    frame::encode(&serde_json::to_vec(&body).expect("a snapshot serializes"), &mut line);
    let path = folder.join(format!("{seq:020}.snap"));
    let partial = path.with_extension("half");
    if partial.exists() {
        disk.remove(&partial).map_err(JournalError::io("remove", &partial))?;
    }
    let mut file = disk.create(&partial).map_err(JournalError::io("create", &partial))?;
    disk.append(&mut file, &line).map_err(JournalError::io("write", &partial))?;
    disk.sync(&file).map_err(JournalError::io("sync", &partial))?;
    disk.rename(&partial, &path).map_err(JournalError::io("rename", &partial))?;
    disk.sync_folder(folder).map_err(JournalError::io("sync", folder))
}

/// Removes old snapshots, and the oldest segments that the retained ones cover, until `keep_bytes`
/// of covered segments are left.
pub(super) fn retire<D: Disk>(folder: &Path, disk: &D, keep_bytes: u64) -> Result<(), JournalError> {
    let remove = |path: &Path| disk.remove(path).map_err(JournalError::io("remove", path));
    let snapshots = list(folder)?;
    let old = snapshots.len().saturating_sub(RETAINED);
    for (_, path) in &snapshots[..old] {
        remove(path)?;
    }
    let Some((covered, _)) = snapshots.get(old).filter(|_| snapshots.len() >= RETAINED) else { return Ok(()) };
    let segments = segment::list(folder)?;
    // A segment ends where the next one starts; the last one is being written.
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
