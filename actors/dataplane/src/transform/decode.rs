//! Records to columns, in one pass over their text.
//!
//! Guarantee: a record is a row of the columns if and only if it is JSON (RFC 8259) and fits the schema; otherwise it is one reject
//! that names the field, what was expected and what was there, and leaves no trace in the columns. What a record takes as columns is bounded, and
//! so is what is decoded at a time (see [`limits`](super::limits)). Fields that the schema does not name are read over. A field that stands twice in an object makes the record bad, since readers differ on which one counts.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use forebay_schemas::record_schema::{Field, Kind, RecordSchema};

use super::json::{Bad, Cursor, Result, Text};
use super::limits::{SLICE_BYTES, columns_of};
use super::schema::{UTC, twin_of};
use super::time;
use crate::{RawBatch, Reject, RejectStage};

/// How many members of an object are remembered by their place; see [`Members`].
const REMEMBERED: usize = 256;

/// What a value must be, and how it is kept: the schema and its Arrow types, made ready once.
#[derive(Debug)]
pub(super) struct Shape {
    kind: Kind,
    /// Whether it may be absent from its object.
    optional: bool,
    /// Whether it may be `null`.
    null: bool,
    arrow: FieldRef,
    inner: Inner,
    /// The bytes that each takes in the columns beside its text and the items of its arrays, whatever of it is absent.
    fixed: usize,
}

#[derive(Debug)]
enum Inner {
    None,
    Object {
        /// The fields of the schema, then their twins.
        fields: Vec<Shape>,
        index: HashMap<Box<[u8]>, usize>,
        /// For each field of the schema the index of its twin, where the digits of its numbers go as they are written.
        twins: Vec<Option<usize>>,
    },
    Array(Box<Shape>),
}

/// A batch's records that fit, and those that do not.
pub(super) struct Decoded {
    /// A column a field of the schema.
    pub(super) columns: Vec<ArrayRef>,
    /// For each row the index of its record.
    pub(super) rows: Vec<u32>,
    pub(super) rejects: Vec<Reject>,
    /// The index of the first record after them.
    pub(super) next: usize,
}

/// The shape of a whole record; its fields are those of [`super::schema::record_fields`], or of [`super::schema::with_digits`].
pub(super) fn shape(schema: &RecordSchema, fields: &Fields) -> Shape {
    let arrow = Arc::new(datafusion::arrow::datatypes::Field::new("record", DataType::Struct(fields.clone()), false));
    Shape::new(&Kind::Object(schema.fields.clone()), false, false, &(arrow as FieldRef))
}

impl Shape {
    fn new(kind: &Kind, optional: bool, null: bool, arrow: &FieldRef) -> Self {
        let inner = match (kind, arrow.data_type()) {
            (Kind::Object(fields), DataType::Struct(arrows)) => {
                let shape = |(field, arrow): (&Field, &FieldRef)| Self::new(&field.kind, field.optional, field.null, arrow);
                let index = fields.iter().enumerate().map(|(at, field)| (field.name.as_bytes().into(), at)).collect();
                let beside = |arrow: &FieldRef| Self::new(&Kind::Text, arrow.is_nullable(), arrow.is_nullable(), arrow);
                let added = || arrows.iter().enumerate().skip(fields.len());
                let twin = |field: &Field| added().find(|(_, arrow)| twin_of(arrow.name()) == Some(&field.name)).map(|(at, _)| at);
                Inner::Object {
                    fields: fields.iter().zip(arrows).map(shape).chain(added().map(|(_, arrow)| beside(arrow))).collect(),
                    index,
                    twins: fields.iter().map(twin).collect(),
                }
            }
            (Kind::Array(item), DataType::List(arrow)) => Inner::Array(Box::new(Self::new(&item.kind, false, item.null, arrow))),
            _ => Inner::None,
        };
        // With a byte for whether it is null.
        let fixed = 1 + match &inner {
            Inner::Object { fields, .. } => fields.iter().map(|field| field.fixed).sum(),
            Inner::Array(_) => 4,
            Inner::None => arrow.data_type().primitive_width().unwrap_or(4),
        };
        Self { kind: kind.clone(), optional, null, arrow: Arc::clone(arrow), inner, fixed }
    }
}

