//! Throughput from an HTTP API into the topic: pages of a hundred records with a cursor, from a
//! server in this process, into real Kafka on this machine: with and without requests ahead, with a
//! watermark, and with four runs side by side.
//!
//! `make bench` prints records/s and client CPU per record of each round, and how fast the server
//! alone is. The server, Kafka and the program share the machine. With `ARGS=--crawl` it also reads
//! 2 GB, and prints the resident memory after each eighth.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails with unwrap and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use forebay_test_services::{Kafka, Size};
use parking_lot::Mutex;
use support::resources::{children_cpu, process_bytes};
use support::{Job, user_id};

/// Records on a page, and the bytes of one.
const PAGE: usize = 100;
const RECORD_BYTES: usize = 450;
/// Pages of a round.
const PAGES: usize = 4_000;
/// Pages of a round in which each page waits for the one before it to be on disk.
const PAGES_IN_TURN: usize = 400;
/// Pages of 2 GB.
const CRAWL_PAGES: usize = 2_000_000_000 / (PAGE * RECORD_BYTES);
/// Rounds of each kind after the warm-up.
const ROUNDS: u32 = 3;
/// The runs that are fetched side by side, each with its part of the pages of a round.
const RUNS: usize = 4;

const AHEAD: &str = "paging = { kind = \"cursor\", next = \"/next\", param = \"after\", next_fetch = \"start\" }";
const MARKS: &str = "incremental = { field = \"/n\", format = \"number\", param = \"since\" }";

fn main() {
    let kafka = Kafka::start_sized(Size::Bench, None);
    let api = Api::start();
    println!("the server alone, one connection: {:.0} pages/s", api.alone());
    for round in 0..=ROUNDS {
        let kind = if round == 0 { "warm-up" } else { "round" };
        for (what, pages, lines) in [
            ("fetch_ahead = 0", PAGES_IN_TURN, format!("fetch_ahead = 0\n{AHEAD}")),
            ("fetch_ahead = 8", PAGES, AHEAD.to_owned()),
            ("fetch_ahead = 8 and a watermark", PAGES, format!("{AHEAD}\n{MARKS}")),
        ] {
            println!("{kind} {round}: {what}: {}", fetch(&kafka, &api, pages, &lines));
        }
        println!("{kind} {round}: {RUNS} runs side by side: {}", side_by_side(&kafka, &api));
    }
    if std::env::args().any(|arg| arg == "--crawl") {
        crawl(&kafka, &api);
    }
}

/// A job with these lines of `[fetcher]`, and a topic for it.
fn job(kafka: &Kafka, api: &Api, pages: usize, lines: &str) -> Job {
    let job = Job::new(kafka.bootstrap(), "embedded").fetching(&api.url, None).with_fetcher(lines);
    kafka.create_topic(&job.topic, 4);
    api.pages.store(pages, Ordering::SeqCst);
    api.requests.lock().clear();
    job
}

/// Measures a run that fetches all pages.
fn fetch(kafka: &Kafka, api: &Api, pages: usize, lines: &str) -> String {
    measured(&job(kafka, api, pages, lines), api, pages, &["--key", "one"])
}

/// Measures runs of as many pages together.
fn side_by_side(kafka: &Kafka, api: &Api) -> String {
    let job = job(kafka, api, PAGES / RUNS, &format!("params = [\"shop\"]\nmax_active_runs = {RUNS}\n{AHEAD}"));
    let shops: Vec<String> = (0..RUNS).map(|shop| shop.to_string()).collect();
    measured(&job, api, PAGES, &["--each", &format!("shop={}", shops.join(","))])
}

