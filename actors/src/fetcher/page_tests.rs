//! What is read of a whole answer.

use super::*;

fn ways(next: Option<&str>, has_more: Option<&str>) -> Ways {
    Ways { records: Pointer::parse("/rows"), next: next.map(Pointer::parse), has_more: has_more.map(Pointer::parse) }
}
fn first(ways: &Ways, body: &str) -> Result<(usize, Said), PageError> {
    read(&Bytes::copy_from_slice(body.as_bytes()), ways, true, 1 << 20).map(|(found, said)| (found.records.len(), said))
}
fn cursor(text: &str) -> Next {
    Next::Cursor(text.to_owned())
}

#[test]
fn null_and_nothing_at_all_are_a_page_without_records() {
    let ways = ways(Some("/next"), None);
    for (body, next) in [
        ("", Next::Absent),
        (" \r\n", Next::Absent),
        ("\u{feff}", Next::Absent),
        ("null", Next::Nothing),
        (r#"{"rows": null, "next": null}"#, Next::Nothing),
        (r#"{"rows": null, "next": "b"}"#, cursor("b")),
        (r#"{"rows": null}"#, Next::Absent),
    ] {
        let (records, said) = first(&ways, body).unwrap_or_else(|error| panic!("{body:?}: {error}"));
        assert_eq!((records, said.next), (0, next), "{body:?}");
    }
    let nested = Ways { records: Pointer::parse("/data/rows"), ..ways };
    assert_eq!(first(&nested, r#"{"data": null}"#).unwrap().0, 0);
    assert!(matches!(first(&nested, r#"{"data": {}}"#), Err(PageError::NotFound { .. })), "what is absent is no page");
}

#[test]
fn an_error_in_words_in_place_of_records_is_no_page() {
    for body in [
        r#"{"error": "backend timed out"}"#,
        r#"{"message": "backend timed out"}"#,
        r#"{"rows": null, "errors": [{"message": "backend timed out"}]}"#,
        r#"{"rows": [], "error": {"message": "backend timed out"}}"#,
        r#"{"rows": {}, "status": "error", "message": "backend timed out"}"#,
    ] {
        let error = first(&ways(None, None), body).unwrap_err();
        assert!(matches!(&error, PageError::Failure { said } if said.contains("backend timed out")), "{body}: {error}");
    }
    assert_eq!(first(&ways(None, None), r#"{"rows": [1], "error": null, "message": "ok"}"#).unwrap().0, 1);
    assert_eq!(first(&ways(None, None), r#"{"rows": [], "status": "ok", "message": "nothing found"}"#).unwrap().0, 0);
}

#[test]
fn ndjson_is_called_by_its_name() {
    let error = first(&ways(None, None), "{\"id\": 1}\n{\"id\": 2}\n").unwrap_err();
    assert!(error.to_string().contains("NDJSON") && error.to_string().contains("not supported"), "{error}");
}

#[test]
fn a_cursor_that_is_misspelt_is_an_error_at_the_first_page_that_names_the_right_one() {
    let ways = ways(Some("/meta/nextCursor"), None);
    let body = r#"{"rows": [{"id": 1}], "meta": {"next_cursor": 2, "total": 4}}"#;
    let error = first(&ways, body).unwrap_err().to_string();
    assert!(error.ends_with("write cursor.next = \"/meta/next_cursor\"") && error.contains("/meta/nextCursor"), "{error}");
    let later = read(&Bytes::copy_from_slice(body.as_bytes()), &ways, false, 1 << 20).unwrap();
    assert_eq!(later.1.next, Next::Absent, "a later page was found by the name that is in the file");
    assert_eq!(first(&ways, r#"{"rows": [{"id": 1}], "meta": {"total": 4}}"#).unwrap().1.next, Next::Absent);
}

#[test]
fn whether_there_is_more_is_read_where_the_file_says_else_beside_the_cursor() {
    let more = |has_more: Option<&str>, body: &str| first(&ways(Some("/next"), has_more), body).map(|(_, said)| said.more);
    let said = |name: &str, more| Ok(Some((name.to_owned(), more)));
    for (value, means) in [("true", true), ("false", false), ("\"False\"", false), ("1", true), ("0", false)] {
        assert_eq!(more(Some("/more"), &format!("{{\"rows\": [], \"more\": {value}, \"next\": \"b\"}}")), said("/more", means), "{value}");
    }
    for body in [r#"{"rows": [], "next": "b"}"#, r#"{"rows": [], "more": null}"#, r#"{"rows": [], "more": ""}"#] {
        assert_eq!(more(Some("/more"), body), Ok(None), "{body}");
    }
    let error = more(Some("/more"), r#"{"rows": [], "more": [1]}"#).unwrap_err();
    assert_eq!(error.to_string(), "fetcher.cursor.has_more = \"/more\" leads to an array, not to true or false");
    assert_eq!(more(None, r#"{"rows": [], "has_more": true, "next": null}"#), said("has_more", true));
    assert_eq!(more(None, r#"{"rows": [], "has_more": false, "next": "b"}"#), Ok(None), "the cursor alone says it");
}

#[test]
fn pages_of_the_same_records_have_one_digest_and_others_another() {
    let digest = |body: &str| first(&ways(Some("/next"), None), body).unwrap().1.digest;
    assert_eq!(digest(r#"{"rows": [1, 2], "next": "b"}"#), digest(r#"{"rows": [1,2], "next": "b", "at": 7}"#));
    assert_ne!(digest(r#"{"rows": [1, 2]}"#), digest(r#"{"rows": [12]}"#));
    assert_ne!(digest(r#"{"rows": [1, 2]}"#), digest(r#"{"rows": [2, 1]}"#));
}
