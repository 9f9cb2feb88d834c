//! Errors of the API, after RFC 9457.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use forebay_schemas::run::Problem;

use crate::journal::JournalError;
use crate::ledger::Rejection;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    title: String,
    detail: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, kind, title: title.into(), detail: detail.into() }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let (status, kind) = match rejection {
            Rejection::Unknown(_) => (StatusCode::NOT_FOUND, "run.unknown"),
            Rejection::Ended(..) | Rejection::OutOfTurn(..) => (StatusCode::CONFLICT, "run.state"),
            Rejection::TooMany => (StatusCode::TOO_MANY_REQUESTS, "run.too_many"),
            Rejection::BadKey => (StatusCode::BAD_REQUEST, "run.key"),
        };
        Self::new(status, kind, "the run can't be had", rejection.to_string())
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "journal.failed", "the journal can't be written", error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem {
            kind: self.kind.to_owned(),
            title: self.title.clone(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            remedy: String::new(),
            retryable: false,
        };
        let body = serde_json::to_vec(&problem).expect("a problem is JSON");
        let mut answer = HttpResponse::build(self.status);
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            answer.insert_header(("Retry-After", "5"));
        }
        answer.content_type("application/problem+json").body(body)
    }
}
