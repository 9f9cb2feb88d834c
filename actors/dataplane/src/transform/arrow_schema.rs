//! The Arrow types of a record's fields, and the system columns that every record has.
//!
//! Guarantee: a field is nullable in Arrow whenever SQL can see it as NULL. That includes every
//! field of an object that may be absent, because DataFusion reads a field of a struct without
//! checking whether the struct itself is NULL.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use forebay_schemas::record_schema::{self, Kind, RecordSchema};

use crate::digits_column::digits_column;

/// The hidden column with the index of each row's record. The SQL can't see it.
pub(super) const RECORD_INDEX: &str = "_row";
/// The time zone of every timestamp.
pub(super) const UTC: &str = "+00:00";

/// A column that every record has in addition to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemColumn {
    /// `_timestamp`: the timestamp of the record in the topic.
    Timestamp,
    /// `_offset`
    Offset,
    /// `_partition`
    Partition,
    /// `_key`: bytes, because a key need not be text.
    Key,
    /// `_headers`: a map from names to values.
    Headers,
    /// `_value`: the text of the whole record.
    Value,
    /// [`RECORD_INDEX`]
    RecordIndex,
}

impl SystemColumn {
    /// The columns that the SQL can see.
    pub(super) const VISIBLE: [Self; 6] = [Self::Timestamp, Self::Offset, Self::Partition, Self::Key, Self::Headers, Self::Value];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "_timestamp",
            Self::Offset => "_offset",
            Self::Partition => "_partition",
            Self::Key => "_key",
            Self::Headers => "_headers",
            Self::Value => "_value",
            Self::RecordIndex => RECORD_INDEX,
        }
    }

    fn field(self) -> Field {
        let data_type = match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            Self::Offset => DataType::Int64,
            Self::Partition => DataType::Int32,
            Self::Key => DataType::Binary,
            Self::Headers => DataType::Map(header_entries(), false),
            Self::Value => DataType::Utf8,
            Self::RecordIndex => DataType::UInt32,
        };
        Field::new(self.name(), data_type, self == Self::Key)
    }
}

/// The fields of an entry of the map `_headers`.
pub(super) fn header_fields() -> Fields {
    [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into_iter().collect()
}

/// The entries of the map `_headers`.
pub(super) fn header_entries() -> FieldRef {
    Arc::new(Field::new("entries", DataType::Struct(header_fields()), false))
}

/// The names of the fields of type `number` that are cast by their digits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ExactNumbers {
    /// Fields of the record.
    pub(super) columns: BTreeSet<String>,
    /// Fields of objects in the record.
    pub(super) members: BTreeSet<String>,
}

impl ExactNumbers {
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.members.is_empty()
    }
}

/// Returns the fields, followed by a digits column for each exact number. When the record has a
/// field of that name already, the number gets none.
pub(super) fn with_digits(fields: &Fields, exact: &ExactNumbers) -> Fields {
    fn add(fields: &Fields, names: &BTreeSet<String>, exact: &ExactNumbers) -> Fields {
        let number = |field: &&FieldRef| *field.data_type() == DataType::Float64 && names.contains(field.name());
        let digits = |field: &FieldRef| Arc::new(Field::new(digits_column(field.name()), DataType::Utf8, field.is_nullable()));
        let added = fields.iter().filter(number).map(digits).filter(|added| fields.find(added.name()).is_none());
        fields.iter().map(|field| inside(field, exact)).chain(added).collect()
    }
    fn inside(field: &FieldRef, exact: &ExactNumbers) -> FieldRef {
        let data_type = match field.data_type() {
            DataType::Struct(members) => DataType::Struct(add(members, &exact.members, exact)),
            DataType::List(item) => DataType::List(inside(item, exact)),
            _ => return Arc::clone(field),
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }
    if exact.is_empty() { fields.clone() } else { add(fields, &exact.columns, exact) }
}

/// Returns the columns for the fields of a record.
pub(super) fn record_fields(schema: &RecordSchema) -> Fields {
    fields(&schema.fields, false)
}

/// Returns the schema of the table that the SQL reads: the record's fields, then these system
/// columns.
pub(super) fn table(record: &Fields, system: &[SystemColumn]) -> SchemaRef {
    let added = system.iter().map(|column| Arc::new(column.field()));
    Arc::new(Schema::new(record.iter().cloned().chain(added).collect::<Fields>()))
}

/// Returns the fields of an object; they are all `nullable` when the object itself may be NULL.
fn fields(list: &[record_schema::Field], nullable: bool) -> Fields {
    let field = |field: &record_schema::Field| one(&field.name, &field.kind, nullable || field.nullable());
    list.iter().map(field).collect()
}

fn one(name: &str, kind: &Kind, nullable: bool) -> FieldRef {
    let data_type = match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int64 => DataType::Int64,
        Kind::Float64 => DataType::Float64,
        Kind::Text | Kind::TextOf(_) | Kind::Json(_) | Kind::Uuid => DataType::Utf8,
        Kind::Timestamp | Kind::LocalTimestamp { .. } | Kind::Epoch { .. } => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Kind::Date => DataType::Date32,
        Kind::Object(inner) => DataType::Struct(fields(inner, nullable)),
        Kind::Array(item) => DataType::List(one("item", &item.kind, item.null)),
    };
    Arc::new(Field::new(name, data_type, nullable))
}
