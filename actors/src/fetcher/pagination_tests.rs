use super::*;

const WIDE: PageLimits = PageLimits { max_pages: 100_000, max_empty_pages: 10 };

fn to(next: &str) -> PageInfo {
    // Pages have different records unless a test says otherwise.
    PageInfo {
        next: NextCursor::Cursor(next.to_owned()),
        digest: u64::from_be_bytes(hash(next).as_bytes()[..8].try_into().unwrap()),
        ..PageInfo::default()
    }
}
fn ends(next: NextCursor) -> PageInfo {
    PageInfo { next, ..PageInfo::default() }
}
fn more(info: PageInfo, more: bool) -> PageInfo {
    PageInfo { more: Some(("has_more".to_owned(), more)), ..info }
}
fn link(info: PageInfo) -> PageInfo {
    PageInfo { link: true, ..info }
}

/// Runs a fetch of an API whose pages are `page(cursor)`. Returns its stop, where the next one
/// continues, and the pages.
fn read(limits: PageLimits, start: Option<&str>, page: impl Fn(Option<&str>) -> (u64, PageInfo)) -> (Stop, Option<String>, u32) {
    read_on(&mut PageHistory::default(), limits, start, page)
}
fn read_on(
    history: &mut PageHistory,
    limits: PageLimits,
    start: Option<&str>,
    page: impl Fn(Option<&str>) -> (u64, PageInfo),
) -> (Stop, Option<String>, u32) {
    let mut cursor = start.map(str::to_owned);
    for pages in 1.. {
        let (records, info) = page(cursor.as_deref());
        match history.next_step(limits, cursor.as_deref(), records, info) {
            NextStep::Continue(next) => cursor = Some(next),
            NextStep::Stop(stop, moved) => return (stop, moved.or(cursor), pages),
        }
    }
    unreachable!("every fetch stops")
}
fn number(cursor: Option<&str>) -> u32 {
    cursor.map_or(0, |cursor| cursor.parse().unwrap())
}

#[test]
fn a_page_without_a_next_cursor_is_the_last() {
    for next in [NextCursor::Absent, NextCursor::Null, NextCursor::NotConfigured] {
        let (stop, _, pages) = read(WIDE, None, |_| (3, ends(next.clone())));
        assert_eq!((stop, pages), (Stop { reason: StopReason::NoNext, complete: true, cursor: None, detail: String::new() }, 1));
    }
}

#[test]
fn has_more_false_ends_the_fetch_and_the_next_continues_at_its_cursor() {
    let (stop, at, pages) = read(WIDE, None, |cursor| (1, more(to(&(number(cursor) + 1).to_string()), number(cursor) < 2)));
    assert_eq!((stop.reason, stop.complete, stop.cursor.as_deref(), pages), (StopReason::HasMoreFalse, true, Some("3"), 3));
    assert_eq!(at.as_deref(), Some("3"));
}

#[test]
fn a_page_that_says_more_without_a_cursor_cuts_the_fetch_short() {
    for next in [NextCursor::Absent, NextCursor::Null] {
        let (stop, ..) = read(WIDE, None, |_| (1, more(ends(next.clone()), true)));
        assert!(!stop.complete && stop.reason == StopReason::NoNext && stop.detail.contains("`has_more`"), "{stop:?}");
    }
}

#[test]
fn empty_pages_are_followed_to_the_records_after_them() {
    let page = |cursor: Option<&str>| match number(cursor) {
        11 => (1, ends(NextCursor::Null)),
        at => (u64::from(at == 0), to(&(at + 1).to_string())),
    };
    let (stop, _, pages) = read(WIDE, None, page);
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::NoNext, true, 12));
}

#[test]
fn too_many_empty_pages_in_a_row_cut_the_fetch_short() {
    let endless = |cursor: Option<&str>| (0, to(&(number(cursor) + 1).to_string()));
    let (stop, at, pages) = read(WIDE, None, endless);
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::EmptyPage, false, 11, Some("11")));
    assert!(stop.detail.starts_with("11 pages in a row had no records"), "{}", stop.detail);
    let (stop, _, pages) = read(PageLimits { max_empty_pages: 0, ..WIDE }, None, endless);
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::EmptyPage, true, 1), "with 0 such a page is the last");
}

#[test]
fn empty_pages_with_records_between_them_are_not_in_a_row() {
    let page = |cursor: Option<&str>| {
        let at = number(cursor);
        (u64::from(at.is_multiple_of(10)), if at < 95 { to(&(at + 1).to_string()) } else { ends(NextCursor::Absent) })
    };
    assert_eq!(read(WIDE, None, page).0.reason, StopReason::NoNext);
}

