//! Next pages that a response names by a URL: as its next cursor, or in a `Link` header (RFC 8288).
//! Pure.
//!
//! Guarantees:
//! * A URL is requested only on the host of `fetcher.url`, by the rule for redirects, since the
//!   headers of the pipeline file are sent along.
//! * The stored form has no user, no password, and no parameter of `fetcher.url`, so a key in
//!   `fetcher.url` is not stored.
//!
//! Does not guarantee that other secrets in the API's URLs are removed. They are stored and shown
//! like any cursor.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};

use forebay_schemas::http_url::HttpUrl;

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

/// The parameters of a query, unparsed.
fn pairs(url: &Url) -> impl Iterator<Item = &str> {
    url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty())
}

/// The name of an unparsed parameter.
fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// The form in which a URL is stored: each parameter that `fetcher.url` has with the same value
/// becomes `{NAME}`.
pub(super) fn to_stored(url: &Url, file: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let own: Vec<&str> = pairs(file).filter(|pair| pair.contains('=')).collect();
    let brief: Vec<String> =
        pairs(&url).map(|pair| if own.contains(&pair) { format!("{{{}}}", name(pair)) } else { pair.to_owned() }).collect();
    if url.query().is_some() {
        url.set_query(Some(&brief.join("&")));
    }
    url.to_string()
}

/// The URL to request for a [stored](to_stored) one: with the parameters of `fetcher.url`.
pub(super) fn from_stored(stored: &Url, file: &Url) -> Url {
    let mut url = stored.clone();
    let own = |pair: &str| {
        let sought = pair.strip_prefix('{')?.strip_suffix('}')?;
        pairs(file).find(|pair| name(pair) == sought)
    };
    let full: Vec<&str> = pairs(stored).map(|pair| own(pair).unwrap_or(pair)).collect();
    if stored.query().is_some() {
        url.set_query(Some(&full.join("&")));
    }
    url
}

/// Whether a `Link` header names a next page other than the requested one.
pub fn links_next(headers: &HeaderMap, requested: &Url) -> bool {
    let texts = headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(links).filter(|link| link.is_next).any(|link| requested.join(link.target).is_ok_and(|to| to != *requested))
}

struct Link<'t> {
    target: &'t str,
    /// Whether it is the next page of this response.
    is_next: bool,
}

/// The links of a header, as far as it is valid.
fn links(mut text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    while let Some((_, rest)) = text.split_once('<') {
        let Some((target, rest)) = rest.split_once('>') else { break };
        let (parameters, rest) = parameters(rest);
        let of = |sought: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(sought)).map(|(_, value)| value.as_str());
        let is_next = of("rel").is_some_and(|rel| rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next")));
        links.push(Link { target: target.trim(), is_next: is_next && of("anchor").is_none() });
        text = rest;
    }
    links
}

/// The parameters of a link, and the text after them: the next link.
fn parameters(text: &str) -> (Vec<(&str, String)>, &str) {
    let (mut all, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        let Some(parameter) = rest.strip_prefix(';') else { return (all, rest) };
        let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
        let (name, after) = parameter.split_at(end);
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            rest = after;
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted_text(quoted),
            None => {
                let end = value.find([';', ',']).unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            }
        };
        all.push((name.trim(), value));
        rest = after;
    }
}

/// A text up to its closing quote, and the text after it.
fn quoted_text(text: &str) -> (String, &str) {
    let (mut unquoted, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices() {
        if !escaped && letter == '"' {
            return (unquoted, &text[at + 1..]);
        }
        escaped = !escaped && letter == '\\';
        if !escaped {
            unquoted.push(letter);
        }
    }
    (unquoted, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

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
        let stored = to_stored(&next, &file);
        assert_eq!(stored, "https://api.example/people?page=2&{size}&{appid}&flag&since=2");
        assert_eq!(from_stored(&url(&stored), &file).as_str(), "https://api.example/people?page=2&size=2&appid=S3CRET&flag&since=2");
        let renewed = url("https://api.example/people?size=2&appid=NEW");
        assert!(from_stored(&url(&stored), &renewed).as_str().contains("appid=NEW"), "a renewed key is used");
        assert_eq!(to_stored(&url("https://x:y@api.example/people"), &file), "https://api.example/people");
        assert_eq!(
            to_stored(&url("https://api.example/people?size=3"), &file),
            "https://api.example/people?size=3",
            "another value is the API's own"
        );
    }

    fn is_linked(values: &[&str]) -> bool {
        let headers = values.iter().map(|value| (LINK, HeaderValue::from_str(value).unwrap())).collect();
        links_next(&headers, &url("https://api.example/issues?page=1"))
    }

    #[test]
    fn every_form_of_a_link_header_with_a_next_page_is_found() {
        for value in [
            "<https://api.example/issues?page=2>; rel=\"next\", <https://api.example/issues?page=9>; rel=\"last\"",
            "</issues?page=2>;REL=Next",
            "<?page=2>; title=\"a, b; c\\\"\"; rel=\"prefetch next\"",
            "<https://api.example/a,b;c>; rel=next",
        ] {
            assert!(is_linked(&[value]), "{value}");
        }
        assert!(is_linked(&["<?page=9>; rel=last", "<?page=2>; rel=next"]));
    }

    #[test]
    fn other_links_are_not_a_next_page() {
        for value in [
            "<?page=0>; rel=\"prev\"",
            "<?page=2>; rel=\"nextish\"",
            "<?page=2>",
            "<?page=2>; title=\"rel=next\"",
            "<?page=2>; rel=prev; rel=next",
            "<?page=2>; rel=next; anchor=\"/other\"",
            "<https://api.example/issues?page=1>; rel=next",
            "<?page=2; rel=next",
            "nonsense",
            "",
        ] {
            assert!(!is_linked(&[value]), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_link_header_makes_it_panic_and_only_a_next_page_counts(parts in prop::collection::vec(prop_oneof![
            Just("<https://a/b>"), Just("</c?page=2>"), Just("<"), Just(">"), Just(";"), Just(","), Just("="), Just(" "), Just("\""), Just("\\"),
            Just("rel"), Just("next"), Just("rel=next"), Just("rel=\"next\""), Just("anchor=x"), Just("REL = \"prev next\""), Just("\u{e4}"),
        ], 0..14)) {
            let text = parts.concat();
            let found = links(&text);
            prop_assert!(found.len() <= text.matches('<').count());
            prop_assert!(text.to_ascii_lowercase().contains("next") || found.iter().all(|link| !link.is_next), "{text}");
        }
    }
}
