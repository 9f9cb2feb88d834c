//! Next pages that a response names by a URL. Pure.
//!
//! Guarantees:
//! * A URL is requested only on the host of `fetcher.url`, by the rule for redirects, and on the
//!   hosts that the file allows.
//! * The stored form has no user, no password, no parameter of `fetcher.url` and no parameter that
//!   is a secret, so a key in the pipeline file is not stored.
//!
//! Does not guarantee that other secrets in the API's URLs are removed. They are stored and shown
//! like any cursor.

use forebay_schemas::http_url::HttpUrl;
use reqwest::Url;

use super::request::{name_of, with_param};

/// The URL of a text; `None` when it is a cursor.
///
/// URLs are `http://…`, `https://…`, `//HOST/…` of the same host, `?NAME=VALUE…`, and a path that
/// has a query or starts like that of `fetcher.url`. A cursor that only contains a slash is none. A
/// relative URL is relative to `base`.
pub(super) fn parse(text: &str, file: &Url, base: &Url) -> Option<Result<Url, String>> {
    let text = text.trim();
    let is_absolute =
        ["http://", "https://"].iter().any(|scheme| text.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme)));
    let is_relative = || match text.as_bytes() {
        [b'/', b'/', ..] => file.host_str().is_some_and(|host| text[2..].starts_with(host)) || text.contains('?'),
        [b'/', ..] => text.contains('?') || first_segment(text).is_some_and(|segment| first_segment(file.path()) == Some(segment)),
        [b'?', ..] => text.contains('='),
        _ => {
            let last = base.path().rsplit('/').next().unwrap_or_default();
            !last.is_empty() && text.strip_prefix(last).is_some_and(|rest| rest.starts_with('?'))
        }
    };
    if !is_absolute && !is_relative() {
        return None;
    }
    Some(base.join(text).map_err(|cause| cause.to_string()))
}

/// The first segment of a path, if it has one.
fn first_segment(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split(['/', '?', '#']).next().filter(|segment| !segment.is_empty())
}

/// Checks that what is sent to one URL may be sent to another: the host and port are the same, and
/// TLS is not dropped. An upgrade to TLS is allowed between the default ports.
pub(super) fn check_same_host(from: &Url, to: &Url) -> Result<(), String> {
    let to_tls = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    if from.host() != to.host() {
        Err(format!("to another host, {}", HttpUrl::from(to.clone())))
    } else if from.scheme() == "https" && to.scheme() != "https" {
        Err(format!("to plain text, {}", HttpUrl::from(to.clone())))
    } else if !matches!(to.scheme(), "http" | "https") || from.port_or_known_default() != to.port_or_known_default() && !to_tls {
        Err(format!("to another port, {}", HttpUrl::from(to.clone())))
    } else {
        Ok(())
    }
}

/// Checks that a URL may be requested: it is on the host of the file, or on an allowed one,
/// `host` or `host:port`, without dropping TLS.
pub(super) fn check_allowed(file: &Url, to: &Url, allowed: &[String]) -> Result<(), String> {
    let Err(refusal) = check_same_host(file, to) else { return Ok(()) };
    let is_at = |host: &String| {
        // The scheme gives the default port.
        let at = Url::parse(&format!("{}://{host}/", to.scheme()));
        at.is_ok_and(|at| at.host() == to.host() && at.port_or_known_default() == to.port_or_known_default())
    };
    let keeps_tls = to.scheme() == "https" || to.scheme() == "http" && file.scheme() == "http";
    if keeps_tls && allowed.iter().any(is_at) { Ok(()) } else { Err(refusal) }
}

/// The parameters of a query, unparsed.
fn pairs(url: &Url) -> impl Iterator<Item = &str> {
    url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

/// The name of an unparsed parameter.
fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// The form in which a URL is stored: each parameter that `fetcher.url` has with the same value,
/// and each of the `secrets`, becomes `{NAME}`.
pub(super) fn to_stored(url: &Url, file: &Url, secrets: &[&str]) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let own: Vec<&str> = pairs(file).filter(|pair| pair.contains('=')).collect();
    let is_hidden = |pair: &str| own.contains(&pair) || secrets.iter().any(|secret| *secret == name_of(pair));
    let brief: Vec<String> =
        pairs(&url).map(|pair| if is_hidden(pair) { format!("{{{}}}", name(pair)) } else { pair.to_owned() }).collect();
    if url.query().is_some() {
        url.set_query(Some(&brief.join("&")));
    }
    url.to_string()
}

