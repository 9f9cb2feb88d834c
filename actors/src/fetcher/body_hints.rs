//! Heuristics over a response body: an error message, a cursor under a similar name, a field that
//! says there is more. Pure.
//!
//! Guarantees:
//! * Values are skipped without recursion.
//! * At most [`MAX_MEMBERS`] members of an object are read.
//!
//! Does not guarantee that every API's conventions are known. An unknown one gives no hint.

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::text::json_lookup::{JsonLookup as _, kind};
use forebay_schemas::json_pointer::{JsonPointer, escape};
use forebay_schemas::printable;

/// The most members of an object that are read.
const MAX_MEMBERS: usize = 256;
/// The most characters of an API's message that are shown.
const MAX_MESSAGE_CHARS: usize = 200;
/// How many objects deep a cursor of the same name is searched for.
const MAX_DEPTH: usize = 3;

/// The members of an object, in order; empty for any other value.
pub(super) fn members(json: &[u8]) -> Vec<(String, &RawValue)> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut members = Vec::new();
            while members.len() < MAX_MEMBERS {
                let Some(member) = map.next_entry()? else { return Ok(members) };
                members.push(member);
            }
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(members)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Members).unwrap_or_default()
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// A name reduced to its letters and digits: `nextCursor`, `next_cursor` and `Next-Cursor` are
/// equal.
fn normalized(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The error message of a response without records: in `error`, `errors` or a member of such a
/// name, or by `"status": "error"`, `"success": false` or `"ok": false`.
pub(super) fn error_of(json: &[u8]) -> Option<String> {
    let members = members(json);
    let fails = |word: &str| matches!(normalized(word).as_str(), "error" | "err" | "fail" | "failed" | "failure");
    let is_error = |(name, value): &&(String, &RawValue)| match normalized(name).as_str() {
        "error" | "errors" | "errormessage" | "errormsg" | "errordescription" | "fault" | "exception" => has_error(value),
        "success" | "ok" | "succeeded" => value.get() == "false",
        "status" | "state" | "result" => string(value).is_some_and(|word| fails(&word)),
        _ => false,
    };
    let (name, value) = members.iter().find(is_error)?;
    let own = members.iter().filter(is_error).find_map(|(_, value)| text(value));
    let message = members.iter().filter(|(name, _)| is_message(name)).find_map(|(_, value)| text(value));
    let both = match (own, message) {
        (Some(own), Some(message)) if own != message => format!("{own}: {message}"),
        (own, message) => own.or(message).unwrap_or_else(|| format!("{name} is {}", value.get())),
    };
    Some(short(&both))
}

/// The message of a response in which nothing looks like records, even without a sign of an error.
pub(super) fn message_of(json: &[u8]) -> Option<String> {
    let members = members(json);
    if members.iter().any(|(_, value)| value.get().starts_with('[')) {
        return None;
    }
    let message = members.iter().filter(|(name, _)| is_message(name)).find_map(|(_, value)| text(value));
    message.filter(|message| !matches!(normalized(message).as_str(), "ok" | "success")).map(|message| short(&message))
}

fn is_message(name: &str) -> bool {
    let names = ["message", "msg", "errormessage", "errordescription", "detail", "details", "reason", "note", "information", "title"];
    names.contains(&normalized(name).as_str())
}

/// Whether a member for errors has one.
pub(super) fn has_error(value: &RawValue) -> bool {
    let nothing = matches!(value.get(), "null" | "false" | "0" | "{}" | "[]" | "\"\"");
    !nothing && !string(value).is_some_and(|word| matches!(normalized(&word).as_str(), "" | "none" | "noerror" | "ok" | "success"))
}

/// The text of a member: its own, that of its message member, or that of the first of several.
pub(super) fn text(value: &RawValue) -> Option<String> {
    match kind(value.get().as_bytes()) {
        "a string" => string(value).filter(|text| !text.trim().is_empty()),
        "an object" => {
            let members = members(value.get().as_bytes());
            let message = members.iter().find(|(name, value)| is_message(name) && value.get().starts_with('"'));
            message.map_or_else(|| Some(value.get().to_owned()), |(_, value)| string(value))
        }
        "an array" => {
            let first: Option<Vec<&RawValue>> = serde_json::from_str(value.get()).ok();
            first?.first().and_then(|first| if first.get().starts_with('[') { None } else { text(first) })
        }
        _ => None,
    }
}

/// A text, printable and on one line, of at most [`MAX_MESSAGE_CHARS`].
pub(super) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = printable(&line);
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.into_owned(),
    }
}

