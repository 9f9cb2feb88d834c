//! Who may ask what: host names, origins, tokens, roles.
//!
//! Guarantee: every request passes here before anything of it is looked at. A page in a browser can't reach the API through a name of its own (Host), nor
//! by a script of a foreign page (Origin), unless the pipeline file says so. Where there are tokens, everybody shows one, loopback too; a path that
//! asks for no role (`/healthz`) needs none. Whoever can open the unix socket owns the process, and may do all. Not guaranteed: secrecy of a
//! token on its way; off this machine that is a TLS proxy's part.

use std::borrow::Cow;
use std::fmt;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError as _, web};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forebay_schemas::api::Role;
use forebay_schemas::pipeline::{ApiSection, Pipeline, SecretError, is_loopback};
use forebay_schemas::problem;

use super::State;
use super::error::ApiError;
use super::extract::route_of;

/// The fewest characters of a token.
const TOKEN_LEAST: usize = 16;

/// A token that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can't be had.
    #[error("[api] tokens.{role}: {cause}")]
    Secret {
        /// Of which role.
        role: &'static str,
        /// Why not.
        cause: SecretError,
    },
    /// It can be guessed.
    #[error(
        "[api] tokens.{role} has fewer than {TOKEN_LEAST} characters, or some that a header can't hold; `openssl rand -hex 32` makes one"
    )]
    Weak {
        /// Of which role.
        role: &'static str,
    },
}

/// Who is let in.
#[derive(Clone, Default)]
pub struct Gate {
    tokens: Vec<(Role, String)>,
    /// As a Host header has it; without a port any port.
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Whether it stands before a unix socket.
    socket: bool,
}

/// Says how many tokens, not which.
impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({} tokens, hosts {:?}, origins {:?})", self.tokens.len(), self.hosts, self.origins)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) role: Role,
    /// `loopback`, `socket` or `token`.
    pub(super) by: &'static str,
}

impl Caller {
    /// As it stands in the journal.
    pub(super) fn name(self) -> &'static str {
        word(self.role)
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

impl Gate {
    /// The gate that a pipeline file asks for. Secrets are revealed here.
    ///
    /// # Errors
    /// When a token can't be had, or is too short.
    pub fn new(pipeline: &Pipeline) -> Result<Self, TokenError> {
        let ApiSection { tokens: table, hosts, origins, listen, .. } = &pipeline.api;
        let mut tokens = Vec::new();
        for (role, secret) in [(Role::Admin, &table.admin), (Role::Operator, &table.operator), (Role::Viewer, &table.viewer)] {
            let Some(secret) = secret else { continue };
            let role_word = word(role);
            let token = secret.reveal(&pipeline.source.path).map_err(|cause| TokenError::Secret { role: role_word, cause })?;
            if token.len() < TOKEN_LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(TokenError::Weak { role: role_word });
            }
            tokens.push((role, token));
        }
        let socket = pipeline.api.socket().is_some();
        let mut hosts = hosts.clone();
        if !socket {
            hosts.push(listen.clone());
        }
        Ok(Self { tokens, hosts, origins: origins.clone(), socket })
    }

    /// Looks at where a request goes to, and what page it comes from.
    fn look_at(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.socket {
            return Ok(());
        }
        let host = text(headers, header::HOST).unwrap_or_default();
        if !self.serves(host) {
            return Err(ApiError::new(&problem::HOST, format!("Host is {host:?}")));
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = text(headers, header::ORIGIN).unwrap_or_default();
            if !is_origin_of(origin, host) && !self.origins.iter().any(|known| known == origin) {
                return Err(ApiError::new(&problem::ORIGIN, format!("Origin is {origin:?}")));
            }
        }
        Ok(())
    }

