//! `forebay monitor`: shows a pipeline in the terminal, live and back in time. Prints snapshots for
//! scripts.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_actors::data_dir::journal_dir;
use forebay_actors::journal::{Follower, JournalError, segment};
use forebay_actors::ledger::LedgerError;
use forebay_actors::pipeline::Running;
use forebay_schemas::event::decode;
use forebay_schemas::pipeline::Pipeline;
use forebay_tui::{EventReader, Options, Palette, Setup, Source};

use crate::api_client::{Target, api_of};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `monitor`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay monitor                              the pipeline at [api] listen, or a running demo
  forebay monitor --url http://10.0.0.5:7071   another pipeline; unix:PATH for a socket
  forebay monitor --journal data/journal       a journal alone, whether its pipeline runs or not
  forebay monitor --record incident.ndjson     record the session
  forebay monitor --replay incident.ndjson --speed 10
  forebay monitor --operate                    allow pause, restart, redrive and so on
  forebay monitor --once --screen batches      print one frame as text
  forebay monitor --json --exit-code           print one snapshot; exit with 1 if it is unhealthy
  forebay monitor --watch | jq .totals.written print one snapshot a second, one line each

Press ? in the terminal for the keys of a screen.

Exit codes: 0 healthy, 1 something is wrong (with --exit-code), 3 no pipeline answers")]
pub(crate) struct Args {
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    /// Colours; auto detects what the terminal can do
    #[arg(long, value_enum, default_value_t)]
    theme: ThemeArg,
    /// Same as --theme light
    #[arg(long, conflicts_with = "theme")]
    light: bool,
    /// First screen to show
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(forebay_tui::screens()))]
    screen: Option<String>,
    /// Let keys change the pipeline, within the role of your token
    #[arg(long, conflicts_with_all = ["journal", "replay"])]
    operate: bool,
    /// Show the journal in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    journal: Option<PathBuf>,
    /// Show a session that --record wrote
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Speed of the replay, 0.01 to 1000
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed, requires = "replay")]
    speed: f64,
    /// Record the session to this file, which must not exist
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Print one frame as text and exit; the default without a terminal
    #[arg(long, group = "plain")]
    once: bool,
    /// Print one snapshot a second as JSON, one line each, until stopped
    #[arg(long, group = "plain")]
    watch: bool,
    /// Exit with 1 when something is wrong: an alert fires, or an actor is not up
    #[arg(long)]
    exit_code: bool,
    /// Columns of a printed frame
    #[arg(long, value_name = "COLUMNS", default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=500))]
    width: u16,
    /// Rows of a printed frame
    #[arg(long, value_name = "ROWS", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=500))]
    height: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum ThemeArg {
    /// Follow NO_COLOR, TERM, COLORTERM and COLORFGBG
    #[default]
    Auto,
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// No colour
    Mono,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=1_000.0).contains(&speed) { Ok(speed) } else { Err("must be from 0.01 to 1000".to_owned()) }
}

/// Time between two lines of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn monitor(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let plain = args.once || args.watch || args.exit_code || output.json() || !terminal;
    if args.journal.is_none() && args.replay.is_none() && (args.watch || output.json() || args.exit_code) {
        return scripted(global, output, args);
    }
    if args.watch || output.json() || args.exit_code {
        return Err(CliError::usage("--json, --watch and --exit-code are for a running pipeline", "leave out --journal and --replay"));
    }
    let setup = Setup {
        source: source(global, args)?,
        options: options(args.theme, args.light, args.ascii),
        operate: args.operate,
        record: args.record.clone(),
        screen: args.screen.clone(),
    };
    if plain {
        let frame = block_on(forebay_tui::frame(setup, (args.width, args.height)));
        output.print_verbatim(&frame.map_err(|error| CliError::environment(error.to_string(), ""))?);
        return Ok(());
    }
    block_on(forebay_tui::live(setup, for_ever())).map(|_| ()).map_err(|error| CliError::environment(error.to_string(), ""))
}

#[cfg(not(feature = "failpoints"))]
async fn for_ever() {
    std::future::pending().await
}

/// Has a failpoint where a test lets the view panic, to check that the terminal is restored.
#[cfg(feature = "failpoints")]
async fn for_ever() {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fail::fail_point!("monitor::shown");
    }
}