/// Whether each of the first two lines of a body is JSON by itself.
pub(super) fn is_line_delimited(body: &[u8]) -> bool {
    let is_json = |line: &&[u8]| serde_json::from_slice::<&RawValue>(line).is_ok();
    let mut lines = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.next().is_some_and(|line| is_json(&line)) && lines.next().is_some_and(|line| is_json(&line))
}

/// The name of the field by which the response says that there is more, where the pipeline file
/// names none: next to the cursor, or at the top.
pub(super) fn more_field(cursor: &JsonPointer, json: &[u8]) -> Option<String> {
    let names = ["hasmore", "hasmorepages", "hasmoreresults", "hasnext", "hasnextpage", "morepages", "moreresults", "istruncated"];
    let says = |json: &[u8]| {
        let says = |(name, value): &(String, &RawValue)| names.contains(&normalized(name).as_str()) && value.get() == "true";
        members(json).into_iter().find(says).map(|(name, _)| name)
    };
    let beside = cursor.parent().find_first(json).and_then(|parent| says(parent.get().as_bytes()));
    beside.or_else(|| says(json))
}

/// Finds what `cursor`, which leads nowhere in this response, may mean:
/// * a name that differs in case, in `_` and `-`, in a letter, or in two letters of a long name;
/// * a name that is one word longer or shorter, such as `next` and `next_page`;
/// * the same name elsewhere, except among the `records`.
pub(super) fn similar_cursor(cursor: &JsonPointer, records: &JsonPointer, json: &[u8]) -> Option<String> {
    let (last, way) = cursor.tokens().split_last()?;
    similar_on_path(way, last, json, "").or_else(|| {
        let last = normalized(last);
        if last.contains("next") { elsewhere(&last, &records.to_string(), json, "", MAX_DEPTH) } else { None }
    })
}

fn similar_on_path(way: &[String], last: &str, json: &[u8], path: &str) -> Option<String> {
    let members = members(json);
    let Some((part, way)) = way.split_first() else {
        let spelled = |name: &str| name != last && normalized(name) == normalized(last);
        let same =
            members.iter().find(|(name, value)| spelled(name) && matches!(kind(value.get().as_bytes()), "null" | "a string" | "a number"));
        let alike =
            || members.iter().find(|(name, value)| name != last && (is_alike(name, last) || is_longer(name, last)) && is_cursor(value));
        return same.or_else(alike).map(|(name, _)| step(path, name));
    };
    let exact = members.iter().find(|(name, _)| name == part);
    let alike = members.iter().filter(|(name, _)| name != part && (normalized(name) == normalized(part) || is_alike(name, part)));
    // The last token may be right under a parent with a similar name.
    let through = |(name, value): &(String, &RawValue)| {
        let (path, json) = (step(path, name), value.get().as_bytes());
        let target = (name != part).then(|| child(way, last).find_first(json).filter(|value| is_cursor(value))).flatten();
        target
            .map(|_| step(&way.iter().fold(path.clone(), |path, part| step(&path, part)), last))
            .or_else(|| similar_on_path(way, last, json, &path))
    };
    exact.into_iter().chain(alike).find_map(through)
}

/// A next cursor of this name in another object.
fn elsewhere(last: &str, records: &str, json: &[u8], path: &str, depth: usize) -> Option<String> {
    let members = members(json);
    let here = members.iter().find(|(name, value)| normalized(name) == last && is_cursor(value)).map(|(name, _)| step(path, name));
    here.or_else(|| {
        let objects =
            members.iter().filter(|(_, value)| depth > 0 && value.get().starts_with('{')).map(|(name, value)| (step(path, name), value));
        objects
            .filter(|(path, _)| path != records)
            .find_map(|(path, value)| elsewhere(last, records, value.get().as_bytes(), &path, depth - 1))
    })
}

