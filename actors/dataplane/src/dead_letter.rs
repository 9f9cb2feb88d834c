//! A dead letter as it is in Kafka: key and value are the record's own bytes; its headers are the record's own, as they were and in their order, and
//! after them the letter's, which say what is wrong and where the record comes from. The letter's begin with the last `forebay-reason`, so own
//! headers may have any names, those of a letter too.
//!
//! Guarantee: [`own`] gives of a letter what [`Letter::headers`] was given, as long as that came to [`OWN_MOST`] bytes. A value that does not fit is
//! cut: the letter has its beginning, and three headers with the bytes it has here, its whole length and its SHA-256. Not guaranteed: what lies
//! beyond; own headers that are left out are counted in `forebay-headers-left-out`.

use sha2::{Digest as _, Sha256};

use crate::{Reason, Stage};

/// The most bytes of own headers, names and values, that a letter carries.
pub const OWN_MOST: usize = 32 << 10;
/// The most bytes of a reason.
const REASON_MOST: usize = 2 << 10;
/// The most bytes of a reason in the smallest letter.
const REASON_LEAST: usize = 200;
/// The most bytes of a key in the smallest letter.
const KEY_LEAST: usize = 1 << 10;
/// What a letter may weigh more than its record: headers, twice a reason, and framing. The dead-letter topic takes so much more than the topic.
pub const ROOM: usize = 64 << 10;

/// What is wrong, in full; the first of the letter's headers.
pub const REASON: &str = "forebay-reason";
/// What is wrong, without the record's values.
pub const MASKED_REASON: &str = "forebay-masked-reason";
/// The [`Stage`].
pub const STAGE: &str = "forebay-stage";
/// The topic that the record is of.
pub const TOPIC: &str = "forebay-topic";
/// Its partition there; absent when it never came there.
pub const PARTITION: &str = "forebay-partition";
/// Its offset there.
pub const OFFSET: &str = "forebay-offset";
/// Its timestamp there, milliseconds since the epoch.
pub const TIMESTAMP: &str = "forebay-timestamp";
/// The fingerprint of the SQL.
pub const SQL: &str = "forebay-sql";
/// How many of the record's own headers are not here.
pub const LEFT_OUT: &str = "forebay-headers-left-out";
/// How many bytes of the value's beginning are here, where the whole value does not fit.
pub const VALUE_CUT: &str = "forebay-value-cut";
/// How many bytes the whole value has, where it is cut.
pub const VALUE_BYTES: &str = "forebay-value-bytes";
/// The SHA-256 of the whole value in hexadecimal, where it is cut.
pub const VALUE_SHA256: &str = "forebay-value-sha256";
/// How many bytes the whole key has, where it is cut.
pub const KEY_BYTES: &str = "forebay-key-bytes";
/// Where the letter was that a record is from which was put into the topic again: `PARTITION:OFFSET`.
pub const REDRIVEN: &str = "forebay-redriven";

/// How much of a record its letter holds. A letter that Kafka refuses for its size is sent again with the next cut, which holds less; there are
/// few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut(usize);

impl Cut {
    /// All of the record.
    pub const WHOLE: Self = Self(usize::MAX);
    /// Nothing of the value and of the own headers, and the beginning of key and reason: under 4 KiB in all.
    pub const LEAST: Self = Self(0);

    /// So many bytes of the value at most.
    pub fn to(most: usize) -> Self {
        Self(most)
    }

    /// The next one for a record of this value, which holds less; none after the least. There are six at most.
    #[must_use]
    pub fn next(self, value: Option<&[u8]>) -> Option<Self> {
        let len = value.map_or(0, <[u8]>::len);
        let steps = [len - ROOM.min(len / 2), len / 4, (len / 16).min(ROOM), (len / 64).min(4 << 10)];
        let less = steps.into_iter().find(|&most| most < self.0.min(len));
        (self != Self::LEAST).then(|| Self(less.unwrap_or(0)))
    }

    /// What it holds of a value.
    fn of(self, value: &[u8]) -> &[u8] {
        &value[..value.len().min(self.0)]
    }
}

/// A record that is to become a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Where it was found to be bad.
    pub stage: Stage,
    /// What is wrong.
    pub reason: &'a Reason,
    /// How much of it the letter holds.
    pub cut: Cut,
    /// How many of its own headers could not be read.
    pub unreadable: u64,
}

