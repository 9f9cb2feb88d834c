//! The poll loop against librdkafka's mock cluster, inside the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, WriteTimestamp};
use forebay_schemas::pipeline::{BatchSection, Bytes, HumanDuration};
use forebay_schemas::topic_id::TopicId;
use futures_util::FutureExt as _;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::params::EnsureTopic;
use super::reset_handle::{ResetError, ResetHandle, ResetRequest};
use super::{Consumer, ConsumerError, ConsumerParams, poll};
use crate::broker::test_producer;
use crate::ledger::Ledger;
use crate::message::{BatchDone, PolledBatch, RECORD_OVERHEAD};
use crate::telemetry::Telemetry;
use forebay_dataplane::arena_headers;
use forebay_dataplane::commit_metadata::CommitMetadata;
use forebay_dataplane::write_clock::WriteClock;
use forebay_kernel as kernel;
use forebay_kernel::{
    ActorTree, Backoff, Budget, Cancel, ChildSpec, Environment, Exit, Lease, Limits, Mailbox, Progress, Restart, Strategy, SupervisorSpec,
    SystemClock,
};
use forebay_schemas::error_class::{Class, Classified};

const TOPIC: &str = "users";
const GROUP: &str = "readers";
/// The time limit of a test.
const EVER: Duration = Duration::from_secs(60);
const VALUE: [u8; 36] = [b'x'; 36];
/// The weight of a record in these tests: no key, and a value.
const WEIGHT: usize = VALUE.len() + RECORD_OVERHEAD;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, partitions, 1).unwrap();
    cluster
}

fn config(cluster: &Cluster) -> ClientConfig {
    ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).clone()
}

