//! A pipeline file for an API, drafted from its first response: `forebay init --from URL`.
//!
//! Guarantees:
//! * What is found, guessed and left out is said: in notes, and in comments of the file.
//! * A secret is written as a reference only.
//!
//! Does not guarantee that the file passes `check`; the caller checks it. All of this is pure.

mod columns;
mod csv_types;
mod records;

use std::collections::HashSet;
use std::fmt::Write as _;

use forebay_actors::pipeline::PagingGuess;

use forebay_dataplane::transform::{InferredSchema, SchemaInference};
use forebay_schemas::json_pointer::JsonPointer;
use reqwest::Url;
use serde_json::{Value, json};

use columns::{Column, Elements};
pub(crate) use csv_types::with_types;
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
    /// What separates the fields of CSV, if not a comma.
    pub(crate) delimiter: Option<char>,
}

/// The records of an API, and what a pipeline for them needs.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    request: SourceRequest,
    /// The pipeline's name; also that of the topic and of the table.
    pub(crate) name: String,
    found: FoundRecords,
    /// The field that is the key, or several that are the key together.
    key: Vec<JsonPointer>,
    schema: Value,
    columns: Vec<Column>,
    /// The array whose elements are the rows.
    elements: Option<Elements>,
    /// How the API paginates, and why that is assumed.
    paging: Option<PagingGuess>,
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
    /// Where the key is in a record; several fields are the key together.
    pub(crate) key: Vec<JsonPointer>,
    /// The array in a record whose elements are the rows.
    pub(crate) rows: Option<JsonPointer>,
}

impl Draft {
    /// Drafts a pipeline for the API that sent `body`.
    ///
    /// # Errors
    /// When the response has no records, or no field that can be their key.
    pub(crate) fn new(request: SourceRequest, body: &Value, said: &Said) -> Result<Self, Unknown> {
        let word = word_of(&request.url);
        let found = find_records(body, said, word.as_deref())?;
        let mut inference = SchemaInference::default();
        found.records.iter().for_each(|record| inference.add(record));
        let inferred = inference.schema().ok_or_else(|| Unknown {
            message: format!("the records at {:?} have no field that a schema can describe", found.pointer.to_string()),
            help: "name an array of objects with --records".to_owned(),
        })?;
        let InferredSchema { mut schema, left_out, as_text } = inferred;
        let count = found.records.len();
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["$comment"] = json!(format!("Inferred from {}; `forebay schema diff` compares it with those of today.", records(count)));
        let (key, key_note) = find_key(&found, said, word.as_deref())?;
        let mut names = HashSet::new();
        let (mut columns, mut arrays) = columns::of(&schema, &mut names);
        let mut decimals = with_decimals(&mut columns, &found.records, &key);
        let mut notes = vec![found_note(&found), key_note];
        let elements = match &said.rows {
            None => None,
            Some(field) => {
                let values = elements_in(&found, field);
                let (mut elements, further, note) = elements_of(&schema, field, &values, &mut names)?;
                decimals.extend(with_decimals(&mut elements.columns, &values.concat(), &[]));
                arrays.retain(|array| array != field);
                arrays.extend(further.iter().map(|inner| inner.tokens().iter().fold(field.child("*"), |all, token| all.child(token))));
                notes.push(note);
                Some(elements)
            }
        };
        let all = columns.len() + elements.as_ref().map_or(0, |elements| elements.columns.len());
        notes.push(format!("{all} column{}, of a schema inferred from {}", if all == 1 { "" } else { "s" }, records(count)));
        if !decimals.is_empty() {
            notes.push(format!("decimal, because each value is a number with a fraction in a text: {}", decimals.join(", ")));
        }
        let times = times_without_zone(&columns, &found.records);
        if !times.is_empty() {
            notes.push(format!(
                "text, because it is a time without a zone: {}; \"format\": \"date-time-local\" in the schema makes it a time",
                times.join(", ")
            ));
        }
        notes.extend(as_text.iter().map(|note| format!("text: {}: {}", note.field, note.reason)));
        notes.extend(left_out.iter().map(|left_out| format!("left out of the schema: {}: {}", left_out.field, left_out.reason)));
        notes.extend(arrays.iter().map(|field| {
            let remedy = match (field.tokens().iter().any(|token| token == "*"), said.rows.is_some()) {
                (false, false) => format!("`--rows {field}` makes a row of each element"),
                _ => "docs/SQL.md shows unnest".to_owned(),
            };
            format!("left out of the SQL: {field} is an array of objects; {remedy}")
        }));
        let of_rows = said.rows.iter().flat_map(JsonPointer::tokens).map(|name| columns::snake_case(name));
        let name = said.name.clone().unwrap_or_else(|| [name_of(&request.url)].into_iter().chain(of_rows).collect::<Vec<_>>().join("_"));
        Ok(Self { request, name, found, key, schema, columns, elements, paging: None, notes })
    }

