//! What can go wrong with a broker. Guarantee: a message names the server and the remedy, never a secret's value.

use std::path::PathBuf;

use forebay_schemas::failure::{Class, Classified};
use forebay_schemas::pipeline::SecretError;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// A broker that can't be reached, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A secret in `[kafka.properties]` can't be had.
    #[error("kafka.properties.{property}: {cause}")]
    Secret {
        /// The property.
        property: String,
        /// Why not.
        cause: SecretError,
    },
    /// librdkafka refuses the properties.
    #[error("librdkafka refuses the client's properties: {0}; correct [kafka.properties]")]
    Properties(String),
    /// The build has no embedded broker.
    #[error("this build has no embedded broker; build it with the feature `embedded-broker`, or name a broker in kafka.bootstrap")]
    NotBuiltIn,
    /// Nobody serves the embedded broker of this pipeline.
    #[error("the embedded broker of {} is not running; start it with `forebay run`, or name a broker in kafka.bootstrap", data_dir.display())]
    NotRunning {
        /// The pipeline's data directory.
        data_dir: PathBuf,
    },
    /// The embedded broker can't start, or stopped.
    #[error("the embedded broker can't {what}: {cause}")]
    Embedded {
        /// What it was to do.
        what: String,
        /// Why not.
        cause: String,
    },
    /// No server answered.
    #[error("kafka {servers} is not reachable: {cause}; see that it runs and that kafka.bootstrap is right")]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// Why not.
        cause: String,
    },
    /// The server refuses this client.
    #[error(
        "kafka {servers} refuses this client: {cause}; see to the credentials in [kafka.properties] and the ACLs of the topic and the group"
    )]
    Denied {
        /// The bootstrap servers.
        servers: String,
        /// Why.
        cause: String,
    },
    /// The topic isn't there.
    #[error("kafka {servers} has no topic {topic}; `forebay run` makes it, and so does `kafka-topics --create`")]
    NoTopic {
        /// The bootstrap servers.
        servers: String,
        /// The topic.
        topic: String,
    },
    /// The topic can't be made.
    #[error(
        "kafka {servers} can't make the topic {topic} with {partitions} partitions and {replication} replicas: {cause}; correct [kafka], or make the topic by hand"
    )]
    CantMakeTopic {
        /// The bootstrap servers.
        servers: String,
        /// The topic.
        topic: String,
        /// Partitions asked for.
        partitions: i32,
        /// Replicas asked for.
        replication: i32,
        /// Why not.
        cause: Code,
    },
    /// The group's offsets are its members' to set.
    #[error(
        "group {group} on kafka {servers} has members, and only they can set its offsets; stop every process of the group first (one that was \
         killed counts until its session times out, in 10 s)"
    )]
    GroupInUse {
        /// The bootstrap servers.
        servers: String,
        /// The consumer group.
        group: String,
    },
    /// Something else, as librdkafka says it.
    #[error("kafka {servers} can't {what}: {cause}")]
    Other {
        /// The bootstrap servers.
        servers: String,
        /// What it was to do.
        what: String,
        /// Why not.
        cause: Box<KafkaError>,
    },
}

impl Classified for BrokerError {
    fn class(&self) -> Class {
        match self {
            Self::Secret { .. } | Self::Properties(_) | Self::NotBuiltIn | Self::Denied { .. } => Class::Fatal,
            Self::CantMakeTopic { cause, .. } if !is_passing(*cause) => Class::Fatal,
            _ => Class::Transient,
        }
    }
}

impl BrokerError {
    /// The error of a call, told apart by its code; `trouble` is what the client last said of its connections.
    pub(super) fn of(servers: &str, what: &str, cause: KafkaError, trouble: Option<String>) -> Self {
        let servers = servers.to_owned();
        match (&cause, cause.rdkafka_error_code()) {
            (KafkaError::ClientConfig(_, said, property, _), _) => Self::Properties(format!("{property}: {said}")),
            (KafkaError::ClientCreation(said), _) => Self::Properties(said.clone()),
            (_, Some(code)) if is_denied(code) => Self::Denied { servers, cause: trouble.unwrap_or_else(|| code.to_string()) },
            (_, Some(code)) if is_away(code) => Self::Unreachable { servers, cause: trouble.unwrap_or_else(|| code.to_string()) },
            _ => Self::Other { servers, what: what.to_owned(), cause: Box::new(cause) },
        }
    }
}

/// Whether a server refuses this client, for good as far as the client can tell.
pub(super) fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

/// Whether no server answered.
pub(super) fn is_away(code: Code) -> bool {
    matches!(code, Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut | Code::RequestTimedOut)
}

/// Whether a refusal to make a topic passes by itself: a cluster that has too few brokers up, say, is not told from one too small,
/// but one that elects its controller is.
fn is_passing(code: Code) -> bool {
    is_away(code) || matches!(code, Code::NotController | Code::LeaderNotAvailable | Code::ThrottlingQuotaExceeded)
}
