//! What the client makes of answers: limits, nothing new, renewed secrets, next addresses.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::error::FetchError;
use super::tests::{answer, client, fetch, fetch_at, request, server};
use forebay_schemas::failure::{Class, Classified};

#[tokio::test]
async fn a_refusal_that_speaks_of_a_limit_is_waited_for_as_a_busy_api_is() {
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
async fn an_answer_without_content_is_an_empty_one() {
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
async fn not_modified_is_nothing_new_to_who_asked_on_that_condition_and_else_no_answer() {
    let url = server(|_| answer("304 Not Modified", "", b"")).await;
    let asks_if = client(&url, "headers = { If-None-Match = \"\\\"v1\\\"\" }");
    assert_eq!(fetch(&asks_if).await.unwrap(), b"");
    assert!(fetch(&client(&url, "")).await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_not_ready_is_asked_for_again() {
    let url = server(|_| answer("202 Accepted", "retry-after: 3\r\n", b"{\"status\": \"running\"}")).await;
    let error = fetch(&client(&url, "")).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after()), (Class::Transient, Some(Duration::from_secs(3))), "{error}");
    let url = server(|_| answer("202 Accepted", "", b"")).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap_err().class(), Class::Transient);
    let url = server(|_| answer("202 Accepted", "", b"[]")).await;
    assert_eq!(fetch(&client(&url, "")).await.unwrap(), b"[]", "some APIs say it of every answer");
}

/// A server that lets in only those with the token that is wanted now, and what it was asked with.
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
            let said = if is_wanted { answer("200 OK", "", b"[]") } else { answer("401 Unauthorized", "", b"no") };
            if !is_wanted {
                on_refusal();
            }
            let _ = stream.write_all(&said).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, asked)
}

#[tokio::test]
async fn a_secret_that_is_renewed_is_read_again_before_each_request_and_once_upon_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth");
    let write = {
        let file = file.clone();
        move |token: &str| std::fs::write(&file, format!("{token}\n")).unwrap()
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
    assert_eq!(*asked.lock(), ["a", "b", "b", "c"], "the third was renewed while it was on its way");
    change("d");
    let error = fetch(&client).await.unwrap_err();
    assert_eq!((error.class(), error.is_retryable()), (Class::Rejected, true), "{error}");
    assert_eq!(asked.lock().len(), 5, "a secret that is the same is not tried again");
    *renewal.lock() = Some("wrong again".to_owned());
    assert!(fetch(&client).await.is_err());
    assert_eq!(asked.lock().len(), 7, "and one that is renewed once");
    std::fs::remove_file(&file).unwrap();
    let error = fetch(&client).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "its file may be written at this moment: {error}");
}

#[tokio::test]
async fn a_next_cursor_that_is_an_address_is_asked_as_it_is_and_with_the_files_headers() {
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
    let next = client.next(&first, format!("{url}/people?page=2&size=2&appid=S3CRET&q=a%20b")).unwrap();
    assert_eq!(next, format!("{url}/people?page=2&{{size}}&{{appid}}&q=a%20b"), "what is kept holds nothing of the file's own query");
    fetch_at(&client, Some(&next)).await.unwrap();
    let asked = seen.await.unwrap();
    assert_eq!(asked[0].0, "/people?size=2&appid=S3CRET");
    assert_eq!(asked[1], ("/people?page=2&size=2&appid=S3CRET&q=a%20b".to_owned(), "x-key: k".to_owned()));
}

#[tokio::test]
async fn a_next_cursor_that_is_an_address_elsewhere_is_refused_with_that_word() {
    let url = server(|_| answer("200 OK", "", b"[]")).await;
    let client = client(&format!("{url}/people"), "cursor = { next = \"/next\", param = \"page\" }");
    let first = fetch_at(&client, None).await.unwrap();
    for (next, cause) in [
        ("http://evil.example/people?page=2&key=hunter2", "to another host, http://evil.example/people"),
        ("http://127.0.0.1:1/people?page=2", "to another port, http://127.0.0.1:1/people"),
        ("https://[/", "nowhere: "),
    ] {
        let error = client.next(&first, next.to_owned()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the next cursor is an address") && text.contains(cause) && !text.contains("hunter2"), "{text}");
        assert_eq!(error.class(), Class::Rejected);
        assert!(matches!(fetch_at(&client, Some(next)).await, Err(FetchError::NextAddress { .. })), "nor one that was kept");
    }
    for opaque in ["a/b+c==", "/wEPDwUK", "2", "ftp://x/"] {
        assert_eq!(client.next(&first, opaque.to_owned()).unwrap(), opaque, "it is a cursor, and no address");
    }
    assert_eq!(client.next(&first, "?page=2".to_owned()).unwrap(), format!("{url}/people?page=2"));
}

#[tokio::test]
async fn a_link_to_a_next_page_is_seen() {
    let url = server(|_| answer("200 OK", "LINK: </issues?page=2>; rel=\"next\", </issues?page=3>; rel=\"last\"\r\n", b"[]")).await;
    assert!(fetch_at(&client(&format!("{url}/issues"), ""), None).await.unwrap().link);
    assert!(!fetch_at(&client(&format!("{url}/issues?page=2"), ""), None).await.unwrap().link, "it is this page");
}
