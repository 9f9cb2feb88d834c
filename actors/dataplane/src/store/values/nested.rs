//! Values that are made of others: lists, sets, maps, tuples, user-defined types and vectors.
//!
//! Guarantees:
//! * The elements of a set and the keys of a map are each there once, in the order of their values;
//!   so equal sets are equal bytes, also as a key. Of two values of one key the last one counts.
//! * A misfit says where it is in its value.

use std::cmp::Ordering;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Float32Type};

use super::convert::{cast, convert, floats};
use super::{Cells, Misfit, UnplannedType, Value, range};
use crate::Reason;
use crate::cql_type::{CqlType, UserType, own_fields};
use crate::store::cql_encoding::append_value;

/// Which elements of each row there are, and in which order.
#[derive(Debug, Clone)]
struct Order {
    /// Where each row begins in `elements`, and at last where they end.
    starts: Vec<usize>,
    nulls: Option<NullBuffer>,
    /// Indexes of elements.
    elements: Vec<usize>,
}

impl Order {
    /// Sorts the elements of each row, and leaves out all but the last of equal ones.
    fn new(offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>, cells: &Cells) -> Self {
        let rows = offsets.len() - 1;
        let (mut starts, mut elements) = (Vec::with_capacity(rows + 1), Vec::new());
        starts.push(0);
        for row in 0..rows {
            let from = elements.len();
            elements.extend(range(offsets, nulls, row).into_iter().flatten());
            elements[from..].sort_by(|&one, &other| compare(cells.value(one), cells.value(other)));
            let mut kept = from;
            for at in from..elements.len() {
                let is_last = elements.get(at + 1).is_none_or(|&next| compare(cells.value(elements[at]), cells.value(next)).is_ne());
                if is_last {
                    elements[kept] = elements[at];
                    kept += 1;
                }
            }
            elements.truncate(kept);
            starts.push(kept);
        }
        Self { starts, nulls: nulls.cloned(), elements }
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    fn of(&self, row: usize) -> &[usize] {
        &self.elements[self.starts[row]..self.starts[row + 1]]
    }
}

/// Compares two values of one type, in Cassandra's order for numbers and text.
fn compare(one: Value<'_>, other: Value<'_>) -> Ordering {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => one.cmp(other),
        (Value::Bigint(one), Value::Bigint(other)) | (Value::Timestamp(one), Value::Timestamp(other)) => one.cmp(&other),
        (Value::Int(one), Value::Int(other)) | (Value::Date(one), Value::Date(other)) => one.cmp(&other),
        (Value::Smallint(one), Value::Smallint(other)) => one.cmp(&other),
        (Value::Tinyint(one), Value::Tinyint(other)) => one.cmp(&other),
        (Value::Double(one), Value::Double(other)) => one.total_cmp(&other),
        (Value::Float(one), Value::Float(other)) => one.total_cmp(&other),
        (one, other) => {
            let encoded = |value| {
                let mut bytes = Vec::new();
                append_value(value, &mut bytes);
                bytes
            };
            encoded(one).cmp(&encoded(other))
        }
    }
}

#[derive(Debug, Clone)]
pub(in crate::store) struct SetCells {
    order: Order,
    elements: Cells,
}

impl SetCells {
    pub(super) fn get(&self, row: usize) -> Value<'_> {
        if self.order.is_null(row) { Value::Null } else { Value::Set(self, row) }
    }

    pub(in crate::store) fn elements(&self, row: usize) -> impl ExactSizeIterator<Item = Value<'_>> {
        self.order.of(row).iter().map(|&at| self.elements.value(at))
    }
}

#[derive(Debug, Clone)]
pub(in crate::store) struct MapCells {
    order: Order,
    keys: Cells,
    values: Cells,
}

impl MapCells {
    pub(super) fn get(&self, row: usize) -> Value<'_> {
        if self.order.is_null(row) { Value::Null } else { Value::Map(self, row) }
    }

    pub(in crate::store) fn pairs(&self, row: usize) -> impl ExactSizeIterator<Item = (Value<'_>, Value<'_>)> {
        self.order.of(row).iter().map(|&at| (self.keys.value(at), self.values.value(at)))
    }
}

/// Objects, field by field.
#[derive(Debug, Clone)]
pub(in crate::store) struct ObjectCells {
    nulls: Option<NullBuffer>,
    /// The names of the fields, or none for a tuple.
    names: Vec<String>,
    fields: Vec<Cells>,
}

