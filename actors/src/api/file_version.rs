//! Whether a file has changed since it was read.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Differs after a file was written or replaced. A link is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl FileVersion {
    /// The version of a file; `None` if there is no file.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self { inode: metadata.ino(), size: metadata.size(), modified_s: metadata.mtime(), modified_ns: metadata.mtime_nsec() })
    }
}
