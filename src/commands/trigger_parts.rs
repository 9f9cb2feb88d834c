//! `forebay trigger --from … --to … --window …` and `--each NAME=VALUES`: requests a run for each
//! window of a range of time, for each value of a param, or for each pair of them.
//!
//! Guarantees:
//! * The key of a part's run is made of the command's key, the value and the start of the window,
//!   so the same command requests nothing twice: what has succeeded stays as it is, what is open is
//!   waited for, and only a part whose last run did not succeed, or was cut short, is requested
//!   again.
//! * At most [`MAX_OPEN`] runs of the command are open at once. It requests the next one when the
//!   oldest has ended.
//!
//! Does not guarantee that parts are fetched at the same time: the fetcher takes up to
//! `[fetcher] max_active_runs`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use forebay_schemas::run::{Run, RunRequest};
use forebay_schemas::window::{Window, rfc3339};
use serde::Serialize;

use super::trigger::{line, outcome, state_of};
use crate::api_client::ApiClient;
use crate::error::CliError;
use crate::output::Output;

/// The maximum number of runs of one command that are open at once: a tenth of what a pipeline
/// accepts.
const MAX_OPEN: usize = 100;

/// The maximum number of parts of one command, which is also the number of reads whose cursors are
/// remembered.
pub(super) const MAX_PARTS: usize = 1_000;

/// What one run of the command reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// A param and its value.
    pub(super) param: Option<(String, String)>,
    /// A window.
    pub(super) window: Option<Window>,
}

/// Each value in each window, the windows of a value together. At least one of the two has
/// elements.
pub(super) fn parts(each: Option<&(String, Vec<String>)>, windows: Option<&[Window]>) -> Vec<Part> {
    let params: Vec<_> = match each {
        Some((name, values)) => values.iter().map(|value| Some((name.clone(), value.clone()))).collect(),
        None => vec![None],
    };
    let windows: Vec<_> = windows.map_or_else(|| vec![None], |windows| windows.iter().copied().map(Some).collect());
    params.iter().flat_map(|param| windows.iter().map(|&window| Part { param: param.clone(), window })).collect()
}

/// `NAME=A,B,C`, or `NAME=@FILE` with a value on each line; `@-` is the standard input.
///
/// # Errors
/// When there is no name, no value, or the same value twice, or the file can't be read; says which.
pub(super) fn each(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, values) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=A,B,C or NAME=@FILE")?;
    let values: Vec<String> = match values.strip_prefix('@') {
        Some(file) => {
            let text = if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
            let text = text.map_err(|cause| format!("{file} can't be read: {cause}"))?;
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        }
        None => values.split(',').map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect(),
    };
    let mut sorted: Vec<&String> = values.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("{:?} is there twice", pair[0]));
    }
    if values.is_empty() {
        return Err("there is no value".to_owned());
    }
    Ok((name.to_owned(), values))
}

impl Part {
    /// What follows the command's key in the key of its run.
    fn key(&self) -> String {
        let value = self.param.iter().map(|(_, value)| value.clone());
        value.chain(self.window.map(|window| rfc3339(window.start))).collect::<Vec<_>>().join("/")
    }
}

/// `shop=7, 2026-01-01T00:00:00Z/2026-01-02T00:00:00Z`.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let param = self.param.iter().map(|(name, value)| format!("{name}={value}"));
        let window = self.window.iter().map(ToString::to_string);
        f.write_str(&param.chain(window).collect::<Vec<_>>().join(", "))
    }
}

