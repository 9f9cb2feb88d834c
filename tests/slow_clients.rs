//! Slow clients of the control API keep no one else from being served. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::Job;
use support::control_api::ControlApi;

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
    let requests = [head.clone(), format!("{head}content-length: 60000\r\n\r\n{{"), String::new()];
    let slow: Vec<TcpStream> = (0..CLIENTS)
        .map(|n| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            stream.write_all(requests[n % requests.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    for path in ["/healthz", "/readyz", "/v1/runs"].into_iter().cycle().take(30) {
        let asked = Instant::now();
        assert_eq!(http.get(path).status, 200, "{path}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{path} took {:?}", asked.elapsed());
    }
    let is_open =
        |mut stream: &TcpStream| matches!(stream.read(&mut [0; 512]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    let open = slow.iter().filter(|stream| is_open(stream)).count();
    assert!(open <= 128, "{open} slow clients are still connected");
    assert!(running.stop().success());
}
