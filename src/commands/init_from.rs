//! `forebay init --from URL`: writes a pipeline for an API that answers now.

use std::path::Path;

use forebay_actors::ProcessClock;
use forebay_actors::pipeline::{Blueprint, FirstResponse, first_response, two_pages};
use forebay_kernel::Clock as _;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::{FetcherSection, Pipeline, parse};
use reqwest::Url;
use serde_json::{Value, json};

use crate::commands::init;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::block_on;
use crate::source_draft::{Draft, Guess, Said, SourceRequest, quoted};

/// Flags of `init` that describe an API.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write a pipeline for the API at this URL, from its first response
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<Url>,
    /// Header to send; a secret as env:VARIABLE or file:PATH, a text may precede it
    #[arg(long, value_name = "NAME=VALUE", requires = "from", value_parser = header)]
    header: Vec<(String, String)>,
    /// JSON pointer to the records, when they are not found
    #[arg(long, value_name = "POINTER", requires = "from", value_parser = pointer)]
    records: Option<JsonPointer>,
    /// JSON pointer to the key in a record, when it is not found
    #[arg(long, value_name = "POINTER", requires = "from", value_parser = pointer)]
    key: Option<JsonPointer>,
    /// Name of the pipeline. Default: after the URL
    #[arg(long, value_name = "NAME", requires = "from")]
    name: Option<String>,
    /// Request the API also if its host has a private address
    #[arg(long, requires = "from")]
    allow_private: bool,
}

/// Parses `NAME=VALUE` to the name and the value in TOML.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as Authorization=env:TOKEN")?;
    let reference = |kind: &str| {
        let (prefix, name) = value.split_once(&format!("{kind}:")).filter(|(prefix, _)| prefix.is_empty() || prefix.ends_with(' '))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("prefix = {}, ", quoted(prefix)) };
        Some(format!("{{ {prefix}{kind} = {} }}", quoted(name)))
    };
    Ok((name.to_owned(), reference("env").or_else(|| reference("file")).unwrap_or_else(|| quoted(value))))
}

fn pointer(text: &str) -> Result<JsonPointer, String> {
    JsonPointer::parse(text).ok_or_else(|| "a JSON pointer is empty or begins with `/`, such as /data/orders".to_owned())
}

/// Drafts a pipeline for the API at `url`, and writes it to `dir`.
pub(crate) fn init_from(output: &Output, dir: &Path, force: bool, url: &Url, args: &Args) -> Result<(), CliError> {
    let file = dir.join("forebay.toml");
    let request = SourceRequest { url: url.clone(), headers: args.header.clone(), allow_private: args.allow_private };
    let said = Said { name: args.name.clone(), records: args.records.clone(), key: args.key.clone() };
    let (draft, mut notes) = block_on(async {
        let first = first_answer(&file, &request).await?;
        let body = value_of(&first)?;
        let draft = Draft::new(request, &body, &said).map_err(|unknown| CliError::usage(unknown.message, unknown.help))?;
        let guesses = draft.paging_guesses(&body, first.links_next);
        Ok::<_, CliError>(paged(&file, draft, guesses).await)
    })?;
    notes.splice(0..0, draft.notes.iter().cloned());
    let (schema_name, schema, text) = (draft.schema_name(), draft.schema_text(), draft.pipeline_text());
    let paths = init::write_files(dir, force, &[("forebay.toml", &text), (&schema_name, &schema)])?;
    Blueprint::new(parse(&file, text)?)?;
    if output.json() {
        output.print_json(&json!({ "written": paths, "notes": notes }));
    } else {
        output.message(&format!("wrote {} and {}", paths[0].display(), paths[1].display()));
        notes.iter().for_each(|note| output.message(&format!("   {note}")));
        output.message(&format!("next: forebay run -c {} --until-idle", file.display()));
    }
    Ok(())
}

/// Requests the URL, before anything is known of its records.
async fn first_answer(file: &Path, request: &SourceRequest) -> Result<FirstResponse, CliError> {
    let mut text = format!(
        "[pipeline]\nname = \"init\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"init\"\n[producer]\nkey = \"/id\"\n[fetcher]\nurl = \
         {}\nallow_private = {}\n[fetcher.headers]\n",
        quoted(request.url.as_str()),
        request.allow_private,
    );
    request.headers.iter().for_each(|(name, value)| text.push_str(&format!("{} = {value}\n", quoted(name))));
    let pipeline = parse(file, text)?;
    let section = fetcher_of(&pipeline);
    first_response(&pipeline, section, ProcessClock.wall())
        .await
        .map_err(|error| CliError::environment(error.to_string(), "check the URL, and the headers that it needs (--header)"))
}

fn fetcher_of(pipeline: &Pipeline) -> &FetcherSection {
    pipeline.fetcher.as_ref().expect("a drafted pipeline has [fetcher]")
}

/// The body as one value; several values, one per line, as an array.
fn value_of(first: &FirstResponse) -> Result<Value, CliError> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&first.body).into_iter().collect();
    let mut values = values.map_err(|error| {
        CliError::failed(
            format!("the response is no JSON: {error}"),
            "request a URL that answers JSON, NDJSON or CSV, or `forebay init` without --from",
        )
    })?;
    match values.len() {
        0 => Err(CliError::failed("the response is empty", "request a URL that has records now")),
        1 => Ok(values.remove(0)),
        _ => Ok(Value::Array(values)),
    }
}

/// The draft with the first way of paging that leads to other records, and what was found.
async fn paged(file: &Path, draft: Draft, guesses: Vec<Guess>) -> (Draft, Vec<String>) {
    let mut notes = Vec::new();
    for guess in guesses {
        let (rule, sign) = (guess.toml.join(", "), guess.sign.clone());
        let tried = draft.with_paging(guess);
        let pages = match parse(file, tried.pipeline_text()) {
            Ok(pipeline) => two_pages(&pipeline, fetcher_of(&pipeline), ProcessClock.wall()).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match pages {
            Ok((first, Some(second))) if !second.is_empty() && second.iter().any(|record| first.contains(record)) => {
                notes.push(format!("not paging by {rule}: its second page repeats records of the first"));
            }
            Ok((_, Some(second))) => {
                notes.push(format!("paging: {rule}, because {sign}; its second page has {} other records", second.len()));
                return (tried, notes);
            }
            Ok((_, None)) => {
                notes.push(format!("paging: {rule}, a guess: {sign}, and the first page leads to no second one"));
                return (tried, notes);
            }
            Err(error) => notes.push(format!("not paging by {rule}: {error}")),
        }
    }
    notes.push("paging: none found, so a fetch is one page; docs/SOURCES.md has the kinds".to_owned());
    (draft, notes)
}
