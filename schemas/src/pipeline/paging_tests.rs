//! Tests of `[fetcher.paging]`, of templates in `[fetcher]`, and of their errors.

use std::path::Path;

use super::*;

/// A pipeline whose `[fetcher]` has these lines, from line 10 on.
fn fetcher(lines: &str) -> Result<FetcherSection, FileError> {
    let text = format!(
        "[pipeline]\nname = \"t\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[producer]\nkey = \"/id\"\n[fetcher]\nurl = \"https://api.example/\"\n{lines}\n"
    );
    parse(Path::new("forebay.toml"), text).map(|pipeline| pipeline.fetcher.unwrap())
}

fn paging(lines: &str) -> Paging {
    fetcher(&format!("[fetcher.paging]\n{lines}")).unwrap_or_else(|error| panic!("{lines}: {error} {:?}", error.remedy())).paging().unwrap()
}

#[test]
fn the_older_cursor_is_paging_by_cursor() {
    let old = fetcher("cursor = { next = \"/next\", param = \"after\", start = \"0\", has_more = \"/more\" }").unwrap().paging().unwrap();
    let new = paging("kind = \"cursor\"\nnext = \"/next\"\nparam = \"after\"\nstart = 0\nhas_more = \"/more\"");
    assert_eq!(Paging { key: "paging", ..old }, new);
    assert_eq!((new.max_empty_pages, new.next_fetch), (10, NextFetch::Continue));
    assert_eq!(fetcher("").unwrap().paging(), None);
}

#[test]
fn each_kind_has_its_keys_and_defaults() {
    let page = paging("kind = \"page\"\nparam = \"p\"");
    assert_eq!((&page.next, page.start.as_deref(), page.max_empty_pages), (&NextPage::Page { start: 1, step: 1 }, Some("1"), 0));
    assert_eq!(page.next_fetch, NextFetch::Start);
    let offset = paging(
        "kind = \"offset\"\nparam = \"o\"\nsize = 100\nsize_param = \"limit\"\ntotal = { header = \"X-Total\" }\nnext_fetch = \"continue\"",
    );
    assert_eq!(
        (&offset.next, offset.start.as_deref(), offset.size, offset.next_fetch),
        (&NextPage::Offset, Some("0"), Some(100), NextFetch::Continue)
    );
    assert_eq!(offset.total, Some((Place::Header(HeaderPlace { header: "X-Total".into() }), TotalOf::Records)));
    let last = paging("kind = \"last_record\"\nlast = \"/id\"\nparam = \"since\"");
    assert_eq!((&last.next, last.start, last.next_fetch), (&NextPage::LastRecord("/id".into()), None, NextFetch::Continue));
    let link = paging("kind = \"link\"\nallowed_hosts = [\"files.example:8443\"]");
    assert_eq!((&link.next, link.next_fetch, link.max_empty_pages), (&NextPage::Link, NextFetch::Start, 10));
    assert_eq!(paging("kind = \"next_url\"\nnext = \"/links/next\"").next, NextPage::Url("/links/next".into()));
    let header = paging("kind = \"cursor\"\nnext = { header = \"X-Next\" }\nparam = \"c\"");
    assert_eq!(header.next, NextPage::Cursor(Place::Header(HeaderPlace { header: "X-Next".into() })));
}

#[test]
fn paging_auto_is_one_page_until_its_rule_is_found() {
    for lines in ["paging = \"auto\"", "paging = { kind = \"auto\" }", "[fetcher.paging]\nkind = \"auto\""] {
        let section = fetcher(lines).unwrap();
        assert!(section.seeks_paging() && section.paging().is_none(), "{lines}");
    }
    assert!(!fetcher("paging = { kind = \"link\" }").unwrap().seeks_paging());
    let params = fetcher("params = [\"shop\"]\nheaders = { X = \"{{ params.shop }}\" }\npaging = \"auto\"").unwrap();
    assert!(params.seeks_paging(), "a header is left out");
}

/// Asserts that a table with these lines is an error in a line, with this message and this remedy.
fn assert_error(table: &str, lines: &str, line: usize, (message, remedy): (&str, &str)) {
    let error = fetcher(&format!("{table}\n{lines}")).expect_err(lines);
    assert!(error.to_string().contains(message), "{lines}: {error}");
    assert!(error.remedy().is_some_and(|help| help.contains(remedy)), "{lines}: {error}: {:?}", error.remedy());
    assert_eq!(error.line(), Some(line), "{lines}: {error}");
}

