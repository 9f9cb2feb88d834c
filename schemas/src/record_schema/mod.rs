//! The JSON Schema of one record, as far as Forebay enforces it.
//!
//! Guarantees:
//! * Everything that a schema file requires is either enforced on every record, or an error with
//!   the JSON pointer of its location.
//! * Enforced are `type`, `properties`, `required`, `items` and the formats `date-time`, `date` and
//!   `uuid`.
//! * Fields that the schema does not name are ignored, as in JSON Schema.
//!
//! Does not support the whole of JSON Schema.

mod json_span;

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::json_pointer::JsonPointer;
use crate::pipeline::{FileError, FileText, Pipeline, TransformerSection, nearest};
use json_span::{line_column, locate};

/// Columns that Forebay adds to each record. No field may have such a name.
pub const RESERVED_FIELDS: &[&str] = &["_timestamp", "_offset", "_partition", "_key", "_headers", "_row"];

/// How deep objects and arrays may nest in a schema.
pub const MAX_DEPTH: usize = 32;

/// Keywords that don't affect which records are valid.
const ANNOTATIONS: &[&str] = &["$schema", "$id", "$comment", "title", "description", "examples", "default"];
/// Enforced keywords.
const ENFORCED: &[&str] = &["type", "properties", "required", "items", "format", "additionalProperties"];
const FORMATS: &[&str] = &["date-time", "date", "uuid"];

/// The schema of a record: an object with these fields, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSchema {
    /// The fields.
    pub fields: Vec<Field>,
}

/// A field of a record, or of an object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, as in the record.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Whether it may be absent: it is not in `required`. An absent field reads as NULL.
    pub optional: bool,
    /// Whether it may be `null`.
    pub null: bool,
    /// Its `description`, else its `title`.
    pub doc: Option<String>,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number without a fraction, from -2^63 to 2^63 - 1.
    Int64,
    /// A number.
    Float64,
    /// Text.
    Text,
    /// Text, or an integer that is read as text: `["integer", "string"]`.
    TextOrInteger,
    /// A UUID (RFC 9562); text in SQL.
    Uuid,
    /// A timestamp (RFC 3339), truncated to microseconds in SQL.
    Timestamp,
    /// A date (RFC 3339 full-date).
    Date,
    /// An object with these fields.
    Object(Vec<Field>),
    /// An array.
    Array(Box<Item>),
}

/// The items of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its type.
    pub kind: Kind,
    /// Whether it may be `null`.
    pub null: bool,
}

impl Field {
    /// Whether the field reads as NULL in some valid record.
    pub fn nullable(&self) -> bool {
        self.optional || self.null
    }
}

impl Kind {
    /// The type in words, for a sentence such as "must be an integer".
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int64 => "an integer of 64 bits",
            Self::Float64 => "a number",
            Self::Text => "text",
            Self::TextOrInteger => "text or an integer",
            Self::Uuid => "a UUID such as \"7a0eed16-9430-4d68-901f-c0d4c1c3bf00\"",
            Self::Timestamp => "a date-time such as \"1992-03-08T15:13:16.688Z\"",
            Self::Date => "a date such as \"1992-03-08\"",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
        }
    }
}

/// An error in a schema, before its location in the text is known.
struct SchemaError {
    pointer: JsonPointer,
    message: String,
    help: String,
}

impl RecordSchema {
    /// Reads the schema that `[transformer]` of a pipeline file names.
    ///
    /// # Errors
    /// When the file can't be read, or as [`RecordSchema::parse`].
    pub fn of(pipeline: &Pipeline, transformer: &TransformerSection) -> Result<Self, FileError> {
        let path = pipeline.relative(&transformer.schema);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            pipeline.error_at(
                &["transformer", "schema"],
                format!("can't read the record's schema {}: {error}", path.display()),
                "name the JSON Schema of one record, relative to this file",
            )
        })?;
        Self::parse(&FileText { path, text })
    }

    /// Parses the text of a schema file.
    ///
    /// # Errors
    /// When the text is not JSON, or requires something that is not enforced. The error has the
    /// location, what is supported, and the remedy.
    pub fn parse(file: &FileText) -> Result<Self, FileError> {
        let value: Value = serde_json::from_str(&file.text).map_err(|cause| {
            let spot = line_column(&file.text, cause.line(), cause.column());
            FileError::at_spot(file, Some(spot), format!("the record's schema is not JSON: {cause}"), "here", None)
        })?;
        read_record(&value).map_err(|error| {
            let location = if error.pointer.is_root() { "the top".to_owned() } else { format!("`{}`", error.pointer) };
            let message = format!("the record's schema, at {location}: {}", error.message);
            FileError::at_spot(file, locate(&file.text, &error.pointer), message, "this", Some(error.help))
        })
    }
}

