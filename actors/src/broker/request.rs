//! Requests to Kafka, off the caller's thread and with a time-out.

use std::time::Duration;

use super::access::Access;
use super::error::BrokerError;

/// The time-out of one request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks off the caller's thread.
pub(super) async fn ask<T: Send + 'static>(
    access: &Access,
    question: impl FnOnce(&Access) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let access = access.clone();
    match tokio::task::spawn_blocking(move || question(&access)).await {
        Ok(answer) => answer,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a blocking task that runs is never cancelled"),
        },
    }
}
