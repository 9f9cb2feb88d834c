//! `[fetcher.auth]` and `[fetcher.tls]`: how the source API knows its client, and the client the
//! API.
//!
//! Guarantee: a secret is a reference, never text.
//!
//! Does not guarantee that exactly one way of authentication is set; `checks` does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Property, Secret};
use crate::http_url::HttpUrl;

/// `[fetcher.auth]`: one way of authentication. A key of its own header needs none: `headers` take
/// references.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSection {
    /// A user and a password, sent as `Authorization: Basic …`.
    pub basic: Option<BasicSection>,
    /// A token, sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// A token that is requested from a server and renewed before it expires.
    pub oauth2: Option<OAuth2Section>,
}

/// `[fetcher.auth] basic`: a user and a password.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicSection {
    /// The user; text or a reference.
    pub username: Property,
    /// The password.
    pub password: Secret,
}

/// `[fetcher.auth.oauth2]`: OAuth 2.0 (RFC 6749), with the grant `client_credentials`, or
/// `refresh_token` if there is a refresh token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Section {
    /// The URL that gives tokens.
    pub token_url: HttpUrl,
    /// The client's identifier; text or a reference.
    pub client_id: Property,
    /// The client's secret. Absent: a public client, which has none.
    pub client_secret: Option<Secret>,
    /// The scopes, separated by spaces. Absent: those that the server gives by default.
    pub scope: Option<String>,
    /// The refresh token. A newer one that the server gives is kept until the process ends.
    pub refresh_token: Option<Secret>,
    /// How the identifier and the secret are sent. Default `header`.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Further parameters of the request, such as `audience`. Default none.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

/// How an OAuth client identifies itself to the server of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In `Authorization: Basic …`, which every server must accept.
    #[default]
    Header,
    /// As parameters of the body.
    Body,
}

/// `[fetcher.tls]`: TLS of the connections to the source API. Paths are relative to the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTlsSection {
    /// PEM file of the CAs that may issue the API's certificate. Absent: the CAs of the system.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate and its intermediate CAs. Absent: none is sent.
    pub certificate: Option<PathBuf>,
    /// PEM file of the private key of `certificate`, not encrypted.
    pub key: Option<PathBuf>,
}

impl AuthSection {
    /// The ways that are set; one, in a checked file.
    pub(super) fn ways(&self) -> Vec<&'static str> {
        let ways = [("basic", self.basic.is_some()), ("bearer", self.bearer.is_some()), ("oauth2", self.oauth2.is_some())];
        ways.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }

    /// The references to secrets, each with its keys below `auth`.
    pub(super) fn secrets(&self) -> Vec<(Vec<&'static str>, &Secret)> {
        let mut found = Vec::new();
        if let Some(basic) = &self.basic {
            found.extend(reference(&basic.username).map(|secret| (vec!["basic", "username"], secret)));
            found.push((vec!["basic", "password"], &basic.password));
        }
        found.extend(self.bearer.iter().map(|secret| (vec!["bearer"], secret)));
        if let Some(oauth2) = &self.oauth2 {
            found.extend(reference(&oauth2.client_id).map(|secret| (vec!["oauth2", "client_id"], secret)));
            found.extend(oauth2.client_secret.iter().map(|secret| (vec!["oauth2", "client_secret"], secret)));
            found.extend(oauth2.refresh_token.iter().map(|secret| (vec!["oauth2", "refresh_token"], secret)));
        }
        found
    }
}

/// The reference of a property, if it is one.
fn reference(property: &Property) -> Option<&Secret> {
    match property {
        Property::Secret(secret) => Some(secret),
        Property::Plain(_) => None,
    }
}
