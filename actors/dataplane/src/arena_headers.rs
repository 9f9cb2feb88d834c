//! A record's Kafka headers as bytes in the arena of its [`RawBatch`](crate::RawBatch).
//!
//! The consumer appends them. The SQL column `_headers` and the dead letters read them.
//!
//! Guarantees:
//! * [`read`] returns the headers that [`append`] wrote, in order, repeated names included.
//! * [`count_unreadable`] returns the number given to [`append_unreadable`].
//! * Reading arbitrary bytes ends and never panics.
//!
//! Does not guarantee what [`read`] returns for bytes that these functions did not write.

/// Marks an absent part. As the length of a value: the header has no value, which differs from an
/// empty one. As the length of a name: the header could not be read and is left out.
const NONE: u32 = u32::MAX;

/// Appends one header to `to`.
///
/// # Panics
/// When the name or the value has 4 GiB or more; Kafka's largest record is under 2 GiB.
pub fn append(name: &str, value: Option<&[u8]>, to: &mut Vec<u8>) {
    to.extend_from_slice(&length(name.as_bytes()).to_le_bytes());
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(&value.map_or(NONE, length).to_le_bytes());
    to.extend_from_slice(value.unwrap_or_default());
}

/// Records that `count` headers are left out because they can't be read.
pub fn append_unreadable(count: u64, to: &mut Vec<u8>) {
    (0..count).for_each(|_| to.extend_from_slice(&NONE.to_le_bytes()));
}

/// Iterates over the headers in `bytes`: the name, and the value if there is one.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    all(bytes).flatten()
}

/// Returns how many headers were left out.
pub fn count_unreadable(bytes: &[u8]) -> u64 {
    all(bytes).filter(Option::is_none).count() as u64
}

/// Iterates over all headers; `None` stands for one that was left out.
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
        fn headers_are_read_as_they_were_appended(
            headers in prop::collection::vec((".{0,8}", prop::option::of(prop::collection::vec(any::<u8>(), 0..8))), 0..8),
            unreadable in 0_u64..4,
        ) {
            let mut bytes = Vec::new();
            headers.iter().for_each(|(name, value)| append(name, value.as_deref(), &mut bytes));
            append_unreadable(unreadable, &mut bytes);
            prop_assert_eq!(count_unreadable(&bytes), unreadable);
            let again: Vec<_> = read(&bytes).map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(again, headers);
        }

        #[test]
        fn reading_arbitrary_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read(&bytes).count() + usize::try_from(count_unreadable(&bytes)).unwrap() <= bytes.len());
        }
    }
}
