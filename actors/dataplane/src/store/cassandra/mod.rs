//! The table in Cassandra.
//!
//! Guarantees:
//! * A row that is counted as written was acknowledged at the configured consistency level.
//! * The requests of all micro-batches together never exceed the limit in flight.
//! * A micro-batch sends all of its requests before a later one sends any.
//! * Every write carries its own timestamp, so a request that is repeated, late, or sent by a
//!   process that was replaced changes nothing.
//!
//! Does not guarantee that a failed request had no effect.

mod driver_error;
#[cfg(test)]
mod proxy_tests;
mod query;
#[cfg(test)]
mod refusal_tests;
mod row_requests;
mod schema;
mod server_message;
mod suspect_row;
#[cfg(test)]
pub(super) mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;
mod user_types;
mod write;

use parking_lot::RwLock;
use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_schemas::pipeline::{CassandraSection, ConsistencyLevel, ContactPoints, FileError, Pipeline};
use forebay_schemas::snapshot::NodeView;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::Node;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

#[cfg(test)]
pub(super) use self::query::json as query_json;
use self::row_requests::EncodedRow;
use super::error::StoreError;
use super::row_check::RowSet;
use super::table_spec::TableSpec;
use super::{QueryRow, StoreProbe, StoreStatus, TableDescription, WriteOutcome};

/// The limit of a batch, as Cassandra measures it. Cassandra refuses more than 50 KiB
/// (`batch_size_fail_threshold`).
const MAX_BATCH_BYTES: u32 = 40_000;
/// The time-out of a request, longer than the server's own time-outs so that the server times out
/// first.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// The time-out of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The period of keepalive requests on an idle connection. Together with [`KEEPALIVE_TIMEOUT`] it
/// is less than the ten seconds within which Forebay reports a frozen server.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// The time-out of a keepalive request, longer than a garbage collection pause of the server.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections per node. One suffices for the requests; the second keeps a large request from
/// delaying small ones.
const CONNECTIONS_PER_NODE: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// A session with the cluster, and the table once it is prepared.
#[derive(Clone)]
pub struct Cassandra(Arc<Inner>);

struct Inner {
    /// The name in messages.
    server: String,
    keyspace: String,
    builder: SessionBuilder,
    /// The datacenter, if the nodes of the others are never sent requests.
    only_datacenter: Option<String>,
    session: RwLock<Arc<Session>>,
    /// Whether the session has lost all its connections. It would reconnect after up to 12 s; a new
    /// session connects immediately.
    disconnected: AtomicBool,
    batch_rows: usize,
    /// One permit per request in flight.
    request_slots: Semaphore,
    in_flight: usize,
    /// Held by the micro-batch that is sending its requests.
    turn: Mutex<()>,
    table: RwLock<Option<Arc<Table>>>,
    /// The last row that the server accepted. A refused row is compared with it.
    control_row: RwLock<Option<EncodedRow>>,
}

/// A table that [`Cassandra::prepare`] prepared for writing.
struct Table {
    insert: PreparedStatement,
    /// A batch of `batch_rows` rows, so that it is not built for each request.
    full_batch: Batch,
    /// The partition key as indexes of the spec's columns.
    partition_key: Vec<usize>,
    name: String,
}

