//! The client against a local server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::client::{ApiResponse, Client};
use super::error::FetchError;
use super::test_server::{answer, request, server};
use forebay_schemas::error_class::{Class, Classified as _};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::source_read::ReadParams;

pub(super) fn pipeline(url: &str, more: &str) -> Pipeline {
    let text = format!(
        "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"users_stream\"\n[fetcher]\nurl = \"{url}\"\n{more}\n\
         [producer]\nkey = \"/id\"\n"
    );
    forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap()
}

pub(super) fn client(url: &str, more: &str) -> Client {
    let pipeline = pipeline(url, more);
    Client::new(&pipeline, pipeline.fetcher.as_ref().unwrap()).unwrap()
}

pub(super) async fn fetch(client: &Client) -> Result<Vec<u8>, FetchError> {
    fetch_at(client, None).await.map(|response| response.body.to_vec())
}

pub(super) async fn fetch_at(client: &Client, cursor: Option<&str>) -> Result<ApiResponse, FetchError> {
    client.fetch(SystemTime::UNIX_EPOCH, &ReadParams::default(), cursor).await
}

/// Zeros, compressed 158 to 1: one literal, then copies of 258 bytes, in the fixed code of deflate.
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
async fn a_response_is_returned_byte_for_byte() {
    let url = server(|path| answer("200 OK", "content-type: application/json\r\n", format!("{{\"path\": {path:?}}} ").as_bytes())).await;
    assert_eq!(fetch(&client(&format!("{url}/api?n=2"), "")).await.unwrap(), b"{\"path\": \"/api?n=2\"} ");
}

#[tokio::test]
async fn a_busy_api_is_retried_after_retry_after() {
    let url = server(|_| answer("429 Too Many Requests", "retry-after: 7\r\n", b"slow\n down")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(7))));
    assert!(error.to_string().ends_with("answered 429 Too Many Requests: slow down"), "{error}");
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    let url = server(|_| answer("503 Service Unavailable", "retry-after: Thu, 01 Jan 1970 00:00:42 GMT\r\n", b"")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(42))));
}

#[tokio::test]
async fn a_refused_request_is_not_retried() {
    for status in ["404 Not Found", "401 Unauthorized", "400 Bad Request", "304 Not Modified"] {
        let url = server(move |_| answer(status, "", b"")).await;
        let error = fetch(&client(&url, "")).await.unwrap_err();
        assert_eq!(error.class(), Class::Rejected, "{error}");
    }
}

#[tokio::test]
async fn a_response_over_the_limit_is_rejected_before_its_end() {
    let url = server(|_| answer("200 OK", "", &vec![b' '; 100_000])).await;
    let error = fetch(&client(&url, "max_page_bytes = \"64KiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max: 65_536, .. }), "{error}");
}

#[tokio::test]
async fn a_gzip_bomb_is_rejected_by_its_decompressed_size() {
    let bomb = |bytes| move |_: &str| answer("200 OK", "content-encoding: gzip\r\n", &gzip_bomb(bytes));
    let url = server(bomb(100 << 20)).await;
    let error = fetch(&client(&url, "max_page_bytes = \"1MiB\"")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { max: 1_048_576, .. }), "{error}");
}

#[tokio::test]
async fn a_slow_response_times_out_as_a_whole() {
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
async fn a_truncated_response_is_an_unreachable_api() {
    let url = server(|_| answer("200 OK", "content-length: 100\r\n", b"[1, 2")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_three_times() {
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

/// Resolves every name to this machine, and counts how often.
#[derive(Default)]
struct ToLoopback(AtomicUsize);

impl Resolve for ToLoopback {
    fn resolve(&self, _: Name) -> Resolving {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0)))) as Addrs)))
    }
}

#[tokio::test]
async fn a_name_with_a_private_address_is_requested_only_if_the_file_allows_it() {
    let url = server(|_| answer("200 OK", "", b"[]")).await.replace("127.0.0.1", "api.example");
    let resolver = Arc::new(ToLoopback::default());
    let fetch = async |more: &str| {
        let pipeline = pipeline(&url, more);
        let client = Client::with_resolver(&pipeline, pipeline.fetcher.as_ref().unwrap(), resolver.clone()).unwrap();
        fetch(&client).await
    };
    let error = fetch("").await.unwrap_err();
    assert_eq!((error.class(), error.status_class()), (Class::Rejected, Some("none")));
    let text = "api.example has the address 127.0.0.1, which is not public; if that is meant, set fetcher.allow_private = true";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(resolver.0.load(Ordering::SeqCst), 1);
    assert_eq!(fetch("allow_private = true").await.unwrap(), b"[]");
    assert_eq!(resolver.0.load(Ordering::SeqCst), 2, "the connection goes to the address that was resolved");
}

