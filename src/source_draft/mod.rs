//! A pipeline file for an API, drafted from its first response: `forebay init --from URL`.
//!
//! Guarantees:
//! * What is found, guessed and left out is said: in notes, and in comments of the file.
//! * A secret is written as a reference only.
//!
//! Does not guarantee that the file passes `check`; the caller checks it. All of this is pure.

mod columns;
mod paging;
mod records;

use std::fmt::Write as _;

use forebay_dataplane::transform::{InferredSchema, SchemaInference};
use forebay_schemas::json_pointer::JsonPointer;
use reqwest::Url;
use serde_json::{Value, json};

use columns::Column;
pub(crate) use paging::Guess;
use records::{FoundRecords, Shape};

/// How to request the API.
#[derive(Debug, Clone)]
pub(crate) struct SourceRequest {
    /// The URL.
    pub(crate) url: Url,
    /// The headers: names, and values in TOML.
    pub(crate) headers: Vec<(String, String)>,
    /// Whether its host may have a private address.
    pub(crate) allow_private: bool,
}

/// The records of an API, and what a pipeline for them needs.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    request: SourceRequest,
    /// The pipeline's name; also that of the topic and of the table.
    pub(crate) name: String,
    found: FoundRecords,
    key: JsonPointer,
    schema: Value,
    columns: Vec<Column>,
    /// How the API paginates, and why that is assumed.
    paging: Option<Guess>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// What can't be found in a response. The flag that says it is the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// What is unknown.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// What the user has said about the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// The pipeline's name.
    pub(crate) name: Option<String>,
    /// Where the records are.
    pub(crate) records: Option<JsonPointer>,
    /// Where the key is in a record.
    pub(crate) key: Option<JsonPointer>,
}

impl Draft {
    /// Drafts a pipeline for the API that sent `body`.
    ///
    /// # Errors
    /// When the response has no records, or no field that can be their key.
    pub(crate) fn new(request: SourceRequest, body: &Value, said: &Said) -> Result<Self, Unknown> {
        let found = find_records(body, said)?;
        let mut inference = SchemaInference::default();
        found.records.iter().for_each(|record| inference.add(record));
        let inferred = inference.schema().ok_or_else(|| Unknown {
            message: format!("the records at {:?} have no field that a schema can describe", found.pointer.to_string()),
            help: "name an array of objects with --records".to_owned(),
        })?;
        let InferredSchema { mut schema, left_out } = inferred;
        let count = found.records.len();
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["$comment"] = json!(format!("Inferred from {count} records; `forebay schema diff` compares it with those of today."));
        let (key, key_note) = find_key(&found, said)?;
        let (columns, arrays) = columns::of(&schema);
        let name = said.name.clone().unwrap_or_else(|| name_of(&request.url));
        let mut notes = vec![found_note(&found), key_note];
        notes.push(format!("{} columns, of a schema inferred from {count} records", columns.len()));
        notes.extend(left_out.iter().map(|left_out| format!("left out of the schema: {}: {}", left_out.field, left_out.reason)));
        notes.extend(arrays.iter().map(|field| format!("left out of the SQL: {field} is an array of objects; docs/SQL.md shows unnest")));
        Ok(Self { request, name, found, key, schema, columns, paging: None, notes })
    }

    /// The ways to page that the response hints at, the most certain first.
    pub(crate) fn paging_guesses(&self, body: &Value, links_next: bool) -> Vec<Guess> {
        paging::guesses(body, links_next, &self.request.url, (&self.found.pointer, self.found.records.len()))
    }

    /// The draft with this paging.
    pub(crate) fn with_paging(&self, guess: Guess) -> Self {
        Self { paging: Some(guess), ..self.clone() }
    }

    /// The name of the schema's file.
    pub(crate) fn schema_name(&self) -> String {
        format!("{}.schema.json", self.name)
    }

