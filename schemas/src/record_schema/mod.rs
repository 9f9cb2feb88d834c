//! The JSON Schema of one record, as far as Forebay enforces it.
//!
//! Guarantee: whatever a schema file asks for is either enforced on every record or refused here, with the JSON pointer of the place;
//! nothing is silently not enforced. Fields that the schema does not name are ignored, as JSON Schema has it. Not guaranteed: the
//! whole of JSON Schema. Enforced are `type`, `properties`, `required`, `items` and the formats `date-time`, `date` and `uuid`.

mod json_location;

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::json_pointer::JsonPointer;
use crate::pipeline::{FileError, FileText, nearest};
use json_location::{line_column, locate};

/// Columns that each record has beside its own fields; no field may take these names.
pub const RESERVED_FIELDS: &[&str] = &["_timestamp", "_offset", "_partition", "_key", "_headers", "_row"];

/// How deep objects and arrays may nest in a schema.
pub const MAX_DEPTH: usize = 32;

/// Keywords that say nothing about which records are valid.
const ANNOTATIONS: &[&str] = &["$schema", "$id", "$comment", "title", "description", "examples", "default"];
/// Keywords that are enforced.
const ENFORCED: &[&str] = &["type", "properties", "required", "items", "format", "additionalProperties"];
const FORMATS: &[&str] = &["date-time", "date", "uuid"];

/// What a record looks like: an object with these fields, in the order of the file.
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
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be absent: it is not in `required`. An absent field reads as NULL.
    pub optional: bool,
    /// Whether it may be `null`.
    pub null: bool,
    /// Its `description`, else its `title`.
    pub doc: Option<String>,
}

/// What a field holds.
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
    /// Text, or a number without a fraction that becomes the text it is written as: `["integer", "string"]`.
    TextOrInteger,
    /// Text in the form of a UUID (RFC 9562); stays text in SQL.
    Uuid,
    /// A point in time (RFC 3339); microseconds in SQL, finer digits are cut off.
    Timestamp,
    /// A day (RFC 3339 full-date).
    Date,
    /// An object with these fields.
    Object(Vec<Field>),
    /// An array.
    Array(Box<Item>),
}

/// What each item of an array is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it holds.
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
    /// The kind in words, for a sentence such as "must be an integer".
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

/// What is wrong with a schema, before its place in the text is known.
struct Refusal {
    pointer: JsonPointer,
    message: String,
    help: String,
}

impl RecordSchema {
    /// Reads the text of a schema file.
    ///
    /// # Errors
    /// When the text is not JSON, or asks for something that is not enforced. The error names the place, what is supported, and what
    /// to do.
    pub fn parse(file: &FileText) -> Result<Self, FileError> {
        let value: Value = serde_json::from_str(&file.text).map_err(|cause| {
            let spot = line_column(&file.text, cause.line(), cause.column());
            FileError::at_spot(file, Some(spot), format!("the record's schema is not JSON: {cause}"), "here", None)
        })?;
        read_record(&value).map_err(|refusal| {
            let place = if refusal.pointer.is_root() { "the top".to_owned() } else { format!("`{}`", refusal.pointer) };
            let message = format!("the record's schema, at {place}: {}", refusal.message);
            FileError::at_spot(file, locate(&file.text, &refusal.pointer), message, "this", Some(refusal.help))
        })
    }
}

fn read_record(value: &Value) -> Result<RecordSchema, Refusal> {
    match read(value, &JsonPointer::default(), 0)? {
        (Kind::Object(fields), false) => {
            for field in &fields {
                if RESERVED_FIELDS.contains(&field.name.as_str()) {
                    return Err(refusal(
                        &JsonPointer::default().child("properties").child(&field.name),
                        format!("`{}` is the name of a column that Forebay adds to every record", field.name),
                        "leave the field out, or rename it in the source",
                    ));
                }
            }
            Ok(RecordSchema { fields })
        }
        _ => Err(refusal(
            &JsonPointer::default().child("type"),
            "a record is an object",
            "write \"type\": \"object\", and its fields under \"properties\"",
        )),
    }
}

