//! `forebay init`: writes a commented pipeline file and its schema.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::commands::init_from;
use crate::error::CliError;
use crate::example::{PIPELINE, SCHEMA, SCHEMA_NAME};
use crate::output::Output;

/// Flags of `init`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay init                 write forebay.toml and users.schema.json to this directory
  forebay init pipelines/users
  forebay init --force         overwrite existing files
  forebay init --from https://api.example.org/orders --header 'Authorization=Bearer env:TOKEN'
                               request the API, and write a pipeline and a schema for its records")]
pub(crate) struct Args {
    /// Directory; created when it does not exist
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    source: init_from::Args,
}

/// Runs the command.
pub(crate) fn init(output: &Output, args: &Args) -> Result<(), CliError> {
    if let Some(url) = &args.source.from {
        return init_from::init_from(output, &args.dir, args.force, url, &args.source);
    }
    let paths = write_files(&args.dir, args.force, &[("forebay.toml", PIPELINE), (SCHEMA_NAME, SCHEMA)])?;
    if output.json() {
        output.print_json(&json!({ "written": paths }));
    } else {
        let file = paths[0].display();
        output.message(&format!("wrote {file} and {}", paths[1].display()));
        output.message(&format!("next: forebay check -c {file}, then forebay run -c {file}"));
    }
    Ok(())
}

/// Writes files to a directory, which is created. Without `force`, none is written if one of them
/// exists.
pub(super) fn write_files(dir: &Path, force: bool, files: &[(&str, &str)]) -> Result<Vec<PathBuf>, CliError> {
    std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    let paths: Vec<_> = files.iter().map(|(name, _)| dir.join(name)).collect();
    if !force && let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(CliError::usage(format!("{} already exists", path.display()), "overwrite it with --force, or name another directory"));
    }
    for (path, (_, text)) in paths.iter().zip(files) {
        write(path, text, force)?;
    }
    Ok(paths)
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::usage(format!("{} already exists", path.display()), "overwrite it with --force"),
        _ => unwritable(path, &error),
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::environment(format!("can't write {}: {error}", path.display()), "name a writable directory")
}
