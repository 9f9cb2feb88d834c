//! The disk operations of a journal, behind a trait so that tests can make them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use forebay_dataplane::private_file;

/// The operations of the writer.
pub trait Disk: Send + 'static {
    /// A file opened for appending.
    type File: Send;
    /// Creates a file that must not exist.
    ///
    /// # Errors
    /// The error of the operating system.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Truncates a file to `length` bytes and opens it for appending.
    ///
    /// # Errors
    /// The error of the operating system.
    fn open(&self, path: &Path, length: u64) -> io::Result<Self::File>;
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// The error of the operating system. Some of the bytes may be written then.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<()>;
    /// Syncs the file's contents.
    ///
    /// # Errors
    /// The error of the operating system. It is unknown then what is on the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Syncs the names in a folder.
    ///
    /// # Errors
    /// The error of the operating system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Renames a file atomically.
    ///
    /// # Errors
    /// The error of the operating system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The error of the operating system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        private_file::options().append(true).create_new(true).open(path)
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