/// Triggers runs, and waits until all their pages are in Kafka. Nothing reads the topic, so the
/// runs do not end. Returns records per second from the first request to the last, and the CPU of
/// the whole process.
fn measured(job: &Job, api: &Api, pages: usize, trigger: &[&str]) -> String {
    let (cpu, records) = (children_cpu(), (pages * PAGE) as f64);
    let running = job.start(&["--roles", "ingest,api"], &[]);
    running.snapshot();
    assert!(job.forebay(&[&["trigger"], trigger].concat()).status.success());
    running.wait_until("all records are in Kafka", |s| s["totals"]["produced"].as_u64() == Some((pages * PAGE) as u64));
    assert!(running.stop().success());
    let cpu = children_cpu() - cpu;
    let requests = api.requests.lock();
    let took = requests[requests.len() - 1] - requests[0];
    format!("{:.0} records/s, {:.1} µs of CPU per record", records / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / records)
}

/// Reads 2 GB, and prints the resident memory after each eighth, and the largest.
fn crawl(kafka: &Kafka, api: &Api) {
    let job = job(kafka, api, CRAWL_PAGES, AHEAD);
    let running = job.start(&["--roles", "ingest,api"], &[]);
    running.snapshot();
    let began = Instant::now();
    assert!(job.forebay(&["trigger", "--key", "crawl"]).status.success());
    let megabytes = |field| process_bytes(running.id(), field) / 1_000_000;
    for eighth in 1..=8 {
        while api.requests.lock().len() < CRAWL_PAGES * eighth / 8 {
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("crawl, {:.2} GB: {} MB resident", 2.0 * eighth as f64 / 8.0, megabytes("VmRSS"));
    }
    let records = (CRAWL_PAGES * PAGE) as f64;
    println!("crawl: {:.0} records/s, {} MB resident at most", records / began.elapsed().as_secs_f64(), megabytes("VmHWM"));
    assert!(running.stop().success());
}

/// A server of pages over connections that stay open.
struct Api {
    url: String,
    /// When each request arrived.
    requests: Arc<Mutex<Vec<Instant>>>,
    /// The pages that it has.
    pages: Arc<AtomicUsize>,
}

impl Api {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let pages = Arc::new(AtomicUsize::new(PAGES));
        let (arrived, count) = (Arc::clone(&requests), Arc::clone(&pages));
        std::thread::spawn(move || {
            let texts = Arc::new(self::pages());
            for stream in listener.incoming().flatten() {
                let (arrived, texts, count) = (Arc::clone(&arrived), Arc::clone(&texts), Arc::clone(&count));
                std::thread::spawn(move || serve(&stream, &texts, &count, &arrived));
            }
        });
        Self { url, requests, pages }
    }

    /// Pages per second to a client that only reads their bytes.
    fn alone(&self) -> f64 {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://").trim_end_matches('/')).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let began = Instant::now();
        for page in 0..PAGES {
            stream.write_all(format!("GET /?after={page} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                length = line.strip_prefix("Content-Length: ").map_or(length, |length| length.trim().parse().unwrap());
                line.clear();
            }
            std::io::copy(&mut std::io::Read::take(&mut reader, length), &mut std::io::sink()).unwrap();
        }
        PAGES as f64 / began.elapsed().as_secs_f64()
    }
}

/// The records of some pages, as JSON; they recur.
fn pages() -> Vec<String> {
    let record = |n: usize| {
        let id = user_id(u32::try_from(n).unwrap());
        let start = format!("{{\"login\":{{\"uuid\":\"{id}\"}},\"n\":{n},\"text\":\"");
        format!("{start}{}\"}}", "x".repeat(RECORD_BYTES - start.len() - 2))
    };
    (0..50).map(|page| (0..PAGE).map(|at| record(page * PAGE + at)).collect::<Vec<_>>().join(",")).collect()
}

fn serve(stream: &TcpStream, texts: &[String], pages: &AtomicUsize, arrived: &Mutex<Vec<Instant>>) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        arrived.lock().push(Instant::now());
        let after = line.split_once("after=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        let page = after.unwrap_or(0);
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {}
        line.clear();
        let next = if page + 1 < pages.load(Ordering::SeqCst) { (page + 1).to_string() } else { "null".to_owned() };
        let body = format!("{{\"next\":{next},\"results\":[{}]}}", texts[page % texts.len()]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if writer.write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_err() {
            return;
        }
    }
}
