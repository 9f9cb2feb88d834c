//! The monitor as a person sees it: the built program in a pseudo-terminal, beside a live pipeline.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::api::{Answer, TestApi};
use support::{Job, PATIENCE, forebay, output};
use tempfile::TempDir;

/// A pseudo-terminal (made by `script`, which every Debian has) with a shell in it that runs one command.
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
                parser.lock().unwrap().process(&bytes[..n]);
            }
        });
        let input = child.stdin.take().unwrap();
        Self { child, input, screen, dir }
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// Escape alone: with another key at once after it, it would be that key with Alt.
    fn escape(&mut self) {
        self.press("\x1b");
        std::thread::sleep(Duration::from_millis(200));
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Another size of the terminal, as when its window is dragged.
    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(size(rows), size(columns));
        let tty = self.file("tty");
        let done = Command::new("stty").args(["-F", tty.trim(), "rows", &rows.to_string(), "cols", &columns.to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits until the screen is as wanted, and gives it.
    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < until, "waited in vain until {what}:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait(&format!("{part:?} is shown"), |text| text.contains(part))
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

/// `12345` as the monitor writes it.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let group = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        [comma.then_some(','), Some(digit)].into_iter().flatten().collect::<String>()
    };
    digits.chars().enumerate().map(group).collect()
}

/// A job that gets a thousand users, and then none.
fn a_thousand_users() -> (TestApi, Job) {
    let api = TestApi::start(|n| if n < 10 { Answer::users(n * 100, n * 100 + 100) } else { Answer::users(0, 0) });
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    (api, job)
}

fn all_written(look: &Value) -> bool {
    look["totals"]["written"].as_u64() == Some(1_000)
}

#[test]
fn each_screen_shows_the_numbers_that_the_api_reports_and_what_is_old_is_called_stale() {
    let (_api, job) = a_thousand_users();
    let running = job.start(&[], &[]);
    running.wait_until("all is written", all_written);
    let mut view = Terminal::monitor(&format!("--url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    let look = running.wait_until("all is still written", all_written);
    let number = |of: &Value| of.as_u64().unwrap();
    let written = count(number(&look["totals"]["written"]));
    view.wait(&format!("written {written}"), |text| text.contains(&format!("written {written}")) && text.contains("nothing is wrong"));

    view.press("2");
    let text = view.wait_for("light to heavy");
    for partition in look["partitions"].as_array().unwrap() {
        let end = count(number(&partition["end"]));
        let row = text.lines().find(|line| line.starts_with(&format!("│ {} ", partition["partition"]))).unwrap_or_else(|| panic!("{text}"));
        let shown = row.split_whitespace().filter(|cell| *cell == end).count();
        assert!(shown >= 3, "end, written and committed are {end}: {row}");
    }

    view.press("3");
    let batch = look["batches"].as_array().unwrap().iter().find(|batch| number(&batch["records"]) > 0).unwrap();
    let id = batch["id"].to_string();
    let text = view.wait_for("how long a batch takes");
    let of_batch = |line: &&str| line.starts_with('│') && line.split_whitespace().nth(1) == Some(&id);
    let row = text.lines().find(of_batch).unwrap_or_else(|| panic!("{id}:\n{text}"));
    assert!(row.contains(&count(number(&batch["rows"]))), "{row}");
    view.press("\r");
    view.wait_for("where its time went");
    view.escape();
    view.wait_for("how long a batch takes");

    view.press("4");
    view.wait_for(&format!("rows, {written} in all"));

    view.press("5");
    let text = view.wait_for("restarts, newest first");
    for actor in look["actors"].as_array().unwrap() {
        let name = actor["path"].as_str().unwrap().rsplit('/').next().unwrap();
        assert!(text.contains(&format!("● {name}")), "{name}:\n{text}");
    }

    view.press("9");
    let seq = count(number(&look["seq"]));
    view.wait(&format!("event {seq} or a later one"), |text| text.contains("PageFetched") || text.contains("OffsetsCommitted"));
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
    view.wait_for("ended with 0");
    view.wait("the terminal is as before", |_| !view.file("after").is_empty());
    assert_eq!(view.file("before"), view.file("after"));
    assert!(!view.screen.lock().unwrap().screen().alternate_screen());
}

#[test]
fn a_restart_is_seen_within_a_second() {
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
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());

    // Back at the moment of the restart, the writer is down.
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
fn who_may_operate_pauses_resumes_and_restarts_with_a_reason_and_who_only_looks_does_not() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[]);
    let desired = |look: &Value| (look["desired"]["state"].to_string(), look["desired"]["reason"].to_string());
    let mut looker = Terminal::monitor(&format!("--url {}", running.url()), &[]);
    looker.wait_for("● LIVE");
    looker.press("P");
    looker.wait_for("this view only looks");

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
fn run_shows_the_view_of_its_own_pipeline_and_leaving_it_stops_the_pipeline_in_order() {
    let (_api, job) = a_thousand_users();
    let path = job.write();
    let mut view = Terminal::forebay(&format!("run --monitor -c {}", path.display()), &[]);
    view.wait("all is written", |text| text.contains("● LIVE") && text.contains("written 1,000"));
    view.press("q");
    view.wait_for("ended with 0");
    let events = String::from_utf8(job.forebay(&["journal", "show", "--json"]).stdout).unwrap();
    assert!(events.lines().last().unwrap().contains("PipelineStopped"), "{events}");
    let mut command = forebay();
    command.args(["run", "--monitor", "-c"]).arg(path);
    let end = output(command);
    assert!(end.status.code() == Some(2) && String::from_utf8_lossy(&end.stderr).contains("no terminal"), "{end:?}");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told() {
    let url = "http://127.0.0.1:9";
    let view = Terminal::monitor(&format!("--url {url}"), &[("FAILPOINTS", "monitor::shown=10*off->panic")]);
    view.wait_for("NO ANSWER");
    let text = view.wait_for("ended with 101");
    assert!(text.contains("monitor::shown"), "{text}");
    view.wait("the terminal is as before", |_| !view.file("after").is_empty());
    assert_eq!(view.file("before"), view.file("after"));
    assert!(!view.screen.lock().unwrap().screen().alternate_screen() && !view.screen.lock().unwrap().screen().hide_cursor());
}

#[test]
fn scripts_get_a_frame_looks_as_json_and_exit_codes() {
    let (_api, job) = a_thousand_users();
    let running = job.start(&[], &[]);
    let look = running.wait_until("all is written", all_written);
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
fn log_lines_are_shown_as_they_come_filtered_followed_recorded_and_given_again() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[("FAILPOINTS", "writer::before_write=20*off->1*panic->off")]);
    let mut view = Terminal::monitor(&format!("--record seen.ndjson --url {}", running.url()), &[]);
    view.wait_for("● LIVE");
    view.press("L");
    view.wait("its restart is told of", |text| text.contains("topic is ready") && text.contains("will restart"));
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
