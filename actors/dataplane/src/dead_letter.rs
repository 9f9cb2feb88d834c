//! Dead letters: records that can't become rows, as they are stored in the dead-letter topic.
//!
//! Key and value are the record's own bytes. The headers are the record's own, unchanged and in
//! order, then those that Forebay adds: the reason and where the record comes from. Forebay's
//! headers begin at the last `forebay-reason`, so the record's own may have any name, even one of
//! Forebay's.
//!
//! Guarantees:
//! * [`record_headers`] returns the headers that were given to [`DeadLetter::headers`], provided
//!   they come to at most 32 KiB.
//! * A value that does not fit is truncated. Three headers then give the stored bytes, the full
//!   length and the SHA-256 of the whole value.
//!
//! Does not guarantee that larger headers are kept: `forebay-headers-left-out` counts those that
//! are left out.

use sha2::{Digest as _, Sha256};

use crate::{Reason, RejectStage};

/// The limit for the names and values of the record's own headers in a dead letter, in bytes.
const MAX_RECORD_HEADER_BYTES: usize = 32 << 10;
/// The limit for a reason, in bytes.
const MAX_REASON_BYTES: usize = 2 << 10;
/// The limit for a reason in the smallest dead letter, in bytes.
const SMALLEST_REASON_BYTES: usize = 200;
/// The limit for a key in the smallest dead letter, in bytes.
const SMALLEST_KEY_BYTES: usize = 1 << 10;
/// By how many bytes a dead letter may exceed its record: headers, the reason twice, and framing.
///
/// The dead-letter topic's message limit is that much larger than the topic's.
pub const MAX_OVERHEAD_BYTES: usize = 64 << 10;

/// The full reason; the first of Forebay's headers.
pub const REASON: &str = "forebay-reason";
/// The reason without the record's values.
pub const MASKED_REASON: &str = "forebay-masked-reason";
/// The [`RejectStage`].
pub const STAGE: &str = "forebay-stage";
/// The topic of the record.
pub const TOPIC: &str = "forebay-topic";
/// The partition of the record; absent when the record never reached the topic.
pub const PARTITION: &str = "forebay-partition";
/// The offset of the record; absent when the record never reached the topic.
pub const OFFSET: &str = "forebay-offset";
/// The timestamp of the record, in milliseconds since the Unix epoch.
pub const TIMESTAMP: &str = "forebay-timestamp";
/// The fingerprint of the SQL; see
/// [`Transform::fingerprint`](crate::transform::Transform::fingerprint).
pub const SQL: &str = "forebay-sql";
/// How many of the record's own headers are left out.
pub const LEFT_OUT: &str = "forebay-headers-left-out";
/// How many bytes of a truncated value are stored.
const VALUE_CUT: &str = "forebay-value-cut";
/// The full length of a truncated value, in bytes.
const VALUE_BYTES: &str = "forebay-value-bytes";
/// The SHA-256 of a truncated value as a whole, in hexadecimal.
pub const VALUE_SHA256: &str = "forebay-value-sha256";
/// The full length of a truncated key, in bytes.
const KEY_BYTES: &str = "forebay-key-bytes";
/// In a record that a redrive produced again: the dead letter that it came from, as
/// `PARTITION:OFFSET`.
pub const REDRIVEN: &str = "forebay-redriven";

/// How much of a record a dead letter holds.
///
/// A dead letter that Kafka rejects for its size is sent again with the [next](Self::next)
/// truncation, which holds less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation(usize);

impl Truncation {
    /// The whole record.
    pub const NONE: Self = Self(usize::MAX);
    /// Nothing of the value and of the record's own headers, and the beginning of key and reason:
    /// less than 4 KiB in all.
    const SMALLEST: Self = Self(0);

    /// At most this many bytes of the value.
    pub fn to(max_value_bytes: usize) -> Self {
        Self(max_value_bytes)
    }

    /// The next truncation for a record with this value, which holds less; `None` after
    /// the smallest. From [`NONE`](Self::NONE) there are at most six.
    #[must_use]
    pub fn next(self, value: Option<&[u8]>) -> Option<Self> {
        let len = value.map_or(0, <[u8]>::len);
        let steps = [len - MAX_OVERHEAD_BYTES.min(len / 2), len / 4, (len / 16).min(MAX_OVERHEAD_BYTES), (len / 64).min(4 << 10)];
        let less = steps.into_iter().find(|&most| most < self.0.min(len));
        (self != Self::SMALLEST).then(|| Self(less.unwrap_or(0)))
    }

    /// The part of a value that a dead letter holds.
    fn of(self, value: &[u8]) -> &[u8] {
        &value[..value.len().min(self.0)]
    }
}

