//! The CQL types Forebay writes, how they are spelt, and which Arrow types can become them.
//!
//! Guarantee: a type that parses can be created, checked against a table and written. Not
//! guaranteed: every type of CQL; the others are refused by name when the pipeline is checked.
//!
//! A list is always frozen: a list that is not keeps each element under a time-based identifier of
//! the server's own making, so the same write made twice would double it. A set or a map may be
//! either: a whole one that is written deletes what is a microsecond older, and its elements are
//! their own identifiers, so the same write made twice changes nothing (ADR 28).

mod parse;

use std::fmt;

use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};

use crate::cql_name::cql_name;
use crate::digits_column::number_of;

/// A type of a column in Cassandra.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Cassandra's")]
pub enum CqlType {
    Ascii,
    Bigint,
    Blob,
    Boolean,
    Date,
    Decimal,
    Double,
    Duration,
    Float,
    Inet,
    Int,
    Smallint,
    Text,
    Time,
    Timestamp,
    Timeuuid,
    Tinyint,
    Uuid,
    Varint,
    /// `frozen<list<…>>`
    List(Box<CqlType>),
    Set(Whole, Box<CqlType>),
    Map(Whole, Box<(CqlType, CqlType)>),
    /// `frozen<tuple<…>>`
    Tuple(Vec<CqlType>),
    /// `vector<float, N>`
    Vector(u16),
    /// `frozen<NAME>`
    User(UserType),
}

/// Whether a collection is stored as one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// `frozen<…>`: as one value.
    Frozen,
    /// One cell for each element.
    Cells,
}

/// A user-defined type of the table's keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserType {
    /// Its name.
    pub name: String,
    /// Its fields in the order of the type. `None` until the store has said what they are.
    pub fields: Option<Vec<(String, CqlType)>>,
}

/// The names of those that take no parameter.
const SIMPLE: &[(&str, CqlType)] = &[
    ("ascii", CqlType::Ascii),
    ("bigint", CqlType::Bigint),
    ("blob", CqlType::Blob),
    ("boolean", CqlType::Boolean),
    ("date", CqlType::Date),
    ("decimal", CqlType::Decimal),
    ("double", CqlType::Double),
    ("duration", CqlType::Duration),
    ("float", CqlType::Float),
    ("inet", CqlType::Inet),
    ("int", CqlType::Int),
    ("smallint", CqlType::Smallint),
    ("text", CqlType::Text),
    ("time", CqlType::Time),
    ("timestamp", CqlType::Timestamp),
    ("timeuuid", CqlType::Timeuuid),
    ("tinyint", CqlType::Tinyint),
    ("uuid", CqlType::Uuid),
    ("varint", CqlType::Varint),
];

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(element) => write!(f, "frozen<list<{element}>>"),
            Self::Set(Whole::Frozen, element) => write!(f, "frozen<set<{element}>>"),
            Self::Set(Whole::Cells, element) => write!(f, "set<{element}>"),
            Self::Map(Whole::Frozen, pair) => write!(f, "frozen<map<{}, {}>>", pair.0, pair.1),
            Self::Map(Whole::Cells, pair) => write!(f, "map<{}, {}>", pair.0, pair.1),
            Self::Tuple(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                write!(f, "frozen<tuple<{}>>", parts.join(", "))
            }
            Self::Vector(length) => write!(f, "vector<float, {length}>"),
            Self::User(user) => write!(f, "frozen<{}>", cql_name(&user.name)),
            simple => f.write_str(SIMPLE.iter().find(|(_, each)| each == simple).map_or("", |(name, _)| name)),
        }
    }
}

