//! The table in Cassandra.
//!
//! Guarantee: a row counted as written was acknowledged at the consistency level of the file; the requests of all micro-batches
//! together never exceed the limit in flight, and an earlier batch sends all of its requests before a later one sends any. Every write
//! carries its own timestamp, so a request made twice, late or by a process that should be gone changes nothing. Not guaranteed: that a
//! request reported as failed had no effect.

mod fault;
#[cfg(test)]
mod outage;
mod proof;
mod query;
#[cfg(test)]
mod refusals;
mod request;
mod schema;
#[cfg(test)]
pub(super) mod tests;
mod words;
mod write;

use parking_lot::RwLock;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_schemas::pipeline::{CassandraSection, ConsistencyLevel, ContactPoints, Pipeline};
use forebay_schemas::snapshot::NodeView;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::Node;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{Mutex, Semaphore};
use uuid::Uuid;

use self::request::Kept;
pub(super) use self::request::put_cell;
use super::error::StoreError;
use super::rows::RowSet;
use super::spec::TableSpec;
use super::{Glance, Glimpse, QueryRow, TableLook, WriteEnd};

/// The largest batch, as Cassandra measures it; it refuses 50 KiB (`batch_size_fail_threshold`).
const BATCH_BYTES: u32 = 40_000;
/// How long an answer may take: longer than the server's own time-outs, so that it is the server that gives up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent until it is asked whether it lives, and how long the answer may take. Together they are less than the
/// ten seconds in which a server that is frozen is to be said to be away.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// See [`KEEPALIVE`]. Longer than the pauses of a server that collects garbage.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// Connections a node: one more than its requests need, so that a large one holds up no small one.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// A session with the cluster, and the table once it is prepared.
#[derive(Clone)]
pub struct Cassandra(Arc<Inner>);

struct Inner {
    /// How messages name it.
    server: String,
    keyspace: String,
    builder: SessionBuilder,
    session: RwLock<Arc<Session>>,
    /// Whether the session has no connection left. It would take up to 12 s to look for one again; a new session looks at once.
    lost: AtomicBool,
    batch_rows: usize,
    /// One permit a request in flight.
    slots: Semaphore,
    in_flight: usize,
    /// Held by the micro-batch whose turn it is to send.
    turn: Mutex<()>,
    table: RwLock<Option<Arc<Table>>>,
    /// The last row that the server took, to hold others against that it refuses.
    good: RwLock<Option<Kept>>,
}

/// What writing needs to know, made by [`Cassandra::prepare`].
struct Table {
    insert: PreparedStatement,
    /// A batch of the most rows, so that it need not be built for each request.
    full: Batch,
    /// The partition key's columns, as indexes of the spec's.
    partition_key: Vec<usize>,
    name: String,
}