/// The URL to request for a [stored](to_stored) one: with the parameters of `fetcher.url` and, on
/// its host, with the `secrets`.
pub(super) fn from_stored(stored: &Url, file: &Url, secrets: &[(String, String)]) -> Url {
    let mut url = stored.clone();
    let is_secret = |pair: &&str| {
        let sought = pair.strip_prefix('{').and_then(|pair| pair.strip_suffix('}'));
        sought.is_some_and(|sought| secrets.iter().any(|(secret, _)| *secret == name_of(sought)))
    };
    let own = |pair: &str| {
        let sought = pair.strip_prefix('{')?.strip_suffix('}')?;
        pairs(file).find(|pair| name(pair) == sought)
    };
    let full: Vec<&str> = pairs(stored).filter(|pair| !is_secret(pair)).map(|pair| own(pair).unwrap_or(pair)).collect();
    if stored.query().is_some() {
        let full = full.join("&");
        url.set_query(Some(full.as_str()).filter(|query| !query.is_empty()));
    }
    match check_same_host(file, &url) {
        Ok(()) => secrets.iter().fold(url, |url, (name, value)| with_param(&url, name, &[value])),
        Err(_) => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }
    fn leads(text: &str) -> Option<String> {
        let file = url("https://api.example/v2/people?size=2");
        parse(text, &file, &file).map(|url| url.map_or_else(|cause| format!("error: {cause}"), |url| url.to_string()))
    }

    #[test]
    fn a_url_is_told_from_a_cursor_that_contains_a_slash() {
        for (text, to) in [
            ("https://api.example/v2/people?page=2", "https://api.example/v2/people?page=2"),
            (" HTTPS://API.example:443/v2/people?page=2 ", "https://api.example/v2/people?page=2"),
            ("http://other.example/", "http://other.example/"),
            ("//api.example/v2/people?page=2", "https://api.example/v2/people?page=2"),
            ("/v2/people/page/2", "https://api.example/v2/people/page/2"),
            ("/v2/other", "https://api.example/v2/other"),
            ("/people?page=2", "https://api.example/people?page=2"),
            ("?page=2", "https://api.example/v2/people?page=2"),
            ("people?page=2", "https://api.example/v2/people?page=2"),
        ] {
            assert_eq!(leads(text).as_deref(), Some(to), "{text}");
        }
        for text in
            ["2", "a/b", "/wEPDwUK+x/8=", "//8BAAE=", "/", "?", "abc=", "users/7", "ftp://api.example/", "page=2", "peopled", "http:/x"]
        {
            assert_eq!(leads(text), None, "{text}");
        }
        assert!(leads("http://[/").is_some_and(|url| url.starts_with("error")), "it is meant as a URL");
    }

    #[test]
    fn headers_go_to_the_host_and_port_of_the_file_and_never_to_plain_text() {
        let may = |from: &str, to: &str| check_same_host(&url(from), &url(to));
        for (from, to) in [
            ("http://a.example/x", "http://a.example/y?z"),
            ("http://a.example/", "https://a.example/"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/next"),
            ("https://a.example/", "https://a.example:443/"),
        ] {
            assert_eq!(may(from, to), Ok(()), "{from} {to}");
        }
        for (from, to, why) in [
            ("http://a.example/", "http://b.example/?k=v", "to another host, http://b.example/"),
            ("http://a.example/", "http://a.example.evil/", "to another host, http://a.example.evil/"),
            ("http://a.example/", "http://a.example:8080/", "to another port, http://a.example:8080/"),
            ("http://a.example/", "https://a.example:8443/", "to another port, https://a.example:8443/"),
            ("http://a.example:8080/", "https://a.example/", "to another port, https://a.example/"),
            ("https://a.example/", "http://a.example/", "to plain text, http://a.example/"),
        ] {
            assert_eq!(may(from, to), Err(why.to_owned()), "{from} {to}");
        }
    }

    #[test]
    fn a_stored_url_has_no_secrets_of_the_file_and_is_requested_with_them() {
        let file = url("https://api.example/people?size=2&appid=S3CRET&flag");
        let next = url("https://api.example/people?page=2&size=2&appid=S3CRET&flag&since=2#top");
        let stored = to_stored(&next, &file, &[]);
        assert_eq!(stored, "https://api.example/people?page=2&{size}&{appid}&flag&since=2");
        assert_eq!(from_stored(&url(&stored), &file, &[]).as_str(), "https://api.example/people?page=2&size=2&appid=S3CRET&flag&since=2");
        let renewed = url("https://api.example/people?size=2&appid=NEW");
        assert!(from_stored(&url(&stored), &renewed, &[]).as_str().contains("appid=NEW"), "a renewed key is used");
        assert_eq!(to_stored(&url("https://x:y@api.example/people"), &file, &[]), "https://api.example/people");
        assert_eq!(
            to_stored(&url("https://api.example/people?size=3"), &file, &[]),
            "https://api.example/people?size=3",
            "another value is the API's own"
        );
    }

    #[test]
    fn a_secret_parameter_is_not_stored_and_goes_to_the_host_of_the_file_only() {
        let file = url("https://api.example/people");
        let secrets = [("api key".to_owned(), "n&w".to_owned())];
        for next in ["https://api.example/people?api%20key=old&page=2", "https://api.example/people?page=2"] {
            let stored = to_stored(&url(next), &file, &["api key"]);
            assert!(!stored.contains("old"), "{stored}");
            assert_eq!(from_stored(&url(&stored), &file, &secrets).as_str(), "https://api.example/people?page=2&api%20key=n%26w");
        }
        let elsewhere = to_stored(&url("https://files.example/people?api%20key=old&page=2"), &file, &["api key"]);
        assert_eq!(from_stored(&url(&elsewhere), &file, &secrets).as_str(), "https://files.example/people?page=2");
    }

    #[test]
    fn a_host_that_the_file_allows_is_followed_without_dropping_tls() {
        let allowed = ["files.example".to_owned(), "127.0.0.1:8080".to_owned()];
        let may = |from: &str, to: &str| check_allowed(&url(from), &url(to), &allowed).is_ok();
        assert!(may("https://a.example/", "https://files.example/x") && may("http://a.example/", "http://127.0.0.1:8080/x"));
        assert!(may("http://a.example/", "http://files.example/x") && may("http://a.example/", "https://files.example/x"));
        for (from, to) in [
            ("https://a.example/", "http://files.example/x"),
            ("https://a.example/", "https://files.example:8443/x"),
            ("https://a.example/", "https://x.files.example/x"),
            ("http://a.example/", "http://127.0.0.1:8081/x"),
            ("http://a.example/", "ftp://files.example/x"),
        ] {
            assert!(!may(from, to), "{from} {to}");
        }
    }
}
