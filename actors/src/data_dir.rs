//! The data directory: its lock and its subdirectories.
//!
//! Guarantees: only their owner can use it and the files that Forebay creates in it, whatever the
//! umask. The mode of a directory that exists is left as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use forebay_dataplane::private_file;
use forebay_schemas::pipeline::Pipeline;

/// The directory of a pipeline's journal.
pub fn journal_dir(pipeline: &Pipeline) -> PathBuf {
    pipeline.data_dir().join("journal")
}

/// The directory of the embedded broker's files.
pub(crate) fn broker_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("broker")
}

/// Creates a data directory, if it is missing, and a file in it, to see that both are possible.
///
/// # Errors
/// When one can't be created.
pub fn probe(data_dir: &Path) -> io::Result<()> {
    let file = data_dir.join(".probe");
    private_file::create_dir(data_dir).and_then(|()| private_file::create_if_missing(&file)).and_then(|()| std::fs::remove_file(&file))
}

/// Why a data directory can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It can't be created or opened.
    #[error("the data directory {} can't be used: {cause}", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another process has locked it.
    #[error("another process runs on the data directory {}; stop it, or give this pipeline a data_dir of its own", .0.display())]
    Locked(PathBuf),
}

/// The lock of a data directory: while it lives, no other process writes there.
#[derive(Debug)]
pub struct DataDirLock(#[expect(dead_code, reason = "held for its lock, not read")] File);

impl DataDirLock {
    /// The name of the lock file.
    pub const FILE: &str = "LOCK";

    /// Locks a data directory, and creates it if it is missing. Warns when every user of the
    /// machine can enter one that exists: its mode is its owner's decision.
    ///
    /// # Errors
    /// When another process has locked it, or it can't be created or opened.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let unusable = |cause| LockError::Unusable { path: data_dir.to_owned(), cause };
        private_file::create_dir(data_dir).map_err(unusable)?;
        if std::fs::metadata(data_dir).map_err(unusable)?.mode() & 0o007 != 0 {
            tracing::warn!("every user of this machine can read {0}; run: chmod -R go-rwx {0}", data_dir.display());
        }
        let lock = private_file::options().create(true).truncate(false).write(true).open(data_dir.join(Self::FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(std::fs::TryLockError::WouldBlock) => Err(LockError::Locked(data_dir.to_owned())),
            Err(std::fs::TryLockError::Error(cause)) => Err(unusable(cause)),
        }
    }
}

/// Whether a process runs on the pipeline's data directory.
pub fn is_running(pipeline: &Pipeline) -> bool {
    let lock = File::open(pipeline.data_dir().join(DataDirLock::FILE));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_data_directory_is_its_owners_alone_and_the_mode_of_an_existing_one_stays() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("a/data");
        let mode = || std::fs::metadata(&data).unwrap().mode() & 0o777;
        drop(DataDirLock::take(&data).unwrap());
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(DataDirLock::take(&data).unwrap());
        assert_eq!(mode(), 0o755);
    }
}
