//! Talks to the control API of a running pipeline.

use std::path::Path;
use std::time::Duration;

use forebay_schemas::api::{Applied, ApplyRequest, Plan, PlanRequest};
use forebay_schemas::pipeline::{ApiTable, Pipeline};
use forebay_schemas::run::{Problem, Run, RunRequest};
use forebay_schemas::snapshot::Snapshot;
use forebay_tui::root_cause;
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::end::End;
use crate::talk::Talk;

/// The longest that an answer other than a long poll may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one long poll waits for a change.
const POLL: Duration = Duration::from_secs(20);
/// How long applying a plan may take.
const APPLY: Duration = Duration::from_secs(600);

/// The API of one running pipeline.
pub(crate) struct ApiClient {
    /// As it is shown.
    url: String,
    /// What requests are made to.
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// Which API a command asks.
#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// The API of the running pipeline, or unix:PATH; default: `[api] listen` of the pipeline file, else http://127.0.0.1:7070
    #[arg(long, value_name = "URL", env = "FOREBAY_URL")]
    pub(crate) url: Option<String>,
    /// The token to show, where the API asks for one; better given in the environment, where no list of processes shows it
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl Target {
    /// The address: the one named, else the pipeline file's, else the default.
    pub(crate) fn url(&self, global: &crate::Global) -> Result<String, End> {
        if let Some(url) = &self.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        match crate::pipeline_path(global) {
            Ok(path) => Ok(address_of(&forebay_schemas::pipeline::load(&path)?)),
            Err(_) if global.config.is_none() => Ok(format!("http://{}", ApiTable::default().listen)),
            Err(end) => Err(end),
        }
    }

    /// A client of it.
    pub(crate) fn client(&self, global: &crate::Global) -> Result<ApiClient, End> {
        ApiClient::new(self.url(global)?, self.token.clone())
    }
}

/// Where the API of a pipeline is asked from this machine.
pub(crate) fn address_of(pipeline: &Pipeline) -> String {
    match pipeline.api.socket() {
        Some(socket) => format!("unix:{}", pipeline.relative(Path::new(socket)).display()),
        // Who listens on all addresses listens on loopback.
        None => format!("http://{}", pipeline.api.listen.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1)),
    }
}

impl ApiClient {
    /// Of the API at an address, or at a unix socket.
    fn new(url: String, token: Option<String>) -> Result<Self, End> {
        let mut builder = reqwest::Client::builder().no_proxy();
        let address = match url.strip_prefix("unix:") {
            Some(path) => {
                builder = builder.unix_socket(Path::new(path));
                "http://localhost"
            }
            None => &url,
        };
        let base: Url = address
            .parse()
            .ok()
            .filter(|base: &Url| matches!(base.scheme(), "http" | "https"))
            .ok_or_else(|| End::usage(format!("{url:?} is not an HTTP address"), "write it as http://127.0.0.1:7070, or unix:PATH"))?;
        let http = builder.build().expect("a client with nothing to load can be built");
        Ok(Self { url, base, http, token })
    }

    /// What is at a path.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, End> {
        self.ask(Method::GET, path, query, None::<&()>, TIMEOUT).await
    }

    /// Puts something at a path.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, End> {
        self.ask(Method::PUT, path, &[], Some(body), TIMEOUT).await
    }

    /// Posts something to a path.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, End> {
        let timeout = if path.last() == Some(&"apply") { APPLY } else { TIMEOUT };
        self.ask(Method::POST, path, &[], Some(body), timeout).await
    }

    /// The pipeline as it is now.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, End> {
        self.get(&["v1", "snapshot"], &[]).await
    }

    /// Asks for a run under a key.
    pub(crate) async fn request_run(&self, pipeline: &str, key: &str, request: &RunRequest) -> Result<Run, End> {
        self.put(&["v1", "pipelines", pipeline, "runs", key], request).await
    }

    /// Waits for a run to change, a while at most; gives it as it is then.
    pub(crate) async fn poll_run(&self, id: Uuid, at_most: Duration) -> Result<Run, End> {
        let wait = at_most.min(POLL);
        let query = [("wait", format!("{}ms", wait.as_millis()))];
        self.ask(Method::GET, &["v1", "runs", &id.to_string()], &query, None::<&()>, wait + TIMEOUT).await
    }

    /// Has something planned, and says what it would do; with a reason it is done, and what it came to is given.
    pub(crate) async fn plan(&self, talk: &Talk, request: &PlanRequest, reason: Option<&str>) -> Result<Option<Applied>, End> {
        let name = self.snapshot().await?.pipeline;
        let plan: Plan = self.post(&["v1", "pipelines", &name, "plans"], request).await?;
        if !talk.json() {
            plan.effects.iter().for_each(|effect| talk.data(effect));
        }
        let Some(reason) = reason else {
            if talk.json() {
                talk.data(&serde_json::to_string(&plan).expect("a plan is JSON"));
            } else {
                talk.say("a dry run: nothing was done; with --reason and --yes it is");
            }
            return Ok(None);
        };
        let body = ApplyRequest { hash: plan.hash, reason: reason.to_owned() };
        let applied: Applied = self.post(&["v1", "plans", &plan.id.to_string(), "apply"], &body).await?;
        if talk.json() {
            talk.data(&serde_json::to_string(&applied).expect("what was applied is JSON"));
        }
        Ok(Some(applied))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, End> {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an HTTP address has a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).timeout(timeout);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.body(request.send().await).await
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
            Ok(Problem { title, detail, remedy, .. }) => {
                let message = format!("{}: {detail}", title.trim_end_matches('.'));
                if status.is_server_error() { End::environment(message, remedy) } else { End::failed(message, remedy) }
            }
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
