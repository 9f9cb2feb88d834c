//! How an API paginates, as far as its first answer says. Pure.
//!
//! Guarantees:
//! * The same answer gives the same guesses, in the same order.
//! * Each guess is a valid `[fetcher.paging]`.
//! * A guess that nothing in the answer names is a trial: only a second page can confirm it.
//!
//! Does not guarantee that a guess is right, nor that the conventions of every API are known. An
//! unknown one gives no guess.

use std::collections::BTreeMap;

use forebay_schemas::json_pointer::JsonPointer;
use reqwest::Url;
use serde_json::Value;

/// How deep an answer is searched for signs of pages.
const MAX_DEPTH: usize = 3;
/// The most fields of an answer that are searched.
const MAX_FIELDS: usize = 10_000;

/// Names of fields with the URL of the next page.
const URL_NAMES: &[&str] = &["next", "nexturl", "nextlink", "nextpageurl", "nextpage", "odatanextlink", "nexthref", "href"];
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
/// Names of headers with the cursor of the next page, without `X-` and separators, and the query
/// parameter that usually carries it.
const CURSOR_HEADERS: &[(&str, &str)] =
    &[("nextcursor", "cursor"), ("nextpagetoken", "page_token"), ("nexttoken", "token"), ("continuationtoken", "continuation_token")];
/// Names of flags for further pages.
const MORE_NAMES: &[&str] = &["hasmore", "hasnext", "hasnextpage", "hasmorepages", "hasmoreresults", "more", "ismore", "istruncated"];
/// Names of the number of a page, of the offset of its first record, of the size of a page, of the
/// total of pages and of records.
const PAGE_NAMES: &[&str] = &["page", "currentpage", "pagenumber", "pageno", "pageindex"];
const OFFSET_NAMES: &[&str] = &["offset", "skip", "startat", "startindex"];
const SIZE_NAMES: &[&str] = &["limit", "perpage", "pagesize", "size", "pagelimit", "resultsperpage", "maxresults"];
const PAGES_NAMES: &[&str] = &["totalpages", "pages", "pagecount", "lastpage", "pagestotal"];
const TOTAL_NAMES: &[&str] = &["total", "totalcount", "totalrecords", "totalresults", "totalitems", "totalelements", "totalhits", "found"];
/// The usual parameters of APIs that say that they have more, but not how to get it. Those after
/// the key of the last record, and those that count.
const AFTER_PARAMS: &[&str] = &["starting_after", "after", "since_id"];
const COUNTED_PARAMS: &[(&str, &str)] = &[("page", "page"), ("offset", "offset"), ("offset", "skip")];
/// The usual sizes of a page by default, apart from multiples of 50.
const USUAL_SIZES: &[usize] = &[10, 20, 25, 30, 75];

/// A way to get from page to page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagingGuess {
    /// The lines of `[fetcher.paging]`.
    pub lines: Vec<String>,
    /// What in the answer says so.
    pub sign: String,
    /// Whether only another page can confirm it.
    pub is_trial: bool,
}

impl PagingGuess {
    /// The query parameter that carries the page.
    pub(super) fn param(&self) -> Option<String> {
        self.lines.iter().find_map(|line| line.strip_prefix("param = ")).map(|param| param.trim_matches('"').to_owned())
    }

    /// Whether it counts pages from 1 only because nothing says where they begin.
    pub(super) fn counts_from_one(&self) -> bool {
        self.lines[0] == line("kind", "page") && !self.lines.iter().any(|line| line.starts_with("start = "))
    }
}

/// The first answer of an API.
#[derive(Debug, Clone, Copy)]
pub struct FirstAnswer<'a> {
    /// Its body.
    pub body: &'a Value,
    /// Its headers, with names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// Whether a `Link` header names a next page.
    pub links_next: bool,
    /// The URL that was requested, for the parameters in it.
    pub url: Option<&'a Url>,
    /// The JSON pointer to the records; it may have wildcards.
    pub records: &'a JsonPointer,
    /// The number of records.
    pub count: usize,
    /// The JSON pointer into a record to its key.
    pub key: &'a JsonPointer,
}

