//! Builds and starts the supervision tree.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use forebay_schemas::error_class::Classified;
use forebay_schemas::offset::Partition;
use forebay_schemas::pipeline::{FetcherSection, Pipeline};
use tokio::sync::watch;

use super::blueprint::Blueprint;
use super::handle::Running;
use super::options::{Options, Role, StartError};
use super::startup_commands::{open_ledger, submit_startup_commands};
use crate::api::{Api, ApiParams, ApiTls, Authenticator, check_validity};
use crate::broker::embedded::Address;
use crate::broker::{self, Access, Committed, EmbeddedBroker};
use crate::consumer::{Consumer, ConsumerError, ConsumerParams, ResetHandle};
use crate::data_dir::{DataDirLock, journal_dir};
use crate::failpoint::journal_is_off;
use crate::fetcher::{Fetcher, FetcherHandle, FetcherParams, Schedule, ScheduledFetches};
use crate::ledger::{CancelRun, InspectTopic, Ledger, LedgerMonitor, TopicState};
use crate::message::PolledBatch;
use crate::observers::{Alerts, LifecycleRecorder, Lineage, LineageParams, SnapshotSource, Sources, Traces, TracesParams};
use crate::producer::Producer;
use crate::telemetry::{DataPaths, Need, Telemetry};
use crate::transformer::{DriftReporter, Transformer};
use crate::writer::{RecreateTopic, Writer, WriterParams};
use forebay_dataplane::commit_metadata::checkpoint_of;
use forebay_dataplane::store::Store;
use forebay_dataplane::transform::ROWS_BUDGET_BYTES;
use forebay_kernel::{
    ActorTree, Backoff, Budget, ChildSpec, Environment, Lease, Limits, Mailbox, MailboxSlot, Restart, SharedClock, Strategy,
    SupervisorSpec, micros,
};

