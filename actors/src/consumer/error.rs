//! What can go wrong when reading from the topic, and what to do about it.

use forebay_schemas::failure::{Class, Classified};
use forebay_schemas::offset::{Offset, Partition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use forebay_kernel::Exit;

/// Why the consumer can't go on, or has to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// The topic could not be looked up or made.
    #[error("topic {topic} is not ready: {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What Kafka said.
        reason: String,
        /// Whether it may get better by itself.
        class: Class,
    },
    /// The client could not be made of its properties.
    #[error("the kafka consumer can't be made: {reason}; check [kafka] and [kafka.properties]")]
    Client {
        /// What the client said.
        reason: String,
    },
    /// The group's committed offset is not in the topic.
    #[error(
        "group {group} has committed offset {committed} of {topic}[{partition}], but kafka holds only [{begin}..{end}): records were deleted \
         before they were written, or the topic was cut short; to go on from what kafka holds, stop forebay and say so: \
         forebay replay --from earliest --reason '…' --yes"
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
        /// The first offset Kafka holds.
        begin: Offset,
        /// The offset the next record will get.
        end: Offset,
    },
    /// Kafka lost the place the consumer was reading at.
    #[error("kafka no longer holds the offset that was read next of {topic}: {reason}")]
    PlaceLost {
        /// The topic.
        topic: String,
        /// What the client said.
        reason: String,
    },
    /// Kafka refuses this client.
    #[error("kafka refuses group {group} on topic {topic}: {reason}; check the credentials in [kafka.properties] and the ACLs")]
    Refused {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// What Kafka said.
        reason: String,
    },
    /// Kafka did not answer.
    #[error("kafka did not answer: {reason}")]
    Unanswered {
        /// What the client said.
        reason: String,
    },
    /// The client can't be used any more.
    #[error("the kafka consumer broke: {reason}")]
    Broken {
        /// What the client said.
        reason: String,
    },
    /// The transformer or the writer went down.
    #[error("downstream went down")]
    Downstream,
}

impl Classified for ConsumerError {
    fn class(&self) -> Class {
        match self {
            Self::Topic { class, .. } => *class,
            Self::Client { .. } | Self::OutOfRange { .. } | Self::Refused { .. } => Class::Fatal,
            Self::PlaceLost { .. } | Self::Unanswered { .. } | Self::Broken { .. } | Self::Downstream => Class::Transient,
        }
    }
}

impl ConsumerError {
    /// How an incarnation ends with this error.
    pub(super) fn into_exit(self) -> Exit {
        if self == Self::Downstream { Exit::DownstreamClosed } else { self.into() }
    }
}

/// What an error that the client reports while it runs means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A server is away; the client comes back by itself.
    Away,
    /// The topic is not there, or not yet.
    Missing,
    /// Nothing to do but to say it.
    Noise,
    /// This incarnation ends.
    End(ConsumerError),
}

impl Trouble {
    pub(super) fn of(error: &KafkaError, reason: &str, topic: &str, group: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let (topic, reason) = (topic.to_owned(), reason.to_owned());
        match error.rdkafka_error_code() {
            Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut) => Self::Away,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => Self::Missing,
            Some(
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed,
            ) => Self::End(ConsumerError::Refused { group: group.to_owned(), topic, reason }),
            Some(Code::AutoOffsetReset) => Self::End(ConsumerError::PlaceLost { topic, reason }),
            Some(Code::Fatal) => Self::End(ConsumerError::Broken { reason }),
            _ => Self::Noise,
        }
    }
}