    /// The text of the schema's file.
    pub(crate) fn schema_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.schema).expect("a schema has text keys");
        text.push('\n');
        text
    }

    /// The text of the pipeline file.
    pub(crate) fn pipeline_text(&self) -> String {
        let Self { request, name, found, key, columns, .. } = self;
        let topic = format!("{name}_stream");
        let mut text = format!(
            "# A Forebay pipeline for {}, drafted by `forebay init --from`.\n# `forebay check` checks it, `forebay run` runs it; Kafka and \
             Cassandra are embedded until you set real ones.\n\n[pipeline]\nname = {}\n\n[kafka]\nbootstrap = \"embedded\"              # \
             real brokers: \"kafka-1:9092,kafka-2:9092\"\ntopic = {}\n\n[cassandra]\ncontact_points = \"embedded\"         # real nodes: \
             [\"cassandra-1:9042\"]\nkeyspace = \"forebay\"\ncreate = true\n\n[fetcher]\nurl = {}\n",
            self.api(),
            quoted(name),
            quoted(&topic),
            quoted(request.url.as_str()),
        );
        let pointer = quoted(&found.pointer.to_string());
        let records = match found.shape {
            Shape::Array => pointer,
            Shape::Columns => format!("{{ columns = {pointer} }}"),
            Shape::Object => format!("{{ object = {pointer} }}"),
        };
        add(&mut text, &format!("records = {records}"));
        if request.allow_private {
            add(&mut text, "allow_private = true");
        }
        add(&mut text, "# every = \"1m\"                      # without it, only when triggered: `forebay trigger`, Airflow");
        if !request.headers.is_empty() {
            add(&mut text, "\n[fetcher.headers]");
            request.headers.iter().for_each(|(name, value)| add(&mut text, &format!("{} = {value}", quoted(name))));
        }
        if let Some(Guess { toml, sign }) = &self.paging {
            add(&mut text, &format!("\n[fetcher.paging]                    # {sign}"));
            toml.iter().for_each(|line| add(&mut text, line));
        }
        let select: Vec<_> = columns.iter().map(|column| format!("  {}", column.sql())).collect();
        let primary_key = columns.iter().find(|column| column.field == *key).map(|column| column.name.clone()).unwrap_or_default();
        let uuids: Vec<_> = columns.iter().filter(|column| column.is_uuid).map(|column| format!("{} = \"uuid\"", column.name)).collect();
        let _ = write!(
            text,
            "\n[producer]\nkey = {}\n\n[consumer]\ngroup = {}\n\n[transformer]\nschema = {}\nsql = '''\nSELECT\n{}\nFROM \
             {topic}\n'''\n\n[writer]\ntable = {}\nprimary_key = [{}]\n",
            quoted(&key.to_string()),
            quoted(name),
            quoted(&self.schema_name()),
            select.join(",\n"),
            quoted(&topic),
            quoted(&primary_key),
        );
        if !uuids.is_empty() {
            add(&mut text, &format!("columns = {{ {} }}", uuids.join(", ")));
        }
        text
    }

    /// The URL without its query, which may have a secret.
    fn api(&self) -> String {
        let mut url = self.request.url.clone();
        url.set_query(None);
        url.to_string()
    }
}

/// A text as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn add(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn find_records(body: &Value, said: &Said) -> Result<FoundRecords, Unknown> {
    let nothing =
        |message: String| Unknown { message, help: "name the array of records with --records, such as --records /data/orders".to_owned() };
    let found = match &said.records {
        None => records::find(body).ok_or_else(|| nothing("the response has no array of objects, and is no object".to_owned()))?,
        Some(pointer) => {
            let at = body
                .pointer(&pointer.to_string())
                .ok_or_else(|| nothing(format!("the response has nothing at {:?}", pointer.to_string())))?;
            let mut found = records::find(at).ok_or_else(|| nothing(format!("there are no records at {:?}", pointer.to_string())))?;
            found.pointer = found.pointer.tokens().iter().fold(pointer.clone(), |all, token| all.child(token));
            found
        }
    };
    match found.records.is_empty() {
        true => Err(nothing(format!("the response has no records at {:?}", found.pointer.to_string()))),
        false => Ok(found),
    }
}

fn found_note(found: &FoundRecords) -> String {
    let count = found.records.len();
    let at = match found.pointer.is_root() {
        true => "the response itself".to_owned(),
        false => found.pointer.to_string(),
    };
    let others: Vec<_> = found.others.iter().map(|(pointer, length)| format!("{pointer} with {length}")).collect();
    let others = if others.is_empty() { String::new() } else { format!("; other arrays of objects: {}", others.join(", ")) };
    match found.shape {
        Shape::Array => format!("records: {at} has {count}{others}"),
        Shape::Columns => format!("records: {at} has columns of {count} values"),
        Shape::Object => format!("records: {at} is one"),
    }
}

fn find_key(found: &FoundRecords, said: &Said) -> Result<(JsonPointer, String), Unknown> {
    let count = found.records.len();
    let keys = records::keys(&found.records);
    if let Some(key) = &said.key {
        return match keys.contains(key) {
            true => Ok((key.clone(), format!("key: {key}"))),
            false => Err(Unknown {
                message: format!("{key} is not in each of the {count} records as a text or an integer of its own"),
                help: candidates(&keys),
            }),
        };
    }
    match keys.first() {
        Some(key) if records::is_named_as_key(key) => Ok((key.clone(), format!("key: {key}, a guess: its {count} values differ"))),
        _ => Err(Unknown { message: "no field of the records looks like their key".to_owned(), help: candidates(&keys) }),
    }
}

fn candidates(keys: &[JsonPointer]) -> String {
    let names: Vec<_> = keys.iter().take(5).map(|key| format!("--key {key}")).collect();
    match names.is_empty() {
        true => "no field differs in each record; name another --from URL or --records".to_owned(),
        false => format!("name it: {}", names.join(", or ")),
    }
}

