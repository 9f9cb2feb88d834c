//! `forebay schema`: infers the JSON Schema of records, or compares records with the pipeline's
//! schema.

use std::fs::File;
use std::io::{BufReader, Read, stdin};
use std::path::{Path, PathBuf};

use forebay_actors::ProcessClock;
use forebay_actors::pipeline::first_page;
use forebay_dataplane::transform::{FieldNote, InferredSchema, SchemaDifference, SchemaInference, schema_diff};
use forebay_kernel::Clock as _;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::record_schema::RecordSchema;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::global::{Global, load_pipeline};
use crate::output::Output;
use crate::runtime::block_on;

/// The maximum size of a file of records, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Subcommands of `schema`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay schema infer orders.ndjson > orders.schema.json
  forebay schema infer                    the first page of the pipeline's API
  forebay schema diff                     what differs between that page and the schema")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print a JSON Schema that fits records
    #[command(after_help = "\
Without a FILE, the records are those of the first page of the pipeline's API. A file has JSON \
values one after the other: records, arrays of records, or responses with --records. Fields that \
a schema can't describe are left out, and those of several types are text, with the reason on \
stderr.

Examples:
  forebay schema infer > orders.schema.json
  forebay schema infer orders.ndjson
  curl -s https://api.example.org/orders | forebay schema infer - --records /data/orders
  forebay schema infer --json | jq .left_out")]
    Infer(From),
    /// Show what differs between records and the pipeline's schema
    #[command(after_help = "\
Exits with 1 when a difference makes records dead letters.

Examples:
  forebay schema diff                     the first page of the API
  forebay schema diff orders.ndjson
  forebay schema diff --json | jq '.differences[] | select(.problem)'")]
    Diff(From),
}

/// Where the records are.
#[derive(clap::Args)]
struct From {
    /// Files of records; - reads stdin. Default: the first page of the pipeline's API
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// JSON pointer to the records in each value of a file
    #[arg(long, value_name = "POINTER", default_value = "", requires = "files")]
    records: String,
    /// Maximum number of records to read from files
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    limit: u64,
}

/// Records that were read.
struct Sample {
    inference: SchemaInference,
    /// Where they are from, for a sentence.
    source: String,
    /// Whether there are more.
    cut: bool,
}

/// Runs the command.
pub(crate) fn schema(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    match &args.command {
        Command::Infer(from) => infer(output, &from.sample(global)?),
        Command::Diff(from) => {
            let pipeline = load_pipeline(global)?;
            let schema = schema_of(&pipeline)?;
            diff(output, &schema, &from.sample(global)?)
        }
    }
}

fn infer(output: &Output, sample: &Sample) -> Result<(), CliError> {
    let InferredSchema { mut schema, left_out, as_text } = sample.inference.schema().ok_or_else(|| sample.nothing())?;
    let said = sample.said();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$comment".to_owned(), json!(format!("Inferred from {said}.")));
    }
    if output.json() {
        let (records, not_objects) = (sample.inference.records(), sample.inference.not_objects());
        let notes = |notes: &[FieldNote]| -> Value {
            notes.iter().map(|FieldNote { field, reason }| json!({ "field": field, "reason": reason })).collect()
        };
        let (left_out, as_text) = (notes(&left_out), notes(&as_text));
        output.print_json(
            &json!({ "schema": schema, "records": records, "not_objects": not_objects, "cut": sample.cut, "left_out": left_out, "as_text": as_text }),
        );
        return Ok(());
    }
    output.print_object(&schema);
    output.message(&format!("inferred from {said}"));
    as_text.iter().for_each(|FieldNote { field, reason }| output.message(&format!("   text: {field}: {reason}")));
    left_out.iter().for_each(|FieldNote { field, reason }| output.message(&format!("   left out: {field}: {reason}")));
    Ok(())
}

fn diff(output: &Output, schema: &RecordSchema, sample: &Sample) -> Result<(), CliError> {
    let differences = schema_diff(schema, &sample.inference);
    if sample.inference.records() == 0 {
        return Err(sample.nothing());
    }
    let problems = differences.iter().filter(|difference| difference.problem).count();
    if output.json() {
        let records = sample.inference.records();
        let as_json =
            |SchemaDifference { field, problem, what }: &SchemaDifference| json!({ "field": field, "problem": problem, "what": what });
        let differences: Vec<_> = differences.iter().map(as_json).collect();
        output.print_json(&json!({ "records": records, "cut": sample.cut, "problems": problems, "differences": differences }));
    } else {
        for SchemaDifference { field, problem, what } in &differences {
            let (mark, field) = (if *problem { "!" } else { "?" }, if field.is_empty() { "a record" } else { field });
            output.print(&format!("{mark} {field} {what}"));
        }
        output.message(&format!("compared with {}: {problems} problems, {} notes", sample.said(), differences.len() - problems));
    }
    match problems {
        0 => Ok(()),
        _ if output.json() => Err(CliError::silent(1)),
        _ => Err(CliError::failed(
            "records do not fit the schema, and would be dead letters",
            "correct the schema; `forebay schema infer` prints one that fits",
        )),
    }
}

