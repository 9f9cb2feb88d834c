//! Runs blocking requests to Kafka off the caller's thread.

use std::time::Duration;

use super::access::Access;
use super::error::BrokerError;

/// The time-out of one request.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a blocking request on a blocking thread.
pub(super) async fn run_blocking<T: Send + 'static>(
    access: &Access,
    request: impl FnOnce(&Access) -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    let access = access.clone();
    match tokio::task::spawn_blocking(move || request(&access)).await {
        Ok(response) => response,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a running blocking task is never cancelled"),
        },
    }
}
