//! The guesses how an API paginates are the same each time, and each is a valid rule.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_actors::pipeline::{FirstAnswer, paging_guesses, sign_of_more};
use forebay_schemas::json_pointer::JsonPointer;
use reqwest::Url;
use reqwest::header::HeaderName;
use serde_json::Value;

/// Checks one input: a header `NAME: VALUE` a line, an empty line, and a body of JSON.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\n\n").unwrap_or(("", &text));
    let Ok(body) = serde_json::from_str::<Value>(body) else { return };
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((HeaderName::try_from(name).ok()?.to_string(), value.to_owned()))
    };
    let headers: BTreeMap<String, String> = head.lines().filter_map(header).collect();
    let url = Url::parse("https://api.example/orders?page=1&limit=2").expect("a valid URL");
    let (records, key) = (JsonPointer::default().child("data"), JsonPointer::default().child("id"));
    let count = body["data"].as_array().map_or(0, Vec::len);
    let answer = FirstAnswer { body: &body, headers: &headers, links_next: false, url: Some(&url), records: &records, count, key: &key };
    let guesses = paging_guesses(&answer);
    assert_eq!(guesses, paging_guesses(&answer));
    assert_eq!(sign_of_more(&answer), sign_of_more(&answer));
    for guess in guesses {
        let lines = guess.lines.join("\n");
        let file = format!(
            "[pipeline]\nname = \"a\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"a\"\n[producer]\nkey = \"/id\"\n[fetcher]\nurl = \
             \"{url}\"\nrecords = \"/data\"\n[fetcher.paging]\n{lines}\n"
        );
        let parsed = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), file);
        assert!(parsed.is_ok(), "{lines}: {:?}", parsed.err());
    }
}
