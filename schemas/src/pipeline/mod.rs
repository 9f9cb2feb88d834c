//! The pipeline file, `forebay.toml`: one table an actor, named as its folder.
//!
//! [`load`] gives a [`Pipeline`] that is complete and consistent in itself, or a [`FileError`] that points at the line and says what
//! to write instead. It asks no server and opens no file but the pipeline file: whether the SQL plans, the schema parses and the
//! table fits is checked by those who use them (`forebay check` runs them all).

mod error;
mod secret;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use error::{FileError, Spot, nearest};
pub use secret::{Secret, SecretError};
pub use units::{Bytes, Span};

/// A whole pipeline file, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// `[pipeline]`
    #[serde(rename = "pipeline")]
    pub meta: PipelineTable,
    /// `[kafka]`
    pub kafka: KafkaTable,
    /// `[cassandra]`; there when the pipeline writes.
    pub cassandra: Option<CassandraTable>,
    /// `[fetcher]`; there with `[producer]` when the pipeline fetches.
    pub fetcher: Option<FetcherTable>,
    /// `[producer]`
    pub producer: Option<ProducerTable>,
    /// `[consumer]`; there with `[transformer]`, `[writer]` and `[cassandra]` when the pipeline writes.
    pub consumer: Option<ConsumerTable>,
    /// `[transformer]`
    pub transformer: Option<TransformerTable>,
    /// `[writer]`
    pub writer: Option<WriterTable>,
    /// `[supervisor]`
    #[serde(default)]
    pub supervisor: SupervisorTable,
    /// `[api]`
    #[serde(default)]
    pub api: ApiTable,
    /// `[journal]`
    #[serde(default)]
    pub journal: JournalTable,
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

/// `[pipeline]`: what the pipeline is called and where it keeps what must outlive the process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineTable {
    /// 1 to 64 letters, digits, `-` and `_`; names the pipeline in the API, the monitor and record headers.
    pub name: String,
    /// Journal, embedded broker and embedded store; relative to the file. Default `.forebay`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
}

/// `[kafka]`: the topic and its broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTable {
    /// `embedded`, or `host:port` pairs separated by commas.
    pub bootstrap: String,
    /// The topic the records pass through; also the table's name in the SQL.
    pub topic: String,
    /// Partitions to make the topic with, when it is missing; 1 to 10,000. Default 4.
    #[serde(default = "default_partitions")]
    pub partitions: i32,
    /// Replicas to make the topic with, when it is missing. Default 1.
    #[serde(default = "default_replication")]
    pub replication: i32,
    /// The dead-letter topic. Default: the topic's name and `.dead`.
    pub dead_letter_topic: Option<String>,
    /// More properties of librdkafka for every client, such as `security.protocol`; the ones Forebay's guarantees rest on are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// A value in `[kafka.properties]`: text in the open, or a reference to a secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Property {
    /// Text that may be seen.
    Plain(String),
    /// A reference.
    Secret(Secret),
}

/// `[cassandra]`: the keyspace and its servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassandraTable {
    /// `"embedded"`, or a list of `host:port`.
    pub contact_points: ContactPoints,
    /// The keyspace.
    pub keyspace: String,
    /// Whether to make keyspace and table when they are missing. Default false.
    #[serde(default)]
    pub create: bool,
    /// Replicas a datacenter to make the keyspace with, when it is missing. Default 1.
    #[serde(default = "default_replication")]
    pub replication: i32,
    /// User for password authentication.
    pub username: Option<Secret>,
    /// Password for it.
    pub password: Option<Secret>,
}

/// Where Cassandra is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ContactPoints {
    /// Must be the word `embedded`: the table is in a file in `data_dir`.
    Word(String),
    /// `host:port` each.
    Servers(Vec<String>),
}

/// `[fetcher]`: the HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetcherTable {
    /// What to GET.
    pub url: String,
    /// JSON pointer (RFC 6901) to the array of records in the answer; empty when the answer is the array. Default empty.
    #[serde(default)]
    pub records: String,
    /// The fixed time from one scheduled fetch to the next; absent: only when triggered.
    pub every: Option<Span>,
    /// Time-out of one request, headers and body. Default 30 s.
    #[serde(default = "default_fetch_timeout")]
    pub timeout: Span,
    /// The largest answer, after decompression. Default 16 MiB.
    #[serde(default = "default_page_bytes")]
    pub max_page_bytes: Bytes,
    /// Headers to send; a secret only as a reference.
    #[serde(default)]
    pub headers: BTreeMap<String, Property>,
}

