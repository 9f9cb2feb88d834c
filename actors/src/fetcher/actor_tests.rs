//! The actor with a real ledger, a test server for the API, and a probe in the producer's place.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_schemas::event::{Event, decode};
use forebay_schemas::run::{Run, RunSpec, RunState};
use parking_lot::{Condvar, Mutex};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use uuid::Uuid;

use super::test_server::{answer, server};
use super::{Fetcher, FetcherHandle, FetcherParams, Schedule, ScheduledFetches};
use crate::journal::test_disk::{Step, TestDisk};
use crate::journal::{self, JournalError, Settings};
use crate::ledger::Ledger;
use crate::message::{Page, PageProduced, PageRefused};
use crate::telemetry::Telemetry;
use forebay_kernel::testing::{eventually, with_tree};
use forebay_kernel::{Budget, ChildSpec, Exit, Mailbox, MailboxSlot, Restart, SystemClock};

/// What each sync of the disk does; the test sets it.
#[derive(Clone, Default)]
struct Syncs(Arc<(Mutex<Sync>, Condvar)>);

/// What a sync does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sync {
    #[default]
    Works,
    Waits,
    Fails,
}

impl Syncs {
    fn set(&self, sync: Sync) {
        *self.0.0.lock() = sync;
        self.0.1.notify_all();
    }

    /// A disk whose syncs do what is set.
    fn disk(&self) -> TestDisk {
        let set = Arc::clone(&self.0);
        TestDisk::new(move |step| {
            if step != Step::Sync {
                return Ok(());
            }
            let mut sync = set.0.lock();
            set.1.wait_while(&mut sync, |sync| *sync == Sync::Waits);
            if *sync == Sync::Fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }
}

/// A ledger whose journal is on a [`TestDisk`].
struct Journaled {
    folder: tempfile::TempDir,
    syncs: Syncs,
    ledger: Arc<Ledger>,
}

impl Journaled {
    fn new() -> Self {
        let (folder, syncs) = (tempfile::tempdir().unwrap(), Syncs::default());
        let settings = Settings { pipeline: "users".into(), segment_bytes: 64 << 10, keep_bytes: 1 << 20 };
        let ledger = Ledger::open(folder.path(), syncs.disk(), settings, SystemClock::shared()).unwrap();
        Self { folder, syncs, ledger: Arc::new(ledger) }
    }

    /// What the fetcher recorded. Closes the journal.
    fn recorded(&self) -> Vec<String> {
        self.ledger.close(true);
        let mut recorded = Vec::new();
        journal::read(self.folder.path(), 1, |_, json| {
            recorded.extend(short(&decode(json).unwrap().event));
            Ok::<_, JournalError>(())
        })
        .unwrap();
        recorded
    }
}

/// An event that the fetcher records, in few words.
fn short(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunStarted { .. } => "started".to_owned(),
        Event::PageFetched { records, cursor: None, .. } => format!("fetched {records}"),
        Event::PageFetched { records, cursor: Some(cursor), .. } => format!("fetched {records} at {cursor}"),
        Event::PageProduced { produced, cursor: None, .. } => format!("produced {produced}"),
        Event::PageProduced { produced, cursor: Some(cursor), .. } => format!("produced {produced}, next {cursor}"),
        Event::RunProduced { stop: Some(stop), .. } if stop.complete => "complete".to_owned(),
        Event::RunProduced { stop, .. } => format!("cut short: {}", stop.as_ref().unwrap().reason.as_str()),
        Event::RunFailed { error, .. } => format!("failed in {}, retryable {}", error.stage, error.retryable),
        _ => return None,
    })
}

struct Rig {
    journaled: Journaled,
    scheduled: watch::Sender<ScheduledFetches>,
    telemetry: Arc<Telemetry>,
    budget: Budget,
    producer: MailboxSlot<Page>,
    pages: tokio::sync::mpsc::UnboundedReceiver<Page>,
    fetcher: FetcherHandle,
    run: Uuid,
    child: Option<ChildSpec>,
}

