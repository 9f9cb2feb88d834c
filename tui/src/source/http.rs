//! HTTP client of a running process: snapshots, events and requests.

use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::api::{Applied, ApplyRequest, Reason, StateRequest};
use forebay_schemas::api_address::ApiAddress;
use forebay_schemas::event::{Recorded, decode};
use forebay_schemas::run::{Problem, Run};
use forebay_schemas::snapshot::Snapshot;
use reqwest::{ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use super::sse::Parser;
use super::tls_failure::TlsFailure;
use super::{POLL_INTERVAL, retry_delay};
use crate::error::SourceError;
use crate::state::operation_dialog::{ConfirmedOperation, Operation};
use crate::state::{ApiRequest, ApiResponse, Update};

/// The timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of a request that changes the pipeline.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// The API sends something at least every 15 s. After this silence the connection counts as lost.
const STREAM_TIMEOUT: Duration = Duration::from_secs(40);
/// The maximum size of a response, far above a snapshot with thousands of partitions.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// The maximum number of past events to read on the first connection.
const MAX_PAST_EVENTS: u64 = 20_000;
/// The maximum number of events per update.
const MAX_EVENTS_PER_UPDATE: usize = 1_000;
/// The number of records to request.
const RECORD_LIMIT: usize = 50;
const DEAD_LETTER_LIMIT: usize = 200;
/// The number of log lines to request at a time.
const LOG_LIMIT: usize = 1_000;

/// A Forebay API, as a client of it reaches it.
#[derive(Clone)]
pub struct Api {
    /// Its address.
    pub address: ApiAddress,
    /// The bearer token, if the API requires one.
    pub token: Option<String>,
    /// The HTTP client. It uses no proxy.
    pub http: reqwest::Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Api {
    /// An API at an address. `builder` has the certificates that are trusted.
    ///
    /// # Errors
    /// When a certificate can't be used.
    pub fn new(address: ApiAddress, token: Option<String>, builder: ClientBuilder) -> reqwest::Result<Self> {
        let builder = match &address {
            ApiAddress::Unix(path) => builder.unix_socket(path.as_path()),
            ApiAddress::Http(_) => builder,
        };
        Ok(Self { http: builder.no_proxy().build()?, address, token })
    }

    /// Reads one snapshot.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn snapshot(&self) -> Result<Snapshot, SourceError> {
        Client::new(self).snapshot().await
    }
}

#[derive(Clone)]
pub(super) struct Client(Api);

impl Client {
    pub(super) fn new(api: &Api) -> Self {
        Self(api.clone())
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.0.address.base();
        url.path_segments_mut().expect("an HTTP address has a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.0.http.request(method, url);
        match &self.0.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> SourceError {
        let url = self.0.address.to_string();
        match TlsFailure::of(error) {
            Some(TlsFailure { message, remedy }) => SourceError::Tls { url, message, remedy },
            None => SourceError::Unreachable { url, cause: describe(error) },
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, SourceError> {
        let response = self.request(Method::GET, &["v1", "snapshot"], &[]).timeout(REQUEST_TIMEOUT).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status() != StatusCode::OK {
            return Err(SourceError::Status { url: self.0.address.to_string(), status: response.status().as_u16() });
        }
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|cause| SourceError::NotASnapshot { url: self.0.address.to_string(), cause })
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(SourceError::TooLarge { url: self.0.address.to_string(), limit: MAX_RESPONSE_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads snapshots until the receiver is dropped.
    pub(super) async fn poll(self, updates: mpsc::Sender<Update>, reconnect: Arc<Notify>) {
        let mut failures = 0_u32;
        loop {
            let update = match self.snapshot().await {
                Ok(snapshot) => {
                    failures = 0;
                    Update::Snapshot(Arc::new(snapshot))
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    Update::SourceFailed(error.to_string())
                }
            };
            if updates.send(update).await.is_err() {
                return;
            }
            wait(if failures == 0 { POLL_INTERVAL } else { retry_delay(failures - 1) }, &reconnect).await;
        }
    }

    /// Follows the events until the receiver is dropped.
    pub(super) async fn follow(self, updates: mpsc::Sender<Update>, reconnect: Arc<Notify>) {
        let mut last: Option<Arc<Recorded>> = None;
        let mut failures = 0_u32;
        while !updates.is_closed() {
            let before = last.as_ref().map(|last| last.seq);
            // Errors are ignored here, because `poll` reports them.
            let _ = self.events(&mut last, &updates).await;
            failures = if last.as_ref().map(|last| last.seq) == before { failures.saturating_add(1) } else { 0 };
            wait(retry_delay(failures), &reconnect).await;
        }
    }

    /// Follows the events over one connection.
    async fn events(&self, last: &mut Option<Arc<Recorded>>, updates: &mpsc::Sender<Update>) -> Result<(), String> {
        let newest = self.snapshot().await.map_err(|error| error.to_string())?.seq;
        // Requests the last known event again. If it differs, the journal was replaced.
        let mut known = last.clone().filter(|last| last.seq <= newest);
        if last.is_some() && known.is_none() {
            *last = None;
            journal_replaced(updates).await?;
        }
        let from = known.as_ref().map_or_else(|| newest.saturating_sub(MAX_PAST_EVENTS) + 1, |last| last.seq);
        let response = self.request(Method::GET, &["v1", "events"], &[("from", from.to_string())]).send();
        let mut response = tokio::time::timeout(REQUEST_TIMEOUT, response)
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("{} answered {}", self.0.address, response.status()));
        }
        let mut parser = Parser::default();
        loop {
            let chunk = tokio::time::timeout(STREAM_TIMEOUT, response.chunk())
                .await
                .map_err(|_| "silence".to_owned())?
                .map_err(|error| error.to_string())?;
            let Some(chunk) = chunk else { return Ok(()) };
            let mut events = Vec::new();
            for json in parser.feed(&chunk)? {
                let event = decode(&json).map_err(|error| error.to_string())?;
                if let Some(known) = known.take() {
                    if *known == event {
                        continue;
                    }
                    *last = None;
                    journal_replaced(updates).await?;
                    return Err("the journal was replaced".to_owned());
                }
                events.push(Arc::new(event));
            }
            for events in events.chunks(MAX_EVENTS_PER_UPDATE) {
                *last = events.last().cloned();
                updates.send(Update::Events(events.to_vec())).await.map_err(|_| "the receiver is gone".to_owned())?;
            }
        }
    }

    /// Serves requests one after the other.
    pub(super) async fn serve_requests(self, mut requests: mpsc::Receiver<ApiRequest>, updates: mpsc::Sender<Update>) {
        while let Some(request) = requests.recv().await {
            let response = match request {
                ApiRequest::WhoAmI => ApiResponse::WhoAmI(self.get(&["v1", "whoami"], &[]).await),
                ApiRequest::Batch(id) => ApiResponse::Batch(id, self.get(&["v1", "batches", &id.to_string()], &[]).await.map(Box::new)),
                ApiRequest::Records => ApiResponse::Records(self.get(&["v1", "records"], &[("limit", RECORD_LIMIT.to_string())]).await),
                ApiRequest::DeadLetters => {
                    ApiResponse::DeadLetters(self.get(&["v1", "dlq"], &[("limit", DEAD_LETTER_LIMIT.to_string())]).await.map(Box::new))
                }
                ApiRequest::Logs(after) => {
                    ApiResponse::Logs(self.get(&["v1", "logs"], &[("after", after.to_string()), ("limit", LOG_LIMIT.to_string())]).await)
                }
                ApiRequest::Plan(pipeline, request) => {
                    let path = ["v1", "pipelines", &pipeline, "plans"];
                    ApiResponse::Plan(self.send(Method::POST, &path, &request).await.map(Box::new))
                }
                ApiRequest::Operate(confirmed) => ApiResponse::Operated(self.operate(&confirmed).await),
            };
            if updates.send(Update::Response(response)).await.is_err() {
                return;
            }
        }
    }

    async fn operate(&self, confirmed: &ConfirmedOperation) -> Result<String, String> {
        let reason = Reason { reason: confirmed.reason.clone() };
        let done = confirmed.operation.title();
        match (&confirmed.operation, &confirmed.plan) {
            (Operation::State(state), _) => {
                let path = ["v1", "pipelines", &confirmed.pipeline, "state"];
                let request = StateRequest { state: *state, reason: confirmed.reason.clone() };
                self.send::<serde_json::Value>(Method::PUT, &path, &request).await?;
            }
            (Operation::Restart(actor), _) => {
                let path: Vec<&str> = ["v1", "actors"].into_iter().chain(actor.split('/')).chain(["restart"]).collect();
                self.send::<serde_json::Value>(Method::POST, &path, &reason).await?;
            }
            (Operation::Cancel(run), _) => {
                let run: Run = self.send(Method::POST, &["v1", "runs", &run.to_string(), "cancel"], &reason).await?;
                return Ok(format!("done: run {} is {:?}", run.key, run.state).to_lowercase());
            }
            (Operation::Redrive(_) | Operation::Replay(_), Some((plan, hash))) => {
                let request = ApplyRequest { hash: hash.clone(), reason: confirmed.reason.clone() };
                let applied: Applied = self.send(Method::POST, &["v1", "plans", &plan.to_string(), "apply"], &request).await?;
                return Ok(format!("done: {done}, {} records", applied.records));
            }
            (Operation::Redrive(_) | Operation::Replay(_), None) => return Err("no plan to apply".to_owned()),
        }
        Ok(format!("done: {done}"))
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, String> {
        self.result(self.request(Method::GET, path, query).timeout(REQUEST_TIMEOUT * 2)).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &[&str], body: &(impl Serialize + Sync)) -> Result<T, String> {
        self.result(self.request(method, path, &[]).timeout(OPERATION_TIMEOUT).json(body)).await
    }

    async fn result<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, String> {
        let response = request.send().await.map_err(|error| self.unreachable(&error).to_string())?;
        let status = response.status();
        let body = self.body(response).await.map_err(|error| error.to_string())?;
        if status.is_success() {
            let body: &[u8] = if body.is_empty() { b"null" } else { &body };
            return serde_json::from_slice(body).map_err(|cause| format!("{} answered with unexpected JSON: {cause}", self.0.address));
        }
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => {
                let parts = [problem.title, problem.detail, problem.remedy];
                parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
            }
            Err(_) => format!("{} answered {status}", self.0.address),
        })
    }
}

async fn journal_replaced(updates: &mpsc::Sender<Update>) -> Result<(), String> {
    updates.send(Update::JournalReplaced).await.map_err(|_| "the receiver is gone".to_owned())
}

async fn wait(delay: Duration, reconnect: &Notify) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = reconnect.notified() => {}
    }
}

/// The most specific cause; reqwest's own message only repeats the address.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("timed out after {} s", REQUEST_TIMEOUT.as_secs());
    }
    crate::error::root_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Starts a server that answers each request with the result of `answer` and closes the
    /// connection. Returns its address.
    async fn server(mut answer: impl FnMut(&str) -> String + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..n]).into_owned();
                let _ = stream.write_all(answer(&text).as_bytes()).await;
            }
        });
        url
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn api(url: &str) -> Api {
        Api::new(url.parse().unwrap(), Some("secret".to_owned()), reqwest::Client::builder()).unwrap()
    }

    #[tokio::test]
    async fn a_snapshot_over_http_is_unchanged_and_the_token_is_sent() {
        let url = server(|request| {
            assert!(request.to_lowercase().contains("authorization: bearer secret"), "{request}");
            ok(&serde_json::to_string(&test_data::busy()).unwrap())
        });
        let url = url.await;
        let bare = url.trim_start_matches("http://");
        assert_eq!(api(&url).snapshot().await.unwrap(), test_data::busy());
        assert_eq!(api(bare).snapshot().await.unwrap(), test_data::busy(), "an address may lack the scheme");
        assert!(!format!("{:?}", api(&url)).contains("secret"));
    }

    #[tokio::test]
    async fn a_response_that_is_not_a_snapshot_says_what_to_check() {
        let error = api(&server(|_| ok("{}")).await).snapshot().await.unwrap_err().to_string();
        assert!(error.contains("did not answer with a snapshot") && error.contains("same version"), "{error}");
        let error = api(&server(|_| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned()).await)
            .snapshot()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("answered 404"), "{error}");
    }

    #[tokio::test]
    async fn a_refused_connection_is_reported_with_address_and_cause() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = api(&url).snapshot().await.unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_unix_socket_is_a_valid_address() {
        let dir = std::env::temp_dir().join(format!("forebay-tui-{}", std::process::id()));
        let _ = std::fs::remove_file(&dir);
        let listener = tokio::net::UnixListener::bind(&dir).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(ok(&serde_json::to_string(&test_data::busy()).unwrap()).as_bytes()).await.unwrap();
        });
        assert_eq!(api(&format!("unix:{}", dir.display())).snapshot().await.unwrap(), test_data::busy());
        let _ = std::fs::remove_file(&dir);
    }

    fn stream(events: &[Recorded]) -> String {
        let text: String =
            events.iter().map(|event| format!("id: {}\ndata: {}\n\n", event.seq, String::from_utf8(event.encode()).unwrap())).collect();
        ok(&text)
    }

    #[tokio::test]
    async fn events_resume_after_a_lost_connection_and_restart_in_another_journal() {
        let history = test_data::history(9);
        let mut connections = 0;
        let url = server(move |request| {
            let snapshot = |seq| ok(&serde_json::to_string(&Snapshot { seq, ..test_data::busy() }).unwrap());
            if request.starts_with("GET /v1/snapshot") {
                return snapshot(if connections < 2 { 6 } else { 3 });
            }
            connections += 1;
            match connections {
                1 => {
                    assert!(request.contains("?from=1 "), "{request}");
                    stream(&history[..4])
                }
                2 => {
                    assert!(request.contains("?from=4 "), "{request}");
                    stream(&history[3..6])
                }
                _ => {
                    assert!(request.contains("?from=1 "), "a shorter journal is another one: {request}");
                    stream(&history[..3])
                }
            }
        })
        .await;
        let (sender, mut updates) = mpsc::channel(8);
        let reconnect = Arc::new(Notify::new());
        let task = tokio::spawn(Client::new(&api(&url)).follow(sender, Arc::clone(&reconnect)));
        let mut seqs = Vec::new();
        while seqs.len() < 10 {
            reconnect.notify_waiters();
            match updates.recv().await.unwrap() {
                Update::Events(events) => seqs.extend(events.iter().map(|event| event.seq)),
                Update::JournalReplaced => seqs.push(0),
                other => panic!("{other:?}"),
            }
        }
        task.abort();
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_refusal_repeats_the_problem_of_the_api() {
        let problem =
            r#"{"type":"auth.forbidden","title":"not allowed","status":403,"detail":"viewer may look","remedy":"use another token"}"#;
        let url =
            server(move |_| format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{problem}", problem.len()))
                .await;
        let why = Client::new(&api(&url)).get::<Snapshot>(&["v1", "whoami"], &[]).await.unwrap_err();
        assert_eq!(why, "not allowed; viewer may look; use another token");
    }

    #[test]
    fn path_segments_are_escaped() {
        let url = |base: &str| {
            let client = Client::new(&api(base));
            client.request(Method::GET, &["v1", "a b/ü?"], &[("limit", "5".to_owned())]).build().unwrap().url().to_string()
        };
        assert_eq!(url("127.0.0.1:7070/"), "http://127.0.0.1:7070/v1/a%20b%2F%C3%BC%3F?limit=5");
        assert_eq!(url("unix:/run/forebay.sock"), "http://localhost/v1/a%20b%2F%C3%BC%3F?limit=5");
    }
}
