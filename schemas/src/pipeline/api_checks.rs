//! Checks of `[api]`: the address, TLS, and who can reach it.

use super::checks::{check_pointer, check_servers, host_of, is_loopback};
use super::{ApiSection, FileError, Pipeline};
use crate::run_plan::Warning;

/// Checks who can reach the API, and how.
pub(super) fn check(p: &Pipeline) -> Result<(), FileError> {
    for pointer in &p.api.mask {
        check_pointer(p, &["api", "mask"], pointer)?;
    }
    if let Some(host) = p.api.hosts.iter().find(|host| host.is_empty() || host.contains(['/', ' ', '@'])) {
        let remedy = "write it as in the Host header: \"forebay:7070\", or \"forebay\" for any port";
        return Err(p.error_at(&["api", "hosts"], format!("{host:?} is not a host"), remedy));
    }
    let is_origin = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ' ', '@', '*']))
    };
    if let Some(origin) = p.api.origins.iter().find(|origin| !is_origin(origin)) {
        let remedy = "write scheme and host without a path: \"https://ops.example.org\"";
        return Err(p.error_at(&["api", "origins"], format!("{origin:?} is not an origin"), remedy));
    }
    let key = &["api", "listen"];
    if let Some(socket) = p.api.socket() {
        if p.api.tls.is_some() {
            return Err(p.error_at(&["api", "tls"], "a unix socket has no TLS: only its owner can open it", "remove tls"));
        }
        return match socket.is_empty() {
            true => Err(p.error_at(key, "the socket has no path", "write \"unix:forebay.sock\", relative to this file")),
            false => Ok(()),
        };
    }
    check_servers(p, key, std::iter::once(p.api.listen.as_str()))?;
    let host = host_of(&p.api.listen);
    if is_loopback(host) || !p.api.tokens.is_empty() {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{host:?} is not a loopback address, and the API has no token"),
        "add tokens, such as `tokens = { operator = { env = \"FOREBAY_TOKEN\" } }`, or listen on 127.0.0.1, [::1], localhost or \"unix:PATH\"",
    ))
}

impl ApiSection {
    /// A network that can read what the API's clients send and get.
    pub(super) fn security_warnings(&self) -> Option<Warning> {
        let is_plain = self.tls.is_none() && self.socket().is_none() && !is_loopback(host_of(&self.listen));
        is_plain.then(|| Warning {
            code: "plaintext_api".to_owned(),
            what: format!(
                "[api] listen = {:?} without TLS: whoever can read the network's traffic can read the tokens, and the records, dead letters and \
                 log lines that the API answers with; set tls = {{ certificate = \"…\", key = \"…\" }}, or listen on 127.0.0.1 behind a TLS \
                 proxy",
                self.listen
            ),
        })
    }
}
