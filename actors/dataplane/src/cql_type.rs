//! The CQL types Forebay writes, how they are spelt, and which Arrow types can become them.
//!
//! Guarantee: a type that parses can be created, checked against a table and written. Not
//! guaranteed: every type of CQL; the others are refused by name when the pipeline is checked. A
//! list is always frozen: a list that is not keeps each element under a time-based identifier of
//! the server's own making, so the same write made twice would double it.

use std::fmt;

use datafusion::arrow::datatypes::DataType;

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
    Float,
    Int,
    Smallint,
    Text,
    Timestamp,
    Timeuuid,
    Tinyint,
    Uuid,
    /// `frozen<list<…>>`
    List(Box<CqlType>),
}

/// The names of those that take no parameter; `list<…>` is the one that does.
const SIMPLE: &[(&str, CqlType)] = &[
    ("ascii", CqlType::Ascii),
    ("bigint", CqlType::Bigint),
    ("blob", CqlType::Blob),
    ("boolean", CqlType::Boolean),
    ("date", CqlType::Date),
    ("decimal", CqlType::Decimal),
    ("double", CqlType::Double),
    ("float", CqlType::Float),
    ("int", CqlType::Int),
    ("smallint", CqlType::Smallint),
    ("text", CqlType::Text),
    ("timestamp", CqlType::Timestamp),
    ("timeuuid", CqlType::Timeuuid),
    ("tinyint", CqlType::Tinyint),
    ("uuid", CqlType::Uuid),
];

/// Types that CQL has and Forebay does not write.
const OTHERS: &[&str] = &["counter", "duration", "frozen", "inet", "map", "set", "time", "tuple", "varint", "vector"];

impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(element) => write!(f, "frozen<list<{element}>>"),
            simple => f.write_str(SIMPLE.iter().find(|(_, each)| each == simple).map_or("", |(name, _)| name)),
        }
    }
}

impl CqlType {
    /// The names a person may write, for a message.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SIMPLE.iter().map(|(name, _)| *name)
    }

    /// Reads a type as CQL spells it.
    ///
    /// # Errors
    /// What is wrong and what to write instead, when it is no type or not one that Forebay writes.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let word: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        if word == "varchar" {
            return Ok(Self::Text);
        }
        if let Some((_, simple)) = SIMPLE.iter().find(|(name, _)| *name == word) {
            return Ok(simple.clone());
        }
        if let Some(element) = word.strip_prefix("frozen<list<").and_then(|rest| rest.strip_suffix(">>")) {
            return Ok(Self::List(Box::new(Self::parse(element)?)));
        }
        if word.starts_with("list<") {
            return Err((
                format!("`{word}` can't be written twice without doubling its elements"),
                format!("use `frozen<{word}>`, which is written as one value"),
            ));
        }
        let known = Self::names().collect::<Vec<_>>().join(", ");
        let name = word.split('<').next().unwrap_or_default();
        if OTHERS.contains(&name) {
            return Err((format!("`{text}` is a type of CQL that Forebay does not write"), format!("use one of {known}, frozen<list<…>>")));
        }
        let help = match forebay_schemas::pipeline::nearest(&word, Self::names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of {known}, frozen<list<…>>"),
        };
        Err((format!("`{text}` is not a type of CQL"), help))
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
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Decimal128(_, _) => Self::Decimal,
            DataType::List(element) | DataType::LargeList(element) => Self::List(Box::new(Self::of(element.data_type())?)),
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
            text if is_text(text) => {
                matches!(self, Self::Text | Self::Ascii | Self::Decimal | Self::Uuid | Self::Timeuuid | Self::Timestamp | Self::Date)
            }
            integer if integer.is_integer() => matches!(self, Self::Tinyint | Self::Smallint | Self::Int | Self::Bigint),
            float if float.is_floating() => matches!(self, Self::Float | Self::Double),
            DataType::FixedSizeBinary(16) => matches!(self, Self::Blob | Self::Uuid | Self::Timeuuid),
            DataType::Date32 | DataType::Date64 => matches!(self, Self::Date | Self::Timestamp),
            DataType::List(element) | DataType::LargeList(element) => {
                matches!(self, Self::List(inner) if inner.takes(element.data_type()))
            }
            other => Self::of(other).as_ref() == Some(self),
        }
    }
}

/// Whether an Arrow type is one of those of text.
pub(super) fn is_text(arrow: &DataType) -> bool {
    matches!(arrow, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_as_it_is_shown() {
        for name in CqlType::names() {
            assert_eq!(CqlType::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(CqlType::parse("frozen<list<bigint>>").unwrap().to_string(), "frozen<list<bigint>>");
        assert_eq!(CqlType::parse(" VarChar ").unwrap(), CqlType::Text);
    }

    #[test]
    fn what_is_not_written_is_refused_with_a_way_out() {
        assert_eq!(CqlType::parse("uid").unwrap_err().1, "did you mean `uuid`?");
        assert!(CqlType::parse("counter").unwrap_err().0.contains("does not write"));
        assert_eq!(CqlType::parse("list<text>").unwrap_err().1, "use `frozen<list<text>>`, which is written as one value");
    }

    #[test]
    fn text_becomes_what_is_spelt_in_text_and_nothing_else() {
        assert!(CqlType::Uuid.takes(&DataType::Utf8View));
        assert!(CqlType::Timestamp.takes(&DataType::Utf8));
        assert!(CqlType::Decimal.takes(&DataType::Utf8));
        assert!(!CqlType::Int.takes(&DataType::Utf8));
        assert!(!CqlType::Text.takes(&DataType::Int64));
        assert!(!CqlType::Double.takes(&DataType::Int64));
    }
}