/// Decodes records of a batch from an index on: as many as come to at most [`SLICE_BYTES`], and one at least.
pub(super) fn decode(shape: &Shape, raw: &RawBatch, from: usize) -> Decoded {
    let records = raw.records.get(from..).unwrap_or_default();
    let mut record = Column::new(shape, records.len().min(SLICE_BYTES / shape.fixed));
    let mut rows = Vec::with_capacity(records.len());
    let mut rejects = Vec::new();
    let mut left = SLICE_BYTES;
    let mut next = from;
    for record_at in records {
        let index = u32::try_from(next).expect("a batch has less than 2^32 records");
        let outcome = match raw.value(record_at) {
            Some(value) => {
                let (most, alone) = (columns_of(value.len()), rows.is_empty());
                let room = if alone { most } else { most.min(left) };
                match decode_one(&mut record, value, room) {
                    Outcome::Fits(takes) => {
                        left = left.saturating_sub(takes);
                        Ok(())
                    }
                    Outcome::Bad(bad) => Err(bad.reason()),
                    Outcome::Full(_) if room < most => {
                        // It begins the next slice.
                        record.truncate(rows.len());
                        break;
                    }
                    Outcome::Full(bad) => Err(bad.reason().within(|said| format!("{said}: {most}, for {} bytes of JSON", value.len()))),
                }
            }
            None => Err(Bad::unfit("has no value (a tombstone), and there is no SQL for a deletion").reason()),
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
    let Data::Object { columns, .. } = record.data else { unreachable!("a record is an object") };
    Decoded { columns: columns.into_iter().map(Column::finish).collect(), rows, rejects, next }
}

/// How the decoding of one record ends.
enum Outcome {
    /// It is a row, and takes so many bytes.
    Fits(usize),
    Bad(Box<Bad>),
    /// It takes more room than there was.
    Full(Box<Bad>),
}

fn decode_one<'a>(record: &mut Column<'a>, value: &'a [u8], room: usize) -> Outcome {
    if value.is_empty() {
        return Outcome::Bad(Bad::unfit("has an empty value"));
    }
    let text = match str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => return Outcome::Bad(Bad::unfit(format!("is not UTF-8, at byte {}", error.valid_up_to()))),
    };
    let mut json = Cursor::new(text, room);
    // Its text is never longer there than it is here.
    let taken = json.take_room(value.len().saturating_add(record.shape.fixed));
    match (taken.and_then(|()| record.decode(&mut json)).and_then(|()| json.end()), json.room()) {
        (Ok(()), left) => Outcome::Fits(room - left.unwrap_or(0)),
        (Err(bad), Some(_)) => Outcome::Bad(bad),
        (Err(bad), None) => Outcome::Full(bad),
    }
}

/// A column as it grows. Only rows below `len` count; a record that turns out bad is cut off again.
struct Column<'a> {
    shape: &'a Shape,
    len: usize,
    /// There when Arrow has it nullable.
    nulls: Option<NullBufferBuilder>,
    data: Data<'a>,
}

enum Data<'a> {
    Bool(BooleanBufferBuilder),
    /// Integers, and points in time as microseconds.
    Int(Vec<i64>),
    Float(Vec<f64>),
    Date(Vec<i32>),
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    Object {
        columns: Vec<Column<'a>>,
        members: Members<'a>,
    },
    Array {
        ends: Vec<i32>,
        item: Box<Column<'a>>,
    },
}

/// Which column the members of an object go to, by their place among its members: most records name their members in the order of
/// the one before, and one comparison is cheaper than a hash. Where the order differs, the hash decides.
#[derive(Default)]
struct Members<'a>(Vec<(&'a [u8], Option<usize>)>);

