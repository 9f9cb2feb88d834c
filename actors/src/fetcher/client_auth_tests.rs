//! How the client authenticates, against a local API and a local server of tokens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::client::Client;
use super::client_tests::{client, fetch, pipeline};
use super::error::FetchError;
use super::test_server::{answer, server_of_requests};
use forebay_schemas::error_class::{Class, Classified as _};

/// A file of a secret, of mode 0600.
fn secret(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, format!("{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!("{{ file = {file:?} }}")
}

fn header(request: &str, name: &str) -> String {
    request.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
}

/// An API that answers 200 to this `Authorization`, and else 401 with the header that it got.
async fn api(wanted: Arc<Mutex<String>>) -> String {
    server_of_requests(move |request| {
        let got = header(request, "authorization");
        if got == *wanted.lock() { answer("200 OK", "", b"[]") } else { answer("401 Unauthorized", "", format!("not {got}").as_bytes()) }
    })
    .await
}

#[tokio::test]
async fn a_text_comes_before_a_secret_and_each_way_makes_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let (token, password) = (secret(&folder, "token", "hunter2-hunter2"), secret(&folder, "password", "pass:wörd"));
    let prefixed = token.replace("{ ", "{ prefix = \"Token token=\", ");
    for (more, wanted) in [
        (format!("headers = {{ Authorization = {prefixed} }}"), "Token token=hunter2-hunter2"),
        (format!("auth = {{ bearer = {token} }}"), "Bearer hunter2-hunter2"),
        (format!("auth = {{ basic = {{ username = \"me\", password = {password} }} }}"), "Basic bWU6cGFzczp3w7ZyZA=="),
        (format!("auth = {{ basic = {{ username = {token}, password = {password} }} }}"), "Basic aHVudGVyMi1odW50ZXIyOnBhc3M6d8O2cmQ="),
    ] {
        let expected = Arc::new(Mutex::new(wanted.to_owned()));
        let url = api(Arc::clone(&expected)).await;
        let client = client(&url, &more);
        assert_eq!(fetch(&client).await.unwrap(), b"[]", "{more}");
        *expected.lock() = "other".to_owned();
        let error = fetch(&client).await.unwrap_err();
        let (text, value) = (error.to_string(), wanted.rsplit(' ').next().unwrap());
        assert!(text.ends_with("answered 401 Unauthorized: not ***") && !text.contains(value) && error.is_retryable(), "{text}");
        assert!(!format!("{client:?}").contains("hunter2"));
    }
}

#[test]
fn a_missing_secret_is_named_by_its_key() {
    let pipeline = pipeline("http://127.0.0.1:1/", "auth = { bearer = { file = \"no/such\" } }");
    let error = Client::new(&pipeline, pipeline.fetcher.as_ref().unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("fetcher.auth.bearer: can't read the secret file no/such"), "{error}");
}

/// A server of tokens that answers with these, one after the other, and the requests it got.
async fn token_server(answers: &[(&'static str, &'static str)]) -> (String, Arc<Mutex<Vec<String>>>) {
    let (answers, asked) = (Mutex::new(answers.to_vec()), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&asked);
    let url = server_of_requests(move |request| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        seen.lock().push(format!("{} {}", header(head, "authorization"), body).trim().to_owned());
        let mut answers = answers.lock();
        let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        answer(status, "content-type: application/json\r\n", body.as_bytes())
    })
    .await;
    (format!("{url}/token"), asked)
}

