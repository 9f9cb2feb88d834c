//! Why a page was not produced.
//!
//! Guarantees: a message names the topic and the remedy.
//!
//! Does not guarantee that Kafka's reason for a refusal is complete; the broker's log has the rest.

use crate::broker::dead_letter_headers::is_too_large;
use crate::message::PageRefused;
use forebay_schemas::error_class::{Class, Classified};
use rdkafka::types::RDKafkaErrorCode as Code;

/// Why a page is not in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProduceError {
    /// The page can't be produced as it is.
    #[error(transparent)]
    Refused(#[from] PageRefused),
    /// Kafka, or its client, refuses a record or the batch that contains it. Sending each record
    /// alone shows which one.
    #[error("kafka refuses a record of {bytes} bytes for {topic}: {cause}")]
    Record {
        /// The topic.
        topic: String,
        /// The size of the record's value.
        bytes: usize,
        /// Why.
        cause: Code,
    },
    /// Kafka refuses this client.
    #[error("kafka refuses records for {topic}: {cause}; check the credentials in [kafka.properties] and the topic's ACLs")]
    Denied {
        /// The topic.
        topic: String,
        /// Why.
        cause: Code,
    },
    /// The client can't continue; a new one may.
    #[error("the producer for {topic} failed: {cause}")]
    Broken {
        /// The topic.
        topic: String,
        /// Why.
        cause: String,
    },
    /// The incarnation that sent the page has ended.
    #[error("the producer for {topic} was stopped")]
    Stopped {
        /// The topic.
        topic: String,
    },
}

impl Classified for ProduceError {
    fn class(&self) -> Class {
        match self {
            Self::Refused(_) | Self::Record { .. } => Class::Rejected,
            Self::Denied { .. } => Class::Fatal,
            Self::Broken { .. } | Self::Stopped { .. } => Class::Transient,
        }
    }
}

impl ProduceError {
    /// The error of a record that Kafka, or its client, did not accept.
    pub(super) fn of_delivery(topic: &str, bytes: usize, cause: Code) -> Self {
        match cause {
            cause if is_too_large(cause) || cause == Code::InvalidRecord => Self::Record { topic: topic.to_owned(), bytes, cause },
            Code::InvalidMessage | Code::InvalidTimestamp => {
                Self::Refused(PageRefused(format!("kafka refuses a record of {bytes} bytes for {topic}: {cause}")))
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Self::Denied { topic: topic.to_owned(), cause },
            cause => Self::Broken { topic: topic.to_owned(), cause: cause.to_string() },
        }
    }
}