    /// The draft with this paging.
    pub(crate) fn with_paging(self, guess: PagingGuess) -> Self {
        Self { paging: Some(guess), ..self }
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
        let Self { request, name, found, key, .. } = self;
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
        if let Some(delimiter) = request.delimiter {
            add(&mut text, &format!("format = \"csv\"\ndelimiter = {}", quoted(&delimiter.to_string())));
        }
        if request.allow_private {
            add(&mut text, "allow_private = true");
        }
        add(&mut text, "# every = \"1m\"                      # without it, only when triggered: `forebay trigger`, Airflow");
        if !request.headers.is_empty() {
            add(&mut text, "\n[fetcher.headers]");
            request.headers.iter().for_each(|(name, value)| add(&mut text, &format!("{} = {value}", quoted(name))));
        }
        if let Some(PagingGuess { lines, sign, .. }) = &self.paging {
            add(&mut text, &format!("\n[fetcher.paging]                    # {sign}"));
            lines.iter().for_each(|line| add(&mut text, line));
        }
        let primary_key: Vec<_> = self.primary_key().into_iter().map(quoted).collect();
        let types: Vec<_> = self.all_columns().filter_map(|column| Some(format!("{} = \"{}\"", column.name, column.cql?))).collect();
        let _ = write!(
            text,
            "\n[producer]\nkey = {}\n\n[consumer]\ngroup = {}\n\n[transformer]\nschema = {}\nsql = '''\n{}\n'''\n\n[writer]\ntable = \
             {}\nprimary_key = [{}]\n",
            quoted(&key.first().map(ToString::to_string).unwrap_or_default()),
            quoted(name),
            quoted(&self.schema_name()),
            self.sql(&topic),
            quoted(&topic),
            primary_key.join(", "),
        );
        if !types.is_empty() {
            add(&mut text, &format!("columns = {{ {} }}", types.join(", ")));
        }
        text
    }

    /// The SELECT from the topic.
    fn sql(&self, topic: &str) -> String {
        let lines = |indent: &str, lines: Vec<String>| lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join(",\n");
        let own: Vec<_> = self.columns.iter().map(Column::sql).collect();
        let Some(elements) = &self.elements else { return format!("SELECT\n{}\nFROM {topic}", lines("  ", own)) };
        let outer = self.columns.iter().map(|column| format!("\"{}\"", column.name));
        let outer = outer.chain(elements.columns.iter().map(|column| column.sql_of(&elements.row))).collect();
        let inner = own.into_iter().chain([elements.unnest_sql()]).collect();
        format!("SELECT\n{}\nFROM (\n  SELECT\n{}\n  FROM {topic}\n) AS records", lines("  ", outer), lines("    ", inner))
    }

