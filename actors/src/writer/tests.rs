use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_dataplane::arrow::array::{RecordBatch, StringArray};
use forebay_dataplane::arrow::datatypes::{DataType, Field, Schema};
use forebay_schemas::offset::Ranges;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{Writer, WriterParts};
use crate::message::{BatchDone, BatchPart, PolledBatch, Receipt, SharedBatch};
use crate::telemetry::Telemetry;
use forebay_dataplane::store::testing::{pipeline, small};
use forebay_dataplane::store::{EMBEDDED_FILE, Store};
use forebay_dataplane::{NewRecord, RawBatch, Reason, Reject, RejectStage, RowBatch, arena_headers};
use forebay_kernel::{
    ActorTree, Backoff, Budget, ChildSpec, Credit, Environment, Exit, Lease, Limits, Mailbox, Restart, Root, Slot, Strategy,
    SupervisorSpec, SystemClock, block_on, start,
};

/// Key, value and headers.
type Letter = (Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>);
type Kafka = MockCluster<'static, DefaultProducerContext>;

/// A writer under a supervisor, over an embedded store and a broker that only tests have.
struct Bench {
    folder: tempfile::TempDir,
    kafka: Kafka,
    parts: WriterParts,
    budget: Budget,
    /// Of the rows of parts.
    rows: Budget,
    actor_tree: ActorTree,
    mailbox: Slot<Mailbox<Lease<BatchPart>>>,
    /// Fail points are the process's: tests with them go one after the other.
    #[cfg(feature = "failpoints")]
    _one_at_a_time: fail::FailScenario<'static>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kafka = MockCluster::new(1).unwrap();
        kafka.create_topic("t.dead", 1, 1).unwrap();
        let writer = "table = \"t\"\nprimary_key = [\"id\"]";
        let mut dead_letters = ClientConfig::new();
        dead_letters.set("bootstrap.servers", kafka.bootstrap_servers()).set("enable.idempotence", "true");
        let parts = WriterParts {
            pipeline: Arc::new(pipeline(&folder.path().join("f.toml"), "\"embedded\"", "k", writer)),
            spec: Arc::new(small("k", "t")),
            dead_letters,
            remake: Arc::new(|| Box::pin(async { Ok(false) })),
            sql_fingerprint: "abc123".to_owned(),
            ledger: Arc::new(crate::ledger::Ledger::in_memory(SystemClock::shared())),
            telemetry: Arc::default(),
            clock: SystemClock::shared(),
        };
        Self {
            folder,
            kafka,
            parts,
            budget: Budget::new("b", 1_000),
            rows: Budget::new("rows", 1_000),
            actor_tree: ActorTree::default(),
            mailbox: Slot::default(),
            #[cfg(feature = "failpoints")]
            _one_at_a_time: fail::FailScenario::setup(),
        }
    }

    fn telemetry(&self) -> &Telemetry {
        &self.parts.telemetry
    }

    fn start(&self) -> Root {
        let (parts, handover) = (self.parts.clone(), self.mailbox.clone());
        let child = ChildSpec::actor("writer", Restart::Permanent, Duration::from_secs(5), move |mailbox| {
            handover.set(mailbox.clone());
            Writer::new(parts.clone())
        });
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(10) };
        let limits = Limits { max_restarts: 3, within: Duration::from_secs(60), backoff, backoff_reset: Duration::from_secs(60) };
        let env = Environment { clock: SystemClock::shared(), seed: 1, listener: Arc::new(()), actor_tree: self.actor_tree.clone() };
        start("root", SupervisorSpec { strategy: Strategy::OneForOne, limits, children: vec![child] }, env)
    }

    /// Posts a batch of pairs; a key of none makes a row that the table does not take.
    async fn post(&self, pairs: &[(Option<&str>, &str)], rejects: Vec<Reject>) -> oneshot::Receiver<BatchDone> {
        let credit = self.budget.reserve(100).await;
        let (batch, done) = batch(pairs, rejects, credit);
        let rows = self.rows.reserve(10).await;
        self.mailbox.get().post(Lease::new(batch, rows)).expect("the writer is up");
        done
    }

    /// Every dead letter: key, value and headers.
    fn letters(&self, count: usize) -> Vec<Letter> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.kafka.bootstrap_servers()).set("group.id", "g").create().unwrap();
        let mut from_the_start = TopicPartitionList::new();
        from_the_start.add_partition_offset("t.dead", 0, Offset::Beginning).unwrap();
        consumer.assign(&from_the_start).unwrap();
        let mut letters = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while letters.len() < count && Instant::now() < deadline {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            let headers = message.headers().unwrap().iter();
            let headers = headers.map(|h| (h.key.to_owned(), String::from_utf8(h.value.unwrap().to_vec()).unwrap())).collect();
            letters.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers));
        }
        letters
    }

    async fn table(&self) -> Vec<String> {
        let store = Store::connect(&self.parts.pipeline, None).await.unwrap();
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
    // One record more than there are rows: the one that is bad already.
    for offset in 40..=40 + i64::from(count) {
        let (key, value) = (Some(&b"key"[..]), Some(&b"value"[..]));
        raw.push(&NewRecord { partition: 3, offset, timestamp_ms: 1_000, write_ts: 16, key, value, headers: &own });
    }
    let (receipt, done) = Receipt::new();
    let polled = PolledBatch { id: 1, raw, ranges: Ranges::default(), waited: Duration::ZERO, sealed_at: Instant::now(), receipt };
    let batch = SharedBatch::new(Lease::new(polled, credit));
    batch.send(true);
    let rows = RowBatch { rows, origin: (0..count).collect(), write_ts: vec![16; pairs.len()], rejects, transform: Duration::ZERO };
    (BatchPart { batch, rows }, done)
}