fn produce(cluster: &Cluster, partition: Partition, count: usize) {
    let producer: BaseProducer = config(cluster).create().unwrap();
    for _ in 0..count {
        producer.send(BaseRecord::<(), [u8]>::to(TOPIC).partition(partition).payload(&VALUE[..])).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(EVER).unwrap();
}

fn offsets(of: &[(Partition, i64)]) -> BTreeMap<Partition, Offset> {
    of.iter().map(|&(partition, offset)| (partition, Offset(offset))).collect()
}

fn commits(cluster: &Cluster, partitions: i32) -> BTreeMap<Partition, (i64, String)> {
    let asker: BaseConsumer = config(cluster).set("group.id", GROUP).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(TOPIC, 0, partitions - 1);
    let list = asker.committed_offsets(list, EVER).unwrap();
    let committed = list.elements().into_iter().filter_map(|element| match element.offset() {
        Position::Offset(offset) => Some((element.partition(), (offset, element.metadata().to_owned()))),
        _ => None,
    });
    committed.collect()
}

/// A consumer on its thread, with the test in the role of the transformer.
struct TestConsumer {
    thread: JoinHandle<Result<(), ConsumerError>>,
    inbox: UnboundedReceiver<Lease<PolledBatch>>,
    drain: Arc<AtomicBool>,
    telemetry: Arc<Telemetry>,
    budget: Budget,
    ledger: Arc<Ledger>,
    progress: Progress,
    resets: ResetHandle,
}

impl TestConsumer {
    fn start(cluster: &Cluster, budget: usize, change: impl FnOnce(&mut ConsumerParams)) -> Self {
        let (to, inbox) = Mailbox::probe();
        let ledger = Arc::new(Ledger::in_memory(SystemClock::shared()));
        let mut params = ConsumerParams {
            // The mock cluster waits for the session timeout, less a second, before it rebalances a
            // group with members.
            kafka: config(cluster).set("session.timeout.ms", "6000").clone(),
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            batch: BatchSection { max_records: 100, max_bytes: Bytes(1 << 20), max_wait: HumanDuration(Duration::from_millis(5)) },
            budget: Budget::new("consumer -> writer", budget),
            to,
            telemetry: Arc::default(),
            clock: SystemClock::shared(),
            ledger: Arc::clone(&ledger),
            ensure_topic: Arc::new(|| async { Ok(()) }.boxed()),
            stored_metadata: Arc::new(|| Ok(BTreeMap::new())),
            topic_id: Arc::new(|| Ok(TopicId::from_bits(2))),
            resets: ResetHandle::default(),
        };
        change(&mut params);
        let (drain, telemetry, budget) = (Arc::new(AtomicBool::new(false)), Arc::clone(&params.telemetry), params.budget.clone());
        let (progress, resets) = (Progress::default(), params.resets.clone());
        let (drain_of_loop, progress_of_loop) = (Arc::clone(&drain), progress.clone());
        let thread = thread::spawn(move || poll::run(&params, &progress_of_loop, &drain_of_loop, &Cancel::default()));
        Self { thread, inbox, drain, telemetry, budget, ledger, progress, resets }
    }

    fn try_batch(&mut self) -> Option<Lease<PolledBatch>> {
        match self.inbox.try_recv() {
            Ok(batch) => Some(batch),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the consumer has ended: {:?}", self.thread.is_finished()),
        }
    }

    fn batch(&mut self) -> Lease<PolledBatch> {
        until("a batch", || self.try_batch())
    }

    /// Returns batches with `count` records.
    fn batches(&mut self, count: usize) -> Vec<Lease<PolledBatch>> {
        let mut batches: Vec<Lease<PolledBatch>> = Vec::new();
        while batches.iter().map(|batch| batch.body.raw.records.len()).sum::<usize>() < count {
            batches.push(self.batch());
        }
        batches
    }

    fn paused(&self) -> bool {
        self.telemetry.partitions().iter().any(|view| view.paused)
    }

    /// Requests an offset reset; the thread returns the answer.
    fn request_reset(&self, to: &[(Partition, i64)]) -> JoinHandle<Result<usize, ResetError>> {
        let to = offsets(to);
        let request = ResetRequest { to, by: "a test".to_owned(), reason: "to see".to_owned() };
        let resets = self.resets.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        thread::spawn(move || runtime.block_on(resets.ask(request)))
    }

    fn stop(self) -> Result<(), ConsumerError> {
        self.drain.store(true, Ordering::Relaxed);
        self.ended()
    }

    /// Waits for the end of the thread.
    fn ended(self) -> Result<(), ConsumerError> {
        until("an end", || self.thread.is_finished().then_some(()));
        self.thread.join().unwrap()
    }

    /// Stops, and settles what arrives until then.
    fn stop_settling(mut self) -> Result<(), ConsumerError> {
        self.drain.store(true, Ordering::Relaxed);
        until("an end", || {
            while let Ok(batch) = self.inbox.try_recv() {
                settle(batch);
            }
            self.thread.is_finished().then_some(())
        });
        self.thread.join().unwrap()
    }
}

fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(began.elapsed() < EVER, "no {what} in {EVER:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn settle(batch: Lease<PolledBatch>) -> Vec<(Partition, i64)> {
    let records = batch.body.raw.records.iter().map(|record| (record.partition, record.offset.value())).collect();
    batch.body.receipt.settle(BatchDone::default());
    records
}

#[test]
fn the_next_process_continues_from_the_commit_with_the_same_clock() {
    let cluster = cluster(2);
    produce(&cluster, 0, 150);
    produce(&cluster, 1, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(155);
    assert!(batches.iter().all(|batch| batch.credit.bytes() == batch.body.raw.records.len() * WEIGHT), "a batch holds exactly its weight");
    assert!(batches.iter().all(|batch| batch.body.raw.records.len() <= 100));
    assert_eq!(batches.iter().map(|batch| batch.body.id).collect::<Vec<_>>(), (1..=batches.len() as u64).collect::<Vec<_>>());
    let last = batches.iter().flat_map(|batch| &batch.body.raw.records).rfind(|record| record.partition == 0).unwrap().clone();
    assert_eq!(batches[0].body.raw.value(&batches[0].body.raw.records[0]), Some(&VALUE[..]));
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    until("written ends", || (consumer.ledger.state().written() == offsets(&[(0, 150), (1, 5)])).then_some(()));
    until("commits", || (consumer.telemetry.partitions().iter().map(|view| view.committed.value()).sum::<i64>() == 155).then_some(()));
    assert_eq!((consumer.telemetry.totals().consumed, consumer.budget.used()), (155, 0));
    let ledger = Arc::clone(&consumer.ledger);
    consumer.stop().unwrap();
    let (checkpoint, topic) = (ledger.checkpoints()[&0], ledger.state().topic_id);
    assert!(topic.is_some());
    assert_eq!((checkpoint.offset, checkpoint.write_clock.micros()), (Offset(150), last.write_ts));
    assert_eq!(commits(&cluster, 2)[&0], (150, CommitMetadata::new(&checkpoint, topic).to_string()));

    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batch = consumer.batch();
    let record = &batch.body.raw.records[0];
    assert_eq!((record.partition, record.offset), (0, Offset(150)));
    let least = (last.write_ts + WriteClock::STEP).max(record.timestamp_ms * 1_000);
    assert!((least..least + 16).contains(&record.write_ts), "{least} {}", record.write_ts);
    assert_eq!(consumer.telemetry.written(), offsets(&[(0, 150), (1, 5)]), "a committed offset counts as written");
    settle(batch);
    consumer.stop().unwrap();
    assert_eq!(commits(&cluster, 2)[&0].0, 151);
}

/// Produces a record with headers and a timestamp.
fn produce_with(cluster: &Cluster, timestamp_ms: i64, headers: &[(&str, Option<&[u8]>)]) {
    let producer: BaseProducer = config(cluster).create().unwrap();
    let headers = headers.iter().fold(OwnedHeaders::new(), |all, &(key, value)| all.insert(Header { key, value }));
    let record = BaseRecord::<(), [u8]>::to(TOPIC).partition(0).payload(&VALUE[..]).timestamp(timestamp_ms).headers(headers);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(EVER).unwrap();
}

#[test]
fn headers_whose_names_are_not_utf_8_are_left_out_and_counted() {
    let cluster = cluster(1);
    let names: [test_producer::Header<'_>; 4] = [(b"\xff\xfe", b"1"), (b"run", b"2"), (b"caf\xe9", b"3"), (b"caf\xc3\xa9", b"4")];
    test_producer::produce(&cluster.bootstrap_servers(), TOPIC, 0, &[&VALUE], &names);
    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(2);
    let batch = &batches[0].body;
    let headers = batch.raw.headers(&batch.raw.records[0]);
    assert_eq!(arena_headers::read(headers).collect::<Vec<_>>(), [("run", Some(&b"2"[..])), ("café", Some(&b"4"[..]))]);
    assert_eq!(arena_headers::count_unreadable(headers), 2);
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    consumer.stop().unwrap();
}

#[test]
fn headers_arrive_unchanged_and_in_order() {
    let cluster = cluster(1);
    let sent: [(&str, Option<&[u8]>); 4] = [("run", Some(b"1")), ("none", None), ("run", Some(b"2")), ("bytes", Some(&[0xff]))];
    produce_with(&cluster, 1_000, &sent);
    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(2);
    let batch = &batches[0].body;
    assert_eq!(arena_headers::read(batch.raw.headers(&batch.raw.records[0])).collect::<Vec<_>>(), sent);
    let last = &batches[batches.len() - 1].body;
    assert_eq!(last.raw.headers(&last.raw.records[last.raw.records.len() - 1]), b"", "no headers are none");
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    consumer.stop().unwrap();
}

#[test]
fn implausible_timestamps_are_counted_on_their_partition() {
    let cluster = cluster(2);
    produce_with(&cluster, 7_258_118_400_000, &[]);
    produce_with(&cluster, 1_700_000_000, &[]);
    produce(&cluster, 1, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(3);
    let clamped: Vec<_> = consumer.telemetry.partitions().iter().map(|view| (view.partition, view.clamped)).collect();
    assert_eq!(clamped, [(0, 2), (1, 0)], "one in the year 2200, and seconds for milliseconds");
    let unkeyed: Vec<_> = consumer.telemetry.partitions().iter().map(|view| (view.partition, view.unkeyed)).collect();
    assert_eq!(unkeyed, [(0, 2), (1, 1)], "none of them has a key");
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    consumer.stop().unwrap();
}

#[test]
fn an_added_partition_starts_after_the_largest_clock_of_all_others() {
    let cluster = cluster(3);
    // The group has read all but the last partition, one of them with a clock in the future.
    let ahead = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap() + 3_000_000_000;
    let asker: BaseConsumer = config(&cluster).set("group.id", GROUP).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, clock) in [(0, ahead), (1, 5_000)] {
        let mut element = list.add_partition(TOPIC, partition);
        element.set_offset(Position::Offset(0)).unwrap();
        element.set_metadata(
            CommitMetadata::new(
                &Checkpoint { offset: Offset(0), write_clock: WriteTimestamp::from_micros(clock), epoch: Epoch::new(7) },
                None,
            )
            .to_string(),
        );
    }
    asker.commit(&list, CommitMode::Sync).unwrap();
    produce(&cluster, 2, 1);
    produce(&cluster, 1, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(2);
    let written: BTreeMap<_, _> =
        batches.iter().flat_map(|batch| &batch.body.raw.records).map(|record| (record.partition, record.write_ts)).collect();
    assert!(written[&2] > ahead, "a key that moved there wins over its earlier rows: {written:?}");
    assert!(written[&1] < ahead, "a known partition continues with its own clock: {written:?}");
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    consumer.stop().unwrap();
}

#[test]
fn a_single_record_is_sent_at_once_and_the_next_waits_while_it_is_in_flight() {
    let cluster = cluster(1);
    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |params| params.batch.max_wait = HumanDuration(Duration::from_secs(3_600)));
    let first = consumer.batch();
    produce(&cluster, 0, 1);
    produce(&cluster, 0, 1);
    until("the end", || consumer.telemetry.partitions().iter().any(|view| view.end == Offset(3)).then_some(()));
    assert!(consumer.try_batch().is_none(), "with one in flight it waits up to `max_wait`");
    settle(first);
    assert_eq!(settle(consumer.batch()), [(0, 1), (0, 2)]);
    consumer.stop().unwrap();
}

#[test]
fn without_budget_it_stays_in_the_group_and_loses_nothing() {
    let cluster = cluster(2);
    produce(&cluster, 0, 60);
    produce(&cluster, 1, 60);
    let mut consumer = TestConsumer::start(&cluster, 20 * WEIGHT + WEIGHT / 2, |params| {
        // The group evicts a member that does not poll for longer.
        params.kafka.set("max.poll.interval.ms", "6000");
        params.batch.max_records = 7;
    });
    let mut held = consumer.batches(20);
    until("a pause", || consumer.paused().then_some(()));
    thread::sleep(Duration::from_secs(8));
    assert!(consumer.try_batch().is_none());
    assert_eq!(held.iter().map(|batch| batch.credit.bytes()).sum::<usize>(), 20 * WEIGHT);
    assert!(consumer.budget.blocked() > Duration::from_secs(7), "the wait is counted");
    assert!(consumer.telemetry.partitions().iter().all(|view| view.assigned && view.paused));

    let mut read: Vec<(Partition, i64)> = Vec::new();
    while read.len() < 120 {
        held.drain(..).for_each(|batch| read.extend(settle(batch)));
        if read.len() < 120 {
            held.push(consumer.batch());
            held.extend(std::iter::from_fn(|| consumer.try_batch()));
            assert!(held.iter().map(|batch| batch.credit.bytes()).sum::<usize>() <= consumer.budget.capacity());
        }
    }
    for partition in 0..2 {
        let read: Vec<_> = read.iter().filter(|(of, _)| *of == partition).map(|&(_, offset)| offset).collect();
        assert_eq!(read, (0..60).collect::<Vec<_>>(), "each once and in order, across pauses");
    }
    assert!(consumer.telemetry.partitions().iter().all(|view| view.assigned));
    consumer.stop().unwrap();
    assert_eq!(commits(&cluster, 2).into_values().map(|(offset, _)| offset).collect::<Vec<_>>(), [60, 60]);
}

#[test]
fn a_record_heavier_than_the_whole_budget_passes_alone() {
    let cluster = cluster(1);
    produce(&cluster, 0, 3);
    let mut consumer = TestConsumer::start(&cluster, WEIGHT / 2, |_| ());
    for offset in 0..3 {
        let batch = consumer.batch();
        assert_eq!((batch.credit.bytes(), consumer.budget.used()), (WEIGHT / 2, WEIGHT / 2));
        assert!(consumer.try_batch().is_none());
        assert_eq!(settle(batch), [(0, offset)]);
    }
    consumer.stop().unwrap();
}

/// Two consumers share four partitions of 50 records, and then each partition gets five more.
/// Returns whether Kafka accepted the first consumer's commits of the partitions that it released.
/// The mock cluster elects a leader without waiting for all members, and then rejects the commits
/// of late ones; a member that joins twice, on a busy machine, causes that.
fn take_over() -> bool {
    let cluster = cluster(4);
    for partition in 0..4 {
        produce(&cluster, partition, 50);
    }
    let mut first = TestConsumer::start(&cluster, 1 << 20, |params| params.batch.max_records = 10);
    let held = first.batches(200);
    let mut second = TestConsumer::start(&cluster, 1 << 20, |_| ());
    // The first keeps the partitions while their batches are in flight.
    thread::sleep(Duration::from_secs(4));
    assert!(second.try_batch().is_none());
    assert!(second.telemetry.partitions().iter().all(|view| !view.assigned));
    held.into_iter().for_each(|batch| drop(settle(batch)));
    until("a share", || (second.telemetry.partitions().iter().filter(|view| view.assigned).count() == 2).then_some(()));
    assert_eq!(first.telemetry.partitions().iter().filter(|view| view.assigned).count(), 2);
    let starts = second.telemetry.written();
    let committed = commits(&cluster, 4);
    assert!(starts.iter().all(|(partition, start)| start.value() == committed[partition].0), "{starts:?} of {committed:?}");

    for partition in 0..4 {
        produce(&cluster, partition, 5);
    }
    let from = |partition: &Partition| starts.get(partition).map_or(50, |start| start.value());
    let expected: BTreeSet<_> = (0..4).flat_map(|partition| (from(&partition)..55).map(move |offset| (partition, offset))).collect();
    let mut read = BTreeSet::new();
    until("all records", || {
        for batch in [first.try_batch(), second.try_batch()].into_iter().flatten() {
            for record in settle(batch) {
                assert!(read.insert(record), "{record:?} is read twice");
            }
        }
        (read.len() == expected.len()).then_some(())
    });
    assert_eq!(read, expected);
    first.stop().unwrap();
    until("the rest", || (second.telemetry.partitions().iter().filter(|view| view.assigned).count() == 4).then_some(()));
    second.stop_settling().unwrap();
    assert!(commits(&cluster, 4).into_values().all(|(offset, _)| offset == 55));
    starts.values().all(|start| *start == Offset(50))
}

#[test]
fn a_second_consumer_takes_over_behind_what_the_first_had_in_flight() {
    assert!((0..4).any(|_| take_over()), "the first commits what it releases, when Kafka accepts it");
}

#[test]
fn partitions_are_reset_after_what_was_in_flight_and_read_again_with_later_timestamps() {
    let cluster = cluster(2);
    produce(&cluster, 0, 20);
    produce(&cluster, 1, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(25);
    let last = batches.iter().flat_map(|batch| &batch.body.raw.records).rfind(|record| record.partition == 0).unwrap().write_ts;
    let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap();
    let asked = consumer.request_reset(&[(0, 5), (1, 9)]);
    thread::sleep(Duration::from_millis(50));
    assert!(!asked.is_finished(), "what is in flight settles first");
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    assert_eq!(asked.join().unwrap(), Ok(1), "a partition that was not read that far stays");
    let (ledger, telemetry) = (Arc::clone(&consumer.ledger), Arc::clone(&consumer.telemetry));
    consumer.ended().unwrap();
    let checkpoint = ledger.checkpoints()[&0];
    assert_eq!(checkpoint.offset, Offset(5));
    assert!(
        checkpoint.write_clock.micros() >= now && checkpoint.write_clock.micros() >= last,
        "after all that was written, and after what was deleted by hand until now: {}",
        checkpoint.write_clock.micros()
    );
    let committed = commits(&cluster, 2);
    assert_eq!((&committed[&0], committed[&1].0), (&(5, CommitMetadata::new(&checkpoint, ledger.state().topic_id).to_string()), 5));
    assert_eq!(telemetry.written(), offsets(&[(0, 5), (1, 5)]));

    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |params| params.ledger = ledger);
    let again: Vec<_> = consumer.batches(15).into_iter().flat_map(|batch| batch.body.raw.records.clone()).collect();
    assert_eq!(again.iter().map(|record| record.offset.value()).collect::<Vec<_>>(), (5..20).collect::<Vec<_>>());
    assert!(again.iter().all(|record| record.write_ts > last && record.write_ts > now));
    drop(consumer.thread);
}

#[test]
fn a_recreated_topic_ends_the_incarnation_after_what_was_in_flight() {
    let cluster = cluster(1);
    produce(&cluster, 0, 9);
    // The commit is of an earlier topic, which held as many records or more.
    let of_before = Checkpoint { offset: Offset(5), write_clock: WriteTimestamp::from_micros(7_000_000_000_000_000), epoch: Epoch::new(3) };
    let other: BaseConsumer = config(&cluster).set("group.id", GROUP).create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(TOPIC, 0);
    element.set_offset(Position::Offset(of_before.offset.value())).unwrap();
    element.set_metadata(CommitMetadata::new(&of_before, TopicId::from_bits(1)).to_string());
    other.commit(&list, CommitMode::Sync).unwrap();
    drop(other);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(9);
    let read: Vec<_> =
        batches.iter().flat_map(|batch| &batch.body.raw.records).map(|record| (record.offset.value(), record.write_ts)).collect();
    assert_eq!(read, (0..9).map(|n| (n, of_before.write_clock.micros() + (n + 1) * WriteClock::STEP)).collect::<Vec<_>>());

    assert_eq!(consumer.ledger.observe_topic(TopicId::from_bits(3)), Some(1));
    thread::sleep(Duration::from_millis(50));
    assert!(!consumer.thread.is_finished(), "what is in flight settles first");
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    let ledger = Arc::clone(&consumer.ledger);
    consumer.ended().unwrap();
    assert_eq!(ledger.checkpoints()[&0].write_clock.micros(), read[8].1);
}

#[test]
fn an_unconfirmed_reset_ends_the_incarnation_and_a_foreign_partition_is_rejected() {
    let cluster = cluster(1);
    produce(&cluster, 0, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    consumer.batches(5).into_iter().for_each(|batch| drop(settle(batch)));
    until("the commit", || consumer.telemetry.partitions().iter().any(|view| view.committed == Offset(5)).then_some(()));
    assert_eq!(consumer.request_reset(&[(0, 0), (7, 0)]).join().unwrap(), Err(ResetError::NotAssigned(vec![7])));
    produce(&cluster, 0, 1);
    settle(consumer.batch());
    until("the commit", || consumer.telemetry.partitions().iter().any(|view| view.committed == Offset(6)).then_some(()));
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3]);
    assert!(matches!(consumer.request_reset(&[(0, 0)]).join().unwrap(), Err(ResetError::Unconfirmed(_))));
    consumer.ended().unwrap();
    assert_eq!(commits(&cluster, 1)[&0].0, 6);
}

#[test]
fn a_reset_request_without_a_consumer_is_withdrawn() {
    let resets = ResetHandle::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let request = ResetRequest { to: offsets(&[(0, 0)]), by: String::new(), reason: String::new() };
    assert_eq!(runtime.block_on(resets.ask(request)), Err(ResetError::NotReading));
    assert!(resets.take().is_none(), "it is withdrawn");
}

#[test]
fn a_failed_commit_is_retried() {
    let cluster = cluster(1);
    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batch = consumer.batch();
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE; 3]);
    settle(batch);
    until("the commit", || consumer.telemetry.partitions().iter().any(|view| view.committed == Offset(1)).then_some(()));
    consumer.stop().unwrap();
}

