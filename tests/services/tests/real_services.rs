//! The servers start, answer their own tools, and keep their data across a kill, a stop and a
//! pause.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, Size};

#[test]
fn kafka_keeps_its_records_across_a_kill_a_stop_and_a_pause() {
    let mut kafka = Kafka::start();
    kafka.create_topic("users", 2);
    assert_eq!(kafka.topics(), ["users"]);
    kafka.produce("users", (0..100).map(|n| (Some(format!("key-{n}")), format!("{{\"n\":{n}}}"))));
    kafka.produce("users", [(None::<&str>, "{\"n\":100}")]);

    kafka.kill();
    assert_eq!(kafka.process_id(), None);
    kafka.restart();
    kafka.stop();
    kafka.restart();
    kafka.pause();
    kafka.resume();

    let mut values = kafka.console_consumer("users", 101);
    values.sort_by_key(|value| value.len());
    assert_eq!(values.len(), 101);
    assert_eq!(values[100], "{\"n\":100}");
}

#[test]
fn cassandra_in_batch_mode_keeps_an_acknowledged_row_across_a_kill() {
    let mut cassandra = Cassandra::start(CommitlogSync::Batch);
    cassandra.create_keyspace("kept");
    cassandra.cqlsh("CREATE TABLE kept.users (id int PRIMARY KEY, name text); INSERT INTO kept.users (id, name) VALUES (1, 'Ada')");

    cassandra.kill();
    cassandra.restart();
    assert_eq!(cassandra.count("kept.users"), 1);
    assert!(cassandra.cqlsh("SELECT name FROM kept.users").contains("Ada"));

    cassandra.stop();
    cassandra.restart();
    cassandra.pause();
    cassandra.resume();
    assert_eq!(cassandra.count("kept.users"), 1);
}

#[test]
fn a_shared_server_outlives_the_thread_that_started_it() {
    let id = std::thread::spawn(|| Kafka::shared().process_id()).join().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(200)); // the kernel's signal would have arrived by then
    Kafka::shared().create_topic("still_there", 1);
    assert_eq!(Kafka::shared().process_id(), Some(id));
}

#[test]
fn a_server_dies_with_its_process_even_by_kill_9_and_leaves_no_data() {
    const CHILD: &str = "FOREBAY_TEST_IS_THE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        println!("server {}", Kafka::shared().process_id().unwrap());
        std::thread::sleep(Duration::from_secs(600)); // killed long before that
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_server_dies_with_its_process_even_by_kill_9_and_leaves_no_data"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let server = lines.find_map(|line| Some(line.split_once("server ")?.1.trim().to_owned())).expect("the server starts");
    let process = Path::new("/proc").join(server);
    let arguments = std::fs::read_to_string(process.join("cmdline")).unwrap();
    let properties = arguments.split('\0').find(|argument| argument.ends_with("server.properties")).unwrap();
    let data = Path::new(properties).with_file_name("data");
    assert!(data.exists());

    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while process.exists() || data.exists() {
        assert!(Instant::now() < deadline, "{} or {} is still there", process.display(), data.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_exits_during_its_start_is_reported_with_its_log() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let panic = std::panic::catch_unwind(|| Kafka::start_sized(Size::Test, Some(port))).err().expect("the port is taken");
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("kafka exited during its start"), "{text}");
    assert!(text.contains("Address already in use"), "{text}");
}
