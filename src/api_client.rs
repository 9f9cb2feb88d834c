//! Client of a running pipeline's control API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_schemas::api::{Applied, ApplyRequest, ChangePlan, PlanRequest};
use forebay_schemas::api_address::{ApiAddress, NotApiAddress};
use forebay_schemas::pipeline::{ApiSection, Pipeline};
use forebay_schemas::run::{Problem, Run, RunRequest};
use forebay_schemas::snapshot::Snapshot;
use forebay_tui::{Api, TlsFailure, root_cause};
use reqwest::{ClientBuilder, Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::api_trust;
use crate::error::CliError;
use crate::global::Global;
use crate::output::{DRY_RUN, Output};

/// Time-out of a request that is not a long poll.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one long poll waits for a change.
pub(crate) const POLL_TIMEOUT: Duration = Duration::from_secs(20);
/// Time-out of applying a plan.
const APPLY_TIMEOUT: Duration = Duration::from_secs(600);

/// The API of one running pipeline.
pub(crate) struct ApiClient(Api);

/// Flags that select the API.
#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// API of the running pipeline: a URL, or unix:PATH. Default: `[api] listen` of the pipeline
    /// file, else http://127.0.0.1:7070
    #[arg(long, value_name = "URL", env = "FOREBAY_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// PEM file of CAs whose certificates an https API may have, besides those of the system.
    /// Default: exactly the certificate of the pipeline file, unless --url is given
    #[arg(long, value_name = "FILE", env = "FOREBAY_CA", hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,
    /// Token for the API. Prefer the environment variable, which process lists do not show
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl Target {
    /// The API: that of `--url`, else that of the pipeline file, else the one at the default
    /// address.
    pub(crate) fn api(&self, global: &Global) -> Result<Api, CliError> {
        let written = |text: &str| {
            text.parse().map_err(|error: NotApiAddress| {
                CliError::usage(error.to_string(), "write http://127.0.0.1:7070, or unix:PATH; a token belongs into FOREBAY_TOKEN")
            })
        };
        let address = match &self.url {
            Some(url) => written(url)?,
            None => match crate::global::pipeline_path(global) {
                Ok(path) => {
                    let pipeline = forebay_schemas::pipeline::load(&path)?;
                    if self.ca.is_none() {
                        return api_of(&pipeline, self.token.clone());
                    }
                    address_of(&pipeline)
                }
                Err(_) if global.config.is_none() => written(&ApiSection::default().listen)?,
                Err(end) => return Err(end),
            },
        };
        let ca = self.ca.as_ref().filter(|_| address.is_https());
        api(address, self.token.clone(), api_trust::issued(ca)?)
    }

    /// A client of the API.
    pub(crate) fn client(&self, global: &Global) -> Result<ApiClient, CliError> {
        Ok(ApiClient(self.api(global)?))
    }
}

/// The API of a pipeline from this machine.
pub(crate) fn api_of(pipeline: &Pipeline, token: Option<String>) -> Result<Api, CliError> {
    api(address_of(pipeline), token, api_trust::of_pipeline(pipeline)?)
}

fn api(address: ApiAddress, token: Option<String>, builder: ClientBuilder) -> Result<Api, CliError> {
    Api::new(address, token, builder).map_err(|error| {
        CliError::usage(
            format!("can't use the CAs: {}", root_cause(&error)),
            "install the package ca-certificates, or check the file of --ca",
        )
    })
}

/// The address of a pipeline's API from this machine.
pub(crate) fn address_of(pipeline: &Pipeline) -> ApiAddress {
    match pipeline.api.socket() {
        Some(socket) => ApiAddress::Unix(pipeline.relative(Path::new(socket))),
        // All addresses include loopback.
        None => {
            let scheme = if pipeline.api.tls.is_some() { "https" } else { "http" };
            let listen = pipeline.api.listen.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1);
            format!("{scheme}://{listen}").parse().expect("the check of the pipeline file rejects what is not `host:port`")
        }
    }
}

