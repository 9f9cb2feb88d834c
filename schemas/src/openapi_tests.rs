//! The OpenAPI file: generated from the table of routes and the types, and compared with the
//! checked-in one.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::json_integer::MAX_INTEGER;
use crate::routes::{Content, Kind, Param, ROUTES, Route};
use crate::run::run_params::MAX_EXACT;
use crate::run::{MAX_LABEL_CHARS, MAX_PARAM_CHARS, MAX_SPEC_ENTRIES, MAX_SPEC_NAME_CHARS, Problem};
use crate::{api, dead_letters, run, snapshot};

/// Joins the lines of the descriptions, which doc comments wrap.
pub(crate) fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| match value {
            Value::String(text) if key == "description" => {
                let paragraphs: Vec<String> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            value => join_lines(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

fn entries(of: &Value) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_SPEC_ENTRIES,
        "propertyNames": { "minLength": 1, "maxLength": MAX_SPEC_NAME_CHARS },
        "additionalProperties": of,
    })
}

/// The schema of `RunRequest.params`.
pub(crate) fn params(_: &mut SchemaGenerator) -> Schema {
    let text = json!({ "type": "string", "maxLength": MAX_PARAM_CHARS });
    let number = json!({ "type": "number", "minimum": -MAX_EXACT, "maximum": MAX_EXACT });
    entries(&json!({ "anyOf": [text, number, { "type": "boolean" }] }))
}

/// The schema of `RunRequest.labels`.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    entries(&json!({ "type": "string", "maxLength": MAX_LABEL_CHARS }))
}

fn by_partition(of: &Value) -> Schema {
    json_schema!({ "type": "object", "propertyNames": { "pattern": "^(0|[1-9][0-9]{0,4})$" }, "additionalProperties": of })
}

fn offset() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": MAX_INTEGER })
}

/// The schema of `ReplayFrom::Offsets`.
pub(crate) fn offsets(_: &mut SchemaGenerator) -> Schema {
    by_partition(&offset())
}

/// The schema of `PlanRequest::Redrive.letters`.
pub(crate) fn ranges(_: &mut SchemaGenerator) -> Schema {
    let range = json!({ "type": "object", "required": ["from", "to"], "properties": { "from": offset(), "to": offset() } });
    let mut schema = by_partition(&range);
    schema.insert("type".into(), json!(["object", "null"]));
    schema
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::Text(max) => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        Kind::Enum(words) => json!({ "type": "string", "enum": words }),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Uuid => json!({ "type": "string", "format": "uuid" }),
        Kind::Duration => json!({ "type": "string", "pattern": "^[0-9]{1,6}(ms|s|m)$" }),
    }
}

fn parameter(param: &Param, place: &str) -> Value {
    json!({ "name": param.name, "in": place, "required": place == "path", "description": param.what, "schema": schema_of(param.kind) })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(content: Content) -> Value {
    match content {
        Content::Json(name) => json!({ "application/json": { "schema": reference(name) } }),
        Content::AnyJson => json!({ "application/json": { "schema": { "type": "object" } } }),
        Content::Text => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Content::Events => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
    }
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for answer in route.answers {
        responses.insert(answer.status.to_string(), json!({ "description": answer.what, "content": content(answer.content) }));
    }
    let mut problems = route.all_problems();
    problems.sort_by_key(|problem| problem.status);
    for of_status in problems.chunk_by(|a, b| a.status == b.status) {
        let words: Vec<&str> = of_status.iter().map(|problem| problem.kind).collect();
        let what: Vec<String> = of_status.iter().map(|problem| format!("`{}`: {}", problem.kind, problem.title)).collect();
        let schema = json!({ "allOf": [reference("Problem"), { "properties": { "type": { "enum": words } } }] });
        responses.insert(
            of_status[0].status.to_string(),
            json!({ "description": what.join(" "), "content": { "application/problem+json": { "schema": schema } } }),
        );
    }
    responses.into()
}

fn operation(route: &Route) -> Value {
    let path = route.path_params.iter().map(|param| parameter(param, "path"));
    let query = route.query.iter().map(|param| parameter(param, "query"));
    let parameters: Vec<Value> = path.chain(query).collect();
    let role = route.role.map(|role| format!("{role:?}").to_lowercase());
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "description": role.as_ref().map_or_else(|| "Needs no token.".into(), |role| format!("Needs the role `{role}` if tokens are configured.")),
        "responses": responses(route),
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        operation["requestBody"] =
            json!({ "required": body.required, "content": { "application/json": { "schema": reference(body.schema) } } });
    }
    operation["security"] = if role.is_some() { json!([{}, { "token": [] }]) } else { json!([]) };
    operation
}

fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
        generator.subschema_for::<T>();
    }
    add::<run::Run>(&mut generator);
    add::<run::RunRequest>(&mut generator);
    add::<Problem>(&mut generator);
    add::<api::Runs>(&mut generator);
    add::<api::Cursors>(&mut generator);
    add::<api::Reason>(&mut generator);
    add::<api::Pipelines>(&mut generator);
    add::<api::StateRequest>(&mut generator);
    add::<api::PlanRequest>(&mut generator);
    add::<api::ChangePlan>(&mut generator);
    add::<api::ApplyRequest>(&mut generator);
    add::<api::Applied>(&mut generator);
    add::<api::Batches>(&mut generator);
    add::<api::BatchTrace>(&mut generator);
    add::<api::Topics>(&mut generator);
    add::<api::Actors>(&mut generator);
    add::<api::Records>(&mut generator);
    add::<dead_letters::DeadLetters>(&mut generator);
    add::<dead_letters::DeadLetterReasons>(&mut generator);
    add::<api::Logs>(&mut generator);
    add::<api::Alerts>(&mut generator);
    add::<api::Version>(&mut generator);
    add::<api::WhoAmI>(&mut generator);
    add::<snapshot::Snapshot>(&mut generator);
    let mut schemas = Value::from(generator.take_definitions(true));
    join_lines(&mut schemas);
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forebay",
            "description": "The control API of a pipeline: runs, its state, and its operation. Errors are RFC 9457 problems.",
            "version": "v1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } } },
    })
}

/// The checked-in OpenAPI file.
const FILE: &str = include_str!("../json/openapi.json");

#[test]
fn the_checked_in_openapi_file_matches_the_code() {
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/json/openapi.json"), &text).unwrap();
    } else {
        assert_eq!(FILE, text, "schemas/json/openapi.json is out of date; FOREBAY_WRITE_SCHEMAS=1 writes it");
    }
}

#[test]
fn every_reference_in_the_openapi_file_resolves() {
    let document = document();
    let text = document.to_string();
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn every_route_is_documented() {
    let text = include_str!("../../docs/API.md");
    for route in ROUTES {
        let role = route.role.map_or_else(|| "nobody".to_owned(), |role| format!("{role:?}").to_lowercase());
        let row = format!("| `{} {}` | {role} | {} |", route.method.name(), route.path, route.summary);
        assert!(text.contains(&row), "docs/API.md lacks the row\n{row}");
    }
}
