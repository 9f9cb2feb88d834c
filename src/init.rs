//! `forebay init`: writes a commented pipeline file and its schema, ready for `forebay check` and `forebay run`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::end::End;
use crate::talk::Talk;

/// The pipeline file of the example, which is the file that `init` writes.
pub(crate) const PIPELINE: &str = include_str!("../examples/users/forebay.toml");
/// Its schema.
pub(crate) const SCHEMA: &str = include_str!("../examples/users/users.schema.json");
/// The schema's name, as the pipeline file names it.
pub(crate) const SCHEMA_NAME: &str = "users.schema.json";

/// Flags of `init`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay init                 forebay.toml and users.schema.json in this folder
  forebay init pipelines/users
  forebay init --force         in place of what is there")]
pub(crate) struct Args {
    /// The folder; made when it is missing
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn init(talk: &Talk, args: &Args) -> Result<(), End> {
    let files = [("forebay.toml", PIPELINE), (SCHEMA_NAME, SCHEMA)];
    std::fs::create_dir_all(&args.folder).map_err(|cause| unwritable(&args.folder, &cause))?;
    let paths = files.map(|(name, _)| args.folder.join(name));
    if !args.force
        && let Some(path) = paths.iter().find(|path| path.exists())
    {
        return Err(End::usage(format!("{} is there already", path.display()), "--force writes over it; or name another folder"));
    }
    for (path, (_, text)) in paths.iter().zip(files) {
        write(path, text, args.force)?;
    }
    if talk.json() {
        talk.data(&json!({ "written": paths }).to_string());
    } else {
        let there = paths[0].display();
        talk.say(&format!("wrote {there} and {}\nnext: forebay check -c {there}, then forebay run -c {there}", paths[1].display()));
    }
    Ok(())
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), End> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|cause| match cause.kind() {
        ErrorKind::AlreadyExists => End::usage(format!("{} is there already", path.display()), "--force writes over it"),
        _ => unwritable(path, &cause),
    })
}

fn unwritable(path: &Path, cause: &std::io::Error) -> End {
    End::environment(format!("can't write {}: {cause}", path.display()), "name a folder that you may write to")
}