fn read_record(value: &Value) -> Result<RecordSchema, SchemaError> {
    match read(value, &JsonPointer::default(), 0)? {
        (Kind::Object(fields), false) => {
            for field in &fields {
                if RESERVED_FIELDS.contains(&field.name.as_str()) {
                    return Err(schema_error(
                        &JsonPointer::default().child("properties").child(&field.name),
                        format!("`{}` is the name of a column that Forebay adds to every record", field.name),
                        "remove the field, or rename it in the source",
                    ));
                }
            }
            Ok(RecordSchema { fields })
        }
        _ => Err(schema_error(
            &JsonPointer::default().child("type"),
            "a record must be an object",
            "write \"type\": \"object\", and its fields under \"properties\"",
        )),
    }
}

/// Reads one schema: its type, and whether it may be null.
fn read(value: &Value, pointer: &JsonPointer, depth: usize) -> Result<(Kind, bool), SchemaError> {
    let Value::Object(schema) = value else {
        return Err(schema_error(pointer, "a schema without a type is not supported", "write { \"type\": … }, or remove the field"));
    };
    if depth > MAX_DEPTH {
        return Err(schema_error(pointer, format!("nested deeper than {MAX_DEPTH}"), "remove the innermost fields"));
    }
    check_keywords(schema, pointer)?;
    let (types, null) = read_types(schema, pointer)?;
    let kind = match types.as_slice() {
        ["boolean"] => Kind::Bool,
        ["integer"] => Kind::Int64,
        ["number"] => Kind::Float64,
        ["string"] => read_format(schema, pointer)?,
        ["integer", "string"] => Kind::TextOrInteger,
        ["object"] => Kind::Object(read_fields(schema, pointer, depth)?),
        ["array"] => Kind::Array(Box::new(read_items(schema, pointer, depth)?)),
        _ => {
            return Err(schema_error(
                &pointer.child("type"),
                format!("{} is not supported", schema["type"]),
                "use one of boolean, integer, number, string, object, array, each also with \"null\"; or [\"integer\", \"string\"], which is read as text",
            ));
        }
    };
    let fits = |keyword: &str, wanted: bool| match schema.contains_key(keyword) && !wanted {
        true => Err(schema_error(
            &pointer.child(keyword),
            format!("`{keyword}` does not apply to {}", schema["type"]),
            "remove it, or correct the type",
        )),
        false => Ok(()),
    };
    let object = matches!(kind, Kind::Object(_));
    fits("properties", object)?;
    fits("required", object)?;
    fits("additionalProperties", object)?;
    fits("items", matches!(kind, Kind::Array(_)))?;
    fits("format", types == ["string"])?;
    Ok((kind, null))
}

fn check_keywords(schema: &Map<String, Value>, pointer: &JsonPointer) -> Result<(), SchemaError> {
    let known = || ENFORCED.iter().chain(ANNOTATIONS).copied();
    for (keyword, value) in schema {
        let here = pointer.child(keyword);
        if keyword == "additionalProperties" && *value != Value::Bool(true) {
            return Err(schema_error(
                &here,
                "only `\"additionalProperties\": true` is supported: fields that the schema does not name are ignored",
                "remove it",
            ));
        }
        if known().any(|name| name == keyword) {
            continue;
        }
        let help = match nearest(keyword, known()).filter(|near| strsim::damerau_levenshtein(keyword, near) <= 2) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "move the check to the SQL's WHERE, or remove it; enforced are {}, and formats {}",
                ENFORCED[..5].join(", "),
                FORMATS.join(", ")
            ),
        };
        return Err(schema_error(&here, format!("`{keyword}` is not supported, and would not be enforced"), help));
    }
    Ok(())
}

