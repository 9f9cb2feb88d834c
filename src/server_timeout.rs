//! Questions to Kafka and Cassandra with a time-out, for `forebay doctor` and `forebay plan`.

use std::time::Duration;

use forebay_dataplane::store::{RetryReason, StoreError};
use forebay_schemas::pipeline::Pipeline;

/// Names the pipeline's Kafka for a person.
pub(crate) fn kafka_name(pipeline: &Pipeline) -> String {
    if pipeline.kafka.is_embedded() { "Kafka, embedded".into() } else { format!("Kafka {}", pipeline.kafka.bootstrap) }
}

/// Waits for a server's answer.
///
/// # Errors
/// Why there is none, and what to do. `key` is the key of the pipeline file that names the server.
pub(crate) async fn in_time<T, E: std::fmt::Display>(
    timeout: Duration,
    key: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {timeout:?}; start it, or name it in {key}")),
    }
}

/// Waits for the store's answer.
///
/// # Errors
/// Why there is none, and what to do.
pub(crate) async fn store_in_time<T>(timeout: Duration, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    let key = "[cassandra] contact_points";
    let answer = async {
        answer.await.map_err(|error| match error {
            StoreError::Unavailable { reason, .. } if reason != RetryReason::Policy => format!("{error}; start it, or name it in {key}"),
            error => error.to_string(), // has its remedy
        })
    };
    in_time(timeout, key, answer).await
}
