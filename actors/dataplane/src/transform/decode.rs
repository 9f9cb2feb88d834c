//! Decodes records to Arrow columns, in one pass over their text.
//!
//! Guarantees:
//! * A record becomes a row if and only if it is JSON (RFC 8259) and fits the schema. Otherwise it
//!   is one reject, which names the field, what was expected and what was found, and it leaves no
//!   trace in the columns.
//! * The columns of a record are bounded, and so are those that are decoded at a time (see
//!   [`limits`](super::limits)).
//! * Fields that the schema does not name are skipped and reported, each once per call, at most
//!   [`MAX_NEW_FIELDS`] in all objects of a kind; or make the record a reject, as `drift` says.
//! * A field that occurs twice in an object makes the record a reject, because readers differ on
//!   which one counts.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::pipeline::DriftPolicy;
use forebay_schemas::record_schema::{Bound, Field, Kind, RecordSchema};

use super::arrow_schema::UTC;
use super::decode_error::{DecodeError, Result};
use super::json_cursor::JsonCursor;
use super::json_scalar::JsonString;
use super::limits::{MAX_SLICE_BYTES, max_column_bytes};
use super::{rfc3339, text_values, time_values};
use crate::digits_column::number_of;
use crate::{NewField, RawBatch, Reject, RejectStage};

/// The limit for the members of an object whose columns are remembered; see [`Members`].
const MAX_REMEMBERED: usize = 256;

/// The limit for the names of one kind of object that are reported as unknown to the schema.
const MAX_NEW_FIELDS: usize = 100;

/// A field of the schema with its Arrow type, prepared once for decoding.
#[derive(Debug)]
pub(super) struct FieldShape {
    kind: Kind,
    /// Whether the object may lack it.
    optional: bool,
    /// Whether it may be `null`.
    null: bool,
    /// What a value is checked for beyond its type.
    bounds: Vec<Bound>,
    arrow: FieldRef,
    nested: Nested,
    /// The bytes that each value takes in the columns, without its text and the items of its
    /// arrays.
    fixed_bytes: usize,
}

#[derive(Debug)]
enum Nested {
    None,
    Object {
        /// The fields of the schema, then the digits columns.
        fields: Vec<FieldShape>,
        index: HashMap<Box<[u8]>, usize>,
        /// For each field of the schema, the index of its digits column, which holds its numbers as
        /// they are written.
        digits: Vec<Option<usize>>,
        /// Whether an object with another field is wrong.
        is_closed: bool,
    },
    Array(Box<FieldShape>),
}

/// Some records of a batch, decoded.
pub(super) struct Decoded {
    /// One column per field of the schema, then the digits columns.
    pub(super) columns: Vec<ArrayRef>,
    /// For each row, the index of its record.
    pub(super) rows: Vec<u32>,
    pub(super) rejects: Vec<Reject>,
    /// Fields that the schema does not have.
    pub(super) new_fields: Vec<NewField>,
    /// The index of the first record that was not decoded.
    pub(super) next: usize,
}

/// Returns the shape of a record. `fields` are those of
/// [`record_fields`](super::arrow_schema::record_fields), or of
/// [`with_digits`](super::arrow_schema::with_digits). `drift` says whether an object may have other
/// fields than those of the schema.
pub(super) fn shape(schema: &RecordSchema, fields: &Fields, drift: DriftPolicy) -> FieldShape {
    let arrow = Arc::new(datafusion::arrow::datatypes::Field::new("record", DataType::Struct(fields.clone()), false));
    FieldShape::new(&Kind::Object(schema.fields.clone()), (false, false), &[], &(arrow as FieldRef), drift == DriftPolicy::Reject)
}