async fn fetch_wall(client: &Client, seconds: u64) -> Result<(), FetchError> {
    client
        .fetch(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), &forebay_schemas::source_read::ReadParams::default(), None)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_token_is_requested_once_until_its_end_and_once_more_when_the_api_refuses_it() {
    let folder = tempfile::tempdir().unwrap();
    let client_secret = secret(&folder, "secret", "s3cret/+");
    let (token_url, asked) = token_server(&[
        ("200 OK", r#"{"access_token": "token-1", "expires_in": 3600, "token_type": "bearer"}"#),
        ("200 OK", r#"{"access_token": "token-2", "expires_in": "3600"}"#),
        ("200 OK", r#"{"access_token": "token-3"}"#),
        ("200 OK", r#"{"access_token": "token-4"}"#),
    ])
    .await;
    let wanted = Arc::new(Mutex::new("Bearer token-1".to_owned()));
    let more = format!(
        "[fetcher.auth.oauth2]\ntoken_url = \"{token_url}\"\nclient_id = \"me\"\nclient_secret = {client_secret}\nscope = \"read all\"\nparams = {{ \
         audience = \"a&b\" }}\n"
    );
    let client = client(&api(Arc::clone(&wanted)).await, &more);
    for seconds in [0, 1_000, 3_539] {
        fetch_wall(&client, seconds).await.unwrap();
    }
    // me:s3cret%2F%2B
    let first = "Basic bWU6czNjcmV0JTJGJTJC grant_type=client_credentials&scope=read+all&audience=a%26b";
    assert_eq!(*asked.lock(), [first], "one token for three requests");
    "Bearer token-2".clone_into(&mut wanted.lock());
    fetch_wall(&client, 3_540).await.unwrap();
    assert_eq!(asked.lock().len(), 2, "a minute before its end there is another");
    "Bearer token-3".clone_into(&mut wanted.lock());
    fetch_wall(&client, 3_541).await.unwrap();
    assert_eq!(asked.lock().len(), 3, "a refused one is replaced at once");
    "Bearer other".clone_into(&mut wanted.lock());
    let error = fetch_wall(&client, 3_542).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().ends_with("answered 401 Unauthorized: not ***"), "{error}");
    assert_eq!(asked.lock().len(), 4, "once, not for ever");
}

#[tokio::test]
async fn a_refresh_token_is_replaced_by_the_one_that_the_server_gives() {
    let folder = tempfile::tempdir().unwrap();
    let refresh = secret(&folder, "refresh", "first");
    let (token_url, asked) = token_server(&[
        ("200 OK", r#"{"access_token": "token", "expires_in": 60, "refresh_token": "second"}"#),
        ("200 OK", r#"{"access_token": "token", "expires_in": 60}"#),
    ])
    .await;
    let more = format!(
        "[fetcher.auth.oauth2]\ntoken_url = \"{token_url}\"\nclient_id = \"me\"\nrefresh_token = {refresh}\nclient_auth = \"body\"\n"
    );
    let client = client(&api(Arc::new(Mutex::new("Bearer token".to_owned()))).await, &more);
    fetch_wall(&client, 0).await.unwrap();
    fetch_wall(&client, 30).await.unwrap();
    secret(&folder, "refresh", "third");
    fetch_wall(&client, 60).await.unwrap();
    let of = |token: &str| format!("grant_type=refresh_token&refresh_token={token}&client_id=me");
    assert_eq!(*asked.lock(), [of("first"), of("second"), of("third")]);
}

#[tokio::test]
async fn a_refusal_of_the_server_of_tokens_is_told_from_an_outage() {
    let folder = tempfile::tempdir().unwrap();
    let client_secret = secret(&folder, "secret", "s3cret-s3cret");
    for (status, body, class, text) in [
        (
            "401 Unauthorized",
            r#"{"error": "invalid_client", "error_description": "unknown s3cret-s3cret"}"#,
            Class::Rejected,
            "it answered 401 Unauthorized: invalid_client: unknown ***",
        ),
        ("503 Service Unavailable", "later", Class::Transient, "it answered 503 Service Unavailable: later"),
        ("200 OK", r#"{"token": "x"}"#, Class::Rejected, "its answer has no access_token"),
        ("302 Found", "", Class::Rejected, "it answered 302 Found"),
    ] {
        let (token_url, _) = token_server(&[(status, body)]).await;
        let more = format!("[fetcher.auth.oauth2]\ntoken_url = \"{token_url}\"\nclient_id = \"me\"\nclient_secret = {client_secret}\n");
        let error = fetch_wall(&client("http://127.0.0.1:1/", &more), 0).await.unwrap_err();
        assert_eq!((error.class(), error.is_retryable()), (class, class == Class::Transient), "{error}");
        let wanted = format!("no token from {token_url} (fetcher.auth.oauth2): {text}");
        assert!(error.to_string().starts_with(&wanted) && !error.to_string().contains("s3cret"), "{error}");
        assert_eq!(error.status_class(), None, "the API got no request");
    }
}
