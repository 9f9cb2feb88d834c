//! Errors of the writer.

use forebay_dataplane::store::StoreError;
use forebay_schemas::error_class::{Class, Classified};
use thiserror::Error;

/// A failure of the table or of the dead-letter topic.
#[derive(Debug, Error)]
pub(crate) enum WriterError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka is unreachable, slow or busy.
    #[error("kafka, dead-letter topic {topic}: {reason}")]
    Kafka {
        /// The dead-letter topic.
        topic: String,
        /// What happened.
        reason: String,
    },
    /// Kafka refuses dead letters until a person changes something.
    #[error("kafka, dead-letter topic {topic}: {reason}; {remedy}")]
    KafkaRefuses {
        /// The dead-letter topic.
        topic: String,
        /// What happened.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl Classified for WriterError {
    fn class(&self) -> Class {
        match self {
            Self::Store(error) => error.class(),
            Self::Kafka { .. } => Class::Transient,
            Self::KafkaRefuses { .. } => Class::Fatal,
        }
    }
}
