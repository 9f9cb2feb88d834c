//! How a failure is handled.

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The caller retries: a server is unreachable, slow or busy.
    Transient,
    /// The same record or request would fail again; others are not affected.
    Rejected,
    /// Nothing works until a person changes something.
    Fatal,
}

/// An error that says how it is handled.
pub trait Classified {
    /// What the caller does about this error.
    fn class(&self) -> Class;
}
