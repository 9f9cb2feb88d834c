//! A record's headers as bytes in the arena of its batch: put there by the consumer, read by the SQL's `_headers`, and
//! carried on by a dead letter.
//!
//! Guarantee: [`read`] gives the headers that were [`put`], in their order, those of the same name also; [`unreadable`] says how many were
//! [`left_out`]. Not guaranteed: anything about bytes that were not made by these, but that reading them ends.

/// In the place of a value's length: there is no value, which is not the same as an empty one. In the place of a name's: a header that could
/// not be read is left out here.
const NONE: u32 = u32::MAX;

/// Appends one header.
pub fn put(name: &str, value: Option<&[u8]>, to: &mut Vec<u8>) {
    to.extend_from_slice(&length(name.as_bytes()).to_le_bytes());
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(&value.map_or(NONE, length).to_le_bytes());
    to.extend_from_slice(value.unwrap_or_default());
}

/// Notes that `count` headers are left out, since they can't be read.
pub fn left_out(count: u64, to: &mut Vec<u8>) {
    (0..count).for_each(|_| to.extend_from_slice(&NONE.to_le_bytes()));
}

/// The headers in `bytes`, each with its value, if it has one.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    all(bytes).flatten()
}

/// How many headers were left out.
pub fn unreadable(bytes: &[u8]) -> u64 {
    all(bytes).filter(Option::is_none).count() as u64
}

/// All headers; none in the place of one that was left out.
fn all(mut bytes: &[u8]) -> impl Iterator<Item = Option<(&str, Option<&[u8]>)>> {
    std::iter::from_fn(move || {
        let name = match take_length(&mut bytes)? {
            NONE => return Some(None),
            some => std::str::from_utf8(take(&mut bytes, some)?).ok()?,
        };
        let value = match take_length(&mut bytes)? {
            NONE => None,
            some => Some(take(&mut bytes, some)?),
        };
        Some(Some((name, value)))
    })
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("Kafka's largest record is under 2 GiB")
}

fn take<'a>(bytes: &mut &'a [u8], count: u32) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(first)
}

fn take_length(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes, 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_read_as_they_were_put(
            headers in prop::collection::vec((".{0,8}", prop::option::of(prop::collection::vec(any::<u8>(), 0..8))), 0..8),
            without in 0_u64..4,
        ) {
            let mut bytes = Vec::new();
            headers.iter().for_each(|(name, value)| put(name, value.as_deref(), &mut bytes));
            left_out(without, &mut bytes);
            prop_assert_eq!(unreadable(&bytes), without);
            let again: Vec<_> = read(&bytes).map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(again, headers);
        }

        #[test]
        fn reading_what_was_never_put_ends(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read(&bytes).count() + usize::try_from(unreadable(&bytes)).unwrap() <= bytes.len());
        }
    }
}