impl Cassandra {
    pub(super) async fn connect(pipeline: &Pipeline, table: &CassandraSection) -> Result<Self, StoreError> {
        let ContactPoints::Servers(servers) = &table.contact_points else {
            return Err(StoreError::Unrecoverable {
                server: "cassandra".to_owned(),
                message: "the pipeline file has no contact points".to_owned(),
            });
        };
        let server = format!("cassandra {}", servers.join(", "));
        let (consistency, batch_rows, in_flight) = match &pipeline.writer {
            Some(writer) => (writer.consistency, writer.batch_rows, writer.in_flight),
            None => (ConsistencyLevel::default(), 1, 1),
        };
        let mut nodes = DefaultPolicy::builder().permit_dc_failover(table.datacenter_failover);
        if let Some(datacenter) = &table.datacenter {
            nodes = nodes.prefer_datacenter(datacenter.clone());
        }
        let profile = ExecutionProfile::builder()
            .consistency(consistency_level(consistency))
            .load_balancing_policy(nodes.build())
            .request_timeout(Some(REQUEST_TIMEOUT))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .speculative_execution_policy(None)
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(servers)
            .default_execution_profile_handle(profile.into_handle())
            .pool_size(PoolSize::PerHost(CONNECTIONS_PER_NODE))
            .connection_timeout(CONNECT_TIMEOUT)
            .keepalive_interval(KEEPALIVE_INTERVAL)
            .keepalive_timeout(KEEPALIVE_TIMEOUT)
            .keyspaces_to_fetch([table.keyspace.as_str()]);
        if let (Some(username), Some(password)) = (&table.username, &table.password) {
            builder = builder.user(username.reveal(&pipeline.source.path)?, password.reveal(&pipeline.source.path)?);
        }
        if let Some(tls) = &table.tls {
            builder = builder.tls_context(Some(tls::client_config(pipeline, tls)?));
        }
        let session = builder.build().await.map_err(|error| driver_error::session_error(&server, table.tls.is_some(), &error))?;
        let known = session.get_cluster_state();
        let known: BTreeSet<&str> = known.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
        check_datacenter(&server, table.datacenter.as_deref(), &known)?;
        let only_datacenter = table.datacenter.clone().filter(|_| !table.datacenter_failover);
        Ok(Self(Arc::new(Inner {
            server,
            keyspace: table.keyspace.clone(),
            builder,
            only_datacenter,
            session: RwLock::new(Arc::new(session)),
            disconnected: AtomicBool::new(false),
            batch_rows,
            request_slots: Semaphore::new(in_flight),
            in_flight,
            turn: Mutex::new(()),
            table: RwLock::new(None),
            control_row: RwLock::new(None),
        })))
    }

    pub(super) async fn prepare(&self, spec: &TableSpec) -> Result<TableSpec, StoreError> {
        let (Inner { server, batch_rows, .. }, session) = (self.0.as_ref(), self.0.session());
        let (spec, partition_key) = schema::ensure(server, &session, spec).await?;
        let mut insert = session.prepare(spec.insert_cql()).await.map_err(|error| {
            let error = driver_error::prepare_failure(server, &error).into_error();
            if spec.create { schema::being_created(error) } else { error }
        })?;
        insert.set_is_idempotent(true);
        let table = Table { full_batch: unlogged_batch(&insert, *batch_rows), insert, partition_key, name: spec.table.clone() };
        *self.0.table.write() = Some(Arc::new(table));
        *self.0.control_row.write() = None;
        Ok(spec)
    }

    pub(super) async fn describe_table(&self, spec: &TableSpec) -> Result<TableDescription, StoreError> {
        schema::describe_table(&self.0.server, &self.0.session(), spec).await
    }

    pub(super) async fn write(&self, rows: &RowSet, on_progress: &(dyn Fn() + Send + Sync)) -> Result<WriteOutcome, StoreError> {
        self.0.write(rows, on_progress).await
    }

    pub(super) async fn query(&self, cql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        query::run(&self.0.server, &self.0.session(), &self.0.keyspace, cql, each).await
    }

    /// Reads the files of `[cassandra.tls]`.
    pub(super) fn check_tls(pipeline: &Pipeline) -> Result<(), FileError> {
        let tls = pipeline.cassandra.as_ref().and_then(|table| table.tls.as_ref());
        tls.map_or(Ok(()), |tls| tls::client_config(pipeline, tls).map(|_| ()))
    }

    /// Reads the nodes that are sent requests from the driver's last refresh of the cluster's
    /// metadata.
    pub(super) fn probe(&self) -> StoreProbe {
        let this = Arc::downgrade(&self.0);
        Arc::new(move || {
            let inner = this.upgrade()?;
            let (state, lost) = (inner.session().get_cluster_state(), inner.disconnected.load(Ordering::Relaxed));
            let is_used = |node: &&Arc<Node>| inner.only_datacenter.is_none() || node.datacenter == inner.only_datacenter;
            let mut nodes: Vec<NodeView> = state.get_nodes_info().iter().filter(is_used).map(|node| node_view(node, lost)).collect();
            nodes.sort_by(|one, other| one.address.cmp(&other.address));
            Some(StoreStatus { in_flight: inner.in_flight.saturating_sub(inner.request_slots.available_permits()) as u64, nodes })
        })
    }