/// A scalar in the answer, outside of the records.
struct Scalar<'a> {
    pointer: JsonPointer,
    /// Its name, in lower case without separators.
    name: String,
    /// That of the object that has it.
    parent: String,
    value: &'a Value,
}

impl Scalar<'_> {
    /// Its name as it is written.
    fn written(&self) -> &str {
        self.pointer.tokens().last().map(String::as_str).unwrap_or_default()
    }

    /// That the answer has it.
    fn says(&self) -> String {
        format!("the response has {}", self.pointer)
    }
}

/// A number that an answer has, and how `[fetcher.paging]` names it.
struct Total {
    number: u64,
    place: String,
    shown: String,
    of: &'static str,
}

/// The ways that an answer hints at, the most certain first.
pub fn paging_guesses(answer: &FirstAnswer<'_>) -> Vec<PagingGuess> {
    let scalars = scalars(answer.body, answer.records);
    let mut guesses = naming(answer, &scalars);
    guesses.extend(counting(answer, &scalars));
    let says_nothing = || has_more(&scalars).is_none() && total(answer, &scalars).is_none();
    if let Some(sign) = more(answer, &scalars).or_else(|| usual_size(answer).filter(|_| says_nothing())) {
        guesses.extend(trials(answer, &scalars, &sign));
    }
    guesses
}

/// What in an answer says that there are further pages: it names the next one, has a flag for it,
/// or a total that is not reached. `None` when a flag says that there are none.
pub fn sign_of_more(answer: &FirstAnswer<'_>) -> Option<String> {
    let scalars = scalars(answer.body, answer.records);
    if has_more(&scalars).is_some_and(|flag| flag.value == &Value::Bool(false)) {
        return None;
    }
    let named = naming(answer, &scalars).into_iter().next();
    named.map(|guess| guess.sign).or_else(|| more(answer, &scalars))
}

/// The ways in which the answer names the next page.
fn naming(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>]) -> Vec<PagingGuess> {
    let mut guesses = Vec::new();
    let mut guess = |lines: Vec<String>, sign: String| guesses.push(PagingGuess { lines, sign, is_trial: false });
    if answer.links_next {
        guess(vec![line("kind", "link")], "the header Link has rel=\"next\"".to_owned());
    }
    // A link in an object such as `"links": {"next": {"href": …}}` is a next one if its parent is.
    let next_url = scalars.iter().find(|scalar| {
        let named = URL_NAMES.contains(&scalar.name.as_str()) && (scalar.name != "href" || scalar.parent == "next");
        named && scalar.value.as_str().is_some_and(is_url)
    });
    if let Some(scalar) = next_url {
        guess(vec![line("kind", "next_url"), line("next", &scalar.pointer)], scalar.says());
    }
    for (name, param) in CURSOR_NAMES {
        let is_cursor = |value: &Value| value.is_u64() || value.as_str().is_some_and(|text| !text.is_empty() && !is_url(text));
        let Some(scalar) = scalars.iter().find(|scalar| scalar.name == *name && is_cursor(scalar.value)) else { continue };
        let param = param.map_or_else(|| without_next(scalar.written()), str::to_owned);
        let mut lines = vec![line("kind", "cursor"), line("next", &scalar.pointer), line("param", &param)];
        lines.extend(has_more(scalars).map(|flag| line("has_more", &flag.pointer)));
        guess(lines, scalar.says());
    }
    for (name, param) in CURSOR_HEADERS {
        let Some((header, _)) = header(answer, &[name]) else { continue };
        let next = format!("next = {{ header = {} }}", quoted(header));
        guess(vec![line("kind", "cursor"), next, line("param", param)], format!("the response has the header {header}"));
    }
    guesses
}

