//! Client of a running program's control API.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::TIMEOUT;

/// A response of the API.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    /// The JSON, or the text if it is not JSON.
    pub(crate) body: Value,
}

impl Response {
    /// The text of a header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a complete problem, and returns its remedy.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> &str {
        assert_eq!((self.status, self.body["type"].as_str()), (status, Some(kind)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        for part in ["title", "detail", "remedy"] {
            assert!(!self.body[part].as_str().unwrap().is_empty(), "{part} of {self:?}");
        }
        self.body["remedy"].as_str().unwrap()
    }
}

/// The API at an address.
pub(crate) struct ControlApi {
    url: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl ControlApi {
    pub(crate) fn new(url: &str) -> Self {
        Self::of(url, reqwest::Client::builder())
    }

    /// The API at an https address whose certificate a CA has issued.
    pub(crate) fn with_ca(url: &str, ca: &str) -> Self {
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
        Self::of(url, reqwest::Client::builder().tls_certs_only([ca]))
    }

    fn of(url: &str, client: reqwest::ClientBuilder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, url) = match url.strip_prefix("unix:") {
            Some(path) => (client.unix_socket(std::path::Path::new(path)), "http://localhost".to_owned()),
            None => (client, url.to_owned()),
        };
        Self { url, client: client.no_proxy().timeout(TIMEOUT + Duration::from_secs(1)).build().unwrap(), runtime }
    }

    /// Sends a request with headers and a body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Response {
        self.runtime.block_on(async {
            let url = format!("{}{path}", self.url);
            let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let text = answer.text().await.unwrap();
            Response { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
        })
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Response {
        self.ask("PUT", path, &[], body.to_owned())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.ask("POST", path, &[], body.to_owned())
    }
}
