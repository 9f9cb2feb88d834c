//! How a request authenticates: the `Authorization` header of `[fetcher.auth]`.
//!
//! Guarantees:
//! * Secrets are read again before each request.
//! * The header is marked as sensitive, and not printed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_schemas::pipeline::{AuthSection, Property, Secret};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::error::FetchError;
use super::oauth2::TokenSource;

/// The authentication of one API's requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorization {
    section: Option<Arc<AuthSection>>,
    tokens: Option<TokenSource>,
    /// The pipeline file. Paths of secrets are relative to it.
    file: PathBuf,
}

impl Authorization {
    /// The authentication of a pipeline file. `tokens` gives the tokens of `auth.oauth2`.
    pub(super) fn new(section: Option<&AuthSection>, tokens: Option<TokenSource>, file: PathBuf) -> Self {
        Self { section: section.cloned().map(Arc::new), tokens, file }
    }

    /// Whether it requests tokens.
    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Adds the header, except one with a token that would have to be requested.
    ///
    /// # Errors
    /// When a secret can't be read or sent.
    pub(super) fn add_secret(&self, headers: &mut HeaderMap) -> Result<(), FetchError> {
        let Some(section) = &self.section else { return Ok(()) };
        if let Some(bearer) = &section.bearer {
            let token = self.reveal("auth.bearer", bearer)?;
            headers.insert(AUTHORIZATION, sensitive("auth.bearer", &format!("Bearer {token}"))?);
        }
        if let Some(basic) = &section.basic {
            let username = match &basic.username {
                Property::Plain(text) => text.clone(),
                Property::Secret(secret) => self.reveal("auth.basic.username", secret)?,
            };
            let password = self.reveal("auth.basic.password", &basic.password)?;
            let pair = STANDARD.encode(format!("{username}:{password}"));
            headers.insert(AUTHORIZATION, sensitive("auth.basic", &format!("Basic {pair}"))?);
        }
        Ok(())
    }

    /// Adds the header with a token, which is requested if there is none.
    ///
    /// # Errors
    /// When no token is given.
    pub(super) async fn add_token(&self, headers: &mut HeaderMap, wall: SystemTime) -> Result<(), FetchError> {
        if let Some(tokens) = &self.tokens {
            let token = tokens.token(wall).await?;
            headers.insert(AUTHORIZATION, sensitive("auth.oauth2", &format!("Bearer {token}"))?);
        }
        Ok(())
    }

    /// Forgets the token, because the API refuses it.
    pub(super) async fn forget_token(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.forget().await;
        }
    }

    fn reveal(&self, key: &str, secret: &Secret) -> Result<String, FetchError> {
        secret.reveal(&self.file).map_err(|cause| FetchError::Secret { key: key.to_owned(), cause })
    }
}

/// A header's value that is not printed.
///
/// # Errors
/// When a header can't contain it.
pub(super) fn sensitive(key: &str, text: &str) -> Result<HeaderValue, FetchError> {
    let unusable = |cause: &dyn fmt::Display| FetchError::Header { key: key.to_owned(), cause: cause.to_string() };
    let mut value = HeaderValue::from_str(text).map_err(|cause| unusable(&cause))?;
    value.set_sensitive(true);
    Ok(value)
}
