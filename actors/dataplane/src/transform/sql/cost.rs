//! The cost of a call.

/// The bytes that a call produces, and the steps that it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) bytes: u64,
    pub(super) steps: u64,
}

impl Cost {
    pub(super) fn bytes(bytes: u64) -> Self {
        Self { bytes, steps: 0 }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), steps: self.steps.saturating_add(other.steps) }
    }
}
