//! What can go wrong with producing. Guarantee: a message names the topic and the remedy. Not guaranteed: that Kafka's own reason for a
//! refusal is the whole one; its log has the rest.

use crate::broker::dead_letter::is_too_large;
use crate::message::PageRefused;
use forebay_schemas::failure::{Class, Classified};
use rdkafka::types::RDKafkaErrorCode as Code;

/// A page that isn't in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The page can't be produced as it is.
    #[error(transparent)]
    Refused(#[from] PageRefused),
    /// Kafka, or the client for it, refuses a record, or the batch that it was in: each has to be sent alone to know which.
    #[error("kafka refuses a record of {bytes} bytes for {topic}: {cause}")]
    Record {
        /// The topic.
        topic: String,
        /// The bytes of the record's value.
        bytes: usize,
        /// Why.
        cause: Code,
    },
    /// Kafka refuses this client.
    #[error("kafka refuses records for {topic}: {cause}; see to the credentials in [kafka.properties] and the topic's ACLs")]
    Denied {
        /// The topic.
        topic: String,
        /// Why.
        cause: Code,
    },
    /// The client can't go on: a new one may.
    #[error("the producer for {topic} can't go on: {cause}")]
    Broken {
        /// The topic.
        topic: String,
        /// Why.
        cause: String,
    },
    /// The incarnation that was at it has ended.
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
    /// The error of a record that Kafka, or the client for it, gave back.
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
