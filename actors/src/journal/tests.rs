use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::test_disk::TestDisk;
use super::*;

fn settings() -> Settings {
    Settings { pipeline: "users".into(), segment_bytes: 400, keep_bytes: 1 << 20 }
}

fn event(seq: u64) -> Vec<u8> {
    format!("{{\"seq\":{seq},\"type\":\"Tested\",\"data\":\"{}\"}}", &"xxxxxxx"[usize::try_from(seq % 7).unwrap()..]).into_bytes()
}

/// Appends an event and waits until it is durable. Writes a snapshot when one is needed, as callers
/// must.
fn append(journal: &Journal, seq: u64) -> Durable {
    let mut line = Vec::new();
    frame::encode(&event(seq), &mut line);
    journal.append(line, 1, true);
    let durable = wait(journal, seq);
    if journal.needs_snapshot() {
        journal.snapshot(seq, format!("{{\"upto\":{seq}}}").into_bytes());
    }
    durable
}

fn wait(journal: &Journal, upto: u64) -> Durable {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut durable = journal.durable();
    let there = |durable: &Durable| !matches!(durable, Durable::UpTo(seq) if *seq < upto);
    runtime.block_on(async { durable.wait_for(there).await.unwrap().clone() })
}

/// A journal of events `1..=last`.
fn written(folder: &Path, last: u64) {
    let (journal, next) = Journal::open(folder, RealDisk, settings()).unwrap();
    assert_eq!(next, 1);
    for seq in 1..=last {
        assert_eq!(append(&journal, seq), Durable::UpTo(seq));
    }
}

type Entries = Vec<(u64, Vec<u8>)>;

fn read_all(folder: &Path) -> Result<Entries, JournalError> {
    let mut entries = Vec::new();
    read(folder, 1, |seq, json| {
        entries.push((seq, json.to_vec()));
        Ok::<_, JournalError>(())
    })?;
    Ok(entries)
}

fn in_order(entries: &Entries) -> bool {
    entries.iter().zip(1..).all(|((seq, json), expected)| *seq == expected && *json == event(expected))
}

#[test]
fn acknowledged_events_read_back_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 50);
    assert!(segment::list(dir.path()).unwrap().len() > 3, "several segments");
    let entries = read_all(dir.path()).unwrap();
    assert_eq!(entries.len(), 50);
    assert!(in_order(&entries));
    let (_, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    assert_eq!(next, 51);
}

#[test]
fn reading_from_a_sequence_skips_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 50);
    let mut seen = Vec::new();
    let end = read(dir.path(), 33, |seq, _| {
        seen.push(seq);
        Ok::<_, JournalError>(())
    })
    .unwrap();
    assert_eq!(seen, (33..=50).collect::<Vec<_>>());
    assert_eq!(end.next, 51);
}

#[test]
fn a_journal_cut_at_any_byte_of_its_last_line_recovers_without_that_line() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5);
    let path = segment::list(dir.path()).unwrap().pop().unwrap().path;
    let whole = fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for length in last..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (journal, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
        assert_eq!(next, 5, "cut to {length}");
        append(&journal, 5);
        drop(journal);
        assert_eq!(read_all(dir.path()).unwrap().len(), 5);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_segment_with_a_torn_header_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5);
    fs::write(dir.path().join(segment::file_name(6)), b"1234").unwrap();
    let (journal, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    assert_eq!(next, 6);
    append(&journal, 6);
    assert_eq!(read_all(dir.path()).unwrap().len(), 6);
}

#[test]
fn a_changed_byte_anywhere_is_an_error_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 12);
    let segments = segment::list(dir.path()).unwrap();
    assert!(segments.len() > 1);
    for (at, segment) in segments.iter().enumerate() {
        let whole = fs::read(&segment.path).unwrap();
        // Without the last newline the line is a torn tail.
        let upto = if at + 1 == segments.len() { whole.len() - 1 } else { whole.len() };
        for byte in 0..upto {
            let mut bent = whole.clone();
            bent[byte] ^= 1;
            fs::write(&segment.path, &bent).unwrap();
            let error = read_all(dir.path()).expect_err("a changed byte is detected");
            assert!(matches!(&error, JournalError::Damaged { path, .. } if path == &segment.path), "byte {byte}: {error}");
            assert!(upto == whole.len() || Journal::open(dir.path(), RealDisk, settings()).is_err(), "the writer rejects it, too");
        }
        fs::write(&segment.path, &whole).unwrap();
    }
}

#[test]
fn a_missing_segment_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 30);
    let segments = segment::list(dir.path()).unwrap();
    fs::remove_file(&segments[1].path).unwrap();
    let error = read_all(dir.path()).unwrap_err();
    assert!(matches!(error, JournalError::Gap { from, to, .. } if from == segments[1].first && to == segments[2].first), "{error}");
}

#[test]
fn journals_of_another_pipeline_or_a_newer_format_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2);
    let other = Settings { pipeline: "orders".into(), ..settings() };
    assert!(matches!(Journal::open(dir.path(), RealDisk, other), Err(JournalError::Foreign { .. })));
    let mut line = Vec::new();
    frame::encode(br#"{"segment":1,"format":2,"first":1,"pipeline":"users"}"#, &mut line);
    fs::write(dir.path().join(segment::file_name(1)), line).unwrap();
    assert!(matches!(Journal::open(dir.path(), RealDisk, settings()), Err(JournalError::Newer { format: 2, .. })));
}

