//! The pipeline file, `forebay.toml`: one table an actor, named as its folder.
//!
//! [`load`] gives a [`Pipeline`] that is complete and consistent in itself, or a [`FileError`] that points at the line and says what
//! to write instead. It asks no server and opens no file but the pipeline file: whether the SQL plans, the schema parses and the
//! table fits is checked by those who use them (`forebay check` runs them all).
//!
//! `tables`: the keys and what they are when left out. `checks`: what must hold beyond that. `error`: errors with their place.

mod checks;
mod error;
mod nulls;
mod secret;
mod sections;
mod units;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use checks::is_loopback;
pub use error::{ByteSpan, FileError, nearest};
pub use nulls::{Nulls, NullsSection};
pub use secret::{Secret, SecretError};
pub use sections::{
    ApiSection, BatchSection, CassandraSection, ConsistencyLevel, ConsumerSection, ContactPoints, CursorSection, FetcherSection,
    JournalSection, KafkaSection, LineageSection, PipelineSection, ProducerSection, Property, RESERVED_PROPERTIES, RetentionSection,
    SupervisorSection, TokensSection, TracesSection, TransformerSection, WriterSection,
};
pub use units::{Bytes, HumanDuration};

/// A whole pipeline file, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// `[pipeline]`
    #[serde(rename = "pipeline")]
    pub meta: PipelineSection,
    /// `[kafka]`
    pub kafka: KafkaSection,
    /// `[cassandra]`; there when the pipeline writes.
    pub cassandra: Option<CassandraSection>,
    /// `[fetcher]`; there with `[producer]` when the pipeline fetches.
    pub fetcher: Option<FetcherSection>,
    /// `[producer]`
    pub producer: Option<ProducerSection>,
    /// `[consumer]`; there with `[transformer]`, `[writer]` and `[cassandra]` when the pipeline writes.
    pub consumer: Option<ConsumerSection>,
    /// `[transformer]`
    pub transformer: Option<TransformerSection>,
    /// `[writer]`
    pub writer: Option<WriterSection>,
    /// `[supervisor]`
    #[serde(default)]
    pub supervisor: SupervisorSection,
    /// `[api]`
    #[serde(default)]
    pub api: ApiSection,
    /// `[journal]`
    #[serde(default)]
    pub journal: JournalSection,
    /// `[lineage]`; there when runs are told of to others.
    pub lineage: Option<LineageSection>,
    /// `[traces]`; there when spans are told of to a collector.
    pub traces: Option<TracesSection>,
    /// The file's text and place, for errors found later.
    #[serde(skip)]
    pub source: FileText,
}

/// The file's text and place, so that an error found later (in the SQL, say) can point into it.
#[derive(Debug, Clone, Default)]
pub struct FileText {
    /// Where the file is.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Pipeline {
    /// The data directory, as an absolute or process-relative path.
    pub fn data_dir(&self) -> PathBuf {
        self.relative(&self.meta.data_dir)
    }

    /// A path of the file, taken from where the file is.
    pub fn relative(&self, path: &Path) -> PathBuf {
        self.source.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Whether the pipeline has the half from the API into the topic.
    pub fn ingests(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Whether the pipeline has the half from the topic into the table.
    pub fn writes(&self) -> bool {
        self.consumer.is_some()
    }

    /// An error at a key of the file, such as `at(&["transformer", "sql"], …)`.
    pub fn error_at(&self, key: &[&str], message: impl Into<String>, help: impl Into<String>) -> FileError {
        FileError::at_key(&self.source, key, message, help)
    }

    /// An error at a place inside the text that is the value of a key, such as a word of the SQL.
    pub fn error_inside(
        &self,
        key: &[&str],
        value: &str,
        inside: ByteSpan,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> FileError {
        FileError::inside_value(&self.source, key, value, inside, message, help)
    }
}

/// Reads and checks a pipeline file.
///
/// # Errors
/// When the file can't be read, is not TOML, has an unknown key, a value of the wrong kind or out of its range, or lacks a table that
/// another one needs. The error points at the place and names the remedy.
pub fn load(path: &Path) -> Result<Pipeline, FileError> {
    let text = std::fs::read_to_string(path).map_err(|cause| FileError::unreadable(path, &cause))?;
    parse(path, text)
}

/// Checks the text of a pipeline file that is (or would be) at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: String) -> Result<Pipeline, FileError> {
    let source = FileText { path: path.into(), text };
    let mut pipeline: Pipeline = toml::from_str(&source.text).map_err(|cause| FileError::from_toml(&source, &cause))?;
    pipeline.source = source;
    checks::check(&pipeline)?;
    Ok(pipeline)
}

#[cfg(test)]
mod tests;