    /// Lets a request in that needs a role, or says why not.
    fn admit(&self, headers: &HeaderMap, needed: Option<Role>) -> Result<Caller, ApiError> {
        if self.socket {
            return Ok(Caller { role: Role::Admin, by: "socket" });
        }
        let Some(needed) = needed else { return Ok(Caller { role: Role::Viewer, by: "loopback" }) };
        if self.tokens.is_empty() {
            return Ok(Caller { role: Role::Admin, by: "loopback" });
        }
        let Some(shown) = text(headers, header::AUTHORIZATION) else {
            return Err(ApiError::new(&problem::TOKEN_MISSING, "there is no Authorization header"));
        };
        let Some(token) = token_of(shown) else {
            return Err(ApiError::new(
                &problem::TOKEN_MISSING,
                "the Authorization header is neither a bearer token nor a name and a token",
            ));
        };
        // All of them are compared, so that the time says nothing.
        let roles = self.tokens.iter().filter(|(_, known)| is_same(known, &token)).map(|(role, _)| *role);
        let Some(role) = roles.fold(None, |best, role| best.max(Some(role))) else {
            return Err(ApiError::new(&problem::TOKEN_WRONG, "no role has that token"));
        };
        if role < needed {
            return Err(ApiError::new(&problem::ROLE, format!("it needs the role {}, and the token is of {}", word(needed), word(role))));
        }
        Ok(Caller { role, by: "token" })
    }

    fn serves(&self, host: &str) -> bool {
        let name = host_name(host);
        is_loopback(name) || self.hosts.iter().any(|known| known == host || (!has_port(known) && known == name))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The token in an Authorization header: a bearer token, or the password of a basic one (RFC 7617) of any user, which is what a browser can be asked
/// for, so that a link to a run opens.
fn token_of(shown: &str) -> Option<Cow<'_, str>> {
    let (scheme, rest) = shown.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().into());
    }
    let pair = BASE64_STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    Some(String::from_utf8(pair).ok()?.split_once(':')?.1.to_owned().into())
}

/// The name in a Host header, without the port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether an origin is that of the pages of a host itself.
fn is_origin_of(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(|authority| authority == host)
}

/// Compares in a time that follows from the length of `known` alone.
fn is_same(known: &str, shown: &str) -> bool {
    let shown = shown.as_bytes();
    let differs = known
        .bytes()
        .enumerate()
        .fold(known.len() ^ shown.len(), |differs, (at, byte)| differs | usize::from(byte ^ shown.get(at).copied().unwrap_or(!byte)));
    std::hint::black_box(differs) == 0
}