/// Prints snapshots as JSON or as text, and checks whether the pipeline is healthy.
fn scripted(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let api = args.target.api(global)?;
    block_on(async {
        loop {
            let snapshot = api.snapshot().await.map_err(|error| CliError::environment(error.to_string(), ""))?;
            if output.json() || args.watch {
                output.print_json(&snapshot);
            } else {
                let colour =
                    if std::io::stdout().is_terminal() { options(args.theme, args.light, args.ascii).palette } else { Palette::Mono };
                output.print_verbatim(&forebay_tui::status_text(&snapshot, Options { palette: colour, ascii: args.ascii }));
            }
            if args.exit_code && !forebay_tui::is_healthy(&snapshot) {
                return Err(CliError::silent(1));
            }
            if !args.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    })
}

fn source(global: &Global, args: &Args) -> Result<Source, CliError> {
    if let Some(dir) = &args.journal {
        if segment::list(dir).map_err(|error| CliError::environment(error.to_string(), ""))?.is_empty() {
            let help = "it is the directory `journal` in [pipeline] data_dir";
            return Err(CliError::environment(format!("there is no journal in {}", dir.display()), help));
        }
        return Ok(Source::Journal(events(dir)));
    }
    if let Some(path) = &args.replay {
        return Ok(Source::Recording { path: path.clone(), speed: args.speed });
    }
    Ok(Source::Attached(args.target.api(global)?))
}

/// The drawing options for this terminal.
fn options(theme: ThemeArg, light: bool, ascii: bool) -> Options {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let fixed = ["truecolor", "24bit"].contains(&env("COLORTERM").as_str());
    // Set by some terminals: the colours of text and background, 7 and 15 being light ones.
    let light = light
        || theme == ThemeArg::Light
        || (theme == ThemeArg::Auto && ["7", "15"].contains(&env("COLORFGBG").rsplit(';').next().unwrap_or_default()));
    let palette = match (theme, light, fixed) {
        (ThemeArg::Mono, ..) => Palette::Mono,
        (ThemeArg::Auto, ..) if !crate::output::colour_wanted() => Palette::Mono,
        (_, true, true) => Palette::LightTrue,
        (_, true, false) => Palette::Light,
        (_, false, true) => Palette::DarkTrue,
        (_, false, false) => Palette::Dark,
    };
    Options { palette, ascii }
}

/// The drawing options for this terminal, without flags.
pub(super) fn terminal_options() -> Options {
    options(ThemeArg::Auto, false, false)
}

/// Shows a pipeline of this process until the view is left, or `until` completes.
///
/// What only the API has is requested there, with the token of `FOREBAY_TOKEN`.
///
/// # Errors
/// The terminal can't be used.
pub(super) async fn in_process(running: &Running, pipeline: &Pipeline, until: impl Future<Output = ()>) -> Result<(), CliError> {
    let snapshots = running.snapshots().clone();
    let source = Source::InProcess {
        snapshot: Arc::new(move || snapshots.snapshot()),
        events: Some(events(&journal_dir(pipeline))),
        api: Some(api_of(pipeline, std::env::var("FOREBAY_TOKEN").ok())?),
    };
    let closed = async {
        tokio::select! { () = until => {}, () = for_ever() => {} }
    };
    let result = forebay_tui::live(Setup::new(source, terminal_options()), closed).await;
    result
        .map(|_| ())
        .map_err(|error| CliError::environment(format!("the terminal can't be used: {error}"), "pipe stdout to run without the view"))
}

/// Maximum number of events in one read.
const MAX_EVENTS_PER_READ: usize = 2_000;

/// Why a read ends early.
enum ReadEnd {
    /// It has [`MAX_EVENTS_PER_READ`] events.
    Full,
    Failed(String),
}

impl From<JournalError> for ReadEnd {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A reader of a journal's events, and of new ones as they are written.
fn events(dir: &Path) -> EventReader {
    let mut follower = Follower::new(dir, 1);
    Box::new(move || {
        let mut events = Vec::new();
        let end = follower.read_new(|_, json| {
            if events.len() >= MAX_EVENTS_PER_READ {
                return Err(ReadEnd::Full);
            }
            events.push(decode(json).map_err(|error| ReadEnd::Failed(LedgerError::from(error).to_string()))?);
            Ok(())
        });
        match end {
            Err(ReadEnd::Failed(error)) if events.is_empty() => Err(error),
            _ => Ok(events),
        }
    })
}