/// `[producer]`: into the topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducerTable {
    /// JSON pointer (RFC 6901) into a record, to the key it gets in the topic.
    pub key: String,
    /// The largest record. Default 1,000,000 bytes, just under what brokers accept unless told otherwise.
    #[serde(default = "default_record_bytes")]
    pub max_record_bytes: Bytes,
    /// The most bytes of pages between the fetcher and Kafka's acknowledgement. Default 32 MiB.
    #[serde(default = "default_producer_budget")]
    pub budget: Bytes,
}

/// `[consumer]`: out of the topic, in micro-batches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerTable {
    /// The consumer group.
    pub group: String,
    /// When a micro-batch is cut.
    #[serde(default)]
    pub batch: BatchTable,
    /// The most bytes of records read from the topic and not yet written. Default 64 MiB.
    #[serde(default = "default_consumer_budget")]
    pub budget: Bytes,
}

/// `[consumer] batch`: a batch is cut by whichever comes first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchTable {
    /// The most records. Default 10,000.
    pub max_records: usize,
    /// The most bytes. Default 8 MiB.
    pub max_bytes: Bytes,
    /// The longest wait for more when the topic has none. Default 5 ms.
    pub max_wait: Span,
}

/// `[transformer]`: SQL from records to rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerTable {
    /// The JSON Schema of one record; relative to the file.
    pub schema: PathBuf,
    /// A SELECT from the topic.
    pub sql: String,
}

/// `[writer]`: into the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterTable {
    /// The table.
    pub table: String,
    /// The columns of the primary key, the first being the partition key.
    pub primary_key: Vec<String>,
    /// CQL types of columns where they do not follow from the SQL.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// The consistency level of writes. Default `LOCAL_QUORUM`.
    #[serde(default)]
    pub consistency: ConsistencyLevel,
    /// Rows in one UNLOGGED batch, at most; 1 to 500. Default 50.
    #[serde(default = "default_batch_rows")]
    pub batch_rows: usize,
    /// Requests in flight, at most; 1 to 1,024. Default 8.
    #[serde(default = "default_in_flight")]
    pub in_flight: usize,
}

/// A consistency level a write can have.
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

/// `[supervisor]`: how often a part of the tree may fail before its parent is told. The rules are OTP's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisorTable {
    /// Restarts allowed in the window, a supervisor. Default 5.
    pub max_restarts: u32,
    /// The window. Default 60 s.
    pub within: Span,
    /// The first delay before a restart. Default 200 ms.
    pub backoff_min: Span,
    /// The longest. Default 30 s.
    pub backoff_max: Span,
    /// Health for so long makes the next delay the first again. Default 60 s.
    pub backoff_reset: Span,
    /// What an actor gets to end its work when asked to stop. Default 10 s.
    pub shutdown: Span,
}

/// `[api]`: the control API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiTable {
    /// `host:port`; only loopback, for there is no token yet. Default `127.0.0.1:7070`.
    pub listen: String,
}

/// `[journal]`: the events that outlive the process, in `data_dir/journal`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalTable {
    /// The size at which a new segment is begun, and a snapshot taken; 64 KiB to 1 GiB. Default 16 MiB.
    pub segment: Bytes,
    /// How much history is kept beside the segment that is written: older segments are removed once a snapshot covers them. Default 256 MiB.
    pub keep: Bytes,
}

impl Default for JournalTable {
    fn default() -> Self {
        Self { segment: Bytes(16 << 20), keep: Bytes(256 << 20) }
    }
}

impl Default for BatchTable {
    fn default() -> Self {
        Self { max_records: 10_000, max_bytes: Bytes(8 << 20), max_wait: Span(Duration::from_millis(5)) }
    }
}

impl Default for SupervisorTable {
    fn default() -> Self {
        Self {
            max_restarts: 5,
            within: Span(Duration::from_secs(60)),
            backoff_min: Span(Duration::from_millis(200)),
            backoff_max: Span(Duration::from_secs(30)),
            backoff_reset: Span(Duration::from_secs(60)),
            shutdown: Span(Duration::from_secs(10)),
        }
    }
}

