//! A pipeline file and a data directory of an earlier version: the program reads them and
//! continues.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Running, forebay, output, stderr};
use tempfile::TempDir;

/// The last event of the old journal.
const LAST_EVENT: u64 = 549;
/// Users that are in the old table, or dead letters, or in the topic and not in the table yet.
const OLD_USERS: u32 = 210;
/// Users that the API has now.
const USERS: u32 = 230;

/// A copy of what commit 13134e0 left behind, killed in the middle of the run `open`.
struct Old {
    dir: TempDir,
}

impl Old {
    fn unpack() -> Self {
        let old = Self { dir: tempfile::tempdir().unwrap() };
        let fixture = fixture();
        for file in ["forebay.toml", "users.schema.json"] {
            std::fs::copy(fixture.join(file), old.dir.path().join(file)).unwrap();
        }
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(fixture.join("data.tar.gz")).arg("-C").arg(old.dir.path());
        assert!(tar.status().unwrap().success());
        // The copies of several tests must not share the port at which the old broker listened.
        std::fs::write(old.dir.path().join(".forebay/broker/port"), support::free_port().to_string()).unwrap();
        old
    }

    /// The state that the old version folded out of its journal.
    fn state() -> Value {
        serde_json::from_slice(&std::fs::read(fixture().join("state.json")).unwrap()).unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = forebay();
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// The output of a command that succeeds.
    fn forebay(&self, args: &[&str]) -> Output {
        let end = output(self.command(args));
        assert!(end.status.success(), "{args:?}: {}\n{}", end.status, stderr(&end));
        end
    }

    fn json(&self, args: &[&str]) -> Vec<Value> {
        let end = self.forebay(&[args, &["--json"]].concat());
        String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Last name and write timestamp of each row.
    fn rows(&self) -> BTreeMap<String, (String, i64)> {
        let row = |row: Value| {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (text("id"), (text("last_name"), row["_ts"].as_i64().unwrap()))
        };
        self.json(&["query", "SELECT id, last_name, _ts FROM users_stream"]).into_iter().map(row).collect()
    }

    /// The events of a type since the upgrade.
    fn events(&self, kind: &str) -> Vec<Value> {
        let first = (LAST_EVENT + 1).to_string();
        self.json(&["journal", "show", "--from", &first, "--type", kind]).into_iter().map(|mut event| event["data"].take()).collect()
    }

    /// The program running on it, with an API that it reaches as its proxy.
    fn start(&self, api: &TestApi) -> Running {
        let mut command = self.command(&["run"]);
        through(&mut command, api);
        Running::of(command, self.dir.path(), format!("unix:{}", self.dir.path().join("forebay.sock").display()))
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data-0.1.0-13134e0")
}

/// The API of the old pipeline file.
fn api() -> TestApi {
    TestApi::by_path(|_, path| {
        let number = |name: &str| -> u32 { path.split_once(name).unwrap().1.split('&').next().unwrap().parse().unwrap() };
        let since = number("since=");
        let to = (since + number("limit=")).min(USERS);
        Answer::users_and_next(since, to, to)
    })
}

fn through(command: &mut Command, api: &TestApi) {
    command.env("http_proxy", &api.url).env("no_proxy", "").env_remove("HTTP_PROXY").env_remove("NO_PROXY");
}

/// The counts of a run that the old version had.
fn counts(run: &Value) -> Value {
    ["pages", "fetched", "produced", "rejected"].map(|count| run["counts"][count].clone()).into()
}

/// Each partition's checkpoint in a folded state.
fn checkpoints(state: &Value) -> BTreeMap<&str, &Value> {
    state["partitions"].as_object().unwrap().iter().map(|(partition, it)| (partition.as_str(), &it["written"])).collect()
}

#[test]
fn an_old_pipeline_file_journal_and_table_are_read() {
    let old = Old::unpack();
    old.forebay(&["check"]);
    let verified = old.json(&["journal", "verify"]);
    assert_eq!((&verified[0]["first"], &verified[0]["last"]), (&json!(1), &json!(LAST_EVENT)), "{verified:?}");
    let (was, is) = (Old::state(), old.json(&["journal", "state"]).remove(0));
    for key in ["seq", "process", "topic", "group", "sql", "totals", "desired", "redriven"] {
        assert_eq!(is[key], was[key], "{key}");
    }
    assert_eq!(checkpoints(&is), checkpoints(&was));
    let runs = |state: &Value| -> Vec<Value> {
        let facts = |run: &Value| json!([run["id"], run["key"], run["attempt"], run["state"], counts(run), run["ranges"], run["error"]]);
        state["runs"].as_array().unwrap().iter().map(facts).collect()
    };
    assert_eq!((runs(&is).len(), runs(&is)), (19, runs(&was)));
    let rows = old.rows();
    assert_eq!(rows.len(), 181);
    let plan = old.json(&["plan"]).remove(0);
    assert_eq!([&plan["changes"], &plan["problems"], &plan["warnings"]], [&json!([]); 3], "{plan:#}");
    assert_eq!((&plan["fetch"]["cursor"]["value"], &plan["fetch"]["open_runs"]), (&json!("210"), &json!(1)));
    let from: Vec<&Value> = plan["group"]["partitions"].as_array().unwrap().iter().map(|partition| &partition["from"]).collect();
    assert_eq!(from, checkpoints(&was).values().map(|checkpoint| &checkpoint["offset"]).collect::<Vec<_>>());
}

#[test]
fn a_pipeline_continues_after_an_upgrade_where_it_was_killed() {
    let (old, api) = (Old::unpack(), api());
    let (was, rows) = (Old::state(), old.rows());
    let mut command = old.command(&["run", "--until-idle", "--json"]);
    through(&mut command, &api);
    let end = output(command);
    assert!(end.status.success(), "{}\n{}", end.status, stderr(&end));
    let summary: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!((&summary["written"], &summary["rejected"], &summary["restarts"]), (&json!(30), &json!(0), &json!(0)), "{summary}");

    let asked = api.asked();
    let since = |n: u32| format!("http://people.test/users?limit=5&since={n}");
    assert_eq!(&asked[..4], &[210, 215, 220, 225].map(since), "the open run continues at its cursor");

    let is = old.json(&["journal", "state"]).remove(0);
    let run = |key: &str| is["runs"].as_array().unwrap().iter().find(|run| run["key"] == key).unwrap().clone();
    assert_eq!((run("open")["state"].as_str(), &run("open")["counts"]["fetched"]), (Some("succeeded"), &json!(30)));
    assert_eq!((run("first")["state"].as_str(), run("cancelled")["state"].as_str()), (Some("succeeded"), Some("cancelled")));

    // Each partition is read from its old checkpoint, and each record is written once.
    let mut checkpoints: BTreeMap<String, Value> = checkpoints(&was).into_iter().map(|(key, it)| (key.to_owned(), it.clone())).collect();
    for assigned in old.events("PartitionsAssigned") {
        for (partition, start) in assigned["starts"].as_object().unwrap() {
            let was = &checkpoints[partition];
            assert_eq!((&start["offset"], &start["clock"], &start["lineage"]), (&was["offset"], &was["clock"], &was["lineage"]));
        }
    }
    for batch in old.events("BatchWritten") {
        for (partition, range) in batch["ranges"].as_object().unwrap() {
            assert_eq!(range["from"], checkpoints[partition]["offset"], "nothing is left out or written twice");
            let written = &batch["written"][partition];
            assert!(written["clock"].as_i64() > checkpoints[partition]["clock"].as_i64(), "write timestamps rise");
            checkpoints.insert(partition.clone(), written.clone());
        }
    }
    let now = old.rows();
    assert_eq!(now.len(), rows.len() + usize::try_from(USERS - OLD_USERS).unwrap() + 10);
    assert!(rows.iter().all(|(id, row)| now[id] == *row), "the rows of before are as they were");
    old.forebay(&["journal", "verify"]);
}

#[test]
fn a_running_pipeline_knows_the_runs_of_before_the_upgrade() {
    let (old, api) = (Old::unpack(), api());
    let running = old.start(&api);
    running.wait_until("the open run has succeeded", |look| look["run_totals"]["open"] == 0 && look["totals"]["written"] == 30);
    let runs = old.json(&["runs", "--limit", "100"]);
    assert_eq!(runs.len(), 19);
    let was = Old::state();
    let first = was["runs"].as_array().unwrap().iter().find(|run| run["key"] == "first").unwrap();
    let asked = api.asked().len();
    let mut command = old.command(&["trigger", "--key", "first", "--wait", "--json"]);
    through(&mut command, &api);
    let again: Value = serde_json::from_slice(&output(command).stdout).unwrap();
    assert_eq!((&again["id"], counts(&again)), (&first["id"], counts(first)), "the same key is the same run");
    assert!(api.asked().is_empty() && asked >= 4);
    let next = old.json(&["trigger", "--key", "after the upgrade", "--wait"]).remove(0);
    assert_eq!((next["state"].as_str(), &next["counts"]["fetched"]), (Some("succeeded"), &json!(0)), "{next}");
    assert!(running.stop().success());
    let stopped = old.events("PipelineStopped");
    assert_eq!(stopped.last().unwrap()["clean"], true);
}
