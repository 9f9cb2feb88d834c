//! The sections of the pipeline file (TOML calls them tables): their keys, meanings and defaults.
//!
//! Guarantee: an unknown key is an error.
//!
//! Does not guarantee that a value is in range, or that the sections fit together; `checks` does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{
    AddedField, AuthSection, Body, BodyFormat, Bytes, ClusteringOrder, CursorSection, ErrorSection, FoundPaging, HumanDuration,
    IncrementalSection, Method, NullsSection, PagingSection, PrimaryKey, QueryValue, RecordsSection, RequestRate, Secret, SourceTlsSection,
    StatusesSection, TableOption, Ttl, WindowSection, paging, source_response,
};
use crate::http_url::HttpUrl;
use crate::run::MaxRejected;

/// `[pipeline]`: the pipeline's name, and where it stores what must outlive the process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSection {
    /// 1 to 64 letters, digits, `-` and `_`; names the pipeline in the API, the monitor and record
    /// headers.
    pub name: String,
    /// Directory of the journal, the embedded broker and the embedded store; relative to the file.
    /// Default `.forebay`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
}

/// `[kafka]`: the topic and its broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSection {
    /// `embedded`, or `host:port` pairs separated by commas.
    pub bootstrap: String,
    /// The topic that the records pass through; also the table's name in the SQL.
    pub topic: String,
    /// Partitions of the topic if it is created; 1 to 10,000. Default 4.
    #[serde(default = "default_partitions")]
    pub partitions: i32,
    /// Replicas of the topic if it is created. Default 1.
    #[serde(default = "default_replication")]
    pub replication: i32,
    /// The dead-letter topic. Default: the topic's name plus `.dead`.
    pub dead_letter_topic: Option<String>,
    /// Retention of the embedded broker; with a real broker, the topics' own settings apply.
    /// Default: see [`RetentionSection`].
    pub retention: Option<RetentionSection>,
    /// Further librdkafka properties for every client, such as `security.protocol`. Those that
    /// Forebay's guarantees rely on are refused, and so are passwords and keys as text.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// `[kafka] retention`: retention of the embedded broker. Records that the pipeline has not yet
/// written are kept regardless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    /// The maximum size of all topics together, indexes included; 16 MiB to 1 PiB. Default 1 GiB.
    pub bytes: Bytes,
    /// The maximum age of a record or dead letter; a minute to 100 years. Default 7 days.
    pub time: HumanDuration,
}

/// A value in `[kafka.properties]`: plain text, or a reference to a secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Property {
    /// Plain text.
    Plain(String),
    /// A reference to a secret.
    Secret(Secret),
}

/// `[cassandra]`: the keyspace and its servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassandraSection {
    /// `"embedded"`, or a list of `host:port`.
    pub contact_points: ContactPoints,
    /// The keyspace.
    pub keyspace: String,
    /// Whether to create keyspace and table if they are missing. Default false.
    #[serde(default)]
    pub create: bool,
    /// Replicas per datacenter of the keyspace if it is created. Default 1.
    #[serde(default = "default_replication")]
    pub replication: i32,
    /// The datacenter whose nodes are sent requests. Absent: those of all datacenters.
    pub datacenter: Option<String>,
    /// Whether nodes of other datacenters are sent requests while none of `datacenter` is up.
    /// Default false.
    #[serde(default)]
    pub datacenter_failover: bool,
    /// User for password authentication.
    pub username: Option<Secret>,
    /// Password for it.
    pub password: Option<Secret>,
    /// Whether the password may cross a network without TLS. Default false.
    #[serde(default)]
    pub plaintext_password: bool,
    /// TLS of the connections. Absent: no TLS.
    pub tls: Option<CassandraTlsSection>,
}

/// `[cassandra.tls]`: TLS of the connections to Cassandra. Paths are relative to the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassandraTlsSection {
    /// PEM file of the CAs that issue the nodes' certificates. Absent: the CAs of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate and its intermediate CAs. Absent: none is sent.
    pub certificate: Option<PathBuf>,
    /// PEM file of the private key of `certificate`, not encrypted.
    pub key: Option<PathBuf>,
    /// The name that the certificate of each node must have. Absent: the node's IP address.
    pub hostname: Option<String>,
    /// Whether a certificate must have the name or address at all; the CA is always verified.
    /// Default true.
    #[serde(default = "default_true")]
    pub verify_hostname: bool,
}

