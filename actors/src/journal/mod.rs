//! The journal: an append-only file of events that can be read, followed and repaired with plain
//! tools.
//!
//! Guarantees:
//! * An acknowledged append survives a crash of the process and, provided `fsync` is honoured, of
//!   the machine.
//! * A torn tail, a last line without its end after a crash in mid-write, is cut at the next start.
//!   Damage anywhere else is an error that names the file, the line and the sequence.
//! * A failed write or `fsync` is final: the journal accepts nothing more, since it is unknown what
//!   is on the disk.
//!
//! Does not guarantee that the events of one append survive together. Each alone leaves a
//! consistent state.
//!
//! # Format
//!
//! A folder of segments, each named after the sequence of its first event:
//! `00000000000000000001.log`. A segment consists of lines:
//!
//! ```text
//! line   := crc32c SP length SP json LF      crc32c: 8 hex digits over the json bytes; length: their number, decimal
//! line 1 := {"segment":1,"format":1,"first":SEQ,"pipeline":NAME}
//! others := one event each, the sequence rising by one
//! ```
//!
//! `tail -f`, `grep` and `cut -d' ' -f3- | jq` work on it. [`snapshot`] files in the same folder
//! shorten a start.
//!
//! There is one [`writer`], a thread with group commit, and any number of [`reader`]s, in any
//! process, even while it is written.

pub mod disk;
pub mod frame;
pub mod reader;
pub mod segment;
pub mod snapshot;
pub mod writer;

mod error;

pub use disk::{Disk, RealDisk};
pub use error::JournalError;
pub use reader::{Follower, read};
pub use writer::{Durable, Journal, Settings};

#[cfg(test)]
pub(crate) mod test_disk;
#[cfg(test)]
mod tests;
