//! Starts the tree, and holds what a command needs of it: stop it, wait for it, look at it, see whether it is idle.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::api::{Desired, DesiredState};
use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run::{MaxRejected, RunError, Tried};
use forebay_schemas::summary::{HeldBack, Summary};
use tokio::sync::watch;

use super::blueprint::Blueprint;
use super::cursor::source_of;
use super::links::{FetcherLink, Fetches, Reports, Sightings};
use super::view::{Sources, Viewer};
use crate::api::{Api, ApiParts, Gate, Listener, TokenError, Triggers};
use crate::broker::embedded::{Address, Claim};
use crate::broker::{self, Access, Broker, BrokerError, Committed};
use crate::consumer::{Consumer, ConsumerError, ConsumerParams, Desk};
use crate::failpoint::journal_is_off;
use crate::fetcher::{Connections, Fetcher, FetcherMessage, RunReports, Schedule};
use crate::journal::{RealDisk, Settings};
use crate::ledger::{CallOff, Command, Keeper, Ledger, LedgerError, Lookout, Seen};
use crate::lineage::{Lineage, LineageParts};
use crate::message::PolledBatch;
use crate::producer::Producer;
use crate::telemetry::{DataPlaces, Need, Sentinel, Telemetry};
use crate::traces::{Traces, TracesParts};
use crate::transformer::Transformer;
use crate::writer::{Remake, Writer, WriterParts};
use forebay_dataplane::commit_metadata::place_of;
use forebay_dataplane::store::Store;
use forebay_dataplane::transform::ROWS_BUDGET;
use forebay_kernel::clock::micros;
use forebay_kernel::{
    Backoff, Budget, ChildSpec, Environment, Exit, Handover, Lease, Limits, Mailbox, Registry, Restart, Root, SharedClock, Strategy,
    SupervisorSpec,
};

/// How long the poll loop waits for the id of the topic.
const TOPIC_WITHIN: Duration = Duration::from_secs(2);

/// A part of the tree that a process may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Producer and fetcher.
    Ingest,
    /// Writer, transformer, consumer.
    Egress,
    /// The control API.
    Api,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Egress, Self::Api];

    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Egress => "egress",
            Self::Api => "api",
        }
    }
}

/// How a pipeline is started.
pub struct Options {
    /// The parts to run; parts the pipeline does not have are left out.
    pub roles: Vec<Role>,
    /// Fetch once instead of by the file's schedule.
    pub fetch_once: bool,
    /// Where the API listens; bound already, so that a taken port is known.
    pub listener: Option<Listener>,
    /// The clock of every actor.
    pub clock: SharedClock,
    /// For the jitter of restarts.
    pub seed: u64,
    /// The data directory, where the caller holds it already.
    pub held: Option<DataDirLock>,
}

/// Why a pipeline can't start at all. What may yet come, such as a server that is away, is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory can't be used.
    #[error("the data directory {} can't be used: {cause}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// Another process has it.
    #[error("another process runs on the data directory {}; stop it, or give this pipeline a data_dir of its own", .0.display())]
    Locked(PathBuf),
    /// The journal can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Kafka's properties can't be had.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A token of the API can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A running pipeline.
pub struct Running {
    root: Root,
    viewer: Viewer,
    telemetry: Arc<Telemetry>,
    access: Access,
    pipeline: Arc<Pipeline>,
    ledger: Arc<Ledger>,
    fetches: watch::Receiver<Fetches>,
    fetcher: FetcherLink,
    /// Whether this process reads the topic.
    reads_here: bool,
    /// Held for as long as the pipeline runs.
    _held: (DataDirLock, Option<Claim>),
}

