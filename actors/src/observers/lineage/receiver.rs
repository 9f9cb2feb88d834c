//! Who is told: an address that events are posted to, or a file that they are appended to.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use forebay_schemas::pipeline::{LineageSection, Pipeline};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use crate::fetcher::without_query;

/// How long the receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Who is told.
pub(super) enum Receiver {
    /// Events are posted to an address.
    Url(Client, Url),
    /// Events are appended to a file.
    File(PathBuf),
}

/// Why it was not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Untold {
    /// Later it may be.
    Later(String),
    /// It never will take this event.
    Never(String),
}

impl Receiver {
    /// The one that `[lineage]` names. The secret is revealed here.
    ///
    /// # Errors
    /// When the address or the token can't be used.
    pub(super) fn new(pipeline: &Pipeline, lineage: &LineageSection) -> Result<Self, String> {
        let Some(url) = &lineage.url else {
            let file = lineage.file.as_ref().ok_or("[lineage] names neither url nor file")?;
            return Ok(Self::File(pipeline.relative(file)));
        };
        let url = Url::parse(url).map_err(|cause| format!("lineage.url is no address: {cause}"))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &lineage.token {
            let token = token.reveal(&pipeline.source.path).map_err(|cause| format!("lineage.token: {cause}"))?;
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| "lineage.token holds a character that a header can't".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .build();
        Ok(Self::Url(client.map_err(|cause| format!("no HTTP client: {cause}"))?, url))
    }

    /// Tells it of an event.
    pub(super) async fn tell(&self, event: &Value) -> Result<(), Untold> {
        match self {
            Self::Url(client, url) => {
                let sent = client.post(url.clone()).json(event).send().await;
                let answer = sent.map_err(|cause| Untold::Later(format!("{}: {}", without_query(url), cause.without_url())))?;
                let status = answer.status();
                if status.is_success() {
                    return Ok(());
                }
                let what = format!("{} answered {status}", without_query(url));
                Err(if is_passing(status) { Untold::Later(what) } else { Untold::Never(what) })
            }
            Self::File(path) => {
                let (path, line) = (path.clone(), format!("{event}\n"));
                let written = tokio::task::spawn_blocking(move || {
                    let file = std::fs::File::options().create(true).append(true).open(&path);
                    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|cause| format!("{}: {cause}", path.display()))
                });
                match written.await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(cause)) => Err(Untold::Later(cause)),
                    Err(_) => Err(Untold::Later("the process is stopping".to_owned())),
                }
            }
        }
    }
}

/// Whether the same event may be taken later. A receiver that asks for a token may be given one.
fn is_passing(status: StatusCode) -> bool {
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
