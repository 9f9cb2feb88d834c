//! Tests of making requests from templates.

use std::path::Path;

use forebay_schemas::window::Window;

use super::*;

fn builder(lines: &str) -> RequestBuilder {
    let text = format!(
        "[pipeline]\nname = \"t\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[producer]\nkey = \"/id\"\n[fetcher]\n{lines}\n"
    );
    let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap_or_else(|error| panic!("{lines}: {error}"));
    RequestBuilder::new(pipeline.fetcher.as_ref().unwrap())
}

fn params(pairs: &[(&str, &str)]) -> ReadParams {
    ReadParams { values: pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(), ..ReadParams::default() }
}

fn url(lines: &str, given: &[(&str, &str)], cursor: Option<&str>) -> String {
    builder(lines).url(&params(given), cursor).unwrap_or_else(|error| panic!("{lines}: {error}")).to_string()
}

#[test]
fn a_cursor_replaces_its_parameter_and_leaves_the_others_as_they_are() {
    let with = |url: &str, cursor: &str| with_param(&Url::parse(url).unwrap(), "since", &[cursor]).to_string();
    assert_eq!(with("http://api.example/users", "7"), "http://api.example/users?since=7");
    assert_eq!(
        with("http://api.example/?since=1&q=a%20b+c&&s%69nce=2&sincere=3#top", "7"),
        "http://api.example/?q=a%20b+c&sincere=3&since=7#top"
    );
    assert_eq!(with("http://api.example/", "a b+c&d=é/"), "http://api.example/?since=a%20b%2Bc%26d%3D%C3%A9%2F");
}

#[test]
fn values_are_escaped_for_the_path_and_the_query() {
    let lines = "url = \"https://api.example/shops/{{ params.shop }}/orders?from={{ params.day }}&x=%20\"\nparams = [\"shop\", \"day\"]";
    assert_eq!(
        url(lines, &[("shop", "a/b ?#é"), ("day", "1&2=3")], None),
        "https://api.example/shops/a%2Fb%20%3F%23%C3%A9/orders?from=1%262%3D3&x=%20"
    );
    assert_eq!(url(lines, &[("shop", "7")], None), "https://api.example/shops/7/orders?x=%20", "a parameter without its value is left out");
    let error = builder(lines).url(&params(&[]), None).unwrap_err();
    assert_eq!(error, "fetcher.url needs the param \"shop\", which this run does not have: `forebay trigger --param shop=VALUE` sets it");
    for dots in ["", ".", ".."] {
        let error = builder(lines).url(&params(&[("shop", dots)]), None).unwrap_err();
        assert!(error.contains("give it another value"), "{dots:?}: {error}");
    }
    assert_eq!(url(lines, &[("shop", "...")], None), "https://api.example/shops/.../orders?x=%20");
}

#[test]
fn query_adds_to_the_url_and_replaces_parameters_of_the_same_name() {
    let lines = "url = \"https://api.example/?a=1&b=2\"\nparams = [\"c\", \"d\"]\n\
                 query = { b = 3, flag = true, many = [\"x\", \"y z\"], rate = 0.5, since = \"{{ params.d }}\" }";
    assert_eq!(
        url(lines, &[("c", "9"), ("d", "2026-01-01")], None),
        "https://api.example/?a=1&b=3&flag=true&many=x&many=y%20z&rate=0.5&since=2026-01-01&c=9",
        "a param without a template is a parameter by itself"
    );
    assert_eq!(url(lines, &[], None), "https://api.example/?a=1&b=3&flag=true&many=x&many=y%20z&rate=0.5");
}

#[test]
fn the_page_and_its_size_are_sent_as_parameters_or_by_templates() {
    let page =
        "url = \"https://api.example/people\"\n[fetcher.paging]\nkind = \"page\"\nparam = \"p\"\nsize = 50\nsize_param = \"per_page\"";
    assert_eq!(url(page, &[], Some("3")), "https://api.example/people?per_page=50&p=3");
    let path =
        "url = \"https://api.example/people/{{ page }}\"\nquery = { n = \"{{ size }}\" }\n[fetcher.paging]\nkind = \"page\"\nsize = 50";
    assert_eq!(url(path, &[], Some("3")), "https://api.example/people/3?n=50");
    let offset =
        "url = \"https://api.example/\"\nquery = { range = \"{{ offset }}-{{ size }}\" }\n[fetcher.paging]\nkind = \"offset\"\nsize = 50";
    assert_eq!(url(offset, &[], Some("100")), "https://api.example/?range=100-50");
    let header = "url = \"https://api.example/\"\nheaders = { X-After = \"id:{{ cursor }}\" }\n[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"";
    let header = builder(header);
    assert_eq!(header.header("X-After", &params(&[]), Some("7")).as_deref(), Some("id:7"));
    assert_eq!(header.header("X-After", &params(&[]), None), None, "the first page has no cursor");
}

