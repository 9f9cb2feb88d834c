//! Newline-delimited JSON: one value per line. Pure.
//!
//! Guarantees:
//! * The records do not depend on how the text is split into chunks.
//! * A text that ends within a value is cut short, and no record of it is made.
//! * A line that is not JSON is a bad record, and the others are read.
//!
//! Does not guarantee that a text that ends between two digits of a number, or between two lines,
//! is recognised as cut short.

use serde_json::value::RawValue;

use super::malformed_records;
use super::page_error::PageError;
use super::record_part::RecordPart;
use super::records::{Extracted, is_cut_short};
use crate::message::RECORD_OVERHEAD;

/// What may come before a line in `application/json-seq` (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;
/// How many bytes of a line that is cut short an error shows.
const EXCERPT_BYTES: usize = 40;

/// Reads lines.
pub(super) struct Lines {
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The number of complete lines.
    number: u64,
    /// The number of bytes of complete lines.
    bytes: usize,
    max_line_bytes: usize,
}

impl Lines {
    /// A text from its start, with lines of at most `max_line_bytes`.
    pub(super) fn new(max_line_bytes: usize) -> Self {
        Self { partial: Vec::new(), number: 0, bytes: 0, max_line_bytes }
    }

    /// Reads the lines that a chunk completes, until the part is full. Returns how many bytes it
    /// has used.
    pub(super) fn feed(&mut self, chunk: &[u8], part: &mut RecordPart) -> Result<usize, PageError> {
        let mut used = 0;
        while used < chunk.len() && !part.is_full() {
            let rest = &chunk[used..];
            let end = memchr::memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.partial.len() + piece.len() > self.max_line_bytes {
                return Err(PageError::LongLine { line: self.number + 1, max: self.max_line_bytes });
            }
            used += piece.len();
            if end.is_none() {
                self.partial.extend_from_slice(piece);
                break;
            }
            used += 1;
            if self.partial.is_empty() {
                self.line(piece, part);
            } else {
                self.partial.extend_from_slice(piece);
                let line = std::mem::take(&mut self.partial);
                self.line(&line, part);
            }
        }
        Ok(used)
    }

    /// Reads the last line, which need not have an end.
    ///
    /// # Errors
    /// When it ends within its value.
    pub(super) fn end(&mut self, part: &mut RecordPart) -> Result<(), PageError> {
        let line = std::mem::take(&mut self.partial);
        let value = value_of(&line);
        match serde_json::from_slice::<&RawValue>(value) {
            Err(cause) if is_cut_short(value, &cause) && !value.is_empty() => {
                let shown = &line[line.len().saturating_sub(EXCERPT_BYTES)..];
                let excerpt = format!("{:?}", String::from_utf8_lossy(shown));
                Err(PageError::CutShort { bytes: self.bytes + line.len(), excerpt })
            }
            _ => {
                self.line(&line, part);
                Ok(())
            }
        }
    }

    fn line(&mut self, line: &[u8], part: &mut RecordPart) {
        self.number += 1;
        self.bytes += line.len() + 1;
        let value = value_of(line);
        if value.is_empty() {
            return;
        }
        let bad = serde_json::from_slice::<&RawValue>(value).is_err().then(|| malformed_records::reason(value));
        part.push(value, bad);
    }
}

/// Reads a whole text.
///
/// # Errors
/// When it is cut short, or has more records than fit into `max_bytes`.
pub(super) fn read(text: &[u8], max_bytes: usize) -> Result<Extracted, PageError> {
    let mut lines = Lines::new(max_bytes);
    // The text fits into memory, and its records are no larger.
    let mut part = RecordPart::new(max_bytes.saturating_mul(2));
    lines.feed(text, &mut part)?;
    lines.end(&mut part)?;
    if part.is_full() { Err(PageError::TooMany { max: max_bytes / RECORD_OVERHEAD }) } else { Ok(part.extracted()) }
}

