//! Checks of the keys of `[fetcher]` that say how the source API authenticates its client, how its
//! answers are read, and what its statuses mean.
//!
//! Guarantee: every error points at the key and says what to write instead.

use std::time::Duration;

use super::checks::{check_client_pair, check_pointer, duration_in_range, in_range};
use super::{AuthSection, BodyFormat, FetcherSection, FileError, HumanDuration, Pipeline, RecordsSection, StatusesSection};

/// Checks these keys.
pub(super) fn check(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    check_body(p, fetcher)?;
    check_statuses(p, &fetcher.statuses)?;
    duration_in_range(p, &["fetcher", "max_wait"], fetcher.max_wait, Duration::ZERO, Duration::from_secs(86_400))?;
    if let Some(max) = fetcher.max_attempts {
        in_range(p, &["fetcher", "max_attempts"], i64::from(max), 1, 1_000)?;
    }
    if let Some(rate) = fetcher.rate_limit.filter(|rate| rate.interval > fetcher.max_wait.0) {
        let message = format!("rate_limit allows a request every {}, but max_wait is {}", HumanDuration(rate.interval), fetcher.max_wait);
        return Err(p.error_at(&["fetcher", "rate_limit"], message, "raise max_wait in [fetcher], or allow more requests"));
    }
    if let Some(auth) = &fetcher.auth {
        check_auth(p, fetcher, auth)?;
    }
    if let Some(tls) = &fetcher.tls {
        check_client_pair(p, "fetcher", tls.certificate.is_some(), tls.key.is_some())?;
    }
    if fetcher.tls.is_some() && fetcher.url.reveal().scheme() != "https" {
        return Err(p.error_at(
            &["fetcher", "tls"],
            "fetcher.url is not an https URL, so there is no TLS",
            "write https:// in fetcher.url, or remove [fetcher.tls]",
        ));
    }
    Ok(())
}

fn check_body(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    let key = &["fetcher", "records"];
    let pointer = fetcher.records.pointer();
    check_pointer(p, key, pointer)?;
    if !matches!(fetcher.records, RecordsSection::At(_)) && pointer.split('/').any(|token| token == "*") {
        return Err(p.error_at(
            key,
            "`*` stands for several values, but one object is needed",
            "name one member, or write the pointer alone",
        ));
    }
    let by_rows = match fetcher.format {
        Some(BodyFormat::Ndjson) => Some("ndjson"),
        Some(BodyFormat::Csv) => Some("csv"),
        Some(BodyFormat::Json) | None => None,
    };
    if let Some(format) = by_rows
        && fetcher.records != RecordsSection::default()
    {
        return Err(p.error_at(
            key,
            format!("format = {format:?} has no pointer to its records"),
            "remove records: each line or row is a record",
        ));
    }
    if let Some(delimiter) = fetcher.delimiter {
        let key = &["fetcher", "delimiter"];
        if matches!(fetcher.format, Some(BodyFormat::Json | BodyFormat::Ndjson)) {
            return Err(p.error_at(key, "only CSV has a delimiter", "remove it, or set format = \"csv\""));
        }
        if !delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r') || delimiter.is_ascii_alphanumeric() {
            return Err(p.error_at(
                key,
                format!("{delimiter:?} can't separate fields"),
                "write one ASCII character, such as \";\" or \"\\t\"",
            ));
        }
    }
    if let Some(error) = &fetcher.error {
        check_pointer(p, &["fetcher", "error"], &error.at)?;
        if error.at.is_empty() {
            return Err(p.error_at(
                &["fetcher", "error"],
                "the pointer to the error is empty",
                "write it as the API defines it: \"/error\"",
            ));
        }
    }
    Ok(())
}

fn check_statuses(p: &Pipeline, statuses: &StatusesSection) -> Result<(), FileError> {
    let lists = [("retry", &statuses.retry), ("ignore", &statuses.ignore), ("final", &statuses.fatal)];
    let mut seen = Vec::new();
    for (name, list) in lists {
        let key = &["fetcher", "statuses", name];
        for &status in list {
            if !(100..600).contains(&status) {
                return Err(p.error_at(key, format!("{status} is no HTTP status"), "use 100 to 599"));
            }
            if seen.contains(&status) {
                return Err(p.error_at(key, format!("{status} has two meanings"), "list each status once"));
            }
            seen.push(status);
        }
    }
    Ok(())
}

fn check_auth(p: &Pipeline, fetcher: &FetcherSection, auth: &AuthSection) -> Result<(), FileError> {
    let ways = auth.ways();
    let key = &["fetcher", "auth"];
    match ways[..] {
        [] => return Err(p.error_at(key, "[fetcher.auth] is empty", "set basic, bearer or oauth2, or remove it")),
        [_] => {}
        _ => return Err(p.error_at(key, format!("[fetcher.auth] has {}", ways.join(" and ")), "keep one of them")),
    }
    let twice = fetcher.headers.keys().find(|name| name.eq_ignore_ascii_case("Authorization"));
    if let Some(name) = twice {
        return Err(p.error_at(&["fetcher", "headers", name], format!("[fetcher.auth] sends `{name}` too"), "remove one of them"));
    }
    if auth.oauth2.as_ref().is_some_and(|oauth2| oauth2.token_url.has_user()) {
        let key = &["fetcher", "auth", "oauth2", "token_url"];
        return Err(p.error_at(key, "the URL contains a user or a password", "remove it: client_id and client_secret are sent"));
    }
    let oauth2 = auth.oauth2.iter();
    let names = oauth2.flat_map(|oauth2| oauth2.params.keys());
    let reserved = ["grant_type", "client_id", "client_secret", "scope", "refresh_token"];
    if let Some(name) = names.into_iter().find(|name| reserved.contains(&name.as_str())) {
        let remedy = "remove it: Forebay sends it from the other keys of [fetcher.auth.oauth2]";
        return Err(p.error_at(&["fetcher", "auth", "oauth2", "params", name], format!("`{name}` is set by Forebay"), remedy));
    }
    Ok(())
}
