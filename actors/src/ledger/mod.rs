//! The ledger: decisions and observed facts as events. All state that outlives the process is their
//! fold.
//!
//! * [`state`] is pure: `decide(state, command) -> events | rejection` and `evolve(state, event)`.
//!   [`runs`] is its part about runs.
//! * [`Ledger`] is the one writer. It holds the state, numbers each event, appends it to the
//!   journal and notifies watchers.
//! * [`LedgerMonitor`] is the actor that watches the journal, the topic and the leases of runs.
//!
//! Guarantees:
//! * Events are applied one at a time. Each is decided on the state that the one before it left.
//! * Events that [`Ledger::flushed`] has waited for are durable, and [`Ledger::open`] starts with
//!   them.
//! * A failed journal is final ([`Ledger::failed`]).
//!
//! Does not guarantee that an event which nobody waited for survives a crash. Batches and commits
//! are such events: what they say follows from Kafka as well.

mod client_leases;
mod command;
pub mod cursors;
mod error;
mod fold;
#[expect(clippy::module_inception, reason = "the ledger itself, beside the guarantees of its folder")]
mod ledger;
pub mod runs;
pub mod state;
mod watch_actor;
pub mod watermarks;

#[cfg(test)]
mod only_new_tests;
#[cfg(test)]
mod runs_tests;
#[cfg(test)]
mod source_cursors_tests;
#[cfg(test)]
mod tests;

pub use command::{Command, PassProgress};
pub use cursors::Cursors;
pub use error::{LedgerError, Rejection};
pub use fold::fold;
pub use ledger::{LeaseGuard, Ledger};
#[cfg(test)]
pub(crate) use ledger::{invalidate_confirmed, is_urgent};
pub use runs::{Accepted, Runs};
pub use state::State;
pub use watch_actor::{CancelRun, InspectTopic, LedgerMonitor, TopicState};
pub use watermarks::{Watermark, Watermarks};