/// A consumer whose commits are refused three times; no record is skipped, and all are committed.
fn commits_are_refused(error: RDKafkaRespErr) {
    let cluster = cluster(1);
    produce(&cluster, 0, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let held = consumer.batches(5);
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[error; 3]);
    let mut settled: BTreeSet<_> = held.into_iter().flat_map(settle).collect();
    produce(&cluster, 0, 1);
    // A consumer that leaves its group for the error reads again what is not committed.
    until("commit", || {
        settled.extend(consumer.try_batch().into_iter().flat_map(settle));
        let committed: i64 = consumer.telemetry.partitions().iter().map(|view| view.committed.value()).sum();
        assert!(usize::try_from(committed).unwrap() <= settled.len(), "{error:?}: {committed} committed of {settled:?}");
        (committed == 6).then_some(())
    });
    consumer.stop_settling().unwrap();
    assert_eq!((commits(&cluster, 1)[&0].0, settled), (6, (0..6).map(|offset| (0, offset)).collect()), "{error:?}");
}

#[test]
fn a_commit_that_the_coordinator_refuses_is_made_again_and_no_record_is_skipped() {
    thread::scope(|scope| {
        for error in [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        ] {
            scope.spawn(move || commits_are_refused(error));
        }
    });
}

#[test]
fn a_commit_that_the_topic_no_longer_holds_is_fatal() {
    let cluster = cluster(1);
    produce(&cluster, 0, 3);
    let other: BaseConsumer = config(&cluster).set("group.id", GROUP).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Position::Offset(1_000)).unwrap();
    other.commit(&list, CommitMode::Sync).unwrap();
    let error = TestConsumer::start(&cluster, 1 << 20, |_| ()).ended().unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("group readers has committed offset 1000 of users[0], but kafka holds only [0..3)"), "{error}");
}

