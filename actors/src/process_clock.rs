//! The clock of the program: the machine's.
//!
//! With the feature `failpoints`, `FAILPOINTS="clock::wall=return(FILE)"` shifts the time of day by
//! the number of seconds in a file. A test rewrites the file while the program runs, and so moves
//! the time of day as an administrator or a time server would.
//!
//! Does not guarantee that libraries see the shift: Kafka's client and the embedded broker take the
//! time of day from the machine. The monotonic time is never shifted.

use std::time::{Instant, SystemTime};

use forebay_kernel::{Clock, SystemClock};

use crate::failpoint::shifted;

/// The clock of the program.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessClock;

impl Clock for ProcessClock {
    fn now(&self) -> Instant {
        SystemClock.now()
    }

    fn wall(&self) -> SystemTime {
        shifted(SystemClock.wall())
    }
}
