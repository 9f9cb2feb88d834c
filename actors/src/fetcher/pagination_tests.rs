use super::*;

const WIDE: PageLimits = PageLimits { max_pages: 100_000, max_empty_pages: 10, ..PageLimits::ONE_PAGE };

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
    assert!(stop.detail.contains("fetcher.paging.param"), "{}", stop.detail);
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

const BY_PAGE: PageLimits = PageLimits { counted: Some(Counted::Page { start: 1, step: 1 }), restarts: true, max_empty_pages: 0, ..WIDE };
const BY_OFFSET: PageLimits = PageLimits { counted: Some(Counted::Offset { start: 0 }), restarts: true, max_empty_pages: 0, ..WIDE };

/// A page that names nothing, with records of its own.
fn plain(at: u32) -> PageInfo {
    PageInfo { digest: u64::from(at) + 1, ..PageInfo::default() }
}

/// Reads an API whose page or offset has so many records, until the fetch stops. Returns the stop
/// and the cursors that were requested.
fn counted(limits: PageLimits, start: &str, records: impl Fn(u32) -> u64, info: impl Fn(u32) -> PageInfo) -> (Stop, Vec<u32>) {
    let asked = std::cell::RefCell::new(Vec::new());
    let (stop, ..) = read(limits, Some(start), |cursor| {
        let at = number(cursor);
        asked.borrow_mut().push(at);
        (records(at), info(at))
    });
    (stop, asked.into_inner())
}

#[test]
fn pages_are_counted_up_to_one_without_records() {
    let (stop, asked) = counted(BY_PAGE, "1", |page| if page < 4 { 2 } else { 0 }, plain);
    assert_eq!((stop.reason, stop.complete, stop.cursor), (StopReason::EmptyPage, true, None));
    assert_eq!(asked, [1, 2, 3, 4]);
    let steps = PageLimits { counted: Some(Counted::Page { start: 0, step: 10 }), ..BY_PAGE };
    assert_eq!(counted(steps, "0", |page| u64::from(page < 20), plain).1, [0, 10, 20]);
}

#[test]
fn offsets_grow_by_the_records_that_arrived() {
    let all = |at: u32| 25_u64.saturating_sub(u64::from(at)).min(10);
    let (stop, asked) = counted(BY_OFFSET, "0", all, plain);
    assert_eq!((stop.reason, stop.complete), (StopReason::EmptyPage, true));
    assert_eq!(asked, [0, 10, 20, 25], "without a size, only an empty page is the last");
    let (stop, asked) = counted(PageLimits { size: Some(10), ..BY_OFFSET }, "0", all, plain);
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::ShortPage, true, vec![0, 10, 20]));
}

#[test]
fn an_api_that_gives_smaller_pages_than_asked_for_is_read_to_its_end() {
    let limits = PageLimits { size: Some(1_000), ..BY_PAGE };
    let (stop, asked) = counted(limits, "1", |page| if page < 4 { 100 } else { 37 * u64::from(page == 4) }, plain);
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::EmptyPage, true, vec![1, 2, 3, 4, 5]));
    let offsets = PageLimits { size: Some(1_000), ..BY_OFFSET };
    assert_eq!(counted(offsets, "0", |at| 250_u64.saturating_sub(u64::from(at)).min(100), plain).1, [0, 100, 200, 250]);
}

#[test]
fn a_total_ends_a_read_where_it_is_reached_and_a_page_before_that_may_be_short() {
    let of = |total: u64| move |at: u32| PageInfo { total: Some(total), ..plain(at) };
    let limits = PageLimits { size: Some(10), ..BY_PAGE };
    let (stop, asked) = counted(limits, "1", |page| if page == 2 { 7 } else { 10 }, of(27));
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::Total, true, vec![1, 2, 3]));
    let (stop, asked) = counted(BY_OFFSET, "0", |_| 10, of(20));
    assert_eq!((stop.reason, asked), (StopReason::Total, vec![0, 10]));
    let (stop, asked) = counted(BY_OFFSET, "10", |_| 10, of(20));
    assert_eq!((stop.reason, asked), (StopReason::Total, vec![10]), "an offset counts what was read before a restart");
    let pages = PageLimits { total_of: TotalOf::Pages, ..BY_PAGE };
    assert_eq!(counted(pages, "1", |_| 10, of(3)).1, [1, 2, 3]);
    assert_eq!(counted(pages, "3", |_| 10, of(3)).1, [3]);
    assert_eq!(counted(BY_PAGE, "3", |_| 10, of(30)).1, [3]);
    let (stop, asked) = counted(BY_PAGE, "3", |page| if page < 4 { 7 } else { 0 }, of(27));
    assert_eq!((stop.complete, asked), (true, vec![3, 4]), "after a restart, one request more at most");
}