#[test]
fn errors_of_paging_have_their_line_and_remedy() {
    for (lines, line, message, remedy) in [
        ("kind = \"pages\"", 11, "unknown variant", "did you mean `page`?"),
        ("kind = \"cursor\"\nparam = \"c\"", 10, "needs `next`", "add next = \"/meta/next\""),
        ("kind = \"last_record\"\nparam = \"c\"", 10, "needs `last`", "add last = \"/id\""),
        ("kind = \"link\"\nparam = \"c\"", 12, "has no `param`", "its keys: has_more"),
        ("kind = \"auto\"\nparam = \"c\"", 12, "finds out `param` itself", "fetch --dry-run"),
        ("kind = \"page\"\nparam = \"p\"\nnext = \"/n\"", 13, "has no `next`", "remove it"),
        ("kind = \"page\"\nparam = \"p\"\nstart = \"one\"", 13, "not a number", "without quotes"),
        ("kind = \"page\"\nparam = \"p\"\nstep = 0", 13, "out of range", "use 1 to"),
        ("kind = \"page\"\nparam = \"p\"\nsize_param = \"n\"", 13, "needs `size`", "size = 100"),
        ("kind = \"page\"\nparam = \"p\"\ntotal_of = \"pages\"", 13, "needs `total`", "total = "),
        ("kind = \"page\"\nparam = \"\"", 12, "is empty", "\"page\""),
        ("kind = \"page\"", 10, "carries the page number", "param = \"page\""),
        ("kind = \"offset\"\nsize = 10", 10, "carries the offset", "{{ offset }}"),
        ("kind = \"cursor\"\nnext = \"/n\"", 10, "carries the cursor", "{{ cursor }}"),
        ("kind = \"cursor\"\nnext = \"meta.next\"\nparam = \"c\"", 12, "not a JSON pointer", "\"/meta/next\""),
        ("kind = \"cursor\"\nnext = \"\"\nparam = \"c\"", 12, "is empty", "/meta/next"),
        ("kind = \"cursor\"\nnext = { header = \"X Next\" }\nparam = \"c\"", 12, "not the name of a header", "X-Next-Cursor"),
        ("kind = \"next_url\"\nnext = { header = \"Link\" }", 12, "in the body", "kind = \"link\""),
        ("kind = \"link\"\nallowed_hosts = [\"https://x.example/\"]", 12, "not a host", "files.example.org"),
        ("kind = \"link\"\nmax_empty_pages = 10001", 12, "out of range", "0 to 10000"),
        ("kind = \"link\"\nhas_moer = \"/m\"", 12, "unknown field", "did you mean `has_more`?"),
    ] {
        assert_error("[fetcher.paging]", lines, line, (message, remedy));
    }
    let other = fetcher("paging = \"all\"").unwrap_err();
    assert_eq!(other.line(), Some(10), "{other}");
    assert!(other.to_string().contains("\"auto\", or a table"), "{other}");
    let both = fetcher("cursor = { next = \"/n\", param = \"c\" }\npaging = { kind = \"link\" }").unwrap_err();
    assert_eq!((both.line(), both.to_string().as_str()), (Some(10), "`cursor` and `paging` both say how the API paginates"));
    let carried = fetcher("params = [\"n\"]\npaging = { kind = \"page\", param = \"p\", size = 5, size_param = \"n\" }").unwrap_err();
    assert!(carried.to_string().contains("`n` carries the page size"), "{carried}");
}

