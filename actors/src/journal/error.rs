//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// Something is wrong with a journal. Every one of these is fatal to whoever writes.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("the journal can't {doing} {}: {cause}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `sync` …
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A line that is not as it was written, elsewhere than at the torn end of the last segment.
    #[error("{}, line {line} (sequence {sequence}) is damaged: {what}; restore the file from a copy, or move the journal away to begin a new one", path.display())]
    Damaged {
        /// In which segment.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The sequence the line should have; 0 for the segment's first line.
        sequence: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A segment between two others is not there.
    #[error("the journal in {} lacks the events from {from} to {}", path.display(), to - 1)]
    Gap {
        /// The folder.
        path: PathBuf,
        /// The first event that is missing.
        from: u64,
        /// The first after them.
        to: u64,
    },
    /// The journal belongs to another pipeline.
    #[error("the journal in {} is of pipeline {theirs:?}, not of {ours:?}; give this pipeline a data_dir of its own", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Who asked.
        ours: String,
    },
    /// A format that this version does not know.
    #[error("{} has format {format}; this version reads {} at most: use the version that wrote it, or a newer one", path.display(), super::frame::FORMAT)]
    Newer {
        /// In which segment.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The journal has failed before, or its writer is gone.
    #[error("the journal takes no more: {0}")]
    Closed(String),
}

impl JournalError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { doing, path, cause }
    }
}