/// The ways in which the answer, or the URL, counts.
fn counting(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>]) -> Vec<PagingGuess> {
    let mut guesses = Vec::new();
    for (kind, names) in [("page", PAGE_NAMES), ("offset", OFFSET_NAMES)] {
        let in_url = answer.url.into_iter().flat_map(Url::query_pairs).find(|(name, _)| names.contains(&plain(name).as_str()));
        let in_header =
            header(answer, &["nextpage", "page", "currentpage"]).filter(|(_, value)| kind == "page" && value.parse::<u64>().is_ok());
        let (sign, param, start) = match (in_url, number(scalars, names), in_header) {
            (Some((name, value)), ..) => (format!("the URL has the parameter {name}"), name.into_owned(), value.parse().ok()),
            // The name in the answer is seldom that of the parameter, apart from these.
            (None, Some(scalar), _) if kind == "page" => (scalar.says(), "page".to_owned(), scalar.value.as_u64()),
            (None, Some(scalar), _) => (scalar.says(), scalar.written().to_owned(), scalar.value.as_u64()),
            (None, None, Some((name, _))) => (format!("the response has the header {name}"), "page".to_owned(), None),
            (None, None, None) => continue,
        };
        guesses.push(PagingGuess { lines: counted_lines(answer, scalars, kind, &param, start), sign, is_trial: false });
    }
    guesses
}

/// The lines of a kind that counts.
fn counted_lines(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>], kind: &str, param: &str, start: Option<u64>) -> Vec<String> {
    let mut lines = vec![line("kind", kind), line("param", param)];
    // TOML has integers up to 2^63 - 1.
    lines.extend(start.filter(|start| i64::try_from(*start).is_ok()).map(|start| format!("start = {start}")));
    // A page that is not full says nothing about the size of one.
    let in_url = answer.url.into_iter().flat_map(Url::query_pairs).find(|(name, _)| SIZE_NAMES.contains(&plain(name).as_str()));
    let size = in_url.and_then(|(_, value)| value.parse::<u64>().ok()).or_else(|| number(scalars, SIZE_NAMES)?.value.as_u64());
    lines.extend(size.filter(|size| *size == answer.count as u64 && *size > 0).map(|size| format!("size = {size}")));
    if let Some(Total { place, of, .. }) = total(answer, scalars) {
        lines.extend([format!("total = {place}"), line("total_of", of)]);
    }
    lines.extend(has_more(scalars).map(|flag| line("has_more", &flag.pointer)));
    lines
}

/// The usual ways, where an answer says that there is more, but not how to get it.
fn trials(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>], sign: &str) -> Vec<PagingGuess> {
    let in_url = |param: &str| answer.url.into_iter().flat_map(Url::query_pairs).any(|(name, _)| name == param);
    let trial = |lines| PagingGuess { lines, sign: sign.to_owned(), is_trial: true };
    let counted = COUNTED_PARAMS.iter().filter(|(_, param)| !in_url(param));
    let mut guesses: Vec<_> = counted.map(|(kind, param)| trial(counted_lines(answer, scalars, kind, param, None))).collect();
    let after = AFTER_PARAMS.iter().filter(|param| !answer.key.is_root() && !in_url(param)).map(|param| {
        // The records may be in descending order, so the next fetch begins at the first page.
        let mut lines = vec![line("kind", "last_record"), line("last", answer.key), line("param", param)];
        lines.extend(has_more(scalars).map(|flag| line("has_more", &flag.pointer)));
        lines.push("next_fetch = \"start\"".to_owned());
        trial(lines)
    });
    // An API that counts usually says how many there are.
    let at = if total(answer, scalars).is_some() { guesses.len() } else { 0 };
    guesses.splice(at..at, after.collect::<Vec<_>>());
    guesses
}

/// What says that there is more: a flag that is true, a total that is not reached.
fn more(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>]) -> Option<String> {
    if let Some(flag) = has_more(scalars).filter(|flag| flag.value == &Value::Bool(true)) {
        return Some(format!("{} is true", flag.pointer));
    }
    let total = total(answer, scalars)?;
    match total.of {
        "pages" if total.number > 1 && answer.count > 0 => Some(format!("{} is {} pages", total.shown, total.number)),
        "records" if total.number > answer.count as u64 && answer.count > 0 => {
            Some(format!("{} is {}, and the first page has {} records", total.shown, total.number, answer.count))
        }
        _ => None,
    }
}