    /// The columns of the table.
    fn all_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().chain(self.elements.iter().flat_map(|elements| &elements.columns))
    }

    /// The names of the columns of the primary key.
    fn primary_key(&self) -> Vec<&str> {
        let of_record = self.key.iter().filter_map(|key| self.columns.iter().find(|column| column.field == *key));
        let of_element = self.elements.iter().filter_map(|elements| elements.columns.get(elements.key));
        of_record.chain(of_element).map(|column| column.name.as_str()).collect()
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

/// How many records, in words.
fn records(count: usize) -> String {
    format!("{count} record{}", if count == 1 { "" } else { "s" })
}

fn find_records(body: &Value, said: &Said, word: Option<&str>) -> Result<FoundRecords, Unknown> {
    let nothing =
        |message: String| Unknown { message, help: "name the array of records with --records, such as --records /data/orders".to_owned() };
    let found = match &said.records {
        None => records::find(body, word).ok_or_else(|| nothing("the response has no array of objects, and is no object".to_owned()))?,
        Some(pointer) => {
            records::find_at(body, pointer).ok_or_else(|| nothing(format!("the response has no records at {:?}", pointer.to_string())))?
        }
    };
    if said.records.is_none()
        && found.shape == Shape::Object
        && let Some(empty) = records::empty_array(body, word)
    {
        return Err(no_records(&empty));
    }
    match found.records.is_empty() {
        true => Err(nothing(format!("the response has no records at {:?}", found.pointer.to_string()))),
        false => Ok(found),
    }
}

/// That an API has no records now.
fn no_records(at: &JsonPointer) -> Unknown {
    let at = if at.is_root() { "the response is an empty array".to_owned() } else { format!("the array {at} is empty") };
    Unknown {
        message: format!("the API has no records now: {at}"),
        help: "a schema takes records: request a URL that has some, such as another page or period; or name others with --records"
            .to_owned(),
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

fn find_key(found: &FoundRecords, said: &Said, word: Option<&str>) -> Result<(Vec<JsonPointer>, String), Unknown> {
    let all = records(found.records.len());
    let keys = records::keys(&found.records, word);
    if !said.key.is_empty() {
        let named: Vec<_> = said.key.iter().map(ToString::to_string).collect();
        let named = named.join(" and ");
        return match records::differ(&found.records, &said.key.iter().collect::<Vec<_>>()) {
            true => Ok((said.key.clone(), format!("key: {named}"))),
            false => Err(Unknown {
                message: format!("{named}: not in each of the {all} as a text or an integer of its own"),
                help: candidates(found, &keys),
            }),
        };
    }
    match keys.first() {
        Some(key) if records::is_named_as_key(key) => {
            let why = if found.records.len() == 1 {
                "by its name; there is one record".to_owned()
            } else {
                format!("its {} values differ", found.records.len())
            };
            Ok((vec![key.clone()], format!("key: {key}, a guess: {why}")))
        }
        _ => Err(Unknown { message: "no field of the records looks like their key".to_owned(), help: candidates(found, &keys) }),
    }
}

/// The fields that can be the key.
fn candidates(found: &FoundRecords, keys: &[JsonPointer]) -> String {
    let names: Vec<_> = keys.iter().take(5).map(|key| format!("--key {key}")).collect();
    if !names.is_empty() {
        return format!("name it: {}", names.join(", or "));
    }
    match records::combined_key(&found.records) {
        Some([first, second]) => format!("two together differ in each record: --key {first} --key {second}"),
        None => "no field differs in each record; name another --from URL or --records".to_owned(),
    }
}

/// The elements of an array in each record that has it.
fn elements_in<'r>(found: &'r FoundRecords, field: &JsonPointer) -> Vec<&'r [Value]> {
    let in_record = |record: &'r Value| Some(record.pointer(&field.to_string())?.as_array()?.as_slice());
    found.records.iter().filter_map(in_record).collect()
}

/// The columns of the elements of an array in the records, its inner arrays of objects, and what
/// was found.
fn elements_of(
    schema: &Value,
    field: &JsonPointer,
    arrays: &[&[Value]],
    names: &mut HashSet<String>,
) -> Result<(Elements, Vec<JsonPointer>, String), Unknown> {
    let of_array = field.tokens().iter().fold(schema, |schema, name| &schema["properties"][name.as_str()]);
    let (columns, inner) = columns::of_part(&of_array["items"], field, names);
    if columns.is_empty() {
        let flags: Vec<_> = columns::of(schema, &mut HashSet::new()).1.iter().map(|array| format!("--rows {array}")).collect();
        let help = if flags.is_empty() { "leave --rows out".to_owned() } else { format!("name one: {}", flags.join(", or ")) };
        return Err(Unknown { message: format!("the records have no array of objects at {:?}", field.to_string()), help });
    }
    let differs = |column: &Column| arrays.iter().all(|elements| records::differ(elements, &[&column.field]));
    let mut keys: Vec<usize> = (0..columns.len()).filter(|&at| differs(&columns[at])).collect();
    keys.sort_by_key(|&at| records::name_rank(&columns[at].field, field.tokens().last().map(String::as_str)));
    let Some(&key) = keys.first() else {
        return Err(Unknown {
            message: format!("no field differs in each element of {field} of a record, and so none can be in the primary key of a row"),
            help: "leave --rows out, and write the SQL by hand: docs/SQL.md shows unnest".to_owned(),
        });
    };
    let row = columns::unique("element", names);
    let note = format!(
        "rows: one for each of the {} elements of {field}; key in a record: {}, a guess: its values differ; a record without elements has no row",
        arrays.iter().map(|elements| elements.len()).sum::<usize>(),
        columns[key].field
    );
    Ok((Elements { field: field.clone(), row, columns, key }, inner, note))
}

/// Makes decimals of the columns of text whose values are all numbers with a fraction, as money is
/// often written. Returns their names.
fn with_decimals(columns: &mut [Column], records: &[Value], key: &[JsonPointer]) -> Vec<String> {
    let is_decimal = |text: &str| {
        let (whole, fraction) = text.strip_prefix('-').unwrap_or(text).split_once('.').unwrap_or_default();
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0')) && whole.len() + fraction.len() <= 30
    };
    let mut names = Vec::new();
    for column in columns.iter_mut().filter(|column| column.cql.is_none() && !key.contains(&column.field)) {
        if texts(column, records).is_some_and(|texts| texts.iter().all(|text| is_decimal(text))) {
            column.cql = Some("decimal");
            names.push(column.name.clone());
        }
    }
    names
}

/// The columns of text whose values are all a date and a time without a zone.
fn times_without_zone(columns: &[Column], records: &[Value]) -> Vec<String> {
    let is_time = |text: &str| {
        let shape: String = text.chars().take(16).map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
        let rest = text.get(16..).unwrap_or_default();
        matches!(shape.as_str(), "0000-00-00T00:00" | "0000-00-00 00:00")
            && rest.chars().all(|letter| letter.is_ascii_digit() || ":.".contains(letter))
    };
    let are_times = |column: &&Column| texts(column, records).is_some_and(|texts| texts.iter().all(|text| is_time(text)));
    columns.iter().filter(are_times).map(|column| column.name.clone()).collect()
}

/// The values of a column that are not null, if there are any and all are texts.
fn texts<'r>(column: &Column, records: &'r [Value]) -> Option<Vec<&'r str>> {
    let values = records.iter().filter_map(|record| record.pointer(&column.field.to_string())).filter(|value| !value.is_null());
    values.map(Value::as_str).collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
}