impl FieldShape {
    fn new(kind: &Kind, (optional, null): (bool, bool), bounds: &[Bound], arrow: &FieldRef, is_closed: bool) -> Self {
        let nested = match (kind, arrow.data_type()) {
            (Kind::Object(fields), DataType::Struct(arrows)) => {
                let shape = |(field, arrow): (&Field, &FieldRef)| {
                    Self::new(&field.kind, (field.optional, field.null), &field.bounds, arrow, is_closed)
                };
                let index = fields.iter().enumerate().map(|(at, field)| (field.name.as_bytes().into(), at)).collect();
                let text = |arrow: &FieldRef| Self::new(&Kind::Text, (arrow.is_nullable(), arrow.is_nullable()), &[], arrow, is_closed);
                let added = || arrows.iter().enumerate().skip(fields.len());
                let digits = |field: &Field| added().find(|(_, arrow)| number_of(arrow.name()) == Some(&field.name)).map(|(at, _)| at);
                Nested::Object {
                    fields: fields.iter().zip(arrows).map(shape).chain(added().map(|(_, arrow)| text(arrow))).collect(),
                    index,
                    digits: fields.iter().map(digits).collect(),
                    is_closed,
                }
            }
            (Kind::Array(item), DataType::List(arrow)) => {
                Nested::Array(Box::new(Self::new(&item.kind, (false, item.null), &item.bounds, arrow, is_closed)))
            }
            _ => Nested::None,
        };
        // One byte tells whether the value is null.
        let fixed_bytes = 1 + match &nested {
            Nested::Object { fields, .. } => fields.iter().map(|field| field.fixed_bytes).sum(),
            Nested::Array(_) => 4,
            Nested::None => arrow.data_type().primitive_width().unwrap_or(4),
        };
        Self { kind: kind.clone(), optional, null, bounds: bounds.to_vec(), arrow: Arc::clone(arrow), nested, fixed_bytes }
    }
}

impl FieldShape {
    /// The error that the value from `start` to the cursor is not of the type.
    #[cold]
    #[inline(never)]
    fn misfit(&self, json: &JsonCursor<'_>, start: usize) -> Box<DecodeError> {
        json.invalid_since(start, &self.kind.expected())
    }

    /// Skips a value and returns the error that it is not of the type.
    #[cold]
    #[inline(never)]
    fn mistyped(&self, json: &mut JsonCursor<'_>) -> Box<DecodeError> {
        json.invalid(&self.kind.expected())
    }
}

/// Decodes records of a batch from index `from` on: at least one, and as many as fit into
/// [`MAX_SLICE_BYTES`].
pub(super) fn decode(shape: &FieldShape, raw: &RawBatch, from: usize) -> Decoded {
    let records = raw.records.get(from..).unwrap_or_default();
    let mut record = Column::new(shape, records.len().min(MAX_SLICE_BYTES / shape.fixed_bytes));
    let mut rows = Vec::with_capacity(records.len());
    let mut rejects = Vec::new();
    let mut left = MAX_SLICE_BYTES;
    let mut next = from;
    for record_at in records {
        let index = u32::try_from(next).expect("a batch has less than 2^32 records");
        let outcome = match raw.value(record_at) {
            Some(value) => {
                let (limit, alone) = (max_column_bytes(value.len()), rows.is_empty());
                let room = if alone { limit } else { limit.min(left) };
                match decode_one(&mut record, value, room, index) {
                    DecodeOutcome::Fits(bytes) => {
                        left = left.saturating_sub(bytes);
                        Ok(())
                    }
                    DecodeOutcome::Bad(error) => Err(error.reason()),
                    DecodeOutcome::Full(_) if room < limit => {
                        // The next slice starts with this record.
                        record.truncate(rows.len());
                        break;
                    }
                    DecodeOutcome::Full(error) => {
                        Err(error.reason().within(|why| format!("{why}: {limit} bytes, for {} bytes of JSON", value.len())))
                    }
                }
            }
            None => Err(DecodeError::invalid("has no value (a tombstone); the SQL can't delete rows").reason()),
        };
        next += 1;
        match outcome {
            Ok(()) => rows.push(index),
            Err(reason) => {
                record.truncate(rows.len());
                rejects.push(Reject { record: index, stage: RejectStage::Decode, reason });
            }
        }
    }
    let mut new_fields = Vec::new();
    record.new_fields(&JsonPointer::default(), &mut new_fields);
    let Data::Object { columns, .. } = record.data else { unreachable!("a record is an object") };
    Decoded { new_fields, columns: columns.into_iter().map(Column::finish).collect(), rows, rejects, next }
}