impl<'a> Members<'a> {
    #[inline]
    fn column(&mut self, place: usize, name: Text<'a>, index: &HashMap<Box<[u8]>, usize>) -> Option<usize> {
        if let Some((seen, column)) = self.0.get(place)
            && *seen == name.raw
        {
            return *column;
        }
        let column = index.get(&*name.resolved()).copied();
        match self.0.get_mut(place) {
            Some(seen) => *seen = (name.raw, column),
            None if place < REMEMBERED => self.0.push((name.raw, column)),
            None => {}
        }
        column
    }
}

impl<'a> Column<'a> {
    fn new(shape: &'a Shape, capacity: usize) -> Self {
        let ends = || {
            let mut ends = Vec::with_capacity(capacity + 1);
            ends.push(0);
            ends
        };
        let data = match (&shape.kind, &shape.inner) {
            (_, Inner::Object { fields, .. }) => {
                let columns = fields.iter().map(|field| Self::new(field, capacity)).collect();
                Data::Object { columns, members: Members::default() }
            }
            (_, Inner::Array(item)) => Data::Array { ends: ends(), item: Box::new(Self::new(item, capacity)) },
            (Kind::Bool, _) => Data::Bool(BooleanBufferBuilder::new(capacity)),
            (Kind::Int64 | Kind::Timestamp, _) => Data::Int(Vec::with_capacity(capacity)),
            (Kind::Float64, _) => Data::Float(Vec::with_capacity(capacity)),
            (Kind::Date, _) => Data::Date(Vec::with_capacity(capacity)),
            (_, Inner::None) => Data::Text { ends: ends(), bytes: Vec::new() },
        };
        let nulls = shape.arrow.is_nullable().then(|| NullBufferBuilder::new(capacity));
        Self { shape, len: 0, nulls, data }
    }