/// The last word of the path of a URL: what its records are.
fn word_of(url: &Url) -> Option<String> {
    let is_word = |part: &&str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphabetic() || "-_".contains(letter));
    url.path().trim_end_matches(".json").rsplit('/').find(is_word).map(str::to_owned)
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
        SourceRequest { url: url.parse().unwrap(), headers: Vec::new(), allow_private: false, delimiter: None }
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
        let lines = ["kind = \"cursor\"", "next = \"/meta/next_cursor\"", "param = \"cursor\""].map(str::to_owned).to_vec();
        let guess = PagingGuess { lines, sign: "the response has /meta/next_cursor".to_owned(), is_trial: false };
        let text = draft.clone().with_paging(guess).pipeline_text();
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
                "left out of the SQL: /lines is an array of objects; `--rows /lines` makes a row of each element",
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
        let said = Said { key: JsonPointer::parse("/color").into_iter().collect(), ..Said::default() };
        assert_eq!(Draft::new(request("http://a/"), &body, &said).unwrap().key[0].to_string(), "/color");
        let said = Said { key: JsonPointer::parse("/size").into_iter().collect(), ..Said::default() };
        let unknown = Draft::new(request("http://a/"), &body, &said).unwrap_err();
        assert!(unknown.message.starts_with("/size: not in each of the 2 records"), "{unknown:?}");
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

    #[test]
    fn the_elements_of_an_array_become_rows_with_the_fields_of_their_record() {
        let body = json!([
            { "orderId": "a", "element": 1, "lines": [{ "sku": "x", "qty": 1 }, { "sku": "y", "qty": 1, "tags": [{ "k": "v" }] }] },
            { "orderId": "b", "element": 2, "lines": [] },
        ]);
        let said = Said { rows: JsonPointer::parse("/lines"), ..Said::default() };
        let draft = Draft::new(request("http://a/orders"), &body, &said).unwrap();
        let text = draft.pipeline_text();
        for line in [
            "  \"element\",",
            "  \"element_2\"['sku'] AS lines_sku,",
            "  \"element_2\"['qty'] AS lines_qty",
            "    unnest(\"lines\") AS element_2",
            "primary_key = [\"order_id\", \"lines_sku\"]",
            "topic = \"orders_lines_stream\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let note = "rows: one for each of the 2 elements of /lines; key in a record: /sku, a guess: its values differ; a record without \
                    elements has no row";
        assert!(draft.notes.iter().any(|found| found == note), "{:?}", draft.notes);
        let none = Said { rows: JsonPointer::parse("/tags"), ..Said::default() };
        let unknown = Draft::new(request("http://a/orders"), &body, &none).unwrap_err();
        assert_eq!(unknown.help, "name one: --rows /lines");
        let same = json!([{ "id": 1, "lines": [{ "sku": "x" }, { "sku": "x" }] }]);
        assert!(Draft::new(request("http://a/orders"), &same, &said).unwrap_err().message.starts_with("no field differs in each element"));
    }

    #[test]
    fn money_in_texts_is_decimal_and_a_time_without_a_zone_is_text() {
        let body = json!([
            { "id": 1, "amount": "12.00", "version": "1.0.3", "zip": "01.5", "at": "2026-11-30 10:00:00", "on": "30.11.2026" },
            { "id": 2, "amount": null, "version": "2.0", "zip": "02.5", "at": "2026-11-30 11:00:00", "on": "1.12.2026" },
        ]);
        let draft = Draft::new(request("http://a/orders"), &body, &Said::default()).unwrap();
        assert!(draft.pipeline_text().contains("columns = { amount = \"decimal\" }"), "{}", draft.pipeline_text());
        assert_eq!(draft.notes[3], "decimal, because each value is a number with a fraction in a text: amount");
        assert_eq!(
            draft.notes[4],
            "text, because it is a time without a zone: at; \"format\": \"date-time-local\" in the schema makes it a time"
        );
    }

    #[test]
    fn two_fields_together_may_be_the_key_and_an_empty_answer_says_so() {
        let body =
            json!([{ "ts": "2026-11-30", "sensor": "a" }, { "ts": "2026-11-30", "sensor": "b" }, { "ts": "2026-12-01", "sensor": "a" }]);
        let unknown = Draft::new(request("http://a/"), &body, &Said::default()).unwrap_err();
        assert_eq!(unknown.help, "two together differ in each record: --key /sensor --key /ts");
        let key = ["/sensor", "/ts"].iter().filter_map(|key| JsonPointer::parse(key)).collect();
        let draft = Draft::new(request("http://a/"), &body, &Said { key, ..Said::default() }).unwrap();
        assert!(draft.pipeline_text().contains("primary_key = [\"sensor\", \"ts\"]"));
        let unknown = Draft::new(request("http://a/orders"), &json!({ "orders": [], "total": 0 }), &Said::default()).unwrap_err();
        assert_eq!(unknown.message, "the API has no records now: the array /orders is empty");
    }
}
