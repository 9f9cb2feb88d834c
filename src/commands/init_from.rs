//! `forebay init --from URL`: writes a pipeline for an API that answers now.

use std::path::Path;

use forebay_actors::ProcessClock;
use forebay_actors::pipeline::{Blueprint, FirstResponse, find_paging, first_response};
use forebay_kernel::Clock as _;
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::{FetcherSection, Pipeline, parse};
use forebay_schemas::source_read::ReadParams;
use reqwest::Url;
use serde_json::{Value, json};

use crate::commands::init;
use crate::error::CliError;
use crate::output::Output;
use crate::runtime::block_on;
use crate::source_draft::{Draft, Said, SourceRequest, quoted, with_types};

/// What may separate the fields of CSV, the usual one first.
const DELIMITERS: [Option<char>; 4] = [None, Some(';'), Some('\t'), Some('|')];

/// Flags of `init` that describe an API.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write a pipeline for the API at this URL, from its first response
    #[arg(long, value_name = "URL")]
    pub(crate) from: Option<Url>,
    /// Header to send; a secret as env:VARIABLE or file:PATH, a text may precede it
    #[arg(long, value_name = "NAME=VALUE", requires = "from", value_parser = header)]
    header: Vec<(String, String)>,
    /// JSON pointer to the records, when they are not found; * stands for every member
    #[arg(long, value_name = "POINTER", requires = "from", value_parser = pointer)]
    records: Option<JsonPointer>,
    /// JSON pointer to the key in a record, when it is not found; several are the key together
    #[arg(long, value_name = "POINTER", requires = "from", value_parser = pointer)]
    key: Vec<JsonPointer>,
    /// JSON pointer to an array in a record: make a row of each of its elements
    #[arg(long, value_name = "POINTER", requires = "from", value_parser = pointer)]
    rows: Option<JsonPointer>,
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
    let request = SourceRequest { url: url.clone(), headers: args.header.clone(), allow_private: args.allow_private, delimiter: None };
    let said = Said { name: args.name.clone(), records: args.records.clone(), key: args.key.clone(), rows: args.rows.clone() };
    let (draft, mut notes) = block_on(async {
        let (request, first, body) = first_answer(&file, request).await?;
        let draft = Draft::new(request, &body, &said).map_err(|unknown| CliError::usage(unknown.message, unknown.help))?;
        let pipeline = parse(&file, draft.pipeline_text())?;
        let search = find_paging(&pipeline, fetcher_of(&pipeline), &first, &ReadParams::default(), ProcessClock.wall()).await;
        let draft = match search.found {
            Some(guess) => draft.with_paging(guess),
            None => draft,
        };
        Ok::<_, CliError>((draft, search.notes))
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

/// Requests the URL, before anything is known of its records. Returns the request with the
/// delimiter of CSV, the answer, and its body as one value.
async fn first_answer(file: &Path, request: SourceRequest) -> Result<(SourceRequest, FirstResponse, Value), CliError> {
    let mut usual = None;
    for delimiter in DELIMITERS {
        let request = SourceRequest { delimiter, ..request.clone() };
        let first = answer(file, &request).await?;
        let body = value_of(&first)?;
        // A header of one field, or rows that do not fit it, have another delimiter.
        let is_split = body.as_array().and_then(|rows| rows.first()?.as_object()).is_some_and(|row| row.len() > 1);
        if is_split || !first.has_rows {
            return Ok((request, first, body));
        }
        usual.get_or_insert((request, first, body));
    }
    Ok(usual.expect("there is at least one delimiter"))
}

async fn answer(file: &Path, request: &SourceRequest) -> Result<FirstResponse, CliError> {
    let mut text = format!(
        "[pipeline]\nname = \"init\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"init\"\n[producer]\nkey = \"/id\"\n[fetcher]\nurl = \
         {}\nallow_private = {}\n",
        quoted(request.url.as_str()),
        request.allow_private,
    );
    if let Some(delimiter) = request.delimiter {
        text.push_str(&format!("format = \"csv\"\ndelimiter = {}\n", quoted(&delimiter.to_string())));
    }
    text.push_str("[fetcher.headers]\n");
    request.headers.iter().for_each(|(name, value)| text.push_str(&format!("{} = {value}\n", quoted(name))));
    let pipeline = parse(file, text)?;
    first_response(&pipeline, fetcher_of(&pipeline), &ReadParams::default(), ProcessClock.wall())
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
        1 => match values.remove(0) {
            Value::Array(rows) if first.has_rows => Ok(Value::Array(with_types(rows))),
            value => Ok(value),
        },
        _ => Ok(Value::Array(values)),
    }
}
