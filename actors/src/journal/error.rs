//! What fails in a journal.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of a journal. All of them are fatal to the writer.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system reported an error.
    #[error("the journal failed to {doing} {}: {cause}", path.display())]
    Io {
        /// The operation: `read`, `write`, `sync` …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        cause: io::Error,
    },
    /// A line is not as it was written, and is not the torn end of the last segment.
    #[error("{}, line {line} (sequence {sequence}) is damaged: {what}; restore the file from a backup, or move the journal away to start a new one", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// The sequence that the line should have; 0 for the segment's first line.
        sequence: u64,
        /// The damage.
        what: String,
    },
    /// A segment between two others is missing.
    #[error("the journal in {} lacks the events {from} to {}", path.display(), to - 1)]
    Gap {
        /// The folder.
        path: PathBuf,
        /// The first event that is missing.
        from: u64,
        /// The first event after them.
        to: u64,
    },
    /// The journal belongs to another pipeline.
    #[error("the journal in {} belongs to pipeline {theirs:?}, not to {ours:?}; give this pipeline its own data_dir", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The pipeline that it belongs to.
        theirs: String,
        /// The pipeline that opens it.
        ours: String,
    },
    /// This version does not know the format.
    #[error("{} has format {format}, and this version reads up to {}; use the version that wrote it, or a newer one", path.display(), super::frame::FORMAT)]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The journal has failed before, or its writer exited.
    #[error("the journal accepts no more events: {0}")]
    Closed(String),
}

impl JournalError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { doing, path, cause }
    }
}
