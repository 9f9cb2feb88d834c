//! The records of a body that is read while it arrives, in parts.
//!
//! Guarantees:
//! * No more than one part of a body is in memory, however large the body is.
//! * Every part but the last has a record.

use tokio::io::AsyncBufReadExt as _;

use super::body::BodyReader;
use super::body_format::Format;
use super::csv_rows::{CsvTypes, Rows};
use super::ndjson::Lines;
use super::page_error::PageError;
use super::record_part::RecordPart;
use super::records::Extracted;

/// A body of lines or rows.
pub(super) struct RecordStream {
    body: BodyReader,
    parser: Parser,
    part: RecordPart,
    ended: bool,
}

enum Parser {
    Lines(Lines),
    Rows(Box<Rows>),
}

/// A part of a body that can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The body did not arrive, or can't be decoded.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It holds no records.
    #[error(transparent)]
    Page(#[from] PageError),
}

impl RecordStream {
    /// A body in this format, in parts of at most `max_bytes`; an error returns the body of a
    /// format that is one value.
    pub(super) fn new(body: BodyReader, format: Format, types: &CsvTypes, max_bytes: usize) -> Result<Self, BodyReader> {
        let parser = match format {
            Format::Json => return Err(body),
            Format::Ndjson => Parser::Lines(Lines::new(max_bytes)),
            Format::Csv { delimiter } => Parser::Rows(Box::new(Rows::new(delimiter, types.clone(), max_bytes))),
        };
        Ok(Self { body, parser, part: RecordPart::new(max_bytes), ended: false })
    }

    /// Whether the body is CSV.
    pub(super) fn has_rows(&self) -> bool {
        matches!(self.parser, Parser::Rows(_))
    }

    /// Reads the next part. Returns it, and whether it is the last.
    ///
    /// # Errors
    /// When the body breaks off, or holds no records.
    pub(super) async fn next_part(&mut self) -> Result<(Extracted, bool), StreamError> {
        while !self.ended && !self.part.is_full() {
            let chunk = self.body.fill_buf().await?;
            self.ended = chunk.is_empty();
            let used = match &mut self.parser {
                Parser::Lines(lines) if chunk.is_empty() => {
                    lines.end(&mut self.part)?;
                    0
                }
                Parser::Lines(lines) => lines.feed(chunk, &mut self.part)?,
                Parser::Rows(rows) => rows.feed(chunk, &mut self.part)?,
            };
            self.body.consume(used);
        }
        let is_last = !self.part.is_full();
        let next = self.part.following();
        Ok((std::mem::replace(&mut self.part, next).extracted(), is_last))
    }
}

/// Prints that it is one.
impl std::fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordStream").finish_non_exhaustive()
    }
}
