//! Bodies in every coding and charset, whole and cut.

use async_compression::tokio::bufread::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use proptest::prelude::*;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::io::AsyncRead;

use super::*;

const TEXT: &str = "{\"name\": \"é, ü and €\"}\n";

async fn bytes_of(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => bytes_of(GzipEncoder::new(text)).await,
        "deflate" => bytes_of(ZlibEncoder::new(text)).await,
        "bare deflate" => bytes_of(DeflateEncoder::new(text)).await,
        "br" => bytes_of(BrotliEncoder::new(text)).await,
        "zstd" => bytes_of(ZstdEncoder::new(text)).await,
        _ => text.to_vec(),
    }
}

/// The text of a body with these headers that arrives in chunks of `size` bytes.
async fn text_of(body: &[u8], size: usize, headers: &[(&'static str, &str)]) -> Result<String, OpenError> {
    let header = |&(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers: HeaderMap = headers.iter().map(header).collect();
    let raw: BodyReader = Box::pin(BufReader::with_capacity(size, Cursor::new(body.to_vec())));
    let mut text = Vec::new();
    open(raw, &headers).await?.read_to_end(&mut text).await?;
    Ok(String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn every_coding_is_decoded_however_the_body_arrives() {
    for (coding, header) in [
        ("gzip", "gzip"),
        ("gzip", "X-GZIP"),
        ("deflate", "deflate"),
        ("bare deflate", "deflate"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("", "identity"),
        ("", "gzip"),
        ("", "zstd"),
        ("gzip", ""),
    ] {
        let body = coded(coding, TEXT.as_bytes()).await;
        for size in [1, 3, 1 << 16] {
            assert_eq!(text_of(&body, size, &[("content-encoding", header)]).await.unwrap(), TEXT, "{coding} as {header:?}");
        }
        assert_eq!(text_of(b"", 1, &[("content-encoding", header)]).await.unwrap(), "", "an empty body as {header:?}");
    }
    let twice = coded("br", &coded("gzip", TEXT.as_bytes()).await).await;
    assert_eq!(text_of(&twice, 7, &[("content-encoding", "gzip, br")]).await.unwrap(), TEXT);
}

#[tokio::test]
async fn a_body_of_several_members_is_decoded_to_its_end() {
    for coding in ["gzip", "zstd"] {
        let (first, second) = (coded(coding, b"one\n").await, coded(coding, b"two\n").await);
        let body = [first, second].concat();
        assert_eq!(text_of(&body, 5, &[("content-encoding", coding)]).await.unwrap(), "one\ntwo\n", "{coding}");
    }
}

#[tokio::test]
async fn a_damaged_or_unknown_coding_is_an_error() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let body = coded(coding, TEXT.repeat(100).as_bytes()).await;
        let cut = text_of(&body[..body.len() - 9], 100, &[("content-encoding", coding)]).await;
        assert!(matches!(cut, Err(OpenError::Read(_))), "{coding}");
    }
    for named in ["compress", "gzip, lzma", "gzip, gzip, gzip, gzip, gzip"] {
        let error = text_of(TEXT.as_bytes(), 100, &[("content-encoding", named)]).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("its Content-Encoding is {named}, of which Forebay knows gzip")), "{error}");
    }
}

#[tokio::test]
async fn the_charset_of_the_header_or_of_the_mark_becomes_utf8() {
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let little = utf16("\u{feff}é€😀", u16::to_le_bytes);
    let big = utf16("é€😀", u16::to_be_bytes);
    for (body, header, text) in [
        (&b"caf\xe9 \x80"[..], "application/json; charset=ISO-8859-1", "café €"),
        (b"caf\xe9", "text/plain;Charset=\"latin1\"", "café"),
        ("café".as_bytes(), "application/json; charset=iso-8859-1", "café"),
        ("café".as_bytes(), "application/json", "café"),
        (&little, "application/json", "é€😀"),
        (&big, "text/csv; charset=utf-16be", "é€😀"),
        (b"\x83e\x83X\x83g", "text/plain; charset=shift_jis", "テスト"),
        (b"\xef\xbb\xbf[1]", "application/json", "[1]"),
        (b"\xef\xbb\xbf\xc3\xa9", "text/plain; charset=iso-8859-1", "é"),
    ] {
        for size in [1, 2, 5, 100] {
            assert_eq!(text_of(body, size, &[("content-type", header)]).await.unwrap(), text, "{header}");
        }
    }
}

#[tokio::test]
async fn an_unknown_charset_and_bytes_that_it_does_not_have_are_errors() {
    let error = text_of(b"[]", 100, &[("content-type", "text/plain; charset=klingon")]).await.unwrap_err();
    assert_eq!(error.to_string(), "its charset is klingon, which is unknown");
    for (body, charset) in [(&b"\x00\xd8\x41\x00"[..], "utf-16le"), (b"\x83", "shift_jis"), (b"\xa5", "iso-8859-3")] {
        let error = text_of(body, 100, &[("content-type", &format!("text/plain; charset={charset}"))]).await.unwrap_err();
        assert!(error.to_string().starts_with("it has bytes that are not "), "{charset}: {error}");
    }
}

proptest! {
    #[test]
    fn a_text_in_a_single_byte_charset_does_not_depend_on_its_chunks(bytes in prop::collection::vec(any::<u8>(), 0..60), size in 1_usize..9) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let headers = [("content-type", "text/plain; charset=windows-1252")];
        let (whole, cut) = runtime.block_on(async { (text_of(&bytes, 100, &headers).await, text_of(&bytes, size, &headers).await) });
        prop_assert_eq!(whole.ok(), cut.ok());
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..60), start in prop::sample::select(vec![&[0x1f_u8, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x78, 0x9c], &[]]),
        coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", ""]), charset in prop::sample::select(vec!["utf-8", "utf-16", "latin1", "gbk"]),
    ) {
        let body = [start, &bytes[..]].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let kind = format!("text/plain; charset={charset}");
        let _ = runtime.block_on(text_of_any(&body, &[("content-encoding", coding), ("content-type", &kind)]));
    }
}

/// Like [`text_of`], for a result that need not be UTF-8.
async fn text_of_any(body: &[u8], headers: &[(&'static str, &str)]) -> Result<u64, OpenError> {
    let header = |&(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers: HeaderMap = headers.iter().map(header).collect();
    let raw: BodyReader = Box::pin(BufReader::with_capacity(7, Cursor::new(body.to_vec())));
    let mut body = open(raw, &headers).await?.take(1 << 20);
    Ok(tokio::io::copy(&mut body, &mut tokio::io::sink()).await?)
}
