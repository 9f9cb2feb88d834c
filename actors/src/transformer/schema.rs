//! A record's fields as Arrow types, and the columns that each record has beside them.
//!
//! Guarantee: a field is nullable in Arrow whenever SQL can see it as NULL, which includes every field of an object that may be absent:
//! DataFusion takes a field out of a struct without looking whether the struct itself is NULL.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use forebay_schemas::record::{self, Kind, RecordSchema};

/// The column that tells which record a row came from; the SQL can't see it.
pub(super) const ROW: &str = "_row";
/// The time zone of every timestamp.
pub(super) const UTC: &str = "+00:00";

/// A column that each record has beside its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `_timestamp`: the record's in the topic.
    Timestamp,
    /// `_offset`
    Offset,
    /// `_partition`
    Partition,
    /// `_key`: bytes, for a key need not be text.
    Key,
    /// `_headers`: the value of each header by its name.
    Headers,
    /// [`ROW`]
    Row,
}

impl Origin {
    /// Those that the SQL can see.
    pub(super) const VISIBLE: [Self; 5] = [Self::Timestamp, Self::Offset, Self::Partition, Self::Key, Self::Headers];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "_timestamp",
            Self::Offset => "_offset",
            Self::Partition => "_partition",
            Self::Key => "_key",
            Self::Headers => "_headers",
            Self::Row => ROW,
        }
    }

    fn field(self) -> Field {
        let data_type = match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            Self::Offset => DataType::Int64,
            Self::Partition => DataType::Int32,
            Self::Key => DataType::Binary,
            Self::Headers => DataType::Map(header_entries(), false),
            Self::Row => DataType::UInt32,
        };
        Field::new(self.name(), data_type, self == Self::Key)
    }
}

/// The names and values of a header, the entries of the map `_headers`.
pub(super) fn header_fields() -> Fields {
    [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into_iter().collect()
}

/// The same as the map has them.
pub(super) fn header_entries() -> FieldRef {
    Arc::new(Field::new("entries", DataType::Struct(header_fields()), false))
}

/// The columns of a record's own fields.
pub(super) fn record_fields(schema: &RecordSchema) -> Fields {
    fields(&schema.fields, false)
}

/// The table that the SQL reads: the record's fields, then these columns.
pub(super) fn table(record: &Fields, origins: &[Origin]) -> SchemaRef {
    let added = origins.iter().map(|origin| Arc::new(origin.field()));
    Arc::new(Schema::new(record.iter().cloned().chain(added).collect::<Fields>()))
}

/// Fields of an object; `nullable` when the object itself may be NULL.
fn fields(list: &[record::Field], nullable: bool) -> Fields {
    let field = |field: &record::Field| one(&field.name, &field.kind, nullable || field.nullable());
    list.iter().map(field).collect()
}

fn one(name: &str, kind: &Kind, nullable: bool) -> FieldRef {
    let data_type = match kind {
        Kind::Bool => DataType::Boolean,
        Kind::Int64 => DataType::Int64,
        Kind::Float64 => DataType::Float64,
        Kind::Text | Kind::TextOrInteger | Kind::Uuid => DataType::Utf8,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        Kind::Date => DataType::Date32,
        Kind::Object(inner) => DataType::Struct(fields(inner, nullable)),
        Kind::Array(item) => DataType::List(one("item", &item.kind, item.null)),
    };
    Arc::new(Field::new(name, data_type, nullable))
}