impl Default for ApiTable {
    fn default() -> Self {
        Self { listen: "127.0.0.1:7070".into() }
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
fn default_fetch_timeout() -> Span {
    Span(Duration::from_secs(30))
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
    Bytes(64 << 20)
}
fn default_batch_rows() -> usize {
    50
}
fn default_in_flight() -> usize {
    8
}

/// The properties of librdkafka that Forebay sets itself, because its guarantees rest on them.
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

impl KafkaTable {
    /// Whether the broker is inside the process.
    pub fn is_embedded(&self) -> bool {
        self.bootstrap == "embedded"
    }

    /// The dead-letter topic.
    pub fn dead_letter_topic(&self) -> String {
        self.dead_letter_topic.clone().unwrap_or_else(|| format!("{}.dead", self.topic))
    }
}

impl CassandraTable {
    /// Whether the table is in a file of this machine.
    pub fn is_embedded(&self) -> bool {
        matches!(self.contact_points, ContactPoints::Word(_))
    }
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
    pub fn error_inside(&self, key: &[&str], value: &str, inside: Spot, message: impl Into<String>, help: impl Into<String>) -> FileError {
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
    check(&pipeline)?;
    Ok(pipeline)
}

fn check(p: &Pipeline) -> Result<(), FileError> {
    check_tables(p)?;
    check_names(p)?;
    check_kafka(p)?;
    if let Some(cassandra) = &p.cassandra {
        check_cassandra(p, cassandra)?;
    }
    if let Some(fetcher) = &p.fetcher {
        check_fetcher(p, fetcher)?;
    }
    if let Some(producer) = &p.producer {
        check_pointer(p, &["producer", "key"], &producer.key)?;
        if producer.key.is_empty() {
            return Err(p.error_at(&["producer", "key"], "the key is empty", "name a field of the record, such as \"/id\""));
        }
    }
    if let Some(consumer) = &p.consumer {
        check_consumer(p, consumer)?;
    }
    if let Some(writer) = &p.writer {
        check_writer(p, writer)?;
    }
    check_api(p)?;
    in_range(p, &["journal", "segment"], i64::try_from(p.journal.segment.0).unwrap_or(i64::MAX), 64 << 10, 1 << 30)?;
    check_supervisor(p)
}

fn check_tables(p: &Pipeline) -> Result<(), FileError> {
    let here = [
        ("fetcher", p.fetcher.is_some()),
        ("producer", p.producer.is_some()),
        ("consumer", p.consumer.is_some()),
        ("transformer", p.transformer.is_some()),
        ("writer", p.writer.is_some()),
        ("cassandra", p.cassandra.is_some()),
    ];
    for (half, tables) in [("into the topic", &here[..2]), ("from the topic into the table", &here[2..])] {
        let missing: Vec<_> = tables.iter().filter(|(_, there)| !there).map(|(name, _)| format!("[{name}]")).collect();
        if let Some((name, _)) = tables.iter().find(|(_, there)| *there)
            && !missing.is_empty()
        {
            return Err(p.error_at(
                &[name],
                format!("[{name}] needs {}", missing.join(", ")),
                format!("the way {half} needs all its tables; add the missing ones, or leave the whole half out"),
            ));
        }
    }
    if here.iter().all(|(_, there)| !there) {
        return Err(p.error_at(
            &["pipeline"],
            "the pipeline has no actors",
            "add [fetcher] and [producer], or [consumer], [transformer], [writer] and [cassandra], or all of them; `forebay init` writes an example",
        ));
    }
    Ok(())
}

fn check_names(p: &Pipeline) -> Result<(), FileError> {
    let name = &p.meta.name;
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !fits {
        return Err(p.error_at(
            &["pipeline", "name"],
            format!("{name:?} can't be a pipeline's name"),
            "use 1 to 64 letters, digits, `-` and `_`",
        ));
    }
    Ok(())
}

fn check_kafka(p: &Pipeline) -> Result<(), FileError> {
    let kafka = &p.kafka;
    if !kafka.is_embedded() {
        check_servers(p, &["kafka", "bootstrap"], kafka.bootstrap.split(','))?;
    }
    let dead = kafka.dead_letter_topic();
    for (key, topic) in [("topic", &kafka.topic), ("dead_letter_topic", &dead)] {
        // Kafka's own rule: org.apache.kafka.common.internals.Topic.
        let fits = (1..=249).contains(&topic.len())
            && topic != "."
            && topic != ".."
            && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !fits {
            return Err(p.error_at(
                &["kafka", key],
                format!("{topic:?} can't be a topic's name"),
                "use 1 to 249 letters, digits, `.`, `_` and `-`",
            ));
        }
    }
    if dead == kafka.topic {
        return Err(p.error_at(
            &["kafka", "dead_letter_topic"],
            "the dead-letter topic is the topic itself",
            "leave the key out for the topic's name and `.dead`",
        ));
    }
    in_range(p, &["kafka", "partitions"], i64::from(kafka.partitions), 1, 10_000)?;
    in_range(p, &["kafka", "replication"], i64::from(kafka.replication), 1, 100)?;
    if let Some(name) = kafka.properties.keys().find(|name| RESERVED_PROPERTIES.contains(&name.as_str())) {
        return Err(p.error_at(
            &["kafka", "properties", name],
            format!("`{name}` is Forebay's to set"),
            "its guarantees rest on this property; leave the line out",
        ));
    }
    Ok(())
}

fn check_cassandra(p: &Pipeline, cassandra: &CassandraTable) -> Result<(), FileError> {
    let key = &["cassandra", "contact_points"];
    match &cassandra.contact_points {
        ContactPoints::Word(word) if word == "embedded" => {}
        ContactPoints::Word(word) => {
            return Err(p.error_at(
                key,
                format!("{word:?} is neither \"embedded\" nor a list"),
                format!("write \"embedded\", or a list: [{word:?}]"),
            ));
        }
        ContactPoints::Servers(servers) if servers.is_empty() => {
            return Err(p.error_at(key, "the list is empty", "name a server at least: [\"127.0.0.1:9042\"]"));
        }
        ContactPoints::Servers(servers) => check_servers(p, key, servers.iter().map(String::as_str))?,
    }
    check_identifier(p, &["cassandra", "keyspace"], &cassandra.keyspace)?;
    in_range(p, &["cassandra", "replication"], i64::from(cassandra.replication), 1, 100)?;
    if cassandra.username.is_some() != cassandra.password.is_some() {
        return Err(p.error_at(&["cassandra"], "username and password go together", "give both, or neither"));
    }
    Ok(())
}

fn check_fetcher(p: &Pipeline, fetcher: &FetcherTable) -> Result<(), FileError> {
    let key = &["fetcher", "url"];
    let rest = fetcher.url.strip_prefix("http://").or_else(|| fetcher.url.strip_prefix("https://"));
    if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#'])) {
        return Err(p.error_at(
            key,
            format!("{:?} is not an HTTP address", fetcher.url),
            "write the whole address, such as \"https://randomuser.me/api/?results=100\"",
        ));
    }
    check_pointer(p, &["fetcher", "records"], &fetcher.records)?;
    if let Some(every) = fetcher.every {
        span_in_range(p, &["fetcher", "every"], every, Duration::from_millis(1), Duration::from_secs(366 * 86_400))?;
    }
    span_in_range(p, &["fetcher", "timeout"], fetcher.timeout, Duration::from_millis(1), Duration::from_secs(3_600))?;
    bytes_in_range(p, &["fetcher", "max_page_bytes"], fetcher.max_page_bytes, 1 << 10, 1 << 30)?;
    if let Some(producer) = &p.producer {
        bytes_in_range(p, &["producer", "max_record_bytes"], producer.max_record_bytes, 1, 1 << 30)?;
        if producer.budget.0 < fetcher.max_page_bytes.0 {
            return Err(p.error_at(
                &["producer", "budget"],
                format!("the budget of {} has no room for a page of {}", producer.budget, fetcher.max_page_bytes),
                "make producer.budget at least fetcher.max_page_bytes",
            ));
        }
    }
    Ok(())
}

fn check_consumer(p: &Pipeline, consumer: &ConsumerTable) -> Result<(), FileError> {
    if consumer.group.is_empty() || consumer.group.len() > 255 {
        return Err(p.error_at(&["consumer", "group"], "a consumer group's name has 1 to 255 bytes", "name the group, such as \"users\""));
    }
    let batch = &consumer.batch;
    let records = i64::try_from(batch.max_records).unwrap_or(i64::MAX);
    in_range(p, &["consumer", "batch", "max_records"], records, 1, 1_000_000)?;
    bytes_in_range(p, &["consumer", "batch", "max_bytes"], batch.max_bytes, 1 << 10, 1 << 30)?;
    span_in_range(p, &["consumer", "batch", "max_wait"], batch.max_wait, Duration::ZERO, Duration::from_secs(60))?;
    if consumer.budget.0 < batch.max_bytes.0 {
        return Err(p.error_at(
            &["consumer", "budget"],
            format!("the budget of {} has no room for a batch of {}", consumer.budget, batch.max_bytes),
            "make consumer.budget at least consumer.batch.max_bytes; some multiple of it keeps the writer busy",
        ));
    }
    bytes_in_range(p, &["consumer", "budget"], consumer.budget, 1 << 10, 64 << 30)
}

fn check_writer(p: &Pipeline, writer: &WriterTable) -> Result<(), FileError> {
    check_identifier(p, &["writer", "table"], &writer.table)?;
    if writer.primary_key.is_empty() {
        return Err(p.error_at(
            &["writer", "primary_key"],
            "the primary key has no column",
            "name a column of the SQL at least, such as [\"id\"]",
        ));
    }
    for (at, column) in writer.primary_key.iter().enumerate() {
        check_identifier(p, &["writer", "primary_key"], column)?;
        if writer.primary_key[..at].contains(column) {
            return Err(p.error_at(
                &["writer", "primary_key"],
                format!("`{column}` stands twice in the primary key"),
                "name each column once",
            ));
        }
    }
    for column in writer.columns.keys() {
        check_identifier(p, &["writer", "columns", column], column)?;
    }
    let rows = i64::try_from(writer.batch_rows).unwrap_or(i64::MAX);
    in_range(p, &["writer", "batch_rows"], rows, 1, 500)?;
    let in_flight = i64::try_from(writer.in_flight).unwrap_or(i64::MAX);
    in_range(p, &["writer", "in_flight"], in_flight, 1, 1_024)
}

fn check_api(p: &Pipeline) -> Result<(), FileError> {
    let key = &["api", "listen"];
    check_servers(p, key, std::iter::once(p.api.listen.as_str()))?;
    let host = p.api.listen.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{host:?} is not a loopback address"),
        "the API has no token yet, so it listens on 127.0.0.1, [::1] or localhost only",
    ))
}

