//! Access tokens of OAuth 2.0 (RFC 6749): client credentials, and refresh tokens.
//!
//! Guarantees:
//! * A token is kept in memory only, until [`MARGIN`] before it expires or the API refuses it.
//! * The server of tokens is bounded like the API: in time, in the size of its response, and in the
//!   addresses that its name may have. Its redirects are not followed.
//! * No error contains a token or the client's secret.
//!
//! Does not guarantee that a refresh token outlives the process: a newer one that the server gives
//! is kept in memory.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_schemas::pipeline::{ClientAuth, OAuth2Section, Property, Secret};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client as Http, Response, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::authorization::sensitive;
use super::body_hints;
use super::echoed_secrets::EchoedSecrets;
use super::error::FetchError;
use super::rate_limit_headers::RateLimit;
use super::statuses::{Meaning, Statuses};

/// How long before its end a token is no longer used, at most half of its lifetime.
const MARGIN: Duration = Duration::from_secs(60);
/// The lifetime of a token whose response does not name one.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The longest lifetime that is believed.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// The largest response.
const MAX_RESPONSE_BYTES: usize = 256 << 10;

/// Gives tokens. Clones share the current one.
#[derive(Clone)]
pub(super) struct TokenSource {
    section: Arc<OAuth2Section>,
    http: Http,
    timeout: Duration,
    /// The pipeline file. Paths of secrets are relative to it.
    file: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    token: Option<(String, SystemTime)>,
    /// The latest refresh token that the server gave, and the one of the file that it replaced.
    refresh: Option<(String, String)>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<Seconds>,
    refresh_token: Option<String>,
}

/// A number of seconds; some servers write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl TokenSource {
    /// A source of tokens from the server of `section`. `http` does not follow redirects.
    pub(super) fn new(section: &OAuth2Section, http: Http, timeout: Duration, file: PathBuf) -> Self {
        Self { section: Arc::new(section.clone()), http, timeout, file, state: Arc::default() }
    }

    /// The current token; a new one if it has expired or was forgotten.
    ///
    /// # Errors
    /// When the server gives none.
    pub(super) async fn token(&self, wall: SystemTime) -> Result<String, FetchError> {
        let mut state = self.state.lock().await;
        if let Some((token, end)) = &state.token
            && wall < *end
        {
            return Ok(token.clone());
        }
        let request = tokio::time::timeout(self.timeout, self.request(&mut state, wall));
        let granted =
            request.await.unwrap_or_else(|_| Err(self.failed(format!("it did not answer within {:?}", self.timeout), true, None)))?;
        let lifetime = granted.expires_in.and_then(Seconds::duration).unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
        let end = wall + lifetime.saturating_sub(MARGIN.min(lifetime / 2));
        state.token = Some((granted.access_token.clone(), end));
        Ok(granted.access_token)
    }

    /// Forgets the token, because the API refuses it.
    pub(super) async fn forget(&self) {
        self.state.lock().await.token = None;
    }

    async fn request(&self, state: &mut State, wall: SystemTime) -> Result<Granted, FetchError> {
        let section = &*self.section;
        let id = match &section.client_id {
            Property::Plain(text) => text.clone(),
            Property::Secret(secret) => self.reveal("client_id", secret)?,
        };
        let secret = section.client_secret.as_ref().map(|secret| self.reveal("client_secret", secret)).transpose()?;
        let written = section.refresh_token.as_ref().map(|token| self.reveal("refresh_token", token)).transpose()?;
        let refresh = match (&written, &state.refresh) {
            // The file outweighs what the server gave when it has changed since.
            (Some(written), Some((latest, replaced))) if written == replaced => Some(latest.clone()),
            _ => written.clone(),
        };
        let mut form: Vec<(&str, &str)> = vec![("grant_type", if refresh.is_some() { "refresh_token" } else { "client_credentials" })];
        form.extend(refresh.iter().map(|token| ("refresh_token", token.as_str())));
        form.extend(section.scope.iter().map(|scope| ("scope", scope.as_str())));
        form.extend(section.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut request = self.http.post(section.token_url.reveal().clone()).header(ACCEPT, "application/json");
        match (section.client_auth, &secret) {
            (ClientAuth::Header, Some(secret)) => {
                let pair = format!("{}:{}", form_text(&id), form_text(secret));
                request = request.header(AUTHORIZATION, sensitive("auth.oauth2", &format!("Basic {}", STANDARD.encode(pair)))?);
            }
            (_, secret) => {
                form.push(("client_id", id.as_str()));
                form.extend(secret.iter().map(|secret| ("client_secret", secret.as_str())));
            }
        }
        let secrets = EchoedSecrets::from_texts([secret.clone(), refresh.clone()].into_iter().flatten());
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")).body(encoded(&form));
        let response = request.send().await.map_err(|cause| self.failed(super::client::with_sources(cause), true, None))?;
        let granted = self.granted(response, wall).await.map_err(|error| secrets.removed_from(error))?;
        if let (Some(written), Some(latest)) = (written, &granted.refresh_token) {
            state.refresh = Some((latest.clone(), written));
        }
        Ok(granted)
    }

    async fn granted(&self, mut response: Response, wall: SystemTime) -> Result<Granted, FetchError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.failed(super::client::with_sources(cause), true, None))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(self.failed(format!("it answered more than {MAX_RESPONSE_BYTES} bytes"), false, None));
            }
            body.extend_from_slice(&chunk);
        }
        let text = body_hints::error_of(&body).unwrap_or_else(|| super::client::excerpt_of(&body));
        if !status.is_success() {
            let limit = RateLimit::of(status, &headers, &text, wall);
            let retry = Statuses::default().meaning(status, false, limit.retry_later) == Meaning::Failure { retry: true };
            return Err(self.failed(format!("it answered {status}: {text}"), retry, limit.wait));
        }
        let granted: Result<Granted, _> = serde_json::from_slice(&body);
        match granted {
            Ok(granted) if !granted.access_token.is_empty() => Ok(granted),
            // The response may hold a token under another name, so it is not shown.
            _ => Err(self.failed("its answer has no access_token".to_owned(), false, None)),
        }
    }

    fn reveal(&self, key: &str, secret: &Secret) -> Result<String, FetchError> {
        secret.reveal(&self.file).map_err(|cause| FetchError::Secret { key: format!("auth.oauth2.{key}"), cause })
    }

    fn failed(&self, cause: String, retry: bool, wait: Option<Duration>) -> FetchError {
        FetchError::Token { token_url: self.section.token_url.to_string(), cause, retry, wait }
    }
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => seconds,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// A text as it is written in a form.
fn form_text(text: &str) -> String {
    encoded(&[("", text)]).split_off(1)
}

/// Parameters as a form.
fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://localhost/").expect("the text is a URL");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// Prints the server.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("token_url", &self.section.token_url).finish_non_exhaustive()
    }
}
