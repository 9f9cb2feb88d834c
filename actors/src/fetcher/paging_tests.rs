use super::*;

const WIDE: Limits = Limits { max_pages: 100_000, max_empty_pages: 10 };

fn to(next: &str) -> Said {
    // Pages differ in what they hold, but for a test that says otherwise.
    Said {
        next: Next::Cursor(next.to_owned()),
        digest: u64::from_be_bytes(hash(next).as_bytes()[..8].try_into().unwrap()),
        ..Said::default()
    }
}
fn ends(next: Next) -> Said {
    Said { next, ..Said::default() }
}
fn more(said: Said, more: bool) -> Said {
    Said { more: Some(("has_more".to_owned(), more)), ..said }
}
fn link(said: Said) -> Said {
    Said { link: true, ..said }
}

/// The end of a fetch of an API that says `said(cursor)`, each page having so many records; and how many pages that took.
fn read(limits: Limits, start: Option<&str>, page: impl Fn(Option<&str>) -> (u64, Said)) -> (Stop, Option<String>, u32) {
    read_on(&mut Trail::default(), limits, start, page)
}
fn read_on(
    trail: &mut Trail,
    limits: Limits,
    start: Option<&str>,
    page: impl Fn(Option<&str>) -> (u64, Said),
) -> (Stop, Option<String>, u32) {
    let mut cursor = start.map(str::to_owned);
    for pages in 1.. {
        let (records, said) = page(cursor.as_deref());
        match trail.turn(limits, cursor.as_deref(), records, said) {
            Turn::On(next) => cursor = Some(next),
            Turn::Stop(stop, moved) => return (stop, moved.or(cursor), pages),
        }
    }
    unreachable!("every fetch stops")
}
fn number(cursor: Option<&str>) -> u32 {
    cursor.map_or(0, |cursor| cursor.parse().unwrap())
}

#[test]
fn a_page_that_names_no_next_cursor_is_the_end() {
    for next in [Next::Absent, Next::Nothing, Next::NotSought] {
        let (stop, _, pages) = read(WIDE, None, |_| (3, ends(next.clone())));
        assert_eq!((stop, pages), (Stop { reason: StopReason::NoNext, complete: true, cursor: None, detail: String::new() }, 1));
    }
}

#[test]
fn has_more_false_is_the_end_and_the_next_fetch_goes_on_at_the_cursor_beside_it() {
    let (stop, at, pages) = read(WIDE, None, |cursor| (1, more(to(&(number(cursor) + 1).to_string()), number(cursor) < 2)));
    assert_eq!((stop.reason, stop.complete, stop.cursor.as_deref(), pages), (StopReason::HasMoreFalse, true, Some("3"), 3));
    assert_eq!(at.as_deref(), Some("3"));
}

#[test]
fn a_page_that_says_there_is_more_and_not_where_cuts_the_fetch_short() {
    for next in [Next::Absent, Next::Nothing] {
        let (stop, ..) = read(WIDE, None, |_| (1, more(ends(next.clone()), true)));
        assert!(!stop.complete && stop.reason == StopReason::NoNext && stop.detail.contains("`has_more`"), "{stop:?}");
    }
}

#[test]
fn empty_pages_are_followed_to_the_records_behind_them() {
    let page = |cursor: Option<&str>| match number(cursor) {
        11 => (1, ends(Next::Nothing)),
        at => (u64::from(at == 0), to(&(at + 1).to_string())),
    };
    let (stop, _, pages) = read(WIDE, None, page);
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::NoNext, true, 12));
}

#[test]
fn more_empty_pages_in_a_row_than_are_allowed_cut_the_fetch_short_and_the_next_goes_on_behind_them() {
    let endless = |cursor: Option<&str>| (0, to(&(number(cursor) + 1).to_string()));
    let (stop, at, pages) = read(WIDE, None, endless);
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::EmptyPage, false, 11, Some("11")));
    assert!(stop.detail.starts_with("11 pages in a row had no records"), "{}", stop.detail);
    let (stop, _, pages) = read(Limits { max_empty_pages: 0, ..WIDE }, None, endless);
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::EmptyPage, true, 1), "the file says that such a page is the end");
}

#[test]
fn empty_pages_with_records_between_them_are_no_row() {
    let page = |cursor: Option<&str>| {
        let at = number(cursor);
        (u64::from(at.is_multiple_of(10)), if at < 95 { to(&(at + 1).to_string()) } else { ends(Next::Absent) })
    };
    assert_eq!(read(WIDE, None, page).0.reason, StopReason::NoNext);
}

