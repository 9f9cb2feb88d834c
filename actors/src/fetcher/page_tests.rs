//! Tests of reading a page from a whole response.

use super::*;

fn paths(next: Option<&str>, has_more: Option<&str>) -> PagePaths {
    let (next, has_more) = (next.map(parse_pointer), has_more.map(parse_pointer));
    PagePaths { records: parse_pointer("/rows"), is_paged: next.is_some(), next, has_more, key: "cursor", ..PagePaths::default() }
}
fn first(paths: &PagePaths, body: &str) -> Result<(usize, PageInfo), PageError> {
    read(&Bytes::copy_from_slice(body.as_bytes()), paths, true, 1 << 20).map(|(found, info)| (found.records.len(), info))
}
fn cursor(text: &str) -> NextCursor {
    NextCursor::Cursor(text.to_owned())
}

#[test]
fn null_and_an_empty_response_are_a_page_without_records() {
    let paths = paths(Some("/next"), None);
    for (body, next) in [
        ("", NextCursor::Absent),
        (" \r\n", NextCursor::Absent),
        ("\u{feff}", NextCursor::Absent),
        ("null", NextCursor::Null),
        (r#"{"rows": null, "next": null}"#, NextCursor::Null),
        (r#"{"rows": null, "next": "b"}"#, cursor("b")),
        (r#"{"rows": null}"#, NextCursor::Absent),
    ] {
        let (records, info) = first(&paths, body).unwrap_or_else(|error| panic!("{body:?}: {error}"));
        assert_eq!((records, info.next), (0, next), "{body:?}");
    }
    let nested = PagePaths { records: parse_pointer("/data/rows"), ..paths };
    assert_eq!(first(&nested, r#"{"data": null}"#).unwrap().0, 0);
    assert!(matches!(first(&nested, r#"{"data": {}}"#), Err(PageError::NotFound { .. })), "a missing array is no page");
}

#[test]
fn an_error_message_in_place_of_records_is_no_page() {
    for body in [
        r#"{"error": "backend timed out"}"#,
        r#"{"message": "backend timed out"}"#,
        r#"{"rows": null, "errors": [{"message": "backend timed out"}]}"#,
        r#"{"rows": [], "error": {"message": "backend timed out"}}"#,
        r#"{"rows": {}, "status": "error", "message": "backend timed out"}"#,
    ] {
        let error = first(&paths(None, None), body).unwrap_err();
        assert!(matches!(&error, PageError::ApiError { message, retry: true } if message.contains("backend timed out")), "{body}: {error}");
    }
    assert_eq!(first(&paths(None, None), r#"{"rows": [1], "error": null, "message": "ok"}"#).unwrap().0, 1);
    assert_eq!(first(&paths(None, None), r#"{"rows": [], "status": "ok", "message": "nothing found"}"#).unwrap().0, 0);
}

#[test]
fn lines_of_json_are_records_unless_the_file_says_otherwise() {
    let body = "{\"id\": 1}\n{\"id\": 2}\n";
    let error = first(&paths(None, None), body).unwrap_err();
    assert!(error.to_string().contains("set fetcher.format = \"ndjson\", and remove fetcher.records"), "{error}");
    let by_type = PagePaths { records: parse_pointer(""), lines: true, ..paths(None, None) };
    let body = "{\"id\": 1}\n{\"id\": 2}\n{\"id\": NaN}\n{\"id\": 4}";
    let (found, _) = read(&Bytes::from_static(body.as_bytes()), &by_type, true, 1 << 20).unwrap();
    assert_eq!((found.records.len(), found.bad[0].index), (4, 2));
    assert_eq!(first(&by_type, "{\"id\": 1}").unwrap().0, 1, "one line is one object");
}

#[test]
fn a_pointer_to_the_error_outweighs_records_and_common_names() {
    let with = |retry| PagePaths { error: Some((parse_pointer("/fault"), retry)), ..paths(None, None) };
    let body = r#"{"rows": [1], "fault": {"code": 7, "message": "no\u001b[31m such\n day"}}"#;
    for retry in [true, false] {
        let message = "no\\x1b[31m such day".to_owned();
        assert_eq!(first(&with(retry), body).unwrap_err(), PageError::ApiError { message, retry });
    }
    for fault in ["null", "false", "\"\"", "[]", "{}", "0"] {
        let body = format!(r#"{{"rows": [1], "fault": {fault}, "error": "by another name"}}"#);
        assert_eq!(first(&with(true), &body).unwrap().0, 1, "{fault}");
    }
}

#[test]
fn an_object_with_an_error_is_no_record_unless_the_file_says_so() {
    let whole = |shape| PagePaths { records: parse_pointer(""), shape, ..paths(None, None) };
    let body = r#"{"error": "quota exceeded"}"#;
    assert!(matches!(first(&whole(Shape::List), body), Err(PageError::ApiError { retry: true, .. })));
    assert_eq!(first(&whole(Shape::Object), body).unwrap().0, 1);
    assert_eq!(first(&whole(Shape::List), r#"{"id": 1, "error": null}"#).unwrap().0, 1);
}

#[test]
fn a_misspelt_cursor_fails_the_first_page_and_names_the_right_one() {
    let paths = paths(Some("/meta/nextCursor"), None);
    let body = r#"{"rows": [{"id": 1}], "meta": {"next_cursor": 2, "total": 4}}"#;
    let error = first(&paths, body).unwrap_err().to_string();
    assert!(error.ends_with("write cursor.next = \"/meta/next_cursor\"") && error.contains("/meta/nextCursor"), "{error}");
    let later = read(&Bytes::copy_from_slice(body.as_bytes()), &paths, false, 1 << 20).unwrap();
    assert_eq!(later.1.next, NextCursor::Absent, "only the first page is checked");
    assert_eq!(first(&paths, r#"{"rows": [{"id": 1}], "meta": {"total": 4}}"#).unwrap().1.next, NextCursor::Absent);
}

#[test]
fn whether_there_is_more_is_read_at_has_more_else_next_to_the_cursor() {
    let more = |has_more: Option<&str>, body: &str| first(&paths(Some("/next"), has_more), body).map(|(_, info)| info.more);
    let says = |name: &str, more| Ok(Some((name.to_owned(), more)));
    for (value, means) in [("true", true), ("false", false), ("\"False\"", false), ("1", true), ("0", false)] {
        assert_eq!(more(Some("/more"), &format!("{{\"rows\": [], \"more\": {value}, \"next\": \"b\"}}")), says("/more", means), "{value}");
    }
    for body in [r#"{"rows": [], "next": "b"}"#, r#"{"rows": [], "more": null}"#, r#"{"rows": [], "more": ""}"#] {
        assert_eq!(more(Some("/more"), body), Ok(None), "{body}");
    }
    let error = more(Some("/more"), r#"{"rows": [], "more": [1]}"#).unwrap_err();
    assert_eq!(error.to_string(), "fetcher.cursor.has_more = \"/more\" leads to an array, not to true or false");
    assert_eq!(more(None, r#"{"rows": [], "has_more": true, "next": null}"#), says("has_more", true));
    assert_eq!(more(None, r#"{"rows": [], "has_more": false, "next": "b"}"#), Ok(None), "the cursor decides");
}

#[test]
fn pages_with_the_same_records_have_the_same_digest() {
    let digest = |body: &str| first(&paths(Some("/next"), None), body).unwrap().1.digest;
    assert_eq!(digest(r#"{"rows": [1, 2], "next": "b"}"#), digest(r#"{"rows": [1,2], "next": "b", "at": 7}"#));
    assert_ne!(digest(r#"{"rows": [1, 2]}"#), digest(r#"{"rows": [12]}"#));
    assert_ne!(digest(r#"{"rows": [1, 2]}"#), digest(r#"{"rows": [2, 1]}"#));
}

fn next(pointer: &str, body: &str) -> Result<Option<String>, PageError> {
    Ok(match next_cursor(body.as_bytes(), &parse_pointer(pointer), "cursor")? {
        NextCursor::Cursor(cursor) => Some(cursor),
        _ => None,
    })
}

#[test]
fn the_next_cursor_is_a_string_or_a_number_as_the_api_wrote_it() {
    let next = |value: &str| next("/info/next", &format!("{{\"results\": [[]], \"info\": {{\"n\": 1, \"next\": {value} }}}}")).unwrap();
    assert_eq!(next("\"a\\u0062/c =\"").as_deref(), Some("ab/c ="));
    assert_eq!(next("12345678901234567890123").as_deref(), Some("12345678901234567890123"));
    assert_eq!(next("1.50").as_deref(), Some("1.50"));
    assert_eq!(next("0").as_deref(), Some("0"));
}

#[test]
fn null_false_an_empty_string_and_a_missing_field_are_no_next_cursor() {
    let next = |body: &str| next_cursor(body.as_bytes(), &parse_pointer("/info/next"), "cursor");
    for value in ["null", "false", "\"\"", "\" \""] {
        assert_eq!(next(&format!("{{\"info\": {{\"next\": {value}}}}}")), Ok(NextCursor::Null), "{value}");
    }
    assert_eq!(next("{\"info\": null}"), Ok(NextCursor::Null));
    for body in ["{\"info\": {}}", "{}", "[]"] {
        assert_eq!(next(body), Ok(NextCursor::Absent), "{body}");
    }
}

#[test]
fn any_other_cursor_is_an_error_that_names_the_pointer_and_the_type() {
    for (value, found) in [("{}", "an object"), ("[1]", "an array"), ("true", "a boolean"), ("\"\\ud800\"", "a string that is not Unicode")]
    {
        let error = next("/next", &format!("{{\"next\": {value}}}")).unwrap_err();
        assert_eq!(error.to_string(), format!("fetcher.cursor.next = \"/next\" leads to {found}, not to a string or a number"));
    }
    let long = next("/next", &format!("{{\"next\": \"{}\"}}", "x".repeat(5_000))).unwrap_err();
    assert_eq!(long.to_string(), "fetcher.cursor.next = \"/next\" leads to 5000 bytes; the limit of a cursor is 4096");
}