/// Starts the pipeline. To be called on the actor thread.
///
/// # Errors
/// When it can't start at all.
pub fn start(blueprint: &Blueprint, options: Options) -> Result<Running, StartError> {
    let pipeline = &blueprint.pipeline;
    let lock = match options.held {
        Some(held) => held,
        None => DataDirLock::take(&pipeline.data_dir())?,
    };
    let (embedded, claim) = match pipeline.kafka.is_embedded() {
        true => Address::pick(&pipeline.data_dir()).map(|(address, claim)| (Some(address), Some(claim)))?,
        false => (None, None),
    };
    let access = Access::new(pipeline, embedded.as_ref())?;
    let gate = Gate::new(pipeline)?;
    let has = |role| options.roles.contains(&role);

    let telemetry = Arc::new(Telemetry::new(Arc::clone(&options.clock)));
    let registry = Registry::default();
    let max_rejected = pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.max_rejected);
    let ledger = Arc::new(open_ledger(pipeline, Arc::clone(&options.clock))?.with_max_rejected(max_rejected));
    begin(&ledger, blueprint, &options.roles);
    let environment = Environment {
        clock: Arc::clone(&options.clock),
        seed: options.seed,
        witness: Arc::new(Sightings { telemetry: Arc::clone(&telemetry), ledger: Arc::clone(&ledger) }),
        registry: registry.clone(),
    };
    let common = Common {
        pipeline: Arc::clone(pipeline),
        access: access.clone(),
        telemetry: Arc::clone(&telemetry),
        ledger: Arc::clone(&ledger),
        clock: Arc::clone(&options.clock),
        desk: Desk::default(),
    };

    let fetcher = FetcherLink::default();
    let mut children = vec![{
        let (ledger, lookout, link) = (Arc::clone(&ledger), common.lookout(), fetcher.clone());
        let call_off: CallOff = Arc::new(move |run| link.cancel(run));
        ChildSpec::actor("ledger", Restart::Permanent, common.shutdown(), move |_| {
            Keeper::new(Arc::clone(&ledger), Arc::clone(&lookout), Arc::clone(&call_off))
        })
    }];
    let mut edges = Vec::new();
    if let Some(address) = embedded {
        let here = common.clone();
        children.push(ChildSpec::actor("broker", Restart::Permanent, common.shutdown(), move |_| {
            Broker::new(&here.pipeline, address.clone(), here.access.clone(), Arc::clone(&here.telemetry), Arc::clone(&here.clock))
        }));
    }
    let reads_here = has(Role::Egress) && pipeline.writes();
    if reads_here {
        let (kind, consistency) = Store::kind_of(pipeline);
        telemetry.writes_to(kind, &consistency);
        telemetry.needs(Need::Topics);
        telemetry.needs(Need::Table);
        let budget = Budget::new("consumer -> writer", common.egress_budget());
        let rows = Budget::new("transformer -> writer", ROWS_BUDGET);
        edges.extend([budget.clone(), rows.clone()]);
        children.push(common.supervisor("egress", common.clone().egress(blueprint.clone(), budget, rows)));
    }
    let (fetches, fetched) = watch::channel(Fetches::default());
    let fetches_here = has(Role::Ingest) && pipeline.ingests();
    if fetches_here {
        telemetry.needs(Need::Topics);
        let budget = Budget::new("fetcher -> producer", common.ingest_budget());
        edges.push(budget.clone());
        let reports = Arc::new(Reports { ledger: Arc::clone(&ledger), fetches });
        children.push(common.supervisor("ingest", common.clone().ingest(budget, options.fetch_once, reports, fetcher.clone())));
    }
    let viewer = Viewer(Arc::new(Sources {
        pipeline: pipeline.meta.name.clone(),
        topic: pipeline.kafka.topic.clone(),
        table: pipeline.writer.as_ref().map_or_else(String::new, |writer| writer.table.clone()),
        kafka: access.describe(),
        cassandra: Store::describe_of(pipeline),
        roles: options.roles.iter().map(|role| role.word().to_owned()).collect(),
        started_at: options.clock.wall().into(),
        clock: Arc::clone(&options.clock),
        telemetry: Arc::clone(&telemetry),
        registry: registry.clone(),
        ledger: Arc::clone(&ledger),
        edges,
        cursor: pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.cursor.clone()),
        trigger_micros: pipeline.consumer.as_ref().filter(|_| has(Role::Egress)).map(|consumer| micros(consumer.batch.max_wait.0)),
    }));
    let api = options.listener.filter(|_| has(Role::Api)).map(|listener| ApiParts {
        pipeline: Arc::clone(pipeline),
        plan: blueprint.plan.clone(),
        listener,
        gate,
        viewer: viewer.clone(),
        registry,
        access: access.clone(),
        clock: Arc::clone(&options.clock),
        ledger: Arc::clone(&ledger),
        journal: (!journal_is_off()).then(|| journal_dir(pipeline)),
        desk: reads_here.then(|| common.desk.clone()),
        triggers: fetches_here.then(|| Arc::new(fetcher.clone()) as Arc<dyn Triggers>),
    });
    let lineage = (pipeline.lineage.is_some() && !journal_is_off()).then(|| LineageParts {
        pipeline: Arc::clone(pipeline),
        table: blueprint.table.clone(),
        ledger: Arc::clone(&ledger),
        journal: journal_dir(pipeline),
    });
    let traces = (pipeline.traces.is_some() && !journal_is_off()).then(|| TracesParts {
        pipeline: Arc::clone(pipeline),
        ledger: Arc::clone(&ledger),
        journal: journal_dir(pipeline),
    });
    children.push(common.observers(viewer.clone(), lineage, traces, api));
    let limits = Limits { max_restarts: 3, within: Duration::from_secs(300), ..common.limits() };
    let root = forebay_kernel::start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, environment);
    let pipeline = Arc::clone(pipeline);
    Ok(Running { root, viewer, telemetry, access, pipeline, ledger, fetches: fetched, fetcher, reads_here, _held: (lock, claim) })
}

