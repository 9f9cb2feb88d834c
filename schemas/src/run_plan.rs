//! What `forebay run` would do, as printed by `forebay plan --json`. The schema is
//! `schemas/json/plan.schema.json`.

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::event::StartOrigin;
use crate::offset::{Offset, Partition};

/// What `run` would do with a pipeline right now. Keys are stable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunPlan {
    /// The pipeline's name.
    pub pipeline: String,
    /// What `run` would create or change, in order; empty if it would only continue.
    pub changes: Vec<String>,
    /// What would make `run` fail, each with its remedy.
    pub problems: Vec<String>,
    /// Servers that did not answer, each with its remedy; the plan does not cover what they hold.
    pub away: Vec<String>,
    /// Easily overlooked consequences of the file; `run` does not stop for them.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The topic and the dead-letter topic; empty if Kafka is unreachable.
    pub topics: Vec<TopicPlan>,
    /// The table; absent if the pipeline ends at the topic, and if the store is unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TablePlan>,
    /// The SQL; absent if the pipeline ends at the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlPlan>,
    /// The consumer group and where it would read from; absent if the pipeline ends at the topic,
    /// and if Kafka is unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupPlan>,
    /// The fetch; absent if the pipeline starts at the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchPlan>,
    /// The embedded broker's retention; absent with a real broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPlan>,
    /// The journal.
    pub journal: JournalPlan,
}

/// An easily overlooked consequence of the file. `forebay check --json` prints it too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// `where_keeps_rows`, `unnest_keeps_rows`, `loses_digits`, `narrow_column`,
    /// `primary_key_not_of_topic_key`, `topic_key_not_known`, `secret_in_url`, `verification_off`,
    /// `plaintext_password`, `plaintext_secret`, `not_enforced`, `collection_in_cells`,
    /// `table_option`, `static_not_of_topic_key`.
    pub code: String,
    /// What it means, with the line of the file if it has one, and what to do if that is not
    /// intended.
    pub what: String,
}

/// The embedded broker's retention. Records that are not yet written are kept regardless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RetentionPlan {
    /// The maximum size of all topics together, in bytes.
    pub bytes: u64,
    /// The maximum age of a record, in seconds.
    pub seconds: u64,
}

/// What happens to something that `run` needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It exists and stays as it is.
    #[default]
    Keep,
    /// It is missing and will be created.
    Make,
    /// It is missing or unsuitable, and `run` would not fix it.
    Refuse,
}

/// A topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// `records` or `dead_letters`.
    pub kind: String,
    /// What happens to it.
    pub step: Step,
    /// Its number of partitions: existing ones, or those it is created with.
    pub partitions: i32,
    /// Its replicas, if it is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<i32>,
    /// The settings it is created with.
    pub settings: Vec<SettingPlan>,
    /// Existing settings that differ from what a new topic would get. Not a problem: the topic's
    /// own settings apply.
    pub differences: Vec<String>,
}

/// A setting of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingPlan {
    /// Kafka's name for it.
    pub name: String,
    /// The value for a new topic.
    pub asked: String,
    /// The topic's value; absent if the topic is created, and if Kafka does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TablePlan {
    /// The store: contact points, or `embedded (FILE)`.
    pub store: String,
    /// Its keyspace.
    pub keyspace: String,
    /// What happens to the keyspace; absent for a store without keyspaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace_step: Option<Step>,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub step: Step,
    /// The CQL statements with which `run` would create keyspace and table.
    pub cql: Vec<String>,
    /// Its columns, in the order of the SELECT.
    pub columns: Vec<ColumnPlan>,
    /// Existing columns that are not written.
    pub untouched: Vec<String>,
}

/// A column of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ColumnPlan {
    /// Its name.
    pub name: String,
    /// The type of the written values.
    pub cql: String,
    /// The type of the table's column, as the store names it; absent if the table lacks the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
    /// Whether it is part of the primary key.
    pub key: bool,
    /// Whether a null is written as a tombstone.
    pub tombstone: bool,
}

