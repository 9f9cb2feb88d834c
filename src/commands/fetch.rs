//! `forebay fetch --dry-run`: shows what a fetch would request, and what the API answers.
//!
//! Needs no Kafka, no Cassandra and no running pipeline. Writes nothing.

use forebay_actors::ProcessClock;
use forebay_actors::pipeline::{Answer, DryRun, FoundRule, ShownRequest, dry_run};
use forebay_kernel::Clock as _;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::source_read::ReadParams;

use crate::commands::flags::ReadFlags;
use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `fetch`.
#[derive(clap::Args)]
#[command(after_help = "\
Requests the first page of the source API as a fetch would, and prints the request, the \
answer in numbers, and the request of the next page or why there is none. Secrets are shown \
as ***. Produces nothing, and moves no cursor.

Examples:
  forebay fetch --dry-run
  forebay fetch --dry-run --param day=2026-01-01
  forebay fetch --dry-run --from 2026-01-01 --to 2026-01-02
  forebay fetch --dry-run --json")]
pub(crate) struct Args {
    /// Produce nothing. Required: `forebay trigger` requests a run of a running pipeline
    #[arg(long, required = true)]
    dry_run: bool,
    #[command(flatten)]
    read: ReadFlags,
}

/// Runs the command.
pub(crate) fn fetch(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    debug_assert!(args.dry_run, "clap requires it");
    let pipeline = load_pipeline(global)?;
    let Some(section) = &pipeline.fetcher else {
        return Err(CliError::usage(
            "the pipeline file has no [fetcher]",
            "add [fetcher] and [producer]; `forebay init` creates an example",
        ));
    };
    let params = params(&pipeline, args)?;
    let help = "check [fetcher]; `forebay check` shows what it requests";
    let outcome = block_on(dry_run(&pipeline, section, &params, ProcessClock.wall()));
    let outcome = outcome.map_err(|error| CliError::environment(error.to_string(), help))?;
    if output.json() {
        output.print_json(&outcome);
    } else {
        lines(&outcome).iter().for_each(|line| output.print(line));
    }
    match &outcome.error {
        None => Ok(()),
        Some(_) if output.json() => Err(CliError::silent(3)),
        Some(error) => Err(CliError::environment(error.clone(), help)),
    }
}

/// The params and the window, which the file must allow.
fn params(pipeline: &Pipeline, args: &Args) -> Result<ReadParams, CliError> {
    let params = args.read.read_params();
    let allowed = pipeline.fetcher.as_ref().map(|fetcher| fetcher.params.as_slice()).unwrap_or_default();
    match params.values.keys().find(|name| !allowed.contains(name)) {
        None => Ok(params),
        Some(name) => {
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            Err(CliError::usage(format!("{name:?} is not allowed; [fetcher] params allows: {allowed}"), "add it there, or leave it out"))
        }
    }
}

/// The outcome for a person.
fn lines(outcome: &DryRun) -> Vec<String> {
    let DryRun { request, answer, next, stop, rule, found, limits, .. } = outcome;
    let mut lines = request_lines("first page", request);
    if let Some(Answer { status, bytes, records, malformed }) = answer {
        let bad = if *malformed > 0 { format!(", {malformed} of them dead letters") } else { String::new() };
        lines.push(format!("answer: {status}, {bytes} bytes, {records} records{bad}"));
    }
    if let Some(next) = next {
        lines.extend(request_lines("next page", next));
    }
    if let Some(stop) = stop {
        lines.push(format!("no further page: {stop}"));
    }
    if let Some(FoundRule { notes, lines: found }) = found {
        lines.extend(notes.iter().cloned());
        if !found.is_empty() {
            lines.push("write it down as, in place of paging = \"auto\":".to_owned());
            lines.extend(["[fetcher.paging]"].into_iter().chain(found.iter().map(String::as_str)).map(|line| format!("  {line}")));
        }
    }
    lines.push(format!("rule: {rule}"));
    let limits = limits.iter().map(|(key, value)| format!("{key} = {value}"));
    lines.push(format!("limits: {}", limits.collect::<Vec<_>>().join(", ")));
    lines
}

fn request_lines(what: &str, request: &ShownRequest) -> Vec<String> {
    let mut lines = vec![format!("{what}: {} {}", request.method, request.url), format!("  headers: {}", request.headers.join(", "))];
    lines.extend(request.body.as_ref().map(|body| format!("  body: {body}")));
    lines
}
