//! The writer in its own tree, with an embedded store and a mocked Kafka.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_dataplane::arrow::array::{RecordBatch, StringArray};
use forebay_dataplane::arrow::datatypes::{DataType, Field, Schema};
use forebay_schemas::offset::{Offset, Ranges};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{Writer, WriterParams};
use crate::message::{BatchDone, BatchPart, PolledBatch, Receipt, SharedBatch};
use crate::telemetry::Telemetry;
use forebay_dataplane::store::fixtures::{pipeline, small};
use forebay_dataplane::store::{EMBEDDED_FILE, Store};
use forebay_dataplane::{NewRecord, RawBatch, Reason, Reject, RejectStage, RowBatch, arena_headers};
use forebay_kernel::{
    ActorTree, Backoff, Budget, ChildSpec, Credit, Environment, Exit, Lease, Limits, MailboxSlot, Restart, Root, Strategy, SupervisorSpec,
    SystemClock, block_on, start,
};

/// Key, value and headers.
type DeadLetter = (Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>);
type Kafka = MockCluster<'static, DefaultProducerContext>;

/// A writer under a supervisor, with an embedded store and a mocked broker.
struct Fixture {
    folder: tempfile::TempDir,
    kafka: Kafka,
    params: WriterParams,
    budget: Budget,
    /// The budget of rows.
    rows: Budget,
    actor_tree: ActorTree,
    mailbox: MailboxSlot<Lease<BatchPart>>,
    /// Failpoints are global to the process, so tests that use them run one at a time.
    #[cfg(feature = "failpoints")]
    _one_at_a_time: fail::FailScenario<'static>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kafka = MockCluster::new(1).unwrap();
        kafka.create_topic("t.dead", 1, 1).unwrap();
        let writer = "table = \"t\"\nprimary_key = [\"id\"]";
        let mut dead_letters = ClientConfig::new();
        dead_letters.set("bootstrap.servers", kafka.bootstrap_servers()).set("enable.idempotence", "true");
        let params = WriterParams {
            pipeline: Arc::new(pipeline(&folder.path().join("f.toml"), "\"embedded\"", "k", writer)),
            spec: Arc::new(small("k", "t")),
            dead_letters,
            recreate_topic: Arc::new(|| Box::pin(async { Ok(false) })),
            sql_fingerprint: "abc123".to_owned(),
            ledger: Arc::new(crate::ledger::Ledger::in_memory(SystemClock::shared())),
            telemetry: Arc::default(),
            clock: SystemClock::shared(),
        };
        Self {
            folder,
            kafka,
            params,
            budget: Budget::new("b", 1_000),
            rows: Budget::new("rows", 1_000),
            actor_tree: ActorTree::default(),
            mailbox: MailboxSlot::default(),
            #[cfg(feature = "failpoints")]
            _one_at_a_time: fail::FailScenario::setup(),
        }
    }

    fn telemetry(&self) -> &Telemetry {
        &self.params.telemetry
    }

    fn start(&self) -> Root {
        let (params, slot) = (self.params.clone(), self.mailbox.clone());
        let child = ChildSpec::actor("writer", Restart::Permanent, Duration::from_secs(5), move |mailbox| {
            slot.set(mailbox.clone());
            Writer::new(params.clone())
        });
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(10) };
        let limits = Limits { max_restarts: 3, within: Duration::from_secs(60), backoff, backoff_reset: Duration::from_secs(60) };
        let env = Environment { clock: SystemClock::shared(), seed: 1, listener: Arc::new(()), actor_tree: self.actor_tree.clone() };
        start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![child] }, env)
    }

    /// Posts a batch of pairs. A key of `None` makes a row that the table refuses.
    async fn post(&self, pairs: &[(Option<&str>, &str)], rejects: Vec<Reject>) -> oneshot::Receiver<BatchDone> {
        let credit = self.budget.reserve(100).await;
        let (batch, done) = batch(pairs, rejects, credit);
        let rows = self.rows.reserve(10).await;
        self.mailbox.get().post(Lease::new(batch, rows)).expect("the writer is running");
        done
    }

    /// Every dead letter: key, value and headers.
    fn dead_letters(&self, count: usize) -> Vec<DeadLetter> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.kafka.bootstrap_servers()).set("group.id", "g").create().unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset("t.dead", 0, rdkafka::Offset::Beginning).unwrap();
        consumer.assign(&assignment).unwrap();
        let mut dead_letters = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while dead_letters.len() < count && Instant::now() < deadline {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            let headers = message.headers().unwrap().iter();
            let headers = headers.map(|h| (h.key.to_owned(), String::from_utf8(h.value.unwrap().to_vec()).unwrap())).collect();
            dead_letters.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers));
        }
        dead_letters
    }

    async fn table(&self) -> Vec<String> {
        let store = Store::connect(&self.params.pipeline, None).await.unwrap();
        let answer = store.query("SELECT id FROM t ORDER BY id").await.unwrap();
        answer.rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn batch(pairs: &[(Option<&str>, &str)], rejects: Vec<Reject>, credit: Credit) -> (BatchPart, oneshot::Receiver<BatchDone>) {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("v", DataType::Utf8, true)]);
    let ids = StringArray::from(pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let values = StringArray::from(pairs.iter().map(|pair| Some(pair.1)).collect::<Vec<_>>());
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(values)]).unwrap();
    let count = u32::try_from(pairs.len()).unwrap();
    let mut own = Vec::new();
    arena_headers::append("trace", Some(b"of the record"), &mut own);
    let mut raw = RawBatch::default();
    // One record more than there are rows: the one that was rejected earlier.
    for offset in 40..=40 + i64::from(count) {
        let (key, value) = (Some(&b"key"[..]), Some(&b"value"[..]));
        raw.push(&NewRecord { partition: 3, offset: Offset(offset), timestamp_ms: 1_000, write_ts: 16, key, value, headers: &own });
    }
    let (receipt, done) = Receipt::new();
    let polled = PolledBatch { id: 1, raw, ranges: Ranges::default(), waited: Duration::ZERO, receipt };
    let batch = SharedBatch::new(Lease::new(polled, credit));
    batch.part_sent(true);
    let rows = RowBatch {
        rows,
        origin: (0..count).collect(),
        write_ts: vec![16; pairs.len()],
        rejects,
        new_fields: Vec::new(),
        transform: Duration::ZERO,
    };
    (BatchPart { batch, rows }, done)
}