/// The address of Cassandra.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ContactPoints {
    /// Must be the word `embedded`: the table is in a file in `data_dir`.
    Word(String),
    /// A list of `host:port`.
    Servers(Vec<String>),
}

/// `[fetcher]`: the HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetcherSection {
    /// The URL to request; without a user or a password. Its path and its query may be templates.
    pub url: HttpUrl,
    /// The method of the requests: `GET` or `POST`. Default `GET`.
    #[serde(default)]
    pub method: Method,
    /// Further query parameters: texts, which may be templates, numbers, true and false, lists of
    /// texts, or references to secrets. They replace those of `url`. Default none.
    #[serde(default)]
    pub query: BTreeMap<String, QueryValue>,
    /// The body of a POST: a text, or a table that becomes JSON; its texts may be templates.
    /// Absent: no body.
    pub body: Option<Body>,
    /// JSON pointer (RFC 6901) to the records in the response; empty if the response is the array
    /// of records. See [`RecordsSection`]. Default empty.
    #[serde(default)]
    pub records: RecordsSection,
    /// How the body is read. Absent: by its content type; JSON by default.
    pub format: Option<BodyFormat>,
    /// What separates the fields of a CSV row, one ASCII character. Default a comma.
    pub delimiter: Option<char>,
    /// Where a JSON response says that the request failed. Absent: by common names, in a response
    /// without records.
    #[serde(default, deserialize_with = "source_response::error")]
    pub error: Option<ErrorSection>,
    /// What a status means. Default: see [`StatusesSection`].
    #[serde(default)]
    pub statuses: StatusesSection,
    /// The most requests in a period. Absent: only the limits that the API names.
    pub rate_limit: Option<RequestRate>,
    /// How long a run retries a page, and waits for a rate limit of the API, before it fails; 0 to
    /// 24 h. Default 5 min.
    #[serde(default = "default_max_wait")]
    pub max_wait: HumanDuration,
    /// The maximum number of requests for one page of a run; 1 to 1,000. Absent: as many as fit
    /// into `max_wait`.
    pub max_attempts: Option<u32>,
    /// Authentication. Absent: only what `headers` say.
    pub auth: Option<AuthSection>,
    /// TLS of the connections. Absent: the CAs of the system, and no client certificate.
    pub tls: Option<SourceTlsSection>,
    /// How the API paginates, in its older spelling. Use [`FetcherSection::paging()`] instead.
    pub cursor: Option<CursorSection>,
    /// How the API paginates, or `"auto"`; absent: a fetch is one page.
    /// [`FetcherSection::paging()`] has its meaning.
    #[serde(default, deserialize_with = "paging::section")]
    pub paging: Option<PagingSection>,
    /// What `paging = "auto"` has found, once it has.
    #[serde(skip)]
    pub found_paging: Option<FoundPaging>,
    /// The maximum number of pages in one fetch; 1 to 100,000. The rest is left to the next fetch,
    /// and this one reports that it was cut short. Default 100,000.
    #[serde(default = "default_max_pages")]
    pub max_pages: u32,
    /// The maximum number of pages that are requested before an earlier one is in Kafka and its
    /// cursor on disk; 0 to 64. A crash requests as many again, and one. Set it to 0 where a
    /// request tells the API that the page before it may be deleted. Default 8.
    #[serde(default = "default_fetch_ahead")]
    pub fetch_ahead: u32,
    /// The maximum number of fetches at the same time, each of another read: of other params or
    /// another window; 1 to 16. They share `rate_limit` and the budget. Their records reach the
    /// topic in any order. Default 1.
    #[serde(default = "default_max_active_runs")]
    pub max_active_runs: u32,
    /// The fixed period of scheduled fetches; absent: only triggered fetches.
    pub every: Option<HumanDuration>,
    /// The timeout of one request, headers and body. Default 30 s.
    #[serde(default = "default_fetch_timeout")]
    pub timeout: HumanDuration,
    /// The maximum size of a JSON response, decompressed, and of a part of any other. Default 16
    /// MiB.
    #[serde(default = "default_page_bytes")]
    pub max_page_bytes: Bytes,
    /// Whether the name in `url` may have an address that is not public, such as that of a service
    /// in a cluster. A URL with an address or `localhost` needs no permission. Default false.
    #[serde(default)]
    pub allow_private: bool,
    /// Headers to send; a secret only as a reference. A text may be a template.
    #[serde(default)]
    pub headers: BTreeMap<String, Property>,
    /// What a run may set for its own pages: `{{ params.NAME }}` in templates; without a template,
    /// the query parameter of that name. Default none.
    #[serde(default)]
    pub params: Vec<String>,
    /// Fields that each record gets from outside, by name: texts, which may be templates, numbers,
    /// true and false, and headers of the answer. Default none.
    #[serde(default)]
    pub add: BTreeMap<String, AddedField>,
    /// How `{{ window.start }}` and `{{ window.end }}` are written. Default: see [`WindowSection`].
    pub window: Option<WindowSection>,
    /// Whether a fetch asks for the answer only if that has changed, by the `ETag` and the
    /// `Last-Modified` of the last one. Default false.
    #[serde(default)]
    pub conditional: bool,
    /// How each fetch asks only for what is new. Absent: a fetch asks for everything, from the
    /// cursor of its read on.
    pub incremental: Option<IncrementalSection>,
    /// The maximum number of dead letters in a run, or a share of the fetched records such as
    /// `"5%"`; a run may override it. Absent: a run fails if every record is rejected.
    pub max_rejected: Option<MaxRejected>,
}