/// One schema: what it holds, and whether it may be null.
fn read(value: &Value, pointer: &JsonPointer, depth: usize) -> Result<(Kind, bool), Refusal> {
    let Value::Object(schema) = value else {
        return Err(refusal(pointer, "a schema without a type is not supported", "write { \"type\": … }, or leave the field out"));
    };
    if depth > MAX_DEPTH {
        return Err(refusal(pointer, format!("nested deeper than {MAX_DEPTH}"), "leave the innermost fields out"));
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
            return Err(refusal(
                &pointer.child("type"),
                format!("{} is not supported", schema["type"]),
                "use one of boolean, integer, number, string, object, array, each also with \"null\"; or [\"integer\", \"string\"], which reads as text",
            ));
        }
    };
    let fits = |keyword: &str, wanted: bool| match schema.contains_key(keyword) && !wanted {
        true => Err(refusal(
            &pointer.child(keyword),
            format!("`{keyword}` says nothing about {}", schema["type"]),
            "leave it out, or correct the type",
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

fn check_keywords(schema: &Map<String, Value>, pointer: &JsonPointer) -> Result<(), Refusal> {
    let known = || ENFORCED.iter().chain(ANNOTATIONS).copied();
    for (keyword, value) in schema {
        let here = pointer.child(keyword);
        if keyword == "additionalProperties" && *value != Value::Bool(true) {
            return Err(refusal(
                &here,
                "only `\"additionalProperties\": true` is supported: fields that the schema does not name are ignored",
                "leave it out",
            ));
        }
        if known().any(|name| name == keyword) {
            continue;
        }
        let help = match nearest(keyword, known()).filter(|near| strsim::damerau_levenshtein(keyword, near) <= 2) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "move the check into the SQL's WHERE, or leave it out; enforced are {}, and formats {}",
                ENFORCED[..5].join(", "),
                FORMATS.join(", ")
            ),
        };
        return Err(refusal(&here, format!("`{keyword}` is not supported, and would not be enforced"), help));
    }
    Ok(())
}

/// The types in alphabetical order without null, and whether null is one of them.
fn read_types<'a>(schema: &'a Map<String, Value>, pointer: &JsonPointer) -> Result<(Vec<&'a str>, bool), Refusal> {
    let here = pointer.child("type");
    let wrong = || refusal(&here, "a type is a name or a list of names", "write \"type\": \"string\", or [\"string\", \"null\"]");
    let mut types = match schema.get("type") {
        None => return Err(refusal(pointer, "has no type", "add one, such as \"type\": \"string\"")),
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

fn read_format(schema: &Map<String, Value>, pointer: &JsonPointer) -> Result<Kind, Refusal> {
    match schema.get("format") {
        None => Ok(Kind::Text),
        Some(Value::String(format)) if format == "date-time" => Ok(Kind::Timestamp),
        Some(Value::String(format)) if format == "date" => Ok(Kind::Date),
        Some(Value::String(format)) if format == "uuid" => Ok(Kind::Uuid),
        Some(other) => Err(refusal(
            &pointer.child("format"),
            format!("the format {other} is not supported, and would not be enforced"),
            format!("use one of {}; or leave it out, and check it in the SQL's WHERE", FORMATS.join(", ")),
        )),
    }
}

fn read_fields(schema: &Map<String, Value>, pointer: &JsonPointer, depth: usize) -> Result<Vec<Field>, Refusal> {
    let properties = match schema.get("properties") {
        Some(Value::Object(properties)) if !properties.is_empty() => properties,
        _ => return Err(refusal(pointer, "an object that names no fields", "name the fields under \"properties\", or leave it out")),
    };
    let mut required = HashSet::new();
    if let Some(list) = schema.get("required") {
        let Value::Array(list) = list else {
            return Err(refusal(&pointer.child("required"), "is not a list", "list the names of the fields"));
        };
        for (at, name) in list.iter().enumerate() {
            match name.as_str().filter(|name| properties.contains_key(*name)) {
                Some(name) => required.insert(name),
                None => {
                    let near = name.as_str().and_then(|name| nearest(name, properties.keys().map(String::as_str)));
                    return Err(refusal(
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

fn read_items(schema: &Map<String, Value>, pointer: &JsonPointer, depth: usize) -> Result<Item, Refusal> {
    let items = schema.get("items").ok_or_else(|| refusal(pointer, "an array without `items`", "say what its items are"))?;
    let (kind, null) = read(items, &pointer.child("items"), depth + 1)?;
    Ok(Item { kind, null })
}

fn refusal(pointer: &JsonPointer, message: impl Into<String>, help: impl Into<String>) -> Refusal {
    Refusal { pointer: pointer.clone(), message: message.into(), help: help.into() }
}

#[cfg(test)]
mod tests;