/// What to request.
pub(super) struct Parts<'a> {
    pub(super) client: &'a ApiClient,
    pub(super) output: &'a Output,
    pub(super) pipeline: &'a str,
    /// The command's key.
    pub(super) key: &'a str,
    /// What a part is, for messages: `"window"` or `"run"`.
    pub(super) noun: &'static str,
    /// The request of each run, without its part and its attempt.
    pub(super) request: RunRequest,
    /// How long to wait for one part; `None`: only until all are requested.
    pub(super) timeout: Option<Duration>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    key: &'a str,
    /// The number of parts.
    windows: usize,
    /// The runs that this command requested; the others existed.
    requested: usize,
    /// The number of runs by state.
    states: BTreeMap<String, usize>,
    runs: &'a [Run],
    /// The worst end.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Parts<'_> {
    /// Requests the runs, waits for them if asked to, and prints them.
    pub(super) async fn run(&self, parts: &[Part]) -> Result<(), CliError> {
        let (first, last, noun) = (&parts[0], &parts[parts.len() - 1], self.noun);
        self.output.message(&format!(
            "{} {noun}s, from {first} to {last}, key {}; the same command with --key {1} resumes",
            parts.len(),
            self.key
        ));
        let (mut runs, mut requested, mut open) = (Vec::with_capacity(parts.len()), 0, VecDeque::new());
        for part in parts {
            if open.len() == MAX_OPEN
                && let Some(oldest) = open.pop_front()
                && !self.ended(&mut runs, oldest, parts.len()).await?
            {
                let message =
                    format!("{} of {} {noun}s are requested, and {noun} {} has not ended in time", runs.len(), parts.len(), oldest + 1);
                return Err(CliError::timed_out(message, format!("the runs continue; repeat the command with --key {}", self.key)));
            }
            let (is_new, run) = self.request(part).await?;
            requested += usize::from(is_new);
            if !run.terminal {
                open.push_back(runs.len());
            }
            runs.push(run);
        }
        if self.timeout.is_some() {
            for at in open {
                if !self.ended(&mut runs, at, parts.len()).await? {
                    break;
                }
            }
        }
        self.report(&runs, requested)
    }

    /// Requests the run of a part, or finds it: the one that succeeded, or is open.
    async fn request(&self, part: &Part) -> Result<(bool, Run), CliError> {
        let key = format!("{}/{}", self.key, part.key());
        let mut request = RunRequest { window: part.window, attempt: 1, ..self.request.clone() };
        request.params.extend(part.param.clone());
        loop {
            let (is_new, run) = self.client.request_run(self.pipeline, &key, &request).await?;
            if is_new || outcome(&run, false).is_ok() {
                return Ok((is_new, run));
            }
            request.attempt = run.attempt.saturating_add(1);
        }
    }

    /// Waits for the end of a run. Returns whether it has ended in time.
    async fn ended(&self, runs: &mut [Run], at: usize, total: usize) -> Result<bool, CliError> {
        let timeout = self.timeout.unwrap_or(Duration::MAX);
        let since = Instant::now();
        while !runs[at].terminal {
            let left = timeout.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            runs[at] = self.client.poll_run(runs[at].id, left).await?;
        }
        self.output.message(&format!("{} {} of {total}: {}", self.noun, at + 1, line(&runs[at])));
        Ok(true)
    }

    /// Prints what became of the runs. The error is that of the worst.
    fn report(&self, runs: &[Run], requested: usize) -> Result<(), CliError> {
        let mut states = BTreeMap::new();
        for run in runs {
            *states.entry(state_of(run)).or_default() += 1;
        }
        let errors = runs.iter().filter_map(|run| Some((run, outcome(run, self.timeout.is_some()).err()?)));
        let errors: Vec<(&Run, CliError)> = errors.collect();
        let bad = errors.len();
        let worst = errors.into_iter().min_by_key(|(_, error)| severity(error.code())).map(|(run, error)| {
            let which = run.key.strip_prefix(self.key).unwrap_or_default().trim_start_matches('/').to_owned();
            let window = run.spec.window.filter(|_| self.noun == "window").map_or(which, |window| window.to_string());
            error.of(&format!("{bad} of {} {}s did not succeed; {window}", runs.len(), self.noun))
        });
        if self.output.json() {
            let error = worst.as_ref().map(ToString::to_string);
            self.output.print_json(&Summary { key: self.key, windows: runs.len(), requested, states, runs, error });
            return worst.map_or(Ok(()), |worst| Err(CliError::silent(worst.code())));
        }
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
        self.output.print(&format!(
            "{} {}s: {}; {requested} requested now; {} fetched, {} rejected, {} written (key {})",
            runs.len(),
            self.noun,
            states.join(", "),
            sum(|run| run.counts.fetched),
            sum(|run| run.counts.rejected),
            sum(|run| run.counts.written),
            self.key
        ));
        worst.map_or(Ok(()), Err)
    }
}

/// The order of exit codes, worst first: failed, too many rejected, cancelled, still running, cut
/// short.
fn severity(code: u8) -> usize {
    [1, 6, 4, 5, 7].iter().position(|known| *known == code).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use forebay_schemas::window::moment;

    use super::*;

    #[test]
    fn each_value_has_a_part_in_each_window() {
        let at = |text| moment(text).unwrap();
        let windows =
            [("2026-01-01", "2026-01-02"), ("2026-01-02", "2026-01-03")].map(|(start, end)| Window { start: at(start), end: at(end) });
        let shops = each("shop=7, 8").unwrap();
        let keys = |parts: Vec<Part>| parts.iter().map(Part::key).collect::<Vec<_>>();
        assert_eq!(keys(parts(Some(&shops), None)), ["7", "8"]);
        assert_eq!(keys(parts(None, Some(&windows))), ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]);
        let both = parts(Some(&shops), Some(&windows));
        assert_eq!(keys(both.clone())[1..3], ["7/2026-01-02T00:00:00Z", "8/2026-01-01T00:00:00Z"]);
        assert_eq!(both[0].to_string(), "shop=7, 2026-01-01T00:00:00Z/2026-01-02T00:00:00Z");
    }

    #[test]
    fn values_are_a_list_or_the_lines_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shops.txt");
        std::fs::write(&file, "7\n\n 8 \r\n9,5\n").unwrap();
        assert_eq!(each(&format!("shop=@{}", file.display())).unwrap(), ("shop".to_owned(), vec!["7".into(), "8".into(), "9,5".into()]));
        for (text, message) in [
            ("shop", "NAME=A,B,C"),
            ("=7", "NAME=A,B,C"),
            ("shop=", "no value"),
            ("shop=7,7", "\"7\" is there twice"),
            ("shop=@/nowhere", "can't be read"),
        ] {
            assert!(each(text).unwrap_err().contains(message), "{text}");
        }
    }
}
