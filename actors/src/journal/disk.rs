//! The disk, as far as a journal needs it; behind a trait so that tests can let it fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// What the writer does to the disk.
pub trait Disk: Send + 'static {
    /// A file that is appended to.
    type File: Send;
    /// Makes a file that must not be there yet.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file to append to, cut to `length` bytes first.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path, length: u64) -> io::Result<Self::File>;
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// As the operating system says; some of the bytes may be there then.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Waits until the file's bytes are on the disk.
    ///
    /// # Errors
    /// As the operating system says; nobody knows what is on the disk then.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Waits until a folder's names are on the disk.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Gives a file another name, in one step.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path, length: u64) -> io::Result<File> {
        let file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(file)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
