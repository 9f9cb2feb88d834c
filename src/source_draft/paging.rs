//! How an API paginates, as far as its first response says.

use forebay_schemas::json_pointer::JsonPointer;
use reqwest::Url;
use serde_json::Value;

/// How deep a response is searched for signs of pages.
const MAX_DEPTH: usize = 3;

/// Names of fields with the URL of the next page.
const URL_NAMES: &[&str] = &["next", "nexturl", "nextlink", "nextpageurl", "nextpage", "odatanextlink", "href"];
/// Names of fields with the cursor of the next page, and the query parameter that usually carries
/// it. Without one, the parameter is the name without `next`.
const CURSOR_NAMES: &[(&str, Option<&str>)] = &[
    ("nextcursor", None),
    ("nextpagetoken", None),
    ("nexttoken", None),
    ("nextpage", Some("page")),
    ("nextoffset", Some("offset")),
    ("continuationtoken", None),
    ("continuation", None),
    ("endcursor", Some("after")),
    ("startingafter", None),
    ("scrollid", None),
    ("after", None),
    ("cursor", None),
    ("next", Some("cursor")),
];
/// Names of flags for further pages.
const MORE_NAMES: &[&str] = &["hasmore", "hasnext", "hasnextpage", "more", "ismore"];
/// Names of the number of a page, of the offset of its first record, of the size of a page, of the
/// total of pages and of records.
const PAGE_NAMES: &[&str] = &["page", "currentpage", "pagenumber", "pageno", "pageindex"];
const OFFSET_NAMES: &[&str] = &["offset", "skip"];
const SIZE_NAMES: &[&str] = &["limit", "perpage", "pagesize", "size", "pagelimit", "resultsperpage", "count"];
const PAGES_NAMES: &[&str] = &["totalpages", "pages", "pagecount", "lastpage", "pagestotal"];
const TOTAL_NAMES: &[&str] = &["total", "totalcount", "totalrecords", "totalresults", "totalitems", "totalhits", "found"];

/// A way to get from page to page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guess {
    /// The keys of `[fetcher.paging]`.
    pub(crate) toml: Vec<String>,
    /// What in the response says so.
    pub(crate) sign: String,
}

/// A scalar in the response, outside of the records.
struct Scalar<'a> {
    pointer: JsonPointer,
    /// Its name, in lower case without separators.
    name: String,
    /// That of the object that has it.
    parent: String,
    value: &'a Value,
}

/// The ways that a response hints at, the most certain first. `records` is where it has its
/// records, and how many.
pub(super) fn guesses(body: &Value, links_next: bool, url: &Url, records: (&JsonPointer, usize)) -> Vec<Guess> {
    let (at, count) = records;
    let mut scalars = Vec::new();
    collect(body, &JsonPointer::default(), at, &mut scalars);
    let mut guesses = Vec::new();
    if links_next {
        guesses.push(Guess { toml: vec!["kind = \"link\"".to_owned()], sign: "the header Link has rel=\"next\"".to_owned() });
    }
    let named = |names: &'static [&str]| move |scalar: &&Scalar<'_>| names.contains(&scalar.name.as_str());
    let more = scalars.iter().filter(|scalar| scalar.value.is_boolean()).find(named(MORE_NAMES));
    let has_more: Vec<_> = more.map(|more| format!("has_more = {:?}", more.pointer.to_string())).into_iter().collect();
    let of = |sign: &Scalar<'_>, toml: Vec<String>| Guess { toml, sign: format!("the response has {}", sign.pointer) };

    // A link in an object such as `"links": {"next": {"href": …}}` is a next one if its parent is.
    let next_url = scalars.iter().find(|scalar| {
        let named = URL_NAMES.contains(&scalar.name.as_str()) && (scalar.name != "href" || scalar.parent == "next");
        named && scalar.value.as_str().is_some_and(is_url)
    });
    if let Some(scalar) = next_url {
        guesses.push(of(scalar, vec!["kind = \"next_url\"".to_owned(), format!("next = {:?}", scalar.pointer.to_string())]));
    }
    for (name, param) in CURSOR_NAMES {
        let is_cursor = |value: &Value| value.is_u64() || value.as_str().is_some_and(|text| !text.is_empty() && !is_url(text));
        let Some(scalar) = scalars.iter().find(|scalar| scalar.name == *name && is_cursor(scalar.value)) else { continue };
        let written = scalar.pointer.tokens().last().map(String::as_str).unwrap_or_default();
        let param = param.map_or_else(|| without_next(written), str::to_owned);
        let next = format!("next = {:?}", scalar.pointer.to_string());
        let toml = [vec!["kind = \"cursor\"".to_owned(), next, format!("param = {param:?}")], has_more.clone()].concat();
        guesses.push(of(scalar, toml));
    }
    let in_url = |names: &[&str]| url.query_pairs().find(|(name, _)| names.contains(&plain(name).as_str()));
    let number = |names: &'static [&str]| scalars.iter().filter(|scalar| scalar.value.is_u64()).find(named(names));
    let total = number(PAGES_NAMES).map(|total| (total, "pages")).or_else(|| number(TOTAL_NAMES).map(|total| (total, "records")));
    let total = total.map(|(total, of)| [format!("total = {:?}", total.pointer.to_string()), format!("total_of = {of:?}")]);
    for (kind, names) in [("page", PAGE_NAMES), ("offset", OFFSET_NAMES)] {
        let (sign, param, start) = match (in_url(names), number(names)) {
            (Some((name, value)), _) => (format!("the URL has the parameter {name}"), name.into_owned(), value.parse().ok()),
            (None, Some(scalar)) => {
                let name = scalar.pointer.tokens().last().cloned().unwrap_or_default();
                // The name in the response is seldom that of the parameter, apart from these.
                (
                    format!("the response has {}", scalar.pointer),
                    if kind == "page" { "page".to_owned() } else { name },
                    scalar.value.as_u64(),
                )
            }
            _ => continue,
        };
        let mut toml = vec![format!("kind = {kind:?}"), format!("param = {param:?}")];
        toml.extend(start.map(|start: u64| format!("start = {start}")));
        // A page that is not full says nothing about the size of one.
        let size = in_url(SIZE_NAMES).and_then(|(_, value)| value.parse::<u64>().ok());
        let size = size.or_else(|| number(SIZE_NAMES)?.value.as_u64()).filter(|size| *size == count as u64 && *size > 0);
        toml.extend(size.map(|size| format!("size = {size}")));
        toml.extend(total.iter().flatten().cloned());
        toml.extend(has_more.iter().cloned());
        guesses.push(Guess { toml, sign });
    }
    guesses
}