/// `[producer]`: into the topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerSection {
    /// JSON pointer (RFC 6901) into a record, to its key in the topic.
    pub key: String,
    /// The maximum size of a record. Default 1,000,000 bytes, just under the brokers' default
    /// limit.
    #[serde(default = "default_record_bytes")]
    pub max_record_bytes: Bytes,
    /// The maximum bytes of pages between the fetcher and Kafka's acknowledgement. Default 32 MiB.
    #[serde(default = "default_producer_budget")]
    pub budget: Bytes,
}

/// `[consumer]`: out of the topic, in micro-batches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSection {
    /// The consumer group.
    pub group: String,
    /// When a micro-batch is sealed.
    #[serde(default)]
    pub batch: BatchSection,
    /// The maximum bytes of records that are read from the topic and not yet written. Default 32
    /// MiB.
    #[serde(default = "default_consumer_budget")]
    pub budget: Bytes,
}

/// `[consumer] batch`: a batch is sealed by the limit that is reached first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSection {
    /// The maximum number of records. Default 10,000.
    pub max_records: usize,
    /// The maximum number of bytes. Default 8 MiB.
    pub max_bytes: Bytes,
    /// How long a batch waits for more records. Default 5 ms.
    pub max_wait: HumanDuration,
}

/// `[transformer]`: SQL from records to rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerSection {
    /// The JSON Schema of one record; relative to the file.
    pub schema: PathBuf,
    /// A SELECT from the topic.
    pub sql: String,
    /// What becomes of a record with a field that the schema does not have. Default `warn`.
    #[serde(default)]
    pub drift: DriftPolicy,
}

/// What becomes of a record with a field that the schema does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftPolicy {
    /// The field is left out, and nobody is told.
    Ignore,
    /// The field is left out, and reported once: in the log, the journal and the status.
    #[default]
    Warn,
    /// The field is reported, and each record with it is a dead letter.
    Reject,
}

