//! What `forebay run` would do, as `forebay plan --json` says it: `schemas/json/plan.schema.json`.

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::event::StartOrigin;
use crate::offset::{Offset, Partition};

/// What `run` would do with a pipeline, as things are. Its keys are stable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunPlan {
    /// The pipeline's name.
    pub pipeline: String,
    /// What `run` would make or change, in its order; nothing when it would go on where it was.
    pub changes: Vec<String>,
    /// What `run` would stumble over, each with its remedy.
    pub problems: Vec<String>,
    /// Servers that did not answer, each with the remedy; what they hold is not in the plan.
    pub away: Vec<String>,
    /// What follows from the file and is easily overlooked; `run` does it all the same.
    #[serde(default)]
    pub warnings: Vec<Warning>,
    /// The topic, and the dead-letter topic; empty when Kafka is away.
    pub topics: Vec<TopicPlan>,
    /// The table; absent where the pipeline ends at the topic, and when the store is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TablePlan>,
    /// The SQL; absent where the pipeline ends at the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlPlan>,
    /// The consumer group and where it would read from; absent where the pipeline ends at the topic, and when Kafka is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupPlan>,
    /// The fetch; absent where the pipeline begins at the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchPlan>,
    /// What the embedded broker keeps of its topics; absent with a real one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPlan>,
    /// The journal.
    pub journal: JournalPlan,
}

/// Something that follows from the file and is easily overlooked. `forebay check --json` has them too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Warning {
    /// `where_keeps_rows`, `unnest_keeps_rows`, `loses_digits`, `narrow_column`, `primary_key_not_of_topic_key`, `topic_key_not_known`.
    pub code: String,
    /// What it is, with the line of the file where it has one, and what to do where that is not meant.
    pub what: String,
}

/// What the embedded broker keeps of its topics. A record that is not written stays, whatever this says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RetentionPlan {
    /// The bytes that the topics may take together.
    pub bytes: u64,
    /// How long a record is kept, seconds.
    pub seconds: u64,
}

/// What becomes of something that `run` needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is there, and stays as it is.
    #[default]
    Keep,
    /// It is missing, and is made.
    Make,
    /// It is missing, or not as it has to be, and `run` would not make it so.
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
    /// What becomes of it.
    pub step: Step,
    /// Its partitions: those that it has, or is made with.
    pub partitions: i32,
    /// Its replicas, where it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<i32>,
    /// The settings that it is made with.
    pub settings: Vec<SettingPlan>,
    /// What of it is not as it would be made. No problem: the topic's own counts.
    pub differences: Vec<String>,
}

/// A setting of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SettingPlan {
    /// Its name, as Kafka has it.
    pub name: String,
    /// What a topic is made with.
    pub asked: String,
    /// What the topic has; absent where it is made, and where Kafka does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TablePlan {
    /// Where it is: the contact points, or `embedded (FILE)`.
    pub store: String,
    /// Its keyspace.
    pub keyspace: String,
    /// What becomes of the keyspace; absent in a store that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace_step: Option<Step>,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub step: Step,
    /// The statements that `run` would make keyspace and table by, in Cassandra's words.
    pub cql: Vec<String>,
    /// Its columns, in the order of the SELECT.
    pub columns: Vec<ColumnPlan>,
    /// Columns that are there and are not written.
    pub untouched: Vec<String>,
}

/// A column of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ColumnPlan {
    /// Its name.
    pub name: String,
    /// The type that is written.
    pub cql: String,
    /// The type that the table has, in the store's words; absent when the table has no such column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
    /// Whether it is of the primary key.
    pub key: bool,
    /// Whether a null in it is written as a tombstone.
    pub tombstone: bool,
}

/// The SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SqlPlan {
    /// The fingerprint of the SQL in the file.
    pub fingerprint: String,
    /// That of the SQL that was in use last; absent before the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Whether it is another one.
    pub changed: bool,
    /// What follows from that.
    pub follows: String,
}

/// The consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// How many members it has now, who keep their share of the partitions; absent when that is not known.
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
    /// The offset that the next record gets.
    pub end: Offset,
    /// What the group has committed; absent when it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Offset>,
    /// How far it is written as the journal has it; absent when the journal does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Offset>,
    /// Where it would be read from; absent where that is a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Offset>,
    /// How that is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<StartOrigin>,
}

impl StartPlan {
    /// How many offsets wait to be read.
    pub fn waiting(&self) -> u64 {
        self.from.map_or(0, |from| u64::try_from(self.end - from).unwrap_or(0))
    }
}

/// The fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FetchPlan {
    /// The API's address, without its query.
    pub api: String,
    /// How often it is asked; absent when only triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// What the next page of the read without params is asked with; absent when it is asked for as the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<CursorPlan>,
    /// How many reads go on at a cursor of their own, this one among them.
    #[serde(default)]
    pub reads: u64,
    /// Runs that were asked for and have not ended, which go on first.
    pub open_runs: u64,
}

/// A cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CursorPlan {
    /// The query parameter that it is sent in.
    pub param: String,
    /// Itself.
    pub value: String,
    /// `journal`, or `start` when it is the file's.
    pub origin: String,
}

/// The journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct JournalPlan {
    /// Its folder.
    pub folder: String,
    /// Its last event; 0 when it would begin.
    pub last: u64,
    /// Whether a process runs on it now; another `run` would be refused until it has stopped.
    pub running: bool,
    /// What the pipeline is meant to do: paused it reads and fetches nothing, drained it fetches nothing.
    pub desired: Desired,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is checked in.
    const SCHEMA: &str = include_str!("../json/plan.schema.json");

    #[test]
    fn the_schema_that_is_checked_in_is_the_one_of_the_code() {
        let mut schema = schemars::schema_for!(RunPlan).to_value();
        schema["title"] = "What forebay plan --json says".into();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("FOREBAY_WRITE_SCHEMAS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/json/plan.schema.json"), &text).unwrap();
        } else {
            assert_eq!(SCHEMA, text, "schemas/json/plan.schema.json is not of this code; FOREBAY_WRITE_SCHEMAS=1 writes it");
        }
    }

    #[test]
    fn a_plan_fits_the_schema() {
        let schema = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        let start = StartPlan {
            partition: 0,
            begin: 2,
            end: 9,
            committed: Some(4),
            written: None,
            from: Some(4),
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