/// The folder of a pipeline's journal.
pub fn journal_dir(pipeline: &Pipeline) -> PathBuf {
    pipeline.data_dir().join("journal")
}

/// The ledger of a pipeline whose data directory is locked.
fn open_ledger(pipeline: &Pipeline, clock: SharedClock) -> Result<Ledger, LedgerError> {
    if journal_is_off() {
        return Ok(Ledger::in_memory(clock));
    }
    let settings =
        Settings { pipeline: pipeline.meta.name.clone(), segment_bytes: pipeline.journal.segment.0, keep_bytes: pipeline.journal.keep.0 };
    let ledger = Ledger::open(&journal_dir(pipeline), RealDisk, settings, clock)?;
    let process = ledger.state().process;
    if process.starts > 0 && process.stopped.is_none() {
        tracing::info!("the process before this one did not stop in order; what it had not written is read again");
    }
    Ok(ledger)
}

/// Tells the ledger of this process.
fn begin(ledger: &Ledger, blueprint: &Blueprint, roles: &[Role]) {
    for command in first_commands(blueprint, roles) {
        if let Err(rejection) = ledger.submit(command) {
            tracing::error!(%rejection, "the ledger does not take the start of the process");
        }
    }
}

/// What the ledger is told when a process begins.
pub(super) fn first_commands(blueprint: &Blueprint, roles: &[Role]) -> Vec<Command> {
    let pipeline = &blueprint.pipeline;
    let mut commands = vec![Command::Begin {
        version: env!("CARGO_PKG_VERSION").into(),
        roles: roles.iter().map(|role| role.word().to_owned()).collect(),
        topic: pipeline.kafka.topic.clone(),
        group: pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()).unwrap_or_default(),
    }];
    commands.extend(source_of(pipeline).map(|source| Command::Fetch { source }));
    if let (Some(plan), Some(table)) = (&blueprint.plan, &pipeline.transformer) {
        commands.push(Command::Activate { sql: table.sql.clone(), fingerprint: plan.fingerprint() });
    }
    commands
}

