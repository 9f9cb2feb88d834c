//! The client against a server on this machine that says what the test wants.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{Answer, Client};
use super::error::FetchError;
use forebay_schemas::failure::{Class, Classified};

/// A server that answers each request with `answer(path)`, raw.
pub(super) async fn server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = stream.write_all(&answer(&path)).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

pub(super) async fn request(stream: &mut TcpStream) -> String {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(request).unwrap()
}

pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(super) fn client(url: &str, more: &str) -> Client {
    let text = format!(
        "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"users_stream\"\n[fetcher]\nurl = \"{url}\"\n{more}\n\
         [producer]\nkey = \"/id\"\n"
    );
    // A file named in it is looked for beside the pipeline file.
    let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap();
    Client::new(&pipeline, pipeline.fetcher.as_ref().unwrap()).unwrap()
}

pub(super) async fn fetch(client: &Client) -> Result<Vec<u8>, FetchError> {
    fetch_at(client, None).await.map(|answer| answer.body.to_vec())
}

pub(super) async fn fetch_at(client: &Client, cursor: Option<&str>) -> Result<Answer, FetchError> {
    client.fetch(SystemTime::UNIX_EPOCH, &BTreeMap::new(), cursor).await
}

/// Zeros, compressed 158 to 1: one literal and then copies of 258 bytes, in deflate's fixed code.
fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let mut bits: Vec<u8> = vec![1, 1, 0];
    bits.extend([0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..bytes / 258 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    bits.extend([0; 7]);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << at)));
    gzip.extend([0; 8]);
    gzip
}

#[tokio::test]
async fn an_answer_is_given_back_byte_for_byte() {
    let url = server(|path| answer("200 OK", "content-type: application/json\r\n", format!("{{\"path\": {path:?}}} ").as_bytes())).await;
    assert_eq!(fetch(&client(&format!("{url}/api?n=2"), "")).await.unwrap(), b"{\"path\": \"/api?n=2\"} ");
}

#[tokio::test]
async fn a_busy_api_is_asked_again_when_it_says() {
    let url = server(|_| answer("429 Too Many Requests", "retry-after: 7\r\n", b"slow\n down")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(7))));
    assert!(error.to_string().ends_with("answered 429 Too Many Requests: slow down"), "{error}");
}

#[tokio::test]
async fn a_date_says_when_to_ask_again_too() {
    let url = server(|_| answer("503 Service Unavailable", "retry-after: Thu, 01 Jan 1970 00:00:42 GMT\r\n", b"")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(42))));
}

