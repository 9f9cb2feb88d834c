//! No output of the program contains a secret of its pipeline file.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, TIMEOUT, forebay, output};

/// Every place of the pipeline file that takes a secret.
const PLACES: [&str; 16] = [
    "sasl-username",
    "sasl-password",
    "key-password",
    "key-pem",
    "keystore-password",
    "cassandra-user",
    "cassandra-password",
    "authorization",
    "api-key",
    "source-url",
    "viewer",
    "operator",
    "admin",
    "lineage-token",
    "lineage-url",
    "traces-url",
];

fn canary(place: &str) -> String {
    assert!(PLACES.contains(&place));
    format!("canary-of-{place}-4711")
}

/// A receiver of lineage and spans, and the bodies that it received. It refuses the first request.
fn receiver() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&bodies);
    std::thread::spawn(move || {
        for (n, mut stream) in listener.incoming().flatten().enumerate() {
            let mut request = Vec::new();
            let mut part = [0; 4096];
            let complete = |request: &[u8]| {
                let text = String::from_utf8_lossy(request).into_owned();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                (body.len() >= length.unwrap_or(0)).then(|| (head.to_owned(), body.to_owned()))
            };
            let (head, body) = loop {
                if let Some(found) = complete(&request) {
                    break found;
                }
                let len = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..len]);
            };
            received.lock().extend_from_slice(body.as_bytes());
            let status = if n == 0 { "500 Internal Server Error" } else { "200 OK" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{head}", head.len());
        }
    });
    (address, bodies)
}

/// The pipeline file with a secret in every place.
fn write(job: &Job, receiver: &str) -> std::path::PathBuf {
    let path = job.write();
    for place in PLACES {
        support::write_secret(&job.dir().join(place), &canary(place));
    }
    support::write_secret(&job.dir().join("authorization"), &format!("Bearer {}", canary("authorization")));
    let file = |place: &str| format!("{{ file = {place:?} }}");
    let text = std::fs::read_to_string(&path).unwrap();
    let cassandra = format!("create = true\nusername = {{ env = \"CASSANDRA_USER\" }}\npassword = {}", file("cassandra-password"));
    let tokens = format!("viewer = {}, operator = {}, admin = {{ env = \"ADMIN\" }}", file("viewer"), file("operator"));
    let rest = format!(
        "tokens = {{ {tokens} }}\n[kafka.properties]\n\"sasl.username\" = {{ env = \"SASL_USER\" }}\n\"sasl.password\" = {}\n\
         \"ssl.key.password\" = {}\n\"ssl.key.pem\" = {}\n\"ssl.keystore.password\" = {}\n[lineage]\ntoken = {}\n\
         url = \"{receiver}/lineage?key={}\"\n[traces]\nurl = \"{receiver}/traces?key={}\"\n",
        file("sasl-password"),
        file("key-password"),
        file("key-pem"),
        file("keystore-password"),
        file("lineage-token"),
        canary("lineage-url"),
        canary("traces-url")
    );
    std::fs::write(&path, text.replace("create = true", &cassandra) + &rest).unwrap();
    path
}

/// A command with the secrets that are in variables.
fn command(args: &[&str], path: &Path) -> Command {
    let mut command = forebay();
    command.args(args).arg("-c").arg(path).env("FOREBAY_LOG", "trace").env("FOREBAY_TOKEN", canary("operator"));
    command.env("SASL_USER", canary("sasl-username")).env("CASSANDRA_USER", canary("cassandra-user")).env("ADMIN", canary("admin"));
    command
}

