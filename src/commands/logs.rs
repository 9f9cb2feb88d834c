//! `forebay logs`: prints the last log lines of a running pipeline, and follows them.

use std::fmt::Write as _;

use chrono::SecondsFormat;
use forebay_schemas::api::{LogLevel, LogLine, Logs};
use serde_json::Value;

use crate::api_client::{ApiClient, POLL_TIMEOUT, Target};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Maximum number of lines in one answer while following.
const MAX_LINES: u16 = 1_000;

/// Flags of `logs`.
#[derive(clap::Args)]
#[command(after_help = "\
The process keeps its last 2,000 lines (1 MiB at most) of level info and above, whatever the \
log level on stderr. With --json, a line is the same object as with --log-format json, plus \
its number.

Examples:
  forebay logs                                     the last hundred lines
  forebay logs --level warn --tail 1000            warnings and errors
  forebay logs --follow                            keep printing new lines
  forebay logs --json | jq 'select(.actor == \"root/egress/writer\")'")]
pub(crate) struct Args {
    /// Keep printing new lines
    #[arg(long, short = 'f')]
    follow: bool,
    /// Minimum level
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = clap::builder::PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::as_str)))]
    level: String,
    /// Number of lines from the end, up to 1000
    #[arg(long, alias = "limit", value_name = "LINES", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    tail: u16,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn logs(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    block_on(async {
        let last = [("level", args.level.clone()), ("limit", args.tail.to_string())];
        let mut logs: Logs = client.get(&["v1", "logs"], &last).await?;
        show(output, &logs);
        if !args.follow {
            return Ok(());
        }
        loop {
            logs = next(&client, output, &args.level, &logs).await?;
            show(output, &logs);
        }
    })
}

/// The lines after an answer. When another process answers, all lines that it has kept.
async fn next(client: &ApiClient, output: &Output, level: &str, before: &Logs) -> Result<Logs, CliError> {
    let after = |upto: u64| [("after", upto.to_string()), ("level", level.to_owned()), ("limit", MAX_LINES.to_string())];
    let logs: Logs = client.poll(&["v1", "logs"], &after(before.upto), POLL_TIMEOUT).await?;
    if logs.since == before.since {
        return Ok(logs);
    }
    output.message("the process was restarted; its lines follow");
    client.get(&["v1", "logs"], &after(0)).await
}

fn show(output: &Output, logs: &Logs) {
    if logs.lost > 0 {
        output.message(&format!("{} lines are missing here: the process keeps only its last 2,000", logs.lost));
    }
    for line in &logs.lines {
        output.print_as(line, text);
    }
}

/// A log line for a person.
fn text(line: &LogLine) -> String {
    let at = line.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    let level = line.level.as_str().to_uppercase();
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_log_line_with_spaces_are_quoted() {
        let json = r#"{"seq":7,"timestamp":"2026-11-24T10:31:07.412345Z","level":"WARN","target":"forebay_actors::writer","message":"write failed",
            "repeated":3,"error":"no\u001b[31m answer","actor":"root/egress/writer","partition":2}"#;
        let line: LogLine = serde_json::from_str(json).unwrap();
        assert_eq!(
            text(&line),
            r#"2026-11-24T10:31:07.412Z  WARN   write failed  error="no\u001b[31m answer"  actor=root/egress/writer  partition=2  repeated=3"#
        );
    }
}
