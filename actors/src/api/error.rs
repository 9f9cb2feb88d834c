//! Errors of the API as responses, after RFC 9457.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use forebay_schemas::problem::{self, ProblemType};
use forebay_schemas::run::Problem;

use crate::broker::BrokerError;
use crate::journal::JournalError;
use crate::ledger::Rejection;

/// The seconds after which a client should retry.
const RETRY_AFTER: &str = "5";

/// An error response.
#[derive(Debug)]
pub(super) struct ApiError {
    problem: &'static ProblemType,
    detail: String,
    /// The methods that the path allows.
    allow: Option<String>,
}

impl ApiError {
    /// A problem of a type. `detail` describes this occurrence.
    pub(super) fn new(problem: &'static ProblemType, detail: impl Into<String>) -> Self {
        Self { problem, detail: detail.into(), allow: None }
    }

    /// Whether it is a problem of a type.
    pub(super) fn is(&self, problem: &'static ProblemType) -> bool {
        self.problem.kind == problem.kind
    }

    /// The body of the response.
    pub(super) fn body(&self) -> Vec<u8> {
        let body = Problem {
            kind: self.problem.kind.to_owned(),
            title: self.problem.title.to_owned(),
            status: self.problem.status,
            detail: self.detail.clone(),
            remedy: self.problem.remedy.to_owned(),
            retryable: self.problem.retryable,
        };
        serde_json::to_vec(&body).expect("a problem serializes to JSON")
    }

    /// Adds the methods that the path allows.
    pub(super) fn allow(self, methods: String) -> Self {
        Self { allow: Some(methods), ..self }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let problem = match rejection {
            Rejection::Unknown(_) => &problem::RUN_UNKNOWN,
            Rejection::Ended(..) | Rejection::InvalidState(..) => &problem::RUN_STATE,
            Rejection::TooMany => &problem::RUN_TOO_MANY,
            Rejection::BadKey => &problem::RUN_KEY,
            Rejection::Mismatch(_) => &problem::RUN_PAYLOAD_MISMATCH,
            Rejection::Paused(_) => &problem::PIPELINE_PAUSED,
        };
        Self::new(problem, rejection.to_string())
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        Self::new(&problem::JOURNAL_FAILED, error.to_string())
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        Self::new(&problem::KAFKA_AWAY, error.to_string())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.problem.title, self.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).expect("every problem type has an HTTP status")
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if self.problem.retryable && matches!(self.problem.status, 429 | 503) {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        if self.problem.status == 401 {
            let wrong = if self.problem == &problem::TOKEN_WRONG { ", error=\"invalid_token\"" } else { "" };
            response.insert_header((header::WWW_AUTHENTICATE, format!("Bearer realm=\"forebay\"{wrong}, Basic realm=\"forebay\"")));
        }
        if let Some(methods) = &self.allow {
            response.insert_header((header::ALLOW, methods.as_str()));
        }
        response.content_type("application/problem+json").body(self.body())
    }
}