fn run<F: Future>(test: F) -> F::Output {
    let io = Arc::new(Runtime::new().unwrap());
    block_on(&io, test)
}

/// The rows and the dead letters of a settled batch.
fn counts(done: Result<BatchDone, oneshot::error::RecvError>) -> (u64, u64) {
    let done = done.unwrap();
    (done.rows, done.rejected)
}

#[test]
fn a_batch_is_settled_and_its_budget_released_once_its_rows_are_in_the_table() {
    let fixture = Fixture::new();
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let first = fixture.post(&[(Some("a"), "1"), (Some("b"), "2")], vec![]).await;
        let second = fixture.post(&[(Some("c"), "3")], vec![]).await;
        assert_eq!(counts(first.await), (2, 0));
        assert_eq!(counts(second.await), (1, 0));
        assert_eq!(fixture.table().await, ["a", "b", "c"]);
        root.stop();
        root.exited().await;
        assert_eq!(fixture.budget.used(), 0);
        let totals = fixture.telemetry().totals();
        assert_eq!((totals.written, totals.rejected), (3, 0));
        assert_eq!(fixture.telemetry().batches().len(), 2);
    });
}

#[test]
fn a_bad_record_becomes_a_dead_letter_unchanged_and_the_rest_is_written() {
    let fixture = Fixture::new();
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let early =
            Reject { record: 2, stage: RejectStage::Decode, reason: Reason::quoting("'x'", |found| format!("not JSON: found {found}")) };
        let done = fixture.post(&[(Some("a"), "1"), (None, "2")], vec![early]).await;
        assert_eq!(counts(done.await), (1, 2));
        assert_eq!(fixture.table().await, ["a"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
    });
    let dead_letters = fixture.dead_letters(2);
    assert!(dead_letters.iter().all(|(key, value, _)| key.as_deref() == Some(b"key") && value.as_deref() == Some(b"value")));
    let header = |index: usize, name: &str| dead_letters[index].2[name].clone();
    assert_eq!(header(0, "forebay-reason"), "column id: null in the partition key");
    assert_eq!((header(0, "forebay-stage"), header(0, "forebay-offset")), ("write".to_owned(), "41".to_owned()));
    assert_eq!((header(1, "forebay-reason"), header(1, "forebay-stage")), ("not JSON: found 'x'".to_owned(), "decode".to_owned()));
    assert_eq!(header(1, "forebay-masked-reason"), "not JSON: found ***");
    assert!(dead_letters.iter().all(|(_, _, headers)| headers["trace"] == "of the record"), "{dead_letters:?}");
    assert_eq!((header(1, "forebay-topic"), header(1, "forebay-partition")), ("t".to_owned(), "3".to_owned()));
    assert_eq!((header(1, "forebay-timestamp"), header(1, "forebay-sql")), ("1000".to_owned(), "abc123".to_owned()));
}

#[test]
fn a_dead_letter_too_large_for_its_topic_is_sent_alone_and_then_truncated() {
    let fixture = Fixture::new();
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // Unchanged, and then alone.
    fixture.kafka.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[too_large, too_large]);
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let early = Reject { record: 2, stage: RejectStage::Decode, reason: Reason::plain("not JSON") };
        let done = fixture.post(&[(Some("a"), "1"), (Some("b"), "2")], vec![early]).await;
        assert_eq!(counts(done.await), (2, 1));
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "no size is fatal");
    });
    let dead_letters = fixture.dead_letters(1);
    let (key, value, headers) = &dead_letters[0];
    assert_eq!((key.as_deref(), value.as_deref()), (Some(&b"key"[..]), Some(&b"val"[..])));
    assert_eq!((headers["forebay-value-cut"].as_str(), headers["forebay-value-bytes"].as_str()), ("3", "5"));
    assert_eq!(headers["forebay-value-sha256"], forebay_dataplane::dead_letter::sha256(b"value"));
    assert_eq!((headers["trace"].as_str(), headers["forebay-reason"].as_str()), ("of the record", "not JSON"));
}

