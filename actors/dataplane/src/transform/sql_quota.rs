//! The quota of a run of the SQL: the bytes it may produce and the steps it may take.
//!
//! A run stays on one thread from start to end, so the quota is thread-local.
//!
//! Guarantee: what was charged since [`reset`] never exceeds the limits.
//!
//! Does not guarantee that a charge equals what the function takes;
//! [`function_cost`](super::sql::function_cost) estimates that from above.

use std::cell::Cell;

use datafusion::error::{DataFusionError, Result};

use super::limits::{MAX_SQL_BYTES, MAX_SQL_STEPS};

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(MAX_SQL_BYTES) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Starts a run that may produce `max_bytes` bytes.
pub(super) fn reset(max_bytes: u64) {
    LIMIT.set(max_bytes);
    BYTES.set(0);
    STEPS.set(0);
}

/// Returns how many bytes may still be charged.
pub(super) fn remaining_bytes() -> u64 {
    LIMIT.get() - BYTES.get()
}

/// Charges the bytes that `what` produces, preferably before it produces them.
pub(super) fn charge_bytes(what: &str, bytes: u64) -> Result<()> {
    let (spent, limit) = (BYTES.get(), LIMIT.get());
    match spent.checked_add(bytes).filter(|sum| *sum <= limit) {
        Some(sum) => {
            BYTES.set(sum);
            Ok(())
        }
        None => {
            let before = if spent == 0 { String::new() } else { format!(" after {spent} bytes produced before") };
            let text = format!("{what} produces up to {bytes} bytes{before}; the limit is {limit} bytes per record");
            Err(DataFusionError::ResourcesExhausted(text))
        }
    }
}

/// Charges the steps that `what` takes, before it takes them.
pub(super) fn charge_steps(what: &str, steps: u64) -> Result<()> {
    let spent = STEPS.get();
    match spent.checked_add(steps).filter(|sum| *sum <= MAX_SQL_STEPS) {
        Some(sum) => {
            STEPS.set(sum);
            Ok(())
        }
        None => {
            let before = if spent == 0 { String::new() } else { format!(" after {spent} steps taken before") };
            let text = format!("{what} takes up to {steps} steps{before}; the limit is {MAX_SQL_STEPS} steps per record");
            Err(DataFusionError::ResourcesExhausted(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_beyond_the_limit_fails_and_charges_nothing() {
        reset(MAX_SQL_BYTES);
        charge_bytes("`a`", MAX_SQL_BYTES - 1).unwrap();
        let error = charge_bytes("`b`", 2).unwrap_err();
        assert_eq!(
            error.strip_backtrace(),
            "Resources exhausted: `b` produces up to 2 bytes after 8388607 bytes produced before; the limit is 8388608 bytes per record"
        );
        charge_bytes("`c`", 1).unwrap();
        assert_eq!(remaining_bytes(), 0);
        assert!(charge_bytes("`d`", u64::MAX).is_err());
        charge_steps("`e`", MAX_SQL_STEPS).unwrap();
        assert!(charge_steps("`f`", 1).is_err());
        reset(MAX_SQL_BYTES);
        assert_eq!(remaining_bytes(), MAX_SQL_BYTES);
    }
}
