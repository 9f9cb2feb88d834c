//! `[writer] nulls`: how to write a column for which a row has no value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

/// How to write a column for which a row has no value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nulls {
    /// Write the null, so that a field that disappears is removed from the table. In Cassandra that
    /// is a tombstone.
    #[default]
    Write,
    /// Leave the column unset: no tombstone, and an old value stays until a new one arrives.
    Unset,
}

/// The same for a whole table: one word for all columns, or a table of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NullsSection {
    /// `nulls = "unset"`
    All(Nulls),
    /// `nulls = { phone = "unset" }`; other columns write their nulls.
    Columns(BTreeMap<String, Nulls>),
}

impl Default for NullsSection {
    fn default() -> Self {
        Self::All(Nulls::Write)
    }
}

impl NullsSection {
    /// The rule for a column.
    pub fn of(&self, column: &str) -> Nulls {
        match self {
            Self::All(nulls) => *nulls,
            Self::Columns(columns) => columns.get(column).copied().unwrap_or_default(),
        }
    }

    /// The columns with a rule of their own.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::All(_) => None,
            Self::Columns(columns) => Some(columns.keys().map(String::as_str)),
        }
        .into_iter()
        .flatten()
    }
}

/// Written by hand instead of as an untagged enum, so that a wrong word is reported at its
/// location, with the known words.
impl<'de> Deserialize<'de> for NullsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = NullsSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"write\", \"unset\", or a table of columns such as { phone = \"unset\" }")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<NullsSection, E> {
                Nulls::deserialize(StrDeserializer::new(word)).map(NullsSection::All)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NullsSection, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(NullsSection::Columns)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
