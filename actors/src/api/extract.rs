//! Extractors: the parameters and the body of a request, checked against the table of routes.
//!
//! Guarantees:
//! * A handler gets parameters of the kinds in the table, and a body of its type that has at most
//!   [`MAX_BODY_BYTES`]. Any other request is rejected with the location of the mistake.
//!
//! Does not guarantee what the table can't express, such as that a run exists.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use forebay_schemas::problem;
use forebay_schemas::routes::{Kind, MAX_BODY_BYTES, Param, ROUTES, Route};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::error::ApiError;
use super::waiting_connections::{Connection, REQUEST_TIMEOUT};

/// The rows of a list without a `limit`.
const DEFAULT_LIMIT: usize = 100;

/// The path of a route as an actix pattern. The parameter `path` may contain slashes.
pub(super) fn pattern(path: &str) -> String {
    path.replace("{path}", "{path:.+}")
}

/// The route of a request, if there is one.
pub(super) fn route_of(method: &str, matched: Option<&str>) -> Option<&'static Route> {
    let matched = matched?;
    ROUTES.iter().find(|route| route.method.name() == method && pattern(route.path) == matched)
}

/// The checked parameters of a request.
pub(super) struct Params {
    path: BTreeMap<&'static str, String>,
    query: BTreeMap<String, String>,
}

impl Params {
    fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let Some(route) = route_of(request.method().as_str(), request.match_pattern().as_deref()) else {
            return Ok(Self { path: BTreeMap::new(), query: BTreeMap::new() });
        };
        let mut path = BTreeMap::new();
        if !route.path_params.is_empty() {
            // Decoded, in the order of the path.
            let values: Vec<String> = request
                .match_info()
                .load()
                .map_err(|cause| ApiError::new(&problem::PATH, format!("{} can't be read: {cause}", request.path())))?;
            for (param, value) in route.path_params.iter().zip(values) {
                check(param, &value)
                    .map_err(|wanted| ApiError::new(&problem::PATH, format!("{} = {value:?} is not {wanted}", param.name)))?;
                path.insert(param.name, value);
            }
        }
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|cause| ApiError::new(&problem::QUERY, format!("{:?} can't be read: {cause}", request.query_string())))?;
        let mut query = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            let Some(param) = route.query.iter().find(|param| param.name == name) else {
                let known: Vec<_> = route.query.iter().map(|param| param.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(ApiError::new(&problem::QUERY, format!("{} has no parameter {name:?}; it has: {known}", route.path)));
            };
            check(param, &value).map_err(|wanted| ApiError::new(&problem::QUERY, format!("{name} = {value:?} is not {wanted}")))?;
            if query.insert(name.clone(), value).is_some() {
                return Err(ApiError::new(&problem::QUERY, format!("{name} is given twice")));
            }
        }
        Ok(Self { path, query })
    }

    /// A path parameter.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// The UUID in the path.
    pub(super) fn id(&self) -> Uuid {
        self.path("id").parse().expect("checked against the table, where it is a UUID")
    }

    /// A query parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A query parameter that is an integer.
    pub(super) fn integer(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// A query parameter that is a duration.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        self.text(name).and_then(parse_duration)
    }

    /// The number of rows to list.
    pub(super) fn limit(&self) -> usize {
        self.integer("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT)
    }
}

impl FromRequest for Params {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}

/// Checks a value against the table. The error describes what it should be.
fn check(param: &Param, value: &str) -> Result<(), String> {
    let (is, wanted) = match param.kind {
        Kind::Text(max) => ((1..=max).contains(&value.chars().count()), format!("text of 1 to {max} characters")),
        Kind::Enum(words) => (words.contains(&value), format!("one of {}", words.join(", "))),
        Kind::Integer(min, max) => {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse().ok().filter(|_| digits);
            (number.is_some_and(|number| (min..=max).contains(&number)), format!("an integer from {min} to {max}"))
        }
        Kind::Uuid => (value.len() == 36 && value.parse::<Uuid>().is_ok(), "a UUID".to_owned()),
        Kind::Duration => (parse_duration(value).is_some(), "a duration such as 500ms, 30s or 1m".to_owned()),
    };
    if is { Ok(()) } else { Err(wanted) }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok().filter(|_| digits <= 6)?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(60 * number)),
        _ => None,
    }
}

