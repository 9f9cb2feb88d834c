//! The `Link` header (RFC 8288): the next page that an answer names there. Pure.
//!
//! Guarantees:
//! * Several links and headers, parameters with and without quotes, several relation types and
//!   relative references are read.
//! * A link counts only if it is about the answer itself: without an `anchor`, or with one that
//!   leads back to it.
//!
//! Does not guarantee that a header that breaks the grammar is read to its end.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};

/// The URL of the next page, as far as a `Link` header names one other than the requested page.
pub fn next_link(headers: &HeaderMap, requested: &Url) -> Option<Url> {
    let texts = headers.get_all(LINK).into_iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let is_here = |anchor: &String| requested.join(anchor).is_ok_and(|url| without_fragment(url) == without_fragment(requested.clone()));
    let mut next = texts.flat_map(links).filter(|link| link.is_next && link.anchor.as_ref().is_none_or(is_here));
    next.find_map(|link| requested.join(link.target).ok().filter(|to| to != requested))
}

fn without_fragment(mut url: Url) -> Url {
    url.set_fragment(None);
    url
}

#[derive(Debug, PartialEq, Eq)]
struct Link<'t> {
    target: &'t str,
    /// Whether its relation type is `next`.
    is_next: bool,
    /// What it is about, if not the answer.
    anchor: Option<String>,
}

/// The links of a header, as far as it is valid.
fn links(mut text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    while let Some((_, rest)) = text.split_once('<') {
        let Some((target, rest)) = rest.split_once('>') else { break };
        let (mut parameters, rest) = parameters(rest);
        // Only the first of several parameters of a name counts.
        let mut of = |sought: &str| {
            let at = parameters.iter().position(|(name, _)| name.eq_ignore_ascii_case(sought));
            at.map(|at| parameters.remove(at).1)
        };
        let is_next = of("rel").is_some_and(|rel| rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next")));
        links.push(Link { target: target.trim(), is_next, anchor: of("anchor") });
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
    fn is_linked(values: &[&str]) -> bool {
        let headers = values.iter().map(|value| (LINK, HeaderValue::from_str(value).unwrap())).collect();
        next_link(&headers, &url("https://api.example/issues?page=1")).is_some()
    }

    #[test]
    fn every_form_of_a_link_header_with_a_next_page_is_found() {
        for value in [
            "<https://api.example/issues?page=2>; rel=\"next\", <https://api.example/issues?page=9>; rel=\"last\"",
            "</issues?page=2>;REL=Next",
            "<?page=2>; title=\"a, b; c\\\"\"; rel=\"prefetch next\"",
            "<https://api.example/a,b;c>; rel=next",
            ", ,<?page=0>;rel=prev,;, <?page=2> ; rel = next ;",
            "<?page=2>; rel=next; anchor=\"\"",
            "<?page=2>; anchor=\"#top\"; rel=next",
            "<?page=2>; rel=\"https://rels.example/x NEXT\"; rel=prev",
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

    /// A link as a server may write it: the target, and its parameters with their spaces and
    /// quotes.
    fn written() -> impl Strategy<Value = (String, Vec<(String, String)>, String)> {
        let name =
            prop_oneof![Just("rel".to_owned()), Just("REL".to_owned()), Just("title".to_owned()), Just("anchor".to_owned()), "[a-z]{1,4}"];
        let value = prop_oneof![Just("next".to_owned()), Just("prev next".to_owned()), "[a-z ,;=<>\\\\\"]{0,6}", Just(String::new())];
        let space = prop_oneof![Just(""), Just(" "), Just("\t ")];
        let target = "[a-z/?=&,;\\]\\[]{0,8}";
        (target, prop::collection::vec((name, value, space), 0..4)).prop_map(|(target, parameters)| {
            let mut text = format!("<{target}>");
            for (name, value, space) in &parameters {
                let is_token = !value.is_empty() && value.chars().all(|letter| letter.is_ascii_lowercase());
                let value = if is_token && space.is_empty() {
                    value.clone()
                } else {
                    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                };
                text.push_str(&format!("{space};{space}{name}{space}={space}{value}"));
            }
            (target, parameters.into_iter().map(|(name, value, _)| (name, value)).collect(), text)
        })
    }

    proptest! {
        #[test]
        fn links_are_read_as_they_were_written(all in prop::collection::vec(written(), 0..4), between in prop_oneof![Just(", "), Just(","), Just(" ,, ")]) {
            let text = all.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>().join(between);
            let first = |parameters: &[(String, String)], sought: &str| {
                parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(sought)).map(|(_, value)| value.clone())
            };
            let meant: Vec<(String, bool, Option<String>)> = all.iter().map(|(target, parameters, _)| {
                let is_next = first(parameters, "rel").is_some_and(|rel| rel.split(' ').any(|word| word == "next"));
                (target.clone(), is_next, first(parameters, "anchor"))
            }).collect();
            let found: Vec<_> = links(&text).into_iter().map(|link| (link.target.to_owned(), link.is_next, link.anchor)).collect();
            prop_assert_eq!(found, meant, "{}", text);
        }
    }
}