/// The schema of a pipeline.
fn schema_of(pipeline: &Pipeline) -> Result<RecordSchema, CliError> {
    let Some(transformer) = &pipeline.transformer else {
        return Err(CliError::usage("the pipeline has no [transformer], and so no schema", "infer one with `forebay schema infer`"));
    };
    Ok(RecordSchema::of(pipeline, transformer)?)
}

impl From {
    fn sample(&self, global: &Global) -> Result<Sample, CliError> {
        let mut sample = Sample { inference: SchemaInference::default(), source: String::new(), cut: false };
        if self.files.is_empty() {
            sample.add_first_page(&load_pipeline(global)?)?;
            return Ok(sample);
        }
        for path in &self.files {
            sample.source = path.display().to_string();
            match path.as_os_str() == "-" {
                true => sample.add_values(stdin().lock(), self)?,
                false => sample.add_values(File::open(path).map_err(|error| unreadable(path, &error))?, self)?,
            }
        }
        if self.files.len() > 1 {
            sample.source = format!("{} files", self.files.len());
        }
        Ok(sample)
    }
}

impl Sample {
    fn add_first_page(&mut self, pipeline: &Pipeline) -> Result<(), CliError> {
        let Some(fetcher) = &pipeline.fetcher else {
            return Err(CliError::usage("the pipeline has no [fetcher], and so no API", "name a FILE of records"));
        };
        self.source = format!("the first page of {}", fetcher.url);
        let page = block_on(first_page(pipeline, fetcher, ProcessClock.wall()));
        let records = page.map_err(|error| CliError::environment(error.to_string(), "`forebay doctor` shows what the API answers"))?;
        for record in &records {
            let record: Value = serde_json::from_slice(record).map_err(|error| {
                CliError::failed(
                    format!("a record of {} is not JSON: {error}", fetcher.url),
                    "correct the API; such records are dead letters",
                )
            })?;
            self.inference.add(&record);
        }
        Ok(())
    }

    fn add_values(&mut self, file: impl Read, from: &From) -> Result<(), CliError> {
        let reader = BufReader::new(file.take(MAX_FILE_BYTES));
        for (number, value) in (1_u64..).zip(serde_json::Deserializer::from_reader(reader).into_iter::<Value>()) {
            let source = &self.source;
            let value = value.map_err(|error| {
                let remedy =
                    format!("correct the file; it may have JSON values of {} MiB together, one after the other", MAX_FILE_BYTES >> 20);
                CliError::usage(format!("{source}, value {number}: {error}"), remedy)
            })?;
            let records = value.pointer(&from.records).ok_or_else(|| {
                let remedy = "name the records with --records, such as --records /data";
                CliError::usage(format!("{source}, value {number} has nothing at {:?}", from.records), remedy)
            })?;
            let records = records.as_array().map_or(std::slice::from_ref(records), Vec::as_slice);
            for record in records {
                if self.inference.records() == from.limit {
                    self.cut = true;
                    return Ok(());
                }
                self.inference.add(record);
            }
        }
        Ok(())
    }

    /// How many records these are, and where they are from.
    fn said(&self) -> String {
        let Self { inference, source, cut } = self;
        let (records, not_objects) = (inference.records(), inference.not_objects());
        let more = if *cut { "; there are more" } else { "" };
        let others = if not_objects > 0 { format!("; {not_objects} of them are no objects") } else { String::new() };
        format!("{records} records of {source}{more}{others}")
    }

    /// The error when there is nothing to describe.
    fn nothing(&self) -> CliError {
        let message = match self.inference.records() {
            0 => format!("{} has no records", self.source),
            _ => format!("{} has no field that a schema can describe", self.said()),
        };
        CliError::failed(message, "name a FILE with records that are JSON objects, or correct --records")
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::usage(format!("can't read {}: {error}", path.display()), "name a file that exists and can be read")
}