/// A record that becomes a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The key of the record, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value of the record; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The stage that rejected the record.
    pub stage: RejectStage,
    /// What is wrong with the record.
    pub reason: &'a Reason,
    /// How much of the record the dead letter holds.
    pub truncation: Truncation,
    /// How many of the record's own headers could not be read.
    pub unreadable_headers: u64,
}

impl<'a> DeadLetter<'a> {
    /// Returns the key of the dead letter.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key.map(|key| if self.truncation == Truncation::SMALLEST { &key[..key.len().min(SMALLEST_KEY_BYTES)] } else { key })
    }

    /// Returns the value of the dead letter.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value.map(|value| self.truncation.of(value))
    }

    /// Calls `each` with the name and value of every header, in order: those of the record, the
    /// reason, the names and values in `origin`, and what is left out or truncated.
    pub fn headers<'b>(
        &self,
        of_record: impl Iterator<Item = (&'b str, Option<&'b [u8]>)>,
        origin: &[(&str, &str)],
        mut each: impl FnMut(&str, Option<&[u8]>),
    ) {
        let (max_headers, max_reason) = match self.truncation {
            Truncation::SMALLEST => (0, SMALLEST_REASON_BYTES),
            _ => (MAX_RECORD_HEADER_BYTES, MAX_REASON_BYTES),
        };
        let (mut bytes, mut left_out) = (0, self.unreadable_headers);
        for (name, value) in of_record {
            bytes += name.len() + value.map_or(0, <[u8]>::len);
            if bytes > max_headers {
                left_out += 1;
            } else {
                each(name, value);
            }
        }
        let mut add = |name: &str, value: &str| each(name, Some(value.as_bytes()));
        add(REASON, shortened(self.reason.full(), max_reason));
        add(MASKED_REASON, shortened(self.reason.masked(), max_reason));
        add(STAGE, self.stage.as_str());
        origin.iter().for_each(|(name, value)| add(name, value));
        if left_out > 0 {
            add(LEFT_OUT, &left_out.to_string());
        }
        if let (Some(whole), Some(stored)) = (self.value, self.value())
            && stored.len() < whole.len()
        {
            add(VALUE_CUT, &stored.len().to_string());
            add(VALUE_BYTES, &whole.len().to_string());
            add(VALUE_SHA256, &sha256(whole));
        }
        if let (Some(whole), Some(stored)) = (self.key, self.key())
            && stored.len() < whole.len()
        {
            add(KEY_BYTES, &whole.len().to_string());
        }
    }
}

/// Returns the SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns those of a dead letter's headers that the record had.
pub fn record_headers<T>(headers: &[(String, T)]) -> &[(String, T)] {
    &headers[..first_added(headers)]
}

/// Returns whether a dead letter with these headers holds only a part of its record's key or value.
pub fn is_truncated<T>(headers: &[(String, T)]) -> bool {
    headers[first_added(headers)..].iter().any(|(name, _)| name == VALUE_CUT || name == KEY_BYTES)
}

/// Returns the index of the first header that Forebay added.
fn first_added<T>(headers: &[(String, T)]) -> usize {
    headers.iter().rposition(|(name, _)| name == REASON).unwrap_or(headers.len())
}

