//! What fails in the consumer, and how it is handled.

use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::offset::{Offset, Partition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use forebay_kernel::Exit;

/// Why the consumer stops or waits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConsumerError {
    /// The topic could not be found or created.
    #[error("topic {topic} is not ready: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What Kafka reported.
        reason: String,
        /// The class of the failure.
        class: Class,
    },
    /// The client could not be created from its properties.
    #[error("failed to create the kafka consumer: {reason}; check [kafka] and [kafka.properties]")]
    Client {
        /// What the client reported.
        reason: String,
    },
    /// The topic does not hold the group's committed offset.
    #[error(
        "group {group} has committed offset {committed} of {topic}[{partition}], but kafka holds only [{start_offset}..{end_offset}): \
         records were deleted before they were written, or the topic was truncated; to continue from what kafka holds, stop forebay \
         and run: forebay replay --from earliest --reason '…' --yes"
    )]
    OutOfRange {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// What the group has committed.
        committed: Offset,
        /// The first offset that Kafka holds.
        start_offset: Offset,
        /// The offset of the next record.
        end_offset: Offset,
    },
    /// The topic no longer holds the next offset to read.
    #[error("kafka no longer holds the next offset of {topic}: {reason}")]
    OffsetLost {
        /// The topic.
        topic: String,
        /// What the client reported.
        reason: String,
    },
    /// Kafka denies access to this client.
    #[error("kafka denies group {group} access to topic {topic}: {reason}; check the credentials in [kafka.properties] and the ACLs")]
    Denied {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// What Kafka reported.
        reason: String,
    },
    /// Kafka did not answer.
    #[error("kafka did not answer: {reason}")]
    Unanswered {
        /// What the client reported.
        reason: String,
    },
    /// The client is no longer usable.
    #[error("the kafka consumer failed: {reason}")]
    Broken {
        /// What the client reported.
        reason: String,
    },
    /// The transformer or the writer exited.
    #[error("downstream actor exited")]
    Downstream,
}

impl Classified for ConsumerError {
    fn class(&self) -> Class {
        match self {
            Self::Topic { class, .. } => *class,
            Self::Client { .. } | Self::OutOfRange { .. } | Self::Denied { .. } => Class::Fatal,
            Self::OffsetLost { .. } | Self::Unanswered { .. } | Self::Broken { .. } | Self::Downstream => Class::Transient,
        }
    }
}

impl ConsumerError {
    /// Returns how an incarnation exits with this error.
    pub(super) fn into_exit(self) -> Exit {
        if self == Self::Downstream { Exit::DownstreamClosed } else { self.into() }
    }
}

/// What an error that the running client reports means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClientError {
    /// A server is unavailable. The client reconnects by itself.
    Unavailable,
    /// The topic does not exist yet.
    TopicMissing,
    /// It is only logged.
    Ignored,
    /// The incarnation ends.
    Exit(ConsumerError),
}

impl ClientError {
    pub(super) fn new(error: &KafkaError, reason: &str, topic: &str, group: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let (topic, reason) = (topic.to_owned(), reason.to_owned());
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) => Self::Unavailable,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => Self::TopicMissing,
            Some(
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Self::Exit(ConsumerError::Denied { group: group.to_owned(), topic, reason }),
            Some(Code::AutoOffsetReset) => Self::Exit(ConsumerError::OffsetLost { topic, reason }),
            Some(Code::Fatal) => Self::Exit(ConsumerError::Broken { reason }),
            _ => Self::Ignored,
        }
    }
}