#[tokio::test]
async fn a_redirect_to_another_origin_gets_no_request_and_so_no_secret() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let other = server(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        answer("200 OK", "", b"[]")
    })
    .await;
    for (to, why) in [
        (format!("{other}/x"), "to another port"),
        (other.replace("http:", "https:"), "to another port"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "to another host"),
        ("http://[::ffff:169.254.169.254]/".to_owned(), "to another host"),
        ("http://localhost/".to_owned(), "to another host"),
    ] {
        let location = format!("location: {to}\r\nset-cookie: a=b\r\n");
        let url = server(move |_| answer("307 Temporary Redirect", &location, b"")).await;
        let error = fetch(&client(&url, "headers = { authorization = { env = \"PATH\" } }")).await.unwrap_err();
        assert_eq!(error.class(), Class::Rejected, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_refused_and_shown_without_query() {
    let url = server(|_| answer("302 Found", "location: http://evil.example/x?token=secret\r\n", b"")).await;
    let error = fetch(&client(&url, "headers = { authorization = { env = \"PATH\" } }")).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert!(error.to_string().contains("to another host, http://evil.example/x;"), "{error}");
}

#[tokio::test]
async fn an_html_page_is_not_taken_for_json() {
    let url = server(|_| answer("200 OK", "content-type: text/html; charset=utf-8\r\n", b"<html>\n<h1>Log in</h1>")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert!(error.to_string().ends_with("answered text/html instead of JSON: <html> <h1>Log in</h1>"), "{error}");
}

#[tokio::test]
async fn an_unreachable_api_is_transient_and_its_key_is_not_shown() {
    let error = fetch(&client("http://127.0.0.1:1/api?key=hunter2", "")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1/api can't be reached") && text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"));
}

#[tokio::test]
async fn garbage_in_place_of_http_is_an_unreachable_api() {
    let url = server(|_| b"SSH-2.0-OpenSSH\r\n".to_vec()).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap_err().class(), Class::Transient);
}

#[tokio::test]
async fn headers_of_the_file_are_sent_and_secrets_are_not_printed() {
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

#[tokio::test]
async fn a_refusal_for_a_rate_limit_is_transient() {
    for (status, headers, wait) in [
        ("403 Forbidden", "Retry-After: 2\r\n", Some(2)),
        ("403 Forbidden", "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 9\r\n", Some(9)),
        ("429 Too Many Requests", "ratelimit-remaining: 0\r\nratelimit-reset: 4\r\n", Some(4)),
        ("503 Service Unavailable", "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 4\r\n", Some(4)),
        ("429 Too Many Requests", "", None),
    ] {
        let url = server(move |_| answer(status, headers, b"{}")).await;
        let error = fetch(&client(&url, "")).await.unwrap_err();
        assert_eq!((error.class(), error.is_retryable()), (Class::Transient, true), "{headers}");
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{headers}");
    }
    let url = server(|_| answer("403 Forbidden", "x-ratelimit-remaining: 12\r\n", b"you may not")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.is_retryable()), (Class::Rejected, false));
}

#[tokio::test]
async fn a_response_without_content_is_an_empty_page() {
    for (status, headers) in [
        ("204 No Content", ""),
        ("205 Reset Content", ""),
        ("200 OK", ""),
        ("200 OK", "content-type: application/json\r\ncontent-length: 0\r\n"),
        ("200 OK", "content-type: text/html\r\ncontent-length: 0\r\n"),
    ] {
        let url = server(move |_| answer(status, headers, b"")).await;
        assert_eq!(fetch(&client(&url, "")).await.unwrap(), b"", "{status} {headers}");
    }
}

#[tokio::test]
async fn not_modified_is_an_empty_page_only_for_a_conditional_request() {
    let url = server(|_| answer("304 Not Modified", "", b"")).await;
    let conditional = client(&url, "headers = { If-None-Match = \"\\\"v1\\\"\" }");
    assert_eq!(fetch(&conditional).await.unwrap(), b"");
    assert!(fetch(&client(&url, "")).await.is_err());
}

#[tokio::test]
async fn a_202_without_a_result_is_retried() {
    let url = server(|_| answer("202 Accepted", "retry-after: 3\r\n", b"{\"status\": \"running\"}")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(3))), "{error}");
    let url = server(|_| answer("202 Accepted", "", b"")).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap_err().class(), Class::Transient);
    let url = server(|_| answer("202 Accepted", "", b"[]")).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap(), b"[]", "some APIs answer 202 with the result");
}

