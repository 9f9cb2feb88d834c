//! What the SQL has made so far of the records that it runs on.
//!
//! The SQL runs on one batch of records at a time on one thread, from beginning to end, so the meter is the thread's. Guarantee: the sum of what
//! was charged since [`reset`] never exceeds the limits. Not guaranteed: that what a function takes is what it charges; that is for
//! [`cost`](super::sql::cost) to estimate, from above.

use std::cell::Cell;

use datafusion::error::{DataFusionError, Result};

use super::limits::{SQL_BYTES, SQL_STEPS};

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(SQL_BYTES) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// The SQL begins to run on other records, of which it may make so many bytes.
pub(super) fn reset(limit: u64) {
    LIMIT.set(limit);
    BYTES.set(0);
    STEPS.set(0);
}

/// How many bytes may still be charged.
pub(super) fn room() -> u64 {
    LIMIT.get() - BYTES.get()
}

/// Charges bytes that `what` makes, best before it makes them.
pub(super) fn charge_bytes(what: &str, bytes: u64) -> Result<()> {
    let (spent, limit) = (BYTES.get(), LIMIT.get());
    match spent.checked_add(bytes).filter(|sum| *sum <= limit) {
        Some(sum) => {
            BYTES.set(sum);
            Ok(())
        }
        None => {
            let before = if spent == 0 { String::new() } else { format!(" after {spent} that were made before") };
            let text = format!("{what} makes up to {bytes} bytes{before}, and the SQL may make {limit} bytes of one record");
            Err(DataFusionError::ResourcesExhausted(text))
        }
    }
}

/// Charges the steps that `what` takes, before it takes them.
pub(super) fn charge_steps(what: &str, steps: u64) -> Result<()> {
    let spent = STEPS.get();
    match spent.checked_add(steps).filter(|sum| *sum <= SQL_STEPS) {
        Some(sum) => {
            STEPS.set(sum);
            Ok(())
        }
        None => {
            let before = if spent == 0 { String::new() } else { format!(" after {spent} that were taken before") };
            let text = format!("{what} takes up to {steps} steps{before}, and the SQL may take {SQL_STEPS} steps on one record");
            Err(DataFusionError::ResourcesExhausted(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_refused_and_charges_nothing() {
        reset(SQL_BYTES);
        charge_bytes("`a`", SQL_BYTES - 1).unwrap();
        let error = charge_bytes("`b`", 2).unwrap_err();
        assert_eq!(
            error.strip_backtrace(),
            "Resources exhausted: `b` makes up to 2 bytes after 8388607 that were made before, and the SQL may make 8388608 bytes of one record"
        );
        charge_bytes("`c`", 1).unwrap();
        assert_eq!(room(), 0);
        assert!(charge_bytes("`d`", u64::MAX).is_err());
        charge_steps("`e`", SQL_STEPS).unwrap();
        assert!(charge_steps("`f`", 1).is_err());
        reset(SQL_BYTES);
        assert_eq!(room(), SQL_BYTES);
    }
}
