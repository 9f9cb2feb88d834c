//! `forebay logs`: the last log lines of a running pipeline, and those that come.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use serde_json::Value;

use crate::Global;
use crate::api_client::{ApiClient, POLL, Target};
use crate::end::End;
use crate::talk::Talk;

/// Lines in one answer while following.
const MOST: u16 = 1_000;

/// Flags of `logs`.
#[derive(clap::Args)]
#[command(after_help = "\
The process keeps its last 2,000 lines, of 1 MiB together, from info on, whatever its stderr gets. With --json a line is what --log-format json
writes, and its number.

Examples:
  forebay logs                                     the last hundred
  forebay logs --level warn --limit 1000           what went wrong
  forebay logs --follow                            and then what comes
  forebay logs --json | jq 'select(.actor == \"root/egress/writer\")'")]
pub(crate) struct Args {
    /// Go on with what comes
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only lines of this level or a graver one
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = clap::builder::PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::word)))]
    level: String,
    /// The last so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn logs(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let client = args.target.client(global)?;
    crate::block_on(async {
        let last = [("level", args.level.clone()), ("limit", args.limit.to_string())];
        let mut logs: Logs = client.get(&["v1", "logs"], &last).await?;
        show(talk, &logs);
        if !args.follow {
            return Ok(());
        }
        loop {
            logs = next(&client, talk, &args.level, &logs).await?;
            show(talk, &logs);
        }
    })
}

/// What comes after an answer; of another process all that it has kept.
async fn next(client: &ApiClient, talk: &Talk, level: &str, before: &Logs) -> Result<Logs, End> {
    let after = |upto: u64| [("after", upto.to_string()), ("level", level.to_owned()), ("limit", MOST.to_string())];
    let logs: Logs = client.poll(&["v1", "logs"], &after(before.upto), POLL).await?;
    if logs.since == before.since {
        return Ok(logs);
    }
    talk.say("another process answers now; these are its lines");
    client.get(&["v1", "logs"], &after(0)).await
}

fn show(talk: &Talk, logs: &Logs) {
    if logs.lost > 0 {
        talk.say(&format!("{} lines are missing here: the process keeps only its last ones", logs.lost));
    }
    for line in &logs.lines {
        talk.data(&if talk.json() { serde_json::to_string(line).expect("a line is JSON") } else { text(line) });
    }
}

/// A line for a person: one line, whatever stands in it.
fn text(line: &LogLine) -> String {
    let at = line.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    let level = line.level.word().to_uppercase();
    let mut text = format!("{at}  {level:<5}  {}", line.message);
    for (name, value) in &line.fields {
        // Writing to a string does not fail.
        let _ = match value {
            Value::String(word) if word.chars().all(|sign| sign.is_ascii_graphic() && sign != '"') => write!(text, "  {name}={word}"),
            value => write!(text, "  {name}={value}"),
        };
    }
    if line.repeated > 0 {
        let _ = write!(text, "  repeated={}", line.repeated);
    }
    text.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_what_has_spaces_is_quoted() {
        let json = r#"{"seq":7,"timestamp":"2026-11-24T10:31:07.412345Z","level":"WARN","target":"forebay_actors::writer","message":"write\nfailed",
            "repeated":3,"error":"no\u001b[31m answer","actor":"root/egress/writer","partition":2}"#;
        let line: LogLine = serde_json::from_str(json).unwrap();
        assert_eq!(
            text(&line),
            r#"2026-11-24T10:31:07.412Z  WARN   write failed  error="no\u001b[31m answer"  actor=root/egress/writer  partition=2  repeated=3"#
        );
    }
}
