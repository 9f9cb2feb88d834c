//! Effectively once: repeated, late and reordered writes, and manual changes of the table.
//!
//! Tests run against the embedded store and, named `real_…`, against a real Cassandra. Scenarios
//! that hold for both are shared functions.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use scylla::client::session::Session;
use serde_json::{Value, json};

use super::cassandra::tests::keyspace;
use super::fixtures::{Person, people, persons, pipeline};
use super::{Store, TableSpec};
use crate::write_clock::{Lane, WriteClock};

/// A second, in microseconds.
const SECOND: i64 = 1_000_000;
/// A time in the year 2200, in milliseconds.
const IN_2200: i64 = 7_258_118_400_000;

/// A process that writes the table of people.
struct Process {
    store: Store,
    spec: TableSpec,
}

impl Process {
    async fn start(path: &Path, contact_points: &str, keyspace: &str, more: &str) -> Self {
        let writer = "table = \"t\"\nprimary_key = [\"id\", \"seq\"]\nconsistency = \"LOCAL_QUORUM\"";
        let (pipeline, spec) = (pipeline(path, contact_points, keyspace, writer), people(keyspace, more));
        Self { store: Store::connect(&pipeline, Some(&spec)).await.unwrap(), spec }
    }

    async fn embedded(folder: &Path, more: &str) -> Self {
        Self::start(&folder.join("f.toml"), "\"embedded\"", "forebay", more).await
    }