/// Stands before everything.
pub(super) async fn gate(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse, actix_web::Error> {
    let state = request.app_data::<web::Data<State>>().expect("the app has its state").clone();
    let gate = &state.parts.gate;
    gate.look_at(request.headers())?;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut answer = if origin.is_some() && asks_first(&request) {
        request.into_response(may_ask())
    } else {
        // Paths and methods that are not in the table are answered to those only who may look.
        let needed = route_of(request.method().as_str(), request.match_pattern().as_deref()).map_or(Some(Role::Viewer), |route| route.role);
        match gate.admit(request.headers(), needed) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                next.call(request).await?.map_into_boxed_body()
            }
            Err(refusal) => request.into_response(refusal.error_response()),
        }
    };
    if let Some(origin) = origin {
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("location, retry-after, www-authenticate"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(answer)
}

/// Whether a browser asks if it may ask (the preflight of the Fetch standard, which comes without a token).
fn asks_first(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// It may; what then comes is looked at by itself.
fn may_ask() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, last-event-id"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATOR: &str = "operator-0123456789";
    const VIEWER: &str = "viewer-0123456789";

    fn open() -> Gate {
        Gate { hosts: vec!["127.0.0.1:7070".into(), "forebay:7070".into(), "ops".into()], ..Gate::default() }
    }

    fn guarded() -> Gate {
        Gate { tokens: vec![(Role::Operator, OPERATOR.into()), (Role::Viewer, VIEWER.into())], ..open() }
    }

    fn ask(gate: &Gate, headers: &[(header::HeaderName, &str)], needed: Role) -> Result<Role, u16> {
        let mut map = HeaderMap::new();
        map.insert(header::HOST, "localhost:7070".parse().unwrap());
        headers.iter().for_each(|(name, value)| drop(map.insert(name.clone(), value.parse().unwrap())));
        gate.look_at(&map)
            .and_then(|()| gate.admit(&map, Some(needed)))
            .map(|caller| caller.role)
            .map_err(|refusal| refusal.status_code().as_u16())
    }

    #[test]
    fn loopback_and_the_hosts_of_the_file_are_served_and_no_others() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:7070", "127.0.0.1", "[::1]:7070", "forebay:7070", "ops", "ops:1"] {
            assert!(open().serves(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", "10.0.0.1:7070", "", "[::2]:1", "forebay:7071", "forebay"]
        {
            assert!(!open().serves(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_the_api_s_own_origin_may_ask_and_one_of_another_may_not() {
        let gate = Gate { origins: vec!["https://ops.example.org".into()], ..open() };
        let from = |origin| ask(&gate, &[(header::ORIGIN, origin)], Role::Viewer);
        assert_eq!(from("http://localhost:7070"), Ok(Role::Admin));
        assert_eq!(from("https://ops.example.org"), Ok(Role::Admin));
        for foreign in ["http://localhost:3000", "https://evil.example", "null", ""] {
            assert_eq!(from(foreign), Err(403), "{foreign}");
        }
    }

    #[test]
    fn without_tokens_everybody_on_loopback_may_do_all() {
        assert_eq!(ask(&open(), &[], Role::Admin), Ok(Role::Admin));
    }

    #[test]
    fn with_tokens_everybody_shows_one_and_does_no_more_than_its_role() {
        let with = |token: &str, needed| ask(&guarded(), &[(header::AUTHORIZATION, &format!("Bearer {token}"))], needed);
        assert_eq!(ask(&guarded(), &[], Role::Viewer), Err(401));
        assert_eq!(ask(&guarded(), &[(header::AUTHORIZATION, "Basic eDp5")], Role::Viewer), Err(401));
        assert_eq!(with("operator-0123456780", Role::Viewer), Err(401));
        assert_eq!(with("operator-012345678", Role::Viewer), Err(401));
        assert_eq!(with(VIEWER, Role::Viewer), Ok(Role::Viewer));
        assert_eq!(with(VIEWER, Role::Operator), Err(403));
        assert_eq!(with(OPERATOR, Role::Operator), Ok(Role::Operator));
        assert_eq!(with(OPERATOR, Role::Admin), Err(403));
        let basic = |pair: &str| {
            let shown = format!("Basic {}", BASE64_STANDARD.encode(pair));
            ask(&guarded(), &[(header::AUTHORIZATION, &shown)], Role::Viewer)
        };
        assert_eq!(basic(&format!("anybody:{VIEWER}")), Ok(Role::Viewer), "a browser's way to show it");
        assert_eq!((basic(VIEWER), basic("anybody:no"), basic("")), (Err(401), Err(401), Err(401)));
        assert!(guarded().admit(&HeaderMap::from_iter([(header::HOST, "localhost".parse().unwrap())]), None).is_ok(), "health needs none");
    }

    #[test]
    fn a_token_that_is_short_is_refused_and_none_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = |token: &str| {
            std::fs::write(dir.path().join("token"), token).unwrap();
            let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x\"\n[producer]\n\
                        key = \"/id\"\n[api]\nlisten = \"0.0.0.0:7070\"\ntokens = { operator = { file = \"token\" } }\n";
            forebay_schemas::pipeline::parse(&dir.path().join("forebay.toml"), text.to_owned()).unwrap()
        };
        assert!(Gate::new(&pipeline("hunter2")).unwrap_err().to_string().contains("tokens.operator"));
        let gate = Gate::new(&pipeline("hunter2hunter2hunter2\n")).unwrap();
        assert!(!format!("{gate:?}").contains("hunter2"));
    }
}
