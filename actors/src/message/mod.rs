//! The messages that actors send each other.
//!
//! Each holds its budget, in a [`Lease`](forebay_kernel::Lease) or in its [`PageContent`], and
//! carries a [`Receipt`], through which its first sender learns whether it was settled, or
//! abandoned because an actor on the way ended.

mod batch;
mod batch_parts;
mod page;
mod receipt;

pub(crate) use batch::{BatchDone, BatchPart, PolledBatch};
pub(crate) use batch_parts::{PartOutcome, SharedBatch};
pub(crate) use page::{BadRecord, Page, PageContent, PageProduced, PageRefused};
pub(crate) use receipt::Receipt;

/// What each record weighs in a budget in addition to its key and value, for what Forebay keeps
/// about it. Bytes.
pub(crate) const RECORD_OVERHEAD: usize = 64;
