//! Tests of the guesses how an API paginates.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The guesses for an answer whose records are at `/data`.
fn guesses(body: &Value, url: &str, headers: &[(&str, &str)], count: usize) -> Vec<PagingGuess> {
    let (records, key) = (JsonPointer::default().child("data"), JsonPointer::default().child("id"));
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let url: Url = url.parse().unwrap();
    paging_guesses(&FirstAnswer { body, headers: &headers, links_next: false, url: Some(&url), records: &records, count, key: &key })
}

fn first(body: &Value, url: &str, count: usize) -> String {
    guesses(body, url, &[], count).first().map(|guess| guess.lines.join(", ")).unwrap_or_default()
}

#[test]
fn each_usual_sign_gives_its_paging() {
    let url = "http://api.example.org/orders";
    for (body, paging) in [
        (json!({ "next": "/orders?after=2" }), "kind = \"next_url\", next = \"/next\""),
        (json!({ "links": { "self": "http://a/1", "next": "http://a/2" } }), "kind = \"next_url\", next = \"/links/next\""),
        (json!({ "_links": { "self": { "href": "/1" }, "next": { "href": "/2" } } }), "kind = \"next_url\", next = \"/_links/next/href\""),
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
        (
            json!({ "startAt": 0, "maxResults": 50, "total": 120 }),
            "kind = \"offset\", param = \"startAt\", start = 0, total = \"/total\", total_of = \"records\"",
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
fn headers_name_the_page_the_cursor_and_the_total() {
    let headers = [("x-next-page", "2"), ("x-total-pages", "7"), ("x-next-cursor", "abc")];
    let guesses = guesses(&json!([]), "http://a/", &headers, 3);
    let rules: Vec<_> = guesses.iter().filter(|guess| !guess.is_trial).map(|guess| guess.lines.join(", ")).collect();
    let expected = [
        "kind = \"cursor\", next = { header = \"x-next-cursor\" }, param = \"cursor\"",
        "kind = \"page\", param = \"page\", total = { header = \"x-total-pages\" }, total_of = \"pages\"",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn an_answer_with_more_records_than_it_says_how_to_get_leads_to_trials_only() {
    let rules = |body: Value, headers: &[(&str, &str)], count| -> Vec<String> {
        let guesses = guesses(&body, "http://a/orders?offset_id=1", headers, count);
        assert!(guesses.iter().all(|guess| guess.is_trial), "{guesses:?}");
        guesses.into_iter().map(|guess| guess.lines.join(", ")).collect()
    };
    let by_flag = rules(json!({ "has_more": true }), &[], 3);
    assert_eq!(
        by_flag[0],
        "kind = \"last_record\", last = \"/id\", param = \"starting_after\", has_more = \"/has_more\", next_fetch = \"start\""
    );
    let by_total = rules(json!([]), &[("x-total-count", "30")], 7);
    assert_eq!(by_total[0], "kind = \"page\", param = \"page\", total = { header = \"x-total-count\" }, total_of = \"records\"");
    assert!(!rules(json!([]), &[], 100).is_empty(), "a usual size");
    assert_eq!(rules(json!([]), &[], 7), [] as [&str; 0]);
    assert_eq!(rules(json!({ "total": 7 }), &[], 7), [] as [&str; 0]);
}

#[test]
fn a_sign_of_more_is_a_named_page_a_flag_or_a_total_that_is_not_reached() {
    let (records, key, headers) = (JsonPointer::default().child("data"), JsonPointer::default(), BTreeMap::new());
    let url: Url = "http://a/".parse().unwrap();
    for (body, sign) in [
        (json!({ "next": "/2" }), Some("the response has /next")),
        (json!({ "next": null }), None),
        (json!({ "meta": { "hasMore": true } }), Some("/meta/hasMore is true")),
        (json!({ "total": 5 }), Some("/total is 5, and the first page has 2 records")),
        (json!({ "pages": 3 }), Some("/pages is 3 pages")),
        (json!({ "total": 2, "page": 1 }), None),
        (json!({ "endCursor": "x", "hasNextPage": false }), None),
    ] {
        let answer =
            FirstAnswer { body: &body, headers: &headers, links_next: false, url: Some(&url), records: &records, count: 2, key: &key };
        assert_eq!(sign_of_more(&answer).as_deref(), sign, "{body}");
    }
}

#[test]
fn fields_of_records_are_no_signs() {
    let body = json!({ "groups": { "a": { "next": "/x", "total": 9 }, "b": { "next": "/y" } } });
    let records = JsonPointer::parse("/groups/*").unwrap();
    let (url, headers): (Url, _) = ("http://a/".parse().unwrap(), BTreeMap::new());
    let answer = FirstAnswer {
        body: &body,
        headers: &headers,
        links_next: false,
        url: Some(&url),
        records: &records,
        count: 2,
        key: &JsonPointer::default(),
    };
    assert_eq!(paging_guesses(&answer), []);
}

/// A name in one of the usual spellings.
fn spelling(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let capital = |word: &str| format!("{}{}", word[..1].to_uppercase(), &word[1..]);
    let camel = move |words: &[&str]| {
        words.iter().enumerate().map(|(at, word)| if at == 0 { (*word).to_owned() } else { capital(word) }).collect::<String>()
    };
    prop_oneof![Just(words.join("_")), Just(words.join("-")), Just(camel(words)), Just(words.concat())]
}

/// The envelope of an API of a kind, around two records of its first page.
fn envelope() -> impl Strategy<Value = (&'static str, Value)> {
    let place = prop_oneof![Just(None), Just(Some("meta")), Just(Some("pagination")), Just(Some("links"))];
    let cursor = (spelling(&["next", "cursor"]), "[a-zA-Z0-9=+]{1,20}").prop_map(|(name, value)| ("cursor", name, json!(value)));
    let token = (spelling(&["next", "page", "token"]), "[a-zA-Z0-9=+]{1,20}").prop_map(|(name, value)| ("cursor", name, json!(value)));
    let url = (spelling(&["next", "page", "url"]), "[a-z0-9?=&]{1,20}").prop_map(|(name, to)| ("next_url", name, json!(format!("/{to}"))));
    let page = (spelling(&["current", "page"]), 0..3_u64).prop_map(|(name, page)| ("page", name, json!(page)));
    let offset = Just(("offset", "offset".to_owned(), json!(0)));
    let none = Just(("", "status".to_owned(), json!("ok")));
    let noise = prop::collection::btree_map("[a-z]{1,4}[0-9]{2}", "[ -~]{0,10}", 0..5);
    (place, prop_oneof![cursor, token, url, page, offset, none], noise).prop_map(|(place, (kind, name, value), noise)| {
        let mut body = serde_json::Map::from_iter(noise.into_iter().map(|(name, text)| (name, json!(text))));
        body.insert("data".to_owned(), json!([{ "id": 1 }, { "id": 2 }]));
        match place {
            None => drop(body.insert(name, value)),
            Some(place) => drop(body.insert(place.to_owned(), json!({ name: value }))),
        }
        (kind, Value::Object(body))
    })
}

proptest! {
    #[test]
    fn an_api_of_a_kind_is_guessed_as_that_kind_or_not_at_all((kind, body) in envelope()) {
        let guesses = guesses(&body, "https://api.example.org/orders?status=open", &[], 2);
        let found: Vec<_> = guesses.iter().map(|guess| guess.lines[0].clone()).collect();
        let expected: Vec<_> = if kind.is_empty() { vec![] } else { vec![line("kind", kind)] };
        prop_assert_eq!(found, expected, "{}", body);
    }
}
