//! Dead letters as messages of the Kafka client.

use forebay_dataplane::dead_letter::DeadLetter;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::types::RDKafkaErrorCode as Code;

/// The headers of a dead letter; see [`DeadLetter::headers`].
pub(crate) fn headers<'a>(
    letter: &DeadLetter<'_>,
    own: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    origin: &[(&str, &str)],
) -> OwnedHeaders {
    let mut all = Some(OwnedHeaders::new());
    letter.headers(own, origin, |key, value| all = all.take().map(|all| all.insert(Header { key, value })));
    all.unwrap_or_default()
}

/// Whether Kafka or its client rejects a message for its size.
pub(crate) fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge)
}
