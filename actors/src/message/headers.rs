//! A record's headers as bytes in the arena of its batch: put there by the consumer, read by the SQL's `_headers`, and
//! carried on by a dead letter.
//!
//! Guarantee: [`read`] gives the headers that were [`put`], in their order, those of the same name also. Not guaranteed: anything about bytes
//! that were not made by [`put`], but that reading them ends.

/// In the place of a value's length: there is no value, which is not the same as an empty one.
const NONE: u32 = u32::MAX;

/// Appends one header.
pub fn put(name: &str, value: Option<&[u8]>, to: &mut Vec<u8>) {
    to.extend_from_slice(&length(name.as_bytes()).to_le_bytes());
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(&value.map_or(NONE, length).to_le_bytes());
    to.extend_from_slice(value.unwrap_or_default());
}

/// The headers in `bytes`, each with its value, if it has one.
pub fn read(mut bytes: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    std::iter::from_fn(move || {
        let name = take_length(&mut bytes)?;
        let name = std::str::from_utf8(take(&mut bytes, name)?).ok()?;
        let value = match take_length(&mut bytes)? {
            NONE => None,
            some => Some(take(&mut bytes, some)?),
        };
        Some((name, value))
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
        ) {
            let mut bytes = Vec::new();
            headers.iter().for_each(|(name, value)| put(name, value.as_deref(), &mut bytes));
            let again: Vec<_> = read(&bytes).map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(again, headers);
        }

        #[test]
        fn reading_what_was_never_put_ends(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read(&bytes).count() <= bytes.len());
        }
    }
}