/// The pointer that leads along `way` and then to `last`.
fn child(way: &[String], last: &str) -> JsonPointer {
    way.iter().fold(JsonPointer::default(), |pointer, token| pointer.child(token)).child(last)
}

fn step(path: &str, name: &str) -> String {
    format!("{path}/{}", escape(name))
}

/// Whether a value can be sent as a cursor.
fn is_cursor(value: &RawValue) -> bool {
    match kind(value.get().as_bytes()) {
        "a number" => true,
        "a string" => string(value).is_some_and(|text| !text.trim().is_empty()),
        _ => false,
    }
}

/// Whether two names of at least five letters differ in one letter, or two of at least nine in two.
fn is_alike(one: &str, other: &str) -> bool {
    let (one, other) = (normalized(one), normalized(other));
    let least = one.chars().count().min(other.chars().count());
    let max = if least < 5 { 0 } else { 1 + usize::from(least >= 9) };
    max > 0 && strsim::damerau_levenshtein(&one, &other) <= max
}

/// Whether both names start with `next`, and one has further words: `next` and `next_page`,
/// `nextPage` and `nextPageToken`.
fn is_longer(one: &str, other: &str) -> bool {
    const WHAT: [&str; 12] = ["page", "cursor", "token", "link", "url", "uri", "href", "id", "key", "offset", "start", "marker"];
    let (one, other) = (normalized(one), normalized(other));
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let mut rest = match long.strip_prefix(&short) {
        Some(rest) if short.starts_with("next") && !rest.is_empty() => rest,
        _ => return false,
    };
    while let Some(after) = WHAT.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::json_lookup::parse_pointer;

    fn similar(cursor: &str, json: &str) -> Option<String> {
        similar_cursor(&parse_pointer(cursor), &parse_pointer("/rows"), json.as_bytes())
    }

    #[test]
    fn a_cursor_under_another_spelling_is_found() {
        for (cursor, json, at) in [
            ("/next_cursor", r#"{"nextCursor": "a"}"#, "/nextCursor"),
            ("/next_cursor", r#"{"Next-Cursor": null}"#, "/Next-Cursor"),
            ("/meta/nextCursor", r#"{"meta": {"next_cursor": 2}}"#, "/meta/next_cursor"),
            ("/Meta/next", r#"{"meta": {"next": 2}}"#, "/meta/next"),
            ("/pagination/next", r#"{"pagin": {"next": "x"}}"#, "/pagin/next"),
            ("/page_tokn", r#"{"page_token": "x"}"#, "/page_token"),
            ("/next_page_tokne", r#"{"next_page_token": "x"}"#, "/next_page_token"),
            ("/next", r#"{"next_page": 2}"#, "/next_page"),
            ("/nextPageToken", r#"{"nextPage": "x"}"#, "/nextPage"),
            ("/next", r#"{"rows": [], "links": {"next": "http://x/"}}"#, "/links/next"),
            ("/meta/next", r#"{"next": "x"}"#, "/next"),
            ("/a~1next", r#"{"A/Next": "x"}"#, "/A~1Next"),
        ] {
            assert_eq!(similar(cursor, json).as_deref(), Some(at), "{cursor} in {json}");
        }
    }

    #[test]
    fn other_fields_of_a_last_page_are_not_similar() {
        for (cursor, json) in [
            ("/next", r#"{"rows": [], "prev": "x", "text": "x", "total": 3}"#),
            ("/next", "[]"),
            ("/next", "7"),
            ("/nextPageToken", r#"{"nextSyncToken": "x"}"#),
            ("/@odata.nextLink", r#"{"@odata.deltaLink": "x"}"#),
            ("/next_page_token", r#"{"prev_page_token": "x"}"#),
            ("/info/next", r#"{"info": {"page": 1, "seed": "x", "results": 3}}"#),
            ("/max_id", r#"{"min_id": 3}"#),
            ("/next", r#"{"next_poll_seconds": 30}"#),
            ("/next", r#"{"links": {"next": null}}"#),
            ("/next_cursor", r#"{"next_cursors": ["x"], "next_curser": null}"#),
            ("/next", r#"{"rows": {"next": "a record's own"}}"#),
            ("/cursor", r#"{"request": {"cursor": "x"}}"#),
            ("/page", r#"{"pages": 3, "page_size": 10}"#),
            ("/a/0/next", r#"{"a": [{}]}"#),
        ] {
            assert_eq!(similar(cursor, json), None, "{cursor} in {json}");
        }
    }

    #[test]
    fn an_error_message_is_told_from_fields_without_one() {
        let error = |json: &str| error_of(json.as_bytes());
        for (json, said) in [
            (r#"{"error": "rate limited"}"#, "rate limited"),
            (r#"{"Error": {"code": 7, "message": "try  later"}}"#, "try later"),
            (r#"{"errors": [{"message": "timeout"}, {"message": "more"}], "data": null}"#, "timeout"),
            (r#"{"errors": ["busy"]}"#, "busy"),
            (r#"{"error": true, "message": "busy"}"#, "busy"),
            (r#"{"error": "busy", "error_description": "come back"}"#, "busy: come back"),
            (r#"{"status": "ERROR", "message": "backend away"}"#, "ERROR: backend away"),
            (r#"{"success": false}"#, "success is false"),
            (r#"{"ok": false, "error": "ratelimited"}"#, "ratelimited"),
            (r#"{"error": {"code": 7}}"#, r#"{"code": 7}"#),
            (r#"{"error_message": "over quota", "status": "OVER_QUERY_LIMIT", "results": []}"#, "over quota"),
        ] {
            assert_eq!(error(json).as_deref(), Some(said), "{json}");
        }
        for json in [
            r#"{"error": null}"#,
            r#"{"error": false, "errors": [], "rows": []}"#,
            r#"{"error": "", "status": "ok", "success": true}"#,
            r#"{"error": "none", "message": "hello"}"#,
            r#"{"status": "ZERO_RESULTS"}"#,
            "[]",
            "null",
        ] {
            assert_eq!(error(json), None, "{json}");
        }
        assert_eq!(error(&format!(r#"{{"error": "{}"}}"#, "ä".repeat(300))).unwrap().chars().count(), MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn a_message_alone_is_an_error_where_nothing_looks_like_records() {
        let message = |json: &str| message_of(json.as_bytes());
        assert_eq!(message(r#"{"message": "API limit reached", "code": 3}"#).as_deref(), Some("API limit reached"));
        assert_eq!(message(r#"{"Note": "Thank you. Come back in a minute."}"#).as_deref(), Some("Thank you. Come back in a minute."));
        for json in [r#"{"message": "ok", "items": [1]}"#, r#"{"message": "Success"}"#, r#"{"message": ""}"#, r#"{"info": {}}"#, "{}"] {
            assert_eq!(message(json), None, "{json}");
        }
    }

    #[test]
    fn line_delimited_json_is_told_from_json_on_several_lines() {
        assert!(is_line_delimited(b"{\"id\": 1}\n{\"id\": 2}\n"));
        assert!(is_line_delimited(b"{\"id\": 1}\r\n\r\n{\"id\": 2}"));
        for body in [&b"{\"id\": 1}\n"[..], b"{\n\"id\": 1\n}", b"{\"id\": 1} x\n{\"id\": 2}", b"", b"[1,\n2]"] {
            assert!(!is_line_delimited(body), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_field_that_says_more_is_found_next_to_the_cursor_or_at_the_top() {
        let more = |json: &str| more_field(&parse_pointer("/meta/next"), json.as_bytes());
        assert_eq!(more(r#"{"meta": {"hasNextPage": true}}"#).as_deref(), Some("hasNextPage"));
        assert_eq!(more(r#"{"has_more": true, "meta": {}}"#).as_deref(), Some("has_more"));
        for json in [r#"{"has_more": false}"#, r#"{"has_more": "x"}"#, r#"{"rows": [{"has_more": true}]}"#, "[]"] {
            assert_eq!(more(json), None, "{json}");
        }
    }
}