/// The result of decoding one record.
enum DecodeOutcome {
    /// The record is a row of this many bytes.
    Fits(usize),
    Bad(Box<DecodeError>),
    /// The record exceeds the room that it was given.
    Full(Box<DecodeError>),
}

fn decode_one<'a>(record: &mut Column<'a>, value: &'a [u8], room: usize, index: u32) -> DecodeOutcome {
    if value.is_empty() {
        return DecodeOutcome::Bad(DecodeError::invalid("has an empty value"));
    }
    let text = match str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => return DecodeOutcome::Bad(DecodeError::invalid(format!("is not UTF-8, at byte {}", error.valid_up_to()))),
    };
    let mut json = JsonCursor::of_record(text, room, index);
    // Text is never longer in the columns than in the JSON.
    let reserved = json.take_room(value.len().saturating_add(record.shape.fixed_bytes));
    match (reserved.and_then(|()| record.decode(&mut json)).and_then(|()| json.end()), json.room()) {
        (Ok(()), left) => DecodeOutcome::Fits(room - left.unwrap_or(0)),
        (Err(error), Some(_)) => DecodeOutcome::Bad(error),
        (Err(error), None) => DecodeOutcome::Full(error),
    }
}

/// A growing column. Only the rows below `len` count: those of a rejected record are truncated.
struct Column<'a> {
    shape: &'a FieldShape,
    len: usize,
    /// Present when the Arrow field is nullable.
    nulls: Option<NullBufferBuilder>,
    data: Data<'a>,
}

enum Data<'a> {
    Bool(BooleanBufferBuilder),
    Int(Vec<i64>),
    /// Timestamps in microseconds.
    Time(Vec<i64>),
    Float(Vec<f64>),
    Date(Vec<i32>),
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    /// Text of values that are not, or not only, plain text in JSON.
    ReadAsText {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    /// A column whose values are checked for their bounds.
    Bounded(Box<Column<'a>>),
    Object {
        columns: Vec<Column<'a>>,
        members: Members<'a>,
    },
    Array {
        ends: Vec<i32>,
        item: Box<Column<'a>>,
    },
}

/// Remembers the column of each member of an object by the member's position.
///
/// Most records list their members in the order of the previous record, and comparing one name is
/// cheaper than hashing it. Where the order differs, the name is looked up by its hash.
#[derive(Default)]
struct Members<'a> {
    columns: Vec<(&'a [u8], Option<usize>)>,
    /// The names that have no column, as they are written, with the first byte of a value and its
    /// record.
    unknown: HashMap<&'a [u8], (u8, u32)>,
}

impl<'a> Members<'a> {
    #[inline]
    fn column(
        &mut self,
        position: usize,
        name: JsonString<'a>,
        index: &HashMap<Box<[u8]>, usize>,
        json: &mut JsonCursor<'a>,
    ) -> Option<usize> {
        if let Some((seen, column)) = self.columns.get(position)
            && *seen == name.raw
        {
            return *column;
        }
        let column = index.get(&*name.resolved()).copied();
        match self.columns.get_mut(position) {
            Some(seen) => *seen = (name.raw, column),
            None if position < MAX_REMEMBERED => self.columns.push((name.raw, column)),
            None => {}
        }
        if column.is_none() {
            self.note_unknown(name.raw, json);
        }
        column
    }

    /// Remembers a name that has no column, unless its value is null, which says nothing yet. The
    /// cursor is at the value.
    fn note_unknown(&mut self, name: &'a [u8], json: &mut JsonCursor<'a>) {
        if self.unknown.len() < MAX_NEW_FIELDS
            && !self.unknown.contains_key(name)
            && let Ok(first) = json.peek("a value")
            && first != b'n'
        {
            self.unknown.insert(name, (first, json.record()));
        }
    }
}

/// The JSON type of a value that begins with this byte.
fn kind_of(first: u8) -> &'static str {
    match first {
        b't' | b'f' => "boolean",
        b'"' => "string",
        b'[' => "array",
        b'{' => "object",
        _ => "number",
    }
}

