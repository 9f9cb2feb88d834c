//! The actor runtime: mailboxes, exits, supervision, byte budgets, retries and a watchdog.
//!
//! This is the only crate of Forebay that names actix.
//!
//! Guarantees:
//! * Every incarnation of an actor ends with exactly one [`Exit`], whatever ends it: its own call,
//!   a panic in one of its futures or threads, its supervisor's deadline, or the watchdog.
//! * An exit is reported after the actor is dropped and everything it started has ended. Work that
//!   ignores its cancellation delays the report by at most two seconds.
//! * Supervisors follow OTP's rules ([`Strategy`], [`Restart`], [`Limits`]) and stop their children
//!   one at a time, in reverse start order.
//! * Messages own their budget ([`Lease`]). Dropping a message returns it, so neither a panic nor a
//!   closed mailbox loses any.
//!
//! Does not guarantee:
//! * That a handler that blocks the actor thread can be ended. The watchdog only reports it.
//! * A limit on the number of messages in a mailbox. actix accepts messages beyond its own limit,
//!   so senders must hold budget.
//!
//! ```text
//!  start ─▶ Root ─▶ supervisor ── events ──▶ strategy (pure: exits, timers, stops in; starts, stops, delays out)
//!                      │  ▲
//!           incarnation│  │ exit
//!                      ▼  │
//!          actix ContextFut around ActixAdapter<A>, in catch_unwind: one incarnation of an actor
//! ```
//!
//! * Actors are written against [`Actor`] or [`Service`], [`Cx`] and [`Mailbox`].
//! * A tree is built from [`ChildSpec`] and [`SupervisorSpec`], and started by [`start`].
//! * Back-pressure is [`Budget`], [`Credit`] and [`Lease`].
//! * [`ActorTree`] shows the tree from outside; a [`LifecycleListener`] receives its changes.
//! * Retries are [`Backoff`], [`Retry`] and [`Outage`].

mod actix_adapter;
mod actor;
mod actor_tree;
mod backoff;
mod byte_budget;
mod clock;
mod exit;
mod incarnation_scope;
mod kill_switch;
mod lifecycle;
mod mailbox;
mod mailbox_slot;
mod progress;
mod restart_window;
mod retry;
mod root;
mod run_incarnation;
mod strategy;
mod supervisor;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
mod watchdog;

#[cfg(test)]
mod actix_behaviour_tests;
#[cfg(test)]
mod tests;

pub use actor::{Actor, Cx, Service};
pub use actor_tree::ActorTree;
pub use backoff::Backoff;
pub use byte_budget::{Budget, Credit, Lease};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock, micros, millis};
pub use exit::Exit;
pub use incarnation_scope::Cancel;
pub use lifecycle::{LifecycleEvent, LifecycleKind, LifecycleListener};
pub use mailbox::{Closed, Mailbox};
pub use mailbox_slot::MailboxSlot;
pub use progress::{Progress, Working};
pub use retry::{Outage, Retry};
pub use root::{Environment, Root, block_on, start};
pub use strategy::{Limits, Restart, Strategy};
pub use supervisor::{ChildSpec, SupervisorSpec};