impl<'a> Letter<'a> {
    /// The letter's key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key.map(|key| if self.cut == Cut::LEAST { &key[..key.len().min(KEY_LEAST)] } else { key })
    }

    /// The letter's value.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value.map(|value| self.cut.of(value))
    }

    /// Gives `each` the letter's headers, name and value, in order: the record's own, then what is wrong, then where the record comes from,
    /// then what of it is not here.
    pub fn headers<'b>(
        &self,
        own: impl Iterator<Item = (&'b str, Option<&'b [u8]>)>,
        origin: &[(&str, &str)],
        mut each: impl FnMut(&str, Option<&[u8]>),
    ) {
        let (own_most, reason_most) = if self.cut == Cut::LEAST { (0, REASON_LEAST) } else { (OWN_MOST, REASON_MOST) };
        let (mut bytes, mut left_out) = (0, self.unreadable);
        for (name, value) in own {
            bytes += name.len() + value.map_or(0, <[u8]>::len);
            if bytes > own_most {
                left_out += 1;
            } else {
                each(name, value);
            }
        }
        let mut say = |name: &str, value: &str| each(name, Some(value.as_bytes()));
        say(REASON, shortened(self.reason.full(), reason_most));
        say(MASKED_REASON, shortened(self.reason.masked(), reason_most));
        say(STAGE, self.stage.word());
        origin.iter().for_each(|(name, value)| say(name, value));
        if left_out > 0 {
            say(LEFT_OUT, &left_out.to_string());
        }
        if let (Some(whole), Some(here)) = (self.value, self.value())
            && here.len() < whole.len()
        {
            say(VALUE_CUT, &here.len().to_string());
            say(VALUE_BYTES, &whole.len().to_string());
            say(VALUE_SHA256, &sha256(whole));
        }
        if let (Some(whole), Some(here)) = (self.key, self.key())
            && here.len() < whole.len()
        {
            say(KEY_BYTES, &whole.len().to_string());
        }
    }
}

/// The SHA-256 of bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Of a letter's headers the record's own.
pub fn own<T>(headers: &[(String, T)]) -> &[(String, T)] {
    &headers[..begin(headers)]
}

/// Whether a letter holds a part of its record's key or value only.
pub fn is_cut<T>(headers: &[(String, T)]) -> bool {
    headers[begin(headers)..].iter().any(|(name, _)| name == VALUE_CUT || name == KEY_BYTES)
}

/// Where the letter's headers begin.
fn begin<T>(headers: &[(String, T)]) -> usize {
    headers.iter().rposition(|(name, _)| name == REASON).unwrap_or(headers.len())
}