impl<'a> Column<'a> {
    fn new(shape: &'a FieldShape, capacity: usize) -> Self {
        let column = Self::without_bounds(shape, capacity);
        if shape.bounds.is_empty() {
            return column;
        }
        let nulls = shape.arrow.is_nullable().then(|| NullBufferBuilder::new(capacity));
        Self { shape, len: 0, nulls, data: Data::Bounded(Box::new(column)) }
    }

    fn without_bounds(shape: &'a FieldShape, capacity: usize) -> Self {
        let ends = || {
            let mut ends = Vec::with_capacity(capacity + 1);
            ends.push(0);
            ends
        };
        let data = match (&shape.kind, &shape.nested) {
            (_, Nested::Object { fields, .. }) => {
                let columns = fields.iter().map(|field| Self::new(field, capacity)).collect();
                Data::Object { columns, members: Members::default() }
            }
            (_, Nested::Array(item)) => Data::Array { ends: ends(), item: Box::new(Self::new(item, capacity)) },
            (Kind::Bool, _) => Data::Bool(BooleanBufferBuilder::new(capacity)),
            (Kind::Int64, _) => Data::Int(Vec::with_capacity(capacity)),
            (Kind::Timestamp | Kind::LocalTimestamp { .. } | Kind::Epoch { .. }, _) => Data::Time(Vec::with_capacity(capacity)),
            (Kind::Float64, _) => Data::Float(Vec::with_capacity(capacity)),
            (Kind::Date, _) => Data::Date(Vec::with_capacity(capacity)),
            (Kind::TextOf(_) | Kind::Json(_) | Kind::Uuid, _) => Data::ReadAsText { ends: ends(), bytes: Vec::new() },
            (_, Nested::None) => Data::Text { ends: ends(), bytes: Vec::new() },
        };
        let nulls = shape.arrow.is_nullable().then(|| NullBufferBuilder::new(capacity));
        Self { shape, len: 0, nulls, data }
    }

