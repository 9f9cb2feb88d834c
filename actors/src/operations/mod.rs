//! What an operator does to a pipeline, running or stopped: plan it, then apply it. The API and the
//! command line use it.
//!
//! * [`replay`]: reset the group's offsets, so that records are read again.
//! * [`dead_letters`]: read dead letters, newest first.
//! * [`redrive`]: produce dead letters to the topic again.
//! * [`cursor`]: set the cursor of a read.

pub mod cursor;
pub mod dead_letters;
pub mod redrive;
pub mod replay;
