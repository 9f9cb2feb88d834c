//! The commands, one file each. `pause`, `drain` and `resume` share `set_state.rs`.

mod actors;
mod check;
mod cursor;
mod demo;
mod dlq;
mod doctor;
mod fetch;
pub(crate) mod flags;
pub(crate) mod init;
mod init_from;
mod journal;
mod logs;
mod monitor;
mod plan;
mod query;
mod replay;
mod run;
mod runs;
mod schema;
mod set_state;
mod shadow;
mod status;
mod tap;
mod topics;
mod trigger;
mod trigger_parts;

use clap::{CommandFactory as _, Parser, Subcommand};
use forebay_schemas::desired::DesiredState;

use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;

/// Read records from an HTTP API and write them through Kafka and SQL into Cassandra, effectively
/// once.
#[derive(Parser)]
#[command(name = "forebay", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

const EXAMPLES: &str = "\
Examples:
  forebay demo                                   run everything on this machine, with a live view
  forebay init && forebay check                  write a pipeline file, and check it
  forebay plan                                   show what `run` would create
  forebay run                                    run the pipeline of ./forebay.toml
  forebay run --until-idle --json                fetch once, write everything, print a summary
  forebay trigger --wait                         fetch, and wait until the records are in the table
  forebay query 'SELECT * FROM users_stream'     read the table
  forebay journal show --follow                  follow the events of the pipeline

Exit codes:
  0  success                                     5  the wait timed out
  1  failure                                     6  too many records were rejected
  2  wrong usage or pipeline file                7  the fetch was cut short
  3  a server, port or directory is missing     70  the supervisor gave up
  4  the run was cancelled";

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: a local API, an embedded broker, an embedded table
    Demo(demo::Args),
    /// Run the pipeline
    Run(run::Args),
    /// Check the pipeline file, its schema, its SQL and its table, without any server
    Check(check::Args),
    /// Check that the servers, ports and directories that the pipeline needs are available
    Doctor(doctor::Args),
    /// Show what a fetch would request, and what the source API answers
    Fetch(fetch::Args),
    /// Show what `run` would do, without doing it
    Plan(plan::Args),
    /// Request a run of a running pipeline
    Trigger(trigger::Args),
    /// List runs, show one, or cancel one
    Runs(runs::Args),
    /// Stop fetching and reading, also after a restart
    Pause(set_state::Args),
    /// Stop fetching, and write what the topic holds
    Drain(set_state::Args),
    /// Fetch and write again
    Resume(set_state::Args),
    /// Show a running pipeline: stages, partitions, actors, runs
    Status(status::Args),
    /// Watch a pipeline in the terminal: live, back in time, or recorded
    #[command(visible_alias = "top")]
    Monitor(monitor::Args),
    /// Show the topic and the dead-letter topic, by partition
    Topics(topics::Args),
    /// List the actors, or restart one
    Actors(actors::Args),
    /// List dead letters, or redrive them
    Dlq(dlq::Args),
    /// Print records of the topic
    Tap(tap::Args),
    /// Print log lines of a running pipeline
    Logs(logs::Args),
    /// Read the table with SQL (CQL when the store is Cassandra)
    Query(query::Args),
    /// Print or verify the journal of a pipeline, or fold it into its state
    Journal(journal::Args),
    /// Reset the group's offsets, so that records are read again
    Replay(replay::Args),
    /// Show the cursor of each read of the source, or set one
    Cursor(cursor::Args),
    /// Write a commented pipeline file and its schema
    Init(init::Args),
    /// Infer the schema of records, or compare records with it
    Schema(schema::Args),
    /// Compare a candidate for the SQL with the SQL of the pipeline file, on the topic's records
    Shadow(shadow::Args),
    /// Print a completion script for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command that the arguments name.
pub(crate) fn run_command(cli: Cli, output: &Output) -> Result<(), CliError> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => demo::demo(global, output, &args),
        Command::Run(args) => run::run(global, output, &args),
        Command::Check(args) => check::check(global, output, &args),
        Command::Doctor(args) => doctor::doctor(global, output, &args),
        Command::Fetch(args) => fetch::fetch(global, output, &args),
        Command::Plan(args) => plan::plan(global, output, &args),
        Command::Trigger(args) => trigger::trigger(global, output, &args),
        Command::Runs(args) => runs::runs(global, output, &args),
        Command::Pause(args) => set_state::set_state(global, output, &args, DesiredState::Paused),
        Command::Drain(args) => set_state::set_state(global, output, &args, DesiredState::Drained),
        Command::Resume(args) => set_state::set_state(global, output, &args, DesiredState::Running),
        Command::Status(args) => status::status(global, output, &args),
        Command::Monitor(args) => monitor::monitor(global, output, &args),
        Command::Topics(args) => topics::topics(global, output, &args),
        Command::Actors(args) => actors::actors(global, output, &args),
        Command::Dlq(args) => dlq::dlq(global, output, &args),
        Command::Tap(args) => tap::tap(global, output, &args),
        Command::Logs(args) => logs::logs(global, output, &args),
        Command::Query(args) => query::query(global, output, &args),
        Command::Journal(args) => journal::journal(global, output, &args),
        Command::Replay(args) => replay::replay(global, output, &args),
        Command::Cursor(args) => cursor::cursor(global, output, &args),
        Command::Init(args) => init::init(output, &args),
        Command::Schema(args) => schema::schema(global, output, &args),
        Command::Shadow(args) => shadow::shadow(global, output, &args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "forebay", &mut script);
            output.print_verbatim(&String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}