/// A server that accepts only the current token. Returns its URL and the tokens it received.
async fn guarded(wanted: Arc<Mutex<String>>, on_refusal: impl Fn() + Send + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, listener) = (Arc::clone(&asked), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            let token = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default().to_owned();
            let is_wanted = token == *wanted.lock();
            seen.lock().push(token);
            let response = if is_wanted { answer("200 OK", "", b"[]") } else { answer("401 Unauthorized", "", b"no") };
            if !is_wanted {
                on_refusal();
            }
            let _ = stream.write_all(&response).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, asked)
}

#[tokio::test]
async fn secrets_are_read_again_before_each_request_and_once_after_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth");
    let write = {
        let file = file.clone();
        move |token: &str| {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
    };
    let wanted = Arc::new(Mutex::new("a".to_owned()));
    let renewal = Arc::new(Mutex::new(None::<String>));
    let on_refusal = {
        let (renewal, write) = (Arc::clone(&renewal), write.clone());
        move || {
            if let Some(token) = renewal.lock().take() {
                write(&token);
            }
        }
    };
    let (url, asked) = guarded(Arc::clone(&wanted), on_refusal).await;
    write("a");
    let client = client(&url, &format!("headers = {{ Authorization = {{ file = {file:?} }} }}"));
    fetch(&client).await.unwrap();
    let change = |to: &str| to.clone_into(&mut wanted.lock());
    change("b");
    write("b");
    fetch(&client).await.unwrap();
    change("c");
    *renewal.lock() = Some("c".to_owned());
    fetch(&client).await.unwrap();
    assert_eq!(*asked.lock(), ["a", "b", "b", "c"], "the third was renewed during the request");
    change("d");
    let error = fetch(&client).await.unwrap_err();
    assert_eq!((error.class(), error.is_retryable()), (Class::Rejected, true), "{error}");
    assert_eq!(asked.lock().len(), 5, "an unchanged secret is not tried again");
    *renewal.lock() = Some("wrong again".to_owned());
    assert!(fetch(&client).await.is_err());
    assert_eq!(asked.lock().len(), 7, "a renewed one is tried once");
    std::fs::remove_file(&file).unwrap();
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "its file may be being written: {error}");
}

#[tokio::test]
async fn a_next_url_is_requested_unchanged_with_the_headers_of_the_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = request(&mut stream).await;
            let key = request.lines().find(|line| line.starts_with("x-key")).unwrap_or_default().to_owned();
            asked.push((request.split(' ').nth(1).unwrap().to_owned(), key));
            stream.write_all(&answer("200 OK", "", b"[]")).await.unwrap();
        }
        asked
    });
    let client = client(
        &format!("{url}/people?size=2&appid=S3CRET"),
        "headers = { x-key = \"k\" }\ncursor = { next = \"/next\", param = \"page\" }",
    );
    let first = fetch_at(&client, None).await.unwrap();
    let next = client.next_cursor(&first, format!("{url}/people?page=2&size=2&appid=S3CRET&q=a%20b")).unwrap();
    assert_eq!(next, format!("{url}/people?page=2&{{size}}&{{appid}}&q=a%20b"), "the stored form has no parameter of the file");
    fetch_at(&client, Some(&next)).await.unwrap();
    let asked = seen.await.unwrap();
    assert_eq!(asked[0].0, "/people?size=2&appid=S3CRET");
    assert_eq!(asked[1], ("/people?page=2&size=2&appid=S3CRET&q=a%20b".to_owned(), "x-key: k".to_owned()));
}

