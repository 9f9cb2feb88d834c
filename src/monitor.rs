//! `forebay monitor`: a pipeline in the terminal, live and back in time; and for scripts.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_actors::journal::{Follower, JournalError, segment};
use forebay_actors::ledger::LedgerError;
use forebay_actors::pipeline::{Running, journal_dir};
use forebay_schemas::event::decode;
use forebay_schemas::pipeline::Pipeline;
use forebay_tui::{Api, EventReader, Options, Palette, Setup, Source};

use crate::Global;
use crate::api_client::{Target, address_of};
use crate::end::End;
use crate::talk::Talk;

/// Flags of `monitor`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay monitor                                  the pipeline at [api] listen; finds a running `forebay demo`
  forebay monitor --url http://10.0.0.5:7071       another one, and unix:/run/forebay.sock one behind a socket
  forebay monitor --journal .forebay/demo/data/journal   a journal alone, whether somebody writes it or not
  forebay monitor --record incident.ndjson         what is seen, for later
  forebay monitor --replay incident.ndjson --speed 10
  forebay monitor --operate                        pause, drain, restart, redrive, replay: each with a reason
  forebay monitor --once --screen batches          one frame as text
  forebay monitor --json --exit-code               one look as JSON; the exit code is 1 when something is wrong
  forebay monitor --watch | jq .totals.written     a look a second, a line each

In a terminal ? shows the keys of the screen. Exit codes: 0 all is well, 1 something is wrong (with --exit-code), 3 nothing answers.")]
pub(crate) struct Args {
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    /// The colours; auto asks the terminal
    #[arg(long, value_enum, default_value_t)]
    theme: ThemeArg,
    /// For a light background: the same as --theme light
    #[arg(long, conflicts_with = "theme")]
    light: bool,
    /// The screen to begin with
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(forebay_tui::screens()))]
    screen: Option<String>,
    /// Let keys change the pipeline, as far as your role lets them
    #[arg(long, conflicts_with_all = ["journal", "replay"])]
    operate: bool,
    /// Show the journal in this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "replay")]
    journal: Option<PathBuf>,
    /// Show what --record wrote
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How many times as fast as it was; 0.01 to 1000
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = speed, requires = "replay")]
    speed: f64,
    /// Record what is seen into this file, which must not be there yet
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Print one frame as text, and end; so does a monitor without a terminal
    #[arg(long, group = "plain")]
    once: bool,
    /// Print a look a second as JSON, a line each, until it is stopped
    #[arg(long, group = "plain")]
    watch: bool,
    /// End with 1 when something is wrong: an alert, or what does not work
    #[arg(long)]
    exit_code: bool,
    /// Columns of a frame that is printed
    #[arg(long, value_name = "COLUMNS", default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=500))]
    width: u16,
    /// Rows of a frame that is printed
    #[arg(long, value_name = "ROWS", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=500))]
    height: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum ThemeArg {
    /// By NO_COLOR, TERM, COLORTERM and COLORFGBG
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
    let speed: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.01..=1_000.0).contains(&speed) { Ok(speed) } else { Err("it is to be from 0.01 to 1000".to_owned()) }
}

/// From one line of `--watch` to the next.
const WATCH: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn monitor(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let plain = args.once || args.watch || args.exit_code || talk.json() || !terminal;
    if args.journal.is_none() && args.replay.is_none() && (args.watch || talk.json() || args.exit_code) {
        return scripted(global, talk, args);
    }
    if args.watch || talk.json() || args.exit_code {
        return Err(End::usage("--json, --watch and --exit-code are for a running pipeline", "leave --journal or --replay out"));
    }
    let setup = Setup {
        source: source(global, args)?,
        options: options(args.theme, args.light, args.ascii),
        operate: args.operate,
        record: args.record.clone(),
        screen: args.screen.clone(),
    };
    if plain {
        let frame = crate::block_on(forebay_tui::frame(setup, (args.width, args.height)));
        talk.data(&frame.map_err(|cause| End::environment(cause.to_string(), ""))?);
        return Ok(());
    }
    crate::block_on(forebay_tui::live(setup, for_ever())).map(|_| ()).map_err(|cause| End::environment(cause.to_string(), ""))
}

#[cfg(not(feature = "failpoints"))]
async fn for_ever() {
    std::future::pending().await
}

/// A place at which tests let the view panic, to see the terminal given back.
#[cfg(feature = "failpoints")]
async fn for_ever() {
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fail::fail_point!("monitor::shown");
    }
}

