//! Where looks come from: the process itself, or its API from anywhere.
//!
//! Guarantee: keys never wait for a look (each source polls in a task of its own, the loop reads only the newest result), and a source
//! that fails is asked again for ever, ever less often, up to 5 s apart. Not guaranteed: that each look is seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay_schemas::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::SourceError;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(500);
/// The longest pause while a source fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most time an answer may take.
const TIME_OUT: Duration = Duration::from_secs(2);
/// The largest answer that is read: far above a snapshot of thousands of partitions.
const LARGEST: usize = 16 << 20;

/// Where looks come from.
#[derive(Clone)]
pub enum Source {
    /// A function of the same process.
    InProcess(Arc<dyn Fn() -> Snapshot + Send + Sync>),
    /// `GET {url}/v1/snapshot`.
    Http {
        /// The address of the API, such as `http://127.0.0.1:7070`.
        url: String,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess(_) => f.write_str("InProcess"),
            Self::Http { url } => f.debug_struct("Http").field("url", url).finish(),
        }
    }
}

impl Source {
    /// One look, now.
    ///
    /// # Errors
    /// Whatever kept an HTTP source from answering; a source in the process does not fail.
    pub async fn look(&self) -> Result<Snapshot, SourceError> {
        match self {
            Self::InProcess(look) => Ok(look()),
            Self::Http { url } => get(&client()?, &endpoint(url)).await,
        }
    }

    /// Polls in a task of its own until what it returns is dropped.
    pub(crate) fn follow(self) -> Looks {
        let (sender, newest) = watch::channel(None);
        let task = tokio::spawn(poll(self, sender));
        Looks { newest, task }
    }
}

/// The newest result of a source that is being polled.
pub(crate) struct Looks {
    newest: watch::Receiver<Option<Result<Arc<Snapshot>, String>>>,
    task: JoinHandle<()>,
}

impl Looks {
    /// Waits for a result not yet seen. Never resolves once the source is gone, so that the loop lives on what it has.
    pub(crate) async fn next(&mut self) -> Result<Arc<Snapshot>, String> {
        loop {
            if self.newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some(result) = self.newest.borrow_and_update().clone() {
                return result;
            }
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(source: Source, newest: watch::Sender<Option<Result<Arc<Snapshot>, String>>>) {
    let client = match source {
        Source::InProcess(_) => None,
        Source::Http { .. } => match client() {
            Ok(client) => Some(client),
            Err(error) => return drop(newest.send(Some(Err(error.to_string())))),
        },
    };
    let mut failures = 0_u32;
    loop {
        let look = match (&source, &client) {
            (Source::InProcess(look), _) => Ok(look()),
            (Source::Http { url }, Some(client)) => get(client, &endpoint(url)).await,
            (Source::Http { .. }, None) => return,
        };
        failures = if look.is_ok() { 0 } else { failures.saturating_add(1) };
        if newest.send(Some(look.map(Arc::new).map_err(|error| error.to_string()))).is_err() {
            return;
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

/// The pause before the next look, after so many failures in a row.
fn pause(failures: u32) -> Duration {
    EVERY.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}

fn endpoint(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let scheme = if url.contains("://") { "" } else { "http://" };
    format!("{scheme}{url}/v1/snapshot")
}

fn client() -> Result<reqwest::Client, SourceError> {
    reqwest::Client::builder().no_proxy().connect_timeout(TIME_OUT).timeout(TIME_OUT).build().map_err(SourceError::Client)
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Snapshot, SourceError> {
    let unreachable = |error: reqwest::Error| SourceError::Unreachable { url: url.to_owned(), cause: innermost(&error) };
    let mut response = client.get(url).send().await.map_err(unreachable)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(SourceError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LARGEST {
            return Err(SourceError::TooLarge { url: url.to_owned(), limit: LARGEST });
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|cause| SourceError::NotASnapshot { url: url.to_owned(), cause })
}

/// The cause that says most: reqwest's own message only repeats the address.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("timed out after {} s", TIME_OUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_failing_source_is_asked_ever_less_often_up_to_five_seconds() {
        let pauses: Vec<_> = (0..6).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn an_address_may_lack_the_scheme_and_may_end_in_a_slash() {
        for url in ["127.0.0.1:7070", "http://127.0.0.1:7070", "http://127.0.0.1:7070/"] {
            assert_eq!(endpoint(url), "http://127.0.0.1:7070/v1/snapshot");
        }
    }

    /// Answers one request with `status` and `body`, and says where.
    async fn answer_once(status: &'static str, body: String) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        url
    }

    #[tokio::test]
    async fn a_look_over_http_is_the_look_itself() {
        let url = answer_once("200 OK", serde_json::to_string(&fixture::busy()).unwrap()).await;
        assert_eq!(Source::Http { url }.look().await.unwrap(), fixture::busy());
    }

    #[tokio::test]
    async fn an_answer_that_is_no_snapshot_says_so_and_what_to_check() {
        let url = answer_once("200 OK", "{}".to_owned()).await;
        let error = Source::Http { url }.look().await.unwrap_err().to_string();
        assert!(error.contains("something else than a snapshot") && error.contains("one version"), "{error}");
        let url = answer_once("404 Not Found", String::new()).await;
        let error = Source::Http { url }.look().await.unwrap_err().to_string();
        assert!(error.contains("answered 404"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_named_with_the_cause() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Source::Http { url: url.clone() }.look().await.unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn following_a_source_in_the_process_gives_its_looks() {
        let mut looks = Source::InProcess(Arc::new(fixture::busy)).follow();
        assert_eq!(*looks.next().await.unwrap(), fixture::busy());
    }
}