fn collect<'a>(value: &'a Value, here: &JsonPointer, records: &JsonPointer, scalars: &mut Vec<Scalar<'a>>) {
    match value {
        Value::Object(fields) if here.tokens().len() < MAX_DEPTH && (here != records || here.is_root()) => {
            fields.iter().for_each(|(name, value)| collect(value, &here.child(name), records, scalars));
        }
        Value::Object(_) | Value::Array(_) | Value::Null => {}
        value => {
            let name = |pointer: &JsonPointer| pointer.tokens().last().map(|name| plain(name)).unwrap_or_default();
            scalars.push(Scalar { pointer: here.clone(), name: name(here), parent: name(&here.parent()), value });
        }
    }
}

/// A name in lower case, and without anything but letters and digits.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_lowercase()).collect()
}

/// The name of a cursor without `next`: `nextPageToken` becomes `pageToken`.
fn without_next(name: &str) -> String {
    let rest = name.strip_prefix("next_").or_else(|| name.strip_prefix("next-")).map(str::to_owned);
    let camel = || {
        let rest = name.strip_prefix("next").filter(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()))?;
        Some(format!("{}{}", rest[..1].to_ascii_lowercase(), &rest[1..]))
    };
    rest.or_else(camel).unwrap_or_else(|| name.to_owned())
}

/// Whether a text is an address: with a scheme, or a path.
fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/') || text.starts_with('?')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(body: &Value, url: &str, count: usize) -> String {
        let data = JsonPointer::parse("/data").unwrap();
        let guesses = guesses(body, false, &url.parse().unwrap(), (&data, count));
        guesses.first().map(|guess| guess.toml.join(", ")).unwrap_or_default()
    }

    #[test]
    fn each_usual_sign_gives_its_paging() {
        let url = "http://api.example.org/orders";
        for (body, paging) in [
            (json!({ "next": "/orders?after=2" }), "kind = \"next_url\", next = \"/next\""),
            (json!({ "links": { "self": "http://a/1", "next": "http://a/2" } }), "kind = \"next_url\", next = \"/links/next\""),
            (
                json!({ "_links": { "self": { "href": "/1" }, "next": { "href": "/2" } } }),
                "kind = \"next_url\", next = \"/_links/next/href\"",
            ),
            (json!({ "@odata.nextLink": "http://a/2" }), "kind = \"next_url\", next = \"/@odata.nextLink\""),
            (json!({ "meta": { "next_cursor": "abc" } }), "kind = \"cursor\", next = \"/meta/next_cursor\", param = \"cursor\""),
            (json!({ "nextPageToken": "abc" }), "kind = \"cursor\", next = \"/nextPageToken\", param = \"pageToken\""),
            (json!({ "has_more": true, "next": 17 }), "kind = \"cursor\", next = \"/next\", param = \"cursor\", has_more = \"/has_more\""),
            (
                json!({ "pageInfo": { "endCursor": "x", "hasNextPage": true } }),
                "kind = \"cursor\", next = \"/pageInfo/endCursor\", param = \"after\", has_more = \"/pageInfo/hasNextPage\"",
            ),
            (
                json!({ "page": 1, "per_page": 2, "total_pages": 9 }),
                "kind = \"page\", param = \"page\", start = 1, size = 2, total = \"/total_pages\", total_of = \"pages\"",
            ),
            (
                json!({ "offset": 0, "limit": 50, "total": 120 }),
                "kind = \"offset\", param = \"offset\", start = 0, total = \"/total\", total_of = \"records\"",
            ),
            (json!({ "next": null, "count": 2 }), ""),
            (json!({ "data": [{ "next": "/x" }], "title": "next" }), ""),
        ] {
            assert_eq!(first(&body, url, 2), paging, "{body}");
        }
    }

    #[test]
    fn a_number_in_the_url_gives_the_parameter_and_the_start() {
        assert_eq!(first(&json!({}), "http://a/orders?page=0&limit=2", 2), "kind = \"page\", param = \"page\", start = 0, size = 2");
        assert_eq!(first(&json!({}), "http://a/orders?skip=0", 2), "kind = \"offset\", param = \"skip\", start = 0");
    }

    #[test]
    fn a_link_header_comes_first() {
        let guesses = guesses(&json!({ "page": 1 }), true, &"http://a/".parse().unwrap(), (&JsonPointer::default(), 2));
        assert_eq!(guesses.iter().map(|guess| guess.toml[0].as_str()).collect::<Vec<_>>(), ["kind = \"link\"", "kind = \"page\""]);
    }
}
