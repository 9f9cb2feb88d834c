//! Authentication and authorization of requests: host names, origins, tokens, roles.
//!
//! Guarantees:
//! * Every request is authorized before any of it is processed.
//! * A web page can't reach the API under a host name of its own, nor with a script from a foreign
//!   origin, unless the pipeline file allows it.
//! * With tokens, every client needs one, also on loopback. Only a path without a role, such as
//!   `/healthz`, needs none.
//! * A client of the Unix socket is the owner of the process and has every role.
//! * The response to a wrong token is delayed, and a right one is not.
//!
//! Does not guarantee the secrecy of a token in transit; `tls` does.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError as _, web};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forebay_schemas::api::Role;
use forebay_schemas::pipeline::{ApiSection, Pipeline, Secret, SecretError, is_loopback};
use forebay_schemas::problem;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::State;
use super::error::ApiError;
use super::extract::route_of;
use super::file_version::FileVersion;
use super::waiting_connections::Connection;

/// The minimum length of a token.
const MIN_TOKEN_CHARS: usize = 16;
/// How long the response to a wrong token is delayed.
const WRONG_TOKEN_DELAY: Duration = Duration::from_secs(1);
/// The maximum number of delayed responses at once.
const MAX_DELAYED: usize = 64;

/// An unusable token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It can't be read.
    #[error("[api] tokens.{role}: {cause}")]
    Secret {
        /// Its role.
        role: &'static str,
        /// Why not.
        cause: SecretError,
    },
    /// It is too short, or has characters that a header can't contain.
    #[error(
        "[api] tokens.{role} has fewer than {MIN_TOKEN_CHARS} characters, or characters that a header can't contain; create one with `openssl rand -hex 32`"
    )]
    Weak {
        /// Its role.
        role: &'static str,
    },
}

/// Authenticates requests.
#[derive(Clone, Default)]
pub struct Authenticator {
    tokens: Vec<Token>,
    /// As in a Host header. A name without a port allows any port.
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Whether the API listens on a Unix socket.
    socket: bool,
}

/// A role's token.
#[derive(Clone)]
struct Token {
    role: Role,
    secret: Secret,
    /// The pipeline file.
    pipeline: PathBuf,
    /// The file that it is in, if it is in one.
    file: Option<PathBuf>,
    current: Arc<Mutex<CurrentToken>>,
}

struct CurrentToken {
    /// The version of the file that it was read from.
    version: Option<FileVersion>,
    text: String,
}

impl Token {
    /// Reads a token for the first time.
    fn read(role: Role, secret: &Secret, pipeline: &Pipeline) -> Result<Self, TokenError> {
        let file = secret.file().map(|path| pipeline.relative(path));
        // Before its text, so that a change in between is noticed later.
        let version = file.as_deref().and_then(FileVersion::of);
        let text = secret.reveal(&pipeline.source.path).map_err(|cause| TokenError::Secret { role: role_name(role), cause })?;
        let text = usable(role, text)?;
        Ok(Self {
            role,
            secret: secret.clone(),
            pipeline: pipeline.source.path.clone(),
            file,
            current: Arc::new(Mutex::new(CurrentToken { version, text })),
        })
    }

    /// Whether it is the given one. It is read again if its file has changed; the last usable one
    /// stays valid while the file has none.
    fn is(&self, given: &str) -> bool {
        let mut current = self.current.lock();
        if let Some(file) = &self.file
            && let Some(version) = FileVersion::of(file)
            && current.version.replace(version) != Some(version)
        {
            let role = role_name(self.role);
            let text = self.secret.reveal(&self.pipeline).map_err(|cause| TokenError::Secret { role, cause });
            match text.and_then(|text| usable(self.role, text)) {
                Ok(text) => current.text = text,
                Err(error) => tracing::warn!(%error, role, "token file changed but has no token; the last one stays valid"),
            }
        }
        is_same(&current.text, given)
    }
}

/// The token, if it is long enough and a header can contain it.
fn usable(role: Role, token: String) -> Result<String, TokenError> {
    let is_usable = token.len() >= MIN_TOKEN_CHARS && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_usable { Ok(token) } else { Err(TokenError::Weak { role: role_name(role) }) }
}

/// Shows the number of tokens, not the tokens.
impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({} tokens, hosts {:?}, origins {:?})", self.tokens.len(), self.hosts, self.origins)
    }
}

