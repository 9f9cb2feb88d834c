//! `[writer]`: what a table is beyond its columns, in the words of CREATE TABLE.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::Deserialize;

use super::HumanDuration;

/// The primary key, as CQL writes it: `["id", "at"]` is `PRIMARY KEY (id, at)`, and `[["tenant",
/// "id"], "at"]` is `PRIMARY KEY ((tenant, id), at)`. It is the list of all its columns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<KeyPart>")]
pub struct PrimaryKey {
    columns: Vec<String>,
    partition: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a column, or first a list of the columns of the partition key, such as [[\"tenant\", \"id\"], \"at\"]")]
enum KeyPart {
    Column(String),
    Partition(Vec<String>),
}

impl TryFrom<Vec<KeyPart>> for PrimaryKey {
    type Error = &'static str;

    fn try_from(parts: Vec<KeyPart>) -> Result<Self, Self::Error> {
        let mut key = Self { columns: Vec::new(), partition: None };
        for (at, part) in parts.into_iter().enumerate() {
            match part {
                KeyPart::Column(column) => key.columns.push(column),
                KeyPart::Partition(columns) if at == 0 && !columns.is_empty() => {
                    key.partition = Some(columns.len());
                    key.columns = columns;
                }
                KeyPart::Partition(_) => {
                    return Err(
                        "only the first part of a primary key can be a list, of at least one column: [[\"tenant\", \"id\"], \"at\"]",
                    );
                }
            }
        }
        Ok(key)
    }
}

impl Deref for PrimaryKey {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.columns
    }
}

impl PrimaryKey {
    /// The number of columns of the partition key, if the file has them as a list. Otherwise a
    /// table that exists decides, and a new one has the first column.
    pub fn partition(&self) -> Option<usize> {
        self.partition
    }

    /// The clustering columns.
    pub fn clustering(&self) -> &[String] {
        self.columns.get(self.partition.unwrap_or(1)..).unwrap_or_default()
    }
}

/// The order of a clustering column, written as in CQL: `"at desc"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClusteringOrder {
    /// The column.
    pub column: String,
    /// Whether the largest value comes first.
    pub descending: bool,
}

impl TryFrom<String> for ClusteringOrder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (column, order) =
            text.split_once(' ').ok_or_else(|| format!("{text:?} has no order; write \"{text} desc\" or \"{text} asc\""))?;
        let descending = match order.trim().to_ascii_lowercase().as_str() {
            "asc" => false,
            "desc" => true,
            _ => return Err(format!("{order:?} is not an order; write \"{column} desc\" or \"{column} asc\"")),
        };
        Ok(Self { column: column.to_owned(), descending })
    }
}

/// How long a row is kept: a time, or the column of the SELECT that has the number of seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a time such as \"30d\", or { column = \"keep_seconds\" }")]
pub enum Ttl {
    /// `ttl = "30d"`
    Time(HumanDuration),
    /// `ttl = { column = "keep_seconds" }`
    Column {
        /// The column of the SELECT. It is no column of the table.
        column: String,
    },
}

/// The limit for a time to live: Cassandra's own, 20 years.
pub const MAX_TTL_SECONDS: i32 = 630_720_000;

/// The value of an option of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "text, a number, true, false, or a table of those")]
pub enum TableOption {
    /// `cdc = true`
    Truth(bool),
    /// `gc_grace_seconds = 3600`
    Integer(i64),
    /// `bloom_filter_fp_chance = 0.1`
    Number(f64),
    /// `comment = "…"`
    Text(String),
    /// `compaction = { class = "UnifiedCompactionStrategy" }`
    Map(BTreeMap<String, TableOption>),
}

impl TableOption {
    /// The value as a literal of CQL. In a map, all values are text.
    pub fn cql(&self) -> String {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match self {
            Self::Text(value) => text(value),
            Self::Map(values) => {
                let pairs: Vec<String> = values.iter().map(|(key, value)| format!("{}: {}", text(key), text(&value.plain()))).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            other => other.plain(),
        }
    }

    fn plain(&self) -> String {
        match self {
            Self::Truth(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value.clone(),
            Self::Map(_) => self.cql(),
        }
    }

    /// Whether the server's value of the option is this one. A map may have more entries, and the
    /// name of a class may have its package.
    pub fn is(&self, server: &serde_json::Value) -> bool {
        match (self, server) {
            (Self::Map(values), serde_json::Value::Object(there)) => {
                values.iter().all(|(key, value)| there.get(key).is_some_and(|there| value.is(there)))
            }
            (Self::Number(_) | Self::Integer(_), serde_json::Value::Number(there)) => {
                there.as_f64().zip(self.plain().parse::<f64>().ok()).is_some_and(|(there, here)| there.total_cmp(&here).is_eq())
            }
            (here, serde_json::Value::String(there)) => {
                let (here, there) = (here.plain().to_lowercase(), there.to_lowercase());
                here == there || there.strip_suffix(&here).is_some_and(|package| package.ends_with('.'))
            }
            (Self::Truth(here), serde_json::Value::Bool(there)) => here == there,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_value_of_an_option_is_compared_as_the_server_shows_it() {
        let compaction = TableOption::Map([("class".to_owned(), TableOption::Text("UnifiedCompactionStrategy".to_owned()))].into());
        assert_eq!(compaction.cql(), "{'class': 'UnifiedCompactionStrategy'}");
        assert!(compaction.is(&json!({ "class": "org.apache.cassandra.db.compaction.UnifiedCompactionStrategy", "max_threshold": "32" })));
        assert!(!compaction.is(&json!({ "class": "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy" })));
        assert!(!compaction.is(&json!({ "class": "NotUnifiedCompactionStrategy" })));
        assert!(
            TableOption::Integer(3600).is(&json!(3600))
                && TableOption::Integer(1).is(&json!(1.0))
                && !TableOption::Integer(1).is(&json!(2))
        );
        assert!(TableOption::Truth(true).is(&json!(true)) && !TableOption::Truth(true).is(&json!(null)));
        assert!(TableOption::Text("99P".to_owned()).is(&json!("99p")));
        assert_eq!(TableOption::Text("it's".to_owned()).cql(), "'it''s'");
        assert_eq!(TableOption::Number(0.5).cql(), "0.5");
    }
}
