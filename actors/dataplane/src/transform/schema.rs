//! A record's fields as Arrow types, and the columns that each record has beside them.
//!
//! Guarantee: a field is nullable in Arrow whenever SQL can see it as NULL, which includes every field of an object that may be absent:
//! DataFusion takes a field out of a struct without looking whether the struct itself is NULL.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use forebay_schemas::record_schema::{self, Kind, RecordSchema};

use super::sql::Wanted;

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

/// What the name of a number's twin ends in: the column or field beside it that has its digits as text.
const TWIN: &str = "#digits";

/// The name of the twin of a number.
pub(super) fn twin(name: &str) -> String {
    format!("{name}{TWIN}")
}

/// The name of the number whose twin this is.
pub(super) fn twin_of(name: &str) -> Option<&str> {
    name.strip_suffix(TWIN)
}

/// The fields, with a twin after them for each number whose digits are wanted. A field of the record's own that has the twin's name
/// leaves no place for it.
pub(super) fn with_digits(fields: &Fields, wanted: &Wanted) -> Fields {
    fn add(fields: &Fields, names: &BTreeSet<String>, wanted: &Wanted) -> Fields {
        let number = |field: &&FieldRef| *field.data_type() == DataType::Float64 && names.contains(field.name());
        let beside = |field: &FieldRef| Arc::new(Field::new(twin(field.name()), DataType::Utf8, field.is_nullable()));
        let twins = fields.iter().filter(number).map(beside).filter(|twin| fields.find(twin.name()).is_none());
        fields.iter().map(|field| inside(field, wanted)).chain(twins).collect()
    }
    fn inside(field: &FieldRef, wanted: &Wanted) -> FieldRef {
        let data_type = match field.data_type() {
            DataType::Struct(members) => DataType::Struct(add(members, &wanted.members, wanted)),
            DataType::List(item) => DataType::List(inside(item, wanted)),
            _ => return Arc::clone(field),
        };
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }
    if wanted.is_empty() { fields.clone() } else { add(fields, &wanted.columns, wanted) }
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
fn fields(list: &[record_schema::Field], nullable: bool) -> Fields {
    let field = |field: &record_schema::Field| one(&field.name, &field.kind, nullable || field.nullable());
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
