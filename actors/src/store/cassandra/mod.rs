//! The table in Cassandra.
//!
//! Guarantee: a row counted as written was acknowledged at the consistency level of the file; the requests of all micro-batches
//! together never exceed the limit in flight, and an earlier batch sends all of its requests before a later one sends any. Every write
//! carries its own timestamp, so a request made twice, late or by a process that should be gone changes nothing. Not guaranteed: that a
//! request reported as failed had no effect.

mod fault;
#[cfg(test)]
mod outage;
mod query;
mod request;
mod schema;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use forebay_schemas::pipeline::{CassandraTable, ConsistencyLevel, ContactPoints, Pipeline};
use forebay_schemas::snapshot::NodeView;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::Node;
use scylla::errors::ExecutionError;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use uuid::Uuid;

use self::fault::Fault;
use self::request::Part;
use super::error::StoreError;
use super::rows::{Refusal, RowSet};
use super::spec::TableSpec;
use super::{QueryRow, TableLook, WriteEnd};
use crate::kernel::Class;
use crate::telemetry::{Glance, Glimpse};

/// The largest batch, as Cassandra measures it; it refuses 50 KiB (`batch_size_fail_threshold`).
const BATCH_BYTES: u32 = 40_000;
/// How long an answer may take: longer than the server's own time-outs, so that it is the server that gives up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and for how long, a silent connection is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);
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

/// How a request ended.
enum Sent {
    Written(u64),
    Halves(Range<usize>, Range<usize>),
    Refused(Refusal),
    Failed(Range<usize>, StoreError),
}

impl Cassandra {
    pub(super) async fn connect(pipeline: &Pipeline, table: &CassandraTable) -> Result<Self, StoreError> {
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
            .keepalive_timeout(KEEPALIVE)
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
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(table));
        Ok(())
    }

    pub(super) async fn look(&self, spec: &TableSpec) -> Result<TableLook, StoreError> {
        schema::look(&self.0.server, &self.0.session(), spec).await
    }

    pub(super) async fn write(&self, rows: &RowSet, moved: &(dyn Fn() + Send + Sync)) -> Result<WriteEnd, StoreError> {
        let inner = self.0.as_ref();
        let table = inner.table.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(table) = table else {
            return Err(StoreError::Broken { server: inner.server.clone(), what: "the table was not prepared".to_owned() });
        };
        // The turn is given up as soon as all requests are on their way: the next batch may follow while these are answered.
        let mut turn = Some(inner.turn.lock().await);
        if let Err(trouble) = inner.find_again().await {
            return Ok(WriteEnd { unwritten: Some((rows.clone(), trouble)), ..WriteEnd::default() });
        }
        let session = inner.session();
        let mut groups = groups(&session, &inner.keyspace, &table, rows);
        let group = groups.as_mut().map(|group| group as &mut dyn FnMut(u32) -> u32);
        let (rows, mut left) = request::plan(rows, group, inner.batch_rows, BATCH_BYTES);
        left.reverse();

        let mut end = WriteEnd::default();
        let mut unwritten: Vec<Range<usize>> = Vec::new();
        let mut trouble: Option<StoreError> = None;
        let mut flying = FuturesUnordered::new();
        loop {
            if trouble.is_none()
                && flying.len() < inner.in_flight
                && let Some(range) = left.pop()
            {
                let part = Part { rows: rows.clone(), range };
                tokio::select! {
                    biased;
                    permit = inner.slots.acquire() => flying.push(inner.send(&session, &table, part, permit.ok())),
                    Some(sent) = flying.next() => {
                        left.push(part.range);
                        moved();
                        settle(sent, &mut end, &mut left, &mut unwritten, &mut trouble)?;
                    }
                }
                continue;
            }
            if left.is_empty() || trouble.is_some() {
                turn = None;
            }
            match flying.next().await {
                Some(sent) => {
                    moved();
                    settle(sent, &mut end, &mut left, &mut unwritten, &mut trouble)?;
                }
                None => break,
            }
        }
        drop(turn);
        if let Some(trouble) = trouble {
            unwritten.extend(left);
            let mut still: Vec<u32> = unwritten.into_iter().flat_map(|range| rows.rows()[range].to_vec()).collect();
            still.sort_unstable();
            end.unwritten = Some((rows.only(still), trouble));
        }
        Ok(end)
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

fn settle(
    sent: Sent,
    end: &mut WriteEnd,
    left: &mut Vec<Range<usize>>,
    unwritten: &mut Vec<Range<usize>>,
    trouble: &mut Option<StoreError>,
) -> Result<(), StoreError> {
    match sent {
        Sent::Written(rows) => {
            end.written += rows;
            end.statements += 1;
        }
        Sent::Halves(first, second) => left.extend([second, first]),
        Sent::Refused(refusal) => end.rejected.push(refusal),
        Sent::Failed(range, error) => match error.class() {
            Class::Fatal => return Err(error),
            _ => {
                unwritten.push(range);
                trouble.get_or_insert(error);
            }
        },
    }
    Ok(())
}

impl Inner {
    fn session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new session when the old one has lost all its connections. Prepared statements hold for both.
    async fn find_again(&self) -> Result<(), StoreError> {
        if self.lost.load(Ordering::Relaxed) {
            let session = self.builder.build().await.map_err(|error| fault::of_session(&self.server, &error))?;
            *self.session.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(session);
            self.lost.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn send(&self, session: &Session, table: &Table, part: Part, permit: Option<SemaphorePermit<'_>>) -> Sent {
        let (range, count) = (part.range.clone(), part.len());
        let result = if count == 1 {
            session.execute_unpaged(&table.insert, &part).await.map(|_| ())
        } else if count == table.full.statements.len() {
            session.batch(&table.full, &part).await.map(|_| ())
        } else {
            session.batch(&batch_of(&table.insert, count), &part).await.map(|_| ())
        };
        drop(permit);
        let fault = match result {
            Ok(()) => return Sent::Written(count as u64),
            Err(error) => {
                if matches!(error, ExecutionError::ConnectionPoolError(_)) {
                    self.lost.store(true, Ordering::Relaxed);
                }
                fault::of_execution(&self.server, &error)
            }
        };
        let halves = matches!(fault, Fault::TooLarge(_));
        let error = fault.into_error();
        match (error.class(), count, part.rows()) {
            (Class::Rejected, 1, [row]) => Sent::Refused(Refusal { row: *row, reason: error.of_row() }),
            (Class::Rejected, _, _) => {
                let (first, second) = part.halves();
                // What the server says may quote a value.
                tracing::debug!(rows = count, too_large = halves, "a batch is refused and goes on in halves");
                Sent::Halves(first, second)
            }
            _ => Sent::Failed(range, error),
        }
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