/// The time-out of the poll loop for the id of the topic.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the pipeline. Must be called on the actor thread.
///
/// # Errors
/// When it can't start.
pub fn start(blueprint: &Blueprint, options: Options) -> Result<Running, StartError> {
    let pipeline = &blueprint.pipeline;
    let lock = match options.lock {
        Some(held) => held,
        None => DataDirLock::take(&pipeline.data_dir())?,
    };
    for warning in pipeline.security_warnings() {
        tracing::warn!(code = warning.code, "{}", warning.what);
    }
    let (embedded, claim) = match pipeline.kafka.is_embedded() {
        true => Address::pick(&pipeline.data_dir()).map(|(address, claim)| (Some(address), Some(claim)))?,
        false => (None, None),
    };
    let access = Access::new(pipeline, embedded.as_ref())?;
    let authenticator = Authenticator::new(pipeline)?;
    let tls = ApiTls::new(pipeline)?;
    let now = options.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Err(error) = check_validity(pipeline, now) {
        tracing::warn!(%error, remedy = error.remedy(), "clients of the API will refuse its certificate");
    }
    let has = |role| options.roles.contains(&role);

    let telemetry = Arc::new(Telemetry::new(Arc::clone(&options.clock)));
    let actor_tree = ActorTree::default();
    let max_rejected = pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.max_rejected);
    let ledger = Arc::new(open_ledger(pipeline, Arc::clone(&options.clock))?.with_max_rejected(max_rejected));
    submit_startup_commands(&ledger, blueprint, &options.roles);
    let environment = Environment {
        clock: Arc::clone(&options.clock),
        seed: options.seed,
        listener: Arc::new(LifecycleRecorder { telemetry: Arc::clone(&telemetry), ledger: Arc::clone(&ledger) }),
        actor_tree: actor_tree.clone(),
    };
    let common = Common {
        pipeline: Arc::clone(pipeline),
        access: access.clone(),
        telemetry: Arc::clone(&telemetry),
        ledger: Arc::clone(&ledger),
        clock: Arc::clone(&options.clock),
        resets: ResetHandle::default(),
    };

    let fetcher = FetcherHandle::default();
    let mut children = vec![{
        let (ledger, inspect_topic, link) = (Arc::clone(&ledger), common.inspect_topic(), fetcher.clone());
        let cancel_run: CancelRun = Arc::new(move |run| link.cancel(run));
        ChildSpec::actor("ledger", Restart::Permanent, common.shutdown(), move |_| {
            LedgerMonitor::new(Arc::clone(&ledger), Arc::clone(&inspect_topic), Arc::clone(&cancel_run))
        })
    }];
    let mut edges = Vec::new();
    if let Some(address) = embedded {
        let here = common.clone();
        children.push(ChildSpec::actor("broker", Restart::Permanent, common.shutdown(), move |_| {
            EmbeddedBroker::new(&here.pipeline, address.clone(), here.access.clone(), Arc::clone(&here.telemetry), Arc::clone(&here.clock))
        }));
    }
    let reads_here = has(Role::Egress) && pipeline.writes();
    if reads_here {
        let (kind, consistency) = Store::kind_of(pipeline);
        telemetry.writes_to(kind, &consistency);
        telemetry.needs(Need::Topics);
        telemetry.needs(Need::Table);
        let budget = Budget::new("consumer -> writer", common.egress_budget());
        let rows = Budget::new("transformer -> writer", ROWS_BUDGET_BYTES);
        edges.extend([budget.clone(), rows.clone()]);
        children.push(common.supervisor("egress", common.clone().egress(blueprint.clone(), budget, rows)));
    }
    let (scheduled, scheduled_fetches) = watch::channel(ScheduledFetches::default());
    let fetches_here = has(Role::Ingest) && pipeline.ingests();
    if fetches_here {
        telemetry.needs(Need::Topics);
        let budget = Budget::new("fetcher -> producer", common.ingest_budget());
        edges.push(budget.clone());
        children.push(common.supervisor("ingest", common.clone().ingest(budget, options.fetch_once, scheduled, fetcher.clone())));
    }
    let snapshots = SnapshotSource(Arc::new(Sources {
        pipeline: pipeline.meta.name.clone(),
        topic: pipeline.kafka.topic.clone(),
        table: pipeline.writer.as_ref().map_or_else(String::new, |writer| writer.table.clone()),
        kafka: access.describe(),
        cassandra: Store::describe_of(pipeline),
        roles: options.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        started_at: options.clock.wall().into(),
        clock: Arc::clone(&options.clock),
        telemetry: Arc::clone(&telemetry),
        actor_tree: actor_tree.clone(),
        ledger: Arc::clone(&ledger),
        edges,
        paging: pipeline.fetcher.as_ref().and_then(FetcherSection::paging),
        trigger_micros: pipeline.consumer.as_ref().filter(|_| has(Role::Egress)).map(|consumer| micros(consumer.batch.max_wait.0)),
    }));
    let api = options.listener.filter(|_| has(Role::Api)).map(|listener| ApiParams {
        pipeline: Arc::clone(pipeline),
        transform: blueprint.transform.clone(),
        listener,
        tls,
        authenticator,
        snapshots: snapshots.clone(),
        actor_tree,
        access: access.clone(),
        clock: Arc::clone(&options.clock),
        ledger: Arc::clone(&ledger),
        journal: (!journal_is_off()).then(|| journal_dir(pipeline)),
        resets: reads_here.then(|| common.resets.clone()),
        fetcher: fetches_here.then(|| fetcher.clone()),
    });
    let lineage = (pipeline.lineage.is_some() && !journal_is_off()).then(|| LineageParams {
        pipeline: Arc::clone(pipeline),
        table: blueprint.table.clone(),
        ledger: Arc::clone(&ledger),
        journal: journal_dir(pipeline),
    });
    let traces = (pipeline.traces.is_some() && !journal_is_off()).then(|| TracesParams {
        pipeline: Arc::clone(pipeline),
        ledger: Arc::clone(&ledger),
        journal: journal_dir(pipeline),
    });
    children.push(common.observers(snapshots.clone(), lineage, traces, api));
    let limits = Limits { max_restarts: 3, within: Duration::from_secs(300), ..common.limits() };
    let root = forebay_kernel::start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children }, environment);
    let pipeline = Arc::clone(pipeline);
    Ok(Running {
        root,
        snapshots,
        telemetry,
        access,
        pipeline,
        ledger,
        scheduled: scheduled_fetches,
        fetcher,
        reads_here,
        _locks: (lock, claim),
    })
}

/// What every part of the tree is built from.
#[derive(Clone)]
struct Common {
    pipeline: Arc<Pipeline>,
    access: Access,
    telemetry: Arc<Telemetry>,
    ledger: Arc<Ledger>,
    clock: SharedClock,
    resets: ResetHandle,
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

    /// Reads the id of the topic and the checkpoints that the group has committed. No checkpoints
    /// when the pipeline ends at the topic.
    fn inspect_topic(&self) -> InspectTopic {
        let (access, pipeline) = (self.access.clone(), Arc::clone(&self.pipeline));
        Arc::new(move |others| {
            let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
            Box::pin(async move {
                let name = &pipeline.kafka.topic;
                let topic = broker::topic_id(&access, name).await.map_err(|error| error.to_string())?;
                let Some(consumer) = pipeline.consumer.as_ref().filter(|_| others) else {
                    return Ok(TopicState { topic, ..TopicState::default() });
                };
                let committed = broker::committed_with_metadata(&access, &consumer.group, name).await.map_err(|error| error.to_string())?;
                let checkpoint = |(at, it): (Partition, Committed)| Some((at, checkpoint_of(it.offset, &it.metadata, topic)?));
                Ok(TopicState { topic, checkpoints: committed.into_iter().filter_map(checkpoint).collect() })
            })
        })
    }