    /// Appends the value that the cursor is at.
    fn decode(&mut self, json: &mut JsonCursor<'a>) -> Result<()> {
        let first = json.peek("a value")?;
        if first == b'n' && self.shape.null {
            json.literal("null")?;
            self.push_null();
            return Ok(());
        }
        let shape = self.shape;
        let start = json.position();
        match (&mut self.data, first) {
            (Data::Text { ends, bytes }, b'"') => {
                json.string()?.append_to(bytes);
                ends.push(end(bytes.len()));
            }
            (Data::ReadAsText { ends, bytes }, _) => {
                text_values::append(&shape.kind, first, json, bytes)?;
                ends.push(end(bytes.len()));
            }
            (Data::Bounded(column), _) => column.decode_bounded(json)?,
            (Data::Time(values), b'"') if shape.kind == Kind::Timestamp => {
                let text = json.string()?.resolved();
                values.push(rfc3339::date_time(&text).ok_or_else(|| shape.misfit(json, start))?);
            }
            (Data::Time(values), _) => values.push(time_values::read(&shape.kind, first, json)?),
            (Data::Int(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                values.push(number.integer().ok_or_else(|| shape.misfit(json, start))?);
            }
            (Data::Float(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                values.push(number.float().ok_or_else(|| json.invalid_since(start, "a number in the range of a 64-bit float"))?);
            }
            (Data::Date(values), b'"') => {
                let text = json.string()?.resolved();
                values.push(rfc3339::date(&text).ok_or_else(|| shape.misfit(json, start))?);
            }
            (Data::Bool(values), b't') => {
                json.literal("true")?;
                values.append(true);
            }
            (Data::Bool(values), b'f') => {
                json.literal("false")?;
                values.append(false);
            }
            (Data::Object { columns, members }, b'{') => {
                let Nested::Object { index, digits, is_closed, .. } = &shape.nested else { unreachable!("the column of an object") };
                decode_object(columns, members, (index, *is_closed), digits, self.len, json)?;
            }
            (Data::Array { ends, item }, b'[') => {
                let fixed = item.shape.fixed_bytes;
                json.items(|json, at| {
                    json.take_room(fixed).and_then(|()| item.decode(json)).map_err(|error| error.within(at.to_string()))
                })?;
                ends.push(end(item.len));
            }
            _ => return Err(shape.mistyped(json)),
        }
        self.len += 1;
        if let Some(nulls) = &mut self.nulls {
            nulls.append_non_null();
        }
        Ok(())
    }

    /// Appends the value that the cursor is at, if it meets the bounds.
    #[inline(never)]
    fn decode_bounded(&mut self, json: &mut JsonCursor<'a>) -> Result<()> {
        let start = json.position();
        self.decode(json)?;
        match self.shape.bounds.iter().find(|bound| !self.last_meets(bound)) {
            Some(bound) => Err(json.invalid_since(start, &bound.expected())),
            None => Ok(()),
        }
    }

    /// Whether the last value meets a bound.
    fn last_meets(&self, bound: &Bound) -> bool {
        let at = self.len - 1;
        match &self.data {
            Data::Bool(values) => bound.allows_boolean(values.get_bit(at)),
            Data::Int(values) => bound.allows_integer(values[at]),
            Data::Float(values) => bound.allows_float(values[at]),
            Data::Text { ends, bytes } => {
                let start = usize::try_from(ends[at]).expect("ends of text are not negative");
                str::from_utf8(&bytes[start..]).is_ok_and(|text| bound.allows_text(text))
            }
            _ => unreachable!("only these types have bounds"),
        }
    }

    fn push_null(&mut self) {
        match &mut self.data {
            Data::Bool(values) => values.append(false),
            Data::Int(values) | Data::Time(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Date(values) => values.push(0),
            Data::Text { ends, bytes } | Data::ReadAsText { ends, bytes } => ends.push(end(bytes.len())),
            Data::Bounded(column) => column.push_null(),
            Data::Object { columns, .. } => columns.iter_mut().for_each(Self::push_null),
            Data::Array { ends, item } => ends.push(end(item.len)),
        }
        self.len += 1;
        self.nulls.as_mut().expect("a column that can be NULL is nullable").append_null();
    }

    /// Appends a number as it is written, or NULL for `null`.
    fn push_digits(&mut self, raw: &str) {
        let Data::Text { ends, bytes } = &mut self.data else { unreachable!("a digits column is text") };
        if raw == "null" {
            return self.push_null();
        }
        bytes.extend_from_slice(raw.as_bytes());
        ends.push(end(bytes.len()));
        self.len += 1;
        if let Some(nulls) = &mut self.nulls {
            nulls.append_non_null();
        }
    }

    /// Keeps only the first `len` rows.
    fn truncate(&mut self, len: usize) {
        let start = |ends: &mut Vec<i32>| {
            ends.truncate(len + 1);
            usize::try_from(ends[len]).expect("ends of text are not negative")
        };
        match &mut self.data {
            Data::Bool(values) => values.truncate(len),
            Data::Int(values) | Data::Time(values) => values.truncate(len),
            Data::Float(values) => values.truncate(len),
            Data::Date(values) => values.truncate(len),
            Data::Text { ends, bytes } | Data::ReadAsText { ends, bytes } => bytes.truncate(start(ends)),
            Data::Bounded(column) => column.truncate(len),
            Data::Object { columns, .. } => columns.iter_mut().for_each(|column| column.truncate(len)),
            Data::Array { ends, item } => item.truncate(start(ends)),
        }
        if let Some(nulls) = &mut self.nulls {
            nulls.truncate(len);
        }
        self.len = len;
    }

    /// Collects the fields of the objects at `here` that have no column.
    fn new_fields(&self, here: &JsonPointer, found: &mut Vec<NewField>) {
        match (&self.data, &self.shape.nested) {
            (Data::Object { columns, members }, _) => {
                let mut unknown: Vec<_> = members.unknown.iter().collect();
                unknown.sort_unstable_by_key(|(name, (_, record))| (*record, **name));
                found.extend(unknown.into_iter().map(|(name, &(first, record))| {
                    let name = JsonString { raw: name, escaped: name.contains(&b'\\') }.resolved();
                    NewField { field: here.child(&String::from_utf8_lossy(&name)), kind: kind_of(first), record }
                }));
                for column in columns {
                    if matches!(column.data, Data::Object { .. } | Data::Array { .. }) {
                        column.new_fields(&here.child(column.shape.arrow.name()), found);
                    }
                }
            }
            (Data::Array { item, .. }, _) => item.new_fields(&here.child("*"), found),
            _ => {}
        }
    }

    fn finish(self) -> ArrayRef {
        let nulls = self.nulls.and_then(NullBufferBuilder::build);
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(ends));
        match self.data {
            Data::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Data::Time(values) => Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone(UTC)),
            Data::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Data::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Data::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Data::Text { ends, bytes } | Data::ReadAsText { ends, bytes } => {
                Arc::new(StringArray::new(offsets(ends), Buffer::from_vec(bytes), nulls))
            }
            Data::Bounded(column) => column.finish(),
            Data::Object { columns, .. } => {
                let DataType::Struct(fields) = self.shape.arrow.data_type() else { unreachable!("an object is a struct") };
                Arc::new(StructArray::new(fields.clone(), columns.into_iter().map(Self::finish).collect(), nulls))
            }
            Data::Array { ends, item } => {
                let field = Arc::clone(&item.shape.arrow);
                Arc::new(ListArray::new(field, offsets(ends), item.finish(), nulls))
            }
        }
    }
}

/// Appends an object as row `row` of its columns. The cursor must be at its brace.
fn decode_object<'a>(
    columns: &mut [Column<'a>],
    members: &mut Members<'a>,
    (index, is_closed): (&HashMap<Box<[u8]>, usize>, bool),
    digits: &[Option<usize>],
    row: usize,
    json: &mut JsonCursor<'a>,
) -> Result<()> {
    let (mut position, mut missing) = (0, digits.len());
    json.members(|json, name| {
        let column = members.column(position, name, index, json);
        position += 1;
        let Some(at) = column else {
            if is_closed {
                return Err(DecodeError::invalid("is not in the schema").within(String::from_utf8_lossy(&name.resolved()).as_ref()));
            }
            return json.skip(1);
        };
        let column = &mut columns[at];
        let path = |error: Box<DecodeError>| error.within(column.shape.arrow.name().as_str());
        if column.len != row {
            return Err(path(DecodeError::invalid("occurs twice in its object")));
        }
        missing -= 1;
        let shape = column.shape;
        let Some(digits) = digits[at] else { return column.decode(json).map_err(|error| error.within(shape.arrow.name().as_str())) };
        json.peek("a value")?;
        let start = json.position();
        column.decode(json).map_err(|error| error.within(shape.arrow.name().as_str()))?;
        columns[digits].push_digits(json.since(start));
        Ok(())
    })?;
    if missing > 0 {
        for column in columns.iter_mut().filter(|column| column.len == row) {
            if !column.shape.optional {
                return Err(DecodeError::invalid("is missing").within(column.shape.arrow.name().as_str()));
            }
            column.push_null();
        }
    }
    Ok(())
}

/// Returns a length as an Arrow offset. A slice is far smaller than 2 GiB; a single record takes at
/// most eight times its size.
fn end(len: usize) -> i32 {
    i32::try_from(len).expect("a decoded slice is smaller than 2 GiB")
}
