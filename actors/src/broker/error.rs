//! Errors of Kafka.
//!
//! Guarantees:
//! * A message names the server and the remedy, and never the value of a secret.

use std::path::PathBuf;

use forebay_schemas::error_class::{Class, Classified};
use forebay_schemas::pipeline::SecretError;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// A broker that is unreachable or refuses a request.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A secret in `[kafka.properties]` can't be read.
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
    /// No process serves the embedded broker of this pipeline.
    #[error("the embedded broker of {} is not running; start it with `forebay run`, or name a broker in kafka.bootstrap", data_dir.display())]
    NotRunning {
        /// The pipeline's data directory.
        data_dir: PathBuf,
    },
    /// The embedded broker can't start, or stopped.
    #[error("the embedded broker can't {what}: {cause}")]
    Embedded {
        /// What it failed to do.
        what: String,
        /// Why not.
        cause: String,
    },
    /// No server answered.
    #[error(
        "kafka {servers} is not reachable: {cause}; check that it runs, that kafka.bootstrap is correct, and that security.protocol \
             is what the port expects"
    )]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// Why not.
        cause: String,
    },
    /// A server and this client don't agree on TLS.
    #[error("kafka {servers} is not reachable over TLS: {} (librdkafka: {cause})", tls_problem(cause))]
    Tls {
        /// The bootstrap servers.
        servers: String,
        /// What librdkafka reports.
        cause: String,
    },
    /// The server denies this client.
    #[error(
        "kafka {servers} denies this client: {cause}; check sasl.username and sasl.password in [kafka.properties], and the ACLs of the topic and the group"
    )]
    Denied {
        /// The bootstrap servers.
        servers: String,
        /// Why.
        cause: String,
    },
    /// The topic does not exist.
    #[error("kafka {servers} has no topic {topic}; create it with `forebay run` or `kafka-topics --create`")]
    NoTopic {
        /// The bootstrap servers.
        servers: String,
        /// The topic.
        topic: String,
    },
    /// The topic can't be created.
    #[error(
        "kafka {servers} can't create the topic {topic} with {partitions} partitions and {replication} replicas: {cause}; correct [kafka], or create the topic by hand"
    )]
    CreateTopic {
        /// The bootstrap servers.
        servers: String,
        /// The topic.
        topic: String,
        /// The requested partitions.
        partitions: i32,
        /// The requested replicas.
        replication: i32,
        /// Why not.
        cause: Code,
    },
    /// The group has members, and only they can set its offsets.
    #[error(
        "group {group} on kafka {servers} has members, and only they can set its offsets; stop every process of the group first (a killed \
         one counts until its session times out, after 10 s)"
    )]
    GroupInUse {
        /// The bootstrap servers.
        servers: String,
        /// The consumer group.
        group: String,
    },
    /// Any other error of librdkafka.
    #[error("kafka {servers} can't {what}: {cause}")]
    Other {
        /// The bootstrap servers.
        servers: String,
        /// What it failed to do.
        what: String,
        /// Why not.
        cause: Box<KafkaError>,
    },
}

impl Classified for BrokerError {
    fn class(&self) -> Class {
        match self {
            Self::Secret { .. } | Self::Properties(_) | Self::NotBuiltIn | Self::Denied { .. } => Class::Fatal,
            Self::CreateTopic { cause, replication, .. } if !is_transient(*cause, *replication) => Class::Fatal,
            _ => Class::Transient,
        }
    }
}

/// An error of a connection, as librdkafka reports it in the background. A call that fails for it
/// says only that no server answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectionError {
    pub(super) code: Code,
    pub(super) reason: String,
}

/// What is wrong with the properties of a client, without the value of one, which may be a secret;
/// `None` for any other error.
pub(crate) fn properties_problem(error: &KafkaError) -> Option<String> {
    match error {
        KafkaError::ClientConfig(_, description, property, _) => Some(format!("{property}: {description}")),
        KafkaError::ClientCreation(description) => Some(description.clone()),
        _ => None,
    }
}

impl BrokerError {
    /// The error of a failed call, by its code. `connection_error` is the last one of the client.
    pub(super) fn new(servers: &str, what: &str, cause: KafkaError, connection_error: Option<ConnectionError>) -> Self {
        let servers = servers.to_owned();
        if let (Some(code), Some(ConnectionError { code: cause, reason })) = (cause.rdkafka_error_code(), &connection_error)
            && is_unreachable(code)
        {
            let reason = reason.clone();
            match cause {
                cause if is_denied(*cause) => return Self::Denied { servers, cause: reason },
                // A certificate that the broker refuses after the handshake ends a read.
                cause if *cause == Code::SSL || reason.contains("SSL") => return Self::Tls { servers, cause: reason },
                _ => {}
            }
        }
        let connection_error = connection_error.map(|error| error.reason);
        if let Some(problem) = properties_problem(&cause) {
            return Self::Properties(problem);
        }
        match cause.rdkafka_error_code() {
            Some(code) if is_denied(code) => Self::Denied { servers, cause: connection_error.unwrap_or_else(|| code.to_string()) },
            Some(code) if is_unreachable(code) => {
                Self::Unreachable { servers, cause: connection_error.unwrap_or_else(|| code.to_string()) }
            }
            _ => Self::Other { servers, what: what.to_owned(), cause: Box::new(cause) },
        }
    }
}

/// What an error of TLS means, and what to do, by librdkafka's text.
fn tls_problem(reason: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["certificate verify failed"]) {
        "the broker's certificate is not trusted: set ssl.ca.location to the CA that signed it, or renew it if it has expired or is for \
         another host; `openssl s_client -CAfile CA -connect HOST:PORT` shows which"
    } else if says(&["alert bad certificate", "alert certificate", "alert unknown ca", "alert handshake failure"]) {
        "the broker does not accept the certificate of this client: set ssl.certificate.location and ssl.key.location to one that its CA \
         has signed and that has not expired"
    } else if says(&["closed by peer", "wrong version number"]) {
        "the broker ends the handshake, as a port without TLS does: correct security.protocol, or name the port of a TLS listener in \
         kafka.bootstrap"
    } else {
        "check security.protocol, ssl.ca.location, ssl.certificate.location and ssl.key.location in [kafka.properties]"
    }
}

/// Whether the server denies this client, permanently as far as the client can tell.
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
pub(super) fn is_unreachable(code: Code) -> bool {
    matches!(code, Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut | Code::RequestTimedOut)
}

/// Whether the failure to create a topic is transient: an election of the controller is. Too few
/// live brokers are not, since they can't be distinguished from too small a cluster, but for one
/// replica: there are none then, while they start or their controller has fenced them.
fn is_transient(code: Code, replication: i32) -> bool {
    is_unreachable(code)
        || matches!(code, Code::NotController | Code::LeaderNotAvailable | Code::ThrottlingQuotaExceeded)
        || code == Code::InvalidReplicationFactor && replication <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_no_live_broker_can_hold_is_waited_for_and_one_for_a_larger_cluster_is_not() {
        let class = |replication, cause| {
            let (servers, topic) = ("kafka:9092".to_owned(), "users".to_owned());
            BrokerError::CreateTopic { servers, topic, partitions: 4, replication, cause }.class()
        };
        assert_eq!(class(1, Code::InvalidReplicationFactor), Class::Transient);
        assert_eq!(class(3, Code::InvalidReplicationFactor), Class::Fatal);
        assert_eq!(class(3, Code::NotController), Class::Transient);
        assert_eq!(class(1, Code::InvalidPartitions), Class::Fatal);
    }
}