impl CqlType {
    /// The names a person may write, for a message.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIMPLE.iter().map(|(name, _)| *name)
    }

    /// The types that this one is made of.
    fn parts(&self) -> Vec<&Self> {
        match self {
            Self::List(element) | Self::Set(_, element) => vec![element],
            Self::Map(_, pair) => vec![&pair.0, &pair.1],
            Self::Tuple(parts) => parts.iter().collect(),
            Self::User(user) => user.fields.iter().flatten().map(|(_, cql)| cql).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a value of this type is stored as one cell for each element. Each write of it makes
    /// a tombstone.
    pub fn is_in_cells(&self) -> bool {
        matches!(self, Self::Set(Whole::Cells, _) | Self::Map(Whole::Cells, _))
    }

    /// Whether Cassandra refuses a column of this type in a primary key, and why.
    pub fn unfit_for_key(&self) -> Option<&'static str> {
        match self {
            Self::Set(Whole::Cells, _) | Self::Map(Whole::Cells, _) => Some("only a frozen collection can be part of a key"),
            Self::Duration => Some("durations have no order: a month may be longer or shorter than 30 days"),
            nested => nested.parts().into_iter().find_map(Self::unfit_for_key),
        }
    }

    /// Visits the user-defined types in this type, those that contain others after them.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub(crate) fn each_user_type<E>(&mut self, visit: &mut impl FnMut(&mut UserType) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::List(element) | Self::Set(_, element) => element.each_user_type(visit),
            Self::Map(_, pair) => pair.0.each_user_type(visit).and_then(|()| pair.1.each_user_type(visit)),
            Self::Tuple(parts) => parts.iter_mut().try_for_each(|part| part.each_user_type(visit)),
            Self::User(user) => visit(user),
            _ => Ok(()),
        }
    }

    /// Gives user-defined types the fields of the objects that become their values, for a store
    /// that knows no such types.
    pub(crate) fn name_fields(&mut self, arrow: &DataType) {
        let of = |field: &FieldRef| (field.name().clone(), Self::of_any(field.data_type()));
        match (self, arrow) {
            (Self::List(element) | Self::Set(_, element), DataType::List(item) | DataType::LargeList(item)) => {
                element.name_fields(item.data_type());
            }
            (Self::Map(_, pair), DataType::Map(entries, _)) => {
                if let Some((key, value)) = entry_types(entries) {
                    pair.0.name_fields(key);
                    pair.1.name_fields(value);
                }
            }
            (Self::Map(_, pair), DataType::Struct(fields)) => {
                own_fields(fields).take(1).for_each(|(_, field)| pair.1.name_fields(field.data_type()));
            }
            (Self::Tuple(parts), DataType::Struct(fields)) => {
                parts.iter_mut().zip(own_fields(fields)).for_each(|(part, (_, field))| part.name_fields(field.data_type()));
            }
            (Self::User(user), DataType::Struct(fields)) => user.fields = Some(own_fields(fields).map(|(_, field)| of(field)).collect()),
            (Self::User(user), _) => user.fields = Some(Vec::new()),
            _ => {}
        }
    }

    /// The type that holds every value of an Arrow type, with a type for objects too.
    fn of_any(arrow: &DataType) -> Self {
        match arrow {
            DataType::List(item) | DataType::LargeList(item) => Self::List(Box::new(Self::of_any(item.data_type()))),
            DataType::Struct(_) => {
                let mut object = Self::User(UserType { name: "object".to_owned(), fields: None });
                object.name_fields(arrow);
                object
            }
            simple => Self::of(simple).unwrap_or(Self::Text),
        }
    }

    /// The type that holds every value of an Arrow type; none when Cassandra has no such type that
    /// Forebay writes.
    pub fn of(arrow: &DataType) -> Option<Self> {
        Some(match arrow {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Int8 => Self::Tinyint,
            DataType::Int16 | DataType::UInt8 => Self::Smallint,
            DataType::Int32 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Self::Bigint,
            DataType::Float16 | DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Boolean => Self::Boolean,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Self::Blob,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Decimal128(_, _) => Self::Decimal,
            DataType::List(element) | DataType::LargeList(element) => Self::List(Box::new(Self::of(element.data_type())?)),
            DataType::Map(entries, _) => {
                let (key, value) = entry_types(entries)?;
                Self::Map(Whole::Frozen, Box::new((Self::of(key)?, Self::of(value)?)))
            }
            DataType::Dictionary(_, value) => Self::of(value)?,
            _ => return None,
        })
    }

    /// What to do about a number in a column of timestamps, if it is one.
    pub fn time_remedy(&self, arrow: &DataType, column: &str) -> Option<String> {
        let is_number = arrow.is_integer() || arrow.is_floating();
        (*self == Self::Timestamp && is_number).then(|| {
            format!(
                "say in the record's schema what the number counts, with \"format\": \"epoch-millis\", or epoch-seconds, epoch-micros, \
                 epoch-nanos; or write to_timestamp_millis({column}), or to_timestamp_seconds, … in the SQL"
            )
        })
    }

    /// Whether values of an Arrow type can become this type. Each value may still turn out not to
    /// fit, and is then refused by row.
    pub fn takes(&self, arrow: &DataType) -> bool {
        match arrow {
            DataType::Null => true,
            DataType::Dictionary(_, value) => self.takes(value),
            text if is_text(text) => self.is_spelt_in_text(),
            integer if integer.is_integer() => {
                matches!(self, Self::Tinyint | Self::Smallint | Self::Int | Self::Bigint | Self::Varint)
            }
            float if float.is_floating() => matches!(self, Self::Float | Self::Double),
            DataType::Decimal128(_, 0) => matches!(self, Self::Decimal | Self::Varint),
            DataType::FixedSizeBinary(16) => matches!(self, Self::Blob | Self::Uuid | Self::Timeuuid),
            DataType::Date32 | DataType::Date64 => matches!(self, Self::Date | Self::Timestamp),
            DataType::List(element) | DataType::LargeList(element) => match self {
                Self::List(inner) | Self::Set(_, inner) => inner.takes(element.data_type()),
                Self::Vector(_) => element.data_type().is_floating(),
                _ => false,
            },
            DataType::Map(entries, _) => match (self, entry_types(entries)) {
                (Self::Map(_, pair), Some((key, value))) => pair.0.takes(key) && pair.1.takes(value),
                _ => false,
            },
            DataType::Struct(fields) => self.takes_object(fields),
            other => Self::of(other).as_ref() == Some(self),
        }
    }

    fn is_spelt_in_text(&self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Ascii
                | Self::Date
                | Self::Decimal
                | Self::Duration
                | Self::Inet
                | Self::Time
                | Self::Timestamp
                | Self::Timeuuid
                | Self::Uuid
                | Self::Varint
        )
    }

    /// Whether objects with these fields can become this type: a map from the fields' names, a
    /// tuple by position, a user-defined type by name.
    fn takes_object(&self, fields: &Fields) -> bool {
        let mut fields = own_fields(fields);
        match self {
            Self::Map(_, pair) => matches!(pair.0, Self::Text) && fields.all(|(_, field)| pair.1.takes(field.data_type())),
            Self::Tuple(parts) => {
                let fields: Vec<_> = fields.collect();
                fields.len() == parts.len() && parts.iter().zip(fields).all(|(part, (_, field))| part.takes(field.data_type()))
            }
            Self::User(UserType { fields: None, .. }) => true,
            Self::User(UserType { fields: Some(known), .. }) => fields
                .all(|(_, field)| known.iter().find(|(name, _)| name == field.name()).is_some_and(|(_, cql)| cql.takes(field.data_type()))),
            _ => false,
        }
    }
}