impl Cassandra {
    pub(super) async fn connect(pipeline: &Pipeline, table: &CassandraSection) -> Result<Self, StoreError> {
        let ContactPoints::Servers(servers) = &table.contact_points else {
            return Err(StoreError::Broken { server: "cassandra".to_owned(), what: "no contact points".to_owned() });
        };
        let server = format!("cassandra {}", servers.join(", "));
        let (consistency, batch_rows, in_flight) = match &pipeline.writer {
            Some(writer) => (writer.consistency, writer.batch_rows, writer.in_flight),
            None => (ConsistencyLevel::default(), 1, 1),
        };
        let profile = ExecutionProfile::builder()
            .consistency(level(consistency))
            .request_timeout(Some(REQUEST_TIMEOUT))
            .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
            .speculative_execution_policy(None)
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(servers)
            .default_execution_profile_handle(profile.into_handle())
            .pool_size(PoolSize::PerHost(CONNECTIONS))
            .connection_timeout(CONNECT_TIMEOUT)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE_ANSWER)
            .keyspaces_to_fetch([table.keyspace.as_str()]);
        if let (Some(username), Some(password)) = (&table.username, &table.password) {
            builder = builder.user(username.reveal(&pipeline.source.path)?, password.reveal(&pipeline.source.path)?);
        }
        let session = builder.build().await.map_err(|error| fault::of_session(&server, &error))?;
        Ok(Self(Arc::new(Inner {
            server,
            keyspace: table.keyspace.clone(),
            builder,
            session: RwLock::new(Arc::new(session)),
            lost: AtomicBool::new(false),
            batch_rows,
            slots: Semaphore::new(in_flight),
            in_flight,
            turn: Mutex::new(()),
            table: RwLock::new(None),
            good: RwLock::new(None),
        })))
    }

    pub(super) async fn prepare(&self, spec: &TableSpec) -> Result<(), StoreError> {
        let (Inner { server, batch_rows, .. }, session) = (self.0.as_ref(), self.0.session());
        let partition_key = schema::ensure(server, &session, spec).await?;
        let mut insert = session.prepare(spec.insert_cql()).await.map_err(|error| {
            let error = fault::of_prepare(server, &error).into_error();
            if spec.create { schema::in_the_making(error) } else { error }
        })?;
        insert.set_is_idempotent(true);
        let table = Table { full: batch_of(&insert, *batch_rows), insert, partition_key, name: spec.table.clone() };
        *self.0.table.write() = Some(Arc::new(table));
        *self.0.good.write() = None;
        Ok(())
    }

    pub(super) async fn look(&self, spec: &TableSpec) -> Result<TableLook, StoreError> {
        schema::look(&self.0.server, &self.0.session(), spec).await
    }

    pub(super) async fn write(&self, rows: &RowSet, moved: &(dyn Fn() + Send + Sync)) -> Result<WriteEnd, StoreError> {
        self.0.write(rows, moved).await
    }

    pub(super) async fn query(&self, cql: &str, each: &mut (dyn FnMut(QueryRow) + Send)) -> Result<Vec<String>, StoreError> {
        query::run(&self.0.server, &self.0.session(), &self.0.keyspace, cql, each).await
    }

    /// The nodes as the driver's last look at the cluster has them.
    pub(super) fn glance(&self) -> Glance {
        let this = Arc::downgrade(&self.0);
        Arc::new(move || {
            let inner = this.upgrade()?;
            let (state, lost) = (inner.session().get_cluster_state(), inner.lost.load(Ordering::Relaxed));
            let mut nodes: Vec<NodeView> = state.get_nodes_info().iter().map(|node| node_view(node, lost)).collect();
            nodes.sort_by(|one, other| one.address.cmp(&other.address));
            Some(Glimpse { in_flight: inner.in_flight.saturating_sub(inner.slots.available_permits()) as u64, nodes })
        })
    }

    pub(super) fn describe(&self) -> String {
        self.0.server.trim_start_matches("cassandra ").to_owned()
    }
}

/// The driver tells of a node whether it is connected; how many connections it keeps to one is its setting.
fn node_view(node: &Node, lost: bool) -> NodeView {
    let up = node.is_connected() && !lost;
    NodeView {
        address: format!("{}:{}", node.address.ip(), node.address.port()),
        datacenter: node.datacenter.clone().unwrap_or_default(),
        rack: node.rack.clone().unwrap_or_default(),
        up,
        connections: if up { CONNECTIONS.get() as u64 } else { 0 },
    }
}

impl Inner {
    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read())
    }

    /// Makes a new session when the old one has lost all its connections. Prepared statements hold for both.
    async fn find_again(&self) -> Result<(), StoreError> {
        if self.lost.load(Ordering::Relaxed) {
            let session = self.builder.build().await.map_err(|error| fault::of_session(&self.server, &error))?;
            *self.session.write() = Arc::new(session);
            self.lost.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Numbers the replica set of a row; none when every row has the same, so that any may share a batch.
fn groups<'a>(session: &Session, keyspace: &str, table: &'a Table, rows: &'a RowSet) -> Option<impl FnMut(u32) -> u32 + use<'a>> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info().len();
    if nodes < 2 {
        return None;
    }
    let strategy = state.get_keyspace(keyspace)?.strategy.clone();
    let spec = scylla::frame::response::result::TableSpec::owned(keyspace.to_owned(), table.name.clone());
    let mut scratch = Vec::new();
    let first = request::token(rows, *rows.rows().first()?, &table.partition_key, &mut scratch);
    if state.replica_locator().replicas_for_token(first, &strategy, None, &spec).len() >= nodes {
        return None;
    }
    let mut known: HashMap<Vec<Uuid>, u32> = HashMap::new();
    Some(move |row| {
        let token = request::token(rows, row, &table.partition_key, &mut scratch);
        let replicas = state.replica_locator().replicas_for_token(token, &strategy, None, &spec);
        let mut hosts: Vec<Uuid> = replicas.into_iter().map(|(node, _)| node.host_id).collect();
        hosts.sort_unstable();
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *known.entry(hosts).or_insert(next)
    })
}

/// An UNLOGGED batch of one statement many times.
fn batch_of(insert: &PreparedStatement, rows: usize) -> Batch {
    let mut batch = Batch::new(BatchType::Unlogged);
    batch.set_is_idempotent(true);
    batch.statements = (0..rows).map(|_| insert.clone().into()).collect();
    batch
}

fn level(level: ConsistencyLevel) -> Consistency {
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
