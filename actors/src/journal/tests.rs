use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn settings() -> Settings {
    Settings { pipeline: "users".into(), segment_bytes: 400 }
}

fn event(seq: u64) -> Vec<u8> {
    format!("{{\"seq\":{seq},\"type\":\"Tested\",\"data\":\"{}\"}}", &"xxxxxxx"[usize::try_from(seq % 7).unwrap()..]).into_bytes()
}

/// A journal of events `1..=last`, written one append each.
fn written(folder: &Path, last: u64) {
    let (journal, next) = Journal::open(folder, RealDisk, settings()).unwrap();
    assert_eq!(next, 1);
    for seq in 1..=last {
        journal.append(vec![event(seq)]).blocking_recv().unwrap().unwrap();
    }
}

fn read_all(folder: &Path) -> Result<Vec<Entry>, JournalError> {
    let mut entries = Vec::new();
    read(folder, 1, |entry| {
        entries.push(entry);
        Ok::<_, JournalError>(())
    })?;
    Ok(entries)
}

#[test]
fn what_is_acknowledged_reads_back_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 50);
    assert!(segment::list(dir.path()).unwrap().len() > 3, "it rolls");
    let entries = read_all(dir.path()).unwrap();
    assert_eq!(entries.len(), 50);
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq && entry.json == event(seq)));
    let (_, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    assert_eq!(next, 51);
}

#[test]
fn reading_from_a_sequence_skips_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 50);
    let mut seen = Vec::new();
    let end = read(dir.path(), 33, |entry| {
        seen.push(entry.seq);
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
        journal.append(vec![event(5)]).blocking_recv().unwrap().unwrap();
        drop(journal);
        assert_eq!(read_all(dir.path()).unwrap().len(), 5);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_segment_whose_first_line_is_torn_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5);
    fs::write(dir.path().join(segment::file_name(6)), b"1234").unwrap();
    let (journal, next) = Journal::open(dir.path(), RealDisk, settings()).unwrap();
    assert_eq!(next, 6);
    journal.append(vec![event(6)]).blocking_recv().unwrap().unwrap();
    assert_eq!(read_all(dir.path()).unwrap().len(), 6);
}

#[test]
fn a_byte_changed_anywhere_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 12);
    let segments = segment::list(dir.path()).unwrap();
    assert!(segments.len() > 1);
    for (at, segment) in segments.iter().enumerate() {
        let whole = fs::read(&segment.path).unwrap();
        // The last line end of all is what a torn tail lacks.
        let upto = if at + 1 == segments.len() { whole.len() - 1 } else { whole.len() };
        for byte in 0..upto {
            let mut bent = whole.clone();
            bent[byte] ^= 1;
            fs::write(&segment.path, &bent).unwrap();
            let error = read_all(dir.path()).expect_err("a changed byte is seen");
            assert!(matches!(&error, JournalError::Damaged { path, .. } if path == &segment.path), "byte {byte}: {error}");
            assert!(upto == whole.len() || Journal::open(dir.path(), RealDisk, settings()).is_err(), "the writer refuses, too");
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
fn the_journal_of_another_pipeline_and_of_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2);
    let other = Settings { pipeline: "orders".into(), ..settings() };
    assert!(matches!(Journal::open(dir.path(), RealDisk, other), Err(JournalError::Foreign { .. })));
    let mut line = Vec::new();
    frame::encode(br#"{"segment":1,"format":2,"first":1,"pipeline":"users"}"#, &mut line);
    fs::write(dir.path().join(segment::file_name(1)), line).unwrap();
    assert!(matches!(Journal::open(dir.path(), RealDisk, settings()), Err(JournalError::Newer { format: 2, .. })));
}

/// A disk that fails at its n-th write or sync, and works again after it.
#[derive(Clone)]
struct FailingDisk {
    left: Arc<AtomicU64>,
}

impl FailingDisk {
    fn step(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::SeqCst) {
            1 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            _ => Ok(()),
        }
    }
}

impl Disk for FailingDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn open(&self, path: &Path, length: u64) -> io::Result<File> {
        RealDisk.open(path, length)
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        RealDisk.append(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        RealDisk.sync(file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_acknowledged_any_more_and_what_was_is_there() {
    for fails_at in 3..40 {
        let dir = tempfile::tempdir().unwrap();
        let disk = FailingDisk { left: Arc::new(AtomicU64::new(fails_at)) };
        let (journal, _) = Journal::open(dir.path(), disk, settings()).unwrap();
        let ends: Vec<bool> = (1..=20).map(|seq| journal.append(vec![event(seq)]).blocking_recv().unwrap().is_ok()).collect();
        drop(journal);
        let acknowledged = ends.iter().take_while(|ok| **ok).count();
        assert!(ends[acknowledged..].iter().all(|ok| !ok), "no acknowledgement after a failure");
        assert!(acknowledged < 20);
        let there = read_all(dir.path()).unwrap();
        assert!(there.len() >= acknowledged, "fails at {fails_at}: {} of {acknowledged}", there.len());
    }
}

#[test]
fn appends_that_gather_are_written_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), RealDisk, Settings { segment_bytes: 1 << 20, ..settings() }).unwrap();
    let acks: Vec<_> = (0..200).map(|n| journal.append(vec![event(n * 3 + 1), event(n * 3 + 2), event(n * 3 + 3)])).collect();
    for ack in acks {
        ack.blocking_recv().unwrap().unwrap();
    }
    let entries = read_all(dir.path()).unwrap();
    assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq) && entries.len() == 600);
}
