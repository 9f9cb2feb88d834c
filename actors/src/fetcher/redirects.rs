//! Which redirects are followed.
//!
//! Guarantees:
//! * The host stays the same, TLS is not dropped, and there is an end.
//! * A POST stays a POST.

use forebay_schemas::http_url::HttpUrl;
use reqwest::StatusCode;
use reqwest::redirect::{Action, Attempt, Policy};

use super::next_url;

/// The most redirects that are followed, all on the same host.
const MAX_REDIRECTS: usize = 3;

/// The policy for requests with or without a body.
pub(super) fn policy(has_body: bool) -> Policy {
    Policy::custom(if has_body { follow_with_body } else { follow })
}

/// Follows a redirect as [`follow`] does, unless the request would lose its method and its body.
fn follow_with_body(attempt: Attempt<'_>) -> Action {
    if matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return follow(attempt);
    }
    let cause = format!("by {}, which turns a POST into a GET, to {}", attempt.status(), HttpUrl::from(attempt.url().clone()));
    attempt.error(cause)
}

/// Follows a redirect on the same host, not from TLS to plain text, and at most [`MAX_REDIRECTS`]
/// times. The headers of the pipeline file are sent along, and may hold a secret.
fn follow(attempt: Attempt<'_>) -> Action {
    let from = attempt.previous().first().cloned();
    let to = attempt.url().clone();
    let Some(from) = from else { return attempt.follow() };
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} times"))
    } else if let Err(cause) = next_url::check_same_host(&from, &to) {
        attempt.error(cause)
    } else {
        attempt.follow()
    }
}