#[tokio::test]
async fn a_request_the_api_will_not_have_is_not_made_again_at_once() {
    for status in ["404 Not Found", "401 Unauthorized", "400 Bad Request", "304 Not Modified"] {
        let url = server(move |_| answer(status, "", b"")).await;
        let error = fetch(&client(&url, "")).await.unwrap_err();
        assert_eq!(error.class(), Class::Rejected, "{error}");
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_before_it_is_read_to_its_end() {
    let url = server(|_| answer("200 OK", "", &vec![b' '; 100_000])).await;
    let error = fetch(&client(&url, "max_page_bytes = \"64KiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { most: 65_536, .. }), "{error}");
}

#[tokio::test]
async fn a_gzip_bomb_is_refused_by_what_it_unfolds_to() {
    let bomb = |bytes| move |_: &str| answer("200 OK", "content-encoding: gzip\r\n", &gzip_bomb(bytes));
    let url = server(bomb(100 << 20)).await;
    let error = fetch(&client(&url, "max_page_bytes = \"1MiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { most: 1_048_576, .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_dawdles_times_out_as_a_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let error = fetch(&client(&url, "timeout = \"200ms\"")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().ends_with("did not answer within 200ms (fetcher.timeout)"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_short_is_as_good_as_none() {
    let url = server(|_| answer("200 OK", "content-length: 100\r\n", b"[1, 2")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_three_times() {
    let url = server(|path| match path {
        "/3" => answer("302 Found", "location: /2\r\n", b""),
        "/2" => answer("302 Found", "location: /1\r\n", b""),
        "/1" => answer("302 Found", "location: /0\r\n", b""),
        "/0" => answer("200 OK", "", b"[]"),
        _ => answer("302 Found", "location: /loop\r\n", b""),
    })
    .await;
    assert_eq!(fetch(&client(&format!("{url}/3"), "")).await.unwrap(), b"[]");
    let error = fetch(&client(&format!("{url}/loop"), "")).await.unwrap_err();
    assert!(error.to_string().contains("more than 3 times"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_without_its_query() {
    let url = server(|_| answer("302 Found", "location: http://evil.example/x?token=secret\r\n", b"")).await;
    let error = fetch(&client(&url, "headers = { authorization = \"Bearer x\" }")).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert!(error.to_string().contains("to another host, http://evil.example/x;"), "{error}");
}

#[tokio::test]
async fn a_page_of_html_is_told_from_json() {
    let url = server(|_| answer("200 OK", "content-type: text/html; charset=utf-8\r\n", b"<html>\n<h1>Log in</h1>")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("answered text/html instead of JSON: <html> <h1>Log in</h1>"), "{error}");
}

#[tokio::test]
async fn an_api_that_is_not_there_is_waited_for_and_its_key_not_shown() {
    let error = fetch(&client("http://127.0.0.1:1/api?key=hunter2", "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1/api can't be reached") && text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[tokio::test]
async fn garbage_instead_of_http_is_an_api_that_cannot_be_reached() {
    let url = server(|_| b"SSH-2.0-OpenSSH\r\n".to_vec()).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap_err().class(), Class::Transient);
}

#[tokio::test]
async fn headers_of_the_file_are_sent_and_secrets_not_printed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        stream.write_all(&answer("200 OK", "", b"[]")).await.unwrap();
        request
    });
    let path = std::env::var("PATH").unwrap();
    let client = client(&url, "headers = { x-key = { env = \"PATH\" }, accept = \"application/vnd.api+json\" }");
    assert!(!format!("{client:?}").contains(&path));
    fetch(&client).await.unwrap();
    let request = seen.await.unwrap();
    assert!(request.contains(&format!("x-key: {path}\r\n")) && request.contains("accept: application/vnd.api+json\r\n"), "{request}");
}

mod actor {
    //! The actor, with a probe in the producer's place.

    use parking_lot::Mutex;
    use std::sync::Arc;

    use forebay_schemas::read::Position;
    use forebay_schemas::run::{RunError, Stop};
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use tokio::sync::watch;
    use uuid::Uuid;

    use super::super::{Connections, Fetcher, FetcherMessage, RunReports, Schedule};
    use super::*;
    use crate::message::{Page, PageProduced, PageRefused};
    use crate::telemetry::Telemetry;
    use forebay_kernel::testing::{eventually, with_tree};
    use forebay_kernel::{Budget, ChildSpec, Exit, Lease, Mailbox, Restart, Slot, SystemClock};

    const RUN: Uuid = Uuid::from_u128(1);

    #[derive(Default)]
    struct Told {
        all: Mutex<Vec<String>>,
        cursor: Mutex<Option<String>>,
        kept: watch::Sender<Kept>,
    }

    /// Whether what was told outlives the process.
    #[derive(Debug, Default, Clone, PartialEq, Eq)]
    enum Kept {
        #[default]
        AtOnce,
        NotYet,
        Never,
    }

    impl Told {
        fn add(&self, what: String) {
            self.all.lock().push(what);
        }
        fn all(&self) -> Vec<String> {
            self.all.lock().clone()
        }
        fn has(&self, what: &str) -> Option<()> {
            self.all().iter().any(|told| told == what).then_some(())
        }
    }

    impl RunReports for Told {
        fn open(&self) -> Vec<Uuid> {
            let ended = self.all().iter().any(|told| told.ends_with(" finished") || told.contains(" failed "));
            if self.has("1 started").is_some() && !ended { vec![RUN] } else { Vec::new() }
        }
        fn started(&self, run: Uuid) {
            self.add(format!("{} started", run.as_u128()));
        }
        fn fetched(&self, run: Uuid, records: u64, cursor: Option<&str>) {
            let at = cursor.map_or_else(String::new, |cursor| format!(" at {cursor}"));
            self.add(format!("{} fetched {records}{at}", run.as_u128()));
        }
        fn produced(&self, run: Uuid, page: &PageProduced, _: &Position, cursor: Option<&str>) {
            let next = cursor.map_or_else(String::new, |cursor| format!(", next {cursor}"));
            self.add(format!("{} produced {}{next}", run.as_u128(), page.produced));
            if let Some(cursor) = cursor {
                *self.cursor.lock() = Some(cursor.to_owned());
            }
        }
        fn begins(&self, _: Uuid) -> Position {
            Position::of(self.cursor.lock().as_deref())
        }
        fn params(&self, _: Uuid) -> BTreeMap<String, String> {
            BTreeMap::new()
        }
        fn is_paused(&self) -> bool {
            false
        }
        fn settled(&self) -> BoxFuture<'_, Result<(), String>> {
            let mut kept = self.kept.subscribe();
            let kept = async move { kept.wait_for(|kept| *kept != Kept::NotYet).await.unwrap().clone() };
            kept.map(|kept| if kept == Kept::Never { Err("the disk is full".to_owned()) } else { Ok(()) }).boxed()
        }
        fn finished(&self, run: Uuid, stop: Option<Stop>) {
            let stop = stop.unwrap();
            if !stop.complete {
                self.add(format!("{} cut short, {}", run.as_u128(), stop.reason.as_str()));
            }
            self.add(format!("{} finished", run.as_u128()));
        }
        fn failed(&self, run: Uuid, error: RunError) {
            self.add(format!("{} failed in {}, retryable {}", run.as_u128(), error.stage, error.retryable));
        }
        fn throttled(&self, _: Duration, _: String) {}
        fn scheduled_done(&self, _: Option<Stop>) {
            self.add("scheduled".to_owned());
        }
        fn scheduled_failed(&self, error: RunError) {
            self.add(format!("scheduled failed in {}", error.stage));
        }
    }

    struct Rig {
        told: Arc<Told>,
        telemetry: Arc<Telemetry>,
        budget: Budget,
        producer: Slot<Mailbox<Lease<Page>>>,
        pages: tokio::sync::mpsc::UnboundedReceiver<Lease<Page>>,
        fetcher: Slot<Mailbox<FetcherMessage>>,
        child: Option<ChildSpec>,
    }

    /// A fetcher of an API that gives cursors when the address has a parameter `since`.
    fn rig(url: &str, schedule: Schedule, told: Arc<Told>) -> Rig {
        let cursor = if url.contains("since=") { "cursor = { next = \"/next\", param = \"since\", start = \"0\" }\n" } else { "" };
        let text = format!(
            "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"{url}\"\nrecords = \"/r\"\n{cursor}\
             max_page_bytes = \"64KiB\"\n[producer]\nkey = \"/id\"\n"
        );
        let pipeline = Arc::new(forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap());
        let (mailbox, pages) = Mailbox::probe();
        let (producer, fetcher) = (Slot::default(), Slot::default());
        producer.set(mailbox);
        let (telemetry, budget) = (Arc::new(Telemetry::default()), Budget::new("edge", 100_000));
        let to = Connections {
            producer: producer.clone(),
            budget: budget.clone(),
            reports: told.clone(),
            telemetry: telemetry.clone(),
            clock: SystemClock::shared(),
        };
        let hand = fetcher.clone();
        let make = move |mailbox: &Mailbox<FetcherMessage>| {
            hand.set(mailbox.clone());
            Fetcher::new(pipeline.clone(), schedule, to.clone())
        };
        let child = Some(ChildSpec::actor("fetcher", Restart::Permanent, Duration::from_secs(5), make));
        Rig { told, telemetry, budget, producer, pages, fetcher, child }
    }

    async fn api() -> String {
        server(|_| answer("200 OK", "", br#"{"r": [{"id": 1}, {"id": 2}]}"#)).await
    }

    fn in_tree(url: impl AsyncFnOnce() -> String, schedule: Schedule, test: impl AsyncFnOnce(&mut Rig)) -> (Rig, Exit) {
        in_tree_with(url, schedule, Arc::default(), test)
    }

    /// The same, with what was told before.
    fn in_tree_with(
        url: impl AsyncFnOnce() -> String,
        schedule: Schedule,
        told: Arc<Told>,
        test: impl AsyncFnOnce(&mut Rig),
    ) -> (Rig, Exit) {
        // The server runs on a runtime of its own, which outlives the tree.
        let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = servers.block_on(url());
        let mut rig = rig(&url, schedule, told);
        let children = vec![rig.child.take().unwrap()];
        let ((), exit) = with_tree(children, async |_, _| test(&mut rig).await);
        servers.shutdown_background();
        (rig, exit)
    }

    #[test]
    fn a_triggered_run_is_told_of_from_start_to_finish_and_its_budget_is_what_it_weighs() {
        let (rig, exit) = in_tree(api, Schedule::OnTrigger, async |rig| {
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            let Lease { body: page, credit } = rig.pages.recv().await.unwrap();
            assert_eq!(page.run, RUN);
            assert_eq!(page.records, [&br#"{"id": 1}"#[..], &br#"{"id": 2}"#[..]]);
            assert_eq!((credit.bytes(), rig.budget.used()), (29 + 2 * 64, 29 + 2 * 64));
            page.receipt.settle(Ok(PageProduced { produced: 2, ..PageProduced::default() }));
            eventually(|| rig.told.has("1 finished")).await;
        });
        assert_eq!(rig.told.all(), ["1 started", "1 fetched 2", "1 produced 2", "1 finished"]);
        assert_eq!((rig.telemetry.pages.get(), rig.telemetry.fetched.get()), (1, 2));
        assert_eq!((rig.budget.used(), exit), (0, Exit::Shutdown));
    }

    /// Pages of two records whose cursor counts them, until four; then an empty one.
    async fn api_of_pages() -> String {
        let page = |path: &str| {
            let since: u32 = path.rsplit_once("since=").unwrap().1.parse().unwrap();
            let records = if since < 4 { format!("{{\"id\": {since}}}, {{\"id\": {}}}", since + 1) } else { String::new() };
            answer("200 OK", "", format!("{{\"r\": [{records}], \"next\": {}}}", (since + 2).min(4)).as_bytes())
        };
        server(page).await + "/?since=none"
    }

    /// Lets the next page through.
    async fn through(rig: &mut Rig) {
        let Lease { body: page, credit } = rig.pages.recv().await.unwrap();
        drop(credit);
        page.receipt.settle(Ok(PageProduced { produced: page.records.len() as u64, ..PageProduced::default() }));
    }

    #[test]
    fn a_page_is_asked_for_only_when_the_one_before_it_is_in_kafka_and_kept() {
        let (rig, _) = in_tree(api_of_pages, Schedule::OnTrigger, async |rig| {
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            let Lease { body: page, credit } = rig.pages.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(rig.telemetry.pages.get(), 1, "the first is not in Kafka yet");
            rig.told.kept.send_replace(Kept::NotYet);
            drop(credit);
            page.receipt.settle(Ok(PageProduced { produced: 2, ..PageProduced::default() }));
            eventually(|| rig.told.has("1 produced 2, next 2")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!((rig.telemetry.pages.get(), rig.budget.used()), (1, 0), "that it is in Kafka is not on the disk yet");
            rig.told.kept.send_replace(Kept::AtOnce);
            through(rig).await;
            through(rig).await;
            eventually(|| rig.told.has("1 finished")).await;
        });
        assert_eq!(
            rig.told.all(),
            [
                "1 started",
                "1 fetched 2 at 0",
                "1 produced 2, next 2",
                "1 fetched 2 at 2",
                "1 produced 2, next 4",
                "1 fetched 0 at 4",
                "1 produced 0",
                "1 finished"
            ]
        );
    }

    #[test]
    fn an_incarnation_begins_at_the_cursor_that_was_kept() {
        let (rig, _) = in_tree(api_of_pages, Schedule::OnTrigger, async |rig| {
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            through(rig).await;
            through(rig).await;
            through(rig).await;
            eventually(|| rig.told.has("1 finished")).await;
        });
        let told = Arc::clone(&rig.told);
        let (again, _) = in_tree_with(api_of_pages, Schedule::Once, told, async |rig| {
            through(rig).await;
            eventually(|| rig.told.has("scheduled")).await;
        });
        let told = again.told.all();
        assert!(told[8].ends_with(" fetched 0 at 4"), "{told:?}");
    }

    #[test]
    fn a_journal_that_keeps_no_cursor_fails_the_run() {
        let (rig, _) = in_tree(api_of_pages, Schedule::OnTrigger, async |rig| {
            rig.told.kept.send_replace(Kept::Never);
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            eventually(|| rig.told.has("1 failed in fetch, retryable false")).await;
        });
        assert_eq!(rig.telemetry.pages.get(), 0);
    }

    #[test]
    fn an_abandoned_page_is_handed_to_the_next_producer() {
        let (rig, _) = in_tree(api, Schedule::Once, async |rig| {
            drop(rig.pages.recv().await.unwrap());
            let again = rig.pages.recv().await.unwrap();
            assert_eq!(again.body.records.len(), 2);
            let (mailbox, pages) = Mailbox::probe();
            rig.producer.set(mailbox);
            rig.pages = pages;
            drop(again);
            let Lease { body: page, .. } = rig.pages.recv().await.unwrap();
            page.receipt.settle(Ok(PageProduced { produced: 2, ..PageProduced::default() }));
            eventually(|| rig.told.has("scheduled")).await;
        });
        assert_eq!(rig.telemetry.pages.get(), 1, "the page was fetched once");
    }

    #[test]
    fn a_page_without_the_array_fails_the_run_for_good() {
        let (rig, _) = in_tree(
            async || server(|_| answer("200 OK", "", b"{}")).await,
            Schedule::OnTrigger,
            async |rig| {
                rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
                eventually(|| rig.told.has("1 failed in fetch, retryable false")).await;
            },
        );
        assert_eq!((rig.telemetry.fetch_failures.get(), rig.budget.used()), (1, 0));
    }

    /// What a run of an API comes to that answers like this.
    fn told_of(answers: impl Fn(&str) -> Vec<u8> + Send + 'static, cursor: bool) -> Vec<String> {
        let path = if cursor { "/?since=none" } else { "/" };
        let (rig, _) = in_tree(
            async move || server(answers).await + path,
            Schedule::OnTrigger,
            async |rig| {
                rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
                loop {
                    let ended = |told: &String| told.ends_with(" finished") || told.contains(" failed ");
                    tokio::select! {
                        lease = rig.pages.recv() => {
                            let Lease { body: page, credit } = lease.unwrap();
                            drop(credit);
                            page.receipt.settle(Ok(PageProduced { produced: page.records.len() as u64, ..PageProduced::default() }));
                        }
                        () = eventually(|| rig.told.all().iter().any(ended).then_some(())) => break,
                    }
                }
            },
        );
        rig.told.all()
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
        let told = told_of(page, true);
        assert_eq!(
            told[1..],
            [
                "1 fetched 2 at 0",
                "1 produced 2, next b",
                "1 fetched 0 at b",
                "1 produced 0, next c",
                "1 fetched 1 at c",
                "1 produced 1",
                "1 finished"
            ]
        );
    }

    #[test]
    fn a_next_address_is_followed_to_the_last_page_and_one_elsewhere_fails_the_run_before_its_page_is_produced() {
        let page = |path: &str| {
            let next = match path.rsplit_once("page=").map(|(_, page)| page) {
                None => "\"/?since=none&page=2\"",
                Some("2") => "\"/?since=none&page=3\"",
                Some(_) => "null",
            };
            answer("200 OK", "", format!("{{\"r\": [{path:?}], \"next\": {next}}}").as_bytes())
        };
        let told = told_of(page, true);
        assert_eq!(told.iter().filter(|told| told.contains(" produced 1")).count(), 3, "{told:?}");
        assert_eq!(told.last().unwrap(), "1 finished");
        let told = told_of(|_| answer("200 OK", "", br#"{"r": [1], "next": "http://evil.example/?page=2"}"#), true);
        assert_eq!(told, ["1 started", "1 failed in fetch, retryable false"]);
    }

    #[test]
    fn a_link_that_is_not_followed_makes_the_run_one_that_was_cut_short() {
        let told = told_of(|_| answer("200 OK", "link: </?page=2>; rel=next\r\n", br#"{"r": [1]}"#), false);
        assert_eq!(told[3..], ["1 cut short, no_next", "1 finished"]);
    }

    #[test]
    fn a_cursor_that_is_misspelt_fails_the_run_at_its_first_page() {
        let told = told_of(|_| answer("200 OK", "", br#"{"r": [1], "Next": 2}"#), true);
        assert_eq!(told, ["1 started", "1 failed in fetch, retryable false"]);
    }

    #[test]
    fn what_passes_is_asked_for_again_until_it_has() {
        let bodies: [&[u8]; 3] = [br#"{"r": [{"id": 1}, {"i"#, br#"{"error": "backend timed out"}"#, br#"{"r": [1]}"#];
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let told = told_of(move |_| answer("200 OK", "", bodies[asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(2)]), false);
        assert_eq!(told, ["1 started", "1 fetched 1", "1 produced 1", "1 finished"]);
    }

    #[test]
    fn a_refused_page_fails_the_run_for_good() {
        in_tree(api, Schedule::OnTrigger, async |rig| {
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            let Lease { body: page, .. } = rig.pages.recv().await.unwrap();
            page.receipt.settle(Err(PageRefused("too large".into())));
            eventually(|| rig.told.has("1 failed in produce, retryable false")).await;
        });
    }

    #[test]
    fn nothing_is_asked_for_until_the_budget_has_room_for_a_page() {
        in_tree(api, Schedule::OnTrigger, async |rig| {
            let held = rig.budget.reserve(90_000).await;
            rig.fetcher.get().post(FetcherMessage::Trigger { run: RUN }).unwrap();
            eventually(|| rig.told.has("1 started")).await;
            assert!(tokio::time::timeout(Duration::from_millis(200), rig.pages.recv()).await.is_err());
            assert_eq!(rig.telemetry.pages.get(), 0);
            drop(held);
            assert!(rig.pages.recv().await.is_some());
        });
    }
}