/// Delays the responses to wrong tokens, so that guessing is slow. A right token is never delayed.
pub(super) struct WrongTokens(Semaphore);

impl WrongTokens {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(MAX_DELAYED))
    }

    /// Waits. Beyond [`MAX_DELAYED`] at once, it does not: they would take the connections of
    /// others.
    async fn delay(&self) {
        if let Ok(_slot) = self.0.try_acquire() {
            tokio::time::sleep(WRONG_TOKEN_DELAY).await;
        }
    }
}

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) role: Role,
    /// `loopback`, `socket` or `token`.
    pub(super) by: &'static str,
}

impl Caller {
    /// Its name in the journal.
    pub(super) fn name(self) -> &'static str {
        role_name(self.role)
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

impl Authenticator {
    /// The authenticator of a pipeline file. Reveals the tokens.
    ///
    /// # Errors
    /// When a token can't be read or is too short.
    pub fn new(pipeline: &Pipeline) -> Result<Self, TokenError> {
        let ApiSection { tokens: table, hosts, origins, listen, .. } = &pipeline.api;
        let mut tokens = Vec::new();
        for (role, secret) in [(Role::Admin, &table.admin), (Role::Operator, &table.operator), (Role::Viewer, &table.viewer)] {
            if let Some(secret) = secret {
                tokens.push(Token::read(role, secret, pipeline)?);
            }
        }
        let socket = pipeline.api.socket().is_some();
        let mut hosts = hosts.clone();
        if !socket {
            hosts.push(listen.clone());
        }
        Ok(Self { tokens, hosts, origins: origins.clone(), socket })
    }

