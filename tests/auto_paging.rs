//! `paging = "auto"`: how an API paginates is found once, said, and kept. Embedded; needs no
//! server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{forebay, output, stderr};

/// A folder with a pipeline whose paging is to be found.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = format!(
            "[pipeline]\nname = \"orders\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"orders_stream\"\n[cassandra]\ncontact_points = \
             \"embedded\"\nkeyspace = \"forebay\"\ncreate = true\n[fetcher]\nurl = \"{url}orders\"\nrecords = \"/orders\"\npaging = \
             \"auto\"\n[producer]\nkey = \"/id\"\n[consumer]\ngroup = \"orders\"\n[transformer]\nschema = \"orders.json\"\nsql = \"SELECT id \
             FROM orders_stream\"\n[writer]\ntable = \"orders_stream\"\nprimary_key = [\"id\"]\n[api]\nlisten = \"unix:api.sock\"\n"
        );
        let schema = json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" } } });
        std::fs::write(dir.path().join("forebay.toml"), file).unwrap();
        std::fs::write(dir.path().join("orders.json"), schema.to_string()).unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = forebay();
        command.args(args).current_dir(self.0.path());
        output(command)
    }

    fn kept(&self) -> PathBuf {
        self.0.path().join(".forebay/paging.toml")
    }

    fn rows(&self) -> Value {
        let end = self.run(&["query", "--json", "SELECT count(*) AS n FROM orders_stream"]);
        serde_json::from_slice::<Value>(&end.stdout).unwrap()["n"].clone()
    }
}

/// Orders `from..to`, and other fields.
fn orders(from: u64, to: u64, more: Value) -> Answer {
    let mut body = more;
    body["orders"] = (from..to).map(|id| json!({ "id": id })).collect();
    Answer::ok(body.to_string())
}

/// The number in a query parameter.
fn number(path: &str, param: &str) -> u64 {
    path.split(['?', '&']).find_map(|pair| pair.strip_prefix(param)?.strip_prefix('=')?.parse().ok()).unwrap_or_default()
}

#[test]
fn paging_auto_reads_every_page_says_why_and_keeps_the_rule() {
    let api = TestApi::by_path(|_, path| match number(path, "cursor") {
        from if from < 20 => orders(from, from + 10, json!({ "meta": { "next_cursor": (from + 10).to_string() } })),
        from => orders(from, from + 5, json!({ "meta": { "next_cursor": null } })),
    });
    let folder = Folder::of(&api.url);
    let check = stderr(&folder.run(&["check"]));
    assert!(check.contains("paging = \"auto\" finds the rule at the first start"), "{check}");
    let dry = folder.run(&["fetch", "--dry-run"]);
    let dry = String::from_utf8(dry.stdout).unwrap();
    for line in ["  [fetcher.paging]", "  kind = \"cursor\"", "  next = \"/meta/next_cursor\"", "  param = \"cursor\""] {
        assert!(dry.lines().any(|found| found == line), "{line}\n{dry}");
    }
    assert!(dry.contains("because the response has /meta/next_cursor; its second page has 10 other records"), "{dry}");
    assert!(!folder.kept().exists(), "a dry run keeps nothing");

    let end = folder.run(&["run", "--until-idle", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(stderr(&end).contains("paging: kind = \"cursor\", next = \"/meta/next_cursor\""), "{}", stderr(&end));
    assert_eq!(folder.rows(), json!(25));
    let kept = std::fs::read_to_string(folder.kept()).unwrap();
    assert!(kept.contains("the response has /meta/next_cursor") && !kept.contains("http"), "{kept}");
    let check = stderr(&folder.run(&["check"]));
    assert!(check.contains("the next page is found by the cursor at /meta/next_cursor") && check.contains("found this on 20"), "{check}");

    api.asked();
    let again = folder.run(&["run", "--until-idle", "--json"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(api.asked(), ["/orders?cursor=20"], "the kept rule continues at the kept cursor, and nothing is searched");
    std::fs::write(folder.kept(), "lines = 7").unwrap();
    let broken = folder.run(&["run", "--until-idle"]);
    assert_eq!(broken.status.code(), Some(3));
    assert!(stderr(&broken).contains("paging.toml") && stderr(&broken).contains("delete it"), "{}", stderr(&broken));
}

#[test]
fn paging_auto_keeps_its_rule_when_the_first_page_says_nothing_later() {
    let api = TestApi::by_path(|n, path| match (n, number(path, "page")) {
        // The search.
        (0..3, 0 | 1) => orders(0, 10, json!({ "page": 1 })),
        (0..3, _) => orders(10, 20, json!({ "page": 2 })),
        // The same pages, without a number.
        (_, page @ 1..=2) => orders((page - 1) * 10, page * 10, json!({})),
        _ => orders(0, 0, json!({})),
    });
    let folder = Folder::of(&api.url);
    assert!(folder.run(&["run", "--until-idle", "--json"]).status.success());
    assert_eq!(folder.rows(), json!(20));
    assert!(folder.run(&["run", "--until-idle", "--json"]).status.success());
    assert_eq!(api.asked().last().unwrap(), "/orders?page=3");
}

#[test]
fn paging_auto_does_not_start_when_there_is_more_and_no_rule_gets_it() {
    let api = TestApi::start(|_| orders(0, 10, json!({ "total": 70 })));
    let folder = Folder::of(&api.url);
    let end = folder.run(&["run", "--until-idle"]);
    assert_eq!(end.status.code(), Some(3), "{}", stderr(&end));
    let said = stderr(&end).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("/total is 70, and the first page has 10 records") && said.contains("write [fetcher.paging]"), "{said}");
    assert!(!folder.kept().exists());
}

#[test]
fn paging_auto_without_a_sign_reads_one_page_and_is_cut_short_once_there_is_one() {
    let api = TestApi::start(|n| match n {
        0..3 => orders(0, 3, json!({})),
        _ => orders(0, 3, json!({ "next": "/orders?after=3" })),
    });
    let folder = Folder::of(&api.url);
    let end = folder.run(&["run", "--until-idle", "--json"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert!(!folder.kept().exists(), "nothing was found");
    let end = folder.run(&["run", "--until-idle", "--json"]);
    assert_eq!(end.status.code(), Some(7), "{}", stderr(&end));
    let said = String::from_utf8(end.stdout).unwrap();
    assert!(said.contains("and now the response has /next: there are more pages than the one that was read"), "{said}");
}