/// The lock that makes a process the only one to write into a data directory, for as long as this is held.
#[derive(Debug)]
pub struct DataDirLock(#[expect(dead_code, reason = "it is held, not read")] File);

impl DataDirLock {
    /// The file in the data directory that is locked.
    pub const FILE: &str = "LOCK";

    /// Locks a data directory, which is made where it is missing.
    ///
    /// # Errors
    /// When another process holds it, or it can't be used.
    pub fn take(data_dir: &Path) -> Result<Self, StartError> {
        let unusable = |cause| StartError::DataDir { path: data_dir.to_owned(), cause };
        std::fs::create_dir_all(data_dir).map_err(unusable)?;
        let lock = File::options().create(true).truncate(false).write(true).open(data_dir.join(Self::FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Locked(data_dir.to_owned())),
            Err(std::fs::TryLockError::Error(cause)) => Err(unusable(cause)),
        }
    }
}

/// Whether a process runs on the pipeline's data directory.
pub fn is_running(pipeline: &Pipeline) -> bool {
    let lock = File::open(pipeline.data_dir().join(DataDirLock::FILE));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// What every part of the tree is made with.
#[derive(Clone)]
struct Common {
    pipeline: Arc<Pipeline>,
    access: Access,
    telemetry: Arc<Telemetry>,
    ledger: Arc<Ledger>,
    clock: SharedClock,
    desk: Desk,
}

impl Common {
    fn limits(&self) -> Limits {
        let table = &self.pipeline.supervisor;
        Limits {
            max_restarts: table.max_restarts,
            within: table.within.0,
            backoff: Backoff { min: table.backoff_min.0, max: table.backoff_max.0 },
            backoff_reset: table.backoff_reset.0,
        }
    }

    fn shutdown(&self) -> Duration {
        self.pipeline.supervisor.shutdown.0
    }

    fn egress_budget(&self) -> usize {
        self.pipeline.consumer.as_ref().map_or(0, |consumer| consumer.budget.as_usize())
    }

    fn ingest_budget(&self) -> usize {
        self.pipeline.producer.as_ref().map_or(0, |producer| producer.budget.as_usize())
    }

    /// Which topic there is, and what the group has committed of it, in lineages; nothing where the pipeline ends at the topic.
    fn lookout(&self) -> Lookout {
        let (access, pipeline) = (self.access.clone(), Arc::clone(&self.pipeline));
        Arc::new(move |others| {
            let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
            Box::pin(async move {
                let name = &pipeline.kafka.topic;
                let topic = broker::topic_id(&access, name).await.map_err(|error| error.to_string())?;
                let Some(consumer) = pipeline.consumer.as_ref().filter(|_| others) else { return Ok(Seen { topic, ..Seen::default() }) };
                let committed = broker::committed_with_metadata(&access, &consumer.group, name).await.map_err(|error| error.to_string())?;
                let place = |(at, it): (Partition, Committed)| Some((at, place_of(it.offset, &it.metadata, topic)?));
                Ok(Seen { topic, places: committed.into_iter().filter_map(place).collect() })
            })
        })
    }

    /// A sub-tree gets the time of all its children to stop in, since they stop one after the other.
    fn supervisor(&self, name: &'static str, make: impl FnMut() -> SupervisorSpec + 'static) -> ChildSpec {
        ChildSpec::supervisor(name, Restart::Permanent, self.shutdown() * 4, make)
    }

    /// Writer, transformer, consumer: each started with the mailbox of the one before it.
    fn egress(self, blueprint: Blueprint, budget: Budget, rows: Budget) -> impl FnMut() -> SupervisorSpec {
        move || {
            let plan = blueprint.plan.clone().expect("a pipeline that writes has a plan");
            let table = blueprint.table.clone().expect("a pipeline that writes has a table");
            let (to_writer, to_transformer) = (Handover::default(), Handover::default());

            let writer = {
                let parts = WriterParts {
                    pipeline: Arc::clone(&self.pipeline),
                    spec: table,
                    dead_letters: self.access.producer_again(),
                    remake: self.remake(),
                    sql_fingerprint: plan.fingerprint(),
                    ledger: Arc::clone(&self.ledger),
                    telemetry: Arc::clone(&self.telemetry),
                    clock: Arc::clone(&self.clock),
                };
                let slot = to_writer.clone();
                ChildSpec::actor("writer", Restart::Permanent, self.shutdown(), move |mailbox| {
                    slot.set(mailbox.clone());
                    Writer::new(parts.clone())
                })
            };
            let transformer = {
                let (slot, rows) = (to_transformer.clone(), rows.clone());
                ChildSpec::actor("transformer", Restart::Permanent, self.shutdown(), move |mailbox| {
                    slot.set(mailbox.clone());
                    Transformer::new(Arc::clone(&plan), to_writer.get(), rows.clone())
                })
            };
            let consumer = {
                let common = self.clone();
                let budget = budget.clone();
                ChildSpec::actor("consumer", Restart::Permanent, self.shutdown(), move |_| {
                    Consumer::new(common.consumer(&budget, to_transformer.get()))
                })
            };
            SupervisorSpec { strategy: Strategy::RestForOne, limits: self.limits(), children: vec![writer, transformer, consumer] }
        }
    }

    fn consumer(&self, budget: &Budget, to: Mailbox<Lease<PolledBatch>>) -> ConsumerParams {
        let table = self.pipeline.consumer.as_ref().expect("a pipeline that writes has a consumer");
        let (access, pipeline) = (self.access.clone(), Arc::clone(&self.pipeline));
        let (broker, group, topic) = (self.access.clone(), table.group.clone(), self.pipeline.kafka.topic.clone());
        let (asked, name) = (self.access.clone(), topic.clone());
        ConsumerParams {
            kafka: self.access.consumer(&table.group),
            topic: self.pipeline.kafka.topic.clone(),
            group: table.group.clone(),
            batch: table.batch.clone(),
            budget: budget.clone(),
            to,
            telemetry: Arc::clone(&self.telemetry),
            clock: Arc::clone(&self.clock),
            ledger: Arc::clone(&self.ledger),
            ensure: Arc::new(move || {
                let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
                Box::pin(async move {
                    let ready = broker::ensure_topics(&access, &pipeline).await.map(|_| ());
                    let topic = pipeline.kafka.topic.clone();
                    ready.map_err(|error| ConsumerError::Topic { topic, class: error.class(), reason: error.to_string() })
                })
            }),
            desk: self.desk.clone(),
            which: Arc::new(move || broker::topic_id_now(&asked, &name, TOPIC_WITHIN).map_err(|error| error.to_string())),
            kept: Arc::new(move || broker::kept_commits(&broker, &group, &topic).map_err(|error| error.to_string())),
        }
    }

    /// Makes the dead-letter topic where it is missing.
    fn remake(&self) -> Remake {
        let (access, pipeline) = (self.access.clone(), Arc::clone(&self.pipeline));
        Arc::new(move || {
            let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
            Box::pin(async move { broker::ensure_dead_letter_topic(&access, &pipeline).await.map_err(|error| error.to_string()) })
        })
    }

    /// Producer, then the fetcher that feeds it.
    fn ingest(self, budget: Budget, once: bool, reports: Arc<Reports>, link: FetcherLink) -> impl FnMut() -> SupervisorSpec {
        move || {
            let to_producer = Handover::default();
            let producer = {
                let common = self.clone();
                let slot = to_producer.clone();
                ChildSpec::actor("producer", Restart::Permanent, self.shutdown(), move |mailbox| {
                    slot.set(mailbox.clone());
                    let (pipeline, access) = (Arc::clone(&common.pipeline), common.access.clone());
                    Producer::new(pipeline, access, Arc::clone(&common.telemetry), Arc::clone(&common.ledger))
                })
            };
            let fetcher = {
                let (pipeline, schedule) = (Arc::clone(&self.pipeline), self.schedule(once));
                let link = link.clone();
                let to = Connections {
                    producer: to_producer,
                    budget: budget.clone(),
                    reports: Arc::clone(&reports) as Arc<dyn RunReports>,
                    telemetry: Arc::clone(&self.telemetry),
                    clock: Arc::clone(&self.clock),
                };
                ChildSpec::actor("fetcher", Restart::Permanent, self.shutdown(), move |mailbox| {
                    link.set(mailbox.clone());
                    Fetcher::new(Arc::clone(&pipeline), schedule, to.clone())
                })
            };
            SupervisorSpec { strategy: Strategy::RestForOne, limits: self.limits(), children: vec![producer, fetcher] }
        }
    }

    fn schedule(&self, once: bool) -> Schedule {
        match self.pipeline.fetcher.as_ref().and_then(|table| table.every) {
            _ if once => Schedule::Once,
            Some(every) => Schedule::Every(every.0),
            None => Schedule::OnTrigger,
        }
    }

    /// Those who only look on: alerts, lineage and traces if they are asked for, and the API if there is one.
    fn observers(&self, viewer: Viewer, lineage: Option<LineageParts>, traces: Option<TracesParts>, api: Option<ApiParts>) -> ChildSpec {
        let (common, limits, shutdown) = (self.clone(), self.limits(), self.shutdown());
        ChildSpec::supervisor("observers", Restart::Temporary, shutdown * 2, move || {
            let mut children = vec![{
                let (viewer, telemetry, places) =
                    (viewer.clone(), Arc::clone(&common.telemetry), DataPlaces::of(&common.pipeline, journal_dir(&common.pipeline)));
                ChildSpec::actor("alerts", Restart::Permanent, shutdown, move |_| {
                    Sentinel::new(viewer.clone(), Arc::clone(&telemetry), places.clone())
                })
            }];
            if let Some(lineage) = lineage.clone() {
                children.push(ChildSpec::actor("lineage", Restart::Permanent, shutdown, move |_| Lineage::new(lineage.clone())));
            }
            if let Some(traces) = traces.clone() {
                children.push(ChildSpec::actor("traces", Restart::Permanent, shutdown, move |_| Traces::new(traces.clone())));
            }
            if let Some(api) = api.clone() {
                children.push(ChildSpec::actor("api", Restart::Permanent, shutdown, move |_| Api::new(api.clone())));
            }
            SupervisorSpec { strategy: Strategy::OneForOne, limits: limits.clone(), children }
        })
    }
}

impl Running {
    /// Asks for an ordered stop; [`Running::exited`] says when it is done.
    pub fn stop(&self) {
        self.root.stop();
    }

    /// Waits for the end of the tree, keeps it in the journal, and says why it ended.
    pub async fn exited(&self) -> Exit {
        let exit = self.root.exited().await;
        let (ledger, clean) = (Arc::clone(&self.ledger), matches!(exit, Exit::Shutdown | Exit::Normal));
        if let Err(failed) = tokio::task::spawn_blocking(move || ledger.close(clean)).await {
            tracing::error!(%failed, "the journal was not closed");
        }
        exit
    }

    /// Takes looks at it.
    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// The consumer group, if the pipeline reads the topic.
    pub(super) fn group(&self) -> Option<&str> {
        self.pipeline.consumer.as_ref().map(|consumer| consumer.group.as_str())
    }

    pub(super) fn topic(&self) -> &str {
        &self.pipeline.kafka.topic
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What it has done since its start.
    pub fn summary(&self) -> Summary {
        let totals = self.telemetry.totals();
        Summary {
            fetched: totals.fetched,
            produced: totals.produced,
            consumed: totals.consumed,
            written: totals.written,
            rejected: totals.rejected,
            restarts: totals.restarts,
            latency_ms: self.telemetry.latency(),
            held_back: Vec::new(),
            stop: self.fetches.borrow().stop.clone(),
        }
    }

    /// Why too many of the records that this process has settled since its start are dead letters, if they are; without a limit that is so when all
    /// are.
    pub fn too_many_rejected(&self, limit: Option<MaxRejected>) -> Option<String> {
        let totals = self.telemetry.totals();
        let in_topic = if self.reads_here { totals.consumed } else { totals.produced };
        let records = (in_topic + self.telemetry.refused.get()).max(totals.rejected);
        let tried = Tried { records, good: records - totals.rejected, rejected: totals.rejected };
        MaxRejected::judge(limit, tried, &self.telemetry.reject_counts())
    }

    /// Holds the schedule: no more fetches but triggered ones.
    pub fn hold(&self) {
        self.fetcher.post(FetcherMessage::Hold);
    }

    /// Waits until the pipeline is meant to do less than it takes to become idle, and says what that is: paused it reads nothing, drained it fetches
    /// nothing.
    pub async fn held(&self) -> Desired {
        let mut changes = self.ledger.watch();
        loop {
            let desired = self.ledger.desired();
            let held = match desired.state {
                DesiredState::Running => false,
                DesiredState::Paused => true,
                DesiredState::Drained => self.pipeline.ingests(),
            };
            // The ledger is held, so its changes go on.
            if held || changes.changed().await.is_err() {
                return desired;
            }
        }
    }

    /// Waits until a scheduled fetch is produced; at once when this process does not fetch.
    ///
    /// # Errors
    /// When the fetch gave nothing that can be produced.
    pub async fn fetched_once(&self) -> Result<(), RunError> {
        let mut fetches = self.fetches.clone();
        let ended = fetches.wait_for(|fetches| fetches.done > 0 || fetches.failed.is_some()).await;
        match ended.as_deref() {
            Ok(Fetches { done: 0, failed: Some(error), .. }) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Waits until every record that can be read of the topic by then is settled: the group's committed offsets are where reading ends. While Kafka
    /// is away it waits on. Says what transactions hold back that are open then; it does not wait for their ends.
    pub async fn settled(&self, every: Duration) -> Vec<HeldBack> {
        let Some(consumer) = &self.pipeline.consumer else { return Vec::new() };
        loop {
            match self.lag(&consumer.group).await {
                Ok(0) => match broker::held_back(&self.access, &self.pipeline.kafka.topic).await {
                    Ok(held) => return held.into_iter().map(|(partition, range)| HeldBack { partition, range }).collect(),
                    Err(error) => tracing::debug!(%error, "can't tell whether a transaction is open"),
                },
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "can't tell the lag"),
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn lag(&self, group: &str) -> Result<u64, BrokerError> {
        let topic = &self.pipeline.kafka.topic;
        let ends = broker::ends(&self.access, topic).await?;
        // Of a topic that was recreated what was committed before says nothing.
        let id = broker::topic_id(&self.access, topic).await?;
        let committed = broker::committed_with_metadata(&self.access, group, topic).await?;
        let behind = |(partition, (begin, end)): (&Partition, &(Offset, Offset))| {
            let committed = committed.get(partition).filter(|it| id.is_none() || place_of(it.offset, &it.metadata, id).is_some());
            let done = committed.map_or(*begin, |it| it.offset.max(*begin));
            u64::try_from(end - done).unwrap_or(0)
        };
        Ok(ends.iter().map(behind).sum())
    }
}