/// Whether an answer without any sign has as many records as a page usually has.
fn usual_size(answer: &FirstAnswer<'_>) -> Option<String> {
    let is_usual = USUAL_SIZES.contains(&answer.count) || answer.count > 0 && answer.count.is_multiple_of(50);
    is_usual.then(|| format!("{} records is a usual size of a page", answer.count))
}

/// The flag for further pages.
fn has_more<'s, 'a>(scalars: &'s [Scalar<'a>]) -> Option<&'s Scalar<'a>> {
    scalars.iter().find(|scalar| scalar.value.is_boolean() && MORE_NAMES.contains(&scalar.name.as_str()))
}

fn total(answer: &FirstAnswer<'_>, scalars: &[Scalar<'_>]) -> Option<Total> {
    let in_body = |names: &[&str], of| {
        let scalar = number(scalars, names)?;
        Some(Total { number: scalar.value.as_u64()?, place: quoted(&scalar.pointer.to_string()), shown: scalar.pointer.to_string(), of })
    };
    let in_header = |names: &[&str], of| {
        let (name, value) = header(answer, names)?;
        Some(Total {
            number: value.parse().ok()?,
            place: format!("{{ header = {} }}", quoted(name)),
            shown: format!("the header {name}"),
            of,
        })
    };
    in_body(PAGES_NAMES, "pages")
        .or_else(|| in_body(TOTAL_NAMES, "records"))
        .or_else(|| in_header(&["totalpages", "pagecount"], "pages"))
        .or_else(|| in_header(&["totalcount", "total", "totalrecords"], "records"))
}

fn number<'s, 'a>(scalars: &'s [Scalar<'a>], names: &[&str]) -> Option<&'s Scalar<'a>> {
    scalars.iter().find(|scalar| scalar.value.is_u64() && names.contains(&scalar.name.as_str()))
}

/// The first header with one of these names, without `X-` and separators, that has a value.
fn header<'a>(answer: &FirstAnswer<'a>, names: &[&str]) -> Option<(&'a str, &'a str)> {
    let plain_name = |name: &str| plain(name.strip_prefix("x-").unwrap_or(name));
    let found = |sought: &&str| answer.headers.iter().find(|(name, value)| plain_name(name) == **sought && !value.trim().is_empty());
    names.iter().find_map(found).map(|(name, value)| (name.as_str(), value.trim()))
}

fn scalars<'a>(body: &'a Value, records: &JsonPointer) -> Vec<Scalar<'a>> {
    let mut scalars = Vec::new();
    collect(body, &JsonPointer::default(), records, &mut scalars);
    scalars
}

fn collect<'a>(value: &'a Value, here: &JsonPointer, records: &JsonPointer, scalars: &mut Vec<Scalar<'a>>) {
    match value {
        _ if scalars.len() >= MAX_FIELDS => {}
        Value::Object(fields) if here.tokens().len() < MAX_DEPTH && (!holds(records, here) || here.is_root()) => {
            fields.iter().for_each(|(name, value)| collect(value, &here.child(name), records, scalars));
        }
        Value::Object(_) | Value::Array(_) | Value::Null => {}
        value => {
            let name = |pointer: &JsonPointer| pointer.tokens().last().map(|name| plain(name)).unwrap_or_default();
            scalars.push(Scalar { pointer: here.clone(), name: name(here), parent: name(&here.parent()), value });
        }
    }
}

/// Whether the records are what is at `here`: the pointer itself, or one that a wildcard stands
/// for.
fn holds(records: &JsonPointer, here: &JsonPointer) -> bool {
    let (records, here) = (records.tokens(), here.tokens());
    records.len() == here.len() && records.iter().zip(here).all(|(record, name)| record == name || record == "*")
}

/// A line of TOML.
fn line(name: &str, value: &(impl ToString + ?Sized)) -> String {
    format!("{name} = {}", quoted(&value.to_string()))
}

/// A text as a string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
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
#[path = "paging_guess_tests.rs"]
mod tests;
