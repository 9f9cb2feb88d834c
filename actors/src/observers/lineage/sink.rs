//! Where events go: a URL that they are posted to, or a file that they are appended to.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use forebay_schemas::http_url::HttpUrl;
use forebay_schemas::pipeline::{LineageSection, Pipeline};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::Value;

/// How long the sink may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where events go.
pub(super) enum Sink {
    /// Events are posted to a URL.
    Url(Client, HttpUrl),
    /// Events are appended to a file.
    File(PathBuf),
}

/// Why an event was not delivered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SinkError {
    /// The sink may accept it later.
    Unavailable(String),
    /// The sink never accepts this event.
    Rejected(String),
}

impl Sink {
    /// The sink that `[lineage]` names. The secret is revealed here.
    ///
    /// # Errors
    /// When the token can't be used.
    pub(super) fn new(pipeline: &Pipeline, lineage: &LineageSection) -> Result<Self, String> {
        let Some(url) = &lineage.url else {
            let file = lineage.file.as_ref().ok_or("[lineage] names neither url nor file")?;
            return Ok(Self::File(pipeline.relative(file)));
        };
        let mut headers = HeaderMap::new();
        if let Some(token) = &lineage.token {
            let token = token.reveal(&pipeline.source.path).map_err(|cause| format!("lineage.token: {cause}"))?;
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| "lineage.token has a character that an HTTP header can't have".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build();
        Ok(Self::Url(client.map_err(|cause| format!("can't create an HTTP client: {cause}"))?, url.clone()))
    }

    /// Delivers an event.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] is worth a retry.
    pub(super) async fn deliver(&self, event: &Value) -> Result<(), SinkError> {
        match self {
            Self::Url(client, url) => {
                let sent = client.post(url.reveal().clone()).json(event).send().await;
                let answer = sent.map_err(|cause| SinkError::Unavailable(format!("{url}: {}", cause.without_url())))?;
                let status = answer.status();
                if status.is_success() {
                    return Ok(());
                }
                let what = format!("{url} answered {status}");
                Err(if is_temporary(status) { SinkError::Unavailable(what) } else { SinkError::Rejected(what) })
            }
            Self::File(path) => {
                let (path, line) = (path.clone(), format!("{event}\n"));
                let written = tokio::task::spawn_blocking(move || {
                    let file = std::fs::File::options().create(true).append(true).open(&path);
                    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|cause| format!("{}: {cause}", path.display()))
                });
                match written.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(cause)) => Err(SinkError::Unavailable(cause)),
                    Err(_) => Err(SinkError::Unavailable("the process is stopping".to_owned())),
                }
            }
        }
    }
}

/// Whether the sink may accept the same event later. One that asks for a token may be given one.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
        )
}
