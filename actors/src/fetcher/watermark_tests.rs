use forebay_schemas::pipeline::{OverlapValue, Scalar};
use forebay_schemas::watermark::MarkFormat;
use forebay_schemas::window::moment;

use super::*;
use crate::message::BadRecord;
use forebay_dataplane::Reason;

fn section() -> IncrementalSection {
    IncrementalSection {
        field: "/at".to_owned(),
        param: Some("since".to_owned()),
        start: None,
        overlap: None,
        format: MarkFormat::Rfc3339,
        param_format: None,
    }
}

fn numbers(overlap: u64) -> IncrementalSection {
    IncrementalSection { format: MarkFormat::Number, overlap: Some(OverlapValue::Number(overlap)), ..section() }
}

fn time(text: &str) -> DateTime<Utc> {
    moment(text).unwrap()
}

fn records(texts: &[&str]) -> Extracted {
    let records = texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    Extracted { records, ..Extracted::default() }
}

/// The marks of a page of records.
fn marks(section: &IncrementalSection, texts: &[&str]) -> PageMarks {
    MarkReader::new(section).read(&mut records(texts), &HashSet::new(), false).unwrap()
}

/// What the ledger has after this progress.
fn stored(before: Option<Watermark>, progress: Option<PassProgress>) -> Watermark {
    let before = before.unwrap_or_default();
    let Some(PassProgress { at, pass, seen }) = progress else { return before };
    let seen = if pass.is_some() { before.seen } else { seen };
    Watermark { at, pass, seen, ..Watermark::default() }
}

