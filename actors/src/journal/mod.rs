//! The journal: an append-only file of events that a person can read, follow and repair with plain tools.
//!
//! Guarantee: what an acknowledged append wrote survives the process and, as far as the disk keeps its word on `fsync`, the machine. A
//! torn tail of the last segment (a last line without its end: a crash in mid-write) is cut at the next start; damage anywhere else is refused by file, line and sequence.
//! A failed write or fsync is final: the journal takes no more, for nobody knows what is on the disk then. Not guaranteed: that two
//! events of one append survive together; each alone must leave a state that makes sense.
//!
//! # Format
//!
//! A folder of segments, each named after the sequence of its first event, `00000000000000000001.log`. A segment is lines:
//!
//! ```text
//! line   := crc32c SP length SP json LF      crc32c: 8 hex digits over the json bytes; length: their number, decimal
//! line 1 := {"segment":1,"format":1,"first":SEQ,"pipeline":NAME}
//! others := one event each, the sequence rising by one
//! ```
//!
//! so `tail -f`, `grep` and `cut -d' ' -f3- | jq` work; [`snapshot`] files beside them shorten a start. [`writer`] is the one writer (a thread, group commit), [`reader`] any number of readers, in any
//! process, also while it is written.

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
mod tests;
