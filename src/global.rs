//! The flags that every command takes, and the pipeline file that they select.

use std::path::PathBuf;

use forebay_actors::pipeline::use_found_paging;
use forebay_schemas::pipeline::Pipeline;

use crate::error::CliError;
use crate::logging::LogFormat;

/// The flags that every command takes.
#[derive(clap::Args, Clone)]
pub(crate) struct Global {
    /// Pipeline file; default: forebay.toml in this directory or the nearest parent that has one
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print the result as JSON on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Format of log lines on stderr; FOREBAY_LOG sets a filter such as `info` or
    /// `forebay=debug`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text", global = true)]
    pub(crate) log_format: LogFormat,
}

/// Finds the pipeline file: the one given with `-c`, else `forebay.toml` in the working directory
/// or the nearest parent that has one.
pub(crate) fn pipeline_path(global: &Global) -> Result<PathBuf, CliError> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let here =
        std::env::current_dir().map_err(|error| CliError::environment(format!("can't determine the working directory: {error}"), ""))?;
    here.ancestors().map(|dir| dir.join("forebay.toml")).find(|path| path.is_file()).ok_or_else(|| {
        CliError::usage(
            format!("no forebay.toml in {} or a parent directory", here.display()),
            "name one with -c FILE, or write one with `forebay init`",
        )
    })
}

/// Reads and checks the pipeline file. With `paging = "auto"`, it has the rule that an earlier
/// start has found.
pub(crate) fn load_pipeline(global: &Global) -> Result<Pipeline, CliError> {
    let mut pipeline = forebay_schemas::pipeline::load(&pipeline_path(global)?)?;
    use_found_paging(&mut pipeline).map_err(|error| CliError::environment(error.to_string(), error.remedy()))?;
    Ok(pipeline)
}