#[tokio::test]
async fn a_next_url_on_another_host_is_refused_with_the_reason() {
    let url = server(|_| answer("200 OK", "", b"[]")).await;
    let client = client(&format!("{url}/people"), "cursor = { next = \"/next\", param = \"page\" }");
    let first = fetch_at(&client, None).await.unwrap();
    for (next, cause) in [
        ("http://evil.example/people?page=2&key=hunter2", "to another host, http://evil.example/people"),
        ("http://127.0.0.1:1/people?page=2", "to another port, http://127.0.0.1:1/people"),
        ("https://[/", "nowhere: "),
    ] {
        let error = client.next_cursor(&first, next.to_owned()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the next cursor is a URL") && text.contains(cause) && !text.contains("hunter2"), "{text}");
        assert_eq!(error.class(), Class::Rejected);
        assert!(matches!(fetch_at(&client, Some(next)).await, Err(FetchError::NextUrl { .. })), "a stored one is refused too");
    }
    for opaque in ["a/b+c==", "/wEPDwUK", "2", "ftp://x/"] {
        assert_eq!(client.next_cursor(&first, opaque.to_owned()).unwrap(), opaque, "it is a cursor, not a URL");
    }
    assert_eq!(client.next_cursor(&first, "?page=2".to_owned()).unwrap(), format!("{url}/people?page=2"));
}

#[tokio::test]
async fn a_link_header_with_a_next_page_is_noticed() {
    let url = server(|_| answer("200 OK", "LINK: </issues?page=2>; rel=\"next\", </issues?page=3>; rel=\"last\"\r\n", b"[]")).await;
    assert!(fetch_at(&client(&format!("{url}/issues"), ""), None).await.unwrap().link.is_some());
    assert!(fetch_at(&client(&format!("{url}/issues?page=2"), ""), None).await.unwrap().link.is_none(), "it is the same page");
}

/// A server that returns the whole of each request as JSON, and redirects `/moved` with `status`.
async fn echo(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = request(&mut stream).await.into_bytes();
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or_default();
            let head = text.find("\r\n\r\n").unwrap() + 4;
            while bytes.len() < head + length {
                let mut buffer = [0; 1024];
                let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
                bytes.extend_from_slice(&buffer[..read]);
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let response = match text.contains(" /moved ") {
                true => answer(status, "location: /there\r\n", b""),
                false => answer("200 OK", "", serde_json::to_string(&text).unwrap().as_bytes()),
            };
            let _ = stream.write_all(&response).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

#[tokio::test]
async fn a_post_has_its_body_and_its_content_type_and_stays_a_post() {
    let url = echo("307 Temporary Redirect").await;
    let lines = "method = \"POST\"\nbody = { day = \"{{ params.day }}\" }\nparams = [\"day\"]";
    let params = BTreeMap::from([("day".to_owned(), "a\"b".to_owned())]).into();
    for path in ["", "/moved"] {
        let client = client(&format!("{url}{path}"), lines);
        let response = client.fetch(SystemTime::UNIX_EPOCH, &params, None).await.unwrap();
        let sent: String = serde_json::from_slice(&response.body).unwrap();
        assert!(sent.starts_with("POST ") && sent.contains("content-type: application/json\r\n"), "{sent}");
        assert!(sent.ends_with("\r\n\r\n{\"day\":\"a\\\"b\"}"), "{sent}");
    }
    let url = echo("302 Found").await;
    let error = client(&format!("{url}/moved"), lines).fetch(SystemTime::UNIX_EPOCH, &params, None).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert!(error.to_string().contains("turns a POST into a GET") && error.to_string().contains("/there"), "{error}");
}

#[tokio::test]
async fn a_value_with_a_line_break_is_not_sent_in_a_header() {
    let url = echo("").await;
    let client = client(&url, "headers = { X-Day = \"{{ params.day }}\" }\nparams = [\"day\"]");
    let fetch = async |day: &str| {
        let params = BTreeMap::from([("day".to_owned(), day.to_owned())]).into();
        client.fetch(SystemTime::UNIX_EPOCH, &params, None).await.map(|response| String::from_utf8_lossy(&response.body).into_owned())
    };
    assert!(fetch("2026-01-01").await.unwrap().contains("x-day: 2026-01-01\\r\\n"));
    for day in ["a\r\nX-Admin: 1", "a\nb", "a\0b"] {
        let error = fetch(day).await.unwrap_err();
        assert_eq!((error.class(), error.is_retryable(), error.status_class()), (Class::Rejected, false, None), "{error}");
        assert!(error.to_string().contains("fetcher.headers.X-Day"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_in_the_query_is_sent_and_never_shown() {
    let url = server(|path| answer("400 Bad Request", "", format!("no access with {path}").as_bytes())).await;
    let path = std::env::var("PATH").unwrap();
    let client = client(&url, "query = { appid = { env = \"PATH\" }, q = \"a b\" }");
    assert!(!format!("{client:?}").contains(&path));
    let request = client.page_request(&ReadParams::default(), None).unwrap();
    let sent: BTreeMap<_, _> = request.url.query_pairs().into_owned().collect();
    assert_eq!((sent["appid"].as_str(), sent["q"].as_str()), (path.as_str(), "a b"));
    let error = fetch(&client).await.unwrap_err().to_string();
    assert!(error.contains("q=a%20b") && !error.contains(path.split(':').next().unwrap()), "{error}");
}
