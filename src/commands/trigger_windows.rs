//! `forebay trigger --from … --to … --window …`: requests a run for each window of a range of time.
//!
//! Guarantees:
//! * The key of a window's run is made of the command's key and the start of the window, so the
//!   same command requests nothing twice: what has succeeded stays as it is, what is open is waited
//!   for, and only a window whose last run did not succeed, or was cut short, is requested again.
//! * At most [`MAX_OPEN`] runs of the command are open at once. It requests the next one when the
//!   oldest has ended.
//!
//! Does not guarantee that windows are fetched at the same time: the fetcher takes one after the
//! other.

use std::collections::{BTreeMap, VecDeque};
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

/// What to request.
pub(super) struct Windows<'a> {
    pub(super) client: &'a ApiClient,
    pub(super) output: &'a Output,
    pub(super) pipeline: &'a str,
    /// The command's key.
    pub(super) key: &'a str,
    /// The request of each run, without its window and its attempt.
    pub(super) request: RunRequest,
    /// How long to wait for one window; `None`: only until all are requested.
    pub(super) timeout: Option<Duration>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    key: &'a str,
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

impl Windows<'_> {
    /// Requests the runs, waits for them if asked to, and prints them.
    pub(super) async fn run(&self, windows: &[Window]) -> Result<(), CliError> {
        let (first, last) = (windows[0], windows[windows.len() - 1]);
        let range = Window { start: first.start, end: last.end };
        self.output.message(&format!("{} windows in {range}, key {}; the same command with --key {0} resumes", windows.len(), self.key));
        let (mut runs, mut requested, mut open) = (Vec::with_capacity(windows.len()), 0, VecDeque::new());
        for window in windows {
            if open.len() == MAX_OPEN
                && let Some(oldest) = open.pop_front()
                && !self.ended(&mut runs, oldest, windows.len()).await?
            {
                let message =
                    format!("{} of {} windows are requested, and window {} has not ended in time", runs.len(), windows.len(), oldest + 1);
                return Err(CliError::timed_out(message, format!("the runs continue; repeat the command with --key {}", self.key)));
            }
            let (is_new, run) = self.request(*window).await?;
            requested += usize::from(is_new);
            if !run.terminal {
                open.push_back(runs.len());
            }
            runs.push(run);
        }
        if self.timeout.is_some() {
            for at in open {
                if !self.ended(&mut runs, at, windows.len()).await? {
                    break;
                }
            }
        }
        self.report(&runs, requested)
    }

    /// Requests the run of a window, or finds it: the one that succeeded, or is open.
    async fn request(&self, window: Window) -> Result<(bool, Run), CliError> {
        let key = format!("{}/{}", self.key, rfc3339(window.start));
        let mut request = RunRequest { window: Some(window), attempt: 1, ..self.request.clone() };
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
        self.output.message(&format!("window {} of {total}: {}", at + 1, line(&runs[at])));
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
            let window = run.spec.window.map(|window| window.to_string()).unwrap_or_default();
            error.of(&format!("{bad} of {} windows did not succeed; {window}", runs.len()))
        });
        if self.output.json() {
            let error = worst.as_ref().map(ToString::to_string);
            self.output.print_json(&Summary { key: self.key, windows: runs.len(), requested, states, runs, error });
            return worst.map_or(Ok(()), |worst| Err(CliError::silent(worst.code())));
        }
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
        self.output.print(&format!(
            "{} windows: {}; {requested} requested now; {} fetched, {} rejected, {} written (key {})",
            runs.len(),
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