/// `[writer]`: into the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterSection {
    /// The table.
    pub table: String,
    /// The primary key as CQL writes it: `["id", "at"]`, or `[["tenant", "id"], "at"]` with a
    /// partition key of several columns.
    pub primary_key: PrimaryKey,
    /// The order of clustering columns, such as `["at desc"]`. The others are ascending.
    #[serde(default)]
    pub clustering_order: Vec<ClusteringOrder>,
    /// The columns that all rows of a partition share.
    #[serde(default, rename = "static")]
    pub statics: Option<Vec<String>>,
    /// Options of a table that is created, such as `{ gc_grace_seconds = 3600 }`.
    #[serde(default)]
    pub options: BTreeMap<String, TableOption>,
    /// CQL types of columns, where they don't follow from the SQL.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// How to write a column for which a row has no value: `"write"`, `"unset"`, or a table of
    /// columns. Default `"write"`.
    #[serde(default)]
    pub nulls: NullsSection,
    /// How long rows are kept: `"30d"`, or `{ column = "keep_seconds" }`. By default as long as the
    /// table's own `default_time_to_live` says.
    #[serde(default)]
    pub ttl: Option<Ttl>,
    /// The consistency level of writes. Default `LOCAL_QUORUM`.
    #[serde(default)]
    pub consistency: ConsistencyLevel,
    /// The maximum number of rows in one UNLOGGED batch; 1 to 500. Default 50.
    #[serde(default = "default_batch_rows")]
    pub batch_rows: usize,
    /// The maximum number of requests in flight; 1 to 1,024. Default 8.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
}

/// A consistency level for writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are Cassandra's")]
pub enum ConsistencyLevel {
    One,
    Two,
    Three,
    Quorum,
    All,
    #[default]
    LocalQuorum,
    EachQuorum,
    LocalOne,
}

impl ConsistencyLevel {
    /// Its name in CQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "ONE",
            Self::Two => "TWO",
            Self::Three => "THREE",
            Self::Quorum => "QUORUM",
            Self::All => "ALL",
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::EachQuorum => "EACH_QUORUM",
            Self::LocalOne => "LOCAL_ONE",
        }
    }
}

/// `[supervisor]`: how often a part of the tree may fail before its supervisor escalates. The rules
/// are OTP's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisorSection {
    /// Restarts that a supervisor allows in the window. Default 5.
    pub max_restarts: u32,
    /// The window. Default 60 s.
    pub within: HumanDuration,
    /// The first delay before a restart. Default 200 ms.
    pub backoff_min: HumanDuration,
    /// The maximum delay before a restart. Default 30 s.
    pub backoff_max: HumanDuration,
    /// After running this long, the next delay is the first again. Default 60 s.
    pub backoff_reset: HumanDuration,
    /// How long an actor may take to stop. Default 10 s.
    pub shutdown: HumanDuration,
}

/// `[api]`: the control API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSection {
    /// `host:port`, or `unix:PATH` relative to the file. Other than loopback only with `tokens`.
    /// Default `127.0.0.1:7070`.
    pub listen: String,
    /// TLS of the connections. Absent: plain HTTP.
    pub tls: Option<ApiTlsSection>,
    /// The callers' tokens, one per role.
    pub tokens: TokensSection,
    /// Host names that are served, besides loopback and the listen address: `name:port`, or `name`
    /// for any port. Default none.
    pub hosts: Vec<String>,
    /// Origins whose pages are served, such as `https://ops.example.org`. Default none.
    pub origins: Vec<String>,
    /// JSON pointers (RFC 6901) into a record, to fields that the API shows as `"***"`. Default
    /// none.
    pub mask: Vec<String>,
}

/// `[api] tls`: the certificate that the API presents. Paths are relative to the file; both files
/// are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTlsSection {
    /// PEM file of the certificate and its intermediate CAs.
    pub certificate: PathBuf,
    /// PEM file of the private key of `certificate`, not encrypted.
    pub key: PathBuf,
}

/// `[api] tokens`: the roles of callers. Without tokens, every caller that reaches the API may do
/// everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokensSection {
    /// May read.
    pub viewer: Option<Secret>,
    /// May also request and cancel runs, pause and resume.
    pub operator: Option<Secret>,
    /// May also restart actors and apply plans.
    pub admin: Option<Secret>,
}

impl TokensSection {
    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.viewer.is_none() && self.operator.is_none() && self.admin.is_none()
    }
}

impl ApiSection {
    /// The path of the socket, if it listens on one.
    pub fn socket(&self) -> Option<&str> {
        self.listen.strip_prefix("unix:")
    }
}

/// `[journal]`: the events that outlive the process, in `data_dir/journal`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSection {
    /// The size at which a new segment is started and a snapshot taken; 64 KiB to 1 GiB. Default 16
    /// MiB.
    pub segment: Bytes,
    /// How much history is kept besides the active segment: older segments are removed once a
    /// snapshot covers them. Default 256 MiB.
    pub keep: Bytes,
}

