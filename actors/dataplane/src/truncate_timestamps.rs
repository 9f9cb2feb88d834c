//! Timestamps of columns in a coarser unit.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};

/// Rounds times down to a coarser unit, and returns them in their own unit.
pub(crate) fn truncate(array: &ArrayRef, coarse: TimeUnit) -> ArrayRef {
    let per_second = |unit: TimeUnit| match unit {
        TimeUnit::Second => 1_i64,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let DataType::Timestamp(fine, zone) = array.data_type() else { return Arc::clone(array) };
    let ratio = per_second(*fine) / per_second(coarse).max(1);
    if ratio <= 1 {
        return Arc::clone(array);
    }
    macro_rules! truncate {
        ($kind:ty) => {
            Arc::new(
                array
                    .as_primitive::<$kind>()
                    .unary::<_, $kind>(|at| at.saturating_sub(at.rem_euclid(ratio)))
                    .with_timezone_opt(zone.clone()),
            )
        };
    }
    match fine {
        TimeUnit::Second => Arc::clone(array),
        TimeUnit::Millisecond => truncate!(TimestampMillisecondType),
        TimeUnit::Microsecond => truncate!(TimestampMicrosecondType),
        TimeUnit::Nanosecond => truncate!(TimestampNanosecondType),
    }
}