/// A disk that fails at its n-th write or sync only.
fn failing_disk(n: u64) -> TestDisk {
    let left = AtomicU64::new(n);
    TestDisk::new(move |_| match left.fetch_sub(1, Ordering::SeqCst) {
        1 => Err(io::Error::from(io::ErrorKind::StorageFull)),
        _ => Ok(()),
    })
}

#[test]
fn after_a_failed_write_or_sync_nothing_more_is_acknowledged() {
    for fails_at in 3..40 {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), failing_disk(fails_at), settings()).unwrap();
        let ends: Vec<bool> = (1..=20).map(|seq| matches!(append(&journal, seq), Durable::UpTo(_))).collect();
        drop(journal);
        let acknowledged = ends.iter().take_while(|ok| **ok).count();
        assert!(ends[acknowledged..].iter().all(|ok| !ok), "no acknowledgement after a failure");
        assert!(acknowledged < 20);
        let there = read_all(dir.path()).unwrap();
        assert!(there.len() >= acknowledged, "fails at {fails_at}: {} of {acknowledged}", there.len());
    }
}

#[test]
fn collected_appends_are_written_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), RealDisk, Settings { segment_bytes: 1 << 20, ..settings() }).unwrap();
    for n in 0..200 {
        let mut lines = Vec::new();
        (1..=3).for_each(|more| frame::encode(&event(n * 3 + more), &mut lines));
        journal.append(lines, 3, n % 50 == 49);
    }
    assert_eq!(wait(&journal, 600), Durable::UpTo(600));
    let entries = read_all(dir.path()).unwrap();
    assert!(in_order(&entries) && entries.len() == 600);
}

#[test]
fn events_that_no_caller_waits_for_are_synced_soon() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    let mut line = Vec::new();
    frame::encode(&event(1), &mut line);
    journal.append(line, 1, false);
    assert_eq!(wait(&journal, 1), Durable::UpTo(1));
}

#[test]
fn a_follower_reads_across_segments_while_the_journal_grows() {
    let dir = tempfile::tempdir().unwrap();
    let mut follower = Follower::new(dir.path(), 3);
    let mut seen = Vec::new();
    let mut read_on = |seen: &mut Vec<u64>| {
        follower.read_new(|seq, _| {
            seen.push(seq);
            Ok::<_, JournalError>(())
        })
    };
    read_on(&mut seen).unwrap();
    assert!(seen.is_empty(), "no journal yet");
    let (journal, _) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    for seq in 1..=40 {
        append(&journal, seq);
        read_on(&mut seen).unwrap();
        assert_eq!(seen, (3..=seq).collect::<Vec<_>>());
    }
    // An unfinished line is not returned.
    let path = segment::list(dir.path()).unwrap().pop().unwrap().path;
    let mut file = File::options().append(true).open(path).unwrap();
    io::Write::write_all(&mut file, b"0123").unwrap();
    read_on(&mut seen).unwrap();
    assert_eq!(seen.len(), 38);
}

#[test]
fn each_new_segment_has_a_snapshot_and_the_newest_undamaged_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 60);
    let begins: Vec<u64> = segment::list(dir.path()).unwrap().iter().map(|segment| segment.first).collect();
    let [.., before, last] = begins[..] else { panic!("{begins:?}") };
    let newest = snapshot::latest(dir.path(), u64::MAX).unwrap().unwrap();
    assert_eq!(newest, snapshot::Snapshot { seq: last - 1, state: format!("{{\"upto\":{}}}", last - 1).into_bytes() });
    assert_eq!(snapshot::latest(dir.path(), last - 2).unwrap().unwrap().seq, before - 1, "the one before it");
    let path = dir.path().join(format!("{:020}.snap", last - 1));
    let mut bent = fs::read(&path).unwrap();
    bent[30] ^= 1;
    fs::write(path, bent).unwrap();
    assert_eq!(snapshot::latest(dir.path(), u64::MAX).unwrap().unwrap().seq, before - 1, "a damaged one is skipped");
}

#[test]
fn covered_segments_beyond_the_retained_size_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), RealDisk, Settings { keep_bytes: 1_000, ..settings() }).unwrap();
    (1..=200).for_each(|seq| drop(append(&journal, seq)));
    drop(journal);
    let segments = segment::list(dir.path()).unwrap();
    let bytes: u64 = segments.iter().map(|segment| fs::metadata(&segment.path).unwrap().len()).sum();
    assert!(segments[0].first > 1 && bytes < 1_000 + 3 * 600, "{bytes} bytes in {} segments", segments.len());
    let snapshots = segment::numbered(dir.path(), "snap").unwrap();
    assert_eq!(snapshots.len(), 2);
    assert!(segments[0].first <= snapshots[0].0 + 1, "no event after the older snapshot is missing");
    let (_, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    assert_eq!(next, 201);
}
