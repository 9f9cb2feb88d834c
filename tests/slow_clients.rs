//! Slow clients of the control API keep no one else from being served. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::control_api::ControlApi;
use support::{Job, SecuredApi};

/// More than the API serves at once.
const CLIENTS: usize = 1_400;

#[test]
fn health_and_readiness_are_answered_while_clients_send_slowly() {
    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[]);
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let http = ControlApi::new(running.url());
    let address = running.url().strip_prefix("http://").unwrap();
    let head = format!("PUT /v1/pipelines/users/runs/slow HTTP/1.1\r\nhost: {address}\r\n");
    let slow = slow_clients(address, &[head.as_bytes(), format!("{head}content-length: 60000\r\n\r\n{{").as_bytes(), b""]);
    assert_answers(&http, &["/healthz", "/readyz", "/v1/runs"]);
    assert_few_open(&slow);
    assert!(running.stop().success());
}

#[test]
fn health_is_answered_over_tls_while_clients_shake_hands_slowly() {
    let api = SecuredApi::new(Job::new("embedded", "embedded"));
    let running = api.start();
    let http = ControlApi::with_ca(&api.url(), &api.authority.pem());
    // Nothing, the header of a TLS record without its handshake, and a part of the header.
    let slow = slow_clients(&api.address(), &[b"", b"\x16\x03\x01\x02\x00", b"\x16\x03"]);
    assert_answers(&http, &["/healthz"]);
    assert_few_open(&slow);
    assert!(running.stop().success());
}

/// Connects clients that each send one of `texts`, in turn, and no more.
fn slow_clients(address: &str, texts: &[&[u8]]) -> Vec<TcpStream> {
    let client = |n: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // The API may have closed it already.
        let _ = stream.write_all(texts[n % texts.len()]);
        stream
    };
    (0..CLIENTS).map(client).collect()
}

#[track_caller]
fn assert_answers(http: &ControlApi, paths: &[&str]) {
    for path in paths.iter().cycle().take(30) {
        let asked = Instant::now();
        assert_eq!(http.get(path).status, 200, "{path}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{path} took {:?}", asked.elapsed());
    }
}

#[track_caller]
fn assert_few_open(slow: &[TcpStream]) {
    let is_open =
        |mut stream: &TcpStream| matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    let open = slow.iter().filter(|stream| is_open(stream)).count();
    assert!(open <= 128, "{open} slow clients are still connected");
}
