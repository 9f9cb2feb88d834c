//! The integers that JSON carries exactly.

/// The largest integer in the API. Up to here every JSON client represents integers exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
