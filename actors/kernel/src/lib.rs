//! Runs the actors: mailboxes, exit reasons, supervision, budgets, back-off, watchdog. The only place in Forebay that names actix.
//!
//! Guarantees:
//! * Every incarnation of an actor ends with exactly one [`Exit`], whatever ends it: its own word, a panic in any of its futures or threads,
//!   its supervisor's deadline, or the watchdog. The exit is reported when the actor is dropped and what it started has ended too; work
//!   that ignores its cancelling is waited for at most [`GRACE`].
//! * Supervisors follow OTP's rules ([`Strategy`], [`Restart`], [`Limits`]), and stop their children one after the other, last started first.
//! * Budget is owned by the messages ([`Lease`]); it comes home by drop, so neither a panic nor a closed mailbox loses any.
//!
//! Not guaranteed: that a handler which blocks the actor thread can be ended (the watchdog can only report it), and any limit on the number
//! of messages in a mailbox: actix's own limit lets them pass, so whoever posts must hold budget.
//!
//! ```text
//!  start ─▶ Root ─▶ supervisor ── feeds ──▶ strategy (pure: exits, timers, stops in; starts, stops, delays out)
//!                      │  ▲
//!          child runner│  │ exit
//!                      ▼  │
//!          ContextFut of actix around Host<A>, in catch_unwind: one incarnation of an actor
//! ```
//!
//! * [`Actor`], [`Cx`], [`Mailbox`]: what a shell is written against.    * [`ChildSpec`], [`SupervisorSpec`], [`start`]: how a tree is built.
//! * [`Budget`], [`Credit`], [`Lease`]: back-pressure.                   * [`Registry`], [`Witness`]: what others see of the tree.

mod actor;
mod backoff;
mod budget;
mod child;
pub mod clock;
mod errand;
mod exit;
mod handover;
mod host;
mod intensity;
mod mailbox;
mod progress;
mod registry;
mod root;
mod strategy;
mod supervisor;
mod watchdog;
mod witness;

#[cfg(test)]
mod actix_behaviour;
#[cfg(test)]
mod tests;

pub use actor::{Actor, Cx};
pub use backoff::Backoff;
pub use budget::{Budget, Credit, Lease};
pub use child::GRACE;
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use errand::Cancel;
pub use exit::Exit;
pub use handover::Handover;
pub use mailbox::{Closed, Mailbox};
pub use progress::{Progress, Working};
pub use registry::Registry;
pub use root::{Environment, Root, block_on, start};
pub use strategy::{Limits, Restart, Strategy};
pub use supervisor::{ChildSpec, SupervisorSpec};
pub use watchdog::SILENCE;
pub use witness::{Sighting, What, Witness};