#[test]
fn errors_of_templates_have_their_line_and_remedy() {
    for (lines, line, message, remedy) in [
        ("query = { day = \"{{ params.day }}\" }", 10, "no run can set the param \"day\"", "params = [\"day\"]"),
        ("query = { day = \"{{ day }}\" }", 10, "has no known name", "{{ params.NAME }}"),
        ("headers = { X = \"{{ cursor\" }", 10, "has no `}}`", "close it"),
        ("query = { p = \"{{ page }}\" }", 10, "has no value: there is no [fetcher.paging]", "kind = \"page\""),
        ("query = { p = \"{{ size }}\" }", 10, "has no value", "size = 100"),
        ("body = { a = 1 }", 10, "a GET has no body", "method = \"POST\""),
        ("method = \"POST\"\nbody = { a = { b = [\"{{ x }}\"] } }", 11, "has no known name", "{{ cursor }}"),
        ("method = \"POST\"\nbody = \"{\\\"a\\\": }\"", 11, "the body is not JSON", "TOML table"),
        ("method = \"PUT\"", 10, "unknown variant", "did you mean `POST`?"),
        (
            "method = \"POST\"\nheaders = { Content-Type = \"text/xml\" }\nbody = \"<a>{{ cursor }}</a>\"",
            12,
            "text/xml",
            "use JSON or a form",
        ),
        ("headers = { \"X Y\" = \"1\" }", 10, "not the name of a header", "X-Version"),
        ("query = { api_key = \"hunter2\" }", 10, "is a secret", "{ env = \"API_KEY\" }"),
    ] {
        let error = fetcher(lines).expect_err(lines);
        assert!(error.to_string().contains(message), "{lines}: {error}");
        assert!(error.remedy().is_some_and(|help| help.contains(remedy)), "{lines}: {error}: {:?}", error.remedy());
        assert_eq!(error.line(), Some(line), "{lines}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
    let with_url = |url: &str, more: &str| {
        let text = format!(
            "[pipeline]\nname = \"t\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[producer]\nkey = \"/id\"\n[fetcher]\nurl = \"{url}\"\n{more}\n"
        );
        parse(Path::new("forebay.toml"), text)
            .map(|_| ())
            .map_err(|error| (error.line(), error.to_string(), error.remedy().unwrap_or_default().to_owned()))
    };
    let (line, message, remedy) = with_url("https://api.example/{{ params.shop }}", "params = [\"shop\"]\nevery = \"1m\"").unwrap_err();
    assert!(line == Some(9) && message.contains("a scheduled fetch has no params") && remedy.contains("remove `every`"), "{message}");
    assert_eq!(with_url("https://api.example/{{ params.shop }}", "params = [\"shop\"]"), Ok(()));
    let cursor = "paging = { kind = \"cursor\", next = \"/n\" }";
    let (line, message, remedy) = with_url("https://api.example/{{ cursor }}", cursor).unwrap_err();
    assert!(line == Some(9) && message.contains("the first page has no cursor") && remedy.contains("add start"), "{message}");
    assert_eq!(with_url("https://api.example/{{ cursor }}", "paging = { kind = \"cursor\", next = \"/n\", start = \"0\" }"), Ok(()));
    assert!(with_url("https://api.example/{{ shop }}", "").unwrap_err().1.contains("has no known name"));
}

#[test]
fn a_query_parameter_may_be_a_reference_to_a_secret_or_a_cursor_named_token() {
    let section =
        fetcher("query = { appid = { env = \"PATH\" }, page_token = \"{{ cursor }}\" }\npaging = { kind = \"cursor\", next = \"/n\" }")
            .unwrap();
    assert!(matches!(section.query["appid"], QueryValue::Secret(Secret::Env(_))));
    assert_eq!(RequestTemplates::of(&section).unwrap().query.len(), 2);
}

#[test]
fn errors_of_incremental_have_their_line_and_remedy() {
    for (lines, line, message, remedy) in [
        ("field = \"\"\nparam = \"since\"", 11, "one value of each record", "\"/updated_at\""),
        ("field = \"/a/*\"\nparam = \"since\"", 11, "one value of each record", "\"/updated_at\""),
        ("field = \"at\"\nparam = \"since\"", 11, "not a JSON pointer", "\"/at\""),
        ("field = \"/at\"", 10, "carries the watermark", "{{ watermark }}"),
        ("field = \"/at\"\nparam = \"\"", 12, "no name", "as the API does"),
        ("field = \"/at\"\nparam = \"s\"\nformat = \"number\"\nparam_format = \"date\"", 14, "can't be written", "formats of times"),
        ("field = \"/at\"\nparam = \"s\"\nstart = \"soon\"", 13, "\"soon\" is not in the format \"rfc3339\"", "2026-01-01T00:00:00Z"),
        ("field = \"/at\"\nparam = \"s\"\noverlap = 5", 13, "is a duration", "\"5m\""),
        ("field = \"/at\"\nparam = \"s\"\nformat = \"number\"\noverlap = \"5m\"", 14, "is a number", "100"),
        ("field = \"/at\"\nparam = \"s\"\nformat = \"iso\"", 13, "unknown variant", "rfc3339"),
    ] {
        assert_error("[fetcher.incremental]", lines, line, (message, remedy));
    }
    for (lines, message) in [
        (
            "incremental = { field = \"/at\", param = \"s\" }\npaging = { kind = \"last_record\", last = \"/id\", param = \"a\" }",
            "last_record",
        ),
        ("incremental = { field = \"/at\", param = \"s\" }\npaging = { kind = \"link\", next_fetch = \"continue\" }", "first page"),
        ("conditional = true\npaging = { kind = \"link\" }", "`paging` makes several"),
        ("conditional = true\nincremental = { field = \"/at\", param = \"s\" }", "`incremental` makes several"),
        ("query = { s = \"{{ watermark }}\" }", "there is no [fetcher.incremental]"),
        ("query = { s = \"{{ watermark }}\" }\nincremental = { field = \"/at\", param = \"s\" }", "both `param`"),
    ] {
        let error = fetcher(lines).unwrap_err();
        assert!(error.to_string().contains(message), "{lines}: {error}");
    }
}

#[test]
fn an_incremental_fetch_begins_at_the_first_page_of_what_it_asks_for() {
    let lines = "incremental = { field = \"/at\", param = \"s\", overlap = \"5m\", start = \"2026-01-01\" }\n\
                 paging = { kind = \"cursor\", next = \"/next\", param = \"after\" }";
    let section = fetcher(lines).unwrap();
    assert_eq!(section.paging().unwrap().next_fetch, NextFetch::Start);
    let words = section.incremental.unwrap().describe();
    assert_eq!(
        words,
        "each fetch asks by the parameter \"s\" for what is new: from the largest /at that was read less 5m; the first one begins at 2026-01-01"
    );
    let body = "method = \"POST\"\nbody = { since = \"{{ watermark }}\" }\nincremental = { field = \"/seq\", format = \"number\" }";
    let words = fetcher(body).unwrap().incremental.unwrap().describe();
    assert!(words.ends_with("from the largest /seq that was read; the first one reads everything"), "{words}");
}