impl ApiClient {
    /// Sends a GET request.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T, CliError> {
        self.send(Method::GET, path, query, None::<&()>, REQUEST_TIMEOUT).await
    }

    /// Sends a PUT request.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, CliError> {
        self.send(Method::PUT, path, &[], Some(body), REQUEST_TIMEOUT).await
    }

    /// Sends a POST request.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, CliError> {
        let timeout = if path.last() == Some(&"apply") { APPLY_TIMEOUT } else { REQUEST_TIMEOUT };
        self.send(Method::POST, path, &[], Some(body), timeout).await
    }

    /// The pipeline's snapshot.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, CliError> {
        self.get(&["v1", "snapshot"], &[]).await
    }

    /// Requests a run under a key. Returns whether it is a new one, and the run.
    pub(crate) async fn request_run(&self, pipeline: &str, key: &str, request: &RunRequest) -> Result<(bool, Run), CliError> {
        let path = ["v1", "pipelines", pipeline, "runs", key];
        let (status, run) = self.answer(Method::PUT, &path, &[], Some(request), REQUEST_TIMEOUT).await?;
        Ok((status == StatusCode::CREATED, run))
    }

    /// Waits for a run to change, for `timeout` at most, and returns it.
    pub(crate) async fn poll_run(&self, id: Uuid, timeout: Duration) -> Result<Run, CliError> {
        self.poll(&["v1", "runs", &id.to_string()], &[], timeout).await
    }

    /// Sends a GET request that the API answers at a change, or after `timeout`.
    pub(crate) async fn poll<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        timeout: Duration,
    ) -> Result<T, CliError> {
        let wait = timeout.min(POLL_TIMEOUT);
        let query = [query, &[("wait", format!("{}ms", wait.as_millis()))]].concat();
        self.send(Method::GET, path, &query, None::<&()>, wait + REQUEST_TIMEOUT).await
    }

    /// Plans a change and prints it. With a reason, applies the change and returns the result.
    pub(crate) async fn plan(&self, output: &Output, request: &PlanRequest, reason: Option<&str>) -> Result<Option<Applied>, CliError> {
        let name = self.snapshot().await?.pipeline;
        let plan: ChangePlan = self.post(&["v1", "pipelines", &name, "plans"], request).await?;
        if !output.json() {
            plan.effects.iter().for_each(|effect| output.print(effect));
        }
        let Some(reason) = reason else {
            if output.json() {
                output.print_json(&plan);
            } else {
                output.message(DRY_RUN);
            }
            return Ok(None);
        };
        let body = ApplyRequest { hash: plan.hash, reason: reason.to_owned() };
        let applied: Applied = self.post(&["v1", "plans", &plan.id.to_string(), "apply"], &body).await?;
        if output.json() {
            output.print_json(&applied);
        }
        Ok(Some(applied))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, CliError> {
        self.answer(method, path, query, body, timeout).await.map(|(_, answer)| answer)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<(StatusCode, T), CliError> {
        let mut url = self.0.address.base();
        url.path_segments_mut().expect("an HTTP URL has a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.0.http.request(method, url).timeout(timeout);
        if let Some(token) = &self.0.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.parse(request.send().await).await
    }

    async fn parse<T: DeserializeOwned>(&self, response: reqwest::Result<Response>) -> Result<(StatusCode, T), CliError> {
        let response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map(|answer| (status, answer)).map_err(|error| {
                CliError::failed(
                    format!("{} sent an answer that this version can't read: {error}", self.0.address),
                    "use the same version of Forebay on both sides",
                )
            });
        }
        Err(self.problem(status, &bytes))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> CliError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(Problem { title, detail, remedy, .. }) => {
                let message = format!("{}: {detail}", title.trim_end_matches('.'));
                if status.is_server_error() { CliError::environment(message, remedy) } else { CliError::failed(message, remedy) }
            }
            Err(_) => CliError::environment(
                format!("{} answers {status}, which is not an answer of Forebay", self.0.address),
                "check that it is the API of `forebay run`",
            ),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if let Some(TlsFailure { message, remedy }) = TlsFailure::of(error) {
            return CliError::environment(format!("{}: {message}", self.0.address), remedy);
        }
        let reason = if error.is_timeout() { "time-out".to_owned() } else { root_cause(error) };
        CliError::environment(
            format!("no pipeline answers at {}: {reason}", self.0.address),
            "start one with `forebay run` or `forebay demo`, or name its address with --url",
        )
    }
}
