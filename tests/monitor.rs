//! The monitor in a pseudo-terminal, on a running pipeline. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use parking_lot::Mutex;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};
use support::{Demo, Job, Running, TIMEOUT, forebay, output};
use tempfile::TempDir;

/// A pseudo-terminal (by `script`, which is part of Debian) with a shell that runs one command.
struct Terminal {
    child: Child,
    input: std::process::ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
    dir: TempDir,
}

impl Terminal {
    /// Runs `forebay monitor` with these arguments.
    fn monitor(args: &str, env: &[(&str, &str)]) -> Self {
        Self::forebay(&format!("monitor {args}"), env)
    }

    /// Runs a demo with its own view.
    fn demo(demo: &Demo, more: &[&str], env: &[(&str, &str)]) -> Self {
        Self::forebay(&demo.args(more).join(" "), env)
    }

    /// Runs the program with these arguments.
    fn forebay(args: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let command = format!(
            "stty rows 34 cols 120; tty > tty; stty -g > before; {} {args}; echo ended with $?; stty -g > after; sleep 60",
            env!("CARGO_BIN_EXE_forebay")
        );
        let mut child = Command::new("script")
            .args(["-q", "-e", "-f", "-c", &command, "/dev/null"])
            .current_dir(dir.path())
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .env_remove("COLORTERM")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("`script` of util-linux is there");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(size(34), size(120), 0)));
        let mut out = child.stdout.take().unwrap();
        let parser = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                parser.lock().process(&bytes[..n]);
            }
        });
        let input = child.stdin.take().unwrap();
        Self { child, input, screen, dir }
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Presses Escape alone: a key right after it would be that key with Alt.
    fn escape(&mut self) {
        self.press("\x1b");
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Switches to a screen by name.
    fn show(&mut self, screen: &str) {
        self.press(&format!(":{screen}\r"));
    }

    fn text(&self) -> String {
        self.screen.lock().screen().contents()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Resizes the terminal.
    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().screen_mut().set_size(size(rows), size(columns));
        let tty = self.file("tty");
        let done = Command::new("stty").args(["-F", tty.trim(), "rows", &rows.to_string(), "cols", &columns.to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for a screen that matches, and returns it.
    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + TIMEOUT;
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < until, "timed out waiting until {what}:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait(&format!("{part:?} is shown"), |text| text.contains(part))
    }

    /// Waits for a row with all of these words, in any order.
    fn wait_for_row(&self, cells: &[&str]) {
        let is = |line: &str| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            cells.iter().all(|cell| words.iter().position(|word| word == cell).map(|at| words.swap_remove(at)).is_some())
        };
        self.wait(&format!("a row has {cells:?}"), |text| text.lines().any(is));
    }

    /// Waits until the command has ended with a code, and the terminal is restored.
    fn wait_for_end(&self, code: u8) -> String {
        let text = self.wait_for(&format!("ended with {code}"));
        self.wait("the terminal is as before", |_| !self.file("after").is_empty());
        assert_eq!(self.file("before"), self.file("after"));
        let screen = self.screen.lock();
        assert!(!screen.screen().alternate_screen() && !screen.screen().hide_cursor());
        drop(screen);
        text
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

/// A number as the monitor formats it.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let group = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        [comma.then_some(','), Some(digit)].into_iter().flatten().collect::<String>()
    };
    digits.chars().enumerate().map(group).collect()
}

/// A job that fetches a thousand users, and then none.
fn a_thousand_users() -> (TestApi, Job) {
    let api = TestApi::start(|n| if n < 10 { Answer::users(n * 100, n * 100 + 100) } else { Answer::users(0, 0) });
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    (api, job)
}

fn all_written(look: &Value) -> bool {
    look["totals"]["written"].as_u64() == Some(1_000)
}

/// Maximum delay from the API to the view on a busy machine. The view polls twice a second.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The path that sets the desired state.
const STATE: &str = "/v1/pipelines/users/state";

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no number"))
}

fn word(of: &Value) -> &str {
    of.as_str().unwrap_or_else(|| panic!("{of} is no text"))
}

fn list(of: &Value) -> &[Value] {
    of.as_array().unwrap_or_else(|| panic!("{of} is no list"))
}