fn shortened(reason: &str, max_bytes: usize) -> &str {
    let mut end = reason.len().min(max_bytes);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Header = (String, Option<Vec<u8>>);

    fn dead_letter(reason: &Reason) -> DeadLetter<'_> {
        let stage = RejectStage::Decode;
        DeadLetter { key: None, value: None, stage, reason, truncation: Truncation::NONE, unreadable_headers: 0 }
    }

    /// The headers of a dead letter whose record has these.
    fn headers_of(own: &[Header]) -> Vec<Header> {
        headers(&dead_letter(&Reason::plain("not JSON")), own, &[(TOPIC, "t")])
    }

    fn headers(dead_letter: &DeadLetter<'_>, own: &[Header], origin: &[(&str, &str)]) -> Vec<Header> {
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let mut all = Vec::new();
        dead_letter.headers(own, origin, |name, value| all.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        all
    }

    fn header(name: &str, value: &[u8]) -> Header {
        (name.to_owned(), Some(value.to_vec()))
    }

    #[test]
    fn the_records_headers_come_first_and_are_found_whatever_their_names() {
        let own = [header("trace", b"\xff"), header(REASON, b"an old one"), header("trace", b""), ("empty".to_owned(), None)];
        let all = headers_of(&own);
        assert_eq!(record_headers(&all), own);
        let names: Vec<_> = all[own.len()..].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [REASON, MASKED_REASON, STAGE, TOPIC]);
    }

    #[test]
    fn headers_beyond_the_limit_are_left_out_and_counted() {
        let large = vec![7; MAX_RECORD_HEADER_BYTES - 1];
        let all = headers_of(&[header("a", &large), header("b", b"1"), header("c", b"2")]);
        assert_eq!(record_headers(&all), [header("a", &large)]);
        assert_eq!(all.last(), Some(&header(LEFT_OUT, b"2")));
    }

    #[test]
    fn unreadable_headers_are_counted_with_those_that_are_left_out() {
        let reason = Reason::plain("not JSON");
        let dead_letter = DeadLetter { unreadable_headers: 2, ..dead_letter(&reason) };
        let all = headers(&dead_letter, &[header("a", &vec![7; MAX_RECORD_HEADER_BYTES + 1])], &[]);
        assert_eq!(all.last(), Some(&header(LEFT_OUT, b"3")));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::plain("é".repeat(MAX_REASON_BYTES));
        let all = headers(&dead_letter(&reason), &[], &[]);
        let cut = all[0].1.as_ref().unwrap();
        assert!(cut.len() <= MAX_REASON_BYTES && std::str::from_utf8(cut).is_ok());
    }

    #[test]
    fn a_truncated_value_comes_with_its_full_length_and_hash() {
        let value = vec![b'x'; 1_048_393];
        let reason = Reason::plain("not JSON");
        let whole = DeadLetter { key: Some(b"k"), value: Some(&value), ..dead_letter(&reason) };
        assert_eq!((whole.key(), whole.value().map(<[u8]>::len)), (Some(&b"k"[..]), Some(value.len())));
        assert!(headers(&whole, &[], &[]).iter().all(|(name, _)| !name.starts_with("forebay-value")));
        let truncated = DeadLetter { truncation: Truncation::NONE.next(whole.value).unwrap(), ..whole };
        let stored = truncated.value().unwrap().len();
        assert_eq!(stored, value.len() - MAX_OVERHEAD_BYTES, "as much as surely fits where the record did");
        let all = headers(&truncated, &[], &[]);
        for expected in [
            header(VALUE_CUT, stored.to_string().as_bytes()),
            header(VALUE_BYTES, b"1048393"),
            header(VALUE_SHA256, sha256(&value).as_bytes()),
        ] {
            assert!(all.contains(&expected), "{expected:?} of {all:?}");
        }
        assert!(is_truncated(&all));
        assert!(!is_truncated(&headers_of(&[header(VALUE_CUT, b"1")])), "a header of the record does not count");
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn each_truncation_holds_less_and_the_last_is_small_for_any_record() {
        let (key, value) = (vec![b'k'; 1 << 20], vec![b'v'; 20 << 20]);
        let reason = Reason::plain("r".repeat(MAX_REASON_BYTES));
        let own = [header("trace", &[1; 9_000])];
        let mut truncation = Truncation::NONE;
        let mut before = usize::MAX;
        loop {
            let dead_letter = DeadLetter { key: Some(&key), value: Some(&value), truncation, ..dead_letter(&reason) };
            let bytes = headers(&dead_letter, &own, &[])
                .iter()
                .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
                .chain(dead_letter.key().map(<[u8]>::len))
                .chain(dead_letter.value().map(<[u8]>::len))
                .sum::<usize>();
            assert!(bytes < before, "{truncation:?}");
            before = bytes;
            match truncation.next(Some(&value)) {
                Some(next) => truncation = next,
                None => break,
            }
        }
        assert!(before < 4 << 10, "{before}");
        assert_eq!(Truncation::NONE.next(None), Some(Truncation::SMALLEST));
    }

    #[test]
    fn small_values_are_truncated_too_where_a_topic_accepts_very_little() {
        let value = [b'v'; 10_000];
        let stored = |first| -> Vec<usize> {
            let all = std::iter::successors(Some(first), |truncation: &Truncation| truncation.next(Some(&value)));
            all.map(|truncation| truncation.of(&value).len()).collect()
        };
        assert_eq!(stored(Truncation::NONE), [10_000, 5_000, 2_500, 625, 156, 0]);
        assert_eq!(stored(Truncation::to(3_000)), [3_000, 2_500, 625, 156, 0]);
    }

    proptest! {
        #[test]
        fn a_dead_letter_returns_the_headers_of_its_record(
            own in prop::collection::vec(("[a-z-]{0,8}|forebay-(reason|stage|sql)", prop::option::of(prop::collection::vec(any::<u8>(), 0..8))), 0..8),
        ) {
            let all = headers_of(&own);
            prop_assert_eq!(record_headers(&all), own);
        }
    }
}
