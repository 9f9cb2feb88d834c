//! The ledger: what was decided and what was seen, as events; all state that outlives the process is their fold.
//!
//! [`state`] is pure: `decide(state, command) -> events | rejection` and `evolve(state, event)`; [`runs`] is its part about runs. [`Ledger`] is the
//! one writer: it holds the state, gives each event its sequence number, appends it to the journal, and tells those who wait that something
//! changed.
//!
//! Guarantee: events are applied one after the other, each decided on the state the one before it left; what [`Ledger::settled`] has waited
//! for is on the disk, and a new [`Ledger::open`] begins with it. A journal that fails is final: [`Ledger::failed`]. Not guaranteed: that what nobody
//! waited for outlives a crash; batches and commits are such, for what they say follows from Kafka as well.

mod command;
pub mod cursors;
mod error;
mod fold;
#[expect(clippy::module_inception, reason = "the ledger itself; this file says what the folder guarantees")]
mod ledger;
mod monitor;
mod run_leases;
pub mod runs;
pub mod state;

#[cfg(test)]
mod reads_tests;
#[cfg(test)]
mod runs_tests;
#[cfg(test)]
mod tests;

pub use command::Command;
pub use cursors::Cursors;
pub use error::{LedgerError, Rejection};
pub use fold::fold;
pub use ledger::{Hearing, Ledger};
#[cfg(test)]
pub(crate) use ledger::{forget_looks, is_waited_for};
pub use monitor::{CallOff, Keeper, Lookout, Seen};
pub use runs::{Accepted, Runs};
pub use state::State;
