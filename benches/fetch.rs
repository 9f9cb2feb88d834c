//! Throughput from an HTTP API into the topic: pages of a hundred records with a cursor, from a
//! server in this process, into real Kafka on this machine, with and without requests ahead.
//!
//! `make bench` prints records/s and client CPU per record of each round, and how fast the server
//! alone is. The server, Kafka and the program share the machine.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails with unwrap and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use forebay_test_services::{Kafka, Size};
use parking_lot::Mutex;
use support::resources::children_cpu;
use support::{Job, user_id};

/// Records on a page, and the bytes of one.
const PAGE: usize = 100;
const RECORD_BYTES: usize = 450;
/// Pages of a round.
const PAGES: usize = 4_000;
/// Rounds of each kind after the warm-up.
const ROUNDS: u32 = 4;

fn main() {
    let kafka = Kafka::start_sized(Size::Bench, None);
    let api = Api::start();
    println!("the server alone, one connection: {:.0} pages/s", api.alone());
    for round in 0..=ROUNDS {
        let kind = if round == 0 { "warm-up" } else { "round" };
        for ahead in [0, 8] {
            println!("{kind} {round}: fetch_ahead = {ahead}: {}", fetch(&kafka, &api, ahead));
        }
    }
}

/// Measures a fetch of all pages, from its first request to the last.
fn fetch(kafka: &Kafka, api: &Api, ahead: u32) -> String {
    let lines = format!("fetch_ahead = {ahead}\ncursor = {{ next = \"/next\", param = \"after\" }}");
    let job = Job::new(kafka.bootstrap(), "embedded").fetching(&api.url, None).with_fetcher(&lines);
    kafka.create_topic(&job.topic, 4);
    api.requests.lock().clear();
    let cpu = children_cpu();
    let end = job.forebay(&["run", "--until-idle", "--roles", "ingest", "--json"]);
    assert!(end.status.success(), "{}", support::stderr(&end));
    let cpu = children_cpu() - cpu;
    let requests = api.requests.lock();
    assert_eq!(requests.len(), PAGES);
    let (took, records) = (requests[PAGES - 1] - requests[0], (PAGES * PAGE) as f64);
    format!("{:.0} records/s, {:.1} µs of CPU per record", records / took.as_secs_f64(), cpu.as_secs_f64() * 1e6 / records)
}

/// A server of pages over connections that stay open.
struct Api {
    url: String,
    /// When each request arrived.
    requests: Arc<Mutex<Vec<Instant>>>,
}

impl Api {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let arrived = Arc::clone(&requests);
        std::thread::spawn(move || {
            let pages = Arc::new(pages());
            for stream in listener.incoming().flatten() {
                let (arrived, pages) = (Arc::clone(&arrived), Arc::clone(&pages));
                std::thread::spawn(move || serve(&stream, &pages, &arrived));
            }
        });
        Self { url, requests }
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

fn serve(stream: &TcpStream, pages: &[String], arrived: &Mutex<Vec<Instant>>) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        arrived.lock().push(Instant::now());
        let after = line.split_once("after=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        let page = after.unwrap_or(0);
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {}
        line.clear();
        let next = if page + 1 < PAGES { (page + 1).to_string() } else { "null".to_owned() };
        let body = format!("{{\"next\":{next},\"results\":[{}]}}", pages[page % pages.len()]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if writer.write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_err() {
            return;
        }
    }
}