/// Pauses or drains a pipeline, waits until nothing changes any more, and returns the snapshot.
fn held(http: &ControlApi, state: &str) -> Value {
    http.put(STATE, &json!({ "state": state, "reason": "to compare" }).to_string());
    let moving = |look: &Value| json!([look["desired"]["state"], look["totals"], look["seq"], look["partitions"], look["batches"]]);
    let until = Instant::now() + TIMEOUT;
    let (mut before, mut since) = (Value::Null, Instant::now());
    loop {
        let mut look = http.get("/v1/snapshot").body;
        // The age of waiting records keeps growing.
        look["partitions"].as_array_mut().unwrap().iter_mut().for_each(|partition| partition["behind_ms"] = Value::Null);
        let now = moving(&look);
        if now[0] != *state || now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_millis(1_500) {
            return look;
        }
        assert!(Instant::now() < until, "it does not become idle: {look:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Checks that each screen of a view on an idle pipeline has the numbers of the API.
fn each_screen_says_what_the_api_says(view: &mut Terminal, http: &ControlApi, look: &Value) {
    view.show("overview");
    let totals = ["pages", "fetched", "produced", "consumed", "written", "rejected", "restarts"];
    let totals = totals.map(|name| format!("{name} {}", count(number(&look["totals"][name]))));
    view.wait(&format!("the totals are {totals:?}"), |text| totals.iter().all(|total| text.contains(total)));
    let trigger = number(&look["trigger_micros"]);
    view.wait_for(&format!("trigger {} ms", trigger / 1_000));

    view.show("topics");
    view.wait_for("light to heavy");
    for partition in list(&look["partitions"]) {
        let cells =
            [&partition["partition"], &partition["end"], &partition["written"], &partition["committed"]].map(|cell| count(number(cell)));
        view.wait_for_row(&cells.each_ref().map(String::as_str));
    }

    view.show("batches");
    let batches = list(&look["batches"]);
    for batch in batches.iter().take(5) {
        let cells = ["records", "rows", "rejected"].map(|name| count(number(&batch[name])));
        view.wait_for_row(&[&[batch["id"].to_string().as_str()], cells.each_ref().map(String::as_str).as_slice()].concat());
    }
    let took = |batch: &Value| ["wait_micros", "transform_micros", "write_micros"].iter().map(|name| number(&batch[*name])).sum::<u64>();
    let longer = batches.iter().filter(|batch| took(batch) > trigger).count();
    let all = batches.len();
    view.wait(&format!("{longer} of the last {all} took longer than the trigger"), |text| {
        // Long numbers are abbreviated.
        text.contains(&format!("{longer} of the last {all} took longer than the trigger"))
            || text.contains(&format!("{longer} of {all} over trigger"))
    });

    view.show("cassandra");
    view.wait_for(&format!("rows, {} in all", count(number(&look["totals"]["written"]))));
    view.wait_for(&format!("{} in all", count(number(&look["store"]["statements"]))));

    view.show("actors");
    for actor in list(&look["actors"]) {
        let name = word(&actor["path"]).rsplit('/').next().unwrap();
        view.wait_for_row(&["●", name, &format!("#{}", number(&actor["incarnation"]))]);
    }

    view.show("runs");
    for run in list(&look["runs"]).iter().take(10) {
        view.wait_for_row(&[word(&run["key"]), word(&run["state"]), &count(number(&run["counts"]["produced"]))]);
    }

    view.show("records");
    let records = http.get("/v1/records?limit=50").body;
    let mut records: Vec<&Value> = list(&records["records"]).iter().collect();
    records.sort_by_key(|record| std::cmp::Reverse((number(&record["timestamp_ms"]), number(&record["offset"]))));
    for record in records.into_iter().take(5) {
        let place = [&record["partition"], &record["offset"], &record["value_bytes"]].map(|cell| count(number(cell)));
        view.wait_for_row(&[&place[0], &place[1], &place[2], word(&record["key"])]);
    }

    view.show("dead letters");
    let letters = http.get("/v1/dlq?limit=200").body;
    match number(&letters["total"]) {
        0 => view.wait_for(&format!("{} is empty", word(&letters["topic"]))),
        total => view.wait_for(&format!("{} in {}", count(total), word(&letters["topic"]))),
    };
    for letter in list(&letters["letters"]).iter().take(10) {
        let begin: String = word(&letter["reason"]).chars().take(12).collect();
        view.wait_for(&begin);
    }

    view.show("journal");
    view.wait_for_row(&[&number(&look["seq"]).to_string()]);

    view.show("alerts");
    view.wait_for("what this view finds");
    for alert in list(&http.get("/v1/snapshot").body["alerts"]) {
        view.wait_for(word(&alert["name"]));
    }
    view.show("overview");
}

#[test]
fn screens_show_the_numbers_of_the_api_and_mark_stale_ones() {
    let (_api, job) = a_thousand_users();
    let running = job.start(&[], &[]);
    running.wait_until("everything is written", all_written);
    let mut view = Terminal::monitor(&format!("--url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    view.wait_for("nothing is wrong");
    let http = ControlApi::new(running.url());
    each_screen_says_what_the_api_says(&mut view, &http, &held(&http, "paused"));
    http.put(STATE, &json!({ "state": "running", "reason": "compared" }).to_string());

    view.show("batches");
    view.wait_for("how long a batch takes");
    view.press("\r");
    view.wait_for("where its time went");
    view.escape();
    view.wait_for("how long a batch takes");

    view.show("journal");
    view.press("/BatchWritten\r");
    let text = view.wait_for("/BatchWritten");
    let kinds = text.lines().filter(|line| line.contains("  PageFetched")).count();
    assert_eq!(kinds, 0, "{text}");

    // Back in time, and to now again.
    view.escape();
    view.press("1");
    view.wait_for("path");
    view.press("<<<<<");
    view.wait_for("‖ FROZEN");
    view.press("\\");
    view.wait_for("● LIVE");

    // A very small terminal, and a large one again.
    view.resize(5, 20);
    let text = view.wait("a line a fact", |text| text.lines().count() <= 5 && text.contains("LIVE"));
    assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
    view.resize(34, 120);
    view.wait_for("from produced to readable");

    running.kill();
    view.wait_for("STALE");
    view.wait_for("no answer from");
    let running = job.start(&[], &[]);
    let text = view.wait_for("● LIVE");
    assert!(text.contains("users"), "{text}");
    drop(running);

    view.press("q");
    view.wait_for_end(0);
}

#[test]
fn a_restart_shows_in_the_next_refresh() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[("FAILPOINTS", "writer::before_write=100*off->1*panic->off")]);
    let mut view = Terminal::monitor(&format!("--url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    view.press("5");
    view.wait_for("restarts, newest first");
    let restarted = |look: &Value| {
        look["actors"]
            .as_array()
            .unwrap()
            .iter()
            .any(|actor| actor["path"].as_str().unwrap().ends_with("/writer") && actor["incarnation"].as_u64().unwrap() == 2)
    };
    running.wait_until("the writer has restarted", restarted);
    let since = Instant::now();
    let second = |text: &str| text.lines().any(|line| line.contains("● writer") && line.contains("#2"));
    view.wait("the restart is shown", |text| second(text) && text.contains("writer #1") && text.contains("back after"));
    assert!(since.elapsed() < SHOWN_TIMEOUT, "it took {:?}", since.elapsed());

    // At the moment of the restart, the writer is down.
    view.press("9/ChildExited\rGt");
    view.wait_for("‖ FROZEN");
    view.escape();
    view.press("5");
    view.wait("the writer is down then", |text| {
        text.lines().any(|line| line.contains("writer") && (line.contains("ENDED") || line.contains("RESTARTING")))
    });
    view.press("\\");
    view.wait("the writer is up now", second);
}

#[test]
fn an_operator_pauses_resumes_and_restarts_and_a_viewer_can_not() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[]);
    let desired = |look: &Value| (look["desired"]["state"].to_string(), look["desired"]["reason"].to_string());
    let mut looker = Terminal::monitor(&format!("--url {}", running.url()), &[]);
    looker.wait_for("● LIVE");
    looker.press("P");
    looker.wait_for("the monitor is read-only");

    let mut view = Terminal::monitor(&format!("--operate --url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    view.wait_for("operate: admin");
    view.press("P");
    view.wait_for("the lag grows meanwhile");
    view.press("the table is rebuilt\r");
    running.wait_until("it is paused", |look| desired(look) == ("\"paused\"".to_owned(), "\"the table is rebuilt\"".to_owned()));
    view.wait_for("paused");
    view.press("P");
    view.wait_for("resume the pipeline");
    view.press("it is rebuilt\r");
    running.wait_until("it is resumed", |look| desired(look).0 == "\"running\"");

    view.press(":restart writer\r");
    view.wait_for("restart root/egress/writer");
    view.press("new credentials\r");
    running.wait_until("the writer has restarted", |look| support::Running::actor(look, "root/egress/writer")["incarnation"] == 2);
    view.press("9/ActorRestart\r");
    view.wait_for("new credentials");
}

#[test]
fn the_demo_s_view_matches_its_api_and_closes_gracefully_while_paused() {
    let demo = Demo::new();
    let mut view = Terminal::demo(&demo, &["--rate", "200", "--bad-every", "20"], &[]);
    view.wait_for("● LIVE");
    let http = ControlApi::new(&demo.url());
    let asked = http.put("/v1/pipelines/users/runs/daily", "");
    assert_eq!(asked.status, 201, "{asked:?}");
    view.wait_for("daily");
    has_letters(&http, 12);
    let look = held(&http, "paused");
    assert_eq!(look["runs"][0]["key"], "daily");
    view.wait_for("PAUSED");
    each_screen_says_what_the_api_says(&mut view, &http, &look);
    view.press("q");
    view.wait_for_end(0);
}

/// Waits until a pipeline has `n` dead letters.
fn has_letters(http: &ControlApi, n: u64) {
    let until = Instant::now() + TIMEOUT;
    while number(&http.get("/v1/snapshot").body["totals"]["rejected"]) < n {
        assert!(Instant::now() < until, "there are no {n} dead letters");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_view_matches_the_api_at_any_size_and_follows_the_next_demo() {
    let demo = Demo::new();
    let more = ["--rate", "200", "--bad-every", "20"];
    let first = demo.start(&more, &[]);
    first.snapshot();
    let http = ControlApi::new(&demo.url());
    has_letters(&http, 12);
    let mut view = Terminal::monitor(&format!("--url {}", demo.url()), &[]);
    view.wait_for("● LIVE");
    let look = held(&http, "paused");
    each_screen_says_what_the_api_says(&mut view, &http, &look);

    let written = count(number(&look["totals"]["written"]));
    view.resize(5, 20);
    let text = view.wait("a line a fact", |text| text.lines().count() <= 5 && text.contains("LIVE"));
    assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
    view.resize(34, 120);
    view.wait("all of it again", |text| text.contains("from produced to readable") && text.contains(&format!("written {written}")));

    first.kill();
    view.wait_for("STALE");
    view.wait_for("no answer from");
    let second = demo.start(&more, &[]);
    second.snapshot();
    let http = ControlApi::new(&demo.url());
    has_letters(&http, 1);
    view.wait("it is live and not paused", |text| text.contains("● LIVE") && !text.contains("PAUSED"));
    each_screen_says_what_the_api_says(&mut view, &http, &held(&http, "paused"));
    drop(second);
}

/// The incarnation of an actor, from a snapshot.
fn incarnation(look: &Value, path: &str) -> u64 {
    number(&Running::actor(look, path)["incarnation"])
}

#[test]
fn an_actor_that_crashed_or_was_restarted_is_shown_with_the_reason() {
    let demo = Demo::new();
    let running = demo.start(&[], &[("FAILPOINTS", "transformer::before_transform=60*off->1*panic(on purpose)->off")]);
    running.snapshot();
    let mut view = Terminal::monitor(&format!("--operate --url {}", demo.url()), &[]);
    view.wait_for("operate: admin");
    view.show("actors");

    let look = running.wait_until("the transformer has restarted", |look| incarnation(look, "root/egress/transformer") == 2);
    let since = Instant::now();
    view.wait_for_row(&["●", "transformer", "#2"]);
    view.wait("the reason, and that it is up again", |text| {
        text.contains("transformer #1") && text.contains("on purpose") && text.contains("back after")
    });
    assert!(since.elapsed() < SHOWN_TIMEOUT, "it took {:?}", since.elapsed());
    assert_eq!(incarnation(&look, "root/egress/writer"), 1, "an actor that does not depend on it stays");

    view.press("/writer\r");
    view.wait_for_row(&["root/egress/writer", "#1"]);
    view.press("R");
    view.wait_for("restart root/egress/writer");
    view.press("\r");
    view.wait_for("enter a reason");
    view.press("a new certificate\r");
    running.wait_until("the writer has restarted", |look| incarnation(look, "root/egress/writer") == 2);
    let since = Instant::now();
    view.wait_for_row(&["root/egress/writer", "#2"]);
    view.wait_for("writer #1");
    assert!(since.elapsed() < SHOWN_TIMEOUT, "it took {:?}", since.elapsed());
    view.show("journal");
    view.press("/ActorRestart\r");
    view.wait_for("a new certificate");
}

/// Fills in a dialog for a reason and the pipeline's name, after trying without.
fn say_why(view: &mut Terminal, reason: &str) {
    view.press("\r\r");
    view.wait_for("enter a reason");
    view.press(&format!("\t{reason}\r"));
    view.press("user\r");
    view.wait_for("type the pipeline's name");
    view.press("s\r");
}

#[test]
fn dead_letters_are_redriven_from_the_view_after_showing_the_plan() {
    let demo = Demo::new();
    let running = demo.start(&["--rate", "200", "--bad-every", "20"], &[]);
    running.snapshot();
    let http = ControlApi::new(&demo.url());
    has_letters(&http, 12);
    held(&http, "drained");
    let letters = || number(&http.get("/v1/dlq?limit=1").body["total"]);
    let plan = || http.post("/v1/pipelines/users/plans", "{\"action\": \"redrive\"}").body;
    let all = letters();
    assert_eq!(plan()["records"], all, "none is redriven yet");

    let mut looker = Terminal::monitor(&format!("--url {}", demo.url()), &[]);
    looker.wait_for("● LIVE");
    looker.press("B");
    looker.wait_for("the monitor is read-only");
    drop(looker);

    let mut view = Terminal::monitor(&format!("--operate --url {}", demo.url()), &[]);
    view.wait_for("operate: admin");
    view.show("dead letters");
    view.wait_for(&format!("{all} in users_stream.dead"));
    view.press("B");
    view.wait_for(&format!("{all} records; the plan is valid until"));
    for effect in list(&plan()["effects"]) {
        // Long ones take two lines.
        view.wait(word(effect), |text| word(effect).split(' ').all(|word| text.contains(word)));
    }
    assert_eq!(letters(), all, "a plan changes nothing");
    say_why(&mut view, "the schema takes them now");
    view.wait_for(&format!("done: redrive dead letters, {all} records"));
    // They are still bad, so each becomes a dead letter again.
    running.wait_until("all are in the topic and rejected again", |look| number(&look["totals"]["rejected"]) == 2 * all);
    assert_eq!(letters(), 2 * all);
    assert_eq!(plan()["records"], all, "redriven ones are left out");
    view.wait_for(&format!("{} in users_stream.dead", count(2 * all)));

    // A single one, from its page.
    view.press("\r");
    view.wait_for("the record as it was");
    view.press("B");
    view.wait_for("1 records; the plan is valid until");
    say_why(&mut view, "only this one");
    running.wait_until("it is a dead letter again", |look| number(&look["totals"]["rejected"]) == 2 * all + 1);
    assert_eq!(plan()["records"], all, "one less, and one more");

    view.escape();
    view.show("journal");
    view.press("/LettersRedriven\r");
    view.wait("both reasons are kept", |text| text.contains("only this one"));
    let events = journal(&demo, "LettersRedriven");
    let by_reason = |reason: &str| {
        events.iter().filter(|event| event["data"]["reason"] == reason).map(|event| number(&event["data"]["records"])).sum::<u64>()
    };
    assert_eq!((by_reason("the schema takes them now"), by_reason("only this one")), (all, 1), "{events:#?}");
}

#[test]
fn a_replay_starts_from_the_view_after_showing_the_plan() {
    let demo = Demo::new();
    let running = demo.start(&["--rate", "200"], &[]);
    let http = ControlApi::new(&demo.url());
    running.wait_until("records flow", |look| number(&look["totals"]["written"]) > 100);
    let all = number(&held(&http, "drained")["totals"]["consumed"]);
    let mut view = Terminal::monitor(&format!("--operate --url {}", demo.url()), &[]);
    view.wait_for("operate: admin");
    view.press("Yearliest\r");
    view.wait_for(&format!("{} records; the plan is valid until", count(all)));
    say_why(&mut view, "the SQL cut addresses");
    view.wait_for(&format!("done: replay records, {all} records"));
    let settled = |look: &Value| list(&look["partitions"]).iter().all(|partition| partition["committed"] == partition["end"]);
    running.wait_until("everything is written again", |look| number(&look["totals"]["consumed"]) == 2 * all && settled(look));
    view.show("journal");
    view.press("/OffsetsReset\r");
    view.wait_for("the SQL cut addresses");
    assert_eq!(journal(&demo, "OffsetsReset").len(), 1);
}

/// Events of a type in the journal of a demo.
fn journal(demo: &Demo, kind: &str) -> Vec<Value> {
    let mut command = forebay();
    command.args(["journal", "show", "--json", "--type", kind, "-c"]).arg(demo.pipeline());
    let end = output(command);
    assert!(end.status.success(), "{end:?}");
    String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_is_cancelled_from_the_view_with_a_reason() {
    let demo = Demo::new();
    // Its rows never become readable, so the run stays open.
    let running = demo.start(&["--rate", "20"], &[("FAILPOINTS", "writer::before_write=sleep(600000)")]);
    running.snapshot();
    let http = ControlApi::new(&demo.url());
    let asked = http.put("/v1/pipelines/users/runs/daily", "").body;
    let run = || http.get(&format!("/v1/runs/{}", word(&asked["id"]))).body;
    running.wait_until("it is produced", |_| run()["state"] == "draining");

    let mut view = Terminal::monitor(&format!("--operate --url {}", demo.url()), &[]);
    view.wait_for("operate: admin");
    view.show("runs");
    view.wait_for_row(&["daily", "draining"]);
    view.press("X");
    view.wait_for(&format!("cancel run {}", word(&asked["id"])));
    view.wait_for("no further page of the run is fetched");
    say_why(&mut view, "wrong day");
    view.wait_for("done: run daily is cancelled");
    let end = run();
    assert_eq!((&end["state"], &end["cancelled"]["reason"]), (&json!("cancelled"), &json!("wrong day")), "{end}");
    view.wait("the run is cancelled, with the reason", |text| {
        text.lines().any(|line| ["daily", "cancelled", "wrong day"].iter().all(|part| line.contains(part)))
    });
    let events = journal(&demo, "RunCancelled");
    assert_eq!(events.len(), 1, "{events:#?}");
}

#[test]
fn run_with_monitor_stops_the_pipeline_when_the_view_closes() {
    let (_api, job) = a_thousand_users();
    let path = job.write();
    let mut view = Terminal::forebay(&format!("run --monitor -c {}", path.display()), &[]);
    view.wait("everything is written", |text| text.contains("● LIVE") && text.contains("written 1,000"));
    view.press("q");
    view.wait_for("ended with 0");
    let events = String::from_utf8(job.forebay(&["journal", "show", "--json"]).stdout).unwrap();
    assert!(events.lines().last().unwrap().contains("PipelineStopped"), "{events}");
    let mut command = forebay();
    command.args(["run", "--monitor", "-c"]).arg(path);
    let end = output(command);
    assert!(end.status.code() == Some(2) && String::from_utf8_lossy(&end.stderr).contains("needs a terminal"), "{end:?}");
}

#[test]
fn a_panic_restores_the_terminal_and_is_printed() {
    let url = "http://127.0.0.1:9";
    let view = Terminal::monitor(&format!("--url {url}"), &[("FAILPOINTS", "monitor::shown=10*off->panic")]);
    view.wait_for("NO ANSWER");
    let text = view.wait_for_end(101);
    assert!(text.contains("monitor::shown"), "{text}");
}

#[test]
fn a_panic_in_the_demo_s_view_restores_the_terminal_and_is_printed() {
    let demo = Demo::new();
    let view = Terminal::demo(&demo, &[], &[("FAILPOINTS", "monitor::shown=20*off->panic")]);
    view.wait_for("● LIVE");
    let text = view.wait_for_end(101);
    assert!(text.contains("monitor::shown"), "{text}");
}

#[test]
fn scripts_get_a_frame_snapshots_as_json_and_exit_codes() {
    let (_api, job) = a_thousand_users();
    let running = job.start(&[], &[]);
    let look = running.wait_until("everything is written", all_written);
    let monitor = |args: &[&str]| {
        let mut command = forebay();
        command.arg("monitor").args(["--url", running.url()]).args(args);
        output(command)
    };
    let written = count(look["totals"]["written"].as_u64().unwrap());
    let once = monitor(&["--once", "--screen", "cassandra", "--width", "100", "--height", "30"]);
    let text = String::from_utf8(once.stdout).unwrap();
    assert!(once.status.success() && text.contains(&format!("{written} in all")) && !text.contains('\x1b'), "{text}");
    assert!(text.lines().count() <= 30 && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let json = monitor(&["--json", "--exit-code"]);
    let seen: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &seen["totals"]["written"]), (Some(0), &look["totals"]["written"]));

    let journal = job.dir().join("data/journal");
    let journal: PathBuf = if journal.exists() { journal } else { find(job.dir(), "journal").expect("there is a journal") };
    let mut command = forebay();
    command.args(["monitor", "--once", "--screen", "journal", "--journal"]).arg(&journal);
    let offline = String::from_utf8(output(command).stdout).unwrap();
    assert!(offline.contains("JOURNAL") && offline.contains("PageProduced"), "{offline}");

    let url = running.url().to_owned();
    running.kill();
    let mut command = forebay();
    command.args(["monitor", "--json", "--exit-code", "--url", &url]);
    assert_eq!(output(command).status.code(), Some(3));
}

fn find(folder: &std::path::Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    entries.into_iter().find_map(|path| if path.ends_with(name) { Some(path) } else { find(&path, name) })
}

#[test]
fn log_lines_are_shown_live_filtered_followed_and_recorded() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[("FAILPOINTS", "writer::before_write=20*off->1*panic->off")]);
    let mut view = Terminal::monitor(&format!("--record seen.ndjson --url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    view.press("L");
    view.wait("its restart is shown", |text| text.contains("topic is ready") && text.contains("will restart"));
    view.press("v");
    view.wait("warnings alone are left", |text| {
        text.contains("warnings and errors (v)") && !text.contains("topic is ready") && text.contains("WARN  ended")
    });
    view.press("/writer\r");
    view.wait_for("/writer");
    view.press("\r");
    view.wait("one line is whole", |text| text.contains("› log line") && text.contains("enter opens root/egress/writer"));
    view.press("\r");
    view.wait_for("› root/egress/writer");
    view.press("q");
    view.wait_for("ended with 0");

    let recording = view.dir.path().join("seen.ndjson");
    let mut again = Terminal::monitor(&format!("--replay {} --speed 1000 --screen logs", recording.display()), &[]);
    again.wait("the recording has them", |text| text.contains("REPLAY over") && text.contains("topic is ready"));
    again.resize(16, 60);
    again.wait("a short form of them", |text| text.contains(" W ended"));
    again.resize(1, 40);
    again.wait("the header alone", |text| text.lines().count() <= 1 && text.contains("REPLAY"));
    again.press("q");

    let mut command = forebay();
    command.args(["monitor", "--once", "--screen", "logs", "--journal"]).arg(find(job.dir(), "journal").expect("there is a journal"));
    let offline = String::from_utf8(output(command).stdout).unwrap();
    assert!(offline.contains("a journal holds no log lines"), "{offline}");
}
