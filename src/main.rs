//! `forebay`: the command line. One file a command; this one says what they are and turns their ends into exit codes.

mod actors;
mod api_client;
mod check;
mod cursor;
mod demo;
mod desire;
mod dlq;
mod doctor;
mod end;
mod init;
mod journal;
mod logging;
mod logs;
mod monitor;
mod plan;
mod query;
mod replay;
mod run;
mod runs;
mod status;
mod talk;
mod tap;
mod topics;
mod trigger;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use forebay_schemas::api::DesiredState;

use crate::end::End;
use crate::talk::{LogFormat, Talk};

/// For Rust and for the libraries written in C (librdkafka, SQLite): batches come and go by the megabyte on several threads, and the system's own
/// allocator keeps for each thread what that once had.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Records from an HTTP API, through Kafka, through micro-batches of SQL, into Cassandra: effectively once.
#[derive(Parser)]
#[command(name = "forebay", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXAMPLES: &str = "\
Examples:
  forebay demo                                   everything on this machine, watched live
  forebay init && forebay check                  write a pipeline file, and check it
  forebay plan                                   what `run` would make, and where it would go on
  forebay run                                    run the pipeline of ./forebay.toml
  forebay run --until-idle --json                fetch once, write all there is, say what was done
  forebay trigger --wait                         ask a running pipeline for a fetch; done when readable in the table
  forebay query 'SELECT * FROM users_stream'     read the table
  forebay journal show --follow                  what is decided and what happens, as it happens

Exit codes: 0 done, 1 failed, 2 usage or pipeline file, 3 environment (a server is away, a port is taken),
            4 the run was cancelled, 5 the wait timed out, 6 too many records were rejected, 70 the supervisor gave up";

/// What every command takes.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// The pipeline file; default: forebay.toml here or in the nearest folder above
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Say the result as JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// How log lines on stderr look; FOREBAY_LOG takes filters such as `info` or `forebay_actors=debug`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: a local API, an embedded broker, an embedded table
    Demo(demo::Args),
    /// Run the pipeline
    Run(run::Args),
    /// Check the pipeline file, its schema, its SQL and its table, without any server
    Check(check::Args),
    /// Ask whether the servers, ports and folders that the pipeline needs are there
    Doctor(doctor::Args),
    /// Say what `run` would do, and do none of it
    Plan(plan::Args),
    /// Ask a running pipeline for a fetch
    Trigger(trigger::Args),
    /// List the runs, show one, call one off
    Runs(runs::Args),
    /// Fetch nothing and read nothing, from now on and after a restart
    Pause(desire::Args),
    /// Fetch nothing, and write what the topic holds
    Drain(desire::Args),
    /// Fetch and write again
    Resume(desire::Args),
    /// Show a running pipeline: path, partitions, actors, runs
    Status(status::Args),
    /// See a pipeline in the terminal: live, back in time, or recorded
    #[command(visible_alias = "top")]
    Monitor(monitor::Args),
    /// Show the topic and the dead-letter topic, with their partitions
    Topics(topics::Args),
    /// Show the actors, or restart one
    Actors(actors::Args),
    /// Show the dead letters, or put them into the topic again
    Dlq(dlq::Args),
    /// Show records of the topic as they come
    Tap(tap::Args),
    /// Read the last log lines of a running pipeline, and those that come
    Logs(logs::Args),
    /// Read the table with SQL (CQL where Cassandra is the store)
    Query(query::Args),
    /// Read the events of a pipeline: what was decided, what happened, and the state that they make
    Journal(journal::Args),
    /// Read records again, from an earlier offset on
    Replay(replay::Args),
    /// Show where each read of the source is, or set its cursor
    Cursor(cursor::Args),
    /// Write a commented pipeline file and its schema
    Init(init::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    // Reads FAILPOINTS: see docs/RECOVERY.md.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let cli = Cli::parse();
    let talk = Talk::new(cli.global.json);
    let global = &cli.global;
    let end = match cli.command {
        Command::Demo(args) => demo::demo(global, &talk, &args),
        Command::Run(args) => run::run(global, &talk, &args),
        Command::Check(args) => check::check(global, &talk, &args),
        Command::Doctor(args) => doctor::doctor(global, &talk, &args),
        Command::Plan(args) => plan::plan(global, &talk, &args),
        Command::Trigger(args) => trigger::trigger(global, &talk, &args),
        Command::Runs(args) => runs::runs(global, &talk, &args),
        Command::Pause(args) => desire::desire(global, &talk, &args, DesiredState::Paused),
        Command::Drain(args) => desire::desire(global, &talk, &args, DesiredState::Drained),
        Command::Resume(args) => desire::desire(global, &talk, &args, DesiredState::Running),
        Command::Topics(args) => topics::topics(global, &talk, &args),
        Command::Actors(args) => actors::actors(global, &talk, &args),
        Command::Dlq(args) => dlq::dlq(global, &talk, &args),
        Command::Tap(args) => tap::tap(global, &talk, &args),
        Command::Logs(args) => logs::logs(global, &talk, &args),
        Command::Status(args) => status::status(global, &talk, &args),
        Command::Monitor(args) => monitor::monitor(global, &talk, &args),
        Command::Query(args) => query::query(global, &talk, &args),
        Command::Journal(args) => journal::journal(global, &talk, &args),
        Command::Replay(args) => replay::replay(global, &talk, &args),
        Command::Cursor(args) => cursor::cursor(global, &talk, &args),
        Command::Init(args) => init::init(&talk, &args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "forebay", &mut script);
            talk.data(&String::from_utf8_lossy(&script));
            Ok(())
        }
    };
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => end.report(&talk),
    }
}

/// Where the pipeline file is: the one named, else `forebay.toml` here or in the nearest folder above.
fn pipeline_path(global: &Global) -> Result<PathBuf, End> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let here = std::env::current_dir().map_err(|cause| End::environment(format!("can't tell the current folder: {cause}"), ""))?;
    here.ancestors().map(|folder| folder.join("forebay.toml")).find(|path| path.is_file()).ok_or_else(|| {
        End::usage(format!("no forebay.toml in {} or above", here.display()), "name one with -c FILE, or let `forebay init` write one")
    })
}

/// The pipeline file, read and checked.
fn load_pipeline(global: &Global) -> Result<forebay_schemas::pipeline::Pipeline, End> {
    Ok(forebay_schemas::pipeline::load(&pipeline_path(global)?)?)
}

/// `NAME=VALUE`, as a flag takes it.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The runtime of commands that ask a server something and end.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads for the runtime can be started at the start of the process")
        .block_on(work)
}