#[test]
fn a_failing_dead_letter_topic_is_retried_and_no_record_is_skipped() {
    let fixture = Fixture::new();
    let fail = RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION;
    fixture.kafka.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[fail, fail]);
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let done = fixture.post(&[(None, "1")], vec![]).await;
        assert_eq!(counts(done.await), (0, 1));
        root.stop();
        root.exited().await;
    });
    assert_eq!(fixture.dead_letters(1).len(), 1);
}

#[test]
fn a_table_that_does_not_match_is_fatal_and_batches_are_abandoned() {
    let mut fixture = Fixture::new();
    let mut spec = small("k", "t");
    spec.create = false;
    fixture.params.spec = Arc::new(spec);
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let done = fixture.post(&[(Some("a"), "1")], vec![]).await;
        let exit = root.exited().await;
        assert!(matches!(&exit, Exit::Fatal(why) if why.contains("create = true")), "{exit:?}");
        assert!(done.await.is_err());
        assert_eq!(fixture.budget.used(), 0);
    });
}

#[test]
fn an_unavailable_store_is_retried_with_a_note_while_the_budget_stays_reserved() {
    let fixture = Fixture::new();
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let first = fixture.post(&[(Some("a"), "1")], vec![]).await;
        first.await.unwrap();
        let file = fixture.folder.path().join(".forebay").join(EMBEDDED_FILE);
        let other = libsql::Builder::new_local(&file).build().await.unwrap().connect().unwrap();
        other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        let mut done = fixture.post(&[(Some("b"), "2")], vec![]).await;
        let noted = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(note) = fixture.actor_tree.actors().iter().find_map(|actor| actor.note.clone()) {
                break note;
            }
        };
        assert!(noted.contains("locked") && noted.contains("(attempt 1, next in 0.1 s)"), "{noted}");
        assert_eq!((fixture.budget.used(), done.try_recv().is_err()), (100, true));
        other.execute("ROLLBACK", ()).await.unwrap();
        assert_eq!(counts(done.await), (1, 0));
        assert!(fixture.telemetry().totals().write_retries > 0);
        root.stop();
        root.exited().await;
    });
    assert!(Path::new(fixture.folder.path()).exists());
}

#[test]
fn a_batch_in_parts_is_settled_with_their_sum_when_the_last_is_done() {
    let fixture = Fixture::new();
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let (first, done) = batch(&[(Some("a"), "1"), (Some("b"), "2")], vec![], fixture.budget.reserve(100).await);
        let (mut second, _) = batch(&[(Some("c"), "3")], vec![], fixture.budget.reserve(100).await);
        // The second is the last of two.
        first.batch.part_sent(true);
        second.batch = Arc::clone(&first.batch);
        fixture.mailbox.get().post(Lease::new(first, fixture.rows.reserve(5).await)).expect("the writer is running");
        while fixture.rows.used() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((fixture.budget.used(), fixture.telemetry().totals().written), (100, 0), "the other part has not arrived");
        fixture.mailbox.get().post(Lease::new(second, fixture.rows.reserve(5).await)).expect("the writer is running");
        assert_eq!(counts(done.await), (3, 0));
        assert_eq!(fixture.table().await, ["a", "b", "c"]);
        root.stop();
        root.exited().await;
        assert_eq!((fixture.budget.used(), fixture.telemetry().totals().written), (0, 3));
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_batch_written_again_after_a_crash_changes_nothing() {
    let fixture = Fixture::new();
    for point in ["writer::before_write", "writer::after_write"] {
        fail::cfg(point, "1*panic(killed)->off").unwrap();
    }
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        for _ in 0..2 {
            assert!(fixture.post(&[(Some("a"), "1")], vec![]).await.await.is_err(), "abandoned");
            while !fixture.mailbox.get().is_open() || fixture.budget.used() > 0 || fixture.rows.used() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let done = fixture.post(&[(Some("a"), "1")], vec![]).await;
        assert_eq!(counts(done.await), (1, 0));
        assert_eq!(fixture.table().await, ["a"]);
        root.stop();
        root.exited().await;
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_stalled_writer_holds_exactly_the_budget_it_was_given() {
    let fixture = Fixture::new();
    fail::cfg("writer::before_write", "pause").unwrap();
    run(async {
        let root = fixture.start();
        tokio::task::yield_now().await;
        let mut done = Vec::new();
        for n in 0..10 {
            done.push(fixture.post(&[(Some(&n.to_string()), "v")], vec![]).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((fixture.budget.used(), fixture.budget.try_reserve(1).is_none()), (1_000, true));
        assert!(done.iter_mut().all(|done| done.try_recv().is_err()));
        fail::remove("writer::before_write");
        for done in done {
            assert_eq!(done.await.unwrap().rows, 1);
        }
        root.stop();
        root.exited().await;
        assert_eq!(fixture.budget.used(), 0);
    });
}
