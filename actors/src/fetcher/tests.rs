//! The client against a server on this machine that says what the test wants.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{Answer, Client};
use super::error::FetchError;
use forebay_schemas::failure::{Class, Classified};

/// A server that answers each request with `answer(path)`, raw.
pub(super) async fn server(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = stream.write_all(&answer(&path)).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

pub(super) async fn request(stream: &mut TcpStream) -> String {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(request).unwrap()
}

pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(super) fn client(url: &str, more: &str) -> Client {
    let text = format!(
        "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"users_stream\"\n[fetcher]\nurl = \"{url}\"\n{more}\n\
         [producer]\nkey = \"/id\"\n"
    );
    // A file named in it is looked for beside the pipeline file.
    let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap();
    Client::new(&pipeline, pipeline.fetcher.as_ref().unwrap()).unwrap()
}

pub(super) async fn fetch(client: &Client) -> Result<Vec<u8>, FetchError> {
    fetch_at(client, None).await.map(|answer| answer.body.to_vec())
}

pub(super) async fn fetch_at(client: &Client, cursor: Option<&str>) -> Result<Answer, FetchError> {
    client.fetch(SystemTime::UNIX_EPOCH, &BTreeMap::new(), cursor).await
}

/// Zeros, compressed 158 to 1: one literal and then copies of 258 bytes, in deflate's fixed code.
fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let mut bits: Vec<u8> = vec![1, 1, 0];
    bits.extend([0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..bytes / 258 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    bits.extend([0; 7]);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(bits.chunks(8).map(|chunk| chunk.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << at)));
    gzip.extend([0; 8]);
    gzip
}

#[tokio::test]
async fn an_answer_is_given_back_byte_for_byte() {
    let url = server(|path| answer("200 OK", "content-type: application/json\r\n", format!("{{\"path\": {path:?}}} ").as_bytes())).await;
    assert_eq!(fetch(&client(&format!("{url}/api?n=2"), "")).await.unwrap(), b"{\"path\": \"/api?n=2\"} ");
}

#[tokio::test]
async fn a_busy_api_is_asked_again_when_it_says() {
    let url = server(|_| answer("429 Too Many Requests", "retry-after: 7\r\n", b"slow\n down")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(7))));
    assert!(error.to_string().ends_with("answered 429 Too Many Requests: slow down"), "{error}");
}

#[tokio::test]
async fn a_date_says_when_to_ask_again_too() {
    let url = server(|_| answer("503 Service Unavailable", "retry-after: Thu, 01 Jan 1970 00:00:42 GMT\r\n", b"")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(42))));
}

#[tokio::test]
async fn a_request_the_api_will_not_have_is_not_made_again_at_once() {
    for status in ["404 Not Found", "401 Unauthorized", "400 Bad Request", "304 Not Modified"] {
        let url = server(move |_| answer(status, "", b"")).await;
        let error = fetch(&client(&url, "")).await.unwrap_err();
        assert_eq!(error.class(), Class::Rejected, "{error}");
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_before_it_is_read_to_its_end() {
    let url = server(|_| answer("200 OK", "", &vec![b' '; 100_000])).await;
    let error = fetch(&client(&url, "max_page_bytes = \"64KiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { most: 65_536, .. }), "{error}");
}

#[tokio::test]
async fn a_gzip_bomb_is_refused_by_what_it_unfolds_to() {
    let bomb = |bytes| move |_: &str| answer("200 OK", "content-encoding: gzip\r\n", &gzip_bomb(bytes));
    let url = server(bomb(100 << 20)).await;
    let error = fetch(&client(&url, "max_page_bytes = \"1MiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { most: 1_048_576, .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_dawdles_times_out_as_a_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let error = fetch(&client(&url, "timeout = \"200ms\"")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().ends_with("did not answer within 200ms (fetcher.timeout)"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_short_is_as_good_as_none() {
    let url = server(|_| answer("200 OK", "content-length: 100\r\n", b"[1, 2")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_three_times() {
    let url = server(|path| match path {
        "/3" => answer("302 Found", "location: /2\r\n", b""),
        "/2" => answer("302 Found", "location: /1\r\n", b""),
        "/1" => answer("302 Found", "location: /0\r\n", b""),
        "/0" => answer("200 OK", "", b"[]"),
        _ => answer("302 Found", "location: /loop\r\n", b""),
    })
    .await;
    assert_eq!(fetch(&client(&format!("{url}/3"), "")).await.unwrap(), b"[]");
    let error = fetch(&client(&format!("{url}/loop"), "")).await.unwrap_err();
    assert!(error.to_string().contains("more than 3 times"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_without_its_query() {
    let url = server(|_| answer("302 Found", "location: http://evil.example/x?token=secret\r\n", b"")).await;
    let error = fetch(&client(&url, "headers = { authorization = \"Bearer x\" }")).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert!(error.to_string().contains("to another host, http://evil.example/x;"), "{error}");
}

#[tokio::test]
async fn a_page_of_html_is_told_from_json() {
    let url = server(|_| answer("200 OK", "content-type: text/html; charset=utf-8\r\n", b"<html>\n<h1>Log in</h1>")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("answered text/html instead of JSON: <html> <h1>Log in</h1>"), "{error}");
}

#[tokio::test]
async fn an_api_that_is_not_there_is_waited_for_and_its_key_not_shown() {
    let error = fetch(&client("http://127.0.0.1:1/api?key=hunter2", "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1/api can't be reached") && text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[tokio::test]
async fn garbage_instead_of_http_is_an_api_that_cannot_be_reached() {
    let url = server(|_| b"SSH-2.0-OpenSSH\r\n".to_vec()).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap_err().class(), Class::Transient);
}

#[tokio::test]
async fn headers_of_the_file_are_sent_and_secrets_not_printed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        stream.write_all(&answer("200 OK", "", b"[]")).await.unwrap();
        request
    });
    let path = std::env::var("PATH").unwrap();
    let client = client(&url, "headers = { x-key = { env = \"PATH\" }, accept = \"application/vnd.api+json\" }");
    assert!(!format!("{client:?}").contains(&path));
    fetch(&client).await.unwrap();
    let request = seen.await.unwrap();
    assert!(request.contains(&format!("x-key: {path}\r\n")) && request.contains("accept: application/vnd.api+json\r\n"), "{request}");
}
