//! Files and directories that only their owner can use, whatever the umask of the process.
//!
//! Everything in the data directory is created here. SQLite gives the files that it adds beside a
//! database (`-wal`, `-shm`) the mode of the database.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Options that give a file mode 0600 if they create it. The mode of an existing one stays.
pub fn options() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// Creates a directory, and its parents, with mode 0700. The mode of an existing one stays.
///
/// # Errors
/// The error of the operating system.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates an empty file, for a library that opens it later. Does not open one that exists: closing
/// it would release the locks that SQLite holds on it in this process.
///
/// # Errors
/// The error of the operating system.
pub fn create_if_missing(path: &Path) -> io::Result<()> {
    match options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file beside `path` and renames it to `path`, so that readers see it whole.
///
/// # Errors
/// The error of the operating system.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    options().write(true).create(true).truncate(true).open(&new)?.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)
}
