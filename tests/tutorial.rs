//! `docs/TUTORIAL.md` is a session that works: its commands are run, and print what it shows.
//! Embedded; needs no server and no network.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::output;
use support::source_api::{Answer, TestApi};

/// The longest that a newcomer's session takes.
const SESSION_TIMEOUT: Duration = Duration::from_secs(120);
/// Printed before the output of each command.
const MARK: &str = "@@ next command @@";
/// What the page has for a text that varies.
const VARIES: char = '…';

/// The commands of a page, each with its output.
fn session(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let mut is_open = false;
        for line in block.lines() {
            match (line.strip_prefix("$ "), line.strip_prefix("> ")) {
                (Some(command), _) => commands.push((command.to_owned(), String::new())),
                // A command of several lines.
                (None, Some(more)) if is_open => {
                    let (command, _) = commands.last_mut().unwrap();
                    command.truncate(command.len() - 1);
                    command.push_str(more);
                }
                _ => writeln!(commands.last_mut().unwrap().1, "{line}").unwrap(),
            }
            is_open = commands.last().unwrap().0.ends_with('\\');
        }
    }
    commands
}

/// Whether a line is the one of the page, whose `…` stand for any text.
fn fits(page: &str, line: &str) -> bool {
    let mut parts = page.split(VARIES);
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || page.ends_with(VARIES)
}

/// Runs commands in one shell, in a folder. Returns the output of each.
fn run(commands: &[String], dir: &Path) -> Vec<String> {
    let mut script = String::from("exec 2>&1\n");
    for command in commands {
        // The APIs of tests that run at the same time must not meet at one port.
        if command.contains("forebay run") {
            script.push_str("grep -q '^\\[api\\]' forebay.toml || printf '\\n[api]\\nlisten = \"unix:api.sock\"\\n' >> forebay.toml\n");
        }
        writeln!(script, "echo '{MARK}'\n{command}").unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(dir).env("PATH", path).env("NO_COLOR", "1").env_remove("FOREBAY_LOG");
    let end = output(shell);
    String::from_utf8(end.stdout).unwrap().split(&format!("{MARK}\n")).skip(1).map(str::to_owned).collect()
}

/// An order of the shop, with its line items.
fn order(n: u32) -> Value {
    let lines: Vec<_> = (1..=n % 3 + 1)
        .map(|line| json!({ "lineNo": line, "sku": format!("SKU-{}", (n + line) % 4), "qty": line, "price": format!("{}.90", 10 + line) }))
        .collect();
    let customer = ["Ada", "Grace", "Edsger"][n as usize % 3];
    let total: u32 = (1..=n % 3 + 1).map(|line| line * (1_000 + line * 100 + 90)).sum();
    json!({
        "orderNo": format!("2026-{n:04}"),
        "placedAt": format!("2026-11-{:02}T10:15:00Z", n % 28 + 1),
        "customer": { "id": 40 + n % 7, "name": customer, "e-mail": null },
        "total": format!("{}.{:02}", total / 100, total % 100),
        "paid": n.is_multiple_of(2),
        "lines": lines,
    })
}

/// An API of 60 orders behind a bearer token, with a cursor.
fn orders_api() -> TestApi {
    TestApi::by_request(|_, path, headers| {
        if !headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: Bearer s3cret")) {
            return Answer::of("401 Unauthorized", r#"{"error": "a bearer token is required"}"#);
        }
        let from = path.split("cursor=").nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let orders: Vec<_> = (from..from + 25).take_while(|n| *n < 60).map(order).collect();
        let next = if from + 25 < 60 { json!((from + 25).to_string()) } else { Value::Null };
        Answer::ok(json!({ "orders": orders, "meta": { "next_cursor": next } }).to_string())
    })
}

/// A forecast in columns, with units beside them.
fn weather_api() -> TestApi {
    TestApi::start(|_| {
        let hours: Vec<_> = (0..48).map(|hour| format!("2026-11-{:02}T{:02}:00", 30 - 1 + hour / 24, hour % 24)).collect();
        let temperatures: Vec<_> = (0..48).map(|hour| f64::from((hour * 7) % 24) / 2.0).collect();
        Answer::ok(
            json!({
                "latitude": 47.4, "longitude": 8.5, "timezone": "GMT",
                "hourly_units": { "time": "iso8601", "temperature_2m": "°C", "snow_depth": "m" },
                "hourly": { "time": hours, "temperature_2m": temperatures, "snow_depth": vec![Value::Null; 48] },
            })
            .to_string(),
        )
    })
}

#[test]
fn the_tutorial_prints_what_it_shows_and_takes_less_than_two_minutes() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TUTORIAL.md")).unwrap();
    let (orders, weather) = (orders_api(), weather_api());
    let hosts = [("https://shop.example.org/", &orders.url), ("https://weather.example.org/", &weather.url)];
    let shown = session(&hosts.iter().fold(page, |page, (host, url)| page.replace(host, url)));
    assert!(shown.len() > 10, "{} commands", shown.len());
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let commands: Vec<_> = shown.iter().map(|(command, _)| command.clone()).collect();
    let printed = run(&commands, dir.path());
    let took = started.elapsed();
    let session: String = commands.iter().zip(&printed).map(|(command, output)| format!("$ {command}\n{output}")).collect();
    let session = hosts.iter().fold(session, |session, (host, url)| session.replace(*url, host));
    assert_eq!(printed.len(), commands.len(), "{session}");
    for ((command, expected), output) in shown.iter().zip(&printed) {
        let lines = expected.lines().count() == output.lines().count();
        assert!(
            lines && expected.lines().zip(output.lines()).all(|(page, line)| fits(page, line)),
            "`{command}` prints\n{output}\nand the page shows\n{expected}\nThe whole session:\n{session}"
        );
    }
    assert!(took < SESSION_TIMEOUT, "{took:?}");
}

#[test]
fn a_line_of_a_page_fits_only_what_it_says() {
    assert!(fits("p50 … ms, p99 … ms", "p50 1.5 ms, p99 22.0 ms") && fits("took …", "took 3 s") && fits("same", "same"));
    assert!(!fits("p50 … ms", "p50 1.5 s") && !fits("same", "same and more") && !fits("… ms", "5 ms more"));
    let page = "text\n```console\n$ one \\\n> two\nout\n$ three\n```\n```sh\n$ not this\n```\n";
    let expected = [("one two", "out\n"), ("three", "")].map(|(command, output)| (command.to_owned(), output.to_owned()));
    assert_eq!(session(page), expected);
}
