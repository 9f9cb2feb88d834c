//! Text of any charset as UTF-8, while it is read.
//!
//! Guarantees:
//! * The result depends on the bytes only, not on how they are split into reads.
//! * Bytes that no character of the charset has are an error, not another character.
//!
//! Assumes that an API may name a single-byte charset, such as ISO-8859-1, as its server's default
//! although the body is UTF-8: with such a charset, each valid sequence of UTF-8 is that character.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use encoding_rs::{Decoder, DecoderResult, Encoding};
use tokio::io::{AsyncRead, ReadBuf};

use super::body::BodyReader;

/// The most bytes of input that are converted at once.
const CHUNK_BYTES: usize = 8 << 10;

/// Reads a body of a charset as UTF-8.
pub(super) struct Transcoder {
    body: BodyReader,
    encoding: &'static Encoding,
    decoder: Decoder,
    /// Whether valid sequences of UTF-8 are kept.
    keeps_utf8: bool,
    /// The start of a sequence of UTF-8 whose end has not arrived.
    partial: Vec<u8>,
    /// Converted text that has not been read, from `read` on.
    text: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Transcoder {
    /// A body in this charset.
    pub(super) fn new(body: BodyReader, encoding: &'static Encoding) -> Self {
        let decoder = encoding.new_decoder_without_bom_handling();
        Self {
            body,
            encoding,
            decoder,
            keeps_utf8: encoding.is_single_byte(),
            partial: Vec::new(),
            text: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    /// Converts a chunk of the body; the last one if `ended`.
    fn convert(&mut self, chunk: &[u8], ended: bool) -> Result<(), Error> {
        self.text.clear();
        self.read = 0;
        if self.keeps_utf8 { self.convert_mixed(chunk, ended) } else { self.convert_all(chunk, ended) }
    }

    fn convert_all(&mut self, chunk: &[u8], ended: bool) -> Result<(), Error> {
        let needed = self.decoder.max_utf8_buffer_length_without_replacement(chunk.len()).unwrap_or(chunk.len() * 4);
        self.text.resize(needed.max(16), 0);
        let (result, _, written) = self.decoder.decode_to_utf8_without_replacement(chunk, &mut self.text, ended);
        self.text.truncate(written);
        match result {
            DecoderResult::InputEmpty => Ok(()),
            DecoderResult::OutputFull => unreachable!("the buffer holds the longest result"),
            DecoderResult::Malformed(..) => Err(self.malformed()),
        }
    }

    fn malformed(&self) -> Error {
        Error::new(ErrorKind::InvalidData, format!("it has bytes that are not {}, the charset that it names", self.encoding.name()))
    }

    fn convert_mixed(&mut self, chunk: &[u8], ended: bool) -> Result<(), Error> {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(chunk);
        let mut rest = &bytes[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text.extend_from_slice(text.as_bytes());
                    return Ok(());
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.text.extend_from_slice(valid);
                    if error.error_len().is_none() && !ended {
                        self.partial = after.to_vec();
                        return Ok(());
                    }
                    // One byte, so that a sequence after it is found.
                    let character = self.encoding.decode_without_bom_handling_and_without_replacement(&after[..1]);
                    let character = character.ok_or_else(|| self.malformed())?;
                    self.text.extend_from_slice(character.as_bytes());
                    rest = &after[1..];
                }
            }
        }
    }
}

impl AsyncRead for Transcoder {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        while this.read == this.text.len() && !this.ended {
            let chunk = ready!(this.body.as_mut().poll_fill_buf(cx))?;
            let chunk = chunk[..chunk.len().min(CHUNK_BYTES)].to_vec();
            this.ended = chunk.is_empty();
            this.convert(&chunk, this.ended)?;
            this.body.as_mut().consume(chunk.len());
        }
        let count = out.remaining().min(this.text.len() - this.read);
        out.put_slice(&this.text[this.read..this.read + count]);
        this.read += count;
        Poll::Ready(Ok(()))
    }
}