fn shortened(reason: &str, most: usize) -> &str {
    let mut end = reason.len().min(most);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Named = (String, Option<Vec<u8>>);

    fn letter(own: &[Named]) -> Vec<Named> {
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let it =
            Letter { key: None, value: None, stage: Stage::Decode, reason: &Reason::plain("not JSON"), cut: Cut::WHOLE, unreadable: 0 };
        names(&it, own, &[(TOPIC, "t")])
    }

    fn names<'a>(it: &Letter<'_>, own: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>, origin: &[(&str, &str)]) -> Vec<Named> {
        let mut all = Vec::new();
        it.headers(own, origin, |name, value| all.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        all
    }

    fn named(name: &str, value: &[u8]) -> Named {
        (name.to_owned(), Some(value.to_vec()))
    }

    #[test]
    fn own_headers_come_first_and_whatever_their_names_they_are_told_from_the_letter_s() {
        let own_ones = [named("trace", b"\xff"), named(REASON, b"of long ago"), named("trace", b""), ("empty".to_owned(), None)];
        let letter = letter(&own_ones);
        assert_eq!(own(&letter), own_ones);
        let names: Vec<_> = letter[own_ones.len()..].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [REASON, MASKED_REASON, STAGE, TOPIC]);
    }

    #[test]
    fn own_headers_beyond_the_most_are_left_out_and_counted() {
        let large = vec![7; OWN_MOST - 1];
        let letter = letter(&[named("a", &large), named("b", b"1"), named("c", b"2")]);
        assert_eq!(own(&letter), [named("a", &large)]);
        assert_eq!(letter.last(), Some(&named(LEFT_OUT, b"2")));
    }

    #[test]
    fn own_headers_that_could_not_be_read_are_counted_with_those_that_are_left_out() {
        let reason = Reason::plain("not JSON");
        let it = Letter { key: None, value: None, stage: Stage::Decode, reason: &reason, cut: Cut::WHOLE, unreadable: 2 };
        let large = vec![7; OWN_MOST + 1];
        let headers = names(&it, [("a", Some(&large[..]))].into_iter(), &[]);
        assert_eq!(headers.last(), Some(&named(LEFT_OUT, b"3")));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::plain("é".repeat(REASON_MOST));
        let it = Letter { key: None, value: None, stage: Stage::Write, reason: &reason, cut: Cut::WHOLE, unreadable: 0 };
        let all = names(&it, std::iter::empty(), &[]);
        let cut = all[0].1.as_ref().unwrap();
        assert!(cut.len() <= REASON_MOST && std::str::from_utf8(cut).is_ok());
    }

    #[test]
    fn a_value_that_does_not_fit_is_its_beginning_and_says_its_length_and_hash() {
        let value = vec![b'x'; 1_048_393];
        let reason = Reason::plain("not JSON");
        let it = Letter { key: Some(b"k"), value: Some(&value), stage: Stage::Decode, reason: &reason, cut: Cut::WHOLE, unreadable: 0 };
        assert_eq!((it.key(), it.value().map(<[u8]>::len)), (Some(&b"k"[..]), Some(value.len())));
        assert!(names(&it, std::iter::empty(), &[]).iter().all(|(name, _)| !name.starts_with("forebay-value")));
        let it = Letter { cut: Cut::WHOLE.next(it.value).unwrap(), ..it };
        let kept = it.value().unwrap().len();
        assert_eq!(kept, value.len() - ROOM, "as much of it as is sure to fit where the record did");
        let headers = names(&it, std::iter::empty(), &[]);
        for header in
            [named(VALUE_CUT, kept.to_string().as_bytes()), named(VALUE_BYTES, b"1048393"), named(VALUE_SHA256, sha256(&value).as_bytes())]
        {
            assert!(headers.contains(&header), "{header:?} of {headers:?}");
        }
        assert!(is_cut(&headers) && !is_cut(&letter(&[named(VALUE_CUT, b"1")])), "a header of the record's own says nothing of the letter");
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn each_cut_holds_less_and_the_last_is_small_whatever_the_record_is() {
        let (key, value) = (vec![b'k'; 1 << 20], vec![b'v'; 20 << 20]);
        let reason = Reason::plain("r".repeat(REASON_MOST));
        let own = [named("trace", &[1; 9_000])];
        let mut cut = Cut::WHOLE;
        let mut before = usize::MAX;
        loop {
            let it = Letter { key: Some(&key), value: Some(&value), stage: Stage::Write, reason: &reason, cut, unreadable: 0 };
            let own = own.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
            let headers = names(&it, own, &[]);
            let bytes = headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>()
                + it.key().map_or(0, <[u8]>::len)
                + it.value().map_or(0, <[u8]>::len);
            assert!(bytes < before, "{cut:?}");
            before = bytes;
            match cut.next(Some(&value)) {
                Some(next) => cut = next,
                None => break,
            }
        }
        assert!(before < 4 << 10, "{before}");
        assert_eq!(Cut::WHOLE.next(None), Some(Cut::LEAST));
    }

    #[test]
    fn small_values_are_cut_too_where_a_topic_takes_hardly_anything() {
        let value = [b'v'; 10_000];
        let kept = |first| -> Vec<usize> {
            std::iter::successors(Some(first), |cut: &Cut| cut.next(Some(&value))).map(|cut| cut.of(&value).len()).collect()
        };
        assert_eq!(kept(Cut::WHOLE), [10_000, 5_000, 2_500, 625, 156, 0]);
        assert_eq!(kept(Cut::to(3_000)), [3_000, 2_500, 625, 156, 0]);
    }

    proptest! {
        #[test]
        fn a_letter_gives_back_the_headers_that_it_was_made_of(
            own_ones in prop::collection::vec(("[a-z-]{0,8}|forebay-(reason|stage|sql)", prop::option::of(prop::collection::vec(any::<u8>(), 0..8))), 0..8),
        ) {
            let letter = letter(&own_ones);
            prop_assert_eq!(own(&letter), own_ones);
        }
    }
}
