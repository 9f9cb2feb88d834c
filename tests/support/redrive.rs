//! A redrive, asserted to the last byte of the record.

use super::{Job, Running, Whole, bad_user, produce_whole, read_whole};

/// A bad record with headers of every sort becomes a letter, is redriven by the command line, and is in the topic again with the key, the value and the
/// headers that it had. The topic of `job` has one partition, and `running` is at work on it.
pub(crate) fn redriven_as_it_was(job: &Job, running: &Running, bootstrap: &str) {
    let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
    let record = Whole {
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
    produce_whole(bootstrap, &job.topic, &record);
    running.wait_until("it is a dead letter", |s| s["totals"]["rejected"] == 1);
    let dead = format!("{}.dead", job.topic);
    let letter = read_whole(bootstrap, &dead, 1).remove(0);
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
    let (own, more) = letter.headers.split_at(record.headers.len());
    assert_eq!(own, record.headers);
    let names: Vec<&str> = more.iter().map(|(name, _)| name.as_str()).collect();
    let of_the_letter = ["reason", "masked-reason", "stage", "topic", "partition", "offset", "timestamp", "sql"];
    assert_eq!(names, of_the_letter.map(|name| format!("forebay-{name}")));

    let end = job.forebay(&["dlq", "redrive", "--reason", "again", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected again", |s| s["totals"]["rejected"] == 2);
    let again = read_whole(bootstrap, &job.topic, 1).remove(1);
    let mut wanted = record.clone();
    wanted.headers.push(header("forebay-redriven", b"0:0"));
    assert_eq!(again, wanted);

    let end = job.forebay(&["dlq", "redrive", "--reason", "once more", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected once more", |s| s["totals"]["rejected"] == 3);
    *wanted.headers.last_mut().unwrap() = header("forebay-redriven", b"0:1");
    assert_eq!(read_whole(bootstrap, &job.topic, 1).remove(2), wanted, "only of the last letter it says that it was one");
}