impl Rig {
    /// A fetcher of an API that gives cursors when the URL has a parameter `since`, and one record
    /// per line when it has `lines`. It has `fetch_ahead` from a parameter `ahead`.
    fn new(url: &str, schedule: Schedule, journaled: Journaled) -> Self {
        let cursor = if url.contains("since=") { "cursor = { next = \"/next\", param = \"since\", start = \"0\" }\n" } else { "" };
        let records = if url.contains("lines") { "" } else { "records = \"/r\"\n" };
        let ahead = url.split_once("ahead=").and_then(|(_, ahead)| ahead.split('&').next());
        let ahead = ahead.map_or(String::new(), |ahead| format!("fetch_ahead = {ahead}\n"));
        let text = format!(
            "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"{url}\"\n{records}{ahead}{cursor}\
             max_page_bytes = \"64KiB\"\n[producer]\nkey = \"/id\"\n"
        );
        let pipeline = Arc::new(forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap());
        let (mailbox, pages) = Mailbox::probe();
        let (producer, fetcher) = (MailboxSlot::default(), FetcherHandle::default());
        producer.set(mailbox);
        let params = FetcherParams {
            pipeline,
            schedule,
            producer: producer.clone(),
            budget: Budget::new("edge", 100_000),
            ledger: Arc::clone(&journaled.ledger),
            scheduled: watch::Sender::default(),
            telemetry: Arc::default(),
            clock: SystemClock::shared(),
        };
        let (scheduled, telemetry, budget) = (params.scheduled.clone(), Arc::clone(&params.telemetry), params.budget.clone());
        let handle = fetcher.clone();
        let make = move |mailbox: &Mailbox<_>| {
            handle.set(mailbox.clone());
            Fetcher::new(params.clone())
        };
        let child = Some(ChildSpec::actor("fetcher", Restart::Permanent, Duration::from_secs(5), make));
        Self { journaled, scheduled, telemetry, budget, producer, pages, fetcher, run: Uuid::nil(), child }
    }

    /// Requests a run and triggers it.
    fn trigger(&mut self) {
        self.run = self.journaled.ledger.request("key", 1, RunSpec::default()).unwrap().id();
        self.fetcher.trigger(self.run);
    }

    fn run(&self) -> Run {
        self.journaled.ledger.run(self.run).unwrap()
    }

    /// Waits until the run is in this state.
    async fn reaches(&self, state: RunState) {
        eventually(|| (self.run().state == state).then_some(())).await;
    }

    /// Waits until a scheduled fetch is in Kafka.
    async fn scheduled_fetch(&self) {
        eventually(|| (self.scheduled.borrow().done > 0).then_some(())).await;
    }

    fn recorded(&self) -> Vec<String> {
        self.journaled.recorded()
    }
}

/// Says that all records of a page are in Kafka.
fn settle(page: Page) {
    let Page { content, receipt, .. } = page;
    receipt.settle(Ok(PageProduced { produced: content.records.len() as u64, ..PageProduced::default() }));
}