#[test]
fn a_total_that_is_not_reached_cuts_the_fetch_short() {
    let (stop, asked) = counted(BY_PAGE, "1", |page| if page < 3 { 10 } else { 0 }, |at| PageInfo { total: Some(27), ..plain(at) });
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::EmptyPage, false, vec![1, 2, 3]));
    assert!(stop.detail.contains("7 records are missing"), "{}", stop.detail);
    let (stop, _) = counted(BY_PAGE, "1", |page| u64::from(page < 3), |at| PageInfo { total: Some(0), ..plain(at) });
    assert!(stop.complete, "a total of nothing on a page with records is none: {stop:?}");
}

#[test]
fn has_more_decides_for_counted_pages() {
    let until = |last: u32| move |at: u32| more(plain(at), at < last);
    let (stop, asked) = counted(PageLimits { size: Some(10), ..BY_PAGE }, "1", |page| if page == 2 { 3 } else { 10 }, until(3));
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::HasMoreFalse, true, vec![1, 2, 3]));
    let (stop, _) = counted(BY_PAGE, "1", |page| u64::from(page < 3), until(9));
    assert_eq!((stop.reason, stop.complete), (StopReason::EmptyPage, false));
    assert!(stop.detail.contains("says that there are more"), "{}", stop.detail);
}

#[test]
fn an_api_that_ignores_the_page_number_or_begins_again_is_detected() {
    let (stop, asked) = counted(BY_PAGE, "1", |_| 5, |_| plain(1));
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::SamePage, false, vec![1, 2]));
    assert!(stop.detail.contains("fetcher.paging.param"), "{}", stop.detail);
    let (stop, asked) = counted(BY_OFFSET, "0", |_| 5, |at| plain(at % 15));
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::SamePage, false, vec![0, 5, 10, 15]), "after a cycle of any length");
}

#[test]
fn empty_pages_between_counted_ones_are_followed_if_the_file_says_so() {
    let limits = PageLimits { max_empty_pages: 2, ..BY_PAGE };
    let (stop, asked) = counted(limits, "1", |page| u64::from(matches!(page, 1 | 4)), plain);
    assert_eq!((stop.reason, stop.complete, asked), (StopReason::EmptyPage, true, (1..=7).collect()));
    let (stop, asked) = counted(PageLimits { max_empty_pages: 2, size: Some(10), ..BY_OFFSET }, "0", |at| u64::from(at == 0), plain);
    assert_eq!((stop.complete, asked), (true, vec![0, 1, 11, 21]), "an empty page is skipped by its size");
}

#[test]
fn a_refused_page_after_the_last_one_is_the_end_and_is_reported() {
    let refused = |at: u32| PageInfo { past_end: (at == 3).then(|| "the API answered 404 Not Found".to_owned()), ..plain(at) };
    let (stop, _) = counted(BY_PAGE, "1", |page| u64::from(page < 3), refused);
    assert_eq!((stop.reason, stop.complete), (StopReason::EmptyPage, true));
    assert!(stop.detail.starts_with("the API answered 404 Not Found"), "{}", stop.detail);
}

#[test]
fn max_pages_cuts_counted_pages_short_and_the_next_fetch_continues() {
    let limits = PageLimits { max_pages: 2, ..BY_PAGE };
    let (stop, at, _) = read(limits, Some("1"), |cursor| (1, plain(number(cursor))));
    assert_eq!((stop.reason, stop.complete, at.as_deref()), (StopReason::MaxPages, false, Some("3")));
}

#[test]
fn a_page_without_records_leaves_the_position_at_the_last_one_with_some() {
    let (_, at, _) =
        read(PageLimits { restarts: false, ..BY_PAGE }, Some("1"), |cursor| (u64::from(number(cursor) < 4), plain(number(cursor))));
    assert_eq!(at.as_deref(), Some("3"), "it may get more records");
    let (_, at, _) =
        read(PageLimits { restarts: false, ..BY_OFFSET }, Some("0"), |cursor| (u64::from(number(cursor) < 4), plain(number(cursor))));
    assert_eq!(at.as_deref(), Some("4"));
}

#[test]
fn a_cursor_in_the_last_record_ends_at_a_short_page_after_a_full_one() {
    let limits = PageLimits { size: Some(2), max_empty_pages: 0, ..WIDE };
    let api = |cursor: Option<&str>| match number(cursor) {
        at @ 0..5 => ((5 - u64::from(at)).min(2), to(&(at + 2).min(5).to_string())),
        _ => (0, ends(NextCursor::Absent)),
    };
    let (stop, at, pages) = read(limits, None, api);
    assert_eq!((stop.reason, stop.complete, at.as_deref(), pages), (StopReason::ShortPage, true, Some("5"), 3));
    let (stop, at, pages) = read(limits, Some("5"), api);
    assert_eq!((stop.reason, stop.complete, at.as_deref(), pages), (StopReason::NoNext, true, Some("5"), 1), "nothing new");
}
