//! Talks to the control API of a running pipeline.

use std::time::Duration;

use forebay_schemas::run::{Problem, Run, RunRequest};
use forebay_schemas::snapshot::Snapshot;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::end::End;

/// The longest that an answer other than a long poll may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one long poll waits for a change.
const POLL: Duration = Duration::from_secs(20);

/// The API of one running pipeline.
pub(crate) struct ApiClient {
    url: String,
    http: reqwest::Client,
}

/// Which API a command asks.
#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// The API of the running pipeline; default: `[api] listen` of the pipeline file, else http://127.0.0.1:7070
    #[arg(long, value_name = "URL", env = "FOREBAY_URL")]
    pub(crate) url: Option<String>,
}

impl Target {
    /// The address: the one named, else the pipeline file's, else the default.
    pub(crate) fn url(&self, global: &crate::Global) -> Result<String, End> {
        if let Some(url) = &self.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let listen = match crate::pipeline_path(global) {
            Ok(path) => forebay_schemas::pipeline::load(&path)?.api.listen,
            Err(_) if global.config.is_none() => forebay_schemas::pipeline::ApiTable::default().listen,
            Err(end) => return Err(end),
        };
        Ok(format!("http://{listen}"))
    }
}

impl ApiClient {
    /// Of the API at an address.
    pub(crate) fn new(url: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client with nothing to load can be built");
        Self { url, http }
    }

    /// The pipeline as it is now.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, End> {
        let answer = self.http.get(format!("{}/v1/snapshot", self.url)).timeout(TIMEOUT).send().await;
        self.body(answer).await
    }

    /// Asks for a run under a key.
    pub(crate) async fn request_run(&self, pipeline: &str, key: &str, attempt: u32) -> Result<Run, End> {
        let mut url: reqwest::Url =
            self.url.parse().map_err(|_| End::usage(format!("{:?} is not an address", self.url), "write it as http://127.0.0.1:7070"))?;
        url.path_segments_mut()
            .map_err(|()| End::usage(format!("{:?} is not an HTTP address", self.url), "write it as http://127.0.0.1:7070"))?
            .extend(["v1", "pipelines", pipeline, "runs", key]);
        let answer = self.http.put(url).timeout(TIMEOUT).json(&RunRequest { attempt, ..RunRequest::default() }).send().await;
        self.body(answer).await
    }

    /// Waits for a run to change, a while at most; gives it as it is then.
    pub(crate) async fn poll_run(&self, id: Uuid, at_most: Duration) -> Result<Run, End> {
        let wait = at_most.min(POLL);
        let url = format!("{}/v1/runs/{id}?wait={}ms", self.url, wait.as_millis());
        let answer = self.http.get(url).timeout(wait + TIMEOUT).send().await;
        self.body(answer).await
    }

    async fn body<T: DeserializeOwned>(&self, answer: reqwest::Result<Response>) -> Result<T, End> {
        let answer = answer.map_err(|cause| self.unreachable(&cause))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|cause| self.unreachable(&cause))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|cause| {
                End::failed(
                    format!("{} answers what this version does not understand: {cause}", self.url),
                    "use the same version at both ends",
                )
            });
        }
        Err(self.problem(status, &bytes))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> End {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if status.is_server_error() => End::environment(problem.title, problem.detail),
            Ok(problem) => End::failed(problem.title, problem.detail),
            Err(_) => {
                End::environment(format!("{} answers {status}, and not as Forebay does", self.url), "is that the API of `forebay run`?")
            }
        }
    }

    fn unreachable(&self, cause: &reqwest::Error) -> End {
        let why = if cause.is_timeout() { "it does not answer in time".to_owned() } else { root_cause(cause) };
        End::environment(
            format!("no pipeline answers at {}: {why}", self.url),
            "start it with `forebay run` or `forebay demo`, or name its address with --url",
        )
    }
}

/// The innermost cause of an error, which is the one that says something.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
