//! Asserts that a redrive preserves the record.

use super::{Job, RawRecord, Running, bad_user, produce_record, read_records};

/// Produces a bad record with unusual headers, redrives its dead letter with the command line, and
/// asserts that the record is in the topic again with its key, value and headers.
///
/// The topic of `job` must have one partition, and `running` must run the job.
pub(crate) fn assert_redriven_unchanged(job: &Job, running: &Running, bootstrap: &str) {
    let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
    let record = RawRecord {
        key: Some(b"\xffkey".to_vec()),
        value: Some(bad_user(1, 1).into_bytes()),
        headers: vec![
            header("trace", b"\xff\x00"),
            header("forebay-run", b"another"),
            header("trace", b"again"),
            header("forebay-reason", b"of long ago"),
            header("empty", b""),
        ],
    };
    produce_record(bootstrap, &job.topic, &record);
    running.wait_until("there is a dead letter", |s| s["totals"]["rejected"] == 1);
    let dead = format!("{}.dead", job.topic);
    let letter = read_records(bootstrap, &dead, 1).remove(0);
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
    let (own, more) = letter.headers.split_at(record.headers.len());
    assert_eq!(own, record.headers);
    let names: Vec<&str> = more.iter().map(|(name, _)| name.as_str()).collect();
    let of_the_letter = ["reason", "masked-reason", "stage", "topic", "partition", "offset", "timestamp", "sql"];
    assert_eq!(names, of_the_letter.map(|name| format!("forebay-{name}")));

    let end = job.forebay(&["dlq", "redrive", "--reason", "again", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected again", |s| s["totals"]["rejected"] == 2);
    let again = read_records(bootstrap, &job.topic, 1).remove(1);
    let mut wanted = record.clone();
    wanted.headers.push(header("forebay-redriven", b"0:0"));
    assert_eq!(again, wanted);

    let end = job.forebay(&["dlq", "redrive", "--reason", "once more", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected once more", |s| s["totals"]["rejected"] == 3);
    *wanted.headers.last_mut().unwrap() = header("forebay-redriven", b"0:1");
    assert_eq!(read_records(bootstrap, &job.topic, 1).remove(2), wanted, "it names only the last dead letter");
}