#[test]
fn the_marks_of_a_page_are_read_and_records_that_were_seen_are_left_out() {
    let section = section();
    let reader = MarkReader::new(&section);
    let one = r#"{"at":"2026-01-01T00:00:01Z","id":1}"#;
    let seen = marks(&section, &[one]).records.into_iter().map(|(_, hash)| hash).collect();
    let mut found = records(&[one, "not json", r#"{"at":"2026-01-01T00:00:02Z","id":1}"#, r#"{"at":null}"#, r#"{"id":4}"#]);
    found.bad = vec![BadRecord { index: 1, reason: Reason::plain("not JSON".to_owned()) }];
    let marks = reader.read(&mut found, &seen, true).unwrap();
    assert_eq!((marks.reached, marks.unmarked, marks.repeated), (Some(Mark::Time(time("2026-01-01T00:00:02Z"))), 2, 1));
    assert_eq!((found.records.len(), &found.records[0][..], found.bad[0].index), (4, &b"not json"[..], 0), "indexes move along");
}

#[test]
fn a_first_page_without_any_mark_is_an_error_that_says_why() {
    let reader = MarkReader::new(&section());
    let error = |texts: &[&str]| reader.read(&mut records(texts), &HashSet::new(), true).unwrap_err().to_string();
    let missing = error(&[r#"{"updated":"2026-01-01"}"#]);
    assert!(missing.contains("\"/at\"") && missing.contains("would never move"), "{missing}");
    let other = error(&[r#"{"at":1767225600}"#]);
    assert!(other.contains("1767225600 is not in the format \"rfc3339\"; set fetcher.incremental.format"), "{other}");
    assert_eq!(reader.read(&mut records(&[]), &HashSet::new(), true).unwrap(), PageMarks::default());
    assert_eq!(reader.read(&mut records(&[r#"{"at":1}"#]), &HashSet::new(), false).unwrap().unmarked, 1, "a later page may have none");
}

#[test]
fn a_pass_moves_the_watermark_when_it_is_complete_and_the_next_one_asks_from_there() {
    let (section, now) = (section(), time("2026-01-02"));
    let mut first = FetchPass::of_fetch(&section, None, true, now);
    assert_eq!(first.asked(), None, "everything");
    let page = marks(&section, &[r#"{"at":"2026-01-01T12:00:00Z"}"#, r#"{"at":"2026-01-01T06:00:00Z"}"#]);
    let begun = first.produced(page, true, false).unwrap();
    assert_eq!((&begun.at, begun.pass.as_ref().unwrap().reached.as_deref()), (&None, Some("2026-01-01T12:00:00Z")));
    let older = marks(&section, &[r#"{"at":"2026-01-01T03:00:00Z"}"#]);
    assert_eq!(first.produced(older.clone(), false, false), None, "nothing is larger");
    let end = first.produced(older, false, true).unwrap();
    assert_eq!((end.at.as_deref(), &end.pass, end.seen.len()), (Some("2026-01-01T12:00:00Z"), &None, 1), "one is in the overlap");

    let known = stored(None, Some(end));
    let mut second = FetchPass::of_fetch(&section, Some(known.clone()), true, now);
    assert_eq!(second.asked(), Some("2026-01-01T11:59:00Z"), "a minute before");
    assert_eq!(second.seen().len(), 1);
    let same = marks(&section, &[r#"{"at":"2026-01-01T12:00:00Z"}"#]);
    assert_eq!(second.produced(same, true, true), None, "nothing is new, and nothing is stored");
    let mut empty = FetchPass::of_fetch(&section, Some(known), true, now);
    let end = empty.produced(PageMarks::default(), true, true).unwrap();
    assert_eq!((end.at.as_deref(), end.seen.len()), (Some("2026-01-01T12:00:00Z"), 0), "it never moves back");
}

#[test]
fn a_pass_goes_on_after_a_crash_with_what_it_asked_for_and_what_it_had_reached() {
    let section = section();
    let known = Watermark { at: Some("2026-01-01T00:00:00Z".to_owned()), ..Watermark::default() };
    let mut first = FetchPass::of_fetch(&section, Some(known.clone()), true, time("2026-01-02"));
    let page = marks(&section, &[r#"{"at":"2026-01-01T12:00:00Z"}"#]);
    let known = stored(Some(known), first.produced(page, true, false));
    let mut resumed = FetchPass::of_fetch(&section, Some(known), false, time("2026-01-03"));
    assert_eq!(resumed.asked(), first.asked());
    let end = resumed.produced(marks(&section, &[r#"{"at":"2026-01-01T06:00:00Z"}"#]), false, true).unwrap();
    assert_eq!(end.at.as_deref(), Some("2026-01-01T12:00:00Z"));
    let mut unknown = FetchPass::of_fetch(&section, None, false, time("2026-01-03"));
    let page = marks(&section, &[r#"{"at":"2026-01-01T06:00:00Z"}"#]);
    assert_eq!(unknown.produced(page, false, true), None, "the end of a pass whose start is unknown moves nothing");
}

#[test]
fn a_watermark_of_time_is_not_later_than_the_first_request_of_its_pass() {
    let section = section();
    let mut pass = FetchPass::of_fetch(&section, None, true, time("2026-01-02"));
    let page = marks(&section, &[r#"{"at":"2199-01-01T00:00:00Z"}"#, r#"{"at":"2026-01-01T00:00:00Z"}"#]);
    let end = pass.produced(page, true, true).unwrap();
    assert_eq!((end.at.as_deref(), end.seen.len()), (Some("2026-01-02T00:00:00Z"), 1), "the one ahead is asked for again, and known");
    let mut numbered = FetchPass::of_fetch(&numbers(0), None, true, time("2026-01-02"));
    let end = numbered.produced(marks(&numbers(0), &[r#"{"at":7}"#, r#"{"at":"9"}"#]), true, true).unwrap();
    assert_eq!(end.at.as_deref(), Some("9"), "numbers have no such limit");
}

#[test]
fn the_first_fetch_begins_at_start_and_numbers_have_their_overlap() {
    let section = IncrementalSection { start: Some(Scalar::Number(100)), ..numbers(10) };
    let now = time("2026-01-02");
    assert_eq!(FetchPass::of_fetch(&section, None, true, now).asked(), Some("100"));
    let known = Watermark { at: Some("250".to_owned()), ..Watermark::default() };
    assert_eq!(FetchPass::of_fetch(&section, Some(known), true, now).asked(), Some("240"));
    let other = Watermark { at: Some("2026-01-01T00:00:00Z".to_owned()), ..Watermark::default() };
    assert_eq!(FetchPass::of_fetch(&section, Some(other), true, now).asked(), Some("100"), "a time is no number");
}

#[test]
fn no_more_hashes_are_kept_than_the_limit_and_those_are_the_newest() {
    let section = numbers(1_000_000);
    let mut pass = FetchPass::of_fetch(&section, None, true, time("2026-01-02"));
    for chunk in 0..5_u64 {
        let texts: Vec<String> = (0..MAX_SEEN as u64).map(|n| format!(r#"{{"at":{}}}"#, chunk * MAX_SEEN as u64 + n)).collect();
        let page = marks(&section, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        pass.produced(page, chunk == 0, false);
        assert!(pass.records.len() <= 2 * MAX_SEEN);
    }
    let end = pass.produced(PageMarks::default(), false, true).unwrap();
    let newest = marks(&section, &[&format!(r#"{{"at":{}}}"#, 5 * MAX_SEEN - 1)]).records[0].1.simple().to_string();
    assert!(end.seen.len() == MAX_SEEN && end.seen.contains(&newest));
}