fn value_of(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    line.strip_prefix(&[RECORD_SEPARATOR]).unwrap_or(line).trim_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The records of a text that arrives in chunks of these sizes, and the indexes of bad ones.
    fn records(text: &[u8], sizes: &[usize], max_bytes: usize) -> Result<(Vec<Vec<u8>>, usize), PageError> {
        let (mut lines, mut part) = (Lines::new(1 << 20), RecordPart::new(max_bytes));
        let (mut found, mut bad) = (Vec::new(), 0);
        let mut take = |part: &mut RecordPart| {
            let next = part.following();
            let done = std::mem::replace(part, next).extracted();
            bad += done.bad.len();
            found.extend(done.records.iter().map(|record| record.to_vec()));
        };
        let (mut rest, mut sizes) = (text, sizes.iter().cycle());
        while !rest.is_empty() {
            let size = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
            let used = lines.feed(&rest[..size], &mut part)?;
            rest = &rest[used..];
            if part.is_full() {
                take(&mut part);
            }
        }
        lines.end(&mut part)?;
        while part.is_full() {
            take(&mut part);
        }
        take(&mut part);
        Ok((found, bad))
    }

    #[test]
    fn each_line_is_a_record_and_empty_lines_are_none() {
        let (found, bad) = records(b"{\"a\": 1}\r\n\n  {\"a\":2} \n\x1e{\"a\":3}\n7", &[3], 1 << 20).unwrap();
        let found: Vec<_> = found.iter().map(|record| std::str::from_utf8(record).unwrap()).collect();
        assert_eq!((found, bad), (vec!["{\"a\": 1}", "{\"a\":2}", "{\"a\":3}", "7"], 0));
        assert_eq!(records(b" \n\n", &[1], 1 << 20).unwrap().0.len(), 0);
    }

    #[test]
    fn a_line_that_is_not_json_is_a_bad_record_between_the_others() {
        let (found, bad) = records(b"{\"a\":1}\n{\"a\":NaN}\n{\"a\"\n{\"a\":3}\n", &[100], 1 << 20).unwrap();
        assert_eq!((found.len(), bad), (4, 2));
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_with_its_number() {
        let (mut lines, mut part) = (Lines::new(8), RecordPart::new(1 << 20));
        assert_eq!(lines.feed(b"1\n12345678\n12345", &mut part).unwrap(), 16);
        assert_eq!(lines.feed(b"6789", &mut part), Err(PageError::LongLine { line: 3, max: 8 }));
    }

    proptest! {
        #[test]
        fn a_text_cut_at_any_byte_gives_its_first_records_or_is_cut_short(
            values in prop::collection::vec(prop_oneof![
                Just("{\"a\": \"}\\n{\"}"), Just("[1, {\"b\": []}]"), Just("\"\\\"é\""), Just("null"), Just("{\"é\": 1.5e3}"),
            ], 1..8),
            sizes in prop::collection::vec(1_usize..40, 1..5), max_bytes in 1_usize..400, cut in any::<prop::sample::Index>(),
        ) {
            let text = values.join("\n").into_bytes();
            let whole: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            prop_assert_eq!(records(&text, &sizes, max_bytes).unwrap(), (whole.clone(), 0));
            let cut = cut.index(text.len() + 1);
            match records(&text[..cut], &sizes, max_bytes) {
                Ok((found, bad)) => {
                    prop_assert_eq!(bad, 0);
                    prop_assert_eq!(&found[..], &whole[..found.len()]);
                    // What is left out is empty, or the line break before it.
                    let length: usize = found.iter().map(|record| record.len() + 1).sum();
                    prop_assert!(cut == length || cut + 1 == length || cut == 0, "{} of {}", length, cut);
                }
                Err(error) => {
                    let is_cut_short = matches!(error, PageError::CutShort { bytes, .. } if bytes == cut);
                    prop_assert!(is_cut_short, "{}", error);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b'{')], 0..200), size in 1_usize..50) {
            let _ = records(&bytes, &[size], 64);
        }
    }
}