    async fn write(&self, of: &[(Person<'_>, i64)]) {
        let outcome = self.store.write(&persons(&self.spec, of), &|| ()).await.unwrap();
        assert!(outcome.unwritten.is_none() && outcome.rejected.is_empty(), "{outcome:?}");
        assert_eq!(outcome.written, of.len() as u64, "a write that changes nothing is counted too");
    }

    async fn ask(&self, columns: &str, id: &str, seq: i64) -> Value {
        let answer = self.store.query(&format!("SELECT {columns} FROM t WHERE id = '{id}' AND seq = {seq}")).await.unwrap();
        answer.rows.into_iter().next().map_or(Value::Null, Value::Object)
    }

    /// The name and phone of a row, or null if there is no row.
    async fn read(&self, id: &str, seq: i64) -> Value {
        self.ask("name, phone", id, seq).await
    }

    /// The same, with the write times of the cells.
    async fn read_with_times(&self, id: &str, seq: i64) -> Value {
        self.ask("name, phone, writetime(name) AS name_at, writetime(phone) AS phone_at", id, seq).await
    }
}

fn person(name: &str, phone: Option<&str>) -> Value {
    json!({ "name": name, "phone": phone })
}

/// A process with its own keyspace, and a session for manual statements.
async fn cassandra(name: &str, more: &str) -> (Process, Session) {
    let (server, session) = keyspace(name).await;
    (Process::start(Path::new("f.toml"), &server, name, more).await, session)
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

async fn by_hand(session: &Session, cql: &str) {
    session.query_unpaged(cql, ()).await.unwrap();
}

async fn by_hand_in_the_file(folder: &Path, sql: &str) {
    let file = folder.join(".forebay").join(super::EMBEDDED_FILE);
    let connection = libsql::Builder::new_local(file).build().await.unwrap().connect().unwrap();
    assert_eq!(connection.execute(sql, ()).await.unwrap(), 1, "{sql}");
}

/// Writes of a process before a pause, or after it resumes, lose against newer writes of the
/// process that replaced it, cell by cell.
async fn a_late_write_loses(paused: &Process, other: &Process) {
    paused.write(&[(("a", 1, Some("first"), Some("1")), 100)]).await;
    other.write(&[(("a", 1, Some("new"), None), 300)]).await;
    paused.write(&[(("a", 1, Some("old"), Some("2")), 200)]).await;
    paused.write(&[(("a", 1, Some("first"), Some("1")), 100)]).await;
    assert_eq!(other.read("a", 1).await, person("new", None));
}

/// Rows of one partition are distinguished by the rest of the key.
async fn the_whole_key_is_the_identity(process: &Process) {
    let rows = [(("a", 1, Some("a1"), Some("1")), 100), (("a", 2, Some("a2"), Some("2")), 100), (("b", 1, Some("b1"), Some("3")), 100)];
    process.write(&rows).await;
    process.write(&[(("a", 1, Some("other"), None), 200)]).await;
    assert_eq!(process.read("a", 1).await, person("other", None));
    assert_eq!(process.read("a", 2).await, person("a2", Some("2")));
    assert_eq!(process.read("b", 1).await, person("b1", Some("3")));
}

/// Names of one key in offset order, with record timestamps in milliseconds or in wrong units.
fn a_partition_with_a_bad_clock(now_ms: i64) -> Vec<(&'static str, Option<i64>)> {
    vec![
        ("n0", Some(now_ms - 60_000)),
        ("n1", Some(IN_2200)),
        ("n2", Some(now_ms - 86_400_000)),
        ("n3", None),
        ("n4", Some(now_ms * 1_000_000)),
        ("n5", Some(0)),
        ("n6", Some(now_ms / 1_000)),
        ("n7", Some(-5)),
    ]
}

/// Whatever the records' timestamps and the order of writes, the highest offset wins.
async fn offsets_decide_and_not_timestamps(process: &Process) {
    let mut clock = WriteClock::default();
    let records = a_partition_with_a_bad_clock(now() / 1_000);
    let stamped: Vec<(&str, i64)> = records.iter().map(|&(name, at)| (name, clock.advance(Lane::of(0), at).write_ts)).collect();
    for &(name, ts) in &stamped {
        process.write(&[(("forward", 1, Some(name), None), ts)]).await;
    }
    for &(name, ts) in stamped.iter().rev() {
        process.write(&[(("backward", 1, Some(name), None), ts)]).await;
    }
    for id in ["forward", "backward"] {
        assert_eq!(process.read(id, 1).await, person("n7", None), "{id}");
    }
}

#[tokio::test]
async fn a_late_write_of_a_paused_process_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    a_late_write_loses(&Process::embedded(folder.path(), "").await, &Process::embedded(folder.path(), "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_late_write_of_a_paused_process_changes_nothing() {
    let (paused, _) = cassandra("fb_late", "").await;
    let server = format!("[\"{}\"]", forebay_test_services::Cassandra::shared().contact_point());
    a_late_write_loses(&paused, &Process::start(Path::new("g.toml"), &server, "fb_late", "").await).await;
}

#[tokio::test]
async fn rows_of_one_partition_do_not_affect_each_other() {
    let folder = tempfile::tempdir().unwrap();
    the_whole_key_is_the_identity(&Process::embedded(folder.path(), "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_rows_of_one_partition_do_not_affect_each_other() {
    let (process, person_at_cqlsh) = cassandra("fb_identity", "").await;
    the_whole_key_is_the_identity(&process).await;
    by_hand(&person_at_cqlsh, "DELETE FROM fb_identity.t WHERE id = 'a' AND seq = 1").await;
    assert_eq!(process.read("a", 1).await, Value::Null);
    assert_eq!(process.read("a", 2).await, person("a2", Some("2")));
}

#[tokio::test]
async fn offsets_decide_even_if_timestamps_go_back_or_are_in_the_year_2200() {
    let folder = tempfile::tempdir().unwrap();
    offsets_decide_and_not_timestamps(&Process::embedded(folder.path(), "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_offsets_decide_even_if_timestamps_go_back_or_are_in_the_year_2200() {
    let (process, person_at_cqlsh) = cassandra("fb_offsets", "").await;
    offsets_decide_and_not_timestamps(&process).await;
    // The write clock did not follow the wrong timestamps, so a manual delete takes effect.
    by_hand(&person_at_cqlsh, "DELETE FROM fb_offsets.t WHERE id = 'forward' AND seq = 1").await;
    assert_eq!(process.read("forward", 1).await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_all_cells_of_a_row_have_one_time_and_a_repeat_changes_nothing() {
    let (process, _) = cassandra("fb_again", "").await;
    let rows = [(("a", 1, Some("a1"), Some("1")), 100), (("a", 2, Some("a2"), None), 116), (("b", 1, Some("b1"), Some("3")), 132)];
    let expected = [
        json!({ "name": "a1", "phone": "1", "name_at": 100, "phone_at": 100 }),
        json!({ "name": "a2", "phone": null, "name_at": 116, "phone_at": null }),
        json!({ "name": "b1", "phone": "3", "name_at": 132, "phone_at": 132 }),
    ];
    // All in one batch, then one by one in reverse, as after a crash with other batch boundaries.
    process.write(&rows).await;
    for again in 0..2 {
        for (at, ((id, seq, ..), _)) in rows.iter().enumerate() {
            assert_eq!(process.read_with_times(id, *seq).await, expected[at], "{again}");
        }
        for row in rows.iter().rev() {
            process.write(&[*row]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_manual_delete_survives_a_replay_but_not_the_next_record() {
    let (process, person_at_cqlsh) = cassandra("fb_deleted", "").await;
    let record = (("a", 1, Some("first"), Some("1")), now() - SECOND);
    process.write(&[record]).await;
    by_hand(&person_at_cqlsh, "DELETE FROM fb_deleted.t WHERE id = 'a' AND seq = 1").await;
    process.write(&[record]).await;
    assert_eq!(process.read("a", 1).await, Value::Null);
    process.write(&[(("a", 1, Some("second"), None), now() + SECOND)]).await;
    assert_eq!(process.read("a", 1).await, person("second", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_manually_changed_row_survives_a_replay_but_not_the_next_record() {
    let (process, person_at_cqlsh) = cassandra("fb_changed", "").await;
    let record = (("a", 1, Some("first"), Some("1")), now() - SECOND);
    process.write(&[record]).await;
    by_hand(&person_at_cqlsh, "UPDATE fb_changed.t SET name = 'by hand', phone = '9' WHERE id = 'a' AND seq = 1").await;
    process.write(&[record]).await;
    assert_eq!(process.read("a", 1).await, person("by hand", Some("9")));
    process.write(&[(("a", 1, Some("second"), None), now() + SECOND)]).await;
    assert_eq!(process.read("a", 1).await, person("second", None));
}

#[tokio::test]
async fn a_manually_changed_row_survives_a_replay_but_not_the_next_record() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::embedded(folder.path(), "").await;
    let record = (("a", 1, Some("first"), Some("1")), 100);
    process.write(&[record]).await;
    by_hand_in_the_file(folder.path(), "UPDATE t SET name = 'by hand', phone = '9' WHERE id = 'a' AND seq = 1").await;
    process.write(&[record]).await;
    assert_eq!(process.read("a", 1).await, person("by hand", Some("9")));
    process.write(&[(("a", 1, Some("second"), None), 200)]).await;
    assert_eq!(process.read("a", 1).await, person("second", None));
}

#[tokio::test]
async fn an_unset_null_keeps_the_stored_value_until_a_new_value_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::embedded(folder.path(), "nulls = { phone = \"unset\" }").await;
    process.write(&[(("a", 1, Some("first"), Some("1")), 100)]).await;
    process.write(&[(("a", 1, None, None), 200)]).await;
    assert_eq!(process.read("a", 1).await, json!({ "name": null, "phone": "1" }));
    process.write(&[(("a", 1, Some("third"), Some("3")), 300)]).await;
    assert_eq!(process.read("a", 1).await, person("third", Some("3")));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_missing_field_clears_the_stored_value() {
    let (process, _) = cassandra("fb_nulls_written", "").await;
    process.write(&[(("a", 1, Some("first"), Some("1")), 100)]).await;
    process.write(&[(("a", 1, Some("second"), None), 200)]).await;
    let expected = json!({ "name": "second", "phone": null, "name_at": 200, "phone_at": null });
    assert_eq!(process.read_with_times("a", 1).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_an_unset_null_keeps_the_stored_value_and_its_time() {
    let (process, _) = cassandra("fb_nulls_left", "nulls = \"unset\"").await;
    process.write(&[(("a", 1, Some("first"), Some("1")), 100), (("b", 1, Some("b"), None), 100)]).await;
    process.write(&[(("a", 1, Some("second"), None), 200), (("c", 1, None, None), 200)]).await;
    let kept = json!({ "name": "second", "phone": "1", "name_at": 200, "phone_at": 100 });
    assert_eq!(process.read_with_times("a", 1).await, kept);
    assert_eq!(process.read("c", 1).await, json!({ "name": null, "phone": null }), "a row may have only its key");
    // Timestamps are per cell: an unset null does not beat a late value.
    process.write(&[(("b", 1, Some("later"), None), 300)]).await;
    process.write(&[(("b", 1, Some("late"), Some("2")), 200)]).await;
    assert_eq!(process.read("b", 1).await, person("later", Some("2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_only_the_named_columns_leave_nulls_unset() {
    let (process, _) = cassandra("fb_nulls_some", "nulls = { phone = \"unset\" }").await;
    process.write(&[(("a", 1, Some("first"), Some("1")), 100)]).await;
    process.write(&[(("a", 1, None, None), 200)]).await;
    assert_eq!(process.read("a", 1).await, json!({ "name": null, "phone": "1" }));
}
