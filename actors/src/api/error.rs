//! Errors of the API as answers, after RFC 9457.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use forebay_schemas::problem::{self, ProblemType};
use forebay_schemas::run::Problem;

use crate::broker::BrokerError;
use crate::journal::JournalError;
use crate::ledger::Rejection;

/// Seconds that a client is to wait before it asks the same again.
const RETRY_AFTER: &str = "5";

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct ApiError {
    of: &'static ProblemType,
    detail: String,
    /// The methods that the path takes.
    allow: Option<String>,
}

impl ApiError {
    /// A problem of a kind; `detail` says what was wrong with this very request.
    pub(super) fn new(of: &'static ProblemType, detail: impl Into<String>) -> Self {
        Self { of, detail: detail.into(), allow: None }
    }

    /// Of a method that the path does not take; it takes these.
    pub(super) fn allow(self, methods: String) -> Self {
        Self { allow: Some(methods), ..self }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let of = match rejection {
            Rejection::Unknown(_) => &problem::RUN_UNKNOWN,
            Rejection::Ended(..) | Rejection::InvalidState(..) => &problem::RUN_STATE,
            Rejection::TooMany => &problem::RUN_TOO_MANY,
            Rejection::BadKey => &problem::RUN_KEY,
            Rejection::Mismatch(_) => &problem::RUN_PAYLOAD_MISMATCH,
            Rejection::Paused(_) => &problem::PIPELINE_PAUSED,
        };
        Self::new(of, rejection.to_string())
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
        write!(f, "{} {}", self.of.title, self.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.of.status).expect("the table of problems has statuses of HTTP")
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem {
            kind: self.of.kind.to_owned(),
            title: self.of.title.to_owned(),
            status: self.of.status,
            detail: self.detail.clone(),
            remedy: self.of.remedy.to_owned(),
            retryable: self.of.retryable,
        };
        let mut answer = HttpResponse::build(self.status_code());
        if self.of.retryable && matches!(self.of.status, 429 | 503) {
            answer.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        if self.of.status == 401 {
            let wrong = if self.of == &problem::TOKEN_WRONG { ", error=\"invalid_token\"" } else { "" };
            answer.insert_header((header::WWW_AUTHENTICATE, format!("Bearer realm=\"forebay\"{wrong}, Basic realm=\"forebay\"")));
        }
        if let Some(methods) = &self.allow {
            answer.insert_header((header::ALLOW, methods.as_str()));
        }
        answer.content_type("application/problem+json").body(serde_json::to_vec(&problem).expect("a problem is JSON"))
    }
}