    /// Appends the value at which the cursor is.
    fn decode(&mut self, json: &mut Cursor<'a>) -> Result<()> {
        let first = json.peek("a value")?;
        if first == b'n' && self.shape.null {
            json.literal("null")?;
            self.push_null();
            return Ok(());
        }
        let shape = self.shape;
        let expected = || shape.kind.expected();
        let start = json.position();
        match (&mut self.data, first) {
            (Data::Text { ends, bytes }, b'"') => {
                let text = json.string()?;
                if shape.kind == Kind::Uuid && !is_uuid(&text.resolved()) {
                    return Err(json.unfit_from(start, expected()));
                }
                text.append_to(bytes);
                ends.push(end(bytes.len()));
            }
            (Data::Text { ends, bytes }, b'-' | b'0'..=b'9') if shape.kind == Kind::TextOrInteger => {
                let number = json.number()?;
                match number.integer() {
                    _ if number.plain => bytes.extend_from_slice(number.raw.as_bytes()),
                    Some(integer) => bytes.extend_from_slice(integer.to_string().as_bytes()),
                    None => return Err(json.unfit_from(start, expected())),
                }
                ends.push(end(bytes.len()));
            }
            (Data::Int(values), b'"') if shape.kind == Kind::Timestamp => {
                let text = json.string()?.resolved();
                values.push(time::date_time(&text).ok_or_else(|| json.unfit_from(start, expected()))?);
            }
            (Data::Int(values), b'-' | b'0'..=b'9') if shape.kind == Kind::Int64 => {
                let number = json.number()?;
                values.push(number.integer().ok_or_else(|| json.unfit_from(start, expected()))?);
            }
            (Data::Float(values), b'-' | b'0'..=b'9') => {
                let number = json.number()?;
                values.push(number.float().ok_or_else(|| json.unfit_from(start, "a number that a float of 64 bits can hold"))?);
            }
            (Data::Date(values), b'"') => {
                let text = json.string()?.resolved();
                values.push(time::date(&text).ok_or_else(|| json.unfit_from(start, expected()))?);
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
                let Inner::Object { index, twins, .. } = &shape.inner else { unreachable!("made of an object") };
                decode_object(columns, members, index, twins, self.len, json)?;
            }
            (Data::Array { ends, item }, b'[') => {
                let fixed = item.shape.fixed;
                json.items(|json, at| json.take_room(fixed).and_then(|()| item.decode(json)).map_err(|bad| bad.within(at.to_string())))?;
                ends.push(end(item.len));
            }
            _ => return Err(json.unfit(expected())),
        }
        self.len += 1;
        if let Some(nulls) = &mut self.nulls {
            nulls.append_non_null();
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.data {
            Data::Bool(values) => values.append(false),
            Data::Int(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Date(values) => values.push(0),
            Data::Text { ends, bytes } => ends.push(end(bytes.len())),
            Data::Object { columns, .. } => columns.iter_mut().for_each(Self::push_null),
            Data::Array { ends, item } => ends.push(end(item.len)),
        }
        self.len += 1;
        self.nulls.as_mut().expect("a column that can be NULL is nullable").append_null();
    }

    /// Appends a number as it is written, or NULL for `null`.
    fn push_digits(&mut self, raw: &str) {
        let Data::Text { ends, bytes } = &mut self.data else { unreachable!("a twin is text") };
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

    /// Cuts off all but the first `len` rows.
    fn truncate(&mut self, len: usize) {
        let start = |ends: &mut Vec<i32>| {
            ends.truncate(len + 1);
            usize::try_from(ends[len]).expect("ends of text are not negative")
        };
        match &mut self.data {
            Data::Bool(values) => values.truncate(len),
            Data::Int(values) => values.truncate(len),
            Data::Float(values) => values.truncate(len),
            Data::Date(values) => values.truncate(len),
            Data::Text { ends, bytes } => bytes.truncate(start(ends)),
            Data::Object { columns, .. } => columns.iter_mut().for_each(|column| column.truncate(len)),
            Data::Array { ends, item } => item.truncate(start(ends)),
        }
        if let Some(nulls) = &mut self.nulls {
            nulls.truncate(len);
        }
        self.len = len;
    }

    fn finish(self) -> ArrayRef {
        let nulls = self.nulls.and_then(NullBufferBuilder::build);
        let offsets = |ends: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(ends));
        match self.data {
            Data::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Data::Int(values) if self.shape.kind == Kind::Timestamp => {
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone(UTC))
            }
            Data::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Data::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Data::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
            Data::Text { ends, bytes } => Arc::new(StringArray::new(offsets(ends), Buffer::from_vec(bytes), nulls)),
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

/// Appends an object's members as row `row` of its columns; the cursor is at its brace.
fn decode_object<'a>(
    columns: &mut [Column<'a>],
    members: &mut Members<'a>,
    index: &HashMap<Box<[u8]>, usize>,
    twins: &[Option<usize>],
    row: usize,
    json: &mut Cursor<'a>,
) -> Result<()> {
    let (mut place, mut missing) = (0, twins.len());
    json.members(|json, name| {
        let column = members.column(place, name, index);
        place += 1;
        let Some(at) = column else { return json.skip(1) };
        let column = &mut columns[at];
        let path = |bad: Box<Bad>| bad.within(column.shape.arrow.name().as_str());
        if column.len != row {
            return Err(path(Bad::unfit("stands twice in its object")));
        }
        missing -= 1;
        let shape = column.shape;
        let Some(twin) = twins[at] else { return column.decode(json).map_err(|bad| bad.within(shape.arrow.name().as_str())) };
        json.peek("a value")?;
        let start = json.position();
        column.decode(json).map_err(|bad| bad.within(shape.arrow.name().as_str()))?;
        columns[twin].push_digits(json.since(start));
        Ok(())
    })?;
    if missing > 0 {
        for column in columns.iter_mut().filter(|column| column.len == row) {
            if !column.shape.optional {
                return Err(Bad::unfit("is missing").within(column.shape.arrow.name().as_str()));
            }
            column.push_null();
        }
    }
    Ok(())
}

/// A length as Arrow keeps it: what is decoded at a time is far smaller, or one record and eight times its size at most.
fn end(len: usize) -> i32 {
    i32::try_from(len).expect("a batch has less than 2 GiB")
}

/// The form of RFC 9562: 8, 4, 4, 4 and 12 hexadecimal digits.
fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
