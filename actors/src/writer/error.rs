//! What can go wrong in the writer.

use forebay_dataplane::store::StoreError;
use forebay_schemas::failure::{Class, Classified};
use thiserror::Error;

/// Something wrong with the table or with the dead-letter topic.
#[derive(Debug, Error)]
pub enum WriterError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka is away, slow or busy.
    #[error("kafka, dead-letter topic {topic}: {what}")]
    Kafka {
        /// The dead-letter topic.
        topic: String,
        /// What happened.
        what: String,
    },
    /// Kafka will not take dead letters until somebody changes something.
    #[error("kafka, dead-letter topic {topic}: {what}; {remedy}")]
    KafkaRefuses {
        /// The dead-letter topic.
        topic: String,
        /// What happened.
        what: String,
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