/// The files of a folder and the folders in it.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_output_contains_a_secret_even_if_the_api_repeats_it_and_an_actor_panics() {
    let mode = Arc::new(AtomicU32::new(401));
    let answers = Arc::clone(&mode);
    let api = TestApi::by_request(move |_, path, headers| {
        let sent = headers.iter().filter(|line| line.to_ascii_lowercase().starts_with("authorization") || line.contains("canary"));
        let echo = format!("no access to {path} with {}", sent.cloned().collect::<Vec<_>>().join(" and "));
        match answers.load(Ordering::SeqCst) {
            401 => Answer::of("401 Unauthorized", &echo),
            // Twice an error that is retried, then records.
            500 => {
                answers.store(1, Ordering::SeqCst);
                Answer::of("500 Internal Server Error", &echo)
            }
            1 => {
                answers.store(200, Ordering::SeqCst);
                Answer::ok(serde_json::json!({ "error": echo }).to_string())
            }
            _ => Answer::users(0, 5),
        }
    });
    let (receiver, exported) = receiver();
    let job = Job::new("embedded", "embedded")
        .fetching(&format!("{}?results=5&api_key={}", api.url, canary("source-url")), None)
        .with_fetcher("headers = { Authorization = { file = \"authorization\" }, X-Api-Key = { file = \"api-key\" } }");
    let path = write(&job, &receiver);
    let mut outputs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut run = |args: &[&str]| {
        let end = output(command(args, &path));
        outputs.push((args.join(" "), [end.stdout, end.stderr].concat()));
        (end.status.code(), String::from_utf8_lossy(&outputs.last().unwrap().1).into_owned())
    };

    assert_eq!(run(&["check"]).0, Some(0));
    let (_, doctor) = run(&["doctor", "--timeout", "5s"]);
    assert!(doctor.contains("answered 401") && doctor.contains("no access to /?results=5"), "the answer is quoted: {doctor}");
    for args in [&["check", "--json"][..], &["plan"], &["plan", "--json"], &["doctor", "--json"]] {
        run(args);
    }

    let mut process = command(&["run"], &path);
    process.env("FAILPOINTS", "transformer::before_transform=1*panic(requested)");
    let running = Running::of(process, job.dir(), job.url());
    let until = Instant::now() + TIMEOUT;
    loop {
        let (code, says) = run(&["status"]);
        if code == Some(0) {
            break;
        }
        let log = || std::fs::read_to_string(job.dir().join("forebay.log")).unwrap();
        assert!(Instant::now() < until, "the pipeline does not start: {says} {}", log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(run(&["trigger", "--key", "refused", "--wait"]).0, Some(1));
    mode.store(500, Ordering::SeqCst);
    assert_eq!(run(&["trigger", "--key", "retried", "--wait", "--json"]).0, Some(0));
    for args in [
        &["status", "--json"][..],
        &["runs"],
        &["runs", "--json"],
        &["actors"],
        &["logs", "--tail", "2000"],
        &["dlq"],
        &["topics"],
        &["journal", "show"],
        &["journal", "show", "--json"],
        &["journal", "state"],
        &["cursor", "show"],
        &["query", "SELECT * FROM users_stream LIMIT 5"],
    ] {
        run(args);
    }
    let client = ControlApi::new(&job.url());
    let bearer = format!("Bearer {}", canary("viewer"));
    for route in ["snapshot", "runs", "pipelines", "batches", "topics", "actors", "records", "dlq", "logs", "alerts", "cursors"] {
        let answer = client.ask("GET", &format!("/v1/{route}"), &[("authorization", &bearer)], "");
        outputs.push((route.to_owned(), format!("{:?} {}", answer.headers, answer.body).into_bytes()));
    }
    // Problems, also for a token that is nearly one of the pipeline's.
    let wrong = format!("{}x", canary("admin"));
    let (viewer, operator, admin) = (canary("viewer"), canary("operator"), canary("admin"));
    for (status, method, path, token, body) in [
        (401, "GET", "/v1/snapshot", &wrong, ""),
        (403, "PUT", "/v1/pipelines/users/state", &viewer, "{}"),
        (404, "GET", "/v1/nowhere", &viewer, ""),
        (404, "POST", "/v1/actors/root/nobody/restart", &admin, "{\"reason\": \"to see\"}"),
        (422, "PUT", "/v1/pipelines/users/runs/key", &operator, "{\"lease_seconds\": 9}"),
    ] {
        let answer = client.ask(method, path, &[("authorization", &format!("Bearer {token}"))], body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        outputs.push((format!("{method} {path}"), format!("{:?} {}", answer.headers, answer.body).into_bytes()));
    }
    let metrics = client.ask("GET", "/metrics", &[("authorization", &bearer)], "");
    outputs.push(("metrics".to_owned(), metrics.body.to_string().into_bytes()));
    while exported.lock().windows(8).all(|bytes| bytes != b"COMPLETE") {
        assert!(Instant::now() < until, "the run is not exported");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(running.stop().success());
    outputs.push(("lineage and spans".to_owned(), exported.lock().clone()));
    for file in files(&job.dir().join(".forebay")).into_iter().chain(["forebay.log", "forebay.out"].map(|name| job.dir().join(name))) {
        outputs.push((file.display().to_string(), std::fs::read(file).unwrap()));
    }

    let text_of = |part: &str| -> String {
        outputs.iter().filter(|(name, _)| name.contains(part)).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    };
    assert!(text_of("forebay.log").contains("requested"), "the panic is logged");
    assert!(text_of("/journal/").contains("answered 401") && text_of("/journal/").contains("RunSucceeded"), "the journal has the runs");
    assert!(api.tokens().contains(&format!("Bearer {}", canary("authorization"))), "the API gets the secret");
    for (name, bytes) in &outputs {
        for place in PLACES {
            let canary = canary(place);
            let at = bytes.windows(canary.len()).position(|window| window == canary.as_bytes());
            let around = at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(300)..(at + 100).min(bytes.len())]).into_owned());
            assert!(around.is_none(), "{name} contains the secret of {place}: {}", around.unwrap_or_default());
        }
    }
}