#[test]
fn the_most_pages_cut_a_fetch_short_unless_the_last_of_them_is_the_end() {
    let api = |cursor: Option<&str>| {
        let at = number(cursor);
        (1, if at < 4 { to(&(at + 1).to_string()) } else { ends(Next::Nothing) })
    };
    let at_most = |max_pages| read(Limits { max_pages, ..WIDE }, None, api);
    let (stop, at, pages) = at_most(4);
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::MaxPages, false, 4, Some("4")));
    assert!(stop.detail.starts_with("4 pages were read"), "{}", stop.detail);
    assert_eq!((at_most(5).0.reason, at_most(5).0.complete), (StopReason::NoNext, true));
    assert_eq!((at_most(1).0.reason, at_most(1).2), (StopReason::MaxPages, 1));
}

#[test]
fn the_cursor_just_used_is_an_ordinary_end() {
    let (stop, at, pages) = read(WIDE, Some("0"), |cursor| (u64::from(number(cursor) < 2), to(&(number(cursor) + 1).min(2).to_string())));
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::SameCursor, true, 3, Some("2")));
}

#[test]
fn an_api_that_answers_each_cursor_with_its_first_page_is_found_out() {
    let first = Said { digest: 7, ..to("2") };
    let (stop, _, pages) = read(WIDE, None, |_| (5, first.clone()));
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::SameCursor, false, 2));
    assert!(stop.detail.contains("fetcher.cursor.param"), "{}", stop.detail);
    let (stop, ..) = read(WIDE, None, |_| (0, first.clone()));
    assert!(stop.complete, "pages without records are all alike");
}

#[test]
fn a_circle_of_any_length_is_found_when_its_first_cursor_comes_again() {
    for length in [2, 3, 50] {
        let (stop, at, pages) = read(WIDE, None, |cursor| (1, to(&(number(cursor) % length + 1).to_string())));
        assert_eq!((stop.reason, stop.complete, pages), (StopReason::CursorCycle, false, length + 1));
        assert_eq!((stop.cursor.as_deref(), at), (Some("1"), Some(length.to_string())), "it stays at the page that leads back");
    }
}

#[test]
fn a_circle_that_is_longer_than_a_fetch_is_found_by_those_that_go_on_and_then_costs_a_page_each() {
    let circle = |cursor: Option<&str>| (1, to(&(number(cursor) % 5 + 1).to_string()));
    let (mut trail, mut cursor, mut ends) = (Trail::default(), None, Vec::new());
    for _ in 0..5 {
        trail = trail.gone_on();
        let (stop, at, pages) = read_on(&mut trail, Limits { max_pages: 2, ..WIDE }, cursor.as_deref(), circle);
        ends.push((stop.reason, pages));
        cursor = at;
    }
    use StopReason::{CursorCycle, MaxPages};
    assert_eq!(ends, [(MaxPages, 2), (MaxPages, 2), (CursorCycle, 2), (CursorCycle, 1), (CursorCycle, 1)]);
}

#[test]
fn a_link_to_a_next_page_that_is_not_followed_is_said() {
    let end = |said: Said| read(WIDE, None, |_| (1, said.clone())).0;
    let one_page = end(link(ends(Next::NotSought)));
    assert!(!one_page.complete && one_page.reason == StopReason::NoNext && one_page.detail.contains("Link"), "{one_page:?}");
    assert!(!end(link(ends(Next::Absent))).complete);
    let contradictory = end(link(ends(Next::Nothing)));
    assert!(contradictory.complete && contradictory.detail.contains("Link"), "the answer's own word counts: {contradictory:?}");
    assert!(end(link(more(to("2"), false))).detail.contains("Link"));
}

#[test]
fn what_is_remembered_of_cursors_is_bounded() {
    let mut trail = Trail::default();
    let api = |cursor: Option<&str>| (1, to(&(number(cursor) + 1).to_string()));
    let (stop, at, _) = read_on(&mut trail, WIDE, None, api);
    assert_eq!(stop.reason, StopReason::MaxPages);
    assert_eq!(trail.seen.len(), SEEN_MOST - 1, "the first page has no cursor");
    read_on(&mut trail, Limits { max_pages: 1, ..WIDE }, at.as_deref(), api);
    assert_eq!(trail.gone_on(), Trail::default());
}
