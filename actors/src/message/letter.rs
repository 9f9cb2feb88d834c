//! A dead letter as it is in Kafka: key and value are the record's own bytes; its headers are the record's own, as they were and in their order, and
//! after them the letter's, which say what is wrong and where the record comes from. The letter's begin with the last `forebay-reason`, so own
//! headers may have any names, those of a letter too.
//!
//! Guarantee: [`own`] gives of a letter what [`headers`] was given, as long as that came to [`OWN_MOST`] bytes. Not guaranteed: what lies beyond; it
//! is left out, and `forebay-headers-left-out` says how many headers were.

use rdkafka::message::{Header, OwnedHeaders};

use super::{Reason, Stage};

/// The most bytes of own headers, names and values, that a letter carries.
pub const OWN_MOST: usize = 32 << 10;
/// The most bytes of a reason.
const REASON_MOST: usize = 2 << 10;

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
/// Where the letter was that a record is from which was put into the topic again: `PARTITION:OFFSET`.
pub const REDRIVEN: &str = "forebay-redriven";

/// The headers of a letter: the record's own, then what is wrong, then where the record comes from.
pub fn headers<'a>(
    own: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    (stage, reason): (Stage, &Reason),
    origin: &[(&str, &str)],
) -> OwnedHeaders {
    let (mut all, mut bytes, mut left_out) = (OwnedHeaders::new(), 0, 0_u64);
    for (key, value) in own {
        bytes += key.len() + value.map_or(0, <[u8]>::len);
        if bytes > OWN_MOST {
            left_out += 1;
        } else {
            all = all.insert(Header { key, value });
        }
    }
    let stage = stage.to_string();
    let what = [(REASON, shortened(reason.full())), (MASKED_REASON, shortened(reason.masked())), (STAGE, stage.as_str())];
    for &(key, value) in what.iter().chain(origin) {
        all = all.insert(Header { key, value: Some(value) });
    }
    if left_out > 0 {
        all = all.insert(Header { key: LEFT_OUT, value: Some(&left_out.to_string()) });
    }
    all
}

/// Of a letter's headers the record's own.
pub fn own<T>(headers: &[(String, T)]) -> &[(String, T)] {
    let end = headers.iter().rposition(|(name, _)| name == REASON);
    &headers[..end.unwrap_or(headers.len())]
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_MOST);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rdkafka::message::Headers as _;

    use super::*;

    type Named = (String, Option<Vec<u8>>);

    fn letter(own: &[Named]) -> Vec<Named> {
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let all = headers(own, (Stage::Decode, &Reason::plain("not JSON")), &[(TOPIC, "t")]);
        all.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
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
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::plain("é".repeat(REASON_MOST));
        let all = headers(std::iter::empty(), (Stage::Write, &reason), &[]);
        let cut = all.get(0).value.unwrap();
        assert!(cut.len() <= REASON_MOST && std::str::from_utf8(cut).is_ok());
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