fn run<F: Future>(test: F) -> F::Output {
    let io = Arc::new(Runtime::new().unwrap());
    block_on(&io, test)
}

/// The rows and the dead letters of a batch that is done.
fn counts(done: Result<BatchDone, oneshot::error::RecvError>) -> (u64, u64) {
    let done = done.unwrap();
    (done.rows, done.rejected)
}

#[test]
fn a_batch_is_settled_when_its_rows_are_in_the_table_and_its_budget_goes_home() {
    let bench = Bench::new();
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let first = bench.post(&[(Some("a"), "1"), (Some("b"), "2")], vec![]).await;
        let second = bench.post(&[(Some("c"), "3")], vec![]).await;
        assert_eq!(counts(first.await), (2, 0));
        assert_eq!(counts(second.await), (1, 0));
        assert_eq!(bench.table().await, ["a", "b", "c"]);
        root.stop();
        root.exited().await;
        assert_eq!(bench.budget.used(), 0);
        let totals = bench.telemetry().totals();
        assert_eq!((totals.written, totals.rejected), (3, 0));
        assert_eq!(bench.telemetry().batches().len(), 2);
    });
}

#[test]
fn a_bad_record_becomes_a_dead_letter_with_its_bytes_and_headers_untouched_and_the_rest_goes_on() {
    let bench = Bench::new();
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let early =
            Reject { record: 2, stage: RejectStage::Decode, reason: Reason::quoting("'x'", |found| format!("not JSON: found {found}")) };
        let done = bench.post(&[(Some("a"), "1"), (None, "2")], vec![early]).await;
        assert_eq!(counts(done.await), (1, 2));
        assert_eq!(bench.table().await, ["a"]);
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown);
    });
    let letters = bench.letters(2);
    assert!(letters.iter().all(|(key, value, _)| key.as_deref() == Some(b"key") && value.as_deref() == Some(b"value")));
    let header = |letter: usize, name: &str| letters[letter].2[name].clone();
    assert_eq!(header(0, "forebay-reason"), "column id: null in the partition key");
    assert_eq!((header(0, "forebay-stage"), header(0, "forebay-offset")), ("write".to_owned(), "41".to_owned()));
    assert_eq!((header(1, "forebay-reason"), header(1, "forebay-stage")), ("not JSON: found 'x'".to_owned(), "decode".to_owned()));
    assert_eq!(header(1, "forebay-masked-reason"), "not JSON: found ***");
    assert!(letters.iter().all(|(_, _, headers)| headers["trace"] == "of the record"), "{letters:?}");
    assert_eq!((header(1, "forebay-topic"), header(1, "forebay-partition")), ("t".to_owned(), "3".to_owned()));
    assert_eq!((header(1, "forebay-timestamp"), header(1, "forebay-sql")), ("1000".to_owned(), "abc123".to_owned()));
}

#[test]
fn a_letter_that_its_topic_refuses_for_its_size_goes_again_alone_and_then_cut_until_it_fits() {
    let bench = Bench::new();
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // As it is, and then alone.
    bench.kafka.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[too_large, too_large]);
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let early = Reject { record: 2, stage: RejectStage::Decode, reason: Reason::plain("not JSON") };
        let done = bench.post(&[(Some("a"), "1"), (Some("b"), "2")], vec![early]).await;
        assert_eq!(counts(done.await), (2, 1));
        root.stop();
        assert_eq!(root.exited().await, Exit::Shutdown, "no size is fatal");
    });
    let letters = bench.letters(1);
    let (key, value, headers) = &letters[0];
    assert_eq!((key.as_deref(), value.as_deref()), (Some(&b"key"[..]), Some(&b"val"[..])));
    assert_eq!((headers["forebay-value-cut"].as_str(), headers["forebay-value-bytes"].as_str()), ("3", "5"));
    assert_eq!(headers["forebay-value-sha256"], forebay_dataplane::dead_letter::sha256(b"value"));
    assert_eq!((headers["trace"].as_str(), headers["forebay-reason"].as_str()), ("of the record", "not JSON"));
}