    /// A subtree. Its time-out to stop covers its children, which stop one after the other.
    fn supervisor(&self, name: &'static str, make: impl FnMut() -> SupervisorSpec + 'static) -> ChildSpec {
        ChildSpec::supervisor(name, Restart::Permanent, self.shutdown() * 4, make)
    }

    /// Writer, transformer, consumer: each starts with the mailbox of the one before it.
    fn egress(self, blueprint: Blueprint, budget: Budget, rows: Budget) -> impl FnMut() -> SupervisorSpec {
        move || {
            let transform = blueprint.transform.clone().expect("a pipeline that writes has SQL");
            let table = blueprint.table.clone().expect("a pipeline that writes has a table");
            let (to_writer, to_transformer) = (MailboxSlot::default(), MailboxSlot::default());

            let writer = {
                let params = WriterParams {
                    pipeline: Arc::clone(&self.pipeline),
                    spec: table,
                    dead_letters: self.access.copy_producer(),
                    recreate_topic: self.recreate_topic(),
                    sql_fingerprint: transform.fingerprint(),
                    ledger: Arc::clone(&self.ledger),
                    telemetry: Arc::clone(&self.telemetry),
                    clock: Arc::clone(&self.clock),
                };
                let slot = to_writer.clone();
                ChildSpec::actor("writer", Restart::Permanent, self.shutdown(), move |mailbox| {
                    slot.set(mailbox.clone());
                    Writer::new(params.clone())
                })
            };
            let transformer = {
                let (slot, rows) = (to_transformer.clone(), rows.clone());
                let policy = self.pipeline.transformer.as_ref().map(|transformer| transformer.drift).unwrap_or_default();
                let drift = DriftReporter::new(policy, Arc::clone(&self.ledger), Arc::clone(&self.telemetry));
                ChildSpec::actor("transformer", Restart::Permanent, self.shutdown(), move |mailbox| {
                    slot.set(mailbox.clone());
                    Transformer::new(Arc::clone(&transform), to_writer.get(), rows.clone(), drift.clone())
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
            ensure_topic: Arc::new(move || {
                let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
                Box::pin(async move {
                    let ready = broker::ensure_topics(&access, &pipeline).await.map(|_| ());
                    let topic = pipeline.kafka.topic.clone();
                    ready.map_err(|error| ConsumerError::Topic { topic, class: error.class(), reason: error.to_string() })
                })
            }),
            resets: self.resets.clone(),
            topic_id: Arc::new(move || broker::topic_id_now(&asked, &name, TOPIC_ID_TIMEOUT).map_err(|error| error.to_string())),
            stored_metadata: Arc::new(move || broker::kept_commits(&broker, &group, &topic).map_err(|error| error.to_string())),
        }
    }

    /// Re-creates the dead-letter topic if it is missing.
    fn recreate_topic(&self) -> RecreateTopic {
        let (access, pipeline) = (self.access.clone(), Arc::clone(&self.pipeline));
        Arc::new(move || {
            let (access, pipeline) = (access.clone(), Arc::clone(&pipeline));
            Box::pin(async move { broker::ensure_dead_letter_topic(&access, &pipeline).await.map_err(|error| error.to_string()) })
        })
    }

    /// Producer, then the fetcher that sends to it.
    fn ingest(
        self,
        budget: Budget,
        once: bool,
        scheduled: watch::Sender<ScheduledFetches>,
        handle: FetcherHandle,
    ) -> impl FnMut() -> SupervisorSpec {
        move || {
            let to_producer = MailboxSlot::default();
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
                let handle = handle.clone();
                let params = FetcherParams {
                    pipeline: Arc::clone(&self.pipeline),
                    schedule: self.schedule(once),
                    producer: to_producer,
                    budget: budget.clone(),
                    ledger: Arc::clone(&self.ledger),
                    scheduled: scheduled.clone(),
                    telemetry: Arc::clone(&self.telemetry),
                    clock: Arc::clone(&self.clock),
                };
                ChildSpec::actor("fetcher", Restart::Permanent, self.shutdown(), move |mailbox| {
                    handle.set(mailbox.clone());
                    Fetcher::new(params.clone())
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

    /// The observers: alerts, and lineage, traces and API if configured.
    fn observers(
        &self,
        snapshots: SnapshotSource,
        lineage: Option<LineageParams>,
        traces: Option<TracesParams>,
        api: Option<ApiParams>,
    ) -> ChildSpec {
        let (common, limits, shutdown) = (self.clone(), self.limits(), self.shutdown());
        ChildSpec::supervisor("observers", Restart::Temporary, shutdown * 2, move || {
            let mut children = vec![{
                let (snapshots, telemetry, places) =
                    (snapshots.clone(), Arc::clone(&common.telemetry), DataPaths::of(&common.pipeline, journal_dir(&common.pipeline)));
                ChildSpec::actor("alerts", Restart::Permanent, shutdown, move |_| {
                    Alerts::new(snapshots.clone(), Arc::clone(&telemetry), places.clone())
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
