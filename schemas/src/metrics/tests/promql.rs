//! Finds the metrics in a query: every word that is not a function, a keyword or a label.

use std::collections::BTreeSet;

use super::super::*;

const KEYWORDS: [&str; 11] = ["and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool"];

/// The metrics in a query.
pub(super) fn metrics_of(query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let chars: Vec<char> = query.chars().collect();
    let (mut at, mut labels_follow) = (0, false);
    while at < chars.len() {
        let c = chars[at];
        let skip_to = |end: char| chars[at + 1..].iter().position(|&c| c == end).map_or(chars.len(), |found| at + found + 2);
        if c == '"' || c == '\'' {
            at = skip_to(c);
        } else if c == '{' {
            at = skip_to('}');
        } else if c == '[' {
            at = skip_to(']');
        } else if c == '(' && labels_follow {
            at = skip_to(')');
            labels_follow = false;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end =
                chars[at..].iter().position(|&c| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).map_or(chars.len(), |n| at + n);
            let word: String = chars[at..end].iter().collect();
            let called = chars[end..].iter().find(|c| !c.is_whitespace()) == Some(&'(');
            labels_follow = matches!(word.as_str(), "by" | "without" | "on" | "ignoring" | "group_left" | "group_right");
            // `sum by (…) (…)` is a function call too.
            let aggregates = matches!(word.as_str(), "sum" | "max" | "min" | "avg" | "count" | "topk");
            if !called && !aggregates && !KEYWORDS.contains(&word.as_str()) {
                names.push(word);
            }
            at = end;
        } else if c.is_ascii_digit() {
            at += chars[at..].iter().position(|c| !(c.is_ascii_alphanumeric() || *c == '.')).unwrap_or(chars.len() - at);
        } else {
            at += 1;
        }
    }
    names
}

/// Every name that `/metrics` can print.
pub(super) fn known() -> BTreeSet<String> {
    let names = |metric: &Metric| -> Vec<String> {
        match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", metric.name)).into(),
            _ => vec![metric.name.to_owned()],
        }
    };
    CATALOGUE.iter().flat_map(names).collect()
}

/// Checks that a query uses metrics, and only existing ones.
#[track_caller]
pub(super) fn check(query: &str) {
    let (names, known) = (metrics_of(query), known());
    assert!(!names.is_empty(), "{query}");
    for name in names {
        assert!(known.contains(&name), "unknown metric {name}: {query}");
    }
    for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
        assert_eq!(query.matches(open).count(), query.matches(close).count(), "{query}");
    }
}

#[test]
fn the_metrics_of_a_query_are_found_and_nothing_else() {
    let query = "histogram_quantile(0.99, sum by (le, stage) (rate(a_bucket{x=\"b\"}[5m]))) / on (pipeline) group_left (c) d_total > 1e3 and e == 0";
    assert_eq!(metrics_of(query), ["a_bucket", "d_total", "e"]);
}

#[test]
#[should_panic(expected = "unknown metric forebay_oops")]
fn an_unknown_metric_is_an_error() {
    check("rate(forebay_oops[5m])");
}