/// Iterates over the fields of an object with their indexes, without the digits columns that the
/// decoder may have added.
pub(crate) fn own_fields(fields: &Fields) -> impl Iterator<Item = (usize, &FieldRef)> {
    fields.iter().enumerate().filter(|(_, field)| number_of(field.name()).is_none_or(|number| fields.find(number).is_none()))
}

/// Returns the types of the keys and values of a map's entries.
fn entry_types(entries: &FieldRef) -> Option<(&DataType, &DataType)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((fields[0].data_type(), fields[1].data_type())),
        _ => None,
    }
}

/// Whether an Arrow type is one of those of text.
pub(super) fn is_text(arrow: &DataType) -> bool {
    matches!(arrow, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod docs_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_what_is_spelt_in_text_and_nothing_else() {
        assert!(CqlType::Uuid.takes(&DataType::Utf8View));
        assert!(CqlType::Timestamp.takes(&DataType::Utf8));
        assert!(CqlType::Decimal.takes(&DataType::Utf8));
        assert!(CqlType::Inet.takes(&DataType::Utf8) && CqlType::Duration.takes(&DataType::Utf8) && CqlType::Time.takes(&DataType::Utf8));
        assert!(!CqlType::Int.takes(&DataType::Utf8));
        assert!(!CqlType::Text.takes(&DataType::Int64));
        assert!(!CqlType::Double.takes(&DataType::Int64));
    }
}