fn check_supervisor(p: &Pipeline) -> Result<(), FileError> {
    let s = &p.supervisor;
    let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
    in_range(p, &["supervisor", "max_restarts"], i64::from(s.max_restarts), 0, 10_000)?;
    span_in_range(p, &["supervisor", "within"], s.within, ms, 24 * hour)?;
    span_in_range(p, &["supervisor", "backoff_min"], s.backoff_min, ms, hour)?;
    span_in_range(p, &["supervisor", "backoff_max"], s.backoff_max, s.backoff_min.0, hour)?;
    span_in_range(p, &["supervisor", "backoff_reset"], s.backoff_reset, ms, 24 * hour)?;
    span_in_range(p, &["supervisor", "shutdown"], s.shutdown, ms, hour)
}

/// Cassandra's own rule for unquoted names, in lower case, so that `cqlsh` takes them as they are.
fn check_identifier(p: &Pipeline, key: &[&str], name: &str) -> Result<(), FileError> {
    let mut bytes = name.bytes();
    let fits = name.len() <= 48
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if fits {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{name:?} can't be a name in Cassandra"),
        "use a lower-case letter, then lower-case letters, digits and `_`, 48 in all at most",
    ))
}

fn check_pointer(p: &Pipeline, key: &[&str], pointer: &str) -> Result<(), FileError> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{pointer:?} is not a JSON pointer"),
        format!("a pointer begins with a slash: \"/{}\"", pointer.replace('.', "/")),
    ))
}

fn check_servers<'a>(p: &Pipeline, key: &[&str], servers: impl Iterator<Item = &'a str>) -> Result<(), FileError> {
    for server in servers {
        let port = server.trim().rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(p.error_at(key, format!("{server:?} is not `host:port`"), "write a host and a port, such as \"127.0.0.1:9092\""));
        }
    }
    Ok(())
}

fn in_range(p: &Pipeline, key: &[&str], value: i64, least: i64, most: i64) -> Result<(), FileError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {least} to {most}")))
}

fn bytes_in_range(p: &Pipeline, key: &[&str], value: Bytes, least: u64, most: u64) -> Result<(), FileError> {
    if (least..=most).contains(&value.0) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {} to {}", Bytes(least), Bytes(most))))
}

fn span_in_range(p: &Pipeline, key: &[&str], value: Span, least: Duration, most: Duration) -> Result<(), FileError> {
    if (least..=most).contains(&value.0) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {} to {}", Span(least), Span(most))))
}

#[cfg(test)]
mod tests;
