//! A disk whose writes and syncs a test can make wait or fail.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Disk, RealDisk};

/// What a [`TestDisk`] is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// To append to a file.
    Append,
    /// To sync a file's contents.
    Sync,
}

/// The real disk, which asks before each step whether it may take it.
#[derive(Clone)]
pub(crate) struct TestDisk(Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>);

impl TestDisk {
    /// A disk that calls `before` ahead of each step. An error is the result of the step, which is
    /// not taken.
    pub(crate) fn new(before: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(before))
    }
}

impl Disk for TestDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn open(&self, path: &Path, length: u64) -> io::Result<File> {
        RealDisk.open(path, length)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        (self.0)(Step::Append)?;
        RealDisk.append(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        (self.0)(Step::Sync)?;
        RealDisk.sync(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}