    /// Checks the host name that a request is for, and the origin of the page that sends it.
    fn check_host_and_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.socket {
            return Ok(());
        }
        let host = text(headers, header::HOST).unwrap_or_default();
        if !self.is_own_host(host) {
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

    /// Authorizes a request that needs a role. Asks for the state of the files of tokens.
    fn authorize(&self, headers: &HeaderMap, needed: Option<Role>) -> Result<Caller, ApiError> {
        if self.socket {
            return Ok(Caller { role: Role::Admin, by: "socket" });
        }
        let Some(needed) = needed else { return Ok(Caller { role: Role::Viewer, by: "loopback" }) };
        if self.tokens.is_empty() {
            return Ok(Caller { role: Role::Admin, by: "loopback" });
        }
        let Some(authorization) = text(headers, header::AUTHORIZATION) else {
            return Err(ApiError::new(&problem::TOKEN_MISSING, "the request has no Authorization header"));
        };
        let Some(token) = token_of(authorization) else {
            return Err(ApiError::new(
                &problem::TOKEN_MISSING,
                "the Authorization header has neither a bearer token nor basic credentials",
            ));
        };
        // Compares all tokens, so that the time reveals nothing.
        let roles = self.tokens.iter().filter(|known| known.is(&token)).map(|known| known.role);
        let Some(role) = roles.fold(None, |best, role| best.max(Some(role))) else {
            return Err(ApiError::new(&problem::TOKEN_WRONG, "no role has that token"));
        };
        if role < needed {
            return Err(ApiError::new(
                &problem::ROLE,
                format!("the request needs the role {}, and the token has {}", role_name(needed), role_name(role)),
            ));
        }
        Ok(Caller { role, by: "token" })
    }

    fn is_own_host(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        is_loopback(name) || self.hosts.iter().any(|known| known == host || (!has_port(known) && known == name))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The token in an Authorization header: a bearer token, or the password of basic credentials (RFC
/// 7617) of any user. A browser asks for the latter, so that a link to a run opens.
fn token_of(authorization: &str) -> Option<Cow<'_, str>> {
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().into());
    }
    let pair = BASE64_STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    Some(String::from_utf8(pair).ok()?.split_once(':')?.1.to_owned().into())
}

/// The name in a Host header, without the port; `None` if what follows the name is no port.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether an origin is that of the host's own pages.
fn is_origin_of(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(|authority| authority == host)
}

/// Compares in a time that depends on the length of `known` only.
fn is_same(known: &str, given: &str) -> bool {
    let given = given.as_bytes();
    let differs = known
        .bytes()
        .enumerate()
        .fold(known.len() ^ given.len(), |differs, (at, byte)| differs | usize::from(byte ^ given.get(at).copied().unwrap_or(!byte)));
    std::hint::black_box(differs) == 0
}

/// The middleware that authorizes every request.
pub(super) async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, actix_web::Error> {
    let connection = request.conn_data::<Rc<Connection>>().cloned();
    connection.iter().for_each(|connection| connection.arrived());
    let result = serve(request, next).await;
    // A stream of events takes no further request.
    if !result.as_ref().is_ok_and(|response| response.response().body().size() == BodySize::Stream) {
        connection.iter().for_each(|connection| connection.wait());
    }
    result
}

/// Serves a request if it is authorized.
async fn serve(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Result<ServiceResponse, actix_web::Error> {
    let state = request.app_data::<web::Data<State>>().expect("the app has its state").clone();
    let authenticator = &state.api.authenticator;
    authenticator.check_host_and_origin(request.headers())?;
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if origin.is_some() && is_preflight(&request) {
        request.into_response(preflight_response())
    } else {
        // An unknown path or method needs the role of a viewer.
        let needed = route_of(request.method().as_str(), request.match_pattern().as_deref()).map_or(Some(Role::Viewer), |route| route.role);
        match authenticator.authorize(request.headers(), needed) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                next.call(request).await?.map_into_boxed_body()
            }
            Err(error) => {
                if error.is(&problem::TOKEN_WRONG) {
                    state.wrong_tokens.delay().await;
                }
                request.into_response(error.error_response())
            }
        }
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("location, retry-after, www-authenticate"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

/// Whether a request is a CORS preflight, which has no token.
fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Allows the request that follows, which is authorized on its own.
fn preflight_response() -> HttpResponse {
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

    fn open() -> Authenticator {
        Authenticator { hosts: vec!["127.0.0.1:7070".into(), "forebay:7070".into(), "ops".into()], ..Authenticator::default() }
    }

    fn with_tokens() -> Authenticator {
        let token = |role, text: &str| {
            let current = CurrentToken { version: None, text: text.to_owned() };
            let (secret, pipeline) = (Secret::Env("NOT_READ".into()), PathBuf::new());
            Token { role, secret, pipeline, file: None, current: Arc::new(Mutex::new(current)) }
        };
        Authenticator { tokens: vec![token(Role::Operator, OPERATOR), token(Role::Viewer, VIEWER)], ..open() }
    }

    fn request(authenticator: &Authenticator, headers: &[(header::HeaderName, &str)], needed: Role) -> Result<Role, u16> {
        let mut map = HeaderMap::new();
        map.insert(header::HOST, "localhost:7070".parse().unwrap());
        headers.iter().for_each(|(name, value)| drop(map.insert(name.clone(), value.parse().unwrap())));
        authenticator
            .check_host_and_origin(&map)
            .and_then(|()| authenticator.authorize(&map, Some(needed)))
            .map(|caller| caller.role)
            .map_err(|error| error.status_code().as_u16())
    }

    #[test]
    fn only_loopback_and_the_hosts_of_the_file_are_own_hosts() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:7070", "127.0.0.1", "[::1]:7070", "forebay:7070", "ops", "ops:1"] {
            assert!(open().is_own_host(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", "10.0.0.1:7070", "", "[::2]:1", "forebay:7071", "forebay"]
        {
            assert!(!open().is_own_host(host), "{host}");
        }
        for host in ["[::1]evil:80", "[::1]evil", "[::1]:80:90", "[::1", "localhost:evil", "localhost:80:evil", "127.0.0.1:", "ops:x"] {
            assert!(!open().is_own_host(host), "{host} has no port after its name");
        }
    }

    #[test]
    fn a_page_of_the_own_origin_is_allowed_and_a_foreign_one_is_not() {
        let authenticator = Authenticator { origins: vec!["https://ops.example.org".into()], ..open() };
        let from = |origin| request(&authenticator, &[(header::ORIGIN, origin)], Role::Viewer);
        assert_eq!(from("http://localhost:7070"), Ok(Role::Admin));
        assert_eq!(from("https://ops.example.org"), Ok(Role::Admin));
        for foreign in ["http://localhost:3000", "https://evil.example", "null", ""] {
            assert_eq!(from(foreign), Err(403), "{foreign}");
        }
    }

    #[test]
    fn without_tokens_every_loopback_client_is_an_admin() {
        assert_eq!(request(&open(), &[], Role::Admin), Ok(Role::Admin));
    }

    #[test]
    fn with_tokens_every_client_needs_one_and_its_role_limits_it() {
        let with = |token: &str, needed| request(&with_tokens(), &[(header::AUTHORIZATION, &format!("Bearer {token}"))], needed);
        assert_eq!(request(&with_tokens(), &[], Role::Viewer), Err(401));
        assert_eq!(request(&with_tokens(), &[(header::AUTHORIZATION, "Basic eDp5")], Role::Viewer), Err(401));
        assert_eq!(with("operator-0123456780", Role::Viewer), Err(401));
        assert_eq!(with("operator-012345678", Role::Viewer), Err(401));
        assert_eq!(with(VIEWER, Role::Viewer), Ok(Role::Viewer));
        assert_eq!(with(VIEWER, Role::Operator), Err(403));
        assert_eq!(with(OPERATOR, Role::Operator), Ok(Role::Operator));
        assert_eq!(with(OPERATOR, Role::Admin), Err(403));
        let basic = |pair: &str| {
            let authorization = format!("Basic {}", BASE64_STANDARD.encode(pair));
            request(&with_tokens(), &[(header::AUTHORIZATION, &authorization)], Role::Viewer)
        };
        assert_eq!(basic(&format!("anybody:{VIEWER}")), Ok(Role::Viewer), "as a browser sends it");
        assert_eq!((basic(VIEWER), basic("anybody:no"), basic("")), (Err(401), Err(401), Err(401)));
        assert!(
            with_tokens().authorize(&HeaderMap::from_iter([(header::HOST, "localhost".parse().unwrap())]), None).is_ok(),
            "health needs none"
        );
    }

    #[test]
    fn a_short_token_is_rejected_and_none_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let pipeline = |token: &str| {
            std::fs::write(dir.path().join("token"), token).unwrap();
            std::fs::set_permissions(dir.path().join("token"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x\"\n[producer]\n\
                        key = \"/id\"\n[api]\nlisten = \"0.0.0.0:7070\"\ntokens = { operator = { file = \"token\" } }\n";
            forebay_schemas::pipeline::parse(&dir.path().join("forebay.toml"), text.to_owned()).unwrap()
        };
        assert!(Authenticator::new(&pipeline("hunter2")).unwrap_err().to_string().contains("tokens.operator"));
        let authenticator = Authenticator::new(&pipeline("hunter2hunter2hunter2\n")).unwrap();
        assert!(!format!("{authenticator:?}").contains("hunter2"));
    }

    #[test]
    fn a_token_is_read_again_when_its_file_changes_and_stays_valid_while_the_file_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let write = |token: &str| std::fs::write(&file, token).unwrap();
        write("first-0123456789abc\n");
        let text = "[pipeline]\nname = \"x\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x/\"\n\
                    [producer]\nkey = \"/id\"\n[api]\ntokens = { operator = { file = \"token\" } }\n";
        let pipeline = forebay_schemas::pipeline::parse(&dir.path().join("forebay.toml"), text.to_owned()).unwrap();
        let authenticator = Authenticator::new(&pipeline).unwrap();
        let is_valid = |token: &str| request(&authenticator, &[(header::AUTHORIZATION, &format!("Bearer {token}"))], Role::Viewer).is_ok();
        assert!(is_valid("first-0123456789abc"));
        write("second-0123456789\n");
        assert!(is_valid("second-0123456789") && !is_valid("first-0123456789abc"));
        write("");
        assert!(is_valid("second-0123456789") && !is_valid(""));
        std::fs::remove_file(&file).unwrap();
        assert!(is_valid("second-0123456789"));
        write("third-0123456789abc");
        assert!(is_valid("third-0123456789abc") && !is_valid("second-0123456789"));
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_are_delayed_and_beyond_a_limit_they_are_answered_at_once() {
        let (wrong, start) = (WrongTokens::new(), tokio::time::Instant::now());
        let took = futures_util::future::join_all((0..100).map(|_| async {
            wrong.delay().await;
            start.elapsed()
        }))
        .await;
        let delayed = took.iter().filter(|took| **took >= WRONG_TOKEN_DELAY).count();
        assert_eq!((delayed, took.iter().filter(|took| took.is_zero()).count()), (MAX_DELAYED, 100 - MAX_DELAYED));
    }
}
