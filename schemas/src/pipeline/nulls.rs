//! `[writer] nulls`: what becomes of a column for which a row has no value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

/// What becomes of a column for which a row has no value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nulls {
    /// The null is written: a field that went away goes away in the table. In Cassandra that is a tombstone.
    #[default]
    Write,
    /// The column is left as it is: no tombstone, and a value once written stays until another value comes.
    Unset,
}

/// The same for a whole table: one word for all of its columns, or a table with a word for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NullsSection {
    /// `nulls = "unset"`
    All(Nulls),
    /// `nulls = { phone = "unset" }`; the columns that it does not name write their nulls.
    Columns(BTreeMap<String, Nulls>),
}

impl Default for NullsSection {
    fn default() -> Self {
        Self::All(Nulls::Write)
    }
}

impl NullsSection {
    /// What holds for a column.
    pub fn of(&self, column: &str) -> Nulls {
        match self {
            Self::All(nulls) => *nulls,
            Self::Columns(columns) => columns.get(column).copied().unwrap_or_default(),
        }
    }

    /// The columns that are named one by one.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::All(_) => None,
            Self::Columns(columns) => Some(columns.keys().map(String::as_str)),
        }
        .into_iter()
        .flatten()
    }
}

/// By hand, and not as an untagged enum, so that a wrong word is shown at its place with the words there are.
impl<'de> Deserialize<'de> for NullsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = NullsSection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"write\", \"unset\", or one of them for each of some columns, such as { phone = \"unset\" }")
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