/// A required body.
pub(super) struct Body<T>(pub(super) T);

/// An optional body.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = bytes(request, payload.take());
        Box::pin(async move { parse(&body.await?).map(Self) })
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalBody<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = bytes(request, payload.take());
        Box::pin(async move {
            match body.await? {
                empty if empty.is_empty() => Ok(Self(T::default())),
                body => parse(&body).map(Self),
            }
        })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).or_else(|cause| {
        let whole = serde_json::from_slice(body).ok().map(with_integers);
        let again = whole.and_then(|value| serde_json::from_value(value).ok());
        again.ok_or_else(|| ApiError::new(&problem::BODY, cause.to_string()))
    })
}

/// Replaces numbers such as `7.0` by `7`: they are equal in JSON Schema, and some clients send the
/// former.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Up to 2^53 a float represents every integer exactly.
            #[allow(clippy::cast_possible_truncation, reason = "an integer within the range")]
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(with_integers).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, with_integers(value))).collect()),
        other => other,
    }
}

fn bytes(request: &HttpRequest, mut payload: Payload) -> impl Future<Output = Result<Vec<u8>, ApiError>> + use<> {
    let too_large = || ApiError::new(&problem::BODY_TOO_LARGE, format!("the body has more than {MAX_BODY_BYTES} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let connection = request.conn_data::<Rc<Connection>>().cloned();
    let whole = async move {
        if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|cause| ApiError::new(&problem::BODY, cause.to_string()))?;
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    async move {
        connection.iter().for_each(|connection| connection.wait());
        let body = tokio::time::timeout(REQUEST_TIMEOUT, whole).await;
        connection.iter().for_each(|connection| connection.arrived());
        let late = || ApiError::new(&problem::BODY, format!("the body did not arrive within {} s", REQUEST_TIMEOUT.as_secs()));
        body.unwrap_or_else(|_| Err(late()))
    }
}

/// Checks a reason, which is stored in the journal.
///
/// # Errors
/// When it is empty or too long.
pub(super) fn reason(text: &str) -> Result<String, ApiError> {
    match text.chars().count() {
        1..=500 => Ok(text.to_owned()),
        length => Err(ApiError::new(&problem::REASON, format!("the reason has {length} characters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_may_have_a_decimal_point() {
        let request: forebay_schemas::run::RunRequest = parse(b"{\"attempt\": 2.0, \"lease_seconds\": 3e1}").unwrap();
        assert_eq!((request.attempt, request.lease_seconds), (2, Some(30)));
        assert!(parse::<forebay_schemas::run::RunRequest>(b"{\"attempt\": 2.5}").is_err());
    }

    #[test]
    fn a_parameter_matches_its_kind_or_the_error_describes_the_kind() {
        let is = |kind, value: &str| check(&Param { name: "x", kind, what: "" }, value).is_ok();
        assert!(is(Kind::Integer(1, 1_000), "1000") && !is(Kind::Integer(1, 1_000), "1001") && !is(Kind::Integer(1, 1_000), "0"));
        assert!(
            !is(Kind::Integer(0, 9), "+1")
                && !is(Kind::Integer(0, 9), "")
                && !is(Kind::Integer(0, 9), "1.0")
                && !is(Kind::Integer(0, 9), "٣")
        );
        assert!(is(Kind::Text(2), "é!") && !is(Kind::Text(2), "") && !is(Kind::Text(2), "abc"));
        assert!(
            is(Kind::Duration, "30s")
                && is(Kind::Duration, "500ms")
                && !is(Kind::Duration, "1h")
                && !is(Kind::Duration, "s")
                && !is(Kind::Duration, "1234567s")
        );
        assert!(!is(Kind::Uuid, "7") && is(Kind::Uuid, "0192f0c1-7a00-7000-8000-000000000001"));
        let wrong = check(&Param { name: "x", kind: Kind::Enum(&["failed"]), what: "" }, "fail").unwrap_err();
        assert_eq!(wrong, "one of failed");
    }
}