#[test]
fn a_dead_letter_topic_that_fails_is_waited_for_and_nothing_is_skipped() {
    let bench = Bench::new();
    let fail = RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION;
    bench.kafka.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &[fail, fail]);
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let done = bench.post(&[(None, "1")], vec![]).await;
        assert_eq!(counts(done.await), (0, 1));
        root.stop();
        root.exited().await;
    });
    assert_eq!(bench.letters(1).len(), 1);
}

#[test]
fn a_table_that_does_not_match_is_fatal_and_the_batches_come_back_abandoned() {
    let mut bench = Bench::new();
    let mut spec = small("k", "t");
    spec.create = false;
    bench.parts.spec = Arc::new(spec);
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let done = bench.post(&[(Some("a"), "1")], vec![]).await;
        let exit = root.exited().await;
        assert!(matches!(&exit, Exit::Fatal(why) if why.contains("create = true")), "{exit:?}");
        assert!(done.await.is_err());
        assert_eq!(bench.budget.used(), 0);
    });
}

#[test]
fn a_store_that_is_away_is_waited_for_with_a_note_and_the_budget_stays_held() {
    let bench = Bench::new();
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let first = bench.post(&[(Some("a"), "1")], vec![]).await;
        first.await.unwrap();
        let file = bench.folder.path().join(".forebay").join(EMBEDDED_FILE);
        let other = libsql::Builder::new_local(&file).build().await.unwrap().connect().unwrap();
        other.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        let mut done = bench.post(&[(Some("b"), "2")], vec![]).await;
        let noted = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(note) = bench.actor_tree.actors().iter().find_map(|actor| actor.note.clone()) {
                break note;
            }
        };
        assert!(noted.contains("locked") && noted.contains("(attempt 1, next in 0.1 s)"), "{noted}");
        assert_eq!((bench.budget.used(), done.try_recv().is_err()), (100, true));
        other.execute("ROLLBACK", ()).await.unwrap();
        assert_eq!(counts(done.await), (1, 0));
        assert!(bench.telemetry().totals().write_retries > 0);
        root.stop();
        root.exited().await;
    });
    assert!(Path::new(bench.folder.path()).exists());
}

#[test]
fn a_batch_in_parts_is_settled_with_the_sum_of_them_when_the_last_is_done() {
    let bench = Bench::new();
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let (first, done) = batch(&[(Some("a"), "1"), (Some("b"), "2")], vec![], bench.budget.reserve(100).await);
        let (mut second, _) = batch(&[(Some("c"), "3")], vec![], bench.budget.reserve(100).await);
        // The other one is the last of two.
        first.batch.send(true);
        second.batch = Arc::clone(&first.batch);
        bench.mailbox.get().post(Lease::new(first, bench.rows.reserve(5).await)).expect("the writer is up");
        while bench.rows.used() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((bench.budget.used(), bench.telemetry().totals().written), (100, 0), "the other part is still to come");
        bench.mailbox.get().post(Lease::new(second, bench.rows.reserve(5).await)).expect("the writer is up");
        assert_eq!(counts(done.await), (3, 0));
        assert_eq!(bench.table().await, ["a", "b", "c"]);
        root.stop();
        root.exited().await;
        assert_eq!((bench.budget.used(), bench.telemetry().totals().written), (0, 3));
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_writer_that_dies_after_the_write_is_started_again_and_the_same_batch_changes_nothing() {
    let bench = Bench::new();
    for point in ["writer::before_write", "writer::after_write"] {
        fail::cfg(point, "1*panic(killed)->off").unwrap();
    }
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        for _ in 0..2 {
            assert!(bench.post(&[(Some("a"), "1")], vec![]).await.await.is_err(), "abandoned");
            while !bench.mailbox.get().is_open() || bench.budget.used() > 0 || bench.rows.used() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let done = bench.post(&[(Some("a"), "1")], vec![]).await;
        assert_eq!(counts(done.await), (1, 0));
        assert_eq!(bench.table().await, ["a"]);
        root.stop();
        root.exited().await;
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_stalled_writer_holds_exactly_the_budget_it_was_given() {
    let bench = Bench::new();
    fail::cfg("writer::before_write", "pause").unwrap();
    run(async {
        let root = bench.start();
        tokio::task::yield_now().await;
        let mut done = Vec::new();
        for n in 0..10 {
            done.push(bench.post(&[(Some(&n.to_string()), "v")], vec![]).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((bench.budget.used(), bench.budget.try_reserve(1).is_none()), (1_000, true));
        assert!(done.iter_mut().all(|done| done.try_recv().is_err()));
        fail::remove("writer::before_write");
        for done in done {
            assert_eq!(done.await.unwrap().rows, 1);
        }
        root.stop();
        root.exited().await;
        assert_eq!(bench.budget.used(), 0);
    });
}
