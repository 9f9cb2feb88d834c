//! The body of a response as a stream of text: uncompressed, and in UTF-8.
//!
//! Guarantees:
//! * Nothing is read ahead beyond a few buffers, so the reader decides how much of a body is in
//!   memory, however well it is compressed.
//! * A coding that the body does not have, although the headers name it, is left out. A body that
//!   is a gzip file is unpacked, although they name none.
//!
//! Does not guarantee that a charset is right: see [`Transcoder`] for what is assumed.

use std::io::{Cursor, Error};
use std::pin::Pin;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use encoding_rs::{Encoding, UTF_8};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncReadExt as _, BufReader};

use super::transcoder::Transcoder;

/// The codings that a request accepts.
pub(super) const ACCEPTED_CODINGS: &str = "gzip, deflate, br, zstd";
/// The largest window of a zstd body that is decoded, as a power of two: 8 MiB (RFC 9659).
const ZSTD_WINDOW_LOG: u32 = 23;
/// The most codings of one body.
const MAX_CODINGS: usize = 4;
const GZIP_START: &[u8] = &[0x1f, 0x8b];
const ZSTD_START: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A body that is being read.
pub(super) type BodyReader = Pin<Box<dyn AsyncBufRead + Send>>;

/// A body that can't be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// Its coding is unknown, or it has too many.
    #[error("its Content-Encoding is {0}, of which Forebay knows {ACCEPTED_CODINGS}, and at most {MAX_CODINGS} at once")]
    Coding(String),
    /// Its charset is unknown.
    #[error("its charset is {0}, which is unknown")]
    Charset(String),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] Error),
}

/// Opens the body of a response with these headers.
///
/// # Errors
/// When its coding or charset is unknown, or its first bytes can't be read.
pub(super) async fn open(raw: BodyReader, headers: &HeaderMap) -> Result<BodyReader, OpenError> {
    let mut body = raw;
    for coding in codings(headers)?.into_iter().rev() {
        body = decoded(body, coding).await?;
    }
    let (mut start, mut body) = peek(body).await?;
    if start.starts_with(GZIP_START) {
        (start, body) = peek(gunzipped(joined(start, body))).await?;
    }
    // The mark says more than the headers.
    let (encoding, mark) = match Encoding::for_bom(&start) {
        Some(found) => found,
        None => (charset(headers)?, 0),
    };
    let body = joined(start.split_off(mark), body);
    Ok(if encoding == UTF_8 { body } else { Box::pin(BufReader::new(Transcoder::new(body, encoding))) })
}

/// The codings, in the order in which they were applied.
fn codings(headers: &HeaderMap) -> Result<Vec<&str>, OpenError> {
    let named = headers.get_all(CONTENT_ENCODING).into_iter().map(|value| value.to_str().unwrap_or("not text"));
    let named: Vec<&str> = named.flat_map(|text| text.split(',')).map(str::trim).collect();
    let is_known = |coding: &str| ["gzip", "x-gzip", "deflate", "br", "zstd"].iter().any(|known| coding.eq_ignore_ascii_case(known));
    let used: Vec<&str> = named.iter().copied().filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).collect();
    if used.len() > MAX_CODINGS || !used.iter().all(|coding| is_known(coding)) {
        return Err(OpenError::Coding(used.join(", ")));
    }
    Ok(used)
}

async fn decoded(body: BodyReader, coding: &str) -> Result<BodyReader, Error> {
    let (start, body) = peek(body).await?;
    if start.is_empty() {
        return Ok(body);
    }
    let body = joined(start.clone(), body);
    Ok(match coding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" if start.starts_with(GZIP_START) => gunzipped(body),
        // RFC 9110 means zlib. Some servers send the bare format.
        "deflate" if is_zlib(&start) => Box::pin(BufReader::new(ZlibDecoder::new(body))),
        "deflate" => Box::pin(BufReader::new(DeflateDecoder::new(body))),
        "br" => Box::pin(BufReader::new(BrotliDecoder::new(body))),
        "zstd" if start.starts_with(ZSTD_START) => {
            let mut decoder = ZstdDecoder::with_params(body, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
            decoder.multiple_members(true);
            Box::pin(BufReader::new(decoder))
        }
        _ => body,
    })
}

fn gunzipped(body: BodyReader) -> BodyReader {
    let mut decoder = GzipDecoder::new(body);
    decoder.multiple_members(true);
    Box::pin(BufReader::new(decoder))
}

/// Whether a body begins with the header of zlib (RFC 1950).
fn is_zlib(start: &[u8]) -> bool {
    let [method, flags, ..] = *start else { return false };
    method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0
}

/// The first bytes of a body, at most four, and the rest of it.
async fn peek(mut body: BodyReader) -> Result<(Vec<u8>, BodyReader), Error> {
    let mut start = Vec::new();
    (&mut body).take(4).read_to_end(&mut start).await?;
    Ok((start, body))
}

fn joined(start: Vec<u8>, rest: BodyReader) -> BodyReader {
    Box::pin(Cursor::new(start).chain(rest))
}

/// The charset of the content type; UTF-8 when it names none.
fn charset(headers: &HeaderMap) -> Result<&'static Encoding, OpenError> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let label = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset")).map(|(_, label)| label.trim().trim_matches('"'));
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(UTF_8) };
    Encoding::for_label(label.as_bytes()).ok_or_else(|| OpenError::Charset(label.to_owned()))
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
