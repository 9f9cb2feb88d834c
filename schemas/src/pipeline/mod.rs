//! The pipeline file, `forebay.toml`: one section per actor, named as the actor's folder.
//!
//! [`load`] returns a [`Pipeline`] that is complete and consistent in itself, or a [`FileError`]
//! with the line and the remedy. It contacts no server and opens no other file: the code that uses
//! the SQL, the schema and the table checks those (`forebay check` runs all checks).
//!
//! * `sections`: the keys and their defaults.
//! * `checks`, `api_checks`, `paging_checks`, `secret_checks`, `writer_checks`: what must hold
//!   beyond that.
//! * `paging`, `request`: how `[fetcher]` asks for pages, and what its requests are made of.
//! * `error`: errors with their location.

mod api_checks;
mod checks;
mod error;
mod found_paging;
mod paging;
mod paging_checks;
mod request;
mod request_body;
mod secret;
mod secret_checks;
mod sections;
mod source_add;
mod source_auth;
mod source_checks;
mod source_incremental;
mod source_response;
mod source_window;
mod units;
mod writer_checks;
mod writer_nulls;
mod writer_table;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use checks::is_loopback;
pub use error::{ByteSpan, FileError, nearest};
pub use found_paging::FoundPaging;
pub use paging::{CursorSection, HeaderPlace, NextFetch, NextPage, Paging, PagingKind, PagingSection, Place, Scalar, TotalOf};
pub use request::{Method, QueryTemplate, QueryValue, RequestTemplates};
pub use request_body::{Body, BodyTemplate, form_value};
pub use secret::{Secret, SecretError};
pub use sections::{
    ApiSection, ApiTlsSection, BatchSection, CassandraSection, CassandraTlsSection, ConsistencyLevel, ConsumerSection, ContactPoints,
    DriftPolicy, FetcherSection, JournalSection, KafkaSection, LineageSection, PipelineSection, ProducerSection, Property,
    RESERVED_PROPERTIES, RetentionSection, SupervisorSection, TokensSection, TracesSection, TransformerSection, WriterSection,
};
pub use source_add::{AddedField, AddedValue, FieldSource, FieldTemplate};
pub use source_auth::{AuthSection, BasicSection, ClientAuth, OAuth2Section, SourceTlsSection};
pub use source_incremental::{IncrementalSection, OverlapValue};
pub use source_response::{BodyFormat, ErrorSection, RecordsSection, RequestRate, StatusesSection};
pub use source_window::WindowSection;
pub use units::{Bytes, HumanDuration};
pub use writer_checks::{COLUMN_NAMES, is_column_name};
pub use writer_nulls::{Nulls, NullsSection};
pub use writer_table::{ClusteringOrder, MAX_TTL_SECONDS, PrimaryKey, TableOption, Ttl};

/// A checked pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// `[pipeline]`
    #[serde(rename = "pipeline")]
    pub meta: PipelineSection,
    /// `[kafka]`
    pub kafka: KafkaSection,
    /// `[cassandra]`; present if the pipeline writes.
    pub cassandra: Option<CassandraSection>,
    /// `[fetcher]`; present, with `[producer]`, if the pipeline fetches.
    pub fetcher: Option<FetcherSection>,
    /// `[producer]`
    pub producer: Option<ProducerSection>,
    /// `[consumer]`; present, with `[transformer]`, `[writer]` and `[cassandra]`, if the pipeline
    /// writes.
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
    /// `[lineage]`; present if runs are exported.
    pub lineage: Option<LineageSection>,
    /// `[traces]`; present if spans are exported.
    pub traces: Option<TracesSection>,
    /// The file's text and path, for errors found later.
    #[serde(skip)]
    pub source: FileText,
}

/// The file's text and path, so that an error found later, as in the SQL, can point into it.
#[derive(Clone, Default)]
pub struct FileText {
    /// The path of the file.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// Prints the path; the text may hold secrets.
impl std::fmt::Debug for FileText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileText").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// The data directory, as an absolute or process-relative path.
    pub fn data_dir(&self) -> PathBuf {
        self.relative(&self.meta.data_dir)
    }

    /// Resolves a path of the file, relative to the file's directory.
    pub fn relative(&self, path: &Path) -> PathBuf {
        self.source.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Whether the pipeline has the half from the source to the topic.
    pub fn ingests(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Whether the pipeline has the half from the topic to the table.
    pub fn writes(&self) -> bool {
        self.consumer.is_some()
    }

    /// An error at a key of the file, such as `error_at(&["transformer", "sql"], …)`.
    pub fn error_at(&self, key: &[&str], message: impl Into<String>, help: impl Into<String>) -> FileError {
        FileError::at_key(&self.source, key, message, help)
    }

    /// An error inside the text of a key's value, such as at a word of the SQL.
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
/// When the file can't be read or is not TOML, has an unknown key or a value of the wrong type or
/// out of range, or lacks a section that another one needs. The error has the location and the
/// remedy.
pub fn load(path: &Path) -> Result<Pipeline, FileError> {
    let text = std::fs::read_to_string(path).map_err(|cause| FileError::unreadable(path, &cause))?;
    parse(path, text)
}

/// Checks the text of a pipeline file at `path`, which need not exist.
///
/// # Errors
/// Like [`load`].
pub fn parse(path: &Path, text: String) -> Result<Pipeline, FileError> {
    let source = FileText { path: path.into(), text };
    let mut pipeline: Pipeline = toml::from_str(&source.text).map_err(|cause| FileError::from_toml(&source, &cause))?;
    pipeline.source = source;
    checks::check(&pipeline)?;
    Ok(pipeline)
}

#[cfg(test)]
mod paging_tests;
#[cfg(test)]
mod tests;