impl ObjectCells {
    pub(super) fn get<'a>(&'a self, row: usize, value: fn(&'a Self, usize) -> Value<'a>) -> Value<'a> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) { Value::Null } else { value(self, row) }
    }

    /// Iterates over all fields.
    pub(in crate::store) fn parts(&self, row: usize) -> impl ExactSizeIterator<Item = Value<'_>> {
        self.fields.iter().map(move |cells| cells.value(row))
    }

    /// The names of the fields, or none for a tuple.
    pub(in crate::store) fn names(&self) -> &[String] {
        &self.names
    }

    /// Iterates over the fields that are not null.
    pub(in crate::store) fn pairs(&self, row: usize) -> impl Iterator<Item = (&str, Value<'_>)> {
        let pairs = self.names.iter().map(String::as_str).zip(self.parts(row));
        pairs.filter(|(_, value)| !value.is_null())
    }
}

type Converted = Result<(Cells, Vec<Misfit>), UnplannedType>;

/// Moves misfits from elements to the rows that these belong to.
fn of_rows(inner: Vec<Misfit>, offsets: &OffsetBuffer<i32>, what: &str) -> Vec<Misfit> {
    let row = |at: usize| offsets.partition_point(|&offset| usize::try_from(offset).unwrap_or(0) <= at).saturating_sub(1);
    inner.into_iter().map(|(at, why)| (row(at), why.within(|why| format!("{what}: {why}")))).collect()
}

/// Reports the rows that have a null among their elements, which no collection can have.
fn refuse_nulls(cells: &Cells, offsets: &OffsetBuffer<i32>, nulls: Option<&NullBuffer>, what: &str, misfits: &mut Vec<Misfit>) {
    for row in 0..offsets.len() - 1 {
        let has_null = range(offsets, nulls, row).into_iter().flatten().any(|at| cells.value(at).is_null());
        if has_null && !misfits.iter().any(|(bad, _)| *bad == row) {
            misfits.push((row, Reason::plain(format!("a {what} can't contain null in Cassandra"))));
        }
    }
}

fn plain_list(array: &ArrayRef, cql: &CqlType) -> Result<ListArray, UnplannedType> {
    let plain = match array.data_type() {
        DataType::LargeList(field) => cast(array, &DataType::List(field.clone()), cql)?.0,
        _ => ArrayRef::clone(array),
    };
    plain.as_list_opt().cloned().ok_or_else(|| UnplannedType(format!("{} is not a list", array.data_type())))
}

/// The elements of lists that become lists or sets.
fn elements(array: &ArrayRef, element: &CqlType, what: &str) -> Result<(ListArray, Cells, Vec<Misfit>), UnplannedType> {
    let list = plain_list(array, &CqlType::List(Box::new(element.clone())))?;
    let (elements, inner) = convert(list.values(), element)?;
    let mut misfits = of_rows(inner, list.offsets(), &format!("{what} element"));
    refuse_nulls(&elements, list.offsets(), list.nulls(), what, &mut misfits);
    Ok((list, elements, misfits))
}

pub(super) fn list(array: &ArrayRef, element: &CqlType) -> Converted {
    let (list, elements, misfits) = elements(array, element, "list")?;
    Ok((Cells::List { offsets: list.offsets().clone(), nulls: list.nulls().cloned(), elements: Box::new(elements) }, misfits))
}

pub(super) fn set(array: &ArrayRef, element: &CqlType) -> Converted {
    let (list, elements, misfits) = elements(array, element, "set")?;
    let order = Order::new(list.offsets(), list.nulls(), &elements);
    Ok((Cells::Set(Box::new(SetCells { order, elements })), misfits))
}

pub(super) fn map(array: &ArrayRef, key: &CqlType, value: &CqlType) -> Converted {
    if array.as_struct_opt().is_some() {
        return object_map(array, value);
    }
    let map = array.as_map_opt().ok_or_else(|| UnplannedType(format!("{} is not a map", array.data_type())))?;
    let (keys, bad_keys) = convert(map.keys(), key)?;
    let (values, bad_values) = convert(map.values(), value)?;
    let mut misfits = of_rows(bad_keys, map.offsets(), "map key");
    misfits.extend(of_rows(bad_values, map.offsets(), "map value"));
    refuse_nulls(&keys, map.offsets(), map.nulls(), "map", &mut misfits);
    refuse_nulls(&values, map.offsets(), map.nulls(), "map", &mut misfits);
    let order = Order::new(map.offsets(), map.nulls(), &keys);
    Ok((Cells::Map(Box::new(MapCells { order, keys, values })), misfits))
}

