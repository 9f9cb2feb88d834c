//! The JSON Schema of one record, as far as Forebay enforces it.
//!
//! Guarantees:
//! * What a schema file says of a record is enforced on every record, or is one of
//!   [`RecordSchema::warnings`], or is an error with the JSON pointer of its location. All errors
//!   of a file are reported together.
//! * Enforced are types, `properties`, `required`, `items`, `enum`, `const`, limits of numbers and
//!   of the length of text, and the formats of [`FORMATS`].
//! * References within the file are followed. A definition that contains itself is an error.
//! * Fields that the schema does not name are ignored, as in JSON Schema; so are keywords that JSON
//!   Schema does not have.
//! * The work of reading a file is bounded, however often its references repeat a definition.
//!
//! Does not support the whole of JSON Schema.

mod bounds;
mod json_span;
mod json_types;
mod keywords;
mod reader;
mod times;

use chrono_tz::Tz;

use crate::json_pointer::JsonPointer;
use crate::pipeline::{DriftPolicy, FileError, FileText, Pipeline, TransformerSection};
use crate::run_plan::Warning;
use json_span::{line_column, locate};

pub use bounds::Bound;
pub use json_types::JsonTypes;
pub use keywords::FORMATS;
pub use times::{ClockChange, EpochUnit};

/// Columns that Forebay adds to each record. No field may have such a name.
pub const RESERVED_FIELDS: &[&str] = &["_timestamp", "_offset", "_partition", "_key", "_headers", "_value", "_row"];

/// How deep objects, arrays and references may nest in a schema.
pub const MAX_DEPTH: usize = 32;
/// The limit for the lines that a warning names.
const MAX_LINES: usize = 5;

/// The schema of a record: an object with these fields, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSchema {
    /// The fields.
    pub fields: Vec<Field>,
    /// What the file says and no record is checked for.
    pub not_enforced: Vec<NotEnforced>,
}

/// Something in a schema file that no record is checked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnforced {
    /// What it is, and what to do if it matters.
    pub what: String,
    /// Whether it says that an object has no other fields, which `drift` can enforce.
    pub is_closed_object: bool,
    /// Its first lines in the file, from 1.
    pub lines: Vec<usize>,
    /// How many further locations it has.
    pub more: usize,
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
    /// What its value is checked for beyond its type.
    pub bounds: Vec<Bound>,
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
    /// A value of one of several types, read as text: `["integer", "string"]`.
    TextOf(JsonTypes),
    /// A value of these types as the text of its JSON: objects with changing keys, for example.
    Json(JsonTypes),
    /// A UUID (RFC 9562); text in SQL.
    Uuid,
    /// A timestamp (RFC 3339), truncated to microseconds in SQL.
    Timestamp,
    /// A timestamp without a zone, in this one.
    LocalTimestamp {
        /// Its zone.
        zone: Tz,
        /// What it is in the hour of a clock change.
        change: ClockChange,
    },
    /// A timestamp as a number since 1970-01-01T00:00:00Z, truncated to microseconds in SQL.
    Epoch {
        /// What the number counts.
        unit: EpochUnit,
        /// Whether it may have a fraction.
        fraction: bool,
    },
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
    /// What its value is checked for beyond its type.
    pub bounds: Vec<Bound>,
}

impl Field {
    /// Whether the field reads as NULL in some valid record.
    pub fn nullable(&self) -> bool {
        self.optional || self.null
    }
}

impl Kind {
    /// The type in words, for a sentence such as "must be an integer".
    pub fn expected(&self) -> String {
        let word = match self {
            Self::Bool => "true or false",
            Self::Int64 => "an integer of 64 bits",
            Self::Float64 => "a number",
            Self::Text => "text",
            Self::TextOf(types) | Self::Json(types) => return types.expected(),
            Self::Uuid => "a UUID such as \"7a0eed16-9430-4d68-901f-c0d4c1c3bf00\"",
            Self::Timestamp => "a date-time such as \"1992-03-08T15:13:16.688Z\"",
            Self::LocalTimestamp { .. } => "a date-time without a zone, such as \"1992-03-08T15:13:16.688\"",
            Self::Epoch { unit, .. } => return format!("a time in {} since 1970, in the years 1 to 9999", unit.as_str()),
            Self::Date => "a date such as \"1992-03-08\"",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
        };
        word.to_owned()
    }
}

/// An error in a schema, before its location in the text is known.
#[derive(PartialEq)]
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
    /// When the text is not JSON, or has schemas that records can't be read by. The error has each
    /// of them, with its location and the remedy.
    pub fn parse(file: &FileText) -> Result<Self, FileError> {
        let value = serde_json::from_str(&file.text).map_err(|cause| {
            let spot = line_column(&file.text, cause.line(), cause.column());
            FileError::at_spot(file, Some(spot), format!("the record's schema is not JSON: {cause}"), "here", None)
        })?;
        let spot = |pointer: &JsonPointer| locate(&file.text, pointer);
        let line = |pointer: &JsonPointer| spot(pointer).map_or(1, |spot| 1 + file.text[..spot.start].matches('\n').count());
        let (fields, notes) = reader::read_record(&value).map_err(|errors| {
            let errors = errors.into_iter().map(|error| {
                let location = if error.pointer.is_root() { "the top".to_owned() } else { format!("`{}`", error.pointer) };
                let message = format!("the record's schema, at {location}: {}", error.message);
                FileError::at_spot(file, spot(&error.pointer), message, "this", Some(error.help))
            });
            FileError::several(errors.collect()).expect("a schema that is refused has an error")
        })?;
        let not_enforced = notes.into_iter().map(|note| NotEnforced {
            what: note.what,
            is_closed_object: note.is_closed_object,
            lines: note.pointers.iter().take(MAX_LINES).map(line).collect(),
            more: note.pointers.len().saturating_sub(MAX_LINES),
        });
        Ok(Self { fields, not_enforced: not_enforced.collect() })
    }

    /// What the file says and no record is checked for, with its lines. `drift` says what becomes
    /// of fields that the schema does not name.
    pub fn warnings(&self, drift: DriftPolicy) -> Vec<Warning> {
        let notes = self.not_enforced.iter().filter(|note| !note.is_closed_object || drift != DriftPolicy::Reject);
        let warning = |NotEnforced { what, lines, more, .. }: &NotEnforced| {
            let word = if lines.len() == 1 { "line" } else { "lines" };
            let lines = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
            Warning { code: "not_enforced".to_owned(), what: format!("the record's schema, {word} {lines}{more}: {what}") }
        };
        notes.map(warning).collect()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_references;
