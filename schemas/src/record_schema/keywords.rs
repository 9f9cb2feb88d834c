//! The keywords of JSON Schema, by what becomes of them.

use serde_json::{Map, Value};

use crate::pipeline::nearest;

/// The formats that are enforced.
pub const FORMATS: &[&str] =
    &["date-time", "date-time-local", "date", "epoch-seconds", "epoch-millis", "epoch-micros", "epoch-nanos", "uuid"];
/// The formats that add nothing to the type that they are written beside.
const FORMATS_OF_TYPES: &[&str] = &["int64", "double"];

/// Keywords that are read.
const READ: &[&str] = &[
    super::times::CLOCK_CHANGE,
    super::times::TIMEZONE,
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "nullable",
    "oneOf",
    "properties",
    "required",
    "type",
];
/// Those of them that don't restrict the value by themselves.
const NOT_RESTRICTING: &[&str] = &["$ref", "additionalProperties", "nullable", super::times::CLOCK_CHANGE, super::times::TIMEZONE];
/// Keywords of JSON Schema that restrict the value, and that no record is checked for.
const NOT_ENFORCED: &[&str] = &[
    "additionalItems",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "maxItems",
    "maxProperties",
    "minContains",
    "minItems",
    "minProperties",
    "multipleOf",
    "not",
    "pattern",
    "patternProperties",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];
/// Keywords of JSON Schema and OpenAPI that say nothing about which records are valid.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "id",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

/// The largest number of changes that make one keyword of another.
const MAX_CHANGES: usize = 2;

/// What is written in a schema and not enforced.
pub(super) struct KeywordNote {
    pub(super) keyword: String,
    pub(super) what: String,
    pub(super) is_closed_object: bool,
}

/// The keywords of a schema that no record is checked for, whatever its type.
pub(super) fn notes(schema: &Map<String, Value>) -> Vec<KeywordNote> {
    let note = |(keyword, value): (&String, &Value)| {
        let is_closed_object = keyword == "additionalProperties" && *value == Value::Bool(false);
        let what = if is_closed_object {
            "`\"additionalProperties\": false` is not enforced: fields that the schema does not name are left out of the rows; `drift = \
             \"reject\"` in [transformer] makes such records dead letters"
                .to_owned()
        } else if [super::times::CLOCK_CHANGE, super::times::TIMEZONE].contains(&keyword.as_str()) {
            if schema.get("format").is_some_and(|format| format == "date-time-local") {
                return None;
            }
            format!("`{keyword}` is of times without a zone, and is ignored; write \"format\": \"date-time-local\" for those")
        } else if NOT_ENFORCED.contains(&keyword.as_str()) || keyword == "additionalProperties" && value.is_object() {
            not_enforced(keyword)
        } else {
            misspelled(keyword)?
        };
        Some(KeywordNote { keyword: keyword.clone(), what, is_closed_object })
    };
    schema.iter().filter_map(note).collect()
}

/// Says that a keyword is not enforced.
pub(super) fn not_enforced(keyword: &str) -> String {
    format!("`{keyword}` is not enforced: a record that violates it becomes a row; check it in the SQL's WHERE if it matters")
}

/// Says which keyword was meant by one that JSON Schema does not have.
fn misspelled(keyword: &str) -> Option<String> {
    let known = || READ.iter().chain(NOT_ENFORCED).copied();
    if known().chain(ANNOTATIONS.iter().copied()).any(|name| name == keyword) {
        return None;
    }
    let near = nearest(keyword, known()).filter(|near| near.len() >= 2 * MAX_CHANGES)?;
    let changes = if near.len() > 2 * MAX_CHANGES { MAX_CHANGES } else { 1 };
    let is_near = strsim::damerau_levenshtein(keyword, near) <= changes;
    is_near.then(|| format!("`{keyword}` is no keyword of JSON Schema, and is ignored; did you mean `{near}`?"))
}

/// Says that a format is not enforced; `None` when it says no more than the type.
pub(super) fn format_note(format: &str) -> Option<String> {
    if FORMATS_OF_TYPES.contains(&format) {
        return None;
    }
    let near = nearest(format, FORMATS.iter().copied()).filter(|near| strsim::damerau_levenshtein(format, near) <= MAX_CHANGES);
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Some(format!("the format {format:?} is not enforced; enforced are {}{near}", FORMATS.join(", ")))
}

/// The keywords that are read and restrict the value.
pub(super) fn restrictions(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    schema.keys().map(String::as_str).filter(|keyword| READ.contains(keyword) && !NOT_RESTRICTING.contains(keyword))
}