#[test]
fn max_pages_cuts_a_fetch_short_unless_that_page_is_the_last() {
    let api = |cursor: Option<&str>| {
        let at = number(cursor);
        (1, if at < 4 { to(&(at + 1).to_string()) } else { ends(NextCursor::Null) })
    };
    let at_most = |max_pages| read(PageLimits { max_pages, ..WIDE }, None, api);
    let (stop, at, pages) = at_most(4);
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::MaxPages, false, 4, Some("4")));
    assert!(stop.detail.starts_with("4 pages were read"), "{}", stop.detail);
    assert_eq!((at_most(5).0.reason, at_most(5).0.complete), (StopReason::NoNext, true));
    assert_eq!((at_most(1).0.reason, at_most(1).2), (StopReason::MaxPages, 1));
}

#[test]
fn the_same_cursor_again_is_an_ordinary_end() {
    let (stop, at, pages) = read(WIDE, Some("0"), |cursor| (u64::from(number(cursor) < 2), to(&(number(cursor) + 1).min(2).to_string())));
    assert_eq!((stop.reason, stop.complete, pages, at.as_deref()), (StopReason::SameCursor, true, 3, Some("2")));
}

#[test]
fn an_api_that_ignores_the_cursor_is_detected() {
    let first = PageInfo { digest: 7, ..to("2") };
    let (stop, _, pages) = read(WIDE, None, |_| (5, first.clone()));
    assert_eq!((stop.reason, stop.complete, pages), (StopReason::SameCursor, false, 2));
    assert!(stop.detail.contains("fetcher.cursor.param"), "{}", stop.detail);
    let (stop, ..) = read(WIDE, None, |_| (0, first.clone()));
    assert!(stop.complete, "pages without records are all equal");
}

#[test]
fn a_cycle_of_any_length_is_found_when_its_first_cursor_recurs() {
    for length in [2, 3, 50] {
        let (stop, at, pages) = read(WIDE, None, |cursor| (1, to(&(number(cursor) % length + 1).to_string())));
        assert_eq!((stop.reason, stop.complete, pages), (StopReason::CursorCycle, false, length + 1));
        assert_eq!((stop.cursor.as_deref(), at), (Some("1"), Some(length.to_string())), "it stays at the page that closes the cycle");
    }
}

#[test]
fn a_cycle_longer_than_a_fetch_is_found_by_the_fetches_that_continue() {
    let cycle = |cursor: Option<&str>| (1, to(&(number(cursor) % 5 + 1).to_string()));
    let (mut history, mut cursor, mut ends) = (PageHistory::default(), None, Vec::new());
    for _ in 0..5 {
        history = history.continued();
        let (stop, at, pages) = read_on(&mut history, PageLimits { max_pages: 2, ..WIDE }, cursor.as_deref(), cycle);
        ends.push((stop.reason, pages));
        cursor = at;
    }
    use StopReason::{CursorCycle, MaxPages};
    assert_eq!(ends, [(MaxPages, 2), (MaxPages, 2), (CursorCycle, 2), (CursorCycle, 1), (CursorCycle, 1)]);
}

#[test]
fn a_link_header_that_is_not_followed_is_reported() {
    let end = |info: PageInfo| read(WIDE, None, |_| (1, info.clone())).0;
    let one_page = end(link(ends(NextCursor::NotConfigured)));
    assert!(!one_page.complete && one_page.reason == StopReason::NoNext && one_page.detail.contains("Link"), "{one_page:?}");
    assert!(!end(link(ends(NextCursor::Absent))).complete);
    let contradictory = end(link(ends(NextCursor::Null)));
    assert!(contradictory.complete && contradictory.detail.contains("Link"), "the body decides: {contradictory:?}");
    assert!(end(link(more(to("2"), false))).detail.contains("Link"));
}

#[test]
fn the_memory_of_cursors_is_bounded() {
    let mut history = PageHistory::default();
    let api = |cursor: Option<&str>| (1, to(&(number(cursor) + 1).to_string()));
    let (stop, at, _) = read_on(&mut history, WIDE, None, api);
    assert_eq!(stop.reason, StopReason::MaxPages);
    assert_eq!(history.seen.len(), MAX_SEEN_CURSORS - 1, "the first page has no cursor");
    read_on(&mut history, PageLimits { max_pages: 1, ..WIDE }, at.as_deref(), api);
    assert_eq!(history.continued(), PageHistory::default());
}