async fn api() -> String {
    server(|_| answer("200 OK", "", br#"{"r": [{"id": 1}, {"id": 2}]}"#)).await
}

fn in_tree(url: impl AsyncFnOnce() -> String, schedule: Schedule, test: impl AsyncFnOnce(&mut Rig)) -> (Rig, Exit) {
    in_tree_with(url, schedule, Journaled::new(), test)
}

/// The same, with a ledger that an earlier fetcher used.
fn in_tree_with(
    url: impl AsyncFnOnce() -> String,
    schedule: Schedule,
    journaled: Journaled,
    test: impl AsyncFnOnce(&mut Rig),
) -> (Rig, Exit) {
    // The server has a runtime of its own, which outlives the tree.
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = servers.block_on(url());
    let mut rig = Rig::new(&url, schedule, journaled);
    let children = vec![rig.child.take().unwrap()];
    let ((), exit) = with_tree(children, async |_, _| test(&mut rig).await);
    servers.shutdown_background();
    (rig, exit)
}

#[test]
fn a_triggered_run_is_recorded_from_start_to_end_and_holds_budget_for_its_weight() {
    let (rig, exit) = in_tree(api, Schedule::OnTrigger, async |rig| {
        rig.trigger();
        let page = rig.pages.recv().await.unwrap();
        assert_eq!(page.run, rig.run);
        assert_eq!(page.content.records, [&br#"{"id": 1}"#[..], &br#"{"id": 2}"#[..]]);
        assert_eq!(rig.budget.used(), 29 + 2 * 64);
        page.receipt.settle(Ok(PageProduced { produced: 2, ..PageProduced::default() }));
        rig.reaches(RunState::Succeeded).await;
    });
    assert_eq!(rig.recorded(), ["started", "fetched 2", "produced 2", "complete"]);
    assert_eq!((rig.telemetry.pages.get(), rig.telemetry.fetched.get()), (1, 2));
    assert_eq!((rig.budget.used(), exit), (0, Exit::Shutdown));
}

/// Pages of two records whose cursor counts them, up to four, then an empty one.
async fn api_of_pages() -> String {
    let page = |path: &str| {
        let since: u32 = path.rsplit_once("since=").unwrap().1.parse().unwrap();
        let records = if since < 4 { format!("{{\"id\": {since}}}, {{\"id\": {}}}", since + 1) } else { String::new() };
        answer("200 OK", "", format!("{{\"r\": [{records}], \"next\": {}}}", (since + 2).min(4)).as_bytes())
    };
    server(page).await + "/?since=none"
}

async fn api_of_pages_ahead(ahead: u32) -> String {
    api_of_pages().await.replace('?', &format!("?ahead={ahead}&"))
}

/// Produces the next page.
async fn produce_next(rig: &mut Rig) {
    let page = rig.pages.recv().await.unwrap();
    settle(page);
}

#[test]
fn the_next_page_waits_until_the_last_is_in_kafka_and_durable_in_the_journal() {
    let (rig, _) = in_tree(
        async || api_of_pages_ahead(0).await,
        Schedule::OnTrigger,
        async |rig| {
            rig.trigger();
            let page = rig.pages.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(rig.telemetry.pages.get(), 1, "the first is not in Kafka yet");
            rig.journaled.syncs.set(Sync::Waits);
            settle(page);
            eventually(|| (rig.run().counts.produced == 2).then_some(())).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!((rig.telemetry.pages.get(), rig.budget.used()), (1, 0), "the journal has not synced it yet");
            rig.journaled.syncs.set(Sync::Works);
            produce_next(rig).await;
            produce_next(rig).await;
            rig.reaches(RunState::Succeeded).await;
        },
    );
    assert_eq!(
        rig.recorded(),
        [
            "started",
            "fetched 2 at 0",
            "produced 2, next 2",
            "fetched 2 at 2",
            "produced 2, next 4",
            "fetched 0 at 4",
            "produced 0",
            "complete"
        ]
    );
}

#[test]
fn one_page_ahead_is_requested_and_the_one_after_it_waits_for_kafka_and_the_journal() {
    let (rig, _) = in_tree(
        async || api_of_pages_ahead(1).await,
        Schedule::OnTrigger,
        async |rig| {
            rig.trigger();
            let page = rig.pages.recv().await.unwrap();
            let ahead = rig.pages.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(rig.telemetry.pages.get(), 2, "neither is in Kafka yet");
            rig.journaled.syncs.set(Sync::Waits);
            settle(page);
            eventually(|| (rig.run().counts.produced == 2).then_some(())).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(rig.telemetry.pages.get(), 2, "the journal has not synced the first yet");
            rig.journaled.syncs.set(Sync::Works);
            produce_next(rig).await;
            assert_eq!(rig.run().counts.produced, 2, "pages are settled in order");
            settle(ahead);
            rig.reaches(RunState::Succeeded).await;
        },
    );
    assert_eq!(rig.recorded()[1..5], ["fetched 2 at 0", "produced 2, next 2", "fetched 2 at 2", "produced 2, next 4"]);
}

#[test]
fn a_new_fetcher_starts_at_the_recorded_cursor() {
    let (rig, _) = in_tree(api_of_pages, Schedule::OnTrigger, async |rig| {
        rig.trigger();
        produce_next(rig).await;
        produce_next(rig).await;
        produce_next(rig).await;
        rig.reaches(RunState::Succeeded).await;
    });
    let (again, _) = in_tree_with(api_of_pages, Schedule::Once, rig.journaled, async |rig| {
        produce_next(rig).await;
        rig.scheduled_fetch().await;
    });
    assert_eq!(again.recorded()[8..], ["fetched 0 at 4", "produced 0"]);
}

#[test]
fn a_run_fails_when_the_journal_does() {
    let (rig, _) = in_tree(api_of_pages, Schedule::OnTrigger, async |rig| {
        rig.journaled.syncs.set(Sync::Fails);
        rig.trigger();
        rig.reaches(RunState::Failed).await;
    });
    assert_eq!(rig.telemetry.pages.get(), 0);
}

#[test]
fn an_abandoned_page_goes_to_the_next_producer() {
    let (rig, _) = in_tree(api, Schedule::Once, async |rig| {
        drop(rig.pages.recv().await.unwrap());
        let again = rig.pages.recv().await.unwrap();
        assert_eq!(again.content.records.len(), 2);
        let (mailbox, pages) = Mailbox::probe();
        rig.producer.set(mailbox);
        rig.pages = pages;
        drop(again);
        let page = rig.pages.recv().await.unwrap();
        page.receipt.settle(Ok(PageProduced { produced: 2, ..PageProduced::default() }));
        rig.scheduled_fetch().await;
    });
    assert_eq!(rig.telemetry.pages.get(), 1, "the page was fetched once");
}

#[test]
fn a_page_without_the_array_fails_the_run_as_not_retryable() {
    let (rig, _) = in_tree(
        async || server(|_| answer("200 OK", "", b"{}")).await,
        Schedule::OnTrigger,
        async |rig| {
            rig.trigger();
            rig.reaches(RunState::Failed).await;
        },
    );
    assert_eq!((rig.telemetry.fetch_failures.get(), rig.budget.used()), (1, 0));
}

/// What is recorded of a run against an API with these responses.
fn run_of(answers: impl Fn(&str) -> Vec<u8> + Send + 'static, cursor: bool) -> Vec<String> {
    let path = if cursor { "/?since=none" } else { "/" };
    let (rig, _) = in_tree(
        async move || server(answers).await + path,
        Schedule::OnTrigger,
        async |rig| {
            rig.trigger();
            loop {
                tokio::select! {
                    page = rig.pages.recv() => {
                        let page = page.unwrap();
                        settle(page);
                    }
                    () = eventually(|| rig.journaled.ledger.run(rig.run).unwrap().terminal.then_some(())) => break,
                }
            }
        },
    );
    rig.recorded()
}

#[test]
fn an_empty_page_that_names_a_next_one_is_followed() {
    let page = |path: &str| {
        let body: &[u8] = match path.rsplit_once("since=").unwrap().1 {
            "0" => br#"{"r": [1, 2], "next": "b"}"#,
            "b" => br#"{"r": null, "next": "c"}"#,
            _ => br#"{"r": [3], "next": null}"#,
        };
        answer("200 OK", "", body)
    };
    let recorded = run_of(page, true);
    assert_eq!(
        recorded[1..],
        ["fetched 2 at 0", "produced 2, next b", "fetched 0 at b", "produced 0, next c", "fetched 1 at c", "produced 1", "complete"]
    );
}

#[test]
fn next_urls_are_followed_and_one_on_another_host_fails_the_run() {
    let page = |path: &str| {
        let next = match path.rsplit_once("page=").map(|(_, page)| page) {
            None => "\"/?since=none&page=2\"",
            Some("2") => "\"/?since=none&page=3\"",
            Some(_) => "null",
        };
        answer("200 OK", "", format!("{{\"r\": [{path:?}], \"next\": {next}}}").as_bytes())
    };
    let recorded = run_of(page, true);
    assert_eq!(recorded.iter().filter(|event| event.starts_with("produced 1")).count(), 3, "{recorded:?}");
    assert_eq!(recorded.last().unwrap(), "complete");
    let recorded = run_of(|_| answer("200 OK", "", br#"{"r": [1], "next": "http://evil.example/?page=2"}"#), true);
    assert_eq!(recorded, ["started", "failed in fetch, retryable false"]);
}

#[test]
fn a_link_header_that_is_not_followed_cuts_the_run_short() {
    let recorded = run_of(|_| answer("200 OK", "link: </?page=2>; rel=next\r\n", br#"{"r": [1]}"#), false);
    assert_eq!(recorded[3..], ["cut short: no_next"]);
}

#[test]
fn a_misspelt_cursor_fails_the_run_at_its_first_page() {
    let recorded = run_of(|_| answer("200 OK", "", br#"{"r": [1], "Next": 2}"#), true);
    assert_eq!(recorded, ["started", "failed in fetch, retryable false"]);
}

#[test]
fn transient_errors_are_retried_until_a_page_arrives() {
    let bodies: [&[u8]; 3] = [br#"{"r": [{"id": 1}, {"i"#, br#"{"error": "backend timed out"}"#, br#"{"r": [1]}"#];
    let asked = AtomicUsize::new(0);
    let recorded = run_of(move |_| answer("200 OK", "", bodies[asked.fetch_add(1, Ordering::Relaxed).min(2)]), false);
    assert_eq!(recorded, ["started", "fetched 1", "produced 1", "complete"]);
}

#[test]
fn a_page_that_the_producer_refuses_fails_the_run() {
    in_tree(api, Schedule::OnTrigger, async |rig| {
        rig.trigger();
        let page = rig.pages.recv().await.unwrap();
        page.receipt.settle(Err(PageRefused("too large".into())));
        rig.reaches(RunState::Failed).await;
    });
}

#[test]
fn nothing_is_requested_until_the_budget_has_room_for_a_page() {
    in_tree(api, Schedule::OnTrigger, async |rig| {
        let held = rig.budget.reserve(90_000).await;
        rig.trigger();
        rig.reaches(RunState::Running).await;
        assert!(tokio::time::timeout(Duration::from_millis(200), rig.pages.recv()).await.is_err());
        assert_eq!(rig.telemetry.pages.get(), 0);
        drop(held);
        assert!(rig.pages.recv().await.is_some());
    });
}

/// Lines of this total size, a thousand bytes each.
fn lines(bytes: usize) -> Vec<u8> {
    format!("{{\"id\": 1, \"x\": \"{}\"}}\n", "x".repeat(979)).repeat(bytes / 1_000).into_bytes()
}

#[test]
fn lines_are_produced_while_they_arrive_and_all_of_them_are_one_page() {
    let first_part = Arc::new(tokio::sync::Notify::new());
    let arrived = Arc::clone(&first_part);
    let api = async move || {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/lines", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            super::test_server::request(&mut stream).await;
            let head = "content-type: application/x-ndjson\r\n";
            stream.write_all(&answer("200 OK", head, &lines(200_000))).await.unwrap();
            arrived.notified().await;
            stream.write_all(&lines(300_000)).await.unwrap();
        });
        url
    };
    let (rig, _) = in_tree(api, Schedule::OnTrigger, async |rig| {
        rig.trigger();
        let (mut records, mut parts, mut largest) = (0, 0, 0);
        while records < 500 {
            let page = rig.pages.recv().await.unwrap();
            first_part.notify_one();
            assert_eq!(page.run, rig.run);
            (records, parts, largest) = (records + page.content.records.len(), parts + 1, largest.max(rig.budget.used()));
            settle(page);
        }
        rig.reaches(RunState::Succeeded).await;
        assert!(parts >= 8 && largest <= 64 << 10, "{parts} parts of at most {largest} bytes");
    });
    assert_eq!(rig.recorded(), ["started", "fetched 500", "produced 500", "complete"]);
    assert_eq!((rig.telemetry.pages.get(), rig.telemetry.fetched.get(), rig.budget.used()), (1, 500, 0));
}

#[test]
fn lines_of_which_the_producer_refuses_a_part_fail_the_run() {
    let api = async || server(|_| answer("200 OK", "content-type: application/x-ndjson\r\n", &lines(200_000))).await + "/lines";
    let (rig, _) = in_tree(api, Schedule::OnTrigger, async |rig| {
        rig.trigger();
        let page = rig.pages.recv().await.unwrap();
        page.receipt.settle(Err(PageRefused("too large".into())));
        rig.reaches(RunState::Failed).await;
    });
    assert_eq!(rig.recorded(), ["started", "failed in fetch, retryable false"]);
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn a_used_up_limit_is_waited_for_before_the_next_page() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let page = move |path: &str| {
        seen.lock().push(std::time::Instant::now());
        let (limit, next) =
            if path.ends_with("since=0") { ("ratelimit-remaining: 0\r\nratelimit-reset: 1\r\n", "\"b\"") } else { ("", "null") };
        answer("200 OK", limit, format!("{{\"r\": [1], \"next\": {next}}}").as_bytes())
    };
    let recorded = run_of(page, true);
    assert_eq!(recorded.last().unwrap(), "complete");
    let asked = asked.lock();
    assert!(asked.len() == 2 && asked[1] - asked[0] >= Duration::from_millis(900), "{asked:?}");
}