#[test]
fn an_abandoned_batch_ends_the_incarnation_and_is_read_again() {
    let cluster = cluster(1);
    // One record, so that there is one batch.
    produce(&cluster, 0, 1);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    drop(consumer.batch());
    let budget = consumer.budget.clone();
    assert_eq!(consumer.ended(), Err(ConsumerError::Downstream));
    assert_eq!(budget.used(), 0);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    assert_eq!(settle(consumer.batch())[0], (0, 0));
    consumer.stop().unwrap();
}

#[test]
fn a_stop_settles_and_commits_what_is_in_flight() {
    let cluster = cluster(1);
    produce(&cluster, 0, 10);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(10);
    consumer.drain.store(true, Ordering::Relaxed);
    thread::sleep(Duration::from_millis(100));
    assert!(!consumer.thread.is_finished());
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    consumer.ended().unwrap();
    assert_eq!(commits(&cluster, 1)[&0].0, 10);
}

#[test]
fn after_an_outage_of_the_broker_reading_continues_where_it_stopped() {
    let cluster = cluster(1);
    produce(&cluster, 0, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let batches = consumer.batches(5);
    cluster.broker_down(-1).unwrap();
    batches.into_iter().for_each(|batch| drop(settle(batch)));
    until("a note", || consumer.progress.note());
    cluster.broker_up(-1).unwrap();
    produce(&cluster, 0, 5);
    let read: Vec<_> = consumer.batches(5).into_iter().flat_map(settle).collect();
    assert_eq!(consumer.progress.note(), None);
    assert_eq!(read, (5..10).map(|offset| (0, offset)).collect::<Vec<_>>());
    consumer.stop().unwrap();
    assert_eq!(commits(&cluster, 1)[&0].0, 10);
}

#[test]
fn lost_partitions_are_not_committed_and_are_read_again_from_the_commit() {
    let cluster = cluster(2);
    produce(&cluster, 0, 5);
    let mut consumer = TestConsumer::start(&cluster, 1 << 20, |_| ());
    let before = consumer.batches(5);
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    let again = consumer.batches(5);
    before.into_iter().for_each(|batch| drop(settle(batch)));
    produce(&cluster, 0, 1);
    let later = consumer.batch();
    assert_eq!(consumer.telemetry.written()[&0], Offset(0), "batches of the lost assignment do not count");
    assert_eq!(again.into_iter().flat_map(settle).collect::<Vec<_>>(), (0..5).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert_eq!(settle(later), [(0, 5)]);
    consumer.stop().unwrap();
    assert_eq!(commits(&cluster, 2).into_iter().map(|(partition, (offset, _))| (partition, offset)).collect::<Vec<_>>(), [(0, 6), (1, 0)]);
}

#[test]
fn the_actor_waits_for_the_topic_and_stops_when_everything_is_settled() {
    let cluster = cluster(1);
    produce(&cluster, 0, 3);
    let (to, mut inbox) = Mailbox::probe();
    let attempts = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&attempts);
    let ensure: EnsureTopic = Arc::new(move || {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let away = ConsumerError::Topic { topic: TOPIC.to_owned(), reason: "no broker".to_owned(), class: Class::Transient };
        async move { if first { Err(away) } else { Ok(()) } }.boxed()
    });
    let params = ConsumerParams {
        kafka: config(&cluster),
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        batch: BatchSection::default(),
        budget: Budget::new("consumer -> writer", 1 << 20),
        to,
        telemetry: Arc::default(),
        clock: SystemClock::shared(),
        ledger: Arc::new(Ledger::in_memory(SystemClock::shared())),
        ensure_topic: ensure,
        stored_metadata: Arc::new(|| Ok(BTreeMap::new())),
        topic_id: Arc::new(|| Ok(None)),
        resets: ResetHandle::default(),
    };
    let backoff = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(1) };
    let limits = Limits { max_restarts: 0, within: EVER, backoff, backoff_reset: EVER };
    let child = ChildSpec::actor("consumer", Restart::Permanent, EVER, move |_| Consumer::new(params.clone()));
    let spec = SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![child] };
    let env = Environment { clock: SystemClock::shared(), seed: 1, listener: Arc::new(()), actor_tree: ActorTree::default() };
    let io = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    let exit = kernel::block_on(&io, async {
        let root = kernel::start("root", spec, env);
        let batch = inbox.recv().await.unwrap();
        root.stop();
        settle(batch);
        root.exited().await
    });
    assert_eq!((exit, attempts.load(Ordering::Relaxed)), (Exit::Shutdown, 2));
    assert_eq!(commits(&cluster, 1)[&0].0, 3);
}

#[test]
fn a_client_that_has_no_broker_left_is_given_up() {
    let consumer = TestConsumer::start(&cluster(1), 1 << 20, |params| {
        params.kafka.remove("bootstrap.servers");
    });
    let error = consumer.ended().unwrap_err();
    assert!(error.to_string().contains("has dropped every broker"), "{error}");
    assert_eq!(error.class(), Class::Transient);
}