#[test]
fn a_body_has_its_values_as_json() {
    let body = |lines: &str, given: &[(&str, &str)], cursor: Option<&str>| {
        let post = format!(
            "url = \"https://api.example/\"\nmethod = \"POST\"\nparams = [\"n\", \"q\"]\n{lines}\n[fetcher.paging]\nkind = \"cursor\"\nnext = \"/next\"\nparam = \"c\""
        );
        builder(&post).body(&params(given), cursor).map(Option::unwrap)
    };
    let text = "body = '{\"q\": \"say {{ params.q }}\", \"n\": {{ params.n }}, \"after\": {{ cursor }}}'";
    assert_eq!(body(text, &[("q", "\"hi\"\n"), ("n", "7")], Some("a\"b")).unwrap(), r#"{"q": "say \"hi\"\n", "n": 7, "after": "a\"b"}"#);
    assert_eq!(body(text, &[("q", "x"), ("n", "x")], None).unwrap(), r#"{"q": "say x", "n": "x", "after": null}"#);
    assert!(body(text, &[("n", "7")], None).unwrap_err().contains("needs the param \"q\""), "a part of a text can't be left out");
    let table = "body = { q = \"{{ params.q }}\", n = \"{{ params.n | json }}\", after = \"{{ cursor }}\", limit = 10, in = [\"{{ cursor }}\", { x = true }] }";
    let parsed = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    assert_eq!(
        parsed(body(table, &[("q", "a"), ("n", "7")], Some("12")).unwrap()),
        serde_json::json!({ "q": "a", "n": 7, "after": "12", "limit": 10, "in": ["12", { "x": true }] })
    );
    assert_eq!(
        parsed(body(table, &[], None).unwrap()),
        serde_json::json!({ "limit": 10, "in": [{ "x": true }] }),
        "fields without values are left out"
    );
    let form = "headers = { Content-Type = \"application/x-www-form-urlencoded\" }\nbody = { q = \"{{ params.q }}\", limit = 10 }";
    assert_eq!(body(form, &[("q", "a&b c")], None).unwrap(), "limit=10&q=a%26b%20c");
}

#[test]
fn a_window_stands_in_each_part_of_a_request() {
    let at = |text| forebay_schemas::window::moment(text).unwrap();
    let in_window = |start, end| ReadParams { window: Some(Window { start: at(start), end: at(end) }), ..ReadParams::default() };
    let lines = |format: &str| {
        format!(
            "url = \"https://api.example/days/{{{{ window.start }}}}?to={{{{ window.end }}}}\"\nmethod = \"POST\"\n\
             query = {{ from = \"{{{{ window.start }}}}\" }}\nheaders = {{ X-From = \"{{{{ window.start }}}}\" }}\n\
             body = {{ text = \"{{{{ window.start }}}}\", number = \"{{{{ window.end | json }}}}\" }}\nwindow = {{ format = \"{format}\" }}"
        )
    };
    let day = in_window("2026-01-01", "2026-01-02");
    let (dates, seconds, times) = (builder(&lines("date")), builder(&lines("unix")), builder(&lines("rfc3339")));
    assert_eq!(dates.url(&day, None).unwrap().as_str(), "https://api.example/days/2026-01-01?to=2026-01-02&from=2026-01-01");
    assert_eq!(dates.header("X-From", &day, None).as_deref(), Some("2026-01-01"));
    assert_eq!(seconds.body(&day, None).unwrap().unwrap(), r#"{"number":1767312000,"text":"1767225600"}"#);
    assert_eq!(
        times.url(&day, None).unwrap().as_str(),
        "https://api.example/days/2026-01-01T00%3A00%3A00Z?to=2026-01-02T00%3A00%3A00Z&from=2026-01-01T00%3A00%3A00Z"
    );
    assert!(dates.check(&day).is_ok());
    let error = dates.check(&in_window("2026-01-01T06:00:00Z", "2026-01-02")).unwrap_err();
    assert!(error.contains("2026-01-01T06:00:00Z can't be written in the format \"date\""), "{error}");
}

#[test]
fn a_fetch_has_a_window_exactly_if_the_requests_name_it() {
    let at = |text| forebay_schemas::window::moment(text).unwrap();
    let day = ReadParams { window: Some(Window { start: at("2026-01-01"), end: at("2026-01-02") }), ..ReadParams::default() };
    let error = builder("url = \"https://api.example/?from={{ window.start }}\"").check(&ReadParams::default()).unwrap_err();
    assert!(error.contains("`forebay trigger --from DATE --to DATE --window 1d`"), "{error}");
    let error = builder("url = \"https://api.example/\"").check(&day).unwrap_err();
    assert!(error.contains("would read everything") && error.contains("{{ window.start }}"), "{error}");
}