    pub(super) fn describe(&self) -> String {
        self.0.server.trim_start_matches("cassandra ").to_owned()
    }
}

/// Checks that the cluster has the datacenter of the pipeline file.
fn check_datacenter(server: &str, wanted: Option<&str>, known: &BTreeSet<&str>) -> Result<(), StoreError> {
    let Some(wanted) = wanted.filter(|wanted| !known.contains(wanted)) else { return Ok(()) };
    let known = known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
    Err(StoreError::Unrecoverable {
        server: server.to_owned(),
        message: format!("the cluster has no datacenter {wanted:?}; set [cassandra] datacenter = {known}"),
    })
}

/// The driver reports only whether a node is connected. The number of connections is the configured
/// one.
fn node_view(node: &Node, lost: bool) -> NodeView {
    let up = node.is_connected() && !lost;
    NodeView {
        address: format!("{}:{}", node.address.ip(), node.address.port()),
        datacenter: node.datacenter.clone().unwrap_or_default(),
        rack: node.rack.clone().unwrap_or_default(),
        up,
        connections: if up { CONNECTIONS_PER_NODE.get() as u64 } else { 0 },
    }
}

impl Inner {
    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read())
    }

    /// Replaces a session that has lost all its connections. Prepared statements remain valid.
    async fn reconnect(&self) -> Result<(), StoreError> {
        if self.disconnected.load(Ordering::Relaxed) {
            let tls = self.builder.config.tls_context.is_some();
            let session = self.builder.build().await.map_err(|error| driver_error::session_error(&self.server, tls, &error))?;
            *self.session.write() = Arc::new(session);
            self.disconnected.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Returns a function that numbers the replica set of a row, or `None` if all rows have the same
/// replica set and any of them may share a batch.
fn replica_sets<'a>(session: &Session, keyspace: &str, table: &'a Table, rows: &'a RowSet) -> Option<impl FnMut(u32) -> u32 + use<'a>> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info().len();
    if nodes < 2 {
        return None;
    }
    let strategy = state.get_keyspace(keyspace)?.strategy.clone();
    let spec = scylla::frame::response::result::TableSpec::owned(keyspace.to_owned(), table.name.clone());
    let mut scratch = Vec::new();
    let first = row_requests::token(rows, *rows.rows().first()?, &table.partition_key, &mut scratch);
    if state.replica_locator().replicas_for_token(first, &strategy, None, &spec).len() >= nodes {
        return None;
    }
    let mut known: HashMap<Vec<Uuid>, u32> = HashMap::new();
    Some(move |row| {
        let token = row_requests::token(rows, row, &table.partition_key, &mut scratch);
        let replicas = state.replica_locator().replicas_for_token(token, &strategy, None, &spec);
        let mut hosts: Vec<Uuid> = replicas.into_iter().map(|(node, _)| node.host_id).collect();
        hosts.sort_unstable();
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *known.entry(hosts).or_insert(next)
    })
}

/// An UNLOGGED batch that repeats one statement.
fn unlogged_batch(insert: &PreparedStatement, rows: usize) -> Batch {
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    batch.statements = (0..rows).map(|_| insert.clone().into()).collect();
    batch
}

fn consistency_level(level: ConsistencyLevel) -> Consistency {
    match level {
        ConsistencyLevel::One => Consistency::One,
        ConsistencyLevel::Two => Consistency::Two,
        ConsistencyLevel::Three => Consistency::Three,
        ConsistencyLevel::Quorum => Consistency::Quorum,
        ConsistencyLevel::All => Consistency::All,
        ConsistencyLevel::LocalQuorum => Consistency::LocalQuorum,
        ConsistencyLevel::EachQuorum => Consistency::EachQuorum,
        ConsistencyLevel::LocalOne => Consistency::LocalOne,
    }
}