/// The types without null, in alphabetical order, and whether null is one of them.
fn read_types<'a>(schema: &'a Map<String, Value>, pointer: &JsonPointer) -> Result<(Vec<&'a str>, bool), SchemaError> {
    let here = pointer.child("type");
    let wrong = || schema_error(&here, "a type must be a name or a list of names", "write \"type\": \"string\", or [\"string\", \"null\"]");
    let mut types = match schema.get("type") {
        None => return Err(schema_error(pointer, "has no type", "add one, such as \"type\": \"string\"")),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(list)) => list.iter().map(|name| name.as_str().ok_or_else(wrong)).collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    types.sort_unstable();
    let all = types.len();
    types.retain(|name| *name != "null");
    let null = types.len() < all;
    Ok((types, null))
}

fn read_format(schema: &Map<String, Value>, pointer: &JsonPointer) -> Result<Kind, SchemaError> {
    match schema.get("format") {
        None => Ok(Kind::Text),
        Some(Value::String(format)) if format == "date-time" => Ok(Kind::Timestamp),
        Some(Value::String(format)) if format == "date" => Ok(Kind::Date),
        Some(Value::String(format)) if format == "uuid" => Ok(Kind::Uuid),
        Some(other) => Err(schema_error(
            &pointer.child("format"),
            format!("the format {other} is not supported, and would not be enforced"),
            format!("use one of {}; or remove it, and check it in the SQL's WHERE", FORMATS.join(", ")),
        )),
    }
}

fn read_fields(schema: &Map<String, Value>, pointer: &JsonPointer, depth: usize) -> Result<Vec<Field>, SchemaError> {
    let properties = match schema.get("properties") {
        Some(Value::Object(properties)) if !properties.is_empty() => properties,
        _ => {
            return Err(schema_error(
                pointer,
                "an object without fields is not supported",
                "declare the fields under \"properties\", or remove it",
            ));
        }
    };
    let mut required = HashSet::new();
    if let Some(list) = schema.get("required") {
        let Value::Array(list) = list else {
            return Err(schema_error(&pointer.child("required"), "is not a list", "list the names of the fields"));
        };
        for (at, name) in list.iter().enumerate() {
            match name.as_str().filter(|name| properties.contains_key(*name)) {
                Some(name) => required.insert(name),
                None => {
                    let near = name.as_str().and_then(|name| nearest(name, properties.keys().map(String::as_str)));
                    return Err(schema_error(
                        &pointer.child("required").child(&at.to_string()),
                        format!("{name} is required but not among the properties"),
                        near.map_or("add it to \"properties\"".into(), |near| format!("did you mean `{near}`?")),
                    ));
                }
            };
        }
    }
    properties
        .iter()
        .map(|(name, value)| {
            let (kind, null) = read(value, &pointer.child("properties").child(name), depth + 1)?;
            let doc = ["description", "title"].iter().find_map(|key| value.get(key)?.as_str()).map(str::to_owned);
            Ok(Field { name: name.clone(), kind, optional: !required.contains(name.as_str()), null, doc })
        })
        .collect()
}

fn read_items(schema: &Map<String, Value>, pointer: &JsonPointer, depth: usize) -> Result<Item, SchemaError> {
    let items =
        schema.get("items").ok_or_else(|| schema_error(pointer, "an array without `items` is not supported", "declare its items"))?;
    let (kind, null) = read(items, &pointer.child("items"), depth + 1)?;
    Ok(Item { kind, null })
}

fn schema_error(pointer: &JsonPointer, message: impl Into<String>, help: impl Into<String>) -> SchemaError {
    SchemaError { pointer: pointer.clone(), message: message.into(), help: help.into() }
}

#[cfg(test)]
mod tests;
