//! `forebay init`: writes a commented pipeline file and its schema.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::CliError;
use crate::example::{PIPELINE, SCHEMA, SCHEMA_NAME};
use crate::output::Output;

/// Flags of `init`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay init                 write forebay.toml and users.schema.json to this directory
  forebay init pipelines/users
  forebay init --force         overwrite existing files")]
pub(crate) struct Args {
    /// Directory; created when it does not exist
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn init(output: &Output, args: &Args) -> Result<(), CliError> {
    let files = [("forebay.toml", PIPELINE), (SCHEMA_NAME, SCHEMA)];
    std::fs::create_dir_all(&args.dir).map_err(|error| unwritable(&args.dir, &error))?;
    let paths = files.map(|(name, _)| args.dir.join(name));
    if !args.force
        && let Some(path) = paths.iter().find(|path| path.exists())
    {
        return Err(CliError::usage(format!("{} already exists", path.display()), "overwrite it with --force, or name another directory"));
    }
    for (path, (_, text)) in paths.iter().zip(files) {
        write(path, text, args.force)?;
    }
    if output.json() {
        output.print_json(&json!({ "written": paths }));
    } else {
        let file = paths[0].display();
        output.message(&format!("wrote {file} and {}", paths[1].display()));
        output.message(&format!("next: forebay check -c {file}, then forebay run -c {file}"));
    }
    Ok(())
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
