//! A damaged journal is read up to the damage, and never gives an event that was not written.
//!
//! An input is not a journal, whose checksums no random change would fit, but a change of one: the
//! number of its events, where bytes are replaced, in two bytes, and the bytes that are put there.

use forebay_actors::journal::{self, JournalError, frame};

fn event(sequence: u64) -> String {
    format!(r#"{{"seq":{sequence},"type":"pipeline_started"}}"#)
}

/// Checks one input.
pub fn check(input: &[u8]) {
    let &[events, high, low, ref bytes @ ..] = input else { return };
    let (events, at) = (u64::from(events % 5) + 1, usize::from(u16::from_be_bytes([high, low])));
    let mut segment = Vec::new();
    frame::encode(br#"{"segment":1,"format":1,"first":1,"pipeline":"users"}"#, &mut segment);
    for sequence in 1..=events {
        frame::encode(event(sequence).as_bytes(), &mut segment);
    }
    let whole = segment.clone();
    let at = at % (segment.len() + 1);
    segment.splice(at..(at + bytes.len()).min(segment.len()), bytes.iter().copied());
    let folder = tempfile::tempdir().expect("a folder can be created");
    std::fs::write(folder.path().join("00000000000000000001.log"), &segment).expect("the folder can be written");
    let mut seen = Vec::new();
    let result = journal::read::<JournalError>(folder.path(), 1, |sequence, json| {
        seen.push((sequence, json.to_vec()));
        Ok(())
    });
    for (expected, (sequence, json)) in (1..).zip(&seen) {
        assert_eq!((*sequence, json.as_slice()), (expected, event(expected).as_bytes()), "never another event");
    }
    if segment == whole {
        assert!(result.is_ok());
        assert_eq!(seen.len() as u64, events);
    }
}
