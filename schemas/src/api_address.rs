//! The address of a control API, as a client of it writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::http_url::HttpUrl;

/// The address of a control API. Shown without what may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAddress {
    /// `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`, which is http.
    Http(HttpUrl),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// The text is no address. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address of the API is neither an HTTP URL without a user nor unix:PATH")]
pub struct NotApiAddress;

impl ApiAddress {
    /// The URL that the paths of requests are appended to.
    pub fn base(&self) -> Url {
        match self {
            Self::Http(url) => url.reveal().clone(),
            Self::Unix(_) => Url::parse("http://localhost").expect("it is a URL"),
        }
    }

    /// Whether its server presents a certificate.
    pub fn is_https(&self) -> bool {
        matches!(self, Self::Http(url) if url.reveal().scheme() == "https")
    }
}

impl FromStr for ApiAddress {
    type Err = NotApiAddress;

    fn from_str(text: &str) -> Result<Self, NotApiAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.trim_start_matches("//").into()));
        }
        let url = if text.contains("://") { HttpUrl::parse(text) } else { HttpUrl::parse(&format!("http://{text}")) };
        url.ok().filter(|url| !url.has_user()).map(Self::Http).ok_or(NotApiAddress)
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.write_str(url.to_string().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_a_host_or_a_socket_and_has_no_user() {
        for (text, shown, base) in [
            ("http://127.0.0.1:7070/", "http://127.0.0.1:7070", "http://127.0.0.1:7070/"),
            ("127.0.0.1:7070", "http://127.0.0.1:7070", "http://127.0.0.1:7070/"),
            ("https://ops.example/forebay?key=hunter2", "https://ops.example/forebay", "https://ops.example/forebay?key=hunter2"),
            ("unix:/run/forebay.sock", "unix:/run/forebay.sock", "http://localhost/"),
            ("unix:///run/forebay.sock", "unix:/run/forebay.sock", "http://localhost/"),
        ] {
            let address: ApiAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.base().as_str()), (shown, base));
            assert_eq!(address.is_https(), text.starts_with("https:"), "{text}");
        }
        for text in ["ftp://example.org", "http://a b", "http://user:hunter2@host/", ""] {
            assert!(!text.parse::<ApiAddress>().unwrap_err().to_string().contains("hunter2"), "{text}");
        }
    }
}
