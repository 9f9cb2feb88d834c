//! How the client reads responses: formats, codings, statuses and limits.

use std::time::Duration;

use super::client::Client;
use super::client_tests::{client, fetch, fetch_at};
use super::error::FetchError;
use super::test_server::{answer, server};
use forebay_schemas::error_class::{Class, Classified as _};

/// The parts of a response whose records arrive one per line or row.
async fn parts(client: &Client) -> Result<Vec<Vec<String>>, FetchError> {
    let mut response = fetch_at(client, None).await?;
    let mut parts = Vec::new();
    while let Some(part) = client.next_part(&mut response).await {
        let (part, is_last) = part?;
        parts.push(part.records.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect());
        if is_last {
            break;
        }
    }
    Ok(parts)
}

#[tokio::test]
async fn lines_and_rows_are_records_by_the_content_type_or_the_pipeline_file() {
    for (kind, more, body) in [
        ("application/x-ndjson", "", &b"{\"id\":1}\n{\"id\":2}\n"[..]),
        ("application/jsonl; charset=utf-16le", "", b"{\0\"\0i\0d\0\"\0:\x001\0}\0\n\0{\0\"\0i\0d\0\"\0:\x002\0}\0"),
        ("text/plain", "format = \"ndjson\"", b"{\"id\":1}\n{\"id\":2}"),
    ] {
        let head = format!("content-type: {kind}\r\n");
        let url = server(move |_| answer("200 OK", &head, body)).await;
        assert_eq!(parts(&client(&url, more)).await.unwrap(), [["{\"id\":1}", "{\"id\":2}"]], "{kind}");
    }
    let url = server(|_| answer("200 OK", "content-type: text/csv\r\n", b"id;note\n1;a\n2;\n")).await;
    let rows = [["{\"id\":\"1\",\"note\":\"a\"}", "{\"id\":\"2\",\"note\":null}"]];
    assert_eq!(parts(&client(&url, "delimiter = \";\"")).await.unwrap(), rows);
}

#[tokio::test]
async fn lines_far_over_the_limit_arrive_in_parts_within_it() {
    let line = format!("{{\"id\":1,\"x\":\"{}\"}}\n", "x".repeat(900));
    let body = line.repeat(2_000);
    let url = server(move |_| answer("200 OK", "content-type: application/x-ndjson\r\n", body.as_bytes())).await;
    let parts = parts(&client(&url, "max_page_bytes = \"64KiB\"")).await.unwrap();
    assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 2_000);
    let largest = parts.iter().map(|part| part.iter().map(String::len).sum::<usize>()).max().unwrap();
    assert!((32 << 10..=64 << 10).contains(&largest), "{largest}");
    assert!(parts.len() < 40, "{} parts", parts.len());
}

#[tokio::test]
async fn a_line_over_the_limit_and_lines_under_a_pointer_are_errors_with_the_remedy() {
    let head = "content-type: application/x-ndjson\r\n";
    let url = server(move |_| answer("200 OK", head, &[b"1\n".to_vec(), vec![b'x'; 70_000]].concat())).await;
    let error = parts(&client(&url, "max_page_bytes = \"64KiB\"")).await.unwrap_err();
    assert!(error.to_string().contains("line 2 of the answer has more than 65536 bytes") && error.class() == Class::Rejected, "{error}");
    let error = parts(&client(&url, "records = \"/data\"")).await.unwrap_err();
    assert!(error.to_string().ends_with("fetcher.records = \"/data\" leads into one value; remove fetcher.records"), "{error}");
}

#[tokio::test]
async fn lines_that_break_off_are_retried() {
    for (body, text) in [
        (&b"{\"id\":1}\n{\"id\""[..], "the answer is cut short: its JSON is incomplete after 14 bytes"),
        (b"{\"id\":1}\n", "can't be reached"),
    ] {
        let length = if text.contains("cut short") { body.len() } else { 100 };
        let head = format!("content-type: application/x-ndjson\r\ncontent-length: {length}\r\n");
        let url = server(move |_| answer("200 OK", &head, body)).await;
        let error = parts(&client(&url, "")).await.unwrap_err();
        assert!(error.class() == Class::Transient && error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_can_not_be_decoded_is_retried_only_if_it_is_damaged() {
    for (coding, class, text) in [
        ("gzip", Class::Transient, "the answer can't be read: "),
        ("lzma", Class::Rejected, "its Content-Encoding is lzma, of which Forebay knows gzip, deflate, br, zstd"),
    ] {
        let head = format!("content-encoding: {coding}\r\n");
        let url = server(move |_| answer("200 OK", &head, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xffxxx")).await;
        let error = fetch(&client(&url, "")).await.unwrap_err();
        assert!(error.class() == class && error.to_string().contains(text), "{error}");
        assert_eq!(error.status_class(), Some("2xx"));
    }
}

#[tokio::test]
async fn the_pipeline_file_says_what_a_status_means() {
    let statuses = "statuses = { retry = [404], ignore = [409], final = [503] }";
    for (status, headers, result) in [
        ("404 Not Found", "", Some(Class::Transient)),
        ("409 Conflict", "", None),
        ("503 Service Unavailable", "retry-after: 3\r\n", Some(Class::Rejected)),
        ("500 Internal Server Error", "", Some(Class::Transient)),
        ("400 Bad Request", "", Some(Class::Rejected)),
    ] {
        let url = server(move |_| answer(status, headers, b"{\"message\": \"no\"}")).await;
        match (fetch(&client(&url, statuses)).await, result) {
            (Ok(body), None) => assert_eq!(body, b"", "{status}"),
            (Err(error), Some(class)) => assert_eq!((error.class(), error.is_retryable()), (class, class == Class::Transient), "{error}"),
            (found, _) => panic!("{status}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn an_exhausted_limit_of_a_good_answer_is_known_before_the_next_request() {
    let headers = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 30\r\ncontent-type: application/json\r\n";
    let url = server(move |_| answer("200 OK", headers, b"[]")).await;
    assert_eq!(fetch_at(&client(&url, ""), None).await.unwrap().wait, Some(Duration::from_secs(30)));
    let url = server(|_| answer("200 OK", "x-ratelimit-remaining: 1\r\nx-ratelimit-reset: 30\r\n", b"[]")).await;
    assert_eq!(fetch_at(&client(&url, ""), None).await.unwrap().wait, None);
}

#[tokio::test]
async fn what_the_api_says_is_shown_printable_and_on_one_line() {
    let url = server(|_| answer("400 Bad Request", "content-encoding: identity\r\n", "no\x1b[31m\r\nsuch\tday\u{202e}".as_bytes())).await;
    let error = fetch(&client(&url, "")).await.unwrap_err().to_string();
    assert!(error.ends_with("answered 400 Bad Request: no\\x1b[31m such day\\u{202e}"), "{error}");
}