/// A name for the records of a URL: the last part of its path that is a word, or the host.
fn name_of(url: &Url) -> String {
    let is_word = |part: &&str| {
        let version = part.starts_with('v') && part[1..].chars().all(|character| character.is_ascii_digit());
        part.starts_with(|first: char| first.is_ascii_alphabetic()) && !version && !["api", "index", "list", "search"].contains(part)
    };
    let path = url.path().trim_end_matches(".json").rsplit('/').find(is_word).map(str::to_owned);
    let host =
        || url.host_str().and_then(|host| host.trim_start_matches("www.").trim_start_matches("api.").split('.').next().map(str::to_owned));
    let name: String = path.or_else(host).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).take(40).collect();
    match name.starts_with(|first: char| first.is_ascii_lowercase()) {
        true => name,
        false => "records".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> SourceRequest {
        SourceRequest { url: url.parse().unwrap(), headers: Vec::new(), allow_private: false }
    }

    #[test]
    fn a_draft_of_orders_has_key_columns_and_paging() {
        let body = json!({
            "data": { "orders": [
                { "id": "7a0eed16-9430-4d68-901f-c0d4c1c3bf00", "total": 1.5, "customer": { "name": "A" }, "lines": [{ "sku": "x" }], "note": null },
                { "id": "8a0eed16-9430-4d68-901f-c0d4c1c3bf00", "total": 2, "customer": { "name": "B" }, "lines": [], "note": null },
            ] },
            "meta": { "next_cursor": "abc" },
        });
        let mut wanted = request("https://api.example.org/v2/orders?token=hidden");
        wanted.headers = vec![("Authorization".to_owned(), "{ prefix = \"Bearer \", env = \"TOKEN\" }".to_owned())];
        let draft = Draft::new(wanted, &body, &Said::default()).unwrap();
        let guess = draft.paging_guesses(&body, false).remove(0);
        let text = draft.with_paging(guess).pipeline_text();
        for line in [
            "name = \"orders\"",
            "topic = \"orders_stream\"",
            "records = \"/data/orders\"",
            "\"Authorization\" = { prefix = \"Bearer \", env = \"TOKEN\" }",
            "[fetcher.paging]                    # the response has /meta/next_cursor",
            "next = \"/meta/next_cursor\"",
            "key = \"/id\"",
            "  \"customer\"['name'] AS customer_name",
            "primary_key = [\"id\"]",
            "columns = { id = \"uuid\" }",
        ] {
            assert!(text.lines().any(|found| found.trim_end_matches(',') == line), "{line}\n{text}");
        }
        assert!(text.starts_with("# A Forebay pipeline for https://api.example.org/v2/orders, "), "{text}");
        assert_eq!(
            draft.notes,
            [
                "records: /data/orders has 2",
                "key: /id, a guess: its 2 values differ",
                "3 columns, of a schema inferred from 2 records",
                "left out of the schema: /note: it is null in every record; its type is unknown",
                "left out of the SQL: /lines is an array of objects; docs/SQL.md shows unnest",
            ]
        );
    }

    #[test]
    fn a_response_of_columns_is_keyed_by_its_time() {
        let body = json!({ "hourly": { "time": ["2026-11-30T00:00", "2026-11-30T01:00"], "temperature_2m": [1.5, 2.5] } });
        let draft = Draft::new(request("https://api.open-meteo.com/v1/forecast?latitude=47"), &body, &Said::default()).unwrap();
        let text = draft.pipeline_text();
        assert!(text.contains("records = { columns = \"/hourly\" }") && text.contains("key = \"/time\""), "{text}");
        assert_eq!(draft.name, "forecast");
    }

    #[test]
    fn without_a_likely_key_the_candidates_are_named() {
        let body = json!([{ "color": "red", "size": 1 }, { "color": "blue", "size": 1 }]);
        let unknown = Draft::new(request("http://a/"), &body, &Said::default()).unwrap_err();
        assert_eq!(unknown.help, "name it: --key /color");
        let said = Said { key: JsonPointer::parse("/color"), ..Said::default() };
        assert_eq!(Draft::new(request("http://a/"), &body, &said).unwrap().key.to_string(), "/color");
        let said = Said { key: JsonPointer::parse("/size"), ..Said::default() };
        let unknown = Draft::new(request("http://a/"), &body, &said).unwrap_err();
        assert!(unknown.message.starts_with("/size is not in each of the 2 records"), "{unknown:?}");
    }

    #[test]
    fn the_name_is_the_last_word_of_the_path_or_the_host() {
        for (url, name) in [
            ("https://api.example.org/v2/orders", "orders"),
            ("https://api.example.org/v2/orders/17", "orders"),
            ("https://api.example.org/users.json", "users"),
            ("https://randomuser.me/api/?results=5", "randomuser"),
            ("http://127.0.0.1:8000/", "records"),
            ("https://x.org/Order-Items", "order_items"),
        ] {
            assert_eq!(name_of(&url.parse().unwrap()), name, "{url}");
        }
    }
}