/// Looks as JSON or as text, and whether all is well.
fn scripted(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let api = api(global, args)?;
    crate::block_on(async {
        loop {
            let look = api.snapshot().await.map_err(|error| End::environment(error.to_string(), ""))?;
            if talk.json() || args.watch {
                talk.data(&serde_json::to_string(&look).expect("a snapshot is JSON"));
            } else {
                let colour =
                    if std::io::stdout().is_terminal() { options(args.theme, args.light, args.ascii).palette } else { Palette::Mono };
                talk.data(&forebay_tui::status_text(&look, Options { palette: colour, ascii: args.ascii }));
            }
            if args.exit_code && !forebay_tui::is_healthy(&look) {
                return Err(End::silent(1));
            }
            if !args.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH).await;
        }
    })
}

fn api(global: &Global, args: &Args) -> Result<Api, End> {
    Ok(Api { url: args.target.url(global)?, token: args.target.token.clone() })
}

fn source(global: &Global, args: &Args) -> Result<Source, End> {
    if let Some(folder) = &args.journal {
        if segment::list(folder).map_err(|error| End::environment(error.to_string(), ""))?.is_empty() {
            let help = "it is the folder `journal` in [pipeline] data_dir";
            return Err(End::environment(format!("there is no journal in {}", folder.display()), help));
        }
        return Ok(Source::Journal(events(folder)));
    }
    if let Some(path) = &args.replay {
        return Ok(Source::Recording { path: path.clone(), speed: args.speed });
    }
    Ok(Source::Attached(api(global, args)?))
}

/// How a view may draw on this terminal.
fn options(theme: ThemeArg, light: bool, ascii: bool) -> Options {
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let fixed = ["truecolor", "24bit"].contains(&env("COLORTERM").as_str());
    // Set by some terminals: the colours of text and background, 7 and 15 being light ones.
    let light = light
        || theme == ThemeArg::Light
        || (theme == ThemeArg::Auto && ["7", "15"].contains(&env("COLORFGBG").rsplit(';').next().unwrap_or_default()));
    let palette = match (theme, light, fixed) {
        (ThemeArg::Mono, ..) => Palette::Mono,
        (ThemeArg::Auto, ..) if !crate::talk::colour_wanted() => Palette::Mono,
        (_, true, true) => Palette::LightTrue,
        (_, true, false) => Palette::Light,
        (_, false, true) => Palette::DarkTrue,
        (_, false, false) => Palette::Dark,
    };
    Options { palette, ascii }
}

/// How a view may draw where nobody said.
pub(crate) fn options_here() -> Options {
    options(ThemeArg::Auto, false, false)
}

/// Shows a pipeline of this process until it is left, or `enough` comes. What only the API tells is asked there, with the token of the environment.
///
/// # Errors
/// When the terminal can't be used.
pub(crate) async fn in_process(running: &Running, pipeline: &Pipeline, enough: impl Future<Output = ()>) -> Result<(), End> {
    let viewer = running.viewer().clone();
    let source = Source::InProcess {
        snapshot: Arc::new(move || viewer.snapshot()),
        events: Some(events(&journal_dir(pipeline))),
        api: Some(Api { url: address_of(pipeline), token: std::env::var("FOREBAY_TOKEN").ok() }),
    };
    let until = async {
        tokio::select! { () = enough => {}, () = for_ever() => {} }
    };
    let shown = forebay_tui::live(Setup::new(source, options_here()), until).await;
    shown.map(|_| ()).map_err(|cause| End::environment(format!("the terminal can't be used: {cause}"), "leave the view out: pipe stdout"))
}

/// The most events that are read at once.
const EVENTS_AT_ONCE: usize = 2_000;

/// Why reading stops.
enum Halt {
    /// There is enough for now.
    Enough,
    Failed(String),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Reads the events of a journal, and those that come.
fn events(folder: &Path) -> EventReader {
    let mut follower = Follower::new(folder, 1);
    Box::new(move || {
        let mut events = Vec::new();
        let end = follower.read_on(|_, json| {
            if events.len() >= EVENTS_AT_ONCE {
                return Err(Halt::Enough);
            }
            events.push(decode(json).map_err(|error| Halt::Failed(LedgerError::from(error).to_string()))?);
            Ok(())
        });
        match end {
            Err(Halt::Failed(why)) if events.is_empty() => Err(why),
            _ => Ok(events),
        }
    })
}