/// `[lineage]`: where runs are exported to as OpenLineage events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineageSection {
    /// The URL that events are posted to, such as `http://127.0.0.1:5000/api/v1/lineage`; this or
    /// `file`.
    pub url: Option<HttpUrl>,
    /// The file that events are appended to, one per line; relative to the pipeline file.
    pub file: Option<PathBuf>,
    /// The namespace of the job. Default `forebay`.
    #[serde(default = "default_lineage_namespace")]
    pub namespace: String,
    /// Sent as `Authorization: Bearer …`; only with `url`.
    pub token: Option<Secret>,
}

/// `[traces]`: where batches and runs are exported to as spans.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesSection {
    /// The OTLP/HTTP endpoint of an OpenTelemetry collector, such as
    /// `http://127.0.0.1:4318/v1/traces`.
    pub url: HttpUrl,
}

fn default_lineage_namespace() -> String {
    "forebay".into()
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { segment: Bytes(16 << 20), keep: Bytes(256 << 20) }
    }
}

impl Default for BatchSection {
    fn default() -> Self {
        Self { max_records: 10_000, max_bytes: Bytes(8 << 20), max_wait: HumanDuration(Duration::from_millis(5)) }
    }
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self { bytes: Bytes(1 << 30), time: HumanDuration(Duration::from_secs(7 * 24 * 60 * 60)) }
    }
}

impl Default for SupervisorSection {
    fn default() -> Self {
        Self {
            max_restarts: 5,
            within: HumanDuration(Duration::from_secs(60)),
            backoff_min: HumanDuration(Duration::from_millis(200)),
            backoff_max: HumanDuration(Duration::from_secs(30)),
            backoff_reset: HumanDuration(Duration::from_secs(60)),
            shutdown: HumanDuration(Duration::from_secs(10)),
        }
    }
}

impl Default for ApiSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7070".into(), tls: None, tokens: TokensSection::default(), hosts: vec![], origins: vec![], mask: vec![] }
    }
}

fn default_data_dir() -> PathBuf {
    ".forebay".into()
}
fn default_partitions() -> i32 {
    4
}
fn default_replication() -> i32 {
    1
}
fn default_true() -> bool {
    true
}
fn default_max_pages() -> u32 {
    100_000
}
fn default_fetch_ahead() -> u32 {
    8
}
fn default_max_active_runs() -> u32 {
    1
}
fn default_max_wait() -> HumanDuration {
    HumanDuration(Duration::from_secs(300))
}
fn default_fetch_timeout() -> HumanDuration {
    HumanDuration(Duration::from_secs(30))
}
fn default_page_bytes() -> Bytes {
    Bytes(16 << 20)
}
fn default_record_bytes() -> Bytes {
    Bytes(1_000_000)
}
fn default_producer_budget() -> Bytes {
    Bytes(32 << 20)
}
fn default_consumer_budget() -> Bytes {
    Bytes(32 << 20)
}
fn default_batch_rows() -> usize {
    50
}
fn default_in_flight() -> usize {
    8
}

/// The librdkafka properties that Forebay sets itself, because its guarantees rely on them.
pub const RESERVED_PROPERTIES: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "transactional.id",
];

impl KafkaSection {
    /// Whether the broker is inside the process.
    pub fn is_embedded(&self) -> bool {
        self.bootstrap == "embedded"
    }

    /// The retention of the embedded broker.
    pub fn retention(&self) -> RetentionSection {
        self.retention.unwrap_or_default()
    }

    /// The dead-letter topic.
    pub fn dead_letter_topic(&self) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| format!("{}.dead", self.topic))
    }
}

impl CassandraSection {
    /// Whether the table is in a file on this machine.
    pub fn is_embedded(&self) -> bool {
        matches!(self.contact_points, ContactPoints::Word(_))
    }

    /// How the connections are protected, in words.
    pub fn transport(&self) -> &'static str {
        match &self.tls {
            None => "no TLS",
            Some(tls) if tls.verify_hostname => "TLS",
            Some(_) => "TLS, names of certificates not verified",
        }
    }
}