/// The SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SqlPlan {
    /// The fingerprint of the SQL in the file.
    pub fingerprint: String,
    /// The fingerprint of the SQL used last; absent before the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Whether the SQL changed.
    pub changed: bool,
    /// What follows from the change.
    pub follows: String,
}

/// The consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// The number of its members now, which keep their share of the partitions; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u64>,
    /// Where each partition would be read from.
    pub partitions: Vec<StartPlan>,
}

/// Where a partition would be read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StartPlan {
    /// The partition.
    pub partition: Partition,
    /// The first offset that Kafka holds.
    pub begin: Offset,
    /// The end offset.
    pub end: Offset,
    /// The group's committed offset; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Offset>,
    /// The written offset according to the journal; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Offset>,
    /// Where reading would start; absent if that is a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Offset>,
    /// How the start was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<StartOrigin>,
}

impl StartPlan {
    /// The number of offsets that wait to be read.
    pub fn waiting(&self) -> u64 {
        self.from.map_or(0, |from| self.end.since(from))
    }
}

/// The fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FetchPlan {
    /// The source's address, without its query.
    pub api: String,
    /// How often it is fetched from; absent if fetches are only triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// The cursor of the next page of the read without params; absent if the page is requested
    /// without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<CursorPlan>,
    /// The number of reads at a cursor of their own, this one included.
    #[serde(default)]
    pub reads: u64,
    /// Runs that were requested and have not ended; they come first.
    pub open_runs: u64,
}

/// A cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CursorPlan {
    /// The query parameter that carries it; else `cursor`, `page`, `offset` or `url`.
    pub param: String,
    /// The cursor.
    pub value: String,
    /// `journal`, or `start` if it is the file's.
    pub origin: String,
}

/// The journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JournalPlan {
    /// Its directory.
    pub folder: String,
    /// Its last event; 0 if it is new.
    pub last: u64,
    /// Whether a process is running on it; another `run` is refused until that one stops.
    pub running: bool,
    /// The desired state: paused, it neither reads nor fetches; drained, it does not fetch.
    pub desired: Desired,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checked-in schema.
    const SCHEMA: &str = include_str!("../json/plan.schema.json");

    #[test]
    fn the_checked_in_plan_schema_matches_the_code() {
        let mut schema = schemars::schema_for!(RunPlan).to_value();
        crate::openapi_tests::join_lines(&mut schema);
        schema["title"] = "Output of forebay plan --json".into();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/json/plan.schema.json"), &text).unwrap();
        } else {
            assert_eq!(SCHEMA, text, "schemas/json/plan.schema.json is out of date; FOREBAY_WRITE_SCHEMAS=1 writes it");
        }
    }

    #[test]
    fn every_plan_fits_the_schema() {
        let schema = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let start = StartPlan {
            partition: 0,
            begin: Offset(2),
            end: Offset(9),
            committed: Some(Offset(4)),
            written: None,
            from: Some(Offset(4)),
            origin: Some(StartOrigin::Group),
        };
        assert_eq!(start.waiting(), 5);
        let plan = RunPlan {
            topics: vec![TopicPlan {
                step: Step::Make,
                replication: Some(1),
                settings: vec![SettingPlan::default()],
                ..TopicPlan::default()
            }],
            table: Some(TablePlan { columns: vec![ColumnPlan::default()], ..TablePlan::default() }),
            sql: Some(SqlPlan::default()),
            group: Some(GroupPlan { partitions: vec![start], ..GroupPlan::default() }),
            warnings: vec![Warning::default()],
            fetch: Some(FetchPlan { cursor: Some(CursorPlan::default()), ..FetchPlan::default() }),
            ..RunPlan::default()
        };
        for plan in [plan, RunPlan::default()] {
            let json = serde_json::to_value(&plan).unwrap();
            if let Err(error) = schema.validate(&json) {
                panic!("{json}: {error}");
            }
            assert_eq!(serde_json::from_value::<RunPlan>(json).unwrap(), plan);
        }
    }
}