/// Converts the fields of objects, each to its own type.
fn objects<'a>(
    array: &ArrayRef,
    types: impl Iterator<Item = (&'a str, &'a ArrayRef, &'a CqlType)>,
) -> Result<(ObjectCells, Vec<Misfit>), UnplannedType> {
    let nulls = array.nulls().cloned();
    let mut cells = ObjectCells { nulls, names: Vec::new(), fields: Vec::new() };
    let mut misfits = Vec::new();
    for (name, column, cql) in types {
        let (field, inner) = convert(column, cql)?;
        let inner = inner.into_iter().filter(|(row, _)| array.is_valid(*row));
        misfits.extend(inner.map(|(row, why)| (row, why.within(|why| format!("{name}: {why}")))));
        cells.names.push(name.to_owned());
        cells.fields.push(field);
    }
    Ok((cells, misfits))
}

/// Objects as maps: each field that is not null is an entry.
fn object_map(array: &ArrayRef, value: &CqlType) -> Converted {
    let object = array.as_struct();
    let mut fields: Vec<_> = own_fields(object.fields()).map(|(at, field)| (field.name().as_str(), object.column(at), value)).collect();
    fields.sort_by_key(|(name, ..)| *name);
    let (cells, misfits) = objects(array, fields.into_iter())?;
    Ok((Cells::ObjectMap(Box::new(cells)), misfits))
}

pub(super) fn tuple(array: &ArrayRef, parts: &[CqlType]) -> Converted {
    let object = array.as_struct_opt().ok_or_else(|| UnplannedType(format!("{} is not an object", array.data_type())))?;
    let fields = own_fields(object.fields()).zip(parts).map(|((at, field), cql)| (field.name().as_str(), object.column(at), cql));
    let (mut cells, misfits) = objects(array, fields)?;
    cells.names.clear();
    Ok((Cells::Tuple(Box::new(cells)), misfits))
}

/// Objects as values of a user-defined type: the fields of the type in its order, null where the
/// object has none.
pub(super) fn user(array: &ArrayRef, user: &UserType) -> Converted {
    let object = array.as_struct_opt().ok_or_else(|| UnplannedType(format!("{} is not an object", array.data_type())))?;
    let Some(known) = &user.fields else {
        return Err(UnplannedType(format!("the fields of the type {} are not known", user.name)));
    };
    let column = |name: &String| object.column_by_name(name);
    let there = known.iter().filter_map(|(name, cql)| Some((name.as_str(), column(name)?, cql)));
    let (mut found, misfits) = objects(array, there)?;
    let mut fields = found.fields.into_iter();
    let absent = || Cells::Nulls;
    found.fields =
        known.iter().map(|(name, _)| if column(name).is_some() { fields.next().unwrap_or_else(absent) } else { absent() }).collect();
    found.names = known.iter().map(|(name, _)| name.clone()).collect();
    Ok((Cells::Tuple(Box::new(found)), misfits))
}

pub(super) fn vector(array: &ArrayRef, length: u16) -> Converted {
    let list = plain_list(array, &CqlType::List(Box::new(CqlType::Float)))?;
    let (numbers, inner) = floats(list.values(), &CqlType::Float)?;
    let mut misfits = of_rows(inner, list.offsets(), "vector element");
    let numbers = numbers.as_primitive::<Float32Type>().clone();
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    let as_cells = Cells::Float(numbers.clone());
    refuse_nulls(&as_cells, &offsets, nulls.as_ref(), "vector", &mut misfits);
    for row in 0..list.len() {
        let count = range(&offsets, nulls.as_ref(), row).map(|range| range.len());
        if count.is_some_and(|count| count != usize::from(length)) {
            let count = count.unwrap_or_default();
            misfits.push((row, Reason::plain(format!("{count} numbers for a vector of {length}"))));
        }
    }
    Ok((Cells::Vector { offsets, nulls, numbers }, misfits))
}
